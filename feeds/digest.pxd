from libc.stdint cimport int64_t, uint64_t

from feeds.events cimport Event, Number, Stage


# A chained 64-bit digest over every callback that passes: equal digests mean the same callbacks, in the same order, with the
# same numbers.
cdef class CallbackDigest(Stage):
    cdef:
        uint64_t _state
        readonly uint64_t trades
        readonly uint64_t quotes
        readonly uint64_t books
        readonly uint64_t deltas
        readonly uint64_t statuses
        readonly uint64_t others         # tickers, funding, open interest, liquidations, candles

    cdef void _mix(self, int64_t value) noexcept
    cdef void _mix_number(self, const Number* number) noexcept
    cdef int _begin(self, int kind, Event event) except -1
    cdef int _mix_text(self, object text) except -1
