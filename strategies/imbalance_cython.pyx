# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, nonecheck=True
"""The strategy of `imbalance.py` as a C-level class: overrides by C call, reads the book without making an object."""
from feeds.book cimport ASK, BID, OrderBook
from feeds.events cimport BUY, BookStatus, BookUpdate, Trade
from feeds.instrument cimport Instrument
from feeds.levels cimport POW10, PriceLevel
from strategies.strategy cimport Strategy

__all__ = ["BookImbalance"]


cdef class BookImbalance(Strategy):
    """Counts a signal whenever the imbalance of the best `levels` levels crosses `threshold`; see `imbalance.py`."""

    cdef:
        readonly int levels
        readonly double threshold
        readonly dict positions
        readonly long signals
        readonly long updates
        readonly long merged
        readonly double traded

    def __init__(self, int levels=5, double threshold=0.6):
        if not 1 <= levels <= 32:
            raise ValueError(f"expected 1 to 32 levels, found {levels}")
        self.levels = levels
        self.threshold = threshold
        self.positions = {}

    cpdef on_book(self, BookUpdate event):
        cdef double bid_qty = self._qty(event.book, BID)
        cdef double ask_qty = self._qty(event.book, ASK)
        cdef double total = bid_qty + ask_qty
        cdef double imbalance = (bid_qty - ask_qty) / total if total else 0.0
        self.updates += 1
        self.merged += event.merged
        if imbalance > self.threshold:
            self._signal(event.instrument, 1)
        elif imbalance < -self.threshold:
            self._signal(event.instrument, -1)

    cpdef on_trade(self, Trade event):
        cdef double qty = event.qty_mantissa / <double> POW10[event.qty_decimals]
        self.traded += qty if event._side == BUY else -qty

    cpdef on_book_status(self, BookStatus event):
        self.positions[event.instrument] = 0

    cdef double _qty(self, OrderBook book, int side) noexcept:
        cdef PriceLevel[32] top
        cdef Py_ssize_t count = book.top(side, self.levels, top)
        cdef Py_ssize_t i
        cdef double total = 0
        for i in range(count):
            total += top[i].qty / <double> POW10[book.qty_decimals]
        return total

    cdef int _signal(self, Instrument instrument, int position) except -1:
        if self.positions[instrument] != position:
            self.positions[instrument] = position
            self.signals += 1
        return 0
