# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Latency, stage by stage, in histograms of a fixed size."""
from libc.stdint cimport int64_t, uint64_t

from feeds.clock cimport wall_ns
from feeds.events cimport BookUpdate, EventHandler, Quote, Ticker, Trade

__all__ = ["Histogram", "Latency", "LatencyProbe"]

cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil

cdef extern from "ticks.h" nogil:
    uint64_t feeds_ticks()
    void feeds_clock_pair(uint64_t* ticks, uint64_t* ns)

DEFAULT_EVERY = 16
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}

cdef enum:
    MAX_EVERY = 1_000_000
    CALIBRATION_NS = 5_000_000       # two clocks that are compared this long agree within some 20 ppm

cdef uint64_t FIRST_TICKS
cdef uint64_t FIRST_NS
feeds_clock_pair(&FIRST_TICKS, &FIRST_NS)

cdef int TOP_BIT = 40


cdef inline int _bucket(int64_t ns) noexcept nogil:
    """Bucket of a value: below 32 its own, above by its highest bit and the five bits behind it."""
    cdef int high
    if ns < 32:
        return <int> ns if ns > 0 else 0
    high = 63 - __builtin_clzll(<unsigned long long> ns)
    if high >= TOP_BIT:
        return 1151
    return 32 + (high - 5) * 32 + <int> ((ns >> (high - 5)) & 31)


cdef int64_t _upper(int bucket) noexcept nogil:
    """The largest value that falls into a bucket."""
    cdef int high
    if bucket < 32:
        return bucket
    high = (bucket - 32) // 32 + 5
    return ((<int64_t> (32 + (bucket & 31)) + 1) << (high - 5)) - 1


cdef class Histogram:
    """Counts durations in ns. `quantile(0.99)` is right within 3.2 %, `max` is exact."""

    cdef void add(self, int64_t ns) noexcept nogil:
        self.buckets[_bucket(ns)] += 1
        self.count += 1
        if ns > self.max:
            self.max = ns

    def record(self, int64_t ns):
        """Count one duration."""
        self.add(ns)

    def merge(self, Histogram other not None):
        """Count everything that `other` has counted, too."""
        cdef int bucket
        for bucket in range(1152):
            self.buckets[bucket] += other.buckets[bucket]
        self.count += other.count
        self.max = max(self.max, other.max)

    def to_dict(self):
        """Return {"count", "p50", "p99", "p99.9", "max"}; durations in ns."""
        quantiles = {name: self.quantile(q) for name, q in QUANTILES.items()}
        return {"count": self.count, **quantiles, "max": self.max}

    def quantile(self, double q):
        """Return the duration in ns that a share `q` (0 to 1) of those counted does not exceed, 0 when there is none."""
        cdef uint64_t wanted
        cdef uint64_t seen = 0
        cdef int bucket
        if not 0 <= q <= 1:
            raise ValueError(f"expected a quantile from 0 to 1, found {q}")
        wanted = <uint64_t> (q * self.count + 0.999999)
        if wanted == 0:
            wanted = 1
        for bucket in range(1152):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(_upper(bucket), self.max)
        return 0


cdef class Latency:
    """Measures where the time between a packet and a strategy goes, in a histogram per stage, ns.

    kernel_to_read   the kernel got the first bytes of a read -> the read (live, where the kernel tells)
    read_to_decode   the read -> a message's turn to be decoded: those before it, their callbacks, recording (live)
    decode           a message's turn -> its first event
    book             a delta -> checked, applied, and the update on its way
    to_callback      the read (in a replay: a message's turn) -> the handler is entered
    callback         the handler is entered -> it has returned; trades, quotes and books each count

    A stamp takes as long as decoding a field, so one message in `every` is measured, on average and at random distances: a
    quantile is that of all messages, a maximum that of the measured ones. `every=1` measures all. `kernel_to_read` counts
    every read.

    Give it to `Replay` or `LiveFeed`, and put a `LatencyProbe` before the handler; `feeds.session` does both. Several
    pipelines of one thread may share it. What handlers are given, and when, does not depend on it.
    """

    def __init__(self, *, bint is_live=False, int every=DEFAULT_EVERY):
        if not 1 <= every <= MAX_EVERY:
            raise ValueError(f"expected every of 1 to {MAX_EVERY}, found {every}")
        self.is_live = is_live
        self.every = every
        self.kernel_to_read = Histogram()
        self.read_to_decode = Histogram()
        self.decode = Histogram()
        self.book = Histogram()
        self.to_callback = Histogram()
        self.callback = Histogram()
        self._random = 1
        self.until_next = 1
        self._ns_per_tick = _measure_tick()

    def to_dict(self):
        """Return stage -> `Histogram.to_dict()`, of the stages that were measured, in the order of a message's way."""
        stages = ("kernel_to_read", "read_to_decode", "decode", "book", "to_callback", "callback")
        return {name: getattr(self, name).to_dict() for name in stages if getattr(self, name).count}

    def merge(self, Latency other not None):
        """Count everything that `other` has counted, too."""
        self.kernel_to_read.merge(other.kernel_to_read)
        self.read_to_decode.merge(other.read_to_decode)
        self.decode.merge(other.decode)
        self.book.merge(other.book)
        self.to_callback.merge(other.to_callback)
        self.callback.merge(other.callback)

    cdef void begin(self, int64_t ts_recv) noexcept:
        cdef int64_t waited
        # Distances of 1 to 2 * every - 1: a fixed one would fall into step with the messages.
        self._random = self._random * 1664525 + 1013904223
        self.until_next = 1 + <int> ((self._random >> 8) % <uint32_t> (2 * self.every - 1))
        self._is_decoded = False
        self._waited = 0
        if self.is_live:
            waited = wall_ns() - ts_recv
            self.read_to_decode.add(waited)
            if waited > 0:
                self._waited = <uint64_t> (waited / self._ns_per_tick)
        self._began = self._book_began = feeds_ticks()

    cdef void decoded(self) noexcept:
        if not self._is_decoded:
            self._is_decoded = True
            self.decode.add(self._ns(feeds_ticks() - self._began))

    cdef void book_began(self) noexcept:
        self._book_began = feeds_ticks()

    cdef void book_done(self) noexcept:
        self.book.add(self._ns(feeds_ticks() - self._book_began))

    cdef uint64_t entered(self) noexcept:
        cdef uint64_t now = feeds_ticks()
        self.to_callback.add(self._ns(now - self._began + self._waited))
        return now

    cdef void left(self, uint64_t entered) noexcept:
        self.callback.add(self._ns(feeds_ticks() - entered))

    cdef inline int64_t _ns(self, uint64_t ticks) noexcept:
        return <int64_t> (<double> <int64_t> ticks * self._ns_per_tick)


cdef double _measure_tick():
    """Return what a tick is in ns, by both clocks since this module was imported; may spin for CALIBRATION_NS."""
    cdef uint64_t ticks = 0
    cdef uint64_t ns = FIRST_NS
    while ns - FIRST_NS < CALIBRATION_NS:
        feeds_clock_pair(&ticks, &ns)
    return <double> (ns - FIRST_NS) / <double> (ticks - FIRST_TICKS)


cdef class LatencyProbe(Stage):
    """Measures for `latency` the callbacks that `downstream` gets, and passes them on unchanged."""

    def __init__(self, EventHandler downstream not None, Latency latency not None):
        Stage.__init__(self, downstream)
        self.latency = latency

    cpdef on_trade(self, Trade event):
        cdef uint64_t entered
        if not self.latency.measuring:
            self.downstream.on_trade(event)
            return
        entered = self.latency.entered()
        self.downstream.on_trade(event)
        self.latency.left(entered)

    cpdef on_quote(self, Quote event):
        cdef uint64_t entered
        if not self.latency.measuring:
            self.downstream.on_quote(event)
            return
        entered = self.latency.entered()
        self.downstream.on_quote(event)
        self.latency.left(entered)

    cpdef on_book(self, BookUpdate event):
        cdef uint64_t entered
        if not self.latency.measuring:
            self.downstream.on_book(event)
            return
        entered = self.latency.entered()
        self.downstream.on_book(event)
        self.latency.left(entered)

    cpdef on_ticker(self, Ticker event):
        cdef uint64_t entered
        if not self.latency.measuring:
            self.downstream.on_ticker(event)
            return
        entered = self.latency.entered()
        self.downstream.on_ticker(event)
        self.latency.left(entered)
