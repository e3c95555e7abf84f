# cython: language_level=3, boundscheck=False, wraparound=False, nonecheck=True
"""Proof of sameness: a digest over delivered callbacks."""
from libc.stdint cimport int64_t, uint64_t

from feeds.book cimport OrderBook
from feeds.events cimport (
    BookDelta, BookStatus, BookUpdate, Candle, Event, EventHandler, FeedStatus, Funding, Liquidation, Number, OpenInterest,
    Quote, Ticker, Trade,
)
from feeds.levels cimport PriceLevel

import zlib

__all__ = ["CallbackDigest"]

cdef Py_ssize_t BOOK_LEVELS = 5          # of each side that go into the digest with every on_book


cdef class CallbackDigest(Stage):
    """Chains every callback on its way to `downstream` into a digest: kind, instrument, times, and all numbers of the event.

    An `on_book` contributes its receipt, the number of levels and the best five of each side. Texts contribute their CRC.
    `hexdigest` after a live run equals that of its replay. Not cryptographic: it finds differences, not forgers.
    """

    def __init__(self, EventHandler downstream not None):
        Stage.__init__(self, downstream)
        self._state = 0xCBF29CE484222325ULL

    @property
    def hexdigest(self):
        """The digest so far, 16 hexadecimal digits."""
        return f"{self._state:016x}"

    @property
    def callbacks(self):
        """How many events have passed."""
        return self.trades + self.quotes + self.deltas + self.books + self.statuses + self.others

    cdef inline void _mix(self, int64_t value) noexcept:
        cdef uint64_t x = (self._state ^ <uint64_t> value) * 0x9E3779B97F4A7C15ULL
        self._state = x ^ (x >> 29)

    cdef inline int _begin(self, int kind, Event event) except -1:
        self._mix(kind)
        self._mix(event.instrument.fingerprint if event.instrument is not None else -1)
        self._mix(event.ts_event)
        self._mix(event.ts_recv)
        self._mix(event.price_decimals * 256 + event.qty_decimals)
        return 0

    cdef inline void _mix_number(self, const Number* number) noexcept:
        self._mix(number.mantissa if number.is_known else -1)
        self._mix(number.decimals * 2 + number.is_known)

    cdef int _mix_text(self, object text) except -1:
        self._mix(zlib.crc32(str(text).encode()))
        return 0

    cpdef on_trade(self, Trade event):
        self.trades += 1
        self._begin(1, event)
        self._mix(event.price_mantissa)
        self._mix(event.qty_mantissa)
        self._mix(event.numeric_id)
        self._mix(event._side)
        if event.text_id is not None:
            self._mix_text(event.text_id)
        if event.is_backlog:
            self._mix(1)
        self.downstream.on_trade(event)

    cpdef on_quote(self, Quote event):
        self.quotes += 1
        self._begin(2, event)
        self._mix(event.bid_price_mantissa)
        self._mix(event.bid_qty_mantissa)
        self._mix(event.ask_price_mantissa)
        self._mix(event.ask_qty_mantissa)
        self._mix(event.sequence)
        self._mix(event.merged)
        self._mix(event.ts_event_first)
        self.downstream.on_quote(event)

    cpdef on_book_delta(self, BookDelta event):
        cdef Py_ssize_t i
        self.deltas += 1
        self._begin(3, event)
        self._mix(event.is_snapshot)
        self._mix(event.depth)
        self._mix(event.first_id)
        self._mix(event.last_id)
        self._mix(event.previous_id)
        for i in range(event.bid_levels.size):
            self._mix(event.bid_levels.items[i].price)
            self._mix(event.bid_levels.items[i].qty)
        self._mix(event.bid_levels.size)
        for i in range(event.ask_levels.size):
            self._mix(event.ask_levels.items[i].price)
            self._mix(event.ask_levels.items[i].qty)
        self._mix(event.ask_levels.size)
        self.downstream.on_book_delta(event)

    cpdef on_book(self, BookUpdate event):
        cdef PriceLevel[5] levels
        cdef OrderBook book = event.book
        cdef Py_ssize_t i
        cdef Py_ssize_t count
        cdef int side
        self.books += 1
        self._begin(4, event)
        self._mix(event.merged)
        self._mix(event.ts_event_first)
        for side in range(2):
            self._mix(book.depth(side))
            count = book.top(side, BOOK_LEVELS, levels)
            for i in range(count):
                self._mix(levels[i].price)
                self._mix(levels[i].qty)
        self.downstream.on_book(event)

    cpdef on_book_status(self, BookStatus event):
        self.statuses += 1
        self._begin(5, event)
        self._mix(event._old)
        self._mix(event._new)
        self._mix_text(event.reason)
        self.downstream.on_book_status(event)

    cpdef on_feed_status(self, FeedStatus event):
        self.statuses += 1
        self._begin(6, event)
        self._mix(event.source)
        self._mix_text(event.exchange)
        self._mix_text(event.status)
        self._mix_text(event.reason)
        self.downstream.on_feed_status(event)

    cpdef on_ticker(self, Ticker event):
        self.others += 1
        self._begin(8, event)
        self._mix_number(&event._last_price)
        self._mix_number(&event._mark_price)
        self._mix_number(&event._index_price)
        self._mix_number(&event._open_interest)
        self._mix_number(&event._funding_rate)
        self._mix(event.next_funding_time)
        self._mix(event.merged)
        self._mix(event.ts_event_first)
        self.downstream.on_ticker(event)

    cpdef on_funding(self, Funding event):
        self.others += 1
        self._begin(9, event)
        self._mix_number(&event._funding_rate)
        self._mix_number(&event._next_funding_rate)
        self._mix(event.next_funding_time)
        self.downstream.on_funding(event)

    cpdef on_open_interest(self, OpenInterest event):
        self.others += 1
        self._begin(10, event)
        self._mix_number(&event._open_interest)
        self.downstream.on_open_interest(event)

    cpdef on_liquidation(self, Liquidation event):
        self.others += 1
        self._begin(11, event)
        self._mix_number(&event._price)
        self._mix_number(&event._qty)
        self._mix(event._side)
        self._mix_text(event.id)
        self.downstream.on_liquidation(event)

    cpdef on_candle(self, Candle event):
        self.others += 1
        self._begin(12, event)
        self._mix(event.ts_open)
        self._mix(event.interval)
        self._mix(-1 if event.is_closed is None else event.is_closed)
        self._mix_number(&event._open)
        self._mix_number(&event._high)
        self._mix_number(&event._low)
        self._mix_number(&event._close)
        self._mix_number(&event._volume)
        self._mix_number(&event._quote_volume)
        self.downstream.on_candle(event)

    cpdef on_batch_end(self, int64_t ts_recv):
        self._mix(7)
        self._mix(ts_recv)
        self.downstream.on_batch_end(ts_recv)
