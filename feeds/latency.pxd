from libc.stdint cimport int64_t, uint64_t

from feeds.events cimport Stage


# Fixed-size log-linear histogram of ns: 32 buckets per power of two, so that a value is known within 3.2 %. Values of
# 2**40 ns (18 minutes) and above share the last bucket; negative ones count as 0.
cdef class Histogram:
    cdef:
        uint64_t buckets[1152]
        readonly uint64_t count
        readonly int64_t max

    cdef void add(self, int64_t ns) noexcept nogil


# Live only: stamps each delivered event against a clock. Passes everything on unchanged.
cdef class LatencyProbe(Stage):
    cdef readonly Histogram read_to_callback
