"""The newest of everything, for somebody who looks now and then."""

from feeds.book import BookState, Level, OrderBook
from feeds.events import BookStatus, EventHandler, FeedStatus
from feeds.instrument import Instrument

__all__ = ["Happening", "Row", "Watch"]

class Row:
    """What is newest of one instrument."""

    @property
    def instrument(self) -> Instrument: ...
    @property
    def messages(self) -> int:
        """How many there were, merged and superseded ones too."""
    @property
    def merged(self) -> int:
        """How many of them a newer one stood for."""
    @property
    def trades(self) -> int: ...
    @property
    def ts_recv(self) -> int:
        """Receive time of the newest event, ns, 0 = none yet."""
    @property
    def book(self) -> OrderBook | None: ...
    @property
    def reason(self) -> str:
        """Why the book is in the state in which it is."""
    @property
    def state(self) -> BookState | None:
        """The state of the book, None where there is none."""
    @property
    def best_bid(self) -> Level | None:
        """The best bid, of the book where there is one; None while that is not LIVE. A qty may be unknown: nan."""
    @property
    def best_ask(self) -> Level | None:
        """The best ask, in the same way."""

class Happening:
    """A status, and how often it has been told with the same reason."""

    @property
    def event(self) -> BookStatus | FeedStatus:
        """The newest."""
    @property
    def count(self) -> int: ...

class Watch(EventHandler):
    """Keeps the newest values of each instrument, and the last `history` different statuses."""

    def __init__(self, *, history: int = 64) -> None: ...
    @property
    def history(self) -> int: ...
    @property
    def rows(self) -> list[Row]:
        """The rows of all instruments that something has come of, by their index."""
    @property
    def happenings(self) -> list[Happening]:
        """The last statuses, the newest last."""
    def row(self, instrument: Instrument) -> Row:
        """Return the row of an instrument, which may be empty."""
