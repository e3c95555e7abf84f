"""An event loop whose clock runs only while nobody has anything to do, and then at once to the next timer."""

from __future__ import annotations

import asyncio
import selectors
import socket
from typing import Any


class _Selector(selectors.DefaultSelector):
    """What the kernel has now; where that is nothing, the time moves on instead of waiting. A look takes 1 us."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += 1e-6  # or who waits for less than a double can tell would wait for ever
        ready = super().select(0)
        if not ready and timeout is None:
            return super().select(None)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Real sockets, timers that nobody waits for, and host names of our own: `hosts` has their addresses."""

    def __init__(self) -> None:
        self._sockets = _Selector()
        self.hosts: dict[str, str] = {}
        super().__init__(self._sockets)

    def time(self) -> float:
        return self._sockets.now

    @property
    def open_sockets(self) -> int:
        """How many are watched, besides the loop's own."""
        return len(self._sockets.get_map()) - 1

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        if host not in self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return socket.getaddrinfo(self.hosts[host], port, **options)  # of an address: nothing to wait for
