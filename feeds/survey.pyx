# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What `feeds inspect` counts while a recording is replayed, in constant memory."""
import heapq

from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint64_t
from libc.stdlib cimport free, malloc

from feeds.book cimport GAP, LIVE, SYNCING, OrderBook
from feeds.events cimport (
    BookDelta, BookStatus, BookUpdate, Candle, Event, FeedStatus, Funding, Liquidation, OpenInterest, Quote, Ticker, Trade,
)
from feeds.instrument cimport Instrument
from feeds.levels cimport PriceLevel
from feeds.recording.message cimport KIND_BINARY, KIND_MASK, KIND_SOURCE, KIND_TEXT, LAST_IN_BATCH

from feeds.book import BookState

__all__ = ["COUNTED", "ConnectionTally", "Moments", "Periods", "Series", "Skew", "Survey", "SurveyedReplay", "SymbolTally"]

MAX_LISTED = 1000                # connections, symbols, and moments or periods of a kind
MAX_PLOTTED = 200                # instruments
MAX_REASONS = 20                 # of the disconnects of one connection; statuses of one recording
MAX_TEXT = 200                   # characters of a text that a file brings
FIRST_SHIFT = 20                 # slots begin with a length of 2**20 ns, a millisecond
DEFAULT_SILENCE = 5.0
COUNTED = (
    "book", "snapshots", "quote", "trade", "ticker", "funding", "open_interest", "liquidation", "candle", "gaps",
    "checksum_failures",
)                                # in the order of the numbers in survey.pxd
_OTHERS = "(others)"
_CHECKSUM = "expected a book with checksum "         # so begins the reason of a BookStatus for that

cdef int64_t[WINDOWS] WINDOW_NS
WINDOW_NS[0], WINDOW_NS[1], WINDOW_NS[2] = 1_000_000, 10_000_000, 100_000_000

cdef double[19] UNIT                     # of a mantissa, by its decimals
cdef int _i
for _i in range(19):
    UNIT[_i] = 10.0 ** -_i

cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil


class Periods:
    """Stretches of time: how many, how long together, and the longest `MAX_LISTED` of them."""

    __slots__ = ("_longest", "count", "total_ns")

    def __init__(self):
        self.count = 0
        self.total_ns = 0
        self._longest = []

    def add(self, start, end, **what):
        """Count a period from `start` to `end`, ns since the epoch; `what` describes it."""
        length = max(0, end - start)
        self.count += 1
        self.total_ns += length
        entry = (length, -self.count, {"start": start, "end": end, **what})
        if len(self._longest) < MAX_LISTED:
            heapq.heappush(self._longest, entry)
        else:
            heapq.heappushpop(self._longest, entry)

    @property
    def listed(self):
        """The longest, in the order of time."""
        return sorted((what for _, _, what in self._longest), key=lambda what: (what["start"], what["end"]))

    def to_dict(self):
        return {"count": self.count, "total_ns": self.total_ns, "listed": self.listed}


class Moments:
    """Things that happened at a time: how many, and the first `MAX_LISTED` of them."""

    __slots__ = ("count", "listed")

    def __init__(self):
        self.count = 0
        self.listed = []

    def add(self, **what):
        """Count one; `what` describes it."""
        self.count += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(what)

    def to_dict(self):
        return {"count": self.count, "listed": list(self.listed)}


cdef class Series:
    """A value over time."""

    cdef void add(self, int slot, double value) noexcept:
        cdef Slot* s = &self.slots[slot]
        if s.count == 0 or value < s.low:
            s.low = value
        if s.count == 0 or value > s.high:
            s.high = value
        s.sum += value
        s.count += 1

    cdef void halve(self) noexcept:
        cdef int i
        cdef Slot one, other
        for i in range(SLOTS // 2):
            one, other = self.slots[2 * i], self.slots[2 * i + 1]
            if one.count == 0:
                one = other
            elif other.count:
                one.low = min(one.low, other.low)
                one.high = max(one.high, other.high)
                one.sum += other.sum
                one.count += other.count
            self.slots[i] = one
        for i in range(SLOTS // 2, SLOTS):
            self.slots[i].count = 0
            self.slots[i].sum = 0

    def points(self):
        """Return (slot, least, mean, greatest, how many) of every slot that has values."""
        return [
            (i, self.slots[i].low, self.slots[i].sum / self.slots[i].count, self.slots[i].high, self.slots[i].count)
            for i in range(SLOTS) if self.slots[i].count
        ]


cdef class Skew:
    """How much later than `ts_event` an exchange's events were received, ns; negative where the clocks disagree so far.

    The histograms are of the distance from the first difference: clocks that are seconds apart hide nothing.
    """

    def __init__(self):
        self.above = Histogram()
        self.below = Histogram()
        self.series = Series()
        self.min = INT64_MAX
        self.max = INT64_MIN

    cdef void add(self, int slot, int64_t ns) noexcept:
        if self.min > self.max:
            self.base = ns
        if ns < self.base:
            self.below.add(self.base - ns)
        else:
            self.above.add(ns - self.base)
        if ns < self.min:
            self.min = ns
        if ns > self.max:
            self.max = ns
        self.series.add(slot, <double> ns)

    @property
    def count(self):
        """Events that were compared."""
        return self.above.count + self.below.count

    def quantile(self, double q):
        """Return what a share `q` (0 to 1) of them does not exceed, within 3.2 % of its distance from the first of them.

        Distances of 18 minutes and more are one. ValueError where there are none.
        """
        if self.count == 0:
            raise ValueError("expected a difference, found none")
        rank = q * self.count
        if rank <= self.below.count and self.below.count:
            found = self.base - self.below.quantile(1 - rank / self.below.count)
        else:
            found = self.base + self.above.quantile((rank - self.below.count) / self.above.count)
        return max(self.min, min(self.max, found))


cdef class ConnectionTally:
    """What one connection has sent."""

    def __init__(self, Pipeline pipeline not None, str url not None):
        self.pipeline = pipeline
        self.url = url
        self.reasons = {}

    def end(self, reason):
        """It was lost."""
        self.disconnects += 1
        if reason not in self.reasons and len(self.reasons) >= MAX_REASONS:
            reason = _OTHERS
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


cdef class SymbolTally:
    """What one instrument has had."""

    def __init__(self, instrument, Skew skew):
        self.instrument = instrument
        self.skew = skew

    @property
    def counts(self):
        """What -> how many, in the order of `COUNTED`."""
        return {name: self._counts[i] for i, name in enumerate(COUNTED)}

    @property
    def events(self):
        """Of all kinds."""
        return sum(self._counts[i] for i in range(CANDLE + 1) if i != SNAPSHOTS)


cdef class Survey(EventHandler):
    """Counts what passes. `silence`: seconds without a message of a connection that are told."""

    def __init__(self, double silence=DEFAULT_SILENCE):
        if not 0 < silence < 1e9:
            raise ValueError(f"silence: expected seconds, more than 0 and less than 1e9, found {silence}")
        self.silence_ns = <int64_t> (silence * 1e9)
        self.shift = FIRST_SHIFT
        self.rate = Series()
        self._series = [self.rate]
        self.silences = Periods()
        self.book_gaps = Periods()
        self.disconnects = Moments()
        self.statuses = {}
        self._open_gaps = {}
        self.connections = []
        self._current = {}
        self.symbols = []
        self._by_index = []
        self.others = SymbolTally(None, None)
        self.skews = {}

    def __dealloc__(self):
        free(self._ring)

    @property
    def bursts(self):
        """Window, ns -> the most messages that one had, and the receive time of the last of them."""
        return {WINDOW_NS[i]: (self._most[i], self._most_ts[i]) for i in range(WINDOWS)}

    @property
    def batch_sizes(self):
        """(least, most messages) -> how many batches had so many, of the sizes that there were."""
        return {
            (1 if i == 0 else (1 << (i - 1)) + 1, 1 << i): self._batch_sizes[i]
            for i in range(BATCH_SIZES) if self._batch_sizes[i]
        }

    # --- messages -------------------------------------------------------------------------------------------------------

    cdef int on_message(self, int number, int64_t ts_recv, bint last_in_batch) except -1:
        cdef ConnectionTally connection = self._last_connection
        cdef uint64_t size
        cdef int bucket
        if ts_recv:
            self._pass_to(ts_recv)
            self._push(ts_recv)
        if number != self._last_number or connection is None:
            connection = self._current.get(number)
            if connection is None:               # the replay says so
                return 0
            self._last_number, self._last_connection = number, connection
        if ts_recv:
            if connection.last_ts and ts_recv - connection.last_ts >= self.silence_ns:
                self._add_silence(connection, ts_recv)
            connection.last_ts = ts_recv
        connection.open_batch += 1
        if last_in_batch:
            size = connection.open_batch
            connection.open_batch = 0
            bucket = 64 - __builtin_clzll(size - 1) if size > 1 else 0
            self._batch_sizes[min(bucket, BATCH_SIZES - 1)] += 1
            self.batches += 1
            if size > connection.largest_batch:
                connection.largest_batch = size
                if size > self.largest_batch:
                    self.largest_batch = size
                    self.largest_batch_ts = ts_recv
        return 0

    cdef int _pass_to(self, int64_t ts) except -1:
        """Time is `ts` now."""
        cdef uint64_t since
        if self.first == 0:
            self.first = self.start = self.last = self.now = ts
        if ts < self.now:
            self.steps_back += 1
            self.largest_step_back = max(self.largest_step_back, self.now - ts)
            self._tails[0] = self._tails[1] = self._tails[2] = self._pushed
        self.now = ts
        self.last = max(self.last, ts)
        if ts < self.start:
            self.slot = 0
            return 0
        since = <uint64_t> ts - <uint64_t> self.start        # two times of a damaged file may be further apart than int64
        while since >> self.shift >= SLOTS:
            self.shift += 1
            for series in self._series:
                (<Series> series).halve()
        self.slot = <int> (since >> self.shift)
        return 0

    cdef int _push(self, int64_t ts) except -1:
        """Count the message in the windows that end with it."""
        cdef int64_t mask, tail
        cdef int i
        if self._pushed - self._tails[WINDOWS - 1] == self._capacity:
            self._make_room()
        mask = self._capacity - 1
        self._ring[self._pushed & mask] = ts
        self._pushed += 1
        for i in range(WINDOWS):
            tail = self._tails[i]
            while tail < self._pushed - 1 and self._ring[tail & mask] <= ts - WINDOW_NS[i]:
                tail += 1
            self._tails[i] = tail
            if self._pushed - tail > self._most[i]:
                self._most[i] = self._pushed - tail
                self._most_ts[i] = ts
        self.rate.add(self.slot, <double> (self._pushed - self._tails[WINDOWS - 1]))
        return 0

    cdef int _make_room(self) except -1:
        cdef int64_t capacity = max(1024, 2 * self._capacity)
        cdef int64_t* ring
        cdef int64_t n
        cdef int i
        if capacity > MAX_WINDOW_MESSAGES:
            for i in range(WINDOWS):             # the oldest is forgotten
                self._tails[i] = max(self._tails[i], self._tails[WINDOWS - 1] + 1)
            return 0
        ring = <int64_t*> malloc(capacity * sizeof(int64_t))
        if ring == NULL:
            raise MemoryError(f"no room for {capacity} times")
        for n in range(self._tails[WINDOWS - 1], self._pushed):
            ring[n & (capacity - 1)] = self._ring[n & (self._capacity - 1)]
        free(self._ring)
        self._ring = ring
        self._capacity = capacity
        return 0

    def _add_silence(self, ConnectionTally connection, int64_t until):
        self.silences.add(
            connection.last_ts, until, source=connection.pipeline.source, exchange=connection.pipeline.exchange)

    def declare(self, int number, Pipeline pipeline not None, str url not None):
        """The source `number` is this pipeline's connection from now on."""
        cdef ConnectionTally known = self._current.get(number)
        if known is not None and known.pipeline is pipeline:
            return
        self._current[number] = tally = ConnectionTally(pipeline, url[:MAX_TEXT])
        self._last_connection = None
        if len(self.connections) < MAX_LISTED:
            self.connections.append(tally)
        else:
            self.unlisted_connections += 1

    def finish(self):
        """The recording is at its end: what still lasts ends with it."""
        cdef ConnectionTally connection
        for connection in self._current.values():
            if connection.last_ts and self.last - connection.last_ts >= self.silence_ns:
                self._add_silence(connection, self.last)
        for book in list(self._open_gaps):
            self._close_gap(book, self.last, True)

    # --- events ---------------------------------------------------------------------------------------------------------

    cdef SymbolTally _of(self, Event event):
        cdef Instrument instrument = event.instrument
        cdef list known = self._by_index
        if instrument.index < len(known) and known[instrument.index] is not None:
            return <SymbolTally> known[instrument.index]
        return self._begin(instrument)

    cdef int _count(self, Event event, int what) except -1:
        cdef SymbolTally tally = self._of(event)
        tally._counts[what] += 1
        return 0

    def _begin(self, Instrument instrument not None):
        """Return the tally of an instrument that is new."""
        cdef SymbolTally tally = self.others
        self._by_index += [None] * (instrument.index + 1 - len(self._by_index))
        if len(self.symbols) < MAX_LISTED:
            skew = self.skews.get(instrument.exchange)
            if skew is None:
                skew = self.skews[instrument.exchange] = Skew()
                self._series.append((<Skew> skew).series)
            tally = SymbolTally(instrument, skew)
            if len(self.symbols) < MAX_PLOTTED:
                self._plot(tally)
            self.symbols.append(tally)
        else:
            self.unlisted_symbols += 1
        self._by_index[instrument.index] = tally
        return tally

    def _plot(self, SymbolTally tally not None):
        """Give it series that are empty."""
        old = (tally.spread, tally.bid_qty, tally.ask_qty)
        tally.spread, tally.bid_qty, tally.ask_qty = Series(), Series(), Series()
        self._series = [series for series in self._series if series not in old]
        self._series += [tally.spread, tally.bid_qty, tally.ask_qty]

    cdef void _measure_skew(self, SymbolTally tally, Event event) noexcept:
        if event.ts_event and event.ts_recv and tally.skew is not None:
            tally.skew.add(self.slot, event.ts_recv - event.ts_event)

    cpdef on_trade(self, Trade event):
        cdef SymbolTally tally = self._of(event)
        tally._counts[TRADE] += 1
        if not event.is_backlog:
            self._measure_skew(tally, event)

    cpdef on_quote(self, Quote event):
        cdef SymbolTally tally = self._of(event)
        tally._counts[QUOTE] += 1
        self._measure_skew(tally, event)
        if tally.spread is None or tally.has_book or event.bid_qty_mantissa == 0 or event.ask_qty_mantissa == 0:
            return
        tally.spread.add(
            self.slot, (event.ask_price_mantissa - event.bid_price_mantissa) * UNIT[event.price_decimals])
        if event.bid_qty_mantissa > 0 and event.ask_qty_mantissa > 0:
            tally.bid_qty.add(self.slot, event.bid_qty_mantissa * UNIT[event.qty_decimals])
            tally.ask_qty.add(self.slot, event.ask_qty_mantissa * UNIT[event.qty_decimals])

    cpdef on_book_delta(self, BookDelta event):
        cdef SymbolTally tally = self._of(event)
        tally._counts[BOOK] += 1
        if event.is_snapshot:
            tally._counts[SNAPSHOTS] += 1
        else:
            self._measure_skew(tally, event)

    cpdef on_book(self, BookUpdate event):
        cdef SymbolTally tally = self._of(event)
        cdef OrderBook book = event.book
        cdef PriceLevel bid, ask
        if tally.spread is None:
            return
        if not tally.has_book:
            tally.has_book = True
            self._plot(tally)
        if book.best(0, &bid) and book.best(1, &ask):
            tally.spread.add(self.slot, (ask.price - bid.price) * book.instrument.price_factor)
            tally.bid_qty.add(self.slot, bid.qty * book.instrument.qty_factor)
            tally.ask_qty.add(self.slot, ask.qty * book.instrument.qty_factor)

    cpdef on_ticker(self, Ticker event):
        self._count(event, TICKER)

    cpdef on_funding(self, Funding event):
        self._count(event, FUNDING)

    cpdef on_open_interest(self, OpenInterest event):
        self._count(event, OPEN_INTEREST)

    cpdef on_liquidation(self, Liquidation event):
        self._count(event, LIQUIDATION)

    cpdef on_candle(self, Candle event):
        self._count(event, CANDLE)

    cpdef on_book_status(self, BookStatus event):
        cdef SymbolTally tally = self._of(event)
        if event._new == GAP:
            tally._counts[GAPS] += 1
            if event.reason.startswith(_CHECKSUM):
                tally._counts[CHECKSUM_FAILURES] += 1
        if event._new == LIVE:
            tally.first_live = tally.first_live or self.now
            if event.book in self._open_gaps:
                self._close_gap(event.book, self.now, False)
        elif event.book not in self._open_gaps and (event._new != SYNCING or event._old == LIVE):
            self._open_gaps[event.book] = (self.now, BookState(event._new).name, event.reason[:MAX_TEXT])

    def _close_gap(self, OrderBook book not None, int64_t end, bint is_open):
        cdef SymbolTally tally
        start, state, reason = self._open_gaps.pop(book)
        tally = self._by_index[book.instrument.index]
        tally.not_live_ns += max(0, end - start)
        self.book_gaps.add(
            start, end, exchange=book.instrument.exchange, raw_symbol=book.instrument.raw_symbol, state=state, reason=reason,
            is_open=is_open)

    cpdef on_feed_status(self, FeedStatus event):
        cdef ConnectionTally connection
        status = event.status if event.status in self.statuses or len(self.statuses) < MAX_REASONS else _OTHERS
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if event.status == "disconnected":
            reason = event.reason[:MAX_TEXT]
            connection = self._current.get(event.source)
            if connection is not None:
                connection.end(reason)
            self.disconnects.add(
                ts_recv=event.ts_recv or self.now, source=event.source, exchange=event.exchange, reason=reason)


cdef class SurveyedReplay(Replay):
    """Plays `source` into `survey`, and tells it of every message."""

    def __init__(self, RawSource source not None, Survey survey not None, **options):
        Replay.__init__(self, source, survey, **options)
        self.survey = survey

    cdef int _dispatch(self) except -1:
        cdef int kind = self.source.flags & KIND_MASK
        if kind == KIND_TEXT or kind == KIND_BINARY:
            self.survey.on_message(self.source.source, self.source.ts_recv, self.source.flags & LAST_IN_BATCH != 0)
        elif self.source.ts_recv:
            self.survey._pass_to(self.source.ts_recv)
        Replay._dispatch(self)
        if kind == KIND_SOURCE:
            declared = self.source.sources.get(self.source.source)
            self.survey.declare(
                self.source.source, self._pipelines[self.source.source], str(declared.get("url", "")))
        return 0
