from libc.stdint cimport int64_t, uint32_t, uint64_t

from feeds.events cimport Stage


# Fixed-size log-linear histogram of ns: 32 buckets per power of two, so that a value is known within 3.2 %. Values of
# 2**40 ns (18 minutes) and above share the last bucket; negative ones count as 0.
cdef class Histogram:
    cdef:
        uint64_t buckets[1152]
        readonly uint64_t count
        readonly int64_t max

    cdef void add(self, int64_t ns) noexcept nogil


# What a chain took, stage by stage, of every so-many-th message. Measures beside the data path: no stage, book or handler
# reads it. Used by one thread.
cdef class Latency:
    cdef:
        readonly Histogram kernel_to_read
        readonly Histogram read_to_decode
        readonly Histogram decode
        readonly Histogram book
        readonly Histogram to_callback
        readonly Histogram callback
        readonly bint is_live
        readonly int every
        double _ns_per_tick
        uint32_t _random
        int until_next           # messages until one is measured
        bint measuring           # the message in progress is measured
        # Of that message, in ticks:
        uint64_t _began
        uint64_t _waited         # ... for its turn since the read (live)
        uint64_t _book_began
        bint _is_decoded         # its first event has been stamped

    # In the order of a message's life; of use only while `measuring`.
    cdef void begin(self, int64_t ts_recv) noexcept
    cdef void decoded(self) noexcept
    cdef void book_began(self) noexcept
    cdef void book_done(self) noexcept
    cdef uint64_t entered(self) noexcept
    cdef void left(self, uint64_t entered) noexcept
    cdef int64_t _ns(self, uint64_t ticks) noexcept


cdef inline void begin_message(Latency latency, int64_t ts_recv) noexcept:
    """A message is about to be decoded: decide whether to measure it."""
    latency.until_next -= 1
    latency.measuring = latency.until_next <= 0
    if latency.measuring:
        latency.begin(ts_recv)


# Before a handler: measures its callbacks. Passes everything on unchanged.
cdef class LatencyProbe(Stage):
    cdef readonly Latency latency
