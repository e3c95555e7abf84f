from libc.stdint cimport int64_t, uint64_t

from feeds.events cimport BookUpdate, Quote, Stage, Ticker
from feeds.instrument cimport Instrument


# What is due for one instrument at the end of the batch.
cdef class _Due:
    cdef:
        Quote quote              # ours, refilled
        BookUpdate update        # ours, refilled
        Ticker ticker            # ours, refilled; None before the first
        bint has_quote
        bint has_update
        bint has_ticker


cdef class Conflator(Stage):
    cdef:
        list _due                # by instrument index
        list _order              # the _Due that have something, in the order in which they got it
        readonly uint64_t quotes_in
        readonly uint64_t quotes_out
        readonly uint64_t tickers_in
        readonly uint64_t tickers_out
        readonly uint64_t books_in           # deltas and snapshots that became part of a book
        readonly uint64_t books_out
        readonly uint64_t books_withheld     # of books_in, those whose book was not LIVE any more at the batch's end
        readonly uint64_t trades
        readonly uint64_t batches

    cdef _Due _due_of(self, Instrument instrument)
    cdef int _deliver(self, _Due due) except -1
