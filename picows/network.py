"""Whose transports carry the connections: the event loop's own, or aiofastnet's on the same loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

import aiofastnet

__all__ = ["Network", "copies_what_it_keeps", "network"]


class Network(Protocol):
    """What we use of an event loop to open connections. An event loop is one."""

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any, **kwargs: Any
    ) -> Any: ...
    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any, **kwargs: Any
    ) -> Any: ...
    async def start_tls(
        self, transport: Any, protocol: asyncio.BaseProtocol, sslcontext: Any, **kwargs: Any
    ) -> Any: ...


class _Aiofastnet:
    """The functions of aiofastnet, which take the loop as their first argument, as methods."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any, **kwargs: Any
    ) -> Any:
        return await aiofastnet.create_connection(self._loop, protocol_factory, *args, **kwargs)

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any, **kwargs: Any
    ) -> Any:
        return await aiofastnet.create_server(self._loop, protocol_factory, *args, **kwargs)

    async def start_tls(self, transport: Any, protocol: asyncio.BaseProtocol, sslcontext: Any, **kwargs: Any) -> Any:
        return await aiofastnet.start_tls(self._loop, transport, protocol, sslcontext, **kwargs)


def network(use_aiofastnet: bool | None, *, serves_tls: bool = False) -> Network:
    """Return what opens the connections of the running loop; None for `use_aiofastnet` leaves the choice to us.

    That is aiofastnet, because it is faster with either loop. Round trips a second of 8 KiB, and CPU time of a client
    for a 128 B frame in a burst; Python listeners and one kind of transport on both sides, two busy cores, medians of
    five runs:

                    asyncio, TCP     asyncio, TLS     uvloop, TCP      uvloop, TLS
        its own     23,100 2.0 us     9,700 4.6 us    33,000 1.7 us    14,800 3.3 us
        aiofastnet  35,400 1.6 us    22,400 2.3 us    35,700 1.4 us    22,300 2.4 us

    Except for a server with TLS: aiofastnet 1.2.0 hands every client that hangs up during the TLS handshake to the
    loop's exception handler, as a class instead of an exception, which logging cannot format. A port scan would fill
    the log.
    """
    loop = asyncio.get_running_loop()
    is_wanted = not serves_tls if use_aiofastnet is None else use_aiofastnet
    return _Aiofastnet(loop) if is_wanted else cast(Network, loop)


def copies_what_it_keeps(transport: asyncio.BaseTransport) -> bool:
    """True if write() of `transport` copies what it cannot send at once, even of a memoryview.

    aiofastnet's do: they keep nothing but bytes objects. An event loop's own may keep the view itself.
    """
    return isinstance(transport, aiofastnet.Transport)
