# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The order book: exact, by integer price, with a state that says whether it may be believed."""
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.stdlib cimport free, malloc

from feeds.ladder cimport (
    TickWindow, ladder_apply, ladder_best, ladder_bytes, ladder_clear, ladder_fits, ladder_free, ladder_gather,
    ladder_init, ladder_scale, ladder_top
)
from feeds.levels cimport POW10, mantissa_decimal, mantissa_float

from typing import NamedTuple

__all__ = ["BookSide", "BookState", "Level", "OrderBook"]

DEFAULT_MAX_LEVELS = 200_000
DEFAULT_MAX_WINDOW = 32_768         # 264 KiB a side where there are levels enough for that


class Level(NamedTuple):
    """One price level."""

    price: float
    qty: float


# Calling an enumeration or a named tuple runs Python code; strategies ask for these with every update.
cdef tuple _STATES = (None, *[BookState(number) for number in range(1, 6)])
cdef type _Level = Level


cdef extern from "Python.h":
    object PyType_GenericAlloc(type, Py_ssize_t)


cdef class OrderBook:
    """L2 book of one instrument, kept by a `BookBuilder`.

    `best_bid`, `best_ask`, `bids()` and `asks()` answer only while `state` is LIVE: they return None or nothing
    otherwise, so that a book that is not right is never read by accident. `last_bids()` and `last_asks()` give the
    levels whatever the state. `ts_event` and `ts_recv` are those of the last applied message (ns since the epoch, 0 =
    unknown), `last_id` is its update id.

    `max_window` bounds the ticks of each side that are kept in a table around the best price, whose levels cost the least
    (0: none are); it has no influence on what the book holds.
    """

    def __cinit__(self, Instrument instrument not None, *, Py_ssize_t max_levels=DEFAULT_MAX_LEVELS,
                  Py_ssize_t max_window=DEFAULT_MAX_WINDOW):
        if max_levels < 1:
            raise ValueError(f"expected max_levels of at least 1, found {max_levels}")
        if max_window < 0:
            raise ValueError(f"expected max_window of at least 0, found {max_window}")
        ladder_init(&self.ladders[0], False, max_levels, max_window)
        ladder_init(&self.ladders[1], True, max_levels, max_window)
        self.instrument = instrument
        self.price_decimals = instrument.price_decimals
        self.qty_decimals = instrument.qty_decimals
        self._state = SYNCING

    def __dealloc__(self):
        ladder_free(&self.ladders[0])
        ladder_free(&self.ladders[1])

    def __sizeof__(self):
        """Bytes of the book and of what it has allocated."""
        return object.__sizeof__(self) + ladder_bytes(&self.ladders[0]) + ladder_bytes(&self.ladders[1])

    @property
    def state(self):
        """What the book is worth: a `BookState`."""
        return _STATES[<int> self._state]

    @property
    def best_bid(self):
        """The highest bid as a `Level`, or None while there is none or the book is not LIVE."""
        return self._best_level(BID)

    @property
    def best_ask(self):
        """The lowest ask as a `Level`, or None while there is none or the book is not LIVE."""
        return self._best_level(ASK)

    @property
    def mid(self):
        """Half way between best bid and best ask, or None where either is missing."""
        bid, ask = self.best_bid, self.best_ask
        return None if bid is None or ask is None else (bid.price + ask.price) / 2

    def bids(self, Py_ssize_t n=-1):
        """Return the best `n` bids (all by default), best first; nothing unless the book is LIVE."""
        return self._levels(BID, n) if self._state == LIVE else []

    def asks(self, Py_ssize_t n=-1):
        """Return the best `n` asks (all by default), best first; nothing unless the book is LIVE."""
        return self._levels(ASK, n) if self._state == LIVE else []

    def last_bids(self, Py_ssize_t n=-1):
        """Return the bids as they stand, best first, whatever the state."""
        return self._levels(BID, n)

    def last_asks(self, Py_ssize_t n=-1):
        """Return the asks as they stand, best first, whatever the state."""
        return self._levels(ASK, n)

    def exact(self, int side):
        """Return a side as [(price Decimal, qty Decimal), ...], best first, whatever the state: for checks, not for speed."""
        cdef Py_ssize_t n = self.depth(1 if side else 0)
        cdef PriceLevel* levels = self._copy(1 if side else 0, n)
        cdef Py_ssize_t i
        try:
            return [(mantissa_decimal(levels[i].price, self.price_decimals),
                     mantissa_decimal(levels[i].qty, self.qty_decimals)) for i in range(n)]
        finally:
            free(levels)

    @property
    def bid_count(self):
        """How many bid levels the book holds, whatever the state."""
        return self.ladders[0].size

    @property
    def ask_count(self):
        """How many ask levels the book holds, whatever the state."""
        return self.ladders[1].size

    @property
    def max_levels(self):
        """Levels per side; beyond it the worst is dropped and counted in `evicted`."""
        return self.ladders[0].max_levels

    @property
    def max_window(self):
        """Ticks per side that may be kept in a table."""
        return self.ladders[0].max_window

    def window(self, int side):
        """Return (lowest price, highest price, tick) of what is kept in a table on a side, as Decimals, None where nothing is.

        For diagnosis: levels outside, or between two ticks, cost more and are no less exact.
        """
        cdef Ladder* ladder = &self.ladders[1 if side else 0]
        cdef TickWindow* window = &ladder.window
        cdef int64_t end = window.base + (window.slots - 1) * window.tick
        if window.slots == 0:
            return None
        return (mantissa_decimal(-end if ladder.is_ask else window.base, self.price_decimals),
                mantissa_decimal(-window.base if ladder.is_ask else end, self.price_decimals),
                mantissa_decimal(window.tick, self.price_decimals))

    @property
    def evicted(self):
        """How many levels were dropped because a side was full."""
        return self.ladders[0].evicted + self.ladders[1].evicted

    def __repr__(self):
        return f"<OrderBook {self.instrument!r} {self.state.name} {self.bid_count} bids {self.ask_count} asks>"

    cdef object _best_level(self, int side):
        cdef PriceLevel level
        if self._state != LIVE or not self.best(side, &level):
            return None
        return _level(level.price, level.qty, self.price_decimals, self.qty_decimals)

    cdef list _levels(self, int side, Py_ssize_t n):
        cdef:
            PriceLevel[32] few                       # what strategies ask for needs no allocation
            PriceLevel* levels = few
            Py_ssize_t i
        if n < 0 or n > self.depth(side):
            n = self.depth(side)
        if n > 32:
            levels = self._copy(side, n)
        else:
            self.top(side, n, levels)
        try:
            return [_level(levels[i].price, levels[i].qty, self.price_decimals, self.qty_decimals) for i in range(n)]
        finally:
            if levels != few:
                free(levels)

    cdef PriceLevel* _copy(self, int side, Py_ssize_t n) except NULL:
        """Return a new array of the `n` best levels, which there are. The caller frees it."""
        cdef PriceLevel* levels = <PriceLevel*> malloc((n + 1) * sizeof(PriceLevel))
        if levels == NULL:
            raise MemoryError(f"no room for {n} levels")
        self.top(side, n, levels)
        return levels

    cdef int apply(self, int side, const LevelVector* levels) except -1:
        return ladder_apply(&self.ladders[side], levels)

    cdef void clear(self) noexcept:
        ladder_clear(&self.ladders[0])
        ladder_clear(&self.ladders[1])

    cdef int rescale(self) except -1:
        """Bring the mantissas to the instrument's decimals, which only grow. OverflowError where one does not fit."""
        cdef:
            int64_t price_by = POW10[self.instrument.price_decimals - self.price_decimals]
            int64_t qty_by = POW10[self.instrument.qty_decimals - self.qty_decimals]
            int side
        for side in range(2):
            ladder_gather(&self.ladders[side])
        for side in range(2):
            if not ladder_fits(&self.ladders[side], price_by, qty_by):
                raise OverflowError(f"{self.instrument!r}: a level does not fit int64 at "
                                    f"{self.instrument.price_decimals}/{self.instrument.qty_decimals} decimals")
        for side in range(2):
            ladder_scale(&self.ladders[side], price_by, qty_by)
        self.price_decimals = self.instrument.price_decimals
        self.qty_decimals = self.instrument.qty_decimals
        return 0

    cdef bint best(self, int side, PriceLevel* level) noexcept nogil:
        return ladder_best(&self.ladders[side], level)

    cdef Py_ssize_t top(self, int side, Py_ssize_t n, PriceLevel* levels) noexcept nogil:
        return ladder_top(&self.ladders[side], n, levels)

    cdef Py_ssize_t depth(self, int side) noexcept nogil:
        return self.ladders[side].size

    cdef bint is_crossed(self) noexcept nogil:
        cdef PriceLevel bid
        cdef PriceLevel ask
        return self.best(0, &bid) and self.best(1, &ask) and bid.price >= ask.price


cdef inline object _level(int64_t price, int64_t qty, int price_decimals, int qty_decimals):
    """Make a `Level` in one go; `tuple.__new__` would make a tuple and copy it."""
    cdef object price_float = mantissa_float(price, price_decimals)
    cdef object qty_float = mantissa_float(qty, qty_decimals)
    cdef object level = PyType_GenericAlloc(_Level, 2)
    Py_INCREF(price_float)
    Py_INCREF(qty_float)
    PyTuple_SET_ITEM(level, 0, price_float)         # which takes the references
    PyTuple_SET_ITEM(level, 1, qty_float)
    return level
