# cython: language_level=3, boundscheck=False, wraparound=False, nonecheck=True
"""Conflation: one callback per burst with the newest state, and a receipt for what was merged."""
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

from feeds.book cimport LIVE
from feeds.events cimport BookStatus, EventHandler, Number, Trade, is_unshared

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
    """Holds books, quotes and tickers back until the batch (all messages of one socket read, or of several) ends.

    Then each instrument that changed gets at most one `on_book`, one `on_quote` and one `on_ticker`, carrying the newest
    state and saying in `merged` and `ts_event_first` what it stands for; of a ticker, the newest of each field. Instruments
    follow in the order in which they first changed. Trades, deltas, status events and all others pass at once and in order: so a trade may be seen before the book that it made. A book that
    is not LIVE when the batch ends is not delivered.
    """

    def __init__(self, EventHandler downstream not None):
        Stage.__init__(self, downstream)
        self._due = []

    def __dealloc__(self):
        free(self._order)

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
            if not (due.has_update or due.has_ticker):
                self._put_in_order(due)
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

    cpdef on_ticker(self, Ticker event):
        cdef _Due due = self._due_of(event.instrument)
        cdef Ticker ticker
        self.tickers_in += 1
        if not due.has_ticker:
            if not (due.has_quote or due.has_update):
                self._put_in_order(due)
            due.has_ticker = True
            due.ticker = Ticker.__new__(Ticker)      # one a batch: whoever got the last one may have kept it
            due.ticker.ts_event_first = event.ts_event_first
        ticker = due.ticker
        if ticker.ts_event_first == 0:
            ticker.ts_event_first = event.ts_event_first
        ticker.begin(event.instrument, event.ts_event, event.ts_recv)
        _newer(&ticker._last_price, &event._last_price)
        _newer(&ticker._mark_price, &event._mark_price)
        _newer(&ticker._index_price, &event._index_price)
        _newer(&ticker._open_interest, &event._open_interest)
        _newer(&ticker._funding_rate, &event._funding_rate)
        if event.next_funding_time:
            ticker.next_funding_time = event.next_funding_time
        ticker.merged += event.merged

    cpdef on_book(self, BookUpdate event):
        cdef _Due due = self._due_of(event.instrument)
        cdef BookUpdate update
        self.books_in += event.merged
        if not is_unshared(<void*> due.update):
            due.update = BookUpdate.__new__(BookUpdate)
        update = due.update
        if not due.has_update:
            if not (due.has_quote or due.has_ticker):
                self._put_in_order(due)
            due.has_update = True
            update.merged = 0
            update.ts_event_first = event.ts_event_first
        elif update.ts_event_first == 0:
            update.ts_event_first = event.ts_event_first
        update.begin(event.instrument, event.ts_event, event.ts_recv)
        update.book = event.book
        update.merged += event.merged

    cpdef on_batch_end(self, int64_t ts_recv):
        cdef Py_ssize_t i = 0
        self.batches += 1
        try:
            while i < self._order_size:              # which a handler may make grow
                self._deliver(<_Due> self._due[self._order[i]])
                i += 1
            self._order_size = 0
        finally:
            if self._order_size:                     # a handler that raises ends the batch for everybody
                self._forget()
        self.downstream.on_batch_end(ts_recv)

    cdef int _forget(self) except -1:
        """Leave undelivered what is due."""
        cdef _Due due
        cdef Py_ssize_t i
        for i in range(self._order_size):
            due = <_Due> self._due[self._order[i]]
            due.has_quote = due.has_update = due.has_ticker = False
        self._order_size = 0
        return 0

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
        if due.has_ticker:
            due.has_ticker = False
            self.tickers_out += 1
            self.downstream.on_ticker(due.ticker)
        return 0

    cdef inline int _put_in_order(self, _Due due) except -1:
        if self._order_size == self._order_capacity:
            self._grow_order()
        self._order[self._order_size] = due.index
        self._order_size += 1
        return 0

    cdef int _grow_order(self) except -1:
        cdef Py_ssize_t capacity = 2 * self._order_capacity + 16
        cdef Py_ssize_t* order = <Py_ssize_t*> realloc(self._order, capacity * sizeof(Py_ssize_t))
        if order == NULL:
            raise MemoryError(f"no room for what is due for {capacity} instruments")
        self._order = order
        self._order_capacity = capacity
        return 0

    cdef inline _Due _due_of(self, Instrument instrument):
        cdef Py_ssize_t index = instrument.index
        if index < PyList_GET_SIZE(self._due):
            due = self._due[index]
            if due is not None:
                return <_Due> due
        return self._new_due(index)

    cdef _Due _new_due(self, Py_ssize_t index):
        cdef _Due due
        if index >= len(self._due):
            self._due.extend([None] * (index + 1 - len(self._due)))
        due = _Due.__new__(_Due)
        due.index = index
        due.quote = Quote.__new__(Quote)
        due.update = BookUpdate.__new__(BookUpdate)
        self._due[index] = due
        return due


cdef inline void _newer(Number* field, const Number* newer) noexcept:
    if newer.is_known:
        field[0] = newer[0]
