# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, cpow=True
"""Seeded order flow on true books: limit orders, cancels and market orders, in quiet times and in bursts.

Pure: no clock, no I/O, no state outside the object. Only `random.Random.random()` is drawn from, the one method whose
sequence Python keeps from version to version, and every curve is a table of integers, so that a last bit of `log` that
differs between two C libraries cannot change a flow. Floats are only multiplied before they are cut to integers: no
compiler can fuse that with an addition, which would round otherwise.
"""
from itertools import accumulate
from math import log
from random import Random

cimport cython
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from feeds.simulator.flow_types import NS_PER_SECOND, Book, Fill, FlowConfig, LevelChange, Top, Update

__all__ = ["NS_PER_SECOND", "Book", "Fill", "FlowConfig", "LevelChange", "OrderFlow", "Top", "Update"]

cdef enum:
    TABLE_SIZE = 4096

cdef:
    # Exponential waiting times with mean 1024.
    int64_t[TABLE_SIZE] EXPONENTIAL
    # Orders at one instant: a Pareto tail fitted to a day of BTCUSDT, where the bursts in which messages arrive have the
    # quantiles 50% 1, 75% 2, 90% 3-4, 99% 12-18, 99.9% 38-67, largest 177.
    int64_t[TABLE_SIZE] BURST_SIZE
    # Levels away from the touch at which orders are placed and cancelled: half within 3, a long thin tail.
    int64_t[TABLE_SIZE] DEPTH
    # Order quantities in 1/256 of the typical one: many small, few large.
    int64_t[TABLE_SIZE] QTY
    int _i

for _i in range(TABLE_SIZE):
    EXPONENTIAL[_i] = round(-1024 * log(1 - (_i + 0.5) / TABLE_SIZE))
    BURST_SIZE[_i] = int((1 - _i / <double> TABLE_SIZE) ** -0.63)
    DEPTH[_i] = int(1.5 * (1 - _i / <double> TABLE_SIZE) ** -0.75) - 1
    QTY[_i] = max(1, round(128 * (1 - _i / <double> TABLE_SIZE) ** -0.6))

_MEAN_BURST = sum([BURST_SIZE[_i] for _i in range(TABLE_SIZE)]) / TABLE_SIZE

_QUIET_NS = 3 * NS_PER_SECOND  # mean length of a quiet period
_BUSY_NS = NS_PER_SECOND // 3  # and of a busy one: a tenth of the time, carrying two thirds of the orders
_BUSY_FACTOR = 6.4
_QUIET_FACTOR = 0.4

_MIN_TICKS = 100  # of a start price: room for some levels below, however far it falls
_MAX_COUNT = 10**12  # ticks of a start price, lots of a typical quantity: what a book adds up of them has room in 64 bits
cdef double MAX_GAP_NS = 1 << 60  # 36 years


cdef struct Level:
    int64_t key
    int64_t qty


# What a change undid.
cdef struct Past:
    int64_t update_id
    int64_t ts_event
    int64_t key
    int64_t qty                  # before
    bint is_bid


@cython.final
cdef class _Side:
    """One side of a book. Keys ascend towards the touch: the price of a bid, the negated price of an ask.

    With that sign nothing else needs to know which side it works on. Nearly all that happens is near the touch, which is
    the end: little has to move.
    """

    cdef:
        bint is_bid
        int64_t sign
        Level* levels            # by key, ascending
        Py_ssize_t size
        Py_ssize_t capacity

    def __cinit__(self, bint is_bid):
        self.is_bid = is_bid
        self.sign = 1 if is_bid else -1

    def __dealloc__(self):
        free(self.levels)

    cdef _Side copy(self):
        cdef _Side copy = _Side(self.is_bid)
        copy.reserve(self.size)
        memcpy(copy.levels, self.levels, self.size * sizeof(Level))
        copy.size = self.size
        return copy

    cdef int reserve(self, Py_ssize_t size) except -1:
        cdef Level* levels
        if size > self.capacity:
            size = max(size, 2 * self.capacity, 16)
            levels = <Level*> realloc(self.levels, size * sizeof(Level))
            if levels == NULL:
                raise MemoryError(f"no room for {size} levels")
            self.levels, self.capacity = levels, size
        return 0

    cdef int append(self, int64_t key, int64_t qty) except -1:
        self.reserve(self.size + 1)
        self.levels[self.size] = Level(key, qty)
        self.size += 1
        return 0

    cdef void reverse(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.size // 2):
            self.levels[i], self.levels[self.size - 1 - i] = self.levels[self.size - 1 - i], self.levels[i]

    cdef Level* best(self) noexcept:
        return self.levels + self.size - 1

    # The first level whose key is not below.
    cdef Py_ssize_t find(self, int64_t key) noexcept:
        cdef Py_ssize_t low = 0, high = self.size, middle
        while low < high:
            middle = (low + high) // 2
            if self.levels[middle].key < key:
                low = middle + 1
            else:
                high = middle
        return low

    cdef int64_t qty(self, int64_t key) noexcept:
        cdef Py_ssize_t i = self.find(key)
        return self.levels[i].qty if i < self.size and self.levels[i].key == key else 0

    # Sets a level, removes it for a quantity of 0, and returns the quantity before.
    cdef int64_t set(self, int64_t key, int64_t qty) except -1:
        cdef:
            Py_ssize_t i = self.find(key)
            int64_t before = 0
        if i < self.size and self.levels[i].key == key:
            before = self.levels[i].qty
            if qty:
                self.levels[i].qty = qty
            else:
                self.size -= 1
                memmove(self.levels + i, self.levels + i + 1, (self.size - i) * sizeof(Level))
        elif qty:
            self.reserve(self.size + 1)
            memmove(self.levels + i + 1, self.levels + i, (self.size - i) * sizeof(Level))
            self.levels[i] = Level(key, qty)
            self.size += 1
        return before

    # The best levels first, as (ticks, lots).
    cdef list listed(self, object limit):
        cdef Py_ssize_t count = self.size if limit is None else min(self.size, <Py_ssize_t> limit), i
        return [
            (self.levels[i].key * self.sign, self.levels[i].qty) for i in range(self.size - 1, self.size - 1 - count, -1)
        ]


@cython.final
cdef class _MarketState:
    cdef:
        object market
        str symbol
        _Side bids
        _Side asks
        int64_t fair             # where the price wants to go; orders follow it
        int64_t spacing          # typical distance between two levels: a tenth of a bp
        int64_t floor
        int64_t typical_qty
        Py_ssize_t min_levels
        Py_ssize_t max_levels
        int64_t update_id
        int64_t trade_id
        int64_t ts_event
        object first             # Book
        # A ring of the newest changes: undone newest first to get an older book. It grows up to its limit.
        Past* history
        Py_ssize_t history_room
        Py_ssize_t history_limit
        Py_ssize_t history_size
        Py_ssize_t history_next

    def __cinit__(self, market, config, int64_t update_id, int64_t trade_id):
        if not (_MIN_TICKS <= market.start_price <= _MAX_COUNT and 1 <= market.typical_qty <= _MAX_COUNT):
            raise ValueError(
                f"{market.symbol}: expected a start price from {_MIN_TICKS} to {_MAX_COUNT} ticks and a typical quantity "
                f"from 1 to {_MAX_COUNT} lots, found {market.start_price} and {market.typical_qty}"
            )
        self.market, self.symbol = market, market.symbol
        self.bids, self.asks = _Side(True), _Side(False)
        self.fair = market.start_price
        self.spacing = max(1, market.start_price // 100_000)
        self.floor = market.start_price // 4
        self.typical_qty = market.typical_qty
        self.min_levels = min(max(4, config.levels // 2), self.floor // 4)
        self.max_levels = config.levels * 2
        self.update_id, self.trade_id = update_id, trade_id
        self.history_limit = config.history

    def __dealloc__(self):
        free(self.history)

    cdef int remember(self, int64_t key, int64_t qty, bint is_bid) except -1:
        cdef:
            Past* history
            Py_ssize_t room
        if self.history_size == self.history_room < self.history_limit:
            room = min(max(16, 2 * self.history_room), self.history_limit)
            history = <Past*> realloc(self.history, room * sizeof(Past))
            if history == NULL:
                raise MemoryError(f"no room to remember {room} changes")
            self.history, self.history_room, self.history_next = history, room, self.history_size
        self.history[self.history_next] = Past(self.update_id, self.ts_event, key, qty, is_bid)
        self.history_next = (self.history_next + 1) % self.history_room
        self.history_size = min(self.history_size + 1, self.history_room)
        return 0

    # The change so many before the newest.
    cdef Past* past(self, Py_ssize_t back) noexcept:
        return self.history + (self.history_next - 1 - back + self.history_room) % self.history_room


cdef class OrderFlow:
    """Order flow of an exchange and the true book of each of its symbols.

    A hidden fair price of each symbol walks at random. Market orders take what it has crossed, makers improve towards
    it and cancel behind it. Orders come in clusters that share an instant, clusters come at a rate that switches
    between quiet and busy for the whole exchange, and most, not all, orders of a cluster hit the same symbol.
    """

    cdef:
        readonly object config
        readonly int64_t ts_event        # of the newest order
        readonly int64_t next_ns         # exchange time of the next burst
        object _random
        int64_t _last_id                 # of all symbols; 0: each has its own
        list _states
        dict _by_symbol
        double* _weights                 # summed up
        Py_ssize_t _count                # of them
        Py_ssize_t _levels
        bint _is_busy
        int64_t _state_until
        double _quiet_gap                # exponential table units (mean 1024) per ns
        double _busy_gap

    def __init__(self, markets, config=None, *, int64_t start_ns=0):
        cdef _MarketState state
        config = config or FlowConfig()
        if not markets or len({market.symbol for market in markets}) != len(markets):
            raise ValueError(f"expected distinct symbols, found {[market.symbol for market in markets]}")
        if config.levels < 8 or config.rate <= 0 or config.history < 1 or config.warm_up < 0:
            raise ValueError(
                f"expected levels >= 8, rate > 0, history >= 1 and warm_up >= 0, found {config.levels}, {config.rate}, "
                f"{config.history} and {config.warm_up}"
            )
        self.config = config
        self._levels = config.levels
        self._random = Random(config.seed).random
        if config.update_ids == "exchange":
            self._last_id = 5_000_000_000_000 + <int64_t> (self._draw() * 1e9)
        self._states = []
        for market in markets:
            update_id = self._last_id or 40_000_000_000 + <int64_t> (self._draw() * 1e9)
            self._states.append(_MarketState(market, config, update_id, 3_000_000_000 + <int64_t> (self._draw() * 1e6)))
        self._by_symbol = {market.symbol: state for market, state in zip(markets, self._states)}
        self._weigh(len(markets))
        self._quiet_gap = NS_PER_SECOND * _MEAN_BURST / (config.rate * _QUIET_FACTOR * 1024)
        self._busy_gap = NS_PER_SECOND * _MEAN_BURST / (config.rate * _BUSY_FACTOR * 1024)
        self.ts_event = start_ns
        for state in self._states:
            state.ts_event = start_ns
            self._open(state)
        for state in self._states:
            for _ in range(config.warm_up):
                self._order(state, start_ns)
        self._state_until = start_ns + self._exponential(_QUIET_NS)
        self.next_ns = start_ns
        self._schedule()

    def __dealloc__(self):
        free(self._weights)

    @property
    def markets(self):
        return [(<_MarketState> state).market for state in self._states]

    def __iter__(self):
        """Yield updates without end, in the order of their times; the books are ahead, at the end of each burst."""
        while True:
            yield from self.next_burst()

    cpdef list next_burst(self):
        """Return all orders of the next instant at which something happens."""
        cdef:
            int64_t ts_event = self.next_ns
            Py_ssize_t count = self._draw_from(BURST_SIZE), i
            _MarketState leader = self._pick()
            list updates = []
        ts = ts_event
        for i in range(count):
            updates.append(self._order(leader if self._draw() < 0.8 else self._pick(), ts))
        self.ts_event = ts_event
        self._schedule()
        return updates

    def step(self, int64_t now_ns):
        """Return everything up to and including `now_ns`."""
        cdef list updates = []
        while self.next_ns <= now_ns:
            updates += self.next_burst()
        return updates

    def burst(self, str symbol not None, Py_ssize_t orders, int64_t ts_event):
        """Make `orders` orders of one symbol at one instant, besides those that come by themselves.

        KeyError for an unknown symbol, ValueError for a time before the newest order's.
        """
        cdef Py_ssize_t i
        if ts_event < self.ts_event:
            raise ValueError(f"expected a time from {self.ts_event} on, found {ts_event}")
        cdef _MarketState state = self._by_symbol[symbol]
        self.ts_event = ts_event
        self.next_ns = max(self.next_ns, ts_event)
        return [self._order(state, ts_event) for i in range(orders)]

    def book(self, str symbol not None, *, levels=None):
        """Copy the true book as it is now, or its best `levels` a side."""
        cdef _MarketState state = self._by_symbol[symbol]
        return Book(symbol, state.update_id, state.ts_event, state.bids.listed(levels), state.asks.listed(levels))

    def top(self, str symbol not None):
        """Return the best bid and offer."""
        return _top(self._by_symbol[symbol])

    def depth(self, str symbol not None):
        """Return how many levels the deeper side of the book has."""
        cdef _MarketState state = self._by_symbol[symbol]
        return max(state.bids.size, state.asks.size)

    def qty_at(self, str symbol not None, bint is_bid, int64_t price):
        """Return the quantity of a level, 0 where there is none."""
        cdef _MarketState state = self._by_symbol[symbol]
        return state.bids.qty(price) if is_bid else state.asks.qty(-price)

    def last_id(self, str symbol not None):
        """Return the id of the symbol's newest change."""
        return (<_MarketState> self._by_symbol[symbol]).update_id

    def first_book(self, str symbol not None):
        """Copy the book that the symbol opened with: older than anything that a client can have seen."""
        return (<_MarketState> self._by_symbol[symbol]).first

    def book_at(self, str symbol not None, int64_t update_id):
        """Copy the true book as it was after change `update_id` (or the last one before it).

        LookupError when the id lies ahead or further back than `history` changes.
        """
        cdef:
            _MarketState state = self._by_symbol[symbol]
            _Side bids = state.bids.copy(), asks = state.asks.copy()
            Py_ssize_t back
            Past* past
        if update_id > state.update_id:
            raise LookupError(f"{symbol}: expected an update id up to {state.update_id}, found {update_id}")
        found_id, found_ts = state.update_id, state.ts_event
        for back in range(state.history_size):
            past = state.past(back)
            if past.update_id <= update_id:
                found_id, found_ts = past.update_id, past.ts_event
                break
            (bids if past.is_bid else asks).set(past.key, past.qty)
        else:
            if update_id < state.update_id:
                oldest = state.past(state.history_size - 1).update_id if state.history_size else state.update_id
                raise LookupError(f"{symbol}: expected an update id from {oldest} on, found {update_id}")
        return Book(symbol, found_id, found_ts, bids.listed(None), asks.listed(None))

    @cython.final
    cdef inline double _draw(self) except -1:
        return self._random()

    @cython.final
    cdef inline int64_t _draw_from(self, int64_t* table) except -1:
        return table[<int> (self._draw() * TABLE_SIZE)]

    # The first symbol is the most active, the second half as much, and so on.
    cdef int _weigh(self, Py_ssize_t count) except -1:
        cdef double* weights = <double*> realloc(self._weights, count * sizeof(double))
        if weights == NULL:
            raise MemoryError(f"no room for {count} symbols")
        self._weights, self._count = weights, count
        for i, weight in enumerate(accumulate(1 / (i + 1) for i in range(count))):
            self._weights[<Py_ssize_t> i] = weight
        return 0

    cdef _MarketState _pick(self):
        cdef:
            Py_ssize_t low = 0, high = self._count, middle
            double wanted
        if self._count > 1:
            wanted = self._draw() * self._weights[self._count - 1]
            while low < high:
                middle = (low + high) // 2
                if wanted < self._weights[middle]:
                    high = middle
                else:
                    low = middle + 1
        return self._states[min(low, self._count - 1)]

    cdef int64_t _exponential(self, int64_t mean_ns) except -1:
        return self._draw_from(EXPONENTIAL) * mean_ns // 1024

    cdef int _schedule(self) except -1:
        cdef double gap = self._busy_gap if self._is_busy else self._quiet_gap
        self.next_ns += 1 + <int64_t> min(self._draw_from(EXPONENTIAL) * gap, MAX_GAP_NS)
        while self.next_ns > self._state_until:
            self._is_busy = not self._is_busy
            self._state_until += self._exponential(_BUSY_NS if self._is_busy else _QUIET_NS) + 1
        return 0

    # Fills an empty book: dense at the touch, thinner and larger further out, as real ones are.
    cdef int _open(self, _MarketState state) except -1:
        cdef:
            _Side side
            int64_t key
            Py_ssize_t i
        for side in (state.bids, state.asks):
            key = state.fair if side.is_bid else -state.fair - 1
            for i in range(self._levels):
                if side.is_bid and key < 1:
                    break
                side.append(key, self._qty(state) * (1 + i // 50))
                key -= 1 + <int64_t> (self._draw() * 2 * state.spacing * (1 + i // 100)) if i > 1 else 1
            side.reverse()
        state.first = Book(
            state.symbol, state.update_id, state.ts_event, state.bids.listed(None), state.asks.listed(None)
        )
        return 0

    cdef int64_t _qty(self, _MarketState state) except -1:
        return 1 + (state.typical_qty * self._draw_from(QTY) >> 8)

    cdef object _order(self, _MarketState state, object ts_event):
        cdef:
            _Side bids = state.bids, asks = state.asks, side
            Level bid = bids.best()[0], ask = asks.best()[0]
            Level* new_bid
            Level* new_ask
            int64_t previous_id = state.update_id, step
            double draw = self._draw()
            list changes = [], fills = []
        state.ts_event = ts_event
        if draw < 0.05:
            step = 1 + <int64_t> (self._draw() * 2 * state.spacing)
            state.fair += step if draw < 0.025 else -step
            if state.fair < state.floor:
                state.fair += 2 * step
        if bids.size < state.min_levels or asks.size < state.min_levels:
            self._add_level(state, bids if bids.size < asks.size else asks, changes)
        elif state.fair > -ask.key + state.spacing:
            self._take(state, asks, 2, changes, fills)
        elif state.fair < bid.key - state.spacing:
            self._take(state, bids, 2, changes, fills)
        elif draw > 0.94:
            self._take(state, bids if self._draw() < 0.5 else asks, 1, changes, fills)
        else:
            side = bids if self._draw() < 0.5 else asks
            # More cancels in a full book, more new levels in a thin one: their number stays near where it began.
            if side.size >= state.max_levels:
                self._change(state, side, side.levels[0].key, 0, changes)
            elif self._draw() < 0.5 * side.size / self._levels:
                self._cancel(state, side, changes)
            elif self._draw() < 0.4:
                self._add_level(state, side, changes)
            else:
                self._add(state, side, asks if side is bids else bids, changes)

        new_bid, new_ask = bids.best(), asks.best()
        top = None
        if new_bid.key != bid.key or new_ask.key != ask.key or new_bid.qty != bid.qty or new_ask.qty != ask.qty:
            top = _top(state)
        return Update(ts_event, state.symbol, previous_id, changes, fills, top)

    cdef int _change(self, _MarketState state, _Side side, int64_t key, int64_t qty, list changes) except -1:
        if self._last_id:
            self._last_id += 1 + <int64_t> (self._draw() * 64)
            state.update_id = self._last_id
        else:
            state.update_id += 1
        state.remember(key, side.set(key, qty), side.is_bid)
        changes.append(LevelChange(state.update_id, side.is_bid, key * side.sign, qty))
        return 0

    # A market order: walks the book until it is filled or only a thin rest of the side is left.
    cdef int _take(self, _MarketState state, _Side side, int64_t urgency, list changes, list fills) except -1:
        cdef:
            int64_t wanted = self._qty(state) * urgency, taken, rest, part
            Level best
        while wanted:
            best = side.best()[0]
            taken = min(wanted, best.qty)
            if taken == best.qty and side.size == 2:
                return 0  # the last two levels stay; a market order that finds no more is cancelled
            wanted -= taken
            rest = taken
            # A level holds several makers' orders: sometimes its fill is several trades.
            if taken > 1 and self._draw() < 0.3:
                part = 1 + <int64_t> (self._draw() * (taken - 1))
                _fill(state, side, best.key, part, fills)
                rest -= part
            _fill(state, side, best.key, rest, fills)
            self._change(state, side, best.key, best.qty - taken, changes)
        return 0

    cdef int _add(self, _MarketState state, _Side side, _Side other, list changes) except -1:
        cdef:
            int64_t best = side.best().key
            # Makers improve towards the fair price and never lock the book.
            int64_t limit = min(-other.best().key - 1, state.fair if side.is_bid else -state.fair - 1)
            int64_t key, depth
            double draw = self._draw()
        if limit > best and draw < 0.8:
            key = limit if draw < 0.5 else best + 1 + <int64_t> (self._draw() * (limit - best))
        elif draw < 0.5:
            key = best
        else:
            depth = self._draw_from(DEPTH)
            key = side.levels[max(0, side.size - 1 - depth)].key
        return self._join(state, side, key, changes)

    # A limit order at a price that has none yet, behind the touch.
    cdef int _add_level(self, _MarketState state, _Side side, list changes) except -1:
        cdef:
            int64_t depth = self._draw_from(DEPTH)
            int64_t key = side.best().key - 1 - <int64_t> ((depth + self._draw()) * state.spacing)
        while side.qty(key):
            key -= 1 + <int64_t> (self._draw() * state.spacing)
        if side.is_bid and key < 1:
            key = side.best().key  # no room left above zero
        return self._join(state, side, key, changes)

    # Adds an order to a level, which may be new.
    cdef int _join(self, _MarketState state, _Side side, int64_t key, list changes) except -1:
        return self._change(state, side, key, side.qty(key) + self._qty(state), changes)

    cdef int _cancel(self, _MarketState state, _Side side, list changes) except -1:
        cdef:
            int64_t depth = self._draw_from(DEPTH)
            Level level
            int64_t left = 0
        if depth < side.size:
            level = side.levels[side.size - 1 - depth]
        else:
            level = side.levels[<Py_ssize_t> (self._draw() * side.size)]
        if self._draw() >= 0.6:
            left = level.qty - 1 - <int64_t> (self._draw() * level.qty)
        return self._change(state, side, level.key, left, changes)


cdef int _fill(_MarketState state, _Side side, int64_t key, int64_t qty, list fills) except -1:
    state.trade_id += 1
    fills.append(Fill(state.trade_id, key * side.sign, qty, side.is_bid))
    return 0


cdef object _top(_MarketState state):
    cdef Level* bid = state.bids.best()
    cdef Level* ask = state.asks.best()
    return Top(bid.key, bid.qty, -ask.key, ask.qty)
