# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, nonecheck=True
"""Decoders: messages in, events out; and what a decoder may ask for."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy, memset

from feeds.events cimport BUY, SELL, is_unshared
from feeds.levels cimport SCAN_GROW, SCAN_OK, skip_space
from feeds.wire cimport (
    ASK_PRICE, ASK_QTY, BID_PRICE, BID_QTY, BOOK_DELTA, BUYER_IS_MAKER, FIRST_ID, LAST_ID, ONLY, PREVIOUS_ID, PRICE, QTY,
    QUOTE, SEQUENCE, TRADE, TRADE_ID, TS_EVENT, TS_PUBLISH,
)

import msgspec

from feeds.errors import DecodeError

__all__ = ["Decoder", "Fetch", "Reconnect", "Refused", "Request", "Send"]


class Send(msgspec.Struct, frozen=True, tag=True):
    """Send `payload` on the connection."""

    payload: bytes


class Fetch(msgspec.Struct, frozen=True, tag=True):
    """Get `url`, relative to the exchange's REST address, and give the reply to `decode_reply` under `tag`."""

    url: str
    tag: str


class Reconnect(msgspec.Struct, frozen=True, tag=True):
    """The exchange says that it will end this connection: connect anew."""

    reason: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The exchange refused a subscription: tell whoever asked for it."""

    reason: str


Request = Send | Fetch | Reconnect | Refused

cdef enum:
    MAX_DECIMALS = 18

DEFAULT_MAX_ROUTES = 65_536
cdef Py_ssize_t MAX_ROUTES = DEFAULT_MAX_ROUTES      # stream names come from the peer


cdef class Decoder:
    """Turns the messages of one connection into events for `downstream`.

    A subclass says where its streams lie in a message (`envelope`), registers routes, and decodes everything else in
    `decode_other`. It reads no clock, does no I/O, and asks for what it needs: `take_requests()`.
    """

    # (before the stream name, between name and payload, after the payload); None: messages have no such form.
    envelope = None

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
        """Return what the decoder has asked for since the last call (`Send`, `Fetch`, `Reconnect`, `Refused`), in order."""
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
        cdef bytes text = name.encode()
        if '"' in name or "\\" in name or not name.isprintable():
            return
        if len(self._routes) < MAX_ROUTES and self._find(text, len(text)) is None:
            self._insert(_route(text, wire, instrument))

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

    cpdef request_snapshot(self, Instrument instrument):
        """Ask for a new snapshot of the instrument's book, in whichever way the exchange gives one."""
        raise NotImplementedError(f"{self.exchange}: snapshots cannot be asked for")

    cdef int decode_view(self, const char* data, Py_ssize_t size, int64_t ts_recv) except -1:
        cdef const char* payload = data
        cdef Route route = self.find_route(&payload, data + size)
        self.decode_routed(route, data, size, payload, ts_recv)
        return 0

    cdef int decode_routed(self, Route route, const char* data, Py_ssize_t size, const char* payload,
                           int64_t ts_recv) except -1:
        if route is not None and not self.reference and self._scan(route, payload, data + size, ts_recv):
            self.scanned += 1
            return 0
        self.referred += 1
        self.decode_other(data[:size], ts_recv)
        return 0

    cpdef decode_as(self, Wire wire, Instrument instrument, object data, int64_t ts_recv):
        """Decode `data`, the payload of a message of the kind `wire`, with the reference engine."""
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
        cdef:
            const char* p = at[0]
            const char* name
            Py_ssize_t before
            Py_ssize_t between
            Route route
        if self._before is None:
            return None
        before = PyBytes_GET_SIZE(self._before)
        between = PyBytes_GET_SIZE(self._between)
        if end - p < before + between or memcmp(p, PyBytes_AS_STRING(self._before), before) != 0:
            return None
        name = p + before
        p = <const char*> memchr(name, c'"', end - name)
        if p == NULL or end - p < between or memcmp(p, PyBytes_AS_STRING(self._between), between) != 0:
            return None
        route = self._find(name, p - name)
        if route is not None:
            at[0] = p + between
        return route

    cdef bint _scan(self, Route route, const char* data, const char* end, int64_t ts_recv) except -1:
        """Decode `data`, the payload of a known stream and what follows it. False: the reference shall look at it."""
        cdef:
            const char* p = data
            Py_ssize_t after = PyBytes_GET_SIZE(self._after)
            Values values
            int status
        self._prepare(route.wire, route.instrument, &values)
        status = route.wire.scan(&p, end, &values)
        if status == SCAN_GROW:
            if values.decimals.needed_price > MAX_DECIMALS or values.decimals.needed_qty > MAX_DECIMALS:
                return False
            self._prepare_grown(route.wire, route.instrument, &values)
            p = data
            status = route.wire.scan(&p, end, &values)
        if status != SCAN_OK:
            return False
        p = skip_space(p, end)
        if end - p < after or memcmp(p, PyBytes_AS_STRING(self._after), after) != 0:
            return False
        if skip_space(p + after, end) != end or not _set_time(&values):
            return False
        self._emit(route.wire, route.instrument, &values, ts_recv)
        return True

    cdef int _prepare(self, Wire wire, Instrument instrument, Values* values) except -1:
        memset(values, 0, sizeof(Values))
        values.of[<int> TRADE_ID] = values.of[<int> FIRST_ID] = -1
        values.of[<int> LAST_ID] = values.of[<int> PREVIOUS_ID] = -1
        values.of[<int> ONLY] = 1
        values.decimals.price = values.decimals.needed_price = instrument.price_decimals
        values.decimals.qty = values.decimals.needed_qty = instrument.qty_decimals
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

    cdef Route _find(self, const char* name, Py_ssize_t size):
        cdef uint64_t hash = _hash(name, size)
        cdef Py_ssize_t at = hash & (self._slot_count - 1)
        cdef RouteSlot* slot = &self._slots[at]
        while slot.name != NULL:
            if slot.hash == hash and slot.size == size and memcmp(slot.name, name, size) == 0:
                return <Route> self._routes[slot.route]
            at = (at + 1) & (self._slot_count - 1)
            slot = &self._slots[at]
        return None

    cdef int _insert(self, Route route) except -1:
        cdef:
            Py_ssize_t i
            Py_ssize_t at
            RouteSlot* slots
        self._routes.append(route)
        if len(self._routes) * 2 > self._slot_count:             # at most half full: probes stay short
            slots = <RouteSlot*> calloc(self._slot_count * 2, sizeof(RouteSlot))
            if slots == NULL:
                raise MemoryError()
            free(self._slots)
            self._slots = slots
            self._slot_count *= 2
            for i in range(len(self._routes)):
                self._place(<Route> self._routes[i], i)
        else:
            self._place(route, len(self._routes) - 1)
        return 0

    cdef int _place(self, Route route, Py_ssize_t index) except -1:
        cdef const char* name = PyBytes_AS_STRING(route.name)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(route.name)
        cdef uint64_t hash = _hash(name, size)
        cdef Py_ssize_t at = hash & (self._slot_count - 1)
        while self._slots[at].name != NULL:
            at = (at + 1) & (self._slot_count - 1)
        self._slots[at].hash = hash
        self._slots[at].name = name
        self._slots[at].size = size
        self._slots[at].route = <int> index
        return 0


cdef Route _route(bytes name, Wire wire, Instrument instrument):
    cdef Route route = Route.__new__(Route)
    route.name = name
    route.wire = wire
    route.instrument = instrument
    route.supersedes = wire.kind == QUOTE or (wire.kind == BOOK_DELTA and wire.is_snapshot and wire.depth != 0)
    route.newest = -1
    return route


cdef inline uint64_t _hash(const char* name, Py_ssize_t size) noexcept nogil:
    """Mix all of the name, eight bytes at a time: those of dated contracts and options differ in the middle."""
    cdef uint64_t hash = <uint64_t> size * 0x9E3779B97F4A7C15ULL
    cdef uint64_t word
    while size >= 8:
        memcpy(&word, name, 8)
        hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL
        hash ^= hash >> 32
        name += 8
        size -= 8
    word = 0
    memcpy(&word, name, size)
    hash = (hash ^ word) * 0xD6E8FEB86659FD93ULL
    return hash ^ (hash >> 32)


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
