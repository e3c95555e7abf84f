# cython: language_level=3, boundscheck=False, wraparound=False, nonecheck=True
"""The pipeline: messages of one connection in, events out, through the same code live and in replay."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t

from feeds.decoder cimport Decoder, Holder, Route
from feeds.events cimport BookDelta, Event, FeedStatus, Quote, Ticker
from feeds.held cimport HeldMessage, HeldMessages
from feeds.large cimport LargeMessage
from feeds.scan cimport feeds_load, feeds_same
from feeds.latency cimport begin_message

from feeds.errors import DecodeError
from feeds.message_decoder import MessageDecoder

__all__ = ["Pipeline", "Problem"]

MAX_PROBLEM_KINDS = 256          # kinds may carry names that the peer chose
DEFAULT_MAX_HELD_BYTES = 256 * 1024      # of the messages of one batch that may be superseded


class Problem:
    """Messages of one kind that could not be decoded: how many, and the first of them in words."""

    __slots__ = ("count", "first", "kind")

    def __init__(self, kind, first):
        self.kind = kind
        self.first = first
        self.count = 0

    def __repr__(self):
        return f"<Problem {self.kind} x{self.count}: {self.first}>"


cdef class Pipeline(Holder):
    """Runs the messages of one connection through a decoder and its books into `downstream`.

    `exchange` is a `feeds.exchange.Exchange`; `downstream` is what `feeds.conflation.conflated` returns, or any handler;
    pipelines of several connections may share it. A message that cannot be decoded is counted in `problems` under its kind,
    told once per kind as a `FeedStatus("problem")`, and skipped. `latency` is told how long decoding and books take.

    `skip_superseded` is for a `downstream` that conflates: messages that say all that those before them on their stream said
    (best bid and offer, top-N snapshots) are then not decoded when a newer one of the stream stands in the same batch.
    Of each stream and batch the first is decoded as it comes, which gives the receipt its time and the instrument its
    turn; the others are held until the batch ends, and then the newest is decoded and stands for all of them in `merged`.
    So the events at the batch's end are those of decoding everything. What is not told is what a conflating handler does
    not ask for: `on_book_delta` of skipped top-N snapshots, and a book that was crossed for a moment between two of
    them. `superseded` counts what was skipped.

    Which messages these are say the routes of the decoder, and the `supersede_keys` of those that msgspec serves. A skipped
    message has been looked at only as far as that it begins as one of its stream and ends as an object; what else does not
    look so is decoded at once, after the newest before it. So is what has no key and changes the same. Where the newest cannot be decoded it is a
    problem like any other, and the one before it is taken. `max_held_bytes` bounds what is held: when it is reached, the
    newest of every stream are decoded and holding begins anew.
    """

    def __init__(self, exchange, instruments, EventHandler downstream not None, *, int source=0, bint reference=False,
                 bint skip_superseded=False, Py_ssize_t max_held_bytes=DEFAULT_MAX_HELD_BYTES, Latency latency=None):
        self.exchange = exchange.id
        self.source = source
        self.problems = {}
        self.silent_subscriptions = []
        self.latency = latency
        self.books = BookBuilder(downstream, new_sequence=exchange.new_sequence, checksum=exchange.checksum)
        self.books.latency = latency
        self._new_decoder = lambda: exchange.new_decoder(instruments, self.books, reference=reference)
        self._held = HeldMessages(max_held_bytes) if skip_superseded else None
        self._connect_decoder()
        self._held_routes = []
        self._batch = 1

    @property
    def skip_superseded(self):
        """Whether messages are not decoded that a newer one of the batch supersedes."""
        return self._held is not None

    @cython.nonecheck(False)
    cdef int on_view(self, const char* data, Py_ssize_t size, int64_t ts_recv, bint last_in_batch) except -1:
        if self._beginning != NULL and not (last_in_batch or self._busy) and self._hold_next(data, size, ts_recv):
            return 0
        return self._take(data, size, ts_recv, last_in_batch)

    @cython.nonecheck(False)
    cdef int _take(self, const char* data, Py_ssize_t size, int64_t ts_recv, bint last_in_batch) except -1:
        cdef Decoder decoder = self.decoder          # a handler may replace it meanwhile
        self._enter()
        self.messages += 1
        self.payload_bytes += size
        try:
            if self._held is not None:
                self._decode_or_hold(decoder, data, size, ts_recv)
            else:
                if self.latency is not None:
                    begin_message(self.latency, ts_recv)
                if not decoder.scan_view(data, size, ts_recv):
                    self._refer(decoder, data, size, ts_recv)
            if last_in_batch:
                self.batches += 1
                self._end_batch(ts_recv)
        finally:
            self._busy = False
        return 0

    cdef bint _refer(self, Decoder decoder, const char* data, Py_ssize_t size, int64_t ts_recv) except -1:
        """Decode a message with the reference engine. False: it tells nothing, or cannot be decoded, which is reported.

        Apart from `on_view`, because to be ready for an exception has a cost, which the hot engine need not pay.
        """
        try:
            if self._large is not None and data == PyBytes_AS_STRING(self._large.payload):
                decoder.decode_large(self._large, None, ts_recv)
            else:
                decoder.refer_view(data, size, ts_recv)
        except DecodeError as error:
            self._report(error, ts_recv)
            if self._refused is None:
                self._lose(error, ts_recv)
            else:
                self._refused.append(error)
            return False
        return not decoder.told_nothing

    def _lose(self, error, int64_t ts_recv):
        """Give up the books of which a refused message held a change."""
        for instrument in error.lost:
            self.books.on_lost(instrument, f"a message could not be read: {error.kind}", ts_recv)

    cpdef on_message(self, bytes payload, int64_t ts_recv, bint last_in_batch, LargeMessage large=None):
        """Take one whole WebSocket message; `last_in_batch` ends the batch and lets conflated events out.

        `large` is the same message where its decoder has taken it apart before.
        """
        if payload is None:
            raise TypeError("expected bytes, found None")
        self._large = large
        try:
            self.on_view(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), ts_recv, last_in_batch)
        finally:
            self._large = None

    cpdef on_reply(self, str tag, bytes payload, int64_t ts_recv, LargeMessage large=None):
        """Take the reply to a `Fetch` with this tag. It is a batch of its own.

        One that cannot be decoded counts as a problem, and whoever waits for it may ask again; one that comes after the
        connection has gone is dropped: nothing may bring a STALE book back to life but a new connection.
        """
        cdef Decoder decoder = self.decoder
        if self._disconnected:
            return
        self._enter()
        try:
            self._settle(ts_recv)
            if self.latency is not None:
                self.latency.measuring = False       # the callbacks that follow belong to no message
            try:
                if large is not None:
                    decoder.decode_large(large, tag, ts_recv)
                else:
                    decoder.decode_reply(tag, payload, ts_recv)
            except DecodeError as error:
                self._report(error, ts_recv)
                self._fail(tag)
            self._end_batch(ts_recv)
        finally:
            self._busy = False

    def _connect_decoder(self):
        self.decoder = self._new_decoder()
        self.decoder.holder = None if self._held is None or not isinstance(self.decoder, MessageDecoder) else self
        self.books.decoder = self.decoder

    cdef int give_way(self, list events, int64_t ts_recv) except -1:
        cdef Event event
        cdef Route route
        for route in self._held_routes:
            for event in events:
                if event.instrument is route.instrument and (
                        isinstance(event, BookDelta) if route.of_book else isinstance(event, (Quote, Ticker))):
                    return self._settle(ts_recv)
        return 0

    cdef int _decode_or_hold(self, Decoder decoder, const char* data, Py_ssize_t size, int64_t ts_recv) except -1:
        cdef const char* payload = data
        cdef Route route = decoder.find_route(&payload, data + size)
        if route is not None and route.batch == self._batch:
            if self._hold(route, data, size, payload, ts_recv):
                return 0
            self._settle(ts_recv)
        elif self._holds_books and (decoder.holder is None if route is None else route.of_book):
            self._settle(ts_recv)                    # messages of books keep their order
        if self.latency is not None:
            begin_message(self.latency, ts_recv)
        if ((route is None or not decoder.scan_routed(route, payload, data + size, ts_recv))
                and not self._refer(decoder, data, size, ts_recv)):
            return 0                                 # the next of the stream is still the first that tells something
        if route is not None and route.supersedes:
            route.batch = self._batch
        return 0

    cdef bint _hold(self, Route route, const char* data, Py_ssize_t size, const char* payload, int64_t ts_recv) except -1:
        cdef Py_ssize_t index
        cdef Py_ssize_t after = PyBytes_GET_SIZE(route.after)
        if not _is_whole(route, data, size, payload):
            return False
        if not self._held.make_room(size):
            return False
        index = self._held.count
        self._held.put(data, size, ts_recv, route.newest)
        if route.newest < 0:
            self._held_routes.append(route)
            self._holds_books |= route.of_book
            route.held = 0
        route.newest = index
        route.held += 1
        self._last_route = route
        self._beginning = NULL
        if after < 8 and size >= 8:                  # so that the next one can be compared with it
            self._beginning = self._held.data + self._held.messages[index].at
            self._beginning_size = payload + 1 - data
            self._ending_mask = ~<uint64_t> 0 << 8 * (7 - after)
            self._ending = feeds_load(data + size - 8) & self._ending_mask
            self._least_size = max(self._beginning_size + after + 1, 8)
        return True

    @cython.final
    @cython.nonecheck(False)
    cdef inline bint _hold_next(self, const char* data, Py_ssize_t size, int64_t ts_recv) noexcept:
        cdef Py_ssize_t before
        if (size < self._least_size or (feeds_load(data + size - 8) & self._ending_mask) != self._ending
                or not feeds_same(data, self._beginning, self._beginning_size) or not self._held.has_room(size)):
            return False
        before = self._last_route.newest
        self._last_route.newest = self._held.count
        self._last_route.held += 1
        self.messages += 1
        self.payload_bytes += size
        self._held.put(data, size, ts_recv, before)
        return True

    cdef int _settle(self, int64_t ts_recv) except -1:
        """Decode the newest message of each stream of which some are held. A handler may bring this about once more."""
        cdef Decoder decoder = self.decoder
        cdef Route route
        self._batch += 1                             # from now on the next of each stream is the first
        if not self._held_routes:
            return 0
        try:
            while self._settled < len(self._held_routes):
                route = <Route> self._held_routes[self._settled]
                self._settled += 1
                self._decode_newest(decoder, route, ts_recv)
        finally:                                     # a handler that raises ends the batch for everybody
            for route in self._held_routes:
                route.newest = -1
            self._held_routes.clear()
            self._held.clear()
            self._settled = 0
            self._beginning = NULL
            self._holds_books = False
        return 0

    cdef int _decode_newest(self, Decoder decoder, Route route, int64_t ts_recv) except -1:
        """Decode the newest held message of a stream; where it cannot be decoded, the one before it, and so on."""
        cdef Py_ssize_t index = route.newest
        cdef list refused = []
        cdef list outer = self._refused
        route.newest = -1
        self._refused = refused
        try:
            self._decode_one(decoder, route, index, route.held)
        finally:
            self._refused = outer
        for error in reversed(refused):              # they came after the one that was taken
            self._lose(error, ts_recv)
        return 0

    cdef int _decode_one(self, Decoder decoder, Route route, Py_ssize_t index, int count) except -1:
        cdef HeldMessage message
        cdef const char* data
        cdef const char* payload
        while index >= 0:
            message = self._held.messages[index]
            data = payload = self._held.data + message.at
            if self.latency is not None:
                begin_message(self.latency, message.ts_recv)
            decoder.find_route(&payload, data + message.size)
            decoder.stands_for = count
            try:
                if (decoder.scan_routed(route, payload, data + message.size, message.ts_recv)
                        or self._refer(decoder, data, message.size, message.ts_recv)):
                    self.superseded += count - 1
                    return 0
            finally:
                decoder.stands_for = 1
            index = message.before
            count -= 1
        return 0

    @cython.final
    cdef inline int _end_batch(self, int64_t ts_recv) except -1:
        if self._held is not None:
            self._settle(ts_recv)
        self.books.on_batch_end(ts_recv)
        return 0

    @cython.final
    cdef inline int _enter(self) except -1:
        if self._busy:
            self._refuse_to_enter()
        self._busy = True
        return 0

    def _refuse_to_enter(self):
        raise RuntimeError(f"{self.exchange}: expected the callback to return before the next message, found a message "
                           f"from inside it")

    cpdef on_tick(self, int64_t ts_recv):
        """Time has come to `ts_recv` without a message: it ends the batch in progress or is an empty one, for timers."""
        self._end_batch(ts_recv)

    def on_connected(self, str reason, int64_t ts_recv):
        """A connection stands: decoding starts with a new decoder."""
        self._settle(ts_recv)
        self._disconnected = False
        self._connect_decoder()
        self.on_status("connected", reason, ts_recv)

    def on_disconnected(self, str reason, int64_t ts_recv):
        """The connection is gone: its books become STALE."""
        self._disconnected = True
        self.on_status("disconnected", reason, ts_recv)

    def on_status(self, str status, str reason, int64_t ts_recv):
        """Pass on what the live shell has found out about the connection."""
        self._settle(ts_recv)
        if status == "silent_subscription" and reason not in self.silent_subscriptions:
            self.silent_subscriptions.append(reason)
        self.books.on_feed_status(FeedStatus(self.exchange, status, reason, source=self.source, ts_recv=ts_recv))
        self._end_batch(ts_recv)

    def on_resnapshot(self, str symbol, int64_t ts_recv):
        """A snapshot is due of a book that is LIVE, by the exchange's symbol: a status tells where it is asked for."""
        self._settle(ts_recv)
        instrument = self.decoder.instruments.known(self.exchange, symbol)
        if instrument is not None and self.books.refresh(instrument):
            self.on_status("resnapshot", symbol, ts_recv)

    def on_subscribed(self, str symbol, str channels, int64_t ts_recv):
        """Channels ("book, trade") of an instrument, by the exchange's symbol, are subscribed from now on."""
        instrument = self.decoder.instruments.known(self.exchange, symbol)
        if instrument is not None and _has_book(channels):
            self.books.keep(instrument)
        self.on_status("subscribed", f"{symbol}: {channels}", ts_recv)

    def on_unsubscribed(self, str symbol, str channels, int64_t ts_recv):
        """Channels of an instrument are not wanted any more. Its book is dropped where it is among them."""
        self._settle(ts_recv)
        instrument = self.decoder.instruments.known(self.exchange, symbol)
        if instrument is not None and _has_book(channels):
            self.books.drop(instrument, ts_recv)
        self.on_status("unsubscribed", f"{symbol}: {channels}", ts_recv)

    def on_fetch_failed(self, str tag, int64_t ts_recv, str reason):
        """A `Fetch` will not be answered: whoever waits for it may ask again."""
        self._fail(tag)
        self.on_status("fetch_failed", f"{tag}: {reason}", ts_recv)

    def _fail(self, str tag):
        instrument = self.decoder.instruments.find(self.exchange, tag)
        if instrument is not None:
            self.books.on_snapshot_failed(instrument)

    def _report(self, error, int64_t ts_recv):
        kind = error.kind if error.kind in self.problems or len(self.problems) < MAX_PROBLEM_KINDS else "other"
        problem = self.problems.get(kind)
        if problem is None:
            problem = self.problems[kind] = Problem(kind, str(error))
            self.books.on_feed_status(
                FeedStatus(self.exchange, "problem", f"{kind}: {error}", source=self.source, ts_recv=ts_recv))
        problem.count += 1


def _has_book(channels):
    return not {"book", "book_top"}.isdisjoint(channels.split(", "))


cdef bint _is_whole(Route route, const char* data, Py_ssize_t size, const char* payload) noexcept:
    """Whether `payload`, in a message on that route, begins and ends as it should."""
    cdef Py_ssize_t after = PyBytes_GET_SIZE(route.after)
    cdef const char* tail = data + size - after
    return (tail - payload >= 2 and payload[0] == route.opens and (tail - 1)[0] == c'}'
            and feeds_same(tail, PyBytes_AS_STRING(route.after), after))
