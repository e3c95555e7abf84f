from libc.stdint cimport int64_t

from feeds.instrument cimport Instrument
from feeds.ladder cimport Ladder
from feeds.levels cimport LevelVector, PriceLevel


cpdef enum BookState:
    SYNCING = 1      # waiting for a snapshot, or for the messages that join it
    LIVE = 2         # equal to the exchange's book as of the last applied message
    GAP = 3          # a message was missed, or could not be represented; a new snapshot has been asked for
    STALE = 4        # the connection is gone; the levels are those of the last message
    CROSSED = 5      # best bid >= best ask: something is wrong, here or there


cpdef enum BookSide:
    BID = 0
    ASK = 1


cdef class OrderBook:
    cdef:
        readonly Instrument instrument
        BookState _state
        # Decimals of the mantissas inside; `rescale` follows the instrument's when they grow.
        int price_decimals
        int qty_decimals
        Ladder[2] ladders                    # by side
        # Of the last message that was applied.
        readonly int64_t ts_event
        readonly int64_t ts_recv
        readonly int64_t last_id

    # Mutators: only `BookBuilder` calls them. qty 0 removes; removing what is not there is normal and ignored.
    cdef int apply(self, int side, const LevelVector* levels) except -1
    cdef void clear(self) noexcept
    cdef int rescale(self) except -1

    # Readers for C code; they do not look at the state. False where the side is empty.
    cdef bint best(self, int side, PriceLevel* level) noexcept nogil
    # The `n` best levels of a side, best first; returns how many there were.
    cdef Py_ssize_t top(self, int side, Py_ssize_t n, PriceLevel* levels) noexcept nogil
    cdef Py_ssize_t depth(self, int side) noexcept nogil
    cdef bint is_crossed(self) noexcept nogil

    cdef object _best_level(self, int side)
    cdef list _levels(self, int side, Py_ssize_t n)
    cdef PriceLevel* _copy(self, int side, Py_ssize_t n) except NULL
