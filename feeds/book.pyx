# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The order book: exact, by integer price, with a state that says whether it may be believed."""
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from feeds.levels cimport POW10, mantissa_decimal, mantissa_float

from typing import NamedTuple

__all__ = ["BookSide", "BookState", "Level", "OrderBook"]

DEFAULT_MAX_LEVELS = 200_000


class Level(NamedTuple):
    """One price level."""

    price: float
    qty: float


# Calling an enumeration or a named tuple runs Python code; strategies ask for these with every update.
cdef tuple _STATES = (None, *[BookState(number) for number in range(1, 6)])
cdef object _new_tuple = tuple.__new__


cdef class OrderBook:
    """L2 book of one instrument, kept by a `BookBuilder`.

    `best_bid`, `best_ask`, `bids()` and `asks()` answer only while `state` is LIVE: they return None or nothing
    otherwise, so that a book that is not right is never read by accident. `last_bids()` and `last_asks()` give the
    levels whatever the state. `ts_event` and `ts_recv` are those of the last applied message (ns since the epoch, 0 =
    unknown), `last_id` is its update id.
    """

    def __cinit__(self, Instrument instrument not None, *, Py_ssize_t max_levels=DEFAULT_MAX_LEVELS):
        if max_levels < 1:
            raise ValueError(f"expected max_levels of at least 1, found {max_levels}")
        self.instrument = instrument
        self.price_decimals = instrument.price_decimals
        self.qty_decimals = instrument.qty_decimals
        self.max_levels = max_levels
        self._state = SYNCING

    def __dealloc__(self):
        free(self.sides[0].items)
        free(self.sides[1].items)

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
        cdef SideLevels* s = &self.sides[1 if side else 0]
        cdef Py_ssize_t i
        return [(mantissa_decimal(-s.items[i].price if side else s.items[i].price, self.price_decimals),
                 mantissa_decimal(s.items[i].qty, self.qty_decimals)) for i in range(s.size - 1, -1, -1)]

    @property
    def bid_count(self):
        """How many bid levels the book holds, whatever the state."""
        return self.sides[0].size

    @property
    def ask_count(self):
        """How many ask levels the book holds, whatever the state."""
        return self.sides[1].size

    def __repr__(self):
        return f"<OrderBook {self.instrument!r} {self.state.name} {self.bid_count} bids {self.ask_count} asks>"

    cdef object _best_level(self, int side):
        cdef PriceLevel level
        if self._state != LIVE or not self.best(side, &level):
            return None
        return _level(level.price, level.qty, self.price_decimals, self.qty_decimals)

    cdef list _levels(self, int side, Py_ssize_t n):
        cdef:
            SideLevels* s = &self.sides[side]
            Py_ssize_t stop = 0 if n < 0 or n > s.size else s.size - n
            Py_ssize_t i
            list levels = []
        for i in range(s.size - 1, stop - 1, -1):
            levels.append(_level(-s.items[i].price if side else s.items[i].price, s.items[i].qty,
                                 self.price_decimals, self.qty_decimals))
        return levels

    cdef int set(self, int side, int64_t price, int64_t qty) except -1:
        cdef SideLevels* s = &self.sides[side]
        cdef int64_t key = -price if side else price
        cdef Py_ssize_t at = _lower_bound(s, key)
        s.hint = at
        if at < s.size and s.items[at].price == key:
            if qty:
                s.items[at].qty = qty
                return 0
            s.size -= 1
            memmove(s.items + at, s.items + at + 1, (s.size - at) * sizeof(PriceLevel))
            return 0
        if qty == 0:
            return 0
        if s.size == self.max_levels:
            self.evicted += 1
            if at == 0:                              # worse than everything we keep
                return 0
            at -= 1
            memmove(s.items, s.items + 1, at * sizeof(PriceLevel))
            s.items[at].price = key
            s.items[at].qty = qty
            return 0
        if s.size == s.capacity:
            _reserve(s)
        memmove(s.items + at + 1, s.items + at, (s.size - at) * sizeof(PriceLevel))
        s.items[at].price = key
        s.items[at].qty = qty
        s.size += 1
        return 0

    cdef int apply(self, int side, const LevelVector* levels) except -1:
        cdef Py_ssize_t i
        for i in range(levels.size):
            self.set(side, levels.items[i].price, levels.items[i].qty)
        return 0

    cdef void clear(self) noexcept:
        self.sides[0].size = self.sides[0].hint = 0
        self.sides[1].size = self.sides[1].hint = 0

    cdef int rescale(self) except -1:
        """Bring the mantissas to the instrument's decimals, which only grow. OverflowError where one does not fit."""
        cdef:
            int64_t price_by = POW10[self.instrument.price_decimals - self.price_decimals]
            int64_t qty_by = POW10[self.instrument.qty_decimals - self.qty_decimals]
            int64_t price_limit = INT64_MAX // price_by
            int64_t qty_limit = INT64_MAX // qty_by
            SideLevels* s
            Py_ssize_t i
            int side
        for side in range(2):
            s = &self.sides[side]
            for i in range(s.size):
                if not -price_limit <= s.items[i].price <= price_limit or s.items[i].qty > qty_limit:
                    raise OverflowError(f"{self.instrument!r}: a level does not fit int64 at "
                                        f"{self.instrument.price_decimals}/{self.instrument.qty_decimals} decimals")
        for side in range(2):
            s = &self.sides[side]
            for i in range(s.size):
                s.items[i].price *= price_by
                s.items[i].qty *= qty_by
        self.price_decimals = self.instrument.price_decimals
        self.qty_decimals = self.instrument.qty_decimals
        return 0

    cdef bint best(self, int side, PriceLevel* level) noexcept nogil:
        cdef SideLevels* s = &self.sides[side]
        if s.size == 0:
            return False
        level.price = -s.items[s.size - 1].price if side else s.items[s.size - 1].price
        level.qty = s.items[s.size - 1].qty
        return True

    cdef Py_ssize_t top(self, int side, Py_ssize_t n, PriceLevel* levels) noexcept nogil:
        cdef SideLevels* s = &self.sides[side]
        cdef Py_ssize_t i
        if n > s.size:
            n = s.size
        for i in range(n):
            levels[i].price = -s.items[s.size - 1 - i].price if side else s.items[s.size - 1 - i].price
            levels[i].qty = s.items[s.size - 1 - i].qty
        return n

    cdef Py_ssize_t depth(self, int side) noexcept nogil:
        return self.sides[side].size

    cdef bint is_crossed(self) noexcept nogil:
        cdef SideLevels* bids = &self.sides[0]
        cdef SideLevels* asks = &self.sides[1]
        return (bids.size != 0 and asks.size != 0
                and bids.items[bids.size - 1].price >= -asks.items[asks.size - 1].price)


cdef inline object _level(int64_t price, int64_t qty, int price_decimals, int qty_decimals):
    return _new_tuple(Level, (mantissa_float(price, price_decimals), mantissa_float(qty, qty_decimals)))


cdef Py_ssize_t _lower_bound(const SideLevels* s, int64_t key) noexcept nogil:
    """Return the first index whose key is not below `key`: gallop away from the hint, then halve."""
    cdef:
        const PriceLevel* items = s.items
        Py_ssize_t size = s.size
        Py_ssize_t low
        Py_ssize_t high
        Py_ssize_t middle
        Py_ssize_t step = 1
        Py_ssize_t hint = s.hint if s.hint < size else size
    if hint < size and items[hint].price < key:
        low = hint + 1
        while low + step < size and items[low + step].price < key:
            low += step + 1
            step *= 2
        high = low + step if low + step < size else size
    else:
        high = hint
        while high >= step and items[high - step].price >= key:
            high -= step
            step *= 2
        low = high - step + 1 if high >= step else 0
    while low < high:
        middle = (low + high) >> 1
        if items[middle].price < key:
            low = middle + 1
        else:
            high = middle
    return low


cdef int _reserve(SideLevels* s) except -1:
    cdef Py_ssize_t capacity = s.capacity * 2 if s.capacity else 256
    cdef PriceLevel* items = <PriceLevel*> realloc(s.items, capacity * sizeof(PriceLevel))
    if items == NULL:
        raise MemoryError(f"no room for {capacity} levels")
    s.items = items
    s.capacity = capacity
    return 0
