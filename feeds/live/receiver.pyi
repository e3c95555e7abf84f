from typing import Protocol

from feeds.live.arbiter import Arbiter
from feeds.pipeline import Pipeline
from feeds.recording import RecordingWriter
from picows import WSFrame, WSListener, WSTransport

__all__ = ["Receiver"]

DEFAULT_LARGE_MESSAGE: int

class _Shell(Protocol):
    def on_requests(self) -> None: ...
    def on_failed(self, error: Exception) -> None: ...
    def on_leg_lost(self, leg: int, reason: str) -> None: ...

class Receiver(WSListener):
    """Listens to one connection after the other of a line, and gives its pipeline what happens, recording it first."""

    def __init__(
        self,
        pipeline: Pipeline,
        shell: _Shell,
        *,
        writer: RecordingWriter | None = None,
        max_message_size: int,
        drain_reads: int = 0,
        drain_timeout: float = 0.001,
        large_message: int = ...,
        arbiter: Arbiter | None = None,
        leg: int = 0,
    ) -> None: ...
    arbiter: Arbiter | None
    @property
    def leg(self) -> int: ...
    @property
    def pipeline(self) -> Pipeline: ...
    @property
    def writer(self) -> RecordingWriter | None: ...
    @property
    def source(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def ts_recv(self) -> int: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def is_detached(self) -> bool: ...
    @property
    def max_message_size(self) -> int: ...
    @property
    def drain_reads(self) -> int: ...
    @property
    def drain_timeout(self) -> float: ...
    @property
    def large_message(self) -> int: ...
    def on_ws_connected(self, transport: WSTransport) -> None: ...
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None: ...
    def on_ws_disconnected(self, transport: WSTransport) -> None: ...
    def detach(self) -> None:
        """End the session: nothing is recorded or passed on any more, and the books stay as they are."""
    def reply(self, tag: str, payload: bytes) -> None: ...
    def fetch_failed(self, tag: str, reason: str) -> None: ...
    def status(self, status: str, reason: str) -> None: ...
    def subscribed(self, symbol: str, channels: str) -> None:
        """Channels ("book, trade") of an instrument, by the exchange's symbol, are subscribed from now on."""
    def unsubscribed(self, symbol: str, channels: str) -> None:
        """Channels of an instrument are not wanted any more."""
    def resnapshot(self, symbol: str) -> None:
        """A snapshot is due of a book that is LIVE, by the exchange's symbol."""
    def tick(self) -> None: ...
    def join(self) -> bool:
        """Have the arbiter join this leg, and pass on what it has beyond the others.

        False: what was put off comes first.
        """
    def send(self, payload: bytes) -> None:
        """Send a text message, and record it; dropped where there is no connection."""
    def disconnect(self, reason: str) -> None:
        """Close the connection, if there is one; `reason` is for the record."""
    def requested(self, url: str, tag: str) -> None: ...
    def exchanged(self, tag: str, url: str, body: bytes, reply: bytes) -> None:
        """A request has been answered that connecting needed: for the record alone, if it has room for one so large."""
