# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, nonecheck=True
"""Decoders: messages in, events out; and what a decoder may ask for."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport calloc, free

from feeds.events cimport BUY, SELL, is_unshared
from feeds.levels cimport SCAN_GROW, SCAN_OK, skip_space
from feeds.scan cimport feeds_name, feeds_same
from feeds.wire cimport (
    ASK_PRICE, ASK_QTY, BID_PRICE, BID_QTY, BOOK_DELTA, BUYER_IS_MAKER, FIRST_ID, LAST_ID, ONLY, PREVIOUS_ID, PRICE, QTY,
    QUOTE, SEQUENCE, TRADE, TRADE_ID, TS_EVENT, TS_PUBLISH,
)

import msgspec

from feeds.errors import DecodeError
from feeds.large import take_apart

__all__ = ["Decoder", "Fetch", "Reconnect", "Refused", "Request", "Resubscribe", "Send"]


class Send(msgspec.Struct, frozen=True, tag=True):
    """Send `payload` on the connection."""

    payload: bytes


class Fetch(msgspec.Struct, frozen=True, tag=True):
    """Get `url`, relative to the exchange's REST address, and give the reply to `decode_reply` under `tag`.

    A `url` with a scheme goes where it says. With a `body` it is a POST of that JSON.
    """

    url: str
    tag: str
    body: bytes = b""


class Resubscribe(msgspec.Struct, frozen=True, tag=True):
    """Send `messages`, in order, so that a new snapshot comes; repeated for the same `tag` after a growing wait, as a `Fetch`."""

    messages: tuple[bytes, ...]
    tag: str


class Reconnect(msgspec.Struct, frozen=True, tag=True):
    """The exchange says that it will end this connection: connect anew."""

    reason: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The exchange refused a subscription: tell whoever asked for it."""

    reason: str


Request = Send | Fetch | Resubscribe | Reconnect | Refused

cdef enum:
    MAX_DECIMALS = 18
    MIN_LARGE = 128 * 1024   # bytes of a message that is taken apart
    ROUTE_PADDING = 8        # names are read by chunks of so many bytes
    PATIENCE = 16            # messages unlike the template of their route until it is made anew

DEFAULT_MAX_ROUTES = 65_536
cdef Py_ssize_t MAX_ROUTES = DEFAULT_MAX_ROUTES      # stream names come from the peer


cdef class Holder:

    cdef int give_way(self, list events, int64_t ts_recv) except -1:
        raise NotImplementedError


cdef class Decoder:
    """Turns the messages of one connection into events for `downstream`.

    A subclass says where its streams lie in a message (`envelope`), registers routes, and decodes everything else in
    `decode_other`. It reads no clock, does no I/O, and asks for what it needs: `take_requests()`.
    """

    # (before the stream name, between name and payload, after the payload); None: messages have no such form.
    envelope = None
    # Arrays of levels that may be large, as (name, LevelShape): those that are fields of type msgspec.Raw, or of a `Wire`.
    # What decodes the message then has a placeholder in their place, which `book` and `decode_whole` know.
    large_arrays = ()

    def __cinit__(self, Instruments instruments not None, EventHandler downstream not None, **_):
        self.instruments = instruments
        self.downstream = downstream
        self.stands_for = 1
        self._requests = []
        self._routes = []
        self._slot_count = 64
        self._slots = <RouteSlot*> calloc(self._slot_count, sizeof(RouteSlot))
        if self._slots == NULL:
            raise MemoryError()
        self._trade = Trade.__new__(Trade)
        self._quote = Quote.__new__(Quote)
        self._delta = BookDelta.__new__(BookDelta)

    def __init__(self, Instruments instruments not None, EventHandler downstream not None, *, str exchange,
                 bint reference=False):
        self.exchange = exchange
        self.reference = reference
        if self.envelope is not None:
            self._before, self._between, self._after = self.envelope

    def __dealloc__(self):
        free(self._slots)

    def take_requests(self):
        """Return what the decoder has asked for since the last call (`Request`s), in order."""
        if not self._requests:
            return ()
        requests, self._requests = self._requests, []
        return requests

    @property
    def has_requests(self):
        """Whether `take_requests` would return any."""
        return bool(self._requests)

    def request(self, request):
        """Ask for something: for subclasses."""
        self._requests.append(request)

    def add_route(self, str name, Wire wire not None, Instrument instrument not None):
        """Send messages on the stream `name` through the hot engine from now on.

        A name that JSON writes with escapes has no route: routes are found by the bytes of the message.
        """
        cdef Route route
        if '"' in name or "\\" in name or not name.isprintable() or self._before is None or len(self._routes) >= MAX_ROUTES:
            return
        route = _route(name.encode(), self._between, self._after, wire, instrument)
        if self._slot_of(route.text, <const char*> route.text + len(route.text)).text == NULL:
            self._insert(route)

    cpdef decode(self, bytes payload, int64_t ts_recv):
        """Decode one message; its events go to `downstream`. DecodeError for one that breaks the protocol."""
        if payload is None:
            raise TypeError("expected bytes, found None")
        self.decode_view(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), ts_recv)

    cpdef decode_other(self, bytes payload, int64_t ts_recv):
        """Decode a message that no route takes."""
        raise DecodeError(f"{self.exchange}: expected a known message", kind="unknown_message", payload=payload)

    cpdef decode_reply(self, str tag, bytes payload, int64_t ts_recv):
        """Decode the reply to the `Fetch` that was asked for with `tag`."""
        raise DecodeError(f"{self.exchange}: expected no reply, found one for {tag!r}", kind="unknown_reply",
                          payload=payload)

    cpdef LargeMessage take_apart(self, bytes payload):
        """Read the large arrays of a message, in any thread. None: it has none, or is to be decoded as it is."""
        if self.reference or len(payload) < MIN_LARGE or not self.large_arrays:
            return None
        return take_apart(payload, self.large_arrays)

    cpdef decode_large(self, LargeMessage message, str tag, int64_t ts_recv):
        """Decode a message that was taken apart; with a `tag`, a reply."""
        self._large = &message.arrays
        try:
            if tag is None:
                self.referred += 1
                self.decode_other(message.text, ts_recv)
            else:
                self.decode_reply(tag, message.text, ts_recv)
        except DecodeError as error:
            if error.payload == message.text:
                error.payload = message.payload
            raise
        finally:
            self._large = NULL

    cpdef request_snapshot(self, Instrument instrument):
        """Ask for a new snapshot of the instrument's book, in whichever way the exchange gives one."""
        raise NotImplementedError(f"{self.exchange}: snapshots cannot be asked for")

    cdef int decode_view(self, const char* data, Py_ssize_t size, int64_t ts_recv) except -1:
        if not self.scan_view(data, size, ts_recv):
            self.refer_view(data, size, ts_recv)
        return 0

    cdef bint scan_view(self, const char* data, Py_ssize_t size, int64_t ts_recv) except -1:
        cdef const char* payload = data
        cdef Route route = self._route_of(&payload, data + size)
        return route is not None and self.scan_routed(route, payload, data + size, ts_recv)

    cdef int refer_view(self, const char* data, Py_ssize_t size, int64_t ts_recv) except -1:
        cdef bytes payload = data[:size]
        cdef LargeMessage large = None
        if size >= MIN_LARGE:
            large = self.take_apart(payload)
        if large is not None:
            self.decode_large(large, None, ts_recv)
        else:
            self.referred += 1
            self.decode_other(payload, ts_recv)
        return 0

    cpdef decode_whole(self, Wire wire, Instrument instrument, bytes payload, int64_t ts_recv):
        """Decode a payload that is a message of the kind `wire` and nothing else: a reply, which may be large."""
        cdef const char* data = PyBytes_AS_STRING(payload)
        cdef Values values
        self._prepare(wire, instrument, &values)
        if not self.reference and self._scan(wire, instrument, data, data + PyBytes_GET_SIZE(payload), b"", &values):
            self._emit(wire, instrument, &values, ts_recv)
        else:
            self.decode_as(wire, instrument, payload, ts_recv)

    cpdef decode_as(self, Wire wire, Instrument instrument, object data, int64_t ts_recv):
        """Decode `data`, the payload of a message of the kind `wire`, with the reference engine."""
        try:
            self._decode_as(wire, instrument, data, ts_recv)
        except DecodeError as error:
            if wire.kind == BOOK_DELTA:
                error.lost = (instrument,)
            raise

    def _decode_as(self, Wire wire, Instrument instrument, object data, int64_t ts_recv):
        cdef Values values
        self._prepare(wire, instrument, &values)
        if wire.read(data, &values) == SCAN_GROW:
            if values.decimals.needed_price > MAX_DECIMALS or values.decimals.needed_qty > MAX_DECIMALS:
                raise DecodeError(
                    f"{wire.name}: expected at most {MAX_DECIMALS} decimals, found "
                    f"{max(values.decimals.needed_price, values.decimals.needed_qty)}", kind="bad_value", payload=bytes(data))
            self._prepare_grown(wire, instrument, &values)
            wire.read(data, &values)
        if not _set_time(&values):
            raise DecodeError(f"{wire.name}: expected a time in ms, us or ns since the epoch, found "
                              f"{values.of[<int> TS_EVENT]}", kind="bad_value", payload=bytes(data))
        self._emit(wire, instrument, &values, ts_recv)

    cdef Route find_route(self, const char** at, const char* end):
        return self._route_of(at, end)

    cdef bint scan_routed(self, Route route, const char* data, const char* end, int64_t ts_recv) except -1:
        """Decode the payload of a known stream. False: not quite what is expected, the reference shall look at it."""
        cdef Values values
        if self.reference:
            return False
        self._prepare(route.wire, route.instrument, &values)
        if not (route.template.piece_count and route.template.read(data, end, &values) and _set_time(&values)):
            if not self._scan(route.wire, route.instrument, data, end, self._after, &values):
                return False
            route.patience -= 1
            if route.patience < 0:
                route.template.learn(route.wire, data, end)
                route.patience = PATIENCE
        self._emit(route.wire, route.instrument, &values, ts_recv)
        self.scanned += 1
        return True

    cdef bint _scan(self, Wire wire, Instrument instrument, const char* data, const char* end, bytes after,
                    Values* values) except -1:
        """Read a message that ends with `after`, into prepared values. False: as above."""
        cdef const char* p = data
        cdef Py_ssize_t size = PyBytes_GET_SIZE(after)
        cdef int status = wire.scan(&p, end, values)
        if status == SCAN_GROW:
            if values.decimals.needed_price > MAX_DECIMALS or values.decimals.needed_qty > MAX_DECIMALS:
                return False
            self._prepare_grown(wire, instrument, values)
            p = data
            status = wire.scan(&p, end, values)
        if status != SCAN_OK:
            return False
        p = skip_space(p, end)
        if end - p < size or not feeds_same(p, PyBytes_AS_STRING(after), size):
            return False
        return skip_space(p + size, end) == end and _set_time(values)

    cdef int _prepare(self, Wire wire, Instrument instrument, Values* values) except -1:
        # One by one: that is a handful of wide stores, and no call.
        values.of[<int> TS_EVENT] = values.of[<int> TS_PUBLISH] = values.of[<int> SEQUENCE] = 0
        values.of[<int> TRADE_ID] = values.of[<int> FIRST_ID] = -1
        values.of[<int> LAST_ID] = values.of[<int> PREVIOUS_ID] = -1
        values.of[<int> BUYER_IS_MAKER] = 0
        values.of[<int> ONLY] = 1
        values.of[<int> PRICE] = values.of[<int> BID_PRICE] = values.of[<int> ASK_PRICE] = 0
        values.of[<int> QTY] = values.of[<int> BID_QTY] = values.of[<int> ASK_QTY] = 0
        values.decimals.price = values.decimals.needed_price = instrument.price_decimals
        values.decimals.qty = values.decimals.needed_qty = instrument.qty_decimals
        values.large = self._large
        if wire.kind == BOOK_DELTA:
            if not is_unshared(<void*> self._delta):
                self._delta = BookDelta.__new__(BookDelta)
            self._delta.bid_levels.size = self._delta.ask_levels.size = 0
            values.bids = &self._delta.bid_levels
            values.asks = &self._delta.ask_levels
        return 0

    cdef int _prepare_grown(self, Wire wire, Instrument instrument, Values* values) except -1:
        """Prepare to read a message again with the decimals that it turned out to need."""
        cdef int price = values.decimals.needed_price
        cdef int qty = values.decimals.needed_qty
        self._prepare(wire, instrument, values)
        values.decimals.price = values.decimals.needed_price = price
        values.decimals.qty = values.decimals.needed_qty = qty
        return 0

    cdef int _emit(self, Wire wire, Instrument instrument, Values* values, int64_t ts_recv) except -1:
        cdef:
            Trade trade
            Quote quote
            BookDelta delta
            int64_t ts_event = values.of[<int> TS_EVENT]
        if not values.of[<int> ONLY]:
            return 0
        if (values.decimals.price != instrument.price_decimals
                or values.decimals.qty != instrument.qty_decimals):      # only now: a message that is refused changes nothing
            instrument.grow(values.decimals.price, values.decimals.qty)
        if wire.kind == QUOTE:
            if not is_unshared(<void*> self._quote):
                self._quote = Quote.__new__(Quote)
            quote = self._quote
            quote.begin(instrument, ts_event, ts_recv)
            quote.bid_price_mantissa = values.of[<int> BID_PRICE]
            quote.bid_qty_mantissa = values.of[<int> BID_QTY]
            quote.ask_price_mantissa = values.of[<int> ASK_PRICE]
            quote.ask_qty_mantissa = values.of[<int> ASK_QTY]
            quote.sequence = values.of[<int> SEQUENCE]
            quote.merged = self.stands_for
            self.stands_for = 1
            quote.ts_event_first = ts_event
            self.downstream.on_quote(quote)
        elif wire.kind == TRADE:
            if values.of[<int> QTY] == 0:                        # seen on Binance futures: not a trade
                return 0
            if not is_unshared(<void*> self._trade):
                self._trade = Trade.__new__(Trade)
            trade = self._trade
            trade.begin(instrument, ts_event, ts_recv)
            trade.price_mantissa = values.of[<int> PRICE]
            trade.qty_mantissa = values.of[<int> QTY]
            trade.numeric_id = values.of[<int> TRADE_ID]
            trade._side = SELL if values.of[<int> BUYER_IS_MAKER] else BUY
            self.downstream.on_trade(trade)
        else:
            delta = self._delta
            delta.begin(instrument, ts_event, ts_recv)
            delta.is_snapshot = wire.is_snapshot
            delta.depth = wire.depth
            delta.merged = self.stands_for
            self.stands_for = 1
            delta.first_id = values.of[<int> FIRST_ID]
            delta.last_id = values.of[<int> LAST_ID]
            delta.previous_id = values.of[<int> PREVIOUS_ID]
            self.downstream.on_book_delta(delta)
        return 0

    cdef inline Route _route_of(self, const char** at, const char* end):
        cdef:
            const char* p = at[0]
            Py_ssize_t before
            RouteSlot* slot
        if self._before is None:
            return None
        before = PyBytes_GET_SIZE(self._before)
        if end - p < before or not feeds_same(p, PyBytes_AS_STRING(self._before), before):
            return None
        p += before
        slot = self._last_slot                                   # streams come in runs
        if slot == NULL or end - p < slot.size or not feeds_same(p, slot.text, slot.size):
            slot = self._slot_of(p, end)
            if slot == NULL or slot.text == NULL:
                return None
            self._last_slot = slot
        at[0] = p + slot.size
        return <Route> slot.route

    cdef inline RouteSlot* _slot_of(self, const char* name, const char* end) noexcept:
        """The slot of a name, or the free one where it is not there; NULL where no quote ends it."""
        cdef uint64_t hash = 0
        cdef Py_ssize_t at
        cdef RouteSlot* slot
        if feeds_name(name, end, &hash) == NULL:
            return NULL
        at = hash & (self._slot_count - 1)
        slot = &self._slots[at]
        while slot.text != NULL:
            if slot.hash == hash and end - name >= slot.size and feeds_same(name, slot.text, slot.size):
                break
            at = (at + 1) & (self._slot_count - 1)
            slot = &self._slots[at]
        return slot

    cdef int _insert(self, Route route) except -1:
        cdef:
            Py_ssize_t i
            RouteSlot* slots
        self._routes.append(route)
        if len(self._routes) * 2 > self._slot_count:             # at most half full: probes stay short
            slots = <RouteSlot*> calloc(self._slot_count * 2, sizeof(RouteSlot))
            if slots == NULL:
                raise MemoryError()
            free(self._slots)
            self._last_slot = NULL
            self._slots = slots
            self._slot_count *= 2
            for i in range(len(self._routes)):
                self._place(<Route> self._routes[i])
        else:
            self._place(route)
        return 0

    cdef int _place(self, Route route) except -1:
        cdef const char* text = PyBytes_AS_STRING(route.text)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(route.text)
        cdef RouteSlot* slot = self._slot_of(text, text + size)
        feeds_name(text, text + size, &slot.hash)
        slot.text = text
        slot.size = size - ROUTE_PADDING
        slot.route = <void*> route
        return 0


cdef Route _route(bytes name, bytes between, bytes after, Wire wire, Instrument instrument):
    cdef Route route = Route.__new__(Route)
    route.name = name
    route.text = name + between + bytes(ROUTE_PADDING)
    route.opens = c'{'
    route.after = after
    route.wire = wire
    route.of_book = wire.kind == BOOK_DELTA
    route.instrument = instrument
    route.template = Template.__new__(Template)
    route.supersedes = wire.kind == QUOTE or (wire.kind == BOOK_DELTA and wire.is_snapshot and wire.depth != 0)
    route.newest = -1
    return route


cdef inline bint _set_time(Values* values) noexcept nogil:
    """Put the event's time in ns into TS_EVENT. False for one that cannot be a time.

    Exchange times tell their unit by their size: 13 digits ms, 16 us, 19 ns (until the year 2262).
    """
    cdef int64_t time = values.of[<int> TS_EVENT]
    if time == 0:
        time = values.of[<int> TS_PUBLISH]
        values.of[<int> TS_EVENT] = time
    if time < 0:
        return False
    if time < 100_000_000_000_000LL:
        if time > INT64_MAX // 1_000_000:
            return False
        time *= 1_000_000
    elif time < 100_000_000_000_000_000LL:
        if time > INT64_MAX // 1_000:
            return False
        time *= 1_000
    values.of[<int> TS_EVENT] = time
    return True
