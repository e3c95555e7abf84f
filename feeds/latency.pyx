# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Latency, in histograms of a fixed size."""
from libc.stdint cimport int64_t, uint64_t

from feeds.clock cimport wall_ns
from feeds.events cimport BookUpdate, EventHandler, Quote, Ticker, Trade

__all__ = ["Histogram", "LatencyProbe"]

cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil

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


cdef class LatencyProbe(Stage):
    """Measures how long after the read of its last byte an event reaches `downstream`, per callback, in `read_to_callback`.

    Only for live runs: in a replay receive times lie in the past.
    """

    def __init__(self, EventHandler downstream not None):
        Stage.__init__(self, downstream)
        self.read_to_callback = Histogram()

    cpdef on_trade(self, Trade event):
        self.read_to_callback.add(wall_ns() - event.ts_recv)
        self.downstream.on_trade(event)

    cpdef on_quote(self, Quote event):
        self.read_to_callback.add(wall_ns() - event.ts_recv)
        self.downstream.on_quote(event)

    cpdef on_book(self, BookUpdate event):
        self.read_to_callback.add(wall_ns() - event.ts_recv)
        self.downstream.on_book(event)

    cpdef on_ticker(self, Ticker event):
        self.read_to_callback.add(wall_ns() - event.ts_recv)
        self.downstream.on_ticker(event)
