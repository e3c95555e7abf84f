import asyncio
from collections.abc import Callable
from typing import Protocol

from picows.listener import WSListener
from picows.logger import LoggerLike
from picows.negotiation import AgreedDeflate
from picows.parser import FrameParser
from picows.transport import WSTransport

class _Stoppable(Protocol):
    def stop(self) -> None: ...

class FrameProtocol:
    """Reads frames of one connection once its handshake is done, and ends it by the rules.

    make_keepalive -- None, or called with this object when the connection opens; returns what has `stop()`.
    read_until_drained -- see ws_connect().
    """

    def __init__(
        self,
        *,
        is_client_side: bool,
        disconnect_on_exception: bool,
        enable_auto_pong: bool,
        max_frame_size: int,
        read_buffer_init_size: int,
        logger: LoggerLike,
        make_keepalive: Callable[[WSProtocol], _Stoppable] | None = None,
        read_until_drained: int = 0,
    ) -> None: ...
    @property
    def parser(self) -> FrameParser: ...
    @property
    def transport(self) -> WSTransport: ...
    @property
    def listener(self) -> WSListener: ...
    @property
    def logger(self) -> LoggerLike: ...
    def open(
        self,
        transport: WSTransport,
        listener: WSListener,
        reserved_bits: int,
        received: bytes,
        deflate: AgreedDeflate | None = None,
    ) -> None:
        """The handshake is done. Frames in `received`, which came in behind it, are delivered before this returns.

        `deflate` is the AgreedDeflate of the connection, or None.
        """

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the event loop reads into."""

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` were read."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; `exc` is None after an orderly end."""

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    @property
    def last_read_ns(self) -> int:
        """Monotonic time of the last read; kept only on a connection with a keepalive."""

    def idle_seconds(self) -> float:
        """Seconds since the last read, on a connection with a keepalive."""

    def listener_failed(self, exc: Exception) -> None:
        """A method of the listener that others call raised `exc`."""

    def give_up(self, reason: str) -> None:
        """Close a connection whose peer is silent. Not an error that wait_disconnected() raises."""

class WSProtocol(FrameProtocol, asyncio.BufferedProtocol):
    """A FrameProtocol that event loops recognise. Subclasses add `handshake_received` and `handshake_lost`."""
