"""Finds out that a peer is gone, although the network says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from picows.protocol import WSProtocol
from picows.transport import WSAutoPingStrategy

__all__ = ["Keepalive", "keepalive_factory"]


class Keepalive:
    """Pings a connection and closes it if no pong arrives.

    1. After `idle_timeout` seconds without a read (PING_WHEN_IDLE), or always (PING_PERIODICALLY), send the listener's
       user-specific ping.
    2. With no pong within `reply_timeout` seconds, send CLOSE and disconnect.
    3. Otherwise begin again.
    """

    def __init__(
        self, protocol: WSProtocol, idle_timeout: float, reply_timeout: float, strategy: WSAutoPingStrategy
    ) -> None:
        self._protocol = protocol
        self._idle_timeout = idle_timeout
        self._reply_timeout = reply_timeout
        self._only_when_idle = strategy == WSAutoPingStrategy.PING_WHEN_IDLE
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """The connection is gone."""
        self._task.cancel()

    async def _run(self) -> None:
        protocol, transport = self._protocol, self._protocol.transport
        rest = self._idle_timeout
        while True:
            await asyncio.sleep(rest)
            if self._only_when_idle:
                rest = self._idle_timeout - protocol.idle_seconds()
                if rest > 0:
                    continue
            rest = self._idle_timeout
            try:
                pong = transport.ping_once()
            except Exception as exc:
                protocol.listener_failed(exc)
                return
            done, _ = await asyncio.wait([pong], timeout=self._reply_timeout)
            if not done:
                protocol.logger.warning("closing: no pong within %s seconds", self._reply_timeout)
                protocol.give_up("no pong")
                return


def keepalive_factory(
    enabled: bool, idle_timeout: float, reply_timeout: float, strategy: WSAutoPingStrategy
) -> Callable[[WSProtocol], Keepalive] | None:
    """What makes the Keepalive of a connection, None if not `enabled`; ValueError for arguments that make no sense."""
    if not enabled:
        return None
    if idle_timeout <= 0 or reply_timeout <= 0:
        raise ValueError(f"expected positive auto ping timeouts, found idle {idle_timeout}, reply {reply_timeout}")
    if strategy not in (WSAutoPingStrategy.PING_WHEN_IDLE, WSAutoPingStrategy.PING_PERIODICALLY):
        raise ValueError(f"expected a WSAutoPingStrategy, found {strategy!r}")
    return lambda protocol: Keepalive(protocol, idle_timeout, reply_timeout, strategy)
