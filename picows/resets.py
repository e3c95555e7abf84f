"""Finds out that a connection was reset where uvloop tells nobody.

aiofastnet reads when `loop.add_reader()` says so, once each time. When a socket has an error, such as a reset by the
peer, uvloop 0.23 calls the reader once more and never again. If there were bytes to read before the error, the reader
gets them, waits for more, and neither the end nor the error ever comes: a dead connection that looks idle.

So one epoll descriptor per loop watches the sockets of such connections for errors alone. It costs a system call when
a connection opens and one when it ends, and nothing in between.
"""

from __future__ import annotations

import asyncio
import select
import weakref
from contextlib import suppress
from typing import Any

__all__ = ["ResetWatch", "watch_resets"]

# Seconds until a connection that is not being read is looked at again.
PAUSED_INTERVAL = 0.05
# Reads that find nothing before an error is taken for one that does not end the connection.
MAX_IDLE_READS = 3


class ResetWatch:
    """Sees to it that `transport` reads up to the error once there is one. Lives as long as its owner."""

    __slots__ = ("__weakref__", "_fd", "_loop", "_sockets", "_transport")

    def __init__(self, sockets: _WatchedSockets, transport: Any, fd: int) -> None:
        self._sockets = sockets
        self._transport = transport
        self._fd = fd
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """The connection is lost. Its socket may be closed: so it is under TLS that began late, as behind a proxy."""
        self._transport = None
        self._sockets.remove(self._loop, self._fd, self)

    def read_on(self, reads_left: int = MAX_IDLE_READS) -> None:
        """Have the event loop call the reader again, until what it reads is the error."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not transport.is_reading():
            self._loop.call_later(PAUSED_INTERVAL, self.read_on)
            return
        transport.pause_reading()
        transport.resume_reading()  # adds the reader that uvloop has dropped
        if self._sockets.is_readable(self._fd):
            reads_left = MAX_IDLE_READS
        elif reads_left == 0:
            return
        self._loop.call_soon(self.read_on, reads_left - 1)


class _WatchedSockets:
    """The sockets of one loop, which it must not keep alive."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._watches: weakref.WeakValueDictionary[int, ResetWatch] = weakref.WeakValueDictionary()
        loop.add_reader(self._epoll.fileno(), self._find_errors)

    def add(self, transport: Any, fd: int) -> ResetWatch:
        watch = ResetWatch(self, transport, fd)
        self._watches[fd] = watch
        self._epoll.register(fd, select.EPOLLET)  # errors are always reported
        return watch

    def remove(self, loop: asyncio.AbstractEventLoop, fd: int, watch: ResetWatch) -> None:
        if self._watches.get(fd) is watch:  # else a new connection has got the number of the closed socket
            del self._watches[fd]
            # A closed socket has left the epoll descriptor by itself, and its number may be anybody's.
            with suppress(OSError):
                self._epoll.unregister(fd)
        if not self._watches:
            _sockets.pop(loop, None)
            loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    @staticmethod
    def is_readable(fd: int) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))

    def _find_errors(self) -> None:
        for fd, _ in self._epoll.poll(0):
            watch = self._watches.get(fd)
            if watch is not None:
                watch.read_on()


_sockets: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _WatchedSockets] = weakref.WeakKeyDictionary()


def watch_resets(transport: Any) -> ResetWatch | None:
    """Watch the socket of `transport`, just connected; None where its event loop reports everything itself."""
    loop = asyncio.get_running_loop()
    if (
        not hasattr(select, "epoll")
        or not type(loop).__module__.startswith("uvloop")
        or not type(transport).__module__.startswith("aiofastnet.")
    ):
        return None
    sockets = _sockets.get(loop)
    if sockets is None:
        sockets = _sockets[loop] = _WatchedSockets(loop)
    return sockets.add(transport, transport.get_extra_info("socket").fileno())
