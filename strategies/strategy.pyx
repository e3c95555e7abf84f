# cython: language_level=3, boundscheck=False, wraparound=False, nonecheck=True
"""`Strategy`, the class that users subclass, and the host that runs one."""
from libc.stdint cimport INT64_MAX, int64_t

from feeds.events cimport (
    BookDelta, BookStatus, BookUpdate, Candle, FeedStatus, Funding, Liquidation, OpenInterest, Quote, Ticker, Trade,
)

import heapq
import operator
import sys

from strategies.errors import StrategyError

__all__ = ["Strategy", "StrategyHost"]

cdef int64_t NOT_STARTED = -1        # due time of a periodic timer while the strategy has no clock


cdef class Strategy(EventHandler):
    """Turns events into decisions. Override the `on_<kind>` methods of `EventHandler` that you need, and these:

    `on_start()` before the first event, `on_stop()` after the last one, `on_timer(name)` for timers set with `set_timer`.
    `now` is the receive time of the event being handled, ns since the epoch: live and replay give the same, so decide by
    it and never by the machine's clock. `books` has every book of the session, `book(instrument)` one of them.
    """

    def __cinit__(self, *_, **__):
        self.name = type(self).__name__
        self.books = {}
        self._timers = []
        self._next_timer = INT64_MAX

    cpdef on_start(self):
        """The session begins; `now` is 0 until the first event."""

    cpdef on_stop(self):
        """The session has ended, in whichever way."""

    cpdef on_timer(self, str name):
        """A timer is due. It fires at the end of the first batch whose receive time is not before its time."""

    cpdef OrderBook book(self, Instrument instrument):
        """Return the instrument's book, or None while no message of it has come."""
        return <OrderBook> self.books.get(instrument)

    def set_timer(self, str name not None, *, at=None, every=None):
        """Have `on_timer(name)` called once `at` a time (ns since the epoch), or each `every` ns from now on.

        Setting a name again adds another timer; `cancel_timer` removes all of a name. A periodic timer that is set before
        the first event counts from that event's batch; one whose time has passed more than once fires once.
        """
        if (at is None) == (every is None):
            raise ValueError("expected either `at` or `every`")
        cdef int64_t due
        if every is None:
            due = operator.index(at)
        else:
            due = operator.index(every)
            if due <= 0:
                raise ValueError(f"expected a period above 0 ns, found {every}")
            due = min(self.now + every, INT64_MAX) if self.now else NOT_STARTED
        if self._firing is not None and due <= self.now:
            due = self.now + 1                       # not again in this batch: it would never end
        self._timer_number += 1                      # equal times fire in the order in which they were set
        heapq.heappush(self._timers, (due, self._timer_number, name, every))
        self._next_timer = self._timers[0][0]

    def cancel_timer(self, str name not None):
        """Forget all timers of this name."""
        self._timers = [timer for timer in self._timers if timer[2] != name]
        heapq.heapify(self._timers)
        self._next_timer = self._timers[0][0] if self._timers else INT64_MAX

    def hosted(self):
        """Return the handler that runs this strategy in a session."""
        return StrategyHost(self)

    cdef int _fire_timers(self, int64_t now) except -1:
        cdef int64_t due
        while self._next_timer <= now:
            due, _, name, every = heapq.heappop(self._timers)
            if every is not None:
                self._timer_number += 1
                # In step with the first time, behind `now`: a late timer fires once, not once per missed period.
                heapq.heappush(self._timers, (
                    min(now + every if due == NOT_STARTED else due + ((now - due) // every + 1) * every, INT64_MAX),
                    self._timer_number, name, every))
            self._next_timer = self._timers[0][0] if self._timers else INT64_MAX
            if every is not None and due == NOT_STARTED:
                continue
            self._firing = name
            self.on_timer(name)
        self._firing = None
        return 0


cdef class StrategyHost(EventHandler):
    """Runs a strategy: its clock, books, timers and lifecycle. What it raises becomes a `StrategyError` that names it."""

    def __init__(self, Strategy strategy not None):
        self.strategy = strategy

    def start(self):
        """Tell the strategy that the session begins."""
        cdef bint returned = False
        try:
            self.strategy.on_start()
            returned = True
        finally:
            if not returned:
                self._blame("on_start", None)

    def stop(self):
        """Tell the strategy that the session has ended."""
        cdef bint returned = False
        try:
            self.strategy.on_stop()
            returned = True
        finally:
            if not returned:
                self._blame("on_stop", None)

    def _blame(self, callback, event):
        """Turn what has just been raised, if it is an Exception, into an error that says where: in a `finally`.

        There, because `except` has a cost for every event, even where nothing is raised.
        """
        error = sys.exc_info()[1]
        if isinstance(error, Exception):
            where = f"{callback} at {event!r}" if event is not None else callback
            raise StrategyError(
                f"strategy {self.strategy.name!r} raised {type(error).__name__} in {where}: {error}") from error

    cpdef on_trade(self, Trade event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_trade(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_trade", event)

    cpdef on_quote(self, Quote event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_quote(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_quote", event)

    cpdef on_book_delta(self, BookDelta event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_book_delta(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_book_delta", event)

    cpdef on_book(self, BookUpdate event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_book(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_book", event)

    cpdef on_book_status(self, BookStatus event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        self.strategy.books[event.instrument] = event.book
        try:
            self.strategy.on_book_status(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_book_status", event)

    cpdef on_feed_status(self, FeedStatus event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_feed_status(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_feed_status", event)

    cpdef on_ticker(self, Ticker event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_ticker(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_ticker", event)

    cpdef on_funding(self, Funding event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_funding(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_funding", event)

    cpdef on_open_interest(self, OpenInterest event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_open_interest(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_open_interest", event)

    cpdef on_liquidation(self, Liquidation event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_liquidation(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_liquidation", event)

    cpdef on_candle(self, Candle event):
        cdef bint returned = False
        self.strategy.now = event.ts_recv
        try:
            self.strategy.on_candle(event)
            returned = True
        finally:
            if not returned:
                self._blame("on_candle", event)

    cpdef on_batch_end(self, int64_t ts_recv):
        cdef bint returned = False
        if ts_recv > self.strategy.now:
            self.strategy.now = ts_recv
        if self.strategy._next_timer <= ts_recv:
            self._fire_timers(ts_recv)
        try:
            self.strategy.on_batch_end(ts_recv)
            returned = True
        finally:
            if not returned:
                self._blame("on_batch_end", None)

    cdef int _fire_timers(self, int64_t ts_recv) except -1:
        cdef bint returned = False
        try:
            self.strategy._fire_timers(ts_recv)
            returned = True
        finally:
            firing = self.strategy._firing
            self.strategy._firing = None
            if not returned:
                self._blame(f"on_timer({firing!r})", None)
        return 0
