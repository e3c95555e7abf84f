# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The base of decoders whose messages msgspec reads: turns numbers as text into events, and errors into `DecodeError`s."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from feeds.events cimport (
    BUY, SELL, UNKNOWN, Candle, EventHandler, FeedStatus, Funding, Liquidation, OpenInterest, Quote, Side, Ticker, Trade,
    set_number,
)
from feeds.instrument cimport Instruments
from feeds.large cimport LargeMessage, large_levels
from feeds.levels cimport (
    SCAN_BAD, SCAN_GROW, SCAN_NEGATIVE, SCAN_NO_MEMORY, SCAN_OK, SCAN_OVERFLOW, SCAN_TOO_MANY, levels_push, scan_number_value,
    scan_padded_value, scan_shaped_levels, skip_space,
)
from feeds.supersede cimport SupersedeKey

import zlib

import msgspec

from feeds.decoder import Reconnect, Refused
from feeds.errors import DecodeError, excerpt, keys_text

__all__ = ["PRICE_QTY", "MessageDecoder", "inflate"]

cdef enum:
    MAX_DECIMALS = 18

DEFAULT_MAX_INFLATED_SIZE = 64 * 1024 * 1024
_STATUS_TEXTS = {
    SCAN_BAD: "something else", SCAN_OVERFLOW: "one beyond int64", SCAN_NO_MEMORY: "too many (out of memory)",
    SCAN_TOO_MANY: "too many levels", SCAN_NEGATIVE: "a negative quantity",
}


_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def inflate(bytes payload not None, int wbits=31, Py_ssize_t max_size=DEFAULT_MAX_INFLATED_SIZE):
    """Return what a compressed message holds, at most `max_size` bytes: `wbits` 31 for gzip, -15 for raw deflate.

    ValueError where it is not all of one compressed stream, or holds more.
    """
    decompressor = zlib.decompressobj(wbits)
    try:
        text = decompressor.decompress(payload, max_size)
    except zlib.error as error:
        raise ValueError(f"expected a compressed message: {error}") from None
    if not decompressor.eof:
        raise ValueError(f"expected a compressed message of at most {max_size} bytes, found one that is cut off or has more")
    return text


PRICE_QTY = LevelShape()


cdef class MessageDecoder(Decoder):
    """Decodes the messages of one connection that msgspec reads.

    A subclass implements `decode_message(payload)` and, where it asks for replies, `decode_snapshot(tag, payload)`. What it
    finds it hands to `trade`, `quote`, `book`, `ticker`, `funding`, `open_interest`, `liquidation` and `candle`, with numbers
    as the text that stands in the message (str, bytes, msgspec.Raw) and times in ns (`feeds.times`); `ts_recv` is added here.
    Events go downstream when the whole message has been read: one that is refused emits nothing.

    Errors of msgspec, and ValueError, TypeError, LookupError and ArithmeticError out of `decode_message`, become
    `DecodeError`. A message that is understood and tells nothing is counted by `nothing(kind)`; `silent_kinds` says why.
    """

    silent_kinds = {}            # kind -> why messages of it emit nothing
    levels = PRICE_QTY           # how levels are written, where `book` is not told otherwise
    # What a message of a book looks like, a damaged one too, where nothing later shows that one is missing.
    unnumbered = None
    padded = False               # numbers of trades and quotes have all of the instrument's decimals
    # Patterns of `SupersedeKey`: kinds of which a message emits the whole state of its stream, as quotes, tickers or
    # top-N snapshots, and always of the same kind.
    supersede_keys = ()

    def __cinit__(self, Instruments instruments not None, EventHandler downstream not None, **_):
        self.silent = {}
        self._events = []
        self._known = {}
        self._tickers = {}
        self._live_trades = set()
        self._keys = ()

    def __init__(self, Instruments instruments not None, EventHandler downstream not None, *, str exchange,
                 bint reference=False):
        Decoder.__init__(self, instruments, downstream, exchange=exchange, reference=reference)
        self._is_padded = self.padded
        self._keys = tuple([SupersedeKey(pattern) for pattern in self.supersede_keys])

    # --- messages in --------------------------------------------------------------------------------------------

    def decode_message(self, bytes payload):
        """Decode one message: for subclasses."""
        raise self.error("unknown_message", "expected a known message")

    def decode_snapshot(self, str tag, bytes payload):
        """Decode the reply to the `Fetch` with this tag: for subclasses that ask for any."""
        raise self.error("unknown_reply", f"expected no reply, found one for {tag!r}")

    def infer(self, str raw_symbol):
        """Return (our symbol or None, kind) of a symbol that no metadata names: for subclasses. Only what is certain."""
        return None, "unknown"

    cpdef decode_other(self, bytes payload, int64_t ts_recv):
        self.ts_recv = ts_recv
        self._in_reply = False
        try:
            self._run(self.decode_message, (payload,), payload)
        except DecodeError as error:
            if self.unnumbered is not None and not error.lost and error.kind != "unknown_symbol" and self.unnumbered.search(payload):
                # No later message will show that this one is missing, and nobody knows of which book it was.
                FeedStatus(self.exchange, "gap", "a message of a book could not be read", ts_recv=ts_recv).dispatch(
                    self.downstream)
            raise

    cdef Route find_route(self, const char** at, const char* end):
        cdef SupersedeKey key
        cdef Route route
        for key in self._keys:
            route = key.find(at, end)
            if route is not None:
                self._has_route = True
                return route
        self._has_route = False
        return None

    cdef bint scan_routed(self, Route route, const char* data, const char* end, int64_t ts_recv) except -1:
        return False

    cpdef decode_reply(self, str tag, bytes payload, int64_t ts_recv):
        cdef LargeMessage large = None if self._large != NULL else self.take_apart(payload)
        if large is not None:                        # what is taken from msgspec is read faster
            self.decode_large(large, tag, ts_recv)
            return
        self.ts_recv = ts_recv
        self._in_reply = True
        self._run(self.decode_snapshot, (tag, payload), payload)

    cdef int _run(self, object decode, tuple arguments, bytes payload) except -1:
        cdef list events
        cdef Event event
        if self.ts_began == 0:
            self.ts_began = self.ts_recv
        self._deferred = self._booked = None
        self._events = events = []
        try:
            self._decode(decode, arguments, payload)
        except DecodeError as error:
            error.lost = self._lost(events)
            raise
        error = self._deferred
        self.told_nothing = not events
        if self.stands_for != 1 and events:
            self._stand_for(events)
        elif self.holder is not None and events and not self._has_route and not self._in_reply:
            if self._keys and error is None:
                self._learn(payload, events)
            self.holder.give_way(events, self.ts_recv)
        for event in events:
            event.dispatch(self.downstream)
        if error is not None:
            error.payload = payload
            raise error
        return 0

    cdef int _decode(self, object decode, tuple arguments, bytes payload) except -1:
        try:
            decode(*arguments)
        except DecodeError as error:
            if not error.payload:
                error.payload = payload
            raise
        except msgspec.ValidationError as error:
            raise self._invalid(str(error), payload) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(f"{self.exchange}: expected JSON, found: {error}", kind="not_json", payload=payload) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise DecodeError(f"{self.exchange}: {type(error).__name__}: {error}", kind="bad_value", payload=payload) from error
        return 0

    def _lost(self, list events):
        """Return the instruments of whose books a message told that is refused."""
        found = dict.fromkeys(event.instrument for event in events if isinstance(event, BookDelta))
        if self._booked is not None:
            found[self._booked] = None
        return tuple(found)

    cdef int _learn(self, bytes payload, list events) except -1:
        cdef const char* data = PyBytes_AS_STRING(payload)
        cdef SupersedeKey key
        cdef Event event
        cdef Event first = events[0]
        cdef bint of_book = False
        for event in events:
            if event.instrument is not first.instrument:
                return 0
            if isinstance(event, BookDelta):
                if not ((<BookDelta> event).is_snapshot and (<BookDelta> event).depth):
                    return 0
                of_book = True
            elif not isinstance(event, (Quote, Ticker)):
                return 0
        for key in self._keys:
            if key.add(data, data + PyBytes_GET_SIZE(payload), first.instrument, of_book):
                break
        return 0

    cdef int _stand_for(self, list events) except -1:
        for event in events:
            if isinstance(event, Quote):
                (<Quote> event).merged = self.stands_for
            elif isinstance(event, Ticker):
                (<Ticker> event).merged = self.stands_for
            elif isinstance(event, BookDelta):
                (<BookDelta> event).merged = self.stands_for
        self.stands_for = 1
        return 0

    def _invalid(self, text, bytes payload):
        if "missing required field" in text:
            name = text.split("`")[1]
            return DecodeError(f"{self.exchange}: expected '{name}', found {keys_text(payload)} ({text})",
                               kind="missing_field", payload=payload)
        return DecodeError(f"{self.exchange}: {text[:1].lower()}{text[1:]}", kind="wrong_type", payload=payload)

    def error(self, str kind not None, str text not None):
        """Return the exception to raise for the message being decoded."""
        return DecodeError(f"{self.exchange}: {text}", kind=kind)

    def messages(self, bytes payload not None):
        """Return the messages of a payload: itself, or those of an array. DecodeError where that is empty."""
        if payload[:1] != b"[":
            return [payload]
        messages = _decode_array(payload)
        if not messages:
            raise self.error("unknown_message", "expected messages, found an empty array")
        return messages

    # --- what a message is about ----------------------------------------------------------------------------------

    def nothing(self, str kind not None):
        """Count a message that is understood and emits nothing; `silent_kinds` must name its kind."""
        if kind not in self.silent_kinds:
            raise self.error("unknown_message", f"expected a silent kind among {sorted(self.silent_kinds)}, found {kind!r}")
        self.silent[kind] = self.silent.get(kind, 0) + 1

    def find(self, str raw_symbol not None):
        """Return the instrument, or None for an unknown symbol: the message goes on and is counted when it has been read."""
        cdef Instrument instrument = self._known.get(raw_symbol)
        if instrument is not None:
            return instrument
        instrument = self.instruments.known(self.exchange, raw_symbol)
        if instrument is None and raw_symbol and self.instruments.infers(self.exchange):
            symbol, kind = self.infer(raw_symbol)
            if symbol is not None and self.instruments.is_named(self.exchange, symbol):
                symbol = None                        # another has that name: which is right cannot be told
            instrument = self.instruments.add(self.exchange, raw_symbol, symbol=symbol, kind=kind)
        if instrument is None:
            self.defer("unknown_symbol", f"expected a known symbol, found {excerpt(raw_symbol.encode())!r}")
            return None
        self._known[raw_symbol] = instrument
        return instrument

    def is_backlog(self, Instrument instrument not None, int64_t ts_event):
        """Whether a trade is from before this connection, by its time: until the first one that is not.

        For exchanges that repeat trades after a subscription and do not mark them. The two clocks are compared only then.
        """
        if instrument in self._live_trades:
            return False
        if ts_event < self.ts_began:
            return True
        self._live_trades.add(instrument)
        return False

    def defer(self, str kind not None, str text not None):
        """Count one record of the message as a problem; the others are decoded."""
        if self._deferred is None:
            self._deferred = self.error(kind, text)

    def refused(self, str reason not None):
        """The exchange refused a subscription."""
        reason = excerpt(reason.encode())
        self.request(Refused(reason))
        self._events.append(FeedStatus(self.exchange, "refused", reason, ts_recv=self.ts_recv))

    def reconnect(self, str reason not None):
        """The exchange announced that it will close the connection, or it must be made anew."""
        reason = excerpt(reason.encode())
        self.request(Reconnect(reason))
        self._events.append(FeedStatus(self.exchange, "shutdown", reason, ts_recv=self.ts_recv))

    def lost(self, str reason not None):
        """A message of the connection was missed, nobody knows of which instrument: every book has a gap."""
        self._events.append(FeedStatus(self.exchange, "gap", reason, ts_recv=self.ts_recv))

    # --- events out -----------------------------------------------------------------------------------------------

    def trade(self, Instrument instrument not None, price, qty, *, Side side=UNKNOWN, id=None, int64_t ts_event=0,
              bint is_backlog=False, int price_scale=0, int qty_scale=0):
        """Emit a `Trade`. `id` is an int or text; `price_scale` and `qty_scale` as in `book`."""
        cdef Trade trade
        cdef Decimals decimals
        cdef int64_t price_mantissa
        cdef int64_t qty_mantissa
        while True:
            _start(&decimals, instrument, price_scale, qty_scale)
            self._number(price, "price", decimals.price, &price_mantissa, &decimals.needed_price)
            self._number(qty, "qty", decimals.qty, &qty_mantissa, &decimals.needed_qty)
            if not self._grow(instrument, &decimals, price_scale, qty_scale):
                break
        if qty_mantissa < 0:
            raise self.error("bad_value", f"expected a quantity of at least 0, found {qty!r}")
        trade = Trade.__new__(Trade)
        trade.begin(instrument, ts_event, self.ts_recv)
        trade.price_mantissa = price_mantissa
        trade.qty_mantissa = qty_mantissa
        trade._side = side
        trade.is_backlog = is_backlog
        trade.numeric_id = -1
        if isinstance(id, int) and 0 <= id < 2**63:
            trade.numeric_id = id
        elif id is not None:
            trade.text_id = str(id)
        self._events.append(trade)

    def quote(self, Instrument instrument not None, bid_price, bid_qty, ask_price, ask_qty, *, int64_t sequence=0,
              int64_t ts_event=0, int price_scale=0, int qty_scale=0):
        """Emit a `Quote`. A side without price or with a quantity of 0 is missing; a quantity of None is not known."""
        cdef Quote quote
        cdef Decimals decimals
        cdef int64_t prices[2]
        cdef int64_t qtys[2]
        while True:
            _start(&decimals, instrument, price_scale, qty_scale)
            self._quote_side(bid_price, bid_qty, &decimals, &prices[0], &qtys[0])
            self._quote_side(ask_price, ask_qty, &decimals, &prices[1], &qtys[1])
            if not self._grow(instrument, &decimals, price_scale, qty_scale):
                break
        quote = Quote.__new__(Quote)
        quote.begin(instrument, ts_event, self.ts_recv)
        quote.bid_price_mantissa, quote.bid_qty_mantissa = prices[0], qtys[0]
        quote.ask_price_mantissa, quote.ask_qty_mantissa = prices[1], qtys[1]
        quote.sequence = sequence
        quote.merged = 1
        quote.ts_event_first = ts_event
        self._events.append(quote)

    cdef int _quote_side(self, object price, object qty, Decimals* decimals, int64_t* price_mantissa,
                         int64_t* qty_mantissa) except -1:
        price_mantissa[0] = qty_mantissa[0] = 0
        if price is None or (not isinstance(price, int) and len(price) == 0):
            return 0
        self._number(price, "price", decimals.price, price_mantissa, &decimals.needed_price)
        if qty is None or (not isinstance(qty, int) and len(qty) == 0):
            qty_mantissa[0] = -1
        else:
            self._number(qty, "qty", decimals.qty, qty_mantissa, &decimals.needed_qty)
            if qty_mantissa[0] < 0:
                raise self.error("bad_value", f"expected a quantity of at least 0, found {qty!r}")
        if price_mantissa[0] == 0 and decimals.needed_price <= decimals.price:
            qty_mantissa[0] = 0                      # exchanges write 0 for a side that is empty
        return 0

    def book(self, Instrument instrument not None, bids, asks, *, LevelShape shape=None, bint is_snapshot=False,
             starts_over=None, int depth=0, int window=0, int64_t first_id=-1, int64_t last_id=-1, int64_t previous_id=-1,
             checksum=None, int64_t ts_event=0, int price_scale=0, int qty_scale=0):
        """Emit a `BookDelta`.

        `bids` and `asks` are JSON arrays (msgspec.Raw or bytes, written as `shape` says), lists of (price, qty), None, or a
        tuple of (array, shape) where a message has several. A shape with a `side`, or a signed one, finds both sides in
        `bids`. `depth` marks a top-N stream; `window` is how many
        levels of a side the exchange keeps us told of; without `first_id` it is `previous_id`; `checksum` is of the book with this message in it, signed or not. A
        snapshot `starts_over` unless it is a reply of REST: say False where it was asked for on the connection and has to be
        joined with the deltas that came meanwhile. `price_scale` n means that prices are written in units of 10**-n.
        """
        cdef BookDelta delta = BookDelta.__new__(BookDelta)
        cdef Decimals decimals
        self._booked = instrument
        if shape is None:
            shape = self.levels
        while True:
            _start(&decimals, instrument, price_scale, qty_scale)
            delta.bid_levels.size = delta.ask_levels.size = 0
            self._levels(bids, shape, False, &delta.bid_levels, &delta.ask_levels, &decimals)
            self._levels(asks, shape, True, &delta.bid_levels, &delta.ask_levels, &decimals)
            if not self._grow(instrument, &decimals, price_scale, qty_scale):
                break
        delta.begin(instrument, ts_event, self.ts_recv)
        delta.is_snapshot = is_snapshot
        delta.starts_over = is_snapshot and (not self._in_reply if starts_over is None else starts_over)
        delta.depth = depth
        delta.window = window
        delta.first_id = previous_id if first_id < 0 else first_id      # from there on it tells what has changed
        delta.last_id = last_id
        delta.previous_id = previous_id
        if checksum is not None:
            delta.checksum = checksum & 0xFFFFFFFF
        self._events.append(delta)

    def ticker(self, Instrument instrument not None, *, bint merge=False, int64_t ts_event=0, last_price=None,
               mark_price=None, index_price=None, open_interest=None, funding_rate=None, next_funding_time=None):
        """Emit a `Ticker`; None and "" are not known. One of which nothing is known is not emitted.

        With `merge` the message has only what changed: what it does not have is as the messages before said.
        """
        cdef list fields = [last_price, mark_price, index_price, open_interest, funding_rate, next_funding_time]
        cdef Ticker ticker
        if merge:
            known = self._tickers.setdefault(instrument, [None] * len(fields))
            for i, field in enumerate(fields):
                if field is not None:
                    known[i] = bytes(field) if isinstance(field, msgspec.Raw) else field
            fields = known
        for field in fields:
            if field is not None and field != "":
                break
        else:
            return
        ticker = Ticker.__new__(Ticker)
        ticker.begin(instrument, ts_event, self.ts_recv)
        set_number(&ticker._last_price, fields[0])
        set_number(&ticker._mark_price, fields[1])
        set_number(&ticker._index_price, fields[2])
        set_number(&ticker._open_interest, fields[3])
        set_number(&ticker._funding_rate, fields[4])
        ticker.next_funding_time = fields[5] or 0
        ticker.merged = 1
        ticker.ts_event_first = ts_event
        self._events.append(ticker)

    def funding(self, Instrument instrument not None, *, funding_rate, next_funding_rate=None, int64_t next_funding_time=0,
                int64_t ts_event=0):
        """Emit a `Funding`."""
        self._events.append(Funding(
            instrument, funding_rate=funding_rate, next_funding_rate=next_funding_rate, next_funding_time=next_funding_time,
            ts_event=ts_event, ts_recv=self.ts_recv))

    def open_interest(self, Instrument instrument not None, open_interest, *, int64_t ts_event=0):
        """Emit an `OpenInterest`."""
        self._events.append(OpenInterest(instrument, open_interest=open_interest, ts_event=ts_event, ts_recv=self.ts_recv))

    def liquidation(self, Instrument instrument not None, price, qty, *, Side side=UNKNOWN, id=None, int64_t ts_event=0):
        """Emit a `Liquidation`. `side` is that of the order that closes the position."""
        self._events.append(Liquidation(instrument, price=price, qty=qty, side=side, id=id, ts_event=ts_event,
                                        ts_recv=self.ts_recv))

    def candle(self, Instrument instrument not None, *, int64_t ts_open, int interval, open, high, low, close, volume=None,
               quote_volume=None, is_closed=None, int64_t ts_event=0):
        """Emit a `Candle`."""
        cdef Candle candle = Candle.__new__(Candle)
        candle.begin(instrument, ts_event, self.ts_recv)
        candle.ts_open = ts_open
        candle.interval = interval
        candle.is_closed = None if is_closed is None else bool(is_closed)
        set_number(&candle._open, open)
        set_number(&candle._high, high)
        set_number(&candle._low, low)
        set_number(&candle._close, close)
        set_number(&candle._volume, volume)
        set_number(&candle._quote_volume, quote_volume)
        self._events.append(candle)

    # --- numbers --------------------------------------------------------------------------------------------------

    cdef int _number(self, object value, str field, int decimals, int64_t* mantissa, int* needed) except -1:
        """Read a number. What it lacks in decimals is in `needed`; the mantissa is then of no use."""
        cdef Py_buffer view
        cdef const char* text
        cdef Py_ssize_t size
        cdef int status
        if isinstance(value, int):
            value = str(value)
        if isinstance(value, str):
            text = PyUnicode_AsUTF8AndSize(value, &size)
            status = self._scan_number(text, text + size, decimals, mantissa, needed)
        else:
            PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
            text = <const char*> view.buf
            status = self._scan_number(text, text + view.len, decimals, mantissa, needed)
            PyBuffer_Release(&view)
        if status != SCAN_OK and status != SCAN_GROW:
            raw = value.encode() if isinstance(value, str) else bytes(value)
            raise self.error("bad_value", f"expected a decimal number as {field}, found "
                                          f"{_STATUS_TEXTS[status]}: {excerpt(raw, 40)!r}")
        return 0

    cdef int _scan_number(self, const char* p, const char* end, int decimals, int64_t* mantissa, int* needed) noexcept:
        """Read a number that is all there is."""
        cdef int status
        if self._is_padded:
            status = scan_padded_value(&p, end, decimals, mantissa, needed)
        else:
            status = scan_number_value(&p, end, decimals, mantissa, needed)
        return SCAN_BAD if (status == SCAN_OK or status == SCAN_GROW) and p != end else status

    cdef int _levels(self, object levels, LevelShape shape, bint is_ask, LevelVector* bids, LevelVector* asks,
                     Decimals* decimals) except -1:
        cdef Py_buffer view
        cdef const char* p
        cdef const char* end
        cdef int64_t price
        cdef int64_t qty
        cdef int status
        if levels is None or len(levels) == 0:
            return 0
        if isinstance(levels, tuple):
            for part, part_shape in levels:
                self._levels(part, part_shape, is_ask, bids, asks, decimals)
            return 0
        if isinstance(levels, list):
            for price_text, qty_text in levels:
                self._number(price_text, "price", decimals.price, &price, &decimals.needed_price)
                self._number(qty_text, "qty", decimals.qty, &qty, &decimals.needed_qty)
                if qty < 0:
                    raise self.error("bad_value", f"expected a quantity of at least 0, found {qty_text!r}")
                if levels_push(asks if is_ask else bids, price, qty) != SCAN_OK:
                    raise MemoryError("no room for the levels of a book message")
            return 0
        PyObject_GetBuffer(levels, &view, PyBUF_SIMPLE)
        try:
            p = <const char*> view.buf
            end = p + view.len
            if view.len == 4 and memcmp(p, b"null", 4) == 0:
                return 0
            status = large_levels(self._large, &p, is_ask, bids, asks, decimals)
            if status < 0:
                status = scan_shaped_levels(&p, end, &shape.shape, bids, asks, is_ask, decimals)
            if (status == SCAN_OK or status == SCAN_GROW) and skip_space(p, end) != end:
                status = SCAN_BAD
            if status != SCAN_OK and status != SCAN_GROW:
                raise self.error("bad_value", f"expected an array of levels as {'asks' if is_ask else 'bids'}, found "
                                              f"{_STATUS_TEXTS[status]}")
        finally:
            PyBuffer_Release(&view)
        return 0

    cdef int _grow(self, Instrument instrument, Decimals* decimals, int price_scale, int qty_scale) except -1:
        """Give the instrument the decimals that a message needs. True: read it again."""
        cdef int price = decimals.needed_price + price_scale
        cdef int qty = decimals.needed_qty + qty_scale
        if price <= instrument.price_decimals and qty <= instrument.qty_decimals:
            return False
        if price > MAX_DECIMALS or qty > MAX_DECIMALS:
            raise self.error("bad_value", f"expected at most {MAX_DECIMALS} decimals, found {max(price, qty)}")
        instrument.grow(price, qty)
        return True


cdef inline void _start(Decimals* decimals, Instrument instrument, int price_scale, int qty_scale) noexcept:
    """Read numbers in units of 10**-scale so that their mantissas are at the instrument's decimals."""
    decimals.price = decimals.needed_price = max(instrument.price_decimals - price_scale, 0)
    decimals.qty = decimals.needed_qty = max(instrument.qty_decimals - qty_scale, 0)
