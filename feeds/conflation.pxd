from libc.stdint cimport int64_t, uint64_t

from feeds.events cimport BookUpdate, Quote, Stage, Ticker
from feeds.instrument cimport Instrument


# What is due for one instrument at the end of the batch.
cdef class _Due:
    cdef:
        Py_ssize_t index         # of its instrument
        Quote quote              # ours, refilled
        BookUpdate update        # ours, refilled
        Ticker ticker            # ours, refilled; None before the first
        bint has_quote
        bint has_update
        bint has_ticker


cdef class Conflator(Stage):
    cdef:
        list _due                # by instrument index
        Py_ssize_t* _order       # the indices of those that have something, in the order in which they got it
        Py_ssize_t _order_size
        Py_ssize_t _order_capacity
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
    cdef _Due _new_due(self, Py_ssize_t index)
    cdef int _put_in_order(self, _Due due) except -1
    cdef int _grow_order(self) except -1
    cdef int _deliver(self, _Due due) except -1
    cdef int _forget(self) except -1
