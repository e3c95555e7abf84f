# cython: language_level=3, nonecheck=True
"""Checks of books against what the exchange says elsewhere."""
from libc.stdint cimport int64_t

from feeds.book cimport ASK, BID, OrderBook
from feeds.events cimport BookUpdate, EventHandler, Quote
from feeds.levels cimport PriceLevel

import bisect
from typing import Any, NamedTuple

__all__ = ["CheckResult", "Mismatch", "QuoteCheck"]

MAX_MISMATCHES = 20              # shown; all are counted


class Mismatch(NamedTuple):
    """A book whose top is not the exchange's: ids, and (bid, ask) of both, each as
    (price mantissa, decimals, qty mantissa, decimals)."""

    instrument: Any
    book_id: int
    quote_id: int
    book: tuple
    quote: tuple


class CheckResult(NamedTuple):
    """How many book updates were compared, how many agreed, how many had no quote before them; the first mismatches."""

    compared: int
    equal: int
    without_quote: int
    mismatches: list


cdef class QuoteCheck(Stage):
    """Collects the top of every book update and every quote that pass, and compares them in `result()`.

    After each applied message the book's best bid and ask, price and quantity, must be those of the quote with the greatest
    update id not above the message's. The two streams interleave, so the comparison waits until all have passed. Only for
    exchanges whose quotes and books share one number space of update ids. Memory grows with the recording: 300 bytes a
    message.
    """

    def __init__(self, EventHandler downstream not None):
        Stage.__init__(self, downstream)
        self._quotes = {}
        self._books = {}

    cpdef on_quote(self, Quote event):
        if event.sequence == 0:                      # not numbered: there is nothing to compare by
            self.downstream.on_quote(event)
            return
        self._quotes.setdefault(event.instrument, []).append((
            event.sequence,
            _exact(event.bid_price_mantissa, event.price_decimals, event.bid_qty_mantissa, event.qty_decimals),
            _exact(event.ask_price_mantissa, event.price_decimals, event.ask_qty_mantissa, event.qty_decimals),
        ))
        self.downstream.on_quote(event)

    cpdef on_book(self, BookUpdate event):
        cdef OrderBook book = event.book
        self._books.setdefault(event.instrument, []).append((book.last_id, _top(book, BID), _top(book, ASK)))
        self.downstream.on_book(event)

    def result(self):
        """Compare what was collected; a `CheckResult`."""
        compared = equal = without_quote = 0
        mismatches = []
        for instrument, books in self._books.items():
            quotes = sorted(self._quotes.get(instrument, ()), key=_id)
            ids = [quote[0] for quote in quotes]
            for book_id, bid, ask in books:
                at = bisect.bisect_right(ids, book_id)
                if at == 0:
                    without_quote += 1
                    continue
                quote_id, quote_bid, quote_ask = quotes[at - 1]
                compared += 1
                if bid == quote_bid and ask == quote_ask:
                    equal += 1
                elif len(mismatches) < MAX_MISMATCHES:
                    mismatches.append(Mismatch(instrument, book_id, quote_id, (bid, ask), (quote_bid, quote_ask)))
        return CheckResult(compared, equal, without_quote, mismatches)


def _id(quote):
    return quote[0]


cdef tuple _exact(int64_t price, int price_decimals, int64_t qty, int qty_decimals):
    """(price, qty) in a form that is equal for equal numbers, whatever their decimals: mantissas without trailing zeros."""
    while price_decimals and price % 10 == 0:
        price //= 10
        price_decimals -= 1
    while qty_decimals and qty % 10 == 0:
        qty //= 10
        qty_decimals -= 1
    return price, price_decimals, qty, qty_decimals


cdef tuple _top(OrderBook book, int side):
    cdef PriceLevel level
    if not book.best(side, &level):
        return _exact(0, 0, 0, 0)
    return _exact(level.price, book.price_decimals, level.qty, book.qty_decimals)
