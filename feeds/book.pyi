"""The order book: exact, by integer price, with a state that says whether it may be believed."""

import enum
from decimal import Decimal
from typing import NamedTuple

from typing_extensions import Self

from feeds.instrument import Instrument

__all__ = ["BookSide", "BookState", "Level", "OrderBook"]

DEFAULT_MAX_LEVELS: int
DEFAULT_MAX_WINDOW: int

class BookState(enum.IntEnum):
    SYNCING = 1
    """Waiting for a snapshot, or for the messages that join it."""
    LIVE = 2
    """Equal to the exchange's book as of the last applied message."""
    GAP = 3
    """A message was missed, or could not be represented; a new snapshot has been asked for."""
    STALE = 4
    """The connection is gone; the levels are those of the last message."""
    CROSSED = 5
    """Best bid >= best ask: something is wrong, here or there."""

class BookSide(enum.IntEnum):
    BID = 0
    ASK = 1

class Level(NamedTuple):
    """One price level."""

    price: float
    qty: float

class OrderBook:
    """L2 book of one instrument, kept by a `BookBuilder`.

    `best_bid`, `best_ask`, `mid`, `bids()` and `asks()` answer only while `state` is LIVE. `sys.getsizeof` tells the
    memory of a book, with its levels.
    """

    def __new__(cls, instrument: Instrument, *, max_levels: int = ..., max_window: int = ...) -> Self: ...
    @property
    def instrument(self) -> Instrument: ...
    @property
    def state(self) -> BookState: ...
    @property
    def best_bid(self) -> Level | None: ...
    @property
    def best_ask(self) -> Level | None: ...
    @property
    def mid(self) -> float | None: ...
    @property
    def bid_count(self) -> int: ...
    @property
    def ask_count(self) -> int: ...
    @property
    def max_levels(self) -> int:
        """Levels per side; beyond it the worst is dropped and counted in `evicted`."""
    @property
    def max_window(self) -> int:
        """Ticks per side that may be kept in a table around the best price."""
    @property
    def evicted(self) -> int: ...
    @property
    def ts_event(self) -> int:
        """The exchange's time of the last applied message, ns since the epoch, 0 = unknown."""
    @property
    def ts_recv(self) -> int: ...
    @property
    def last_id(self) -> int:
        """Update id of the last applied message, -1 where the exchange sends none."""
    def bids(self, n: int = -1) -> list[Level]:
        """Return the best `n` bids (all by default), best first; nothing unless the book is LIVE."""
    def asks(self, n: int = -1) -> list[Level]: ...
    def last_bids(self, n: int = -1) -> list[Level]:
        """Return the bids as they stand, best first, whatever the state."""
    def last_asks(self, n: int = -1) -> list[Level]: ...
    def exact(self, side: int) -> list[tuple[Decimal, Decimal]]:
        """Return a side as [(price, qty), ...], best first, whatever the state: for checks, not for speed."""
    def window(self, side: int) -> tuple[Decimal, Decimal, Decimal] | None:
        """Return (lowest price, highest price, tick) of what is kept in a table on a side, None where nothing is."""
