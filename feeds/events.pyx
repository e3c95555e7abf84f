# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, nonecheck=True
"""Normalised events, and `EventHandler`, the one interface after decoding."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport INT64_MAX, int8_t, int64_t
from libc.string cimport memcmp

from feeds.levels cimport (
    POW10, SCAN_GROW, SCAN_OK, LevelVector, levels_copy, levels_free, levels_push, mantissa_decimal as _decimal,
    mantissa_float as _float, scan_number,
)

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from feeds.book import BookState as _BookState

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

# Calling an enumeration runs Python code; strategies ask for these with every event.
cdef tuple _SIDES = tuple([Side(number) for number in range(3)])
cdef tuple _STATES = (None, *[_BookState(number) for number in range(1, 6)])


cdef int64_t _mantissa(object number, int decimals) except? -1:
    """Return `number` (int, str or Decimal) as a mantissa; ValueError where it has more decimals or does not fit."""
    if isinstance(number, float):
        raise TypeError(f"expected an exact number (int, str or Decimal), found the float {number!r}")
    try:
        sign, digits, exponent = Decimal(number).as_tuple()
    except InvalidOperation:
        raise ValueError(f"expected a number, found {number!r}") from None
    if not isinstance(exponent, int):
        raise ValueError(f"expected a finite number, found {number!r}")
    text = "".join(map(str, digits))
    significant = text.strip("0")
    if not significant:
        return 0
    exponent += len(text) - len(text.rstrip("0"))    # trailing zeros need no decimals
    if exponent < -decimals:
        raise ValueError(f"expected at most {decimals} decimals, found {number!r}")
    if len(significant) + exponent + decimals <= 19:
        mantissa = int(significant) * 10 ** (exponent + decimals)
    else:
        mantissa = 1 << 63
    if mantissa > INT64_MAX:
        raise ValueError(f"expected a number that fits int64 at {decimals} decimals, found {number!r}")
    return -mantissa if sign else mantissa


cdef int set_number(Number* number, object value) except -1:
    cdef:
        const char* p
        const char* end
        const char* text
        Py_ssize_t size
        int needed = 0
        int decimals = 0
        int status
    number.is_known = False
    number.mantissa = 0
    number.decimals = 0
    if value is None:
        return 0
    if isinstance(value, str):
        text = PyUnicode_AsUTF8AndSize(value, &size)
    elif isinstance(value, float):
        raise TypeError(f"expected an exact number (int, str or Decimal), found the float {value!r}")
    else:
        value = str(value).encode() if isinstance(value, (int, Decimal)) else bytes(value)
        text, size = PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
    if size >= 2 and text[0] == c'"' and text[size - 1] == c'"':
        text += 1
        size -= 2
    if size == 0 or (size == 4 and memcmp(text, b"null", 4) == 0):
        return 0
    while True:
        p = text
        end = p + size
        status = scan_number(&p, end, decimals, &number.mantissa, &needed)
        if status == SCAN_GROW and decimals < needed <= 18:
            decimals = needed
            continue
        break
    if status != SCAN_OK or p != end:
        decimals = _round_number(number, text[:size])
    number.decimals = <int8_t> decimals
    number.is_known = True
    return 0


cdef int _round_number(Number* number, bytes text) except -1:
    """Set the mantissa of a number with more digits than int64 and 18 decimals hold; return its decimals."""
    try:
        value = Decimal(text.decode("ascii", "replace"))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ValueError(f"expected a number, found {text[:40]!r}")
    decimals = 18
    while decimals >= 0 and abs(value) >= Decimal(INT64_MAX).scaleb(-decimals):
        decimals -= 1
    if decimals < 0:
        raise ValueError(f"expected a number that fits int64, found {text[:40]!r}")
    number.mantissa = int(value.scaleb(decimals, _WIDE).quantize(Decimal(1), context=_WIDE))
    return decimals


_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)


cdef object _number_float(const Number* number):
    return _float(number.mantissa, number.decimals) if number.is_known else None


cdef object _number_decimal(const Number* number):
    return _decimal(number.mantissa, number.decimals) if number.is_known else None


@cython.no_gc
cdef class Event:
    """What every event has: `instrument`, `ts_event` (the exchange's time) and `ts_recv` (ours), ns, 0 = unknown."""

    cpdef dispatch(self, EventHandler handler):
        """Call the handler's method for this kind of event."""
        raise NotImplementedError(f"{type(self).__name__} has no handler method")

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv)

    def __eq__(self, other):
        return type(self) is type(other) and self._fields() == other._fields()

    __hash__ = None

    def __repr__(self):
        who = "" if self.instrument is None else f" {self.instrument.exchange} {self.instrument.symbol or self.instrument.raw_symbol}"
        return f"<{type(self).__name__}{who} {self._what()}>"

    def _what(self):
        return f"ts_event={self.ts_event}"


@cython.no_gc
cdef class Trade(Event):
    """A trade. `side` is the aggressor's: BUY lifted the ask. `id` is the exchange's, as text, or None.

    `is_backlog` marks trades that the exchange repeats after a subscription: they happened before it, and after a
    reconnect they have been told already.
    """

    def __init__(self, Instrument instrument not None, *, price, qty, side=UNKNOWN, id=None, bint is_backlog=False,
                 int64_t ts_event=0, int64_t ts_recv=0):
        self.begin(instrument, ts_event, ts_recv)
        self.price_mantissa = _mantissa(price, self.price_decimals)
        self.qty_mantissa = _mantissa(qty, self.qty_decimals)
        self._side = side
        self.is_backlog = is_backlog
        self.numeric_id = -1
        if isinstance(id, int):
            self.numeric_id = id
        else:
            self.text_id = id

    cpdef dispatch(self, EventHandler handler):
        handler.on_trade(self)

    @property
    def price(self):
        """Price as the nearest float."""
        return _float(self.price_mantissa, self.price_decimals)

    @property
    def qty(self):
        """Quantity as the nearest float."""
        return _float(self.qty_mantissa, self.qty_decimals)

    @property
    def price_decimal(self):
        """Price exactly."""
        return _decimal(self.price_mantissa, self.price_decimals)

    @property
    def qty_decimal(self):
        """Quantity exactly."""
        return _decimal(self.qty_mantissa, self.qty_decimals)

    @property
    def side(self):
        """The aggressor's `Side`."""
        return _SIDES[<int> self._side]

    @property
    def id(self):
        """The exchange's trade id as text, or None."""
        return str(self.numeric_id) if self.numeric_id >= 0 else self.text_id

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self.price_decimal, self.qty_decimal, self._side, self.id,
                self.is_backlog)

    def _what(self):
        backlog = " backlog" if self.is_backlog else ""
        return f"{self.side.name} {self.qty_decimal:f} @ {self.price_decimal:f} id={self.id}{backlog}"


@cython.no_gc
cdef class Quote(Event):
    """The best bid and offer as the exchange sends them. A missing side is None; so is a quantity that is not sent (`None`).

    `merged` says how many quotes this one stands for (1 = it alone), `ts_event_first` is the time of the oldest of them.
    """

    def __init__(self, Instrument instrument not None, *, bid_price=0, bid_qty=0, ask_price=0, ask_qty=0,
                 int64_t sequence=0, int64_t ts_event=0, int64_t ts_recv=0):
        self.begin(instrument, ts_event, ts_recv)
        self.bid_price_mantissa = _mantissa(bid_price, self.price_decimals)
        self.bid_qty_mantissa = -1 if bid_qty is None else _mantissa(bid_qty, self.qty_decimals)
        self.ask_price_mantissa = _mantissa(ask_price, self.price_decimals)
        self.ask_qty_mantissa = -1 if ask_qty is None else _mantissa(ask_qty, self.qty_decimals)
        self.sequence = sequence
        self.merged = 1
        self.ts_event_first = ts_event

    cpdef dispatch(self, EventHandler handler):
        handler.on_quote(self)

    @property
    def bid_price(self):
        """Best bid as the nearest float, or None."""
        return _float(self.bid_price_mantissa, self.price_decimals) if self.bid_qty_mantissa else None

    @property
    def bid_qty(self):
        """Quantity at the best bid as the nearest float, or None."""
        return _float(self.bid_qty_mantissa, self.qty_decimals) if self.bid_qty_mantissa > 0 else None

    @property
    def ask_price(self):
        """Best ask as the nearest float, or None."""
        return _float(self.ask_price_mantissa, self.price_decimals) if self.ask_qty_mantissa else None

    @property
    def ask_qty(self):
        """Quantity at the best ask as the nearest float, or None."""
        return _float(self.ask_qty_mantissa, self.qty_decimals) if self.ask_qty_mantissa > 0 else None

    @property
    def bid_decimal(self):
        """Best bid exactly, as (price, qty or None), or None."""
        if not self.bid_qty_mantissa:
            return None
        return (_decimal(self.bid_price_mantissa, self.price_decimals),
                _decimal(self.bid_qty_mantissa, self.qty_decimals) if self.bid_qty_mantissa > 0 else None)

    @property
    def ask_decimal(self):
        """Best ask exactly, as (price, qty or None), or None."""
        if not self.ask_qty_mantissa:
            return None
        return (_decimal(self.ask_price_mantissa, self.price_decimals),
                _decimal(self.ask_qty_mantissa, self.qty_decimals) if self.ask_qty_mantissa > 0 else None)

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self.bid_decimal, self.ask_decimal, self.sequence,
                self.merged, self.ts_event_first)

    def _what(self):
        return f"{self.bid_qty} @ {self.bid_price} | {self.ask_price} @ {self.ask_qty} merged={self.merged}"


@cython.no_gc
cdef class BookDelta(Event):
    """Levels to set (quantity 0 removes), or with `is_snapshot` a whole book (`depth` 0) or its top `depth` levels.

    `first_id`, `last_id` and `previous_id` are the exchange's update ids, -1 where it does not send one. `checksum` is that
    of the book with this message in it (unsigned), -1 where there is none; `window` levels of each side stay in the book (0:
    all). A snapshot that `starts_over` came in the stream: nothing before it matters, and the next delta continues it.
    """

    def __cinit__(self):
        self.bid_levels.items = self.ask_levels.items = NULL
        self.first_id = self.last_id = self.previous_id = self.checksum = -1
        self.merged = 1

    def __init__(self, Instrument instrument not None, *, bids=(), asks=(), bint is_snapshot=False, int depth=0,
                 int64_t first_id=-1, int64_t last_id=-1, int64_t previous_id=-1, bint starts_over=False, int window=0,
                 int64_t checksum=-1, int64_t ts_event=0, int64_t ts_recv=0):
        self.begin(instrument, ts_event, ts_recv)
        self.is_snapshot = is_snapshot
        self.depth = depth
        self.first_id = first_id
        self.last_id = last_id
        self.previous_id = previous_id
        self.starts_over = starts_over
        self.window = window
        self.checksum = checksum
        self._push(&self.bid_levels, bids)
        self._push(&self.ask_levels, asks)

    def __dealloc__(self):
        levels_free(&self.bid_levels)
        levels_free(&self.ask_levels)

    cpdef dispatch(self, EventHandler handler):
        handler.on_book_delta(self)

    @property
    def bids(self):
        """The bid levels as the message has them: [(price Decimal, qty Decimal), ...]."""
        return self._side(&self.bid_levels)

    @property
    def asks(self):
        """The ask levels as the message has them: [(price Decimal, qty Decimal), ...]."""
        return self._side(&self.ask_levels)

    cdef int _push(self, LevelVector* target, levels) except -1:
        target.size = 0
        for price, qty in levels:
            if levels_push(target, _mantissa(price, self.price_decimals), _mantissa(qty, self.qty_decimals)):
                raise MemoryError("no room for the levels of a book message")
        return 0

    cdef list _side(self, LevelVector* levels):
        cdef Py_ssize_t i
        return [(_decimal(levels.items[i].price, self.price_decimals), _decimal(levels.items[i].qty, self.qty_decimals))
                for i in range(levels.size)]

    def copy(self):
        """Return an independent event with the same content."""
        cdef BookDelta other = BookDelta.__new__(BookDelta)
        other.begin(self.instrument, self.ts_event, self.ts_recv)
        other.price_decimals = self.price_decimals
        other.qty_decimals = self.qty_decimals
        other.is_snapshot = self.is_snapshot
        other.depth = self.depth
        other.merged = self.merged
        other.first_id = self.first_id
        other.last_id = self.last_id
        other.previous_id = self.previous_id
        other.starts_over = self.starts_over
        other.window = self.window
        other.checksum = self.checksum
        if levels_copy(&other.bid_levels, &self.bid_levels) or levels_copy(&other.ask_levels, &self.ask_levels):
            raise MemoryError("no room to copy a book message")
        return other

    cdef BookDelta rescaled(self):
        cdef BookDelta other = self.copy()
        other.price_decimals = <int8_t> self.instrument.price_decimals
        other.qty_decimals = <int8_t> self.instrument.qty_decimals
        _rescale(&other.bid_levels, self.price_decimals, other.price_decimals, self.qty_decimals, other.qty_decimals)
        _rescale(&other.ask_levels, self.price_decimals, other.price_decimals, self.qty_decimals, other.qty_decimals)
        return other

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self.is_snapshot, self.depth, self.first_id, self.last_id,
                self.previous_id, self.starts_over, self.window, self.checksum, self.bids, self.asks)

    def _what(self):
        kind = "snapshot" if self.is_snapshot else "delta"
        return f"{kind} {self.bid_levels.size} bids {self.ask_levels.size} asks id={self.first_id}..{self.last_id}"


cdef int _rescale(LevelVector* levels, int price_from, int price_to, int qty_from, int qty_to) except -1:
    cdef int64_t price_by = POW10[price_to - price_from]
    cdef int64_t qty_by = POW10[qty_to - qty_from]
    cdef Py_ssize_t i
    for i in range(levels.size):
        if (not -(INT64_MAX // price_by) <= levels.items[i].price <= INT64_MAX // price_by
                or levels.items[i].qty > INT64_MAX // qty_by):
            raise OverflowError(f"a level does not fit int64 at {price_to}/{qty_to} decimals")
        levels.items[i].price *= price_by
        levels.items[i].qty *= qty_by
    return 0


@cython.no_gc
cdef class Ticker(Event):
    """What is known of an instrument besides its book and its trades. What the exchange did not send is None.

    Prices are in the quote currency, `open_interest` in the instrument's quantities, `funding_rate` per funding interval (0.0001
    = longs pay 0.01 %), `next_funding_time` in ns, 0 = unknown. `merged` and `ts_event_first` are as in `Quote`.
    """

    def __init__(self, Instrument instrument not None, *, last_price=None, mark_price=None, index_price=None,
                 open_interest=None, funding_rate=None, int64_t next_funding_time=0, int64_t ts_event=0, int64_t ts_recv=0):
        self.begin(instrument, ts_event, ts_recv)
        set_number(&self._last_price, last_price)
        set_number(&self._mark_price, mark_price)
        set_number(&self._index_price, index_price)
        set_number(&self._open_interest, open_interest)
        set_number(&self._funding_rate, funding_rate)
        self.next_funding_time = next_funding_time
        self.merged = 1
        self.ts_event_first = ts_event

    cpdef dispatch(self, EventHandler handler):
        handler.on_ticker(self)

    @property
    def last_price(self):
        """Price of the last trade as the nearest float, or None."""
        return _number_float(&self._last_price)

    @property
    def last_price_decimal(self):
        """Price of the last trade exactly, or None."""
        return _number_decimal(&self._last_price)

    @property
    def mark_price(self):
        """Mark price as the nearest float, or None."""
        return _number_float(&self._mark_price)

    @property
    def mark_price_decimal(self):
        """Mark price exactly, or None."""
        return _number_decimal(&self._mark_price)

    @property
    def index_price(self):
        """Index price as the nearest float, or None."""
        return _number_float(&self._index_price)

    @property
    def index_price_decimal(self):
        """Index price exactly, or None."""
        return _number_decimal(&self._index_price)

    @property
    def open_interest(self):
        """Open interest as the nearest float, or None."""
        return _number_float(&self._open_interest)

    @property
    def open_interest_decimal(self):
        """Open interest exactly, or None."""
        return _number_decimal(&self._open_interest)

    @property
    def funding_rate(self):
        """Funding rate as the nearest float, or None."""
        return _number_float(&self._funding_rate)

    @property
    def funding_rate_decimal(self):
        """Funding rate exactly, or None."""
        return _number_decimal(&self._funding_rate)

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self.last_price_decimal, self.mark_price_decimal,
                self.index_price_decimal, self.open_interest_decimal, self.funding_rate_decimal, self.next_funding_time,
                self.merged, self.ts_event_first)

    def _what(self):
        return f"last={self.last_price} mark={self.mark_price} funding={self.funding_rate} merged={self.merged}"


@cython.no_gc
cdef class Funding(Event):
    """The funding of a perpetual: `funding_rate` is paid at `next_funding_time` (ns, 0 = unknown) by longs to shorts.

    `next_funding_rate` is what the exchange expects for the interval after that, None where it does not say.
    """

    def __init__(self, Instrument instrument not None, *, funding_rate, next_funding_rate=None, int64_t next_funding_time=0,
                 int64_t ts_event=0, int64_t ts_recv=0):
        self.begin(instrument, ts_event, ts_recv)
        set_number(&self._funding_rate, funding_rate)
        set_number(&self._next_funding_rate, next_funding_rate)
        self.next_funding_time = next_funding_time

    cpdef dispatch(self, EventHandler handler):
        handler.on_funding(self)

    @property
    def funding_rate(self):
        """Funding rate as the nearest float, or None."""
        return _number_float(&self._funding_rate)

    @property
    def funding_rate_decimal(self):
        """Funding rate exactly, or None."""
        return _number_decimal(&self._funding_rate)

    @property
    def next_funding_rate(self):
        """Expected rate of the interval after as the nearest float, or None."""
        return _number_float(&self._next_funding_rate)

    @property
    def next_funding_rate_decimal(self):
        """Expected rate of the interval after exactly, or None."""
        return _number_decimal(&self._next_funding_rate)

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self.funding_rate_decimal, self.next_funding_rate_decimal,
                self.next_funding_time)

    def _what(self):
        return f"{self.funding_rate} at {self.next_funding_time}"


@cython.no_gc
cdef class OpenInterest(Event):
    """The open interest, in the instrument's quantities (contracts where those are contracts)."""

    def __init__(self, Instrument instrument not None, *, open_interest, int64_t ts_event=0, int64_t ts_recv=0):
        self.begin(instrument, ts_event, ts_recv)
        set_number(&self._open_interest, open_interest)

    cpdef dispatch(self, EventHandler handler):
        handler.on_open_interest(self)

    @property
    def open_interest(self):
        """Open interest as the nearest float, or None."""
        return _number_float(&self._open_interest)

    @property
    def open_interest_decimal(self):
        """Open interest exactly, or None."""
        return _number_decimal(&self._open_interest)

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self.open_interest_decimal)

    def _what(self):
        return f"{self.open_interest}"


@cython.no_gc
cdef class Liquidation(Event):
    """A position is liquidated. `side` is that of the closing order: SELL closes a long. `id` is the exchange's or None."""

    def __init__(self, Instrument instrument not None, *, price, qty, side=UNKNOWN, id=None, int64_t ts_event=0,
                 int64_t ts_recv=0):
        self.begin(instrument, ts_event, ts_recv)
        set_number(&self._price, price)
        set_number(&self._qty, qty)
        self._side = side
        self.id = None if id is None else str(id)

    cpdef dispatch(self, EventHandler handler):
        handler.on_liquidation(self)

    @property
    def side(self):
        """The `Side` of the order that closes the position."""
        return _SIDES[<int> self._side]

    @property
    def price(self):
        """Price as the nearest float, or None."""
        return _number_float(&self._price)

    @property
    def price_decimal(self):
        """Price exactly, or None."""
        return _number_decimal(&self._price)

    @property
    def qty(self):
        """Quantity as the nearest float, or None."""
        return _number_float(&self._qty)

    @property
    def qty_decimal(self):
        """Quantity exactly, or None."""
        return _number_decimal(&self._qty)

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self.price_decimal, self.qty_decimal, self._side, self.id)

    def _what(self):
        return f"{self.side.name} {self.qty} @ {self.price} id={self.id}"


@cython.no_gc
cdef class Candle(Event):
    """The trades of an interval: from `ts_open` (ns) on, `interval` seconds long.

    `volume` is in the instrument's quantities, `quote_volume` in the quote currency; what the exchange does not send is None.
    `is_closed` says that the candle is final, None where the exchange does not say.
    """

    def __init__(self, Instrument instrument not None, *, int64_t ts_open, int interval, open, high, low, close,
                 volume=None, quote_volume=None, is_closed=None, int64_t ts_event=0, int64_t ts_recv=0):
        self.begin(instrument, ts_event, ts_recv)
        self.ts_open = ts_open
        self.interval = interval
        self.is_closed = None if is_closed is None else bool(is_closed)
        set_number(&self._open, open)
        set_number(&self._high, high)
        set_number(&self._low, low)
        set_number(&self._close, close)
        set_number(&self._volume, volume)
        set_number(&self._quote_volume, quote_volume)

    cpdef dispatch(self, EventHandler handler):
        handler.on_candle(self)

    @property
    def open(self):
        """Price of the first trade as the nearest float, or None."""
        return _number_float(&self._open)

    @property
    def open_decimal(self):
        """Price of the first trade exactly, or None."""
        return _number_decimal(&self._open)

    @property
    def high(self):
        """Highest price as the nearest float, or None."""
        return _number_float(&self._high)

    @property
    def high_decimal(self):
        """Highest price exactly, or None."""
        return _number_decimal(&self._high)

    @property
    def low(self):
        """Lowest price as the nearest float, or None."""
        return _number_float(&self._low)

    @property
    def low_decimal(self):
        """Lowest price exactly, or None."""
        return _number_decimal(&self._low)

    @property
    def close(self):
        """Price of the last trade as the nearest float, or None."""
        return _number_float(&self._close)

    @property
    def close_decimal(self):
        """Price of the last trade exactly, or None."""
        return _number_decimal(&self._close)

    @property
    def volume(self):
        """Volume as the nearest float, or None."""
        return _number_float(&self._volume)

    @property
    def volume_decimal(self):
        """Volume exactly, or None."""
        return _number_decimal(&self._volume)

    @property
    def quote_volume(self):
        """Volume in the quote currency as the nearest float, or None."""
        return _number_float(&self._quote_volume)

    @property
    def quote_volume_decimal(self):
        """Volume in the quote currency exactly, or None."""
        return _number_decimal(&self._quote_volume)

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self.ts_open, self.interval, self.is_closed, self.open_decimal,
                self.high_decimal, self.low_decimal, self.close_decimal, self.volume_decimal, self.quote_volume_decimal)

    def _what(self):
        return f"{self.interval} s from {self.ts_open}: {self.open} {self.high} {self.low} {self.close} closed={self.is_closed}"


@cython.no_gc
cdef class BookUpdate(Event):
    """A LIVE book has changed: `book` has the newest state; `merged` deltas are in it that no update told of before.

    `ts_event` and `ts_recv` are those of the newest message in it, `ts_event_first` is the ts_event of the oldest merged.
    """

    def __init__(self, OrderBook book not None, *, int merged=1, int64_t ts_event=0, int64_t ts_recv=0,
                 int64_t ts_event_first=0):
        self.begin(book.instrument, ts_event, ts_recv)
        self.book = book
        self.merged = merged
        self.ts_event_first = ts_event_first or ts_event

    cpdef dispatch(self, EventHandler handler):
        handler.on_book(self)

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self.merged, self.ts_event_first)

    def _what(self):
        return f"merged={self.merged} ts_event={self.ts_event}"


@cython.no_gc
cdef class BookStatus(Event):
    """The state of a book has changed from `old` to `new` (`BookState`), for `reason`."""

    def __init__(self, OrderBook book not None, BookState old, BookState new, str reason, *, int64_t ts_event=0,
                 int64_t ts_recv=0):
        self.begin(book.instrument, ts_event, ts_recv)
        self.book = book
        self._old = old
        self._new = new
        self.reason = reason

    cpdef dispatch(self, EventHandler handler):
        handler.on_book_status(self)

    @property
    def old(self):
        """The `BookState` before."""
        return _STATES[<int> self._old]

    @property
    def new(self):
        """The `BookState` now."""
        return _STATES[<int> self._new]

    def _fields(self):
        return (self.instrument, self.ts_event, self.ts_recv, self._old, self._new, self.reason)

    def _what(self):
        return f"{self.old.name} -> {self.new.name}: {self.reason}"


@cython.no_gc
cdef class FeedStatus(Event):
    """Something happened to a connection: `status` is a short word, `reason` a sentence; `instrument` is None.

    Words: "connected", "disconnected", "dead" (the peer answers no ping: the connection is made anew), "silent" (no data for
    longer than a quiet market explains: made anew), "quiet" (no data, from a peer that answers pings: the market may be
    quiet), "stalled" (one subscription brings no data, on a connection that does), "subscribed", "refused" (a subscription
    was answered with an error), "shutdown" (the exchange announced that it will close the connection), "gap" (a message was
    missed on the connection, and nobody knows of which instrument: no book of it can be believed), "fetch_failed" (a REST
    request will not be answered), "problem" (messages of one kind cannot be decoded: told once per kind),
    "silent_subscription" (nothing has come of a subscription), "resnapshot" (a snapshot of a book that is LIVE has been asked
    for, as nothing would show that the book is wrong), "line_joined", "line_behind" and "line_lost" (one of several connections
    that bring the same is in step, is not, or is lost), "rotated", "rotation_failed" and "reconnecting" (a connection that
    nears its greatest age has been replaced, cannot be yet, or is made anew).
    """

    def __init__(self, str exchange, str status, str reason="", *, int source=0, int64_t ts_recv=0):
        self.begin(None, 0, ts_recv)
        self.exchange = exchange
        self.source = source
        self.status = status
        self.reason = reason

    cpdef dispatch(self, EventHandler handler):
        handler.on_feed_status(self)

    def _fields(self):
        return (self.exchange, self.source, self.ts_recv, self.status, self.reason)

    def _what(self):
        return f"{self.exchange}[{self.source}] {self.status}: {self.reason}"


cdef class EventHandler:
    """Receives events. Every method ignores its event unless overridden; exceptions end the session.

    An event may be kept after the call. `BookUpdate.book` may be read only inside the call: it goes on changing.
    """

    cpdef on_trade(self, Trade event):
        """Every trade arrives, in order, as soon as it is decoded."""

    cpdef on_quote(self, Quote event):
        """The best bid and offer; behind a `Conflator` only the newest of a batch."""

    cpdef on_book_delta(self, BookDelta event):
        """Every book message, as the exchange sent it, whether or not the book could use it."""

    cpdef on_book(self, BookUpdate event):
        """A LIVE book has changed; behind a `Conflator` at most once per batch and instrument."""

    cpdef on_book_status(self, BookStatus event):
        """The state of a book has changed."""

    cpdef on_feed_status(self, FeedStatus event):
        """The state of a connection has changed, or it sent something that cannot be decoded."""

    cpdef on_ticker(self, Ticker event):
        """Last, mark and index price, open interest, funding; behind a `Conflator` the newest of a batch, field by field."""

    cpdef on_funding(self, Funding event):
        """The funding rate of a perpetual."""

    cpdef on_open_interest(self, OpenInterest event):
        """The open interest."""

    cpdef on_liquidation(self, Liquidation event):
        """A position is liquidated."""

    cpdef on_candle(self, Candle event):
        """A candle has changed or closed."""

    cpdef on_batch_end(self, int64_t ts_recv):
        """All messages of one socket read have been dispatched."""


cdef class Stage(EventHandler):
    """A handler that does one thing to the events on their way to `downstream`."""

    def __init__(self, EventHandler downstream not None):
        self.downstream = downstream

    cpdef on_trade(self, Trade event):
        self.downstream.on_trade(event)

    cpdef on_quote(self, Quote event):
        self.downstream.on_quote(event)

    cpdef on_book_delta(self, BookDelta event):
        self.downstream.on_book_delta(event)

    cpdef on_book(self, BookUpdate event):
        self.downstream.on_book(event)

    cpdef on_book_status(self, BookStatus event):
        self.downstream.on_book_status(event)

    cpdef on_feed_status(self, FeedStatus event):
        self.downstream.on_feed_status(event)

    cpdef on_ticker(self, Ticker event):
        self.downstream.on_ticker(event)

    cpdef on_funding(self, Funding event):
        self.downstream.on_funding(event)

    cpdef on_open_interest(self, OpenInterest event):
        self.downstream.on_open_interest(event)

    cpdef on_liquidation(self, Liquidation event):
        self.downstream.on_liquidation(event)

    cpdef on_candle(self, Candle event):
        self.downstream.on_candle(event)

    cpdef on_batch_end(self, int64_t ts_recv):
        self.downstream.on_batch_end(ts_recv)


cdef class Fanout(EventHandler):
    """Gives every event to each of `handlers`, in their order."""

    def __init__(self, handlers):
        self.handlers = list(handlers)
        for handler in self.handlers:
            if not isinstance(handler, EventHandler):
                raise TypeError(f"expected handlers, found {handler!r}")

    cpdef on_trade(self, Trade event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_trade(event)

    cpdef on_quote(self, Quote event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_quote(event)

    cpdef on_book_delta(self, BookDelta event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_book_delta(event)

    cpdef on_book(self, BookUpdate event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_book(event)

    cpdef on_book_status(self, BookStatus event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_book_status(event)

    cpdef on_feed_status(self, FeedStatus event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_feed_status(event)

    cpdef on_ticker(self, Ticker event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_ticker(event)

    cpdef on_funding(self, Funding event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_funding(event)

    cpdef on_open_interest(self, OpenInterest event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_open_interest(event)

    cpdef on_liquidation(self, Liquidation event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_liquidation(event)

    cpdef on_candle(self, Candle event):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_candle(event)

    cpdef on_batch_end(self, int64_t ts_recv):
        cdef EventHandler handler
        for handler in self.handlers:
            handler.on_batch_end(ts_recv)
