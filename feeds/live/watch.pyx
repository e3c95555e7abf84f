# cython: language_level=3, boundscheck=False, wraparound=False
"""The newest of everything, for somebody who looks now and then."""
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t, uint64_t

from feeds.book cimport OrderBook
from feeds.events cimport (
    BookDelta,
    BookStatus,
    BookUpdate,
    Candle,
    Event,
    EventHandler,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Ticker,
    Trade,
)
from feeds.instrument cimport Instrument

from collections import OrderedDict
from math import nan

from feeds.book import Level

__all__ = ["Happening", "Row", "Watch"]


cdef class Row:
    """What is newest of one instrument."""

    cdef:
        readonly Instrument instrument
        readonly uint64_t messages           # merged and superseded ones too
        readonly uint64_t merged             # of them, those that a newer one stood for
        readonly uint64_t trades
        readonly int64_t ts_recv             # of the newest event, ns, 0 = none yet
        readonly str reason                  # of the state of the book
        readonly OrderBook book              # None: none yet
        # The newest quote, at decimals of its own; False: none since the connection was made.
        bint _has_quote
        int64_t _bid_price, _bid_qty, _ask_price, _ask_qty
        int _price_decimals, _qty_decimals

    @property
    def state(self):
        """The `BookState` of the book, None where there is none."""
        return None if self.book is None else self.book.state

    @property
    def best_bid(self):
        """The best bid as a `Level`, of the book where there is one; None while that is not LIVE. A qty may be unknown: nan."""
        if self.book is not None:
            return self.book.best_bid
        return self._level(self._bid_price, self._bid_qty)

    @property
    def best_ask(self):
        """The best ask, in the same way."""
        if self.book is not None:
            return self.book.best_ask
        return self._level(self._ask_price, self._ask_qty)

    cdef object _level(self, object price, object qty):       # Python's numbers divide exactly
        if not self._has_quote or qty == 0:
            return None
        return Level(price / 10**self._price_decimals, qty / 10**self._qty_decimals if qty > 0 else nan)

    cdef inline int _add(self, Event event, int count) noexcept:
        self.messages += count
        self.ts_recv = event.ts_recv
        return 0


cdef class Happening:
    """A status, and how often it has been told with the same reason."""

    cdef:
        readonly object event                # the newest
        readonly uint64_t count


cdef class Watch(EventHandler):
    """Keeps the newest values of each instrument, and the last `history` different statuses. Nothing else is done per event."""

    cdef:
        list _rows                           # by instrument index
        readonly Py_ssize_t history
        object _happenings                   # what it is and its reason -> Happening, the newest last

    def __init__(self, *, Py_ssize_t history=64):
        if history < 1:
            raise ValueError(f"expected history of at least 1, found {history}")
        self.history = history
        self._rows = []
        self._happenings = OrderedDict()

    @property
    def rows(self):
        """The rows of all instruments that something has come of, by their index."""
        return [row for row in self._rows if row is not None]

    @property
    def happenings(self):
        """The last statuses, the newest last."""
        return list(self._happenings.values())

    cpdef Row row(self, Instrument instrument):
        """Return the row of an instrument, which may be empty."""
        return self._row(instrument)

    cdef inline Row _row(self, Instrument instrument):
        if instrument.index < PyList_GET_SIZE(self._rows):
            row = self._rows[instrument.index]
            if row is not None:
                return <Row> row
        return self._new_row(instrument)

    cdef Row _new_row(self, Instrument instrument):
        cdef Row row = Row.__new__(Row)
        row.instrument = instrument
        row.reason = ""
        self._rows.extend([None] * (instrument.index + 1 - len(self._rows)))
        self._rows[<Py_ssize_t> instrument.index] = row
        return row

    cpdef on_trade(self, Trade event):
        cdef Row row = self._row(event.instrument)
        row._add(event, 1)
        row.trades += 1

    cpdef on_quote(self, Quote event):
        cdef Row row = self._row(event.instrument)
        row._add(event, event.merged)
        row.merged += event.merged - 1
        row._has_quote = True
        row._price_decimals, row._qty_decimals = event.price_decimals, event.qty_decimals
        row._bid_price, row._bid_qty = event.bid_price_mantissa, event.bid_qty_mantissa
        row._ask_price, row._ask_qty = event.ask_price_mantissa, event.ask_qty_mantissa

    cpdef on_book_delta(self, BookDelta event):
        self._row(event.instrument)._add(event, event.merged)

    cpdef on_book(self, BookUpdate event):
        cdef Row row = self._row(event.instrument)
        row.merged += event.merged - 1
        row.book = event.book

    cpdef on_ticker(self, Ticker event):
        cdef Row row = self._row(event.instrument)
        row._add(event, event.merged)
        row.merged += event.merged - 1

    cpdef on_funding(self, Funding event):
        self._row(event.instrument)._add(event, 1)

    cpdef on_open_interest(self, OpenInterest event):
        self._row(event.instrument)._add(event, 1)

    cpdef on_liquidation(self, Liquidation event):
        self._row(event.instrument)._add(event, 1)

    cpdef on_candle(self, Candle event):
        self._row(event.instrument)._add(event, 1)

    cpdef on_book_status(self, BookStatus event):
        cdef Row row = self._row(event.instrument)
        row.book = event.book
        row.reason = event.reason
        self._note((event.instrument, event.old, event.new, event.reason), event)

    cpdef on_feed_status(self, FeedStatus event):
        cdef Row row
        if event.status == "disconnected":
            for row in self.rows:                    # which of them came from this connection, nobody knows
                if row.instrument.exchange == event.exchange:
                    row._has_quote = False
        self._note((event.exchange, event.source, event.status, event.reason), event)

    cdef int _note(self, tuple what, event) except -1:
        cdef Happening happening = self._happenings.get(what)
        if happening is None:
            happening = self._happenings[what] = Happening.__new__(Happening)
            if len(self._happenings) > self.history:
                self._happenings.popitem(last=False)
        happening.event = event
        happening.count += 1
        self._happenings.move_to_end(what)
        return 0
