"""Normalised events, and `EventHandler`, the one interface after decoding."""

import enum
from collections.abc import Iterable
from decimal import Decimal
from typing import ClassVar

from feeds.book import BookState, OrderBook
from feeds.instrument import Instrument

__all__ = [
    "BookDelta",
    "BookStatus",
    "BookUpdate",
    "Candle",
    "Event",
    "EventHandler",
    "Fanout",
    "FeedStatus",
    "Funding",
    "Liquidation",
    "OpenInterest",
    "Quote",
    "Side",
    "Stage",
    "Ticker",
    "Trade",
]

_Number = int | str | Decimal

class Side(enum.IntEnum):
    UNKNOWN = 0
    BUY = 1
    SELL = 2

class Event:
    """What every event has. Times are ns since the epoch, 0 = unknown. An event may be kept after the call."""

    __hash__: ClassVar[None]  # type: ignore[assignment]
    @property
    def instrument(self) -> Instrument:
        """Of whom it tells; None in a `FeedStatus`."""
    @property
    def ts_event(self) -> int:
        """The exchange's time."""
    @property
    def ts_recv(self) -> int:
        """Ours."""
    @property
    def price_decimals(self) -> int: ...
    @property
    def qty_decimals(self) -> int: ...
    def dispatch(self, handler: EventHandler) -> None:
        """Call the handler's method for this kind of event."""
    def __eq__(self, other: object, /) -> bool: ...

class Trade(Event):
    """A trade. `side` is the aggressor's: BUY lifted the ask."""

    def __init__(
        self,
        instrument: Instrument,
        *,
        price: _Number,
        qty: _Number,
        side: int = ...,
        id: int | str | None = None,
        is_backlog: bool = False,
        ts_event: int = 0,
        ts_recv: int = 0,
    ) -> None: ...
    @property
    def price(self) -> float:
        """Price as the nearest float."""
    @property
    def qty(self) -> float: ...
    @property
    def price_decimal(self) -> Decimal:
        """Price exactly."""
    @property
    def qty_decimal(self) -> Decimal: ...
    @property
    def side(self) -> Side: ...
    @property
    def id(self) -> str | None:
        """The exchange's trade id as text."""
    @property
    def is_backlog(self) -> bool:
        """Happened before the subscription: the exchange repeats it."""

class Quote(Event):
    """The best bid and offer as the exchange sends them. A missing side is None."""

    def __init__(
        self,
        instrument: Instrument,
        *,
        bid_price: _Number = 0,
        bid_qty: _Number | None = 0,
        ask_price: _Number = 0,
        ask_qty: _Number | None = 0,
        sequence: int = 0,
        ts_event: int = 0,
        ts_recv: int = 0,
    ) -> None: ...
    @property
    def bid_price(self) -> float | None: ...
    @property
    def bid_qty(self) -> float | None: ...
    @property
    def ask_price(self) -> float | None: ...
    @property
    def ask_qty(self) -> float | None: ...
    @property
    def bid_decimal(self) -> tuple[Decimal, Decimal | None] | None:
        """Best bid exactly, as (price, qty); qty is None where the exchange does not send it."""
    @property
    def ask_decimal(self) -> tuple[Decimal, Decimal | None] | None: ...
    @property
    def sequence(self) -> int:
        """The exchange's update id, 0 = unknown."""
    @property
    def merged(self) -> int:
        """How many quotes this one stands for (1 = it alone)."""
    @property
    def ts_event_first(self) -> int:
        """The ts_event of the oldest of them."""

class BookDelta(Event):
    """Levels to set (quantity 0 removes), or with `is_snapshot` a whole book (`depth` 0) or its top `depth` levels."""

    def __init__(
        self,
        instrument: Instrument,
        *,
        bids: Iterable[tuple[_Number, _Number]] = (),
        asks: Iterable[tuple[_Number, _Number]] = (),
        is_snapshot: bool = False,
        depth: int = 0,
        first_id: int = -1,
        last_id: int = -1,
        previous_id: int = -1,
        starts_over: bool = False,
        window: int = 0,
        checksum: int = -1,
        ts_event: int = 0,
        ts_recv: int = 0,
    ) -> None: ...
    @property
    def is_snapshot(self) -> bool: ...
    @property
    def depth(self) -> int: ...
    @property
    def first_id(self) -> int:
        """The exchange's update ids, -1 where it does not send one."""
    @property
    def last_id(self) -> int: ...
    @property
    def previous_id(self) -> int: ...
    @property
    def starts_over(self) -> bool:
        """A snapshot in the stream: nothing before it matters."""
    @property
    def window(self) -> int:
        """How many levels of each side stay in the book, 0 = all."""
    @property
    def checksum(self) -> int:
        """Of the book with this message in it, unsigned; -1 where there is none."""
    @property
    def bids(self) -> list[tuple[Decimal, Decimal]]:
        """The bid levels as the message has them: [(price, qty), ...]."""
    @property
    def asks(self) -> list[tuple[Decimal, Decimal]]: ...
    def copy(self) -> BookDelta:
        """Return an independent event with the same content."""

class Ticker(Event):
    """What is known of an instrument besides its book and its trades. What the exchange did not send is None."""

    def __init__(
        self,
        instrument: Instrument,
        *,
        last_price: _Number | None = None,
        mark_price: _Number | None = None,
        index_price: _Number | None = None,
        open_interest: _Number | None = None,
        funding_rate: _Number | None = None,
        next_funding_time: int = 0,
        ts_event: int = 0,
        ts_recv: int = 0,
    ) -> None: ...
    @property
    def last_price(self) -> float | None:
        """Price of the last trade as the nearest float."""
    @property
    def last_price_decimal(self) -> Decimal | None:
        """Price of the last trade exactly."""
    @property
    def mark_price(self) -> float | None:
        """Mark price as the nearest float."""
    @property
    def mark_price_decimal(self) -> Decimal | None:
        """Mark price exactly."""
    @property
    def index_price(self) -> float | None:
        """Index price as the nearest float."""
    @property
    def index_price_decimal(self) -> Decimal | None:
        """Index price exactly."""
    @property
    def open_interest(self) -> float | None:
        """Open interest as the nearest float."""
    @property
    def open_interest_decimal(self) -> Decimal | None:
        """Open interest exactly."""
    @property
    def funding_rate(self) -> float | None:
        """Funding rate as the nearest float."""
    @property
    def funding_rate_decimal(self) -> Decimal | None:
        """Funding rate exactly."""
    @property
    def next_funding_time(self) -> int:
        """In ns, 0 = unknown."""
    @property
    def merged(self) -> int:
        """How many tickers this one stands for (1 = it alone)."""
    @property
    def ts_event_first(self) -> int: ...

class Funding(Event):
    """The funding of a perpetual: `funding_rate` is paid at `next_funding_time` by longs to shorts."""

    def __init__(
        self,
        instrument: Instrument,
        *,
        funding_rate: _Number | None,
        next_funding_rate: _Number | None = None,
        next_funding_time: int = 0,
        ts_event: int = 0,
        ts_recv: int = 0,
    ) -> None: ...
    @property
    def funding_rate(self) -> float | None:
        """Funding rate as the nearest float."""
    @property
    def funding_rate_decimal(self) -> Decimal | None:
        """Funding rate exactly."""
    @property
    def next_funding_rate(self) -> float | None:
        """Expected rate of the interval after as the nearest float."""
    @property
    def next_funding_rate_decimal(self) -> Decimal | None:
        """Expected rate of the interval after exactly."""
    @property
    def next_funding_time(self) -> int:
        """In ns, 0 = unknown."""

class OpenInterest(Event):
    """The open interest, in the instrument's quantities (contracts where those are contracts)."""

    def __init__(
        self, instrument: Instrument, *, open_interest: _Number | None, ts_event: int = 0, ts_recv: int = 0
    ) -> None: ...
    @property
    def open_interest(self) -> float | None:
        """Open interest as the nearest float."""
    @property
    def open_interest_decimal(self) -> Decimal | None:
        """Open interest exactly."""

class Liquidation(Event):
    """A position is liquidated. `side` is that of the closing order: SELL closes a long."""

    def __init__(
        self,
        instrument: Instrument,
        *,
        price: _Number | None,
        qty: _Number | None,
        side: int = ...,
        id: int | str | None = None,
        ts_event: int = 0,
        ts_recv: int = 0,
    ) -> None: ...
    @property
    def price(self) -> float | None:
        """Price as the nearest float."""
    @property
    def price_decimal(self) -> Decimal | None:
        """Price exactly."""
    @property
    def qty(self) -> float | None:
        """Quantity as the nearest float."""
    @property
    def qty_decimal(self) -> Decimal | None:
        """Quantity exactly."""
    @property
    def side(self) -> Side: ...
    @property
    def id(self) -> str | None: ...

class Candle(Event):
    """The trades of an interval: from `ts_open` (ns) on, `interval` seconds long."""

    def __init__(
        self,
        instrument: Instrument,
        *,
        ts_open: int,
        interval: int,
        open: _Number | None,
        high: _Number | None,
        low: _Number | None,
        close: _Number | None,
        volume: _Number | None = None,
        quote_volume: _Number | None = None,
        is_closed: bool | None = None,
        ts_event: int = 0,
        ts_recv: int = 0,
    ) -> None: ...
    @property
    def ts_open(self) -> int:
        """In ns."""
    @property
    def interval(self) -> int:
        """In seconds."""
    @property
    def is_closed(self) -> bool | None:
        """Whether the candle is final; None where the exchange does not say."""
    @property
    def open(self) -> float | None:
        """Price of the first trade as the nearest float."""
    @property
    def open_decimal(self) -> Decimal | None:
        """Price of the first trade exactly."""
    @property
    def high(self) -> float | None:
        """Highest price as the nearest float."""
    @property
    def high_decimal(self) -> Decimal | None:
        """Highest price exactly."""
    @property
    def low(self) -> float | None:
        """Lowest price as the nearest float."""
    @property
    def low_decimal(self) -> Decimal | None:
        """Lowest price exactly."""
    @property
    def close(self) -> float | None:
        """Price of the last trade as the nearest float."""
    @property
    def close_decimal(self) -> Decimal | None:
        """Price of the last trade exactly."""
    @property
    def volume(self) -> float | None:
        """Volume as the nearest float."""
    @property
    def volume_decimal(self) -> Decimal | None:
        """Volume exactly."""
    @property
    def quote_volume(self) -> float | None:
        """Volume in the quote currency as the nearest float."""
    @property
    def quote_volume_decimal(self) -> Decimal | None:
        """Volume in the quote currency exactly."""

class BookUpdate(Event):
    """A LIVE book has changed: `book` has the newest state, and may be read only inside the call."""

    def __init__(
        self, book: OrderBook, *, merged: int = 1, ts_event: int = 0, ts_recv: int = 0, ts_event_first: int = 0
    ) -> None: ...
    @property
    def book(self) -> OrderBook: ...
    @property
    def merged(self) -> int:
        """How many messages are in it that no update told of before."""
    @property
    def ts_event_first(self) -> int: ...

class BookStatus(Event):
    """The state of a book has changed from `old` to `new`, for `reason`."""

    def __init__(
        self, book: OrderBook, old: BookState, new: BookState, reason: str, *, ts_event: int = 0, ts_recv: int = 0
    ) -> None: ...
    @property
    def book(self) -> OrderBook: ...
    @property
    def old(self) -> BookState: ...
    @property
    def new(self) -> BookState: ...
    @property
    def reason(self) -> str: ...

class FeedStatus(Event):
    """Something happened to a connection: `status` is a short word, `reason` a sentence."""

    def __init__(self, exchange: str, status: str, reason: str = "", *, source: int = 0, ts_recv: int = 0) -> None: ...
    @property
    def exchange(self) -> str: ...
    @property
    def source(self) -> int:
        """The connection's number in its session."""
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...

class EventHandler:
    """Receives events. Every method ignores its event unless overridden; exceptions end the session."""

    def on_trade(self, event: Trade) -> None: ...
    def on_quote(self, event: Quote) -> None: ...
    def on_book_delta(self, event: BookDelta) -> None: ...
    def on_book(self, event: BookUpdate) -> None: ...
    def on_book_status(self, event: BookStatus) -> None: ...
    def on_feed_status(self, event: FeedStatus) -> None: ...
    def on_ticker(self, event: Ticker) -> None: ...
    def on_funding(self, event: Funding) -> None: ...
    def on_open_interest(self, event: OpenInterest) -> None: ...
    def on_liquidation(self, event: Liquidation) -> None: ...
    def on_candle(self, event: Candle) -> None: ...
    def on_batch_end(self, ts_recv: int) -> None: ...

class Stage(EventHandler):
    """A handler that does one thing to the events on their way to `downstream`."""

    downstream: EventHandler
    def __init__(self, downstream: EventHandler) -> None: ...

class Fanout(EventHandler):
    """Gives every event to each of `handlers`, in their order."""

    def __init__(self, handlers: Iterable[EventHandler]) -> None: ...
    @property
    def handlers(self) -> list[EventHandler]: ...
