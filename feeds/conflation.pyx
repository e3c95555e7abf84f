# cython: language_level=3, boundscheck=False, wraparound=False, nonecheck=True
"""Conflation: one callback per burst with the newest state, and a receipt for what was merged."""
from libc.stdint cimport int64_t

from feeds.book cimport LIVE
from feeds.events cimport BookStatus, EventHandler, Trade, is_unshared

__all__ = ["POLICIES", "Conflator", "conflated"]

POLICIES = ("batch", "drained", "none")


def conflated(EventHandler handler not None, str policy="batch"):
    """Return what stands before `handler` under a policy: "none" (every update), "batch" or "drained" (the newest).

    These two differ in what a live feed makes a batch of: one socket read, or all reads until nothing more has arrived.
    """
    if policy == "batch" or policy == "drained":
        return Conflator(handler)
    if policy == "none":
        return handler
    raise ValueError(f"expected a conflation policy among {', '.join(POLICIES)}, found {policy!r}")


cdef class Conflator(Stage):
    """Holds books and quotes back until the batch (all messages of one socket read, or of several) ends.

    Then each instrument that changed gets at most one `on_quote` and one `on_book`, carrying the newest state and saying in
    `merged` and `ts_event_first` what it stands for. Instruments follow in the order in which they first changed. Trades,
    deltas and status events pass at once and in order: so a trade may be seen before the book that it made. A book that
    is not LIVE when the batch ends is not delivered.
    """

    def __init__(self, EventHandler downstream not None):
        Stage.__init__(self, downstream)
        self._due = []
        self._order = []

    cpdef on_trade(self, Trade event):
        self.trades += 1
        self.downstream.on_trade(event)

    cpdef on_quote(self, Quote event):
        cdef _Due due = self._due_of(event.instrument)
        cdef Quote quote
        self.quotes_in += event.merged
        if not is_unshared(<void*> due.quote):       # whoever got the last one has kept it
            due.quote = Quote.__new__(Quote)
            due.quote.merged = 0
        quote = due.quote
        if not due.has_quote:
            if not due.has_update:
                self._order.append(due)
            due.has_quote = True
            quote.merged = 0
            quote.ts_event_first = event.ts_event_first
        elif quote.ts_event_first == 0:
            quote.ts_event_first = event.ts_event_first
        quote.instrument = event.instrument
        quote.ts_event = event.ts_event
        quote.ts_recv = event.ts_recv
        quote.price_decimals = event.price_decimals
        quote.qty_decimals = event.qty_decimals
        quote.bid_price_mantissa = event.bid_price_mantissa
        quote.bid_qty_mantissa = event.bid_qty_mantissa
        quote.ask_price_mantissa = event.ask_price_mantissa
        quote.ask_qty_mantissa = event.ask_qty_mantissa
        quote.sequence = event.sequence
        quote.merged += event.merged

    cpdef on_book(self, BookUpdate event):
        cdef _Due due = self._due_of(event.instrument)
        cdef BookUpdate update
        self.books_in += event.merged
        if not is_unshared(<void*> due.update):
            due.update = BookUpdate.__new__(BookUpdate)
        update = due.update
        if not due.has_update:
            if not due.has_quote:
                self._order.append(due)
            due.has_update = True
            update.merged = 0
            update.ts_event_first = event.ts_event_first
        elif update.ts_event_first == 0:
            update.ts_event_first = event.ts_event_first
        update.begin(event.instrument, event.ts_event, event.ts_recv)
        update.book = event.book
        update.merged += event.merged

    cpdef on_batch_end(self, int64_t ts_recv):
        cdef _Due due
        cdef list order
        self.batches += 1
        if self._order:
            order = self._order
            try:
                for due in order:
                    self._deliver(due)
            finally:                                 # a handler that raises ends the batch for everybody
                for due in order:
                    due.has_quote = due.has_update = False
                order.clear()
        self.downstream.on_batch_end(ts_recv)

    cdef int _deliver(self, _Due due) except -1:
        if due.has_update:
            due.has_update = False
            if due.update.book._state == LIVE:
                self.books_out += 1
                self.downstream.on_book(due.update)
            else:
                self.books_withheld += due.update.merged
        if due.has_quote:
            due.has_quote = False
            self.quotes_out += 1
            self.downstream.on_quote(due.quote)
        return 0

    cdef _Due _due_of(self, Instrument instrument):
        cdef Py_ssize_t index = instrument.index
        cdef _Due due
        if index < len(self._due):
            due = <_Due> self._due[index]
            if due is not None:
                return due
        else:
            self._due.extend([None] * (index + 1 - len(self._due)))
        due = _Due.__new__(_Due)
        due.quote = Quote.__new__(Quote)
        due.update = BookUpdate.__new__(BookUpdate)
        self._due[index] = due
        return due
