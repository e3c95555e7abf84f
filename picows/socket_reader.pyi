import asyncio
from collections.abc import Callable
from typing import Any

from picows.protocol import FrameProtocol

class SocketReader:
    """Stands between `transport`, which is paused, and a protocol, and reads the socket for it.

    frames -- the FrameProtocol that is told the kernel times.
    has_kernel_time -- ask the kernel for them. OSError where it has none.
    poller -- BusyPoller that is to read; None: the event loop says when.

    Like a new transport, it reads from the first resume_reading() on.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        frames: FrameProtocol,
        *,
        has_kernel_time: bool,
        poller: BusyPoller | None = None,
    ) -> None: ...
    @property
    def transport(self) -> asyncio.Transport: ...
    @property
    def write(self) -> Callable[[bytes], None]: ...
    @property
    def get_write_buffer_size(self) -> Callable[[], int]: ...
    def __getattr__(self, name: str) -> Any: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
    def get_protocol(self) -> asyncio.BaseProtocol: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def eof_received(self) -> Any: ...
    def read_ready(self) -> None:
        """The event loop says that something can be read."""

def busy_poller() -> BusyPoller | None:
    """Return the BusyPoller of the running event loop, None if it sleeps as others do."""

class BusyPoller:
    """Keeps an event loop from ever sleeping in the kernel: start_busy_polling() makes it.

    Between its turns the event loop has one of its own, for everything else that it does.
    """

    def __init__(self, turn: float) -> None: ...
    @property
    def is_running(self) -> bool: ...
    def stop(self) -> None:
        """Let the event loop sleep again. Connections that were polled are read by the event loop from now on."""

def start_busy_polling(*, turn: float = 50e-6) -> BusyPoller:
    """Have the running event loop spin instead of sleeping until something happens, and return its BusyPoller.

    For a process that has a processor of its own: it uses all of it. In return nothing is lost to waking up.
    Connections that ws_connect() opens from now on are read directly, without asking the event loop, those to wss as
    well; everything else goes on as before.

    turn -- seconds after which the event loop has its turn: after a read if one comes, or else in twice the time.
        Timers, and tasks that a listener wakes, may be as late. A turn costs a system call or two; 0 takes one after
        every look at the sockets, for those who wait in tasks.

    ValueError for a negative turn; RuntimeError without a running event loop, or if it is polling already.
    """
