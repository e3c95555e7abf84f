"""Builds books from deltas and snapshots: joins them, detects gaps, asks for a new snapshot."""

from collections.abc import Callable

from feeds.book import OrderBook
from feeds.checksum import Checksum
from feeds.decoder import Decoder
from feeds.events import EventHandler, Stage
from feeds.instrument import Instrument
from feeds.latency import Latency
from feeds.sequencing import Sequence

__all__ = ["BookBuilder"]

DEFAULT_MAX_LEVELS: int
DEFAULT_MAX_WINDOW: int
DEFAULT_MAX_PENDING_LEVELS: int

class BookBuilder(Stage):
    """Keeps one `OrderBook` per instrument of one connection. Every event goes on downstream."""

    decoder: Decoder | None
    """Who is asked for snapshots; replaced on reconnect."""
    latency: Latency | None
    """Who is told how long books take."""
    def __init__(
        self,
        downstream: EventHandler,
        *,
        new_sequence: Callable[[], Sequence] = ...,
        checksum: Checksum | None = None,
        max_pending_levels: int = ...,
        max_levels: int = ...,
        max_window: int = ...,
    ) -> None: ...
    @property
    def new_sequence(self) -> Callable[[], Sequence]: ...
    @property
    def checksum(self) -> Checksum | None:
        """What the checksums of messages are compared by, None where they are not."""
    @property
    def max_pending_levels(self) -> int: ...
    @property
    def max_levels(self) -> int: ...
    @property
    def max_window(self) -> int: ...
    @property
    def applied(self) -> int:
        """Deltas and snapshots that became part of a book."""
    @property
    def old(self) -> int:
        """Deltas that a book already contained."""
    @property
    def gaps(self) -> int: ...
    @property
    def verified(self) -> int:
        """Messages whose checksum was that of the book."""
    @property
    def mismatched(self) -> int:
        """Messages whose checksum was not that of the book: it was given up, and a snapshot asked for."""
    @property
    def unfit(self) -> int:
        """Times a book was given up because a level did not fit int64 at new decimals."""
    @property
    def books(self) -> list[OrderBook]: ...
    def book(self, instrument: Instrument) -> OrderBook | None: ...
    def on_snapshot_failed(self, instrument: Instrument) -> None:
        """The snapshot that was asked for will not come: the next delta asks again, unless the book is LIVE."""
    def on_lost(self, instrument: Instrument, reason: str, ts_recv: int) -> None:
        """A message that held a change of the book could not be read: the book is given up, as with a gap."""
    def drop(self, instrument: Instrument, ts_recv: int) -> None:
        """Forget an unsubscribed instrument's book: it becomes STALE, and messages under way make no new one."""
    def keep(self, instrument: Instrument) -> None:
        """Make a book of the instrument's messages again: it is subscribed again."""
    def refresh(self, instrument: Instrument) -> bool:
        """Ask for a snapshot that will replace a book that is LIVE; False where nothing was asked for."""
    def is_awaiting(self, instrument: Instrument) -> bool:
        """Whether a snapshot of the instrument's book has been asked for and has not come."""
