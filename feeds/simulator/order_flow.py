"""Seeded order flow on true books: limit orders, cancels and market orders, in quiet times and in bursts.

Pure: no clock, no I/O, no state outside the object. Only `random.Random.random()` is drawn from, the one method whose
sequence Python keeps from version to version, and every curve is a table of integers, so that a last bit of `log` that
differs between two C libraries cannot change a flow.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import log
from random import Random
from typing import Literal

import msgspec

from feeds.simulator.markets import Market

NS_PER_SECOND = 1_000_000_000

_TABLE_SIZE = 4096
# Exponential waiting times with mean 1024.
_EXPONENTIAL: list[int] = [round(-1024 * log(1 - (i + 0.5) / _TABLE_SIZE)) for i in range(_TABLE_SIZE)]
# Orders at one instant: a Pareto tail fitted to a day of BTCUSDT, where the bursts in which messages arrive have the
# quantiles 50% 1, 75% 2, 90% 3-4, 99% 12-18, 99.9% 38-67, largest 177.
_BURST_SIZE: list[int] = [int((1 - i / _TABLE_SIZE) ** -0.63) for i in range(_TABLE_SIZE)]
# Levels away from the touch at which orders are placed and cancelled: half within 3, a long thin tail.
_DEPTH: list[int] = [int(1.5 * (1 - i / _TABLE_SIZE) ** -0.75) - 1 for i in range(_TABLE_SIZE)]
# Order quantities in 1/256 of the typical one: many small, few large.
_QTY: list[int] = [max(1, round(128 * (1 - i / _TABLE_SIZE) ** -0.6)) for i in range(_TABLE_SIZE)]
_MEAN_BURST = sum(_BURST_SIZE) / _TABLE_SIZE

_QUIET_NS = 3 * NS_PER_SECOND  # mean length of a quiet period
_BUSY_NS = NS_PER_SECOND // 3  # and of a busy one: a tenth of the time, carrying two thirds of the orders
_BUSY_FACTOR = 6.4
_QUIET_FACTOR = 0.4


class FlowConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seed: int = 1
    rate: float = 1000.0  # orders per second of exchange time, all symbols together, on average
    levels: int = 500  # price levels a side that books start with and stay near; never more than twice as many
    # Whose counter numbers the changes: each symbol's own, without holes, or one of the whole exchange, with holes
    # where instruments that we do not simulate trade.
    update_ids: Literal["symbol", "exchange"] = "symbol"
    history: int = 20_000  # changes per symbol that `book_at` can look back
    warm_up: int = 2_000  # orders per symbol before the first that a user sees


class LevelChange(msgspec.Struct, frozen=True, gc=False):
    """One level's new quantity. 0: the level is gone."""

    update_id: int
    is_bid: bool
    price: int  # ticks
    qty: int  # lots


class Fill(msgspec.Struct, frozen=True, gc=False):
    trade_id: int
    price: int  # ticks
    qty: int  # lots
    buyer_is_maker: bool


class Top(msgspec.Struct, frozen=True, gc=False):
    """Best bid and offer, ticks and lots."""

    bid: int
    bid_qty: int
    ask: int
    ask_qty: int


class Update(msgspec.Struct, frozen=True):
    """All that one order did to one book."""

    ts_event: int  # ns of exchange time; the orders of a burst share it
    symbol: str
    previous_id: int  # of the symbol's last change before this
    changes: list[LevelChange]  # at least one, ids ascending
    fills: list[Fill]
    top: Top | None  # None: the best bid and offer stayed as they were

    @property
    def last_id(self) -> int:
        return self.changes[-1].update_id


class Book(msgspec.Struct, frozen=True):
    """A copy of a book, best level first, as (ticks, lots)."""

    symbol: str
    update_id: int  # of the last change it contains
    ts_event: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


class _Side:
    """One side of a book. Keys ascend towards the touch: the price of a bid, the negated price of an ask.

    With that sign nothing else needs to know which side it works on.
    """

    __slots__ = ("is_bid", "keys", "qty", "sign")

    def __init__(self, is_bid: bool) -> None:
        self.is_bid = is_bid
        self.sign = 1 if is_bid else -1
        self.keys: list[int] = []
        self.qty: dict[int, int] = {}

    def set(self, key: int, qty: int) -> None:
        if qty == 0:
            del self.qty[key]
            if key == self.keys[-1]:
                self.keys.pop()
            else:
                del self.keys[bisect_left(self.keys, key)]
            return
        if key not in self.qty:
            if not self.keys or key > self.keys[-1]:
                self.keys.append(key)
            else:
                self.keys.insert(bisect_left(self.keys, key), key)
        self.qty[key] = qty

    def levels(self, limit: int | None = None) -> list[tuple[int, int]]:
        keys = self.keys if limit is None else self.keys[-limit:]
        return [(key * self.sign, self.qty[key]) for key in reversed(keys)]


class _MarketState:
    __slots__ = (
        "asks",
        "bids",
        "fair",
        "first",
        "floor",
        "history",
        "market",
        "max_levels",
        "min_levels",
        "spacing",
        "trade_id",
        "ts_event",
        "update_id",
    )

    def __init__(self, market: Market, config: FlowConfig, update_id: int, trade_id: int) -> None:
        self.market = market
        self.bids = _Side(True)
        self.asks = _Side(False)
        self.fair = market.start_price  # where the price wants to go; orders follow it
        self.spacing = max(1, market.start_price // 100_000)  # typical distance between two levels: a tenth of a bp
        self.floor = market.start_price // 4
        self.min_levels = min(max(4, config.levels // 2), self.floor // 4)
        self.max_levels = config.levels * 2
        self.update_id = update_id
        self.trade_id = trade_id
        self.ts_event = 0
        # (update id, time, is bid, key, quantity before): undone newest first to get an older book.
        self.history: deque[tuple[int, int, bool, int, int]] = deque(maxlen=config.history)
        self.first: Book


class OrderFlow:
    """Order flow of an exchange and the true book of each of its symbols.

    A hidden fair price of each symbol walks at random. Market orders take what it has crossed, makers improve towards
    it and cancel behind it. Orders come in clusters that share an instant, clusters come at a rate that switches
    between quiet and busy for the whole exchange, and most, not all, orders of a cluster hit the same symbol.
    """

    def __init__(self, markets: Sequence[Market], config: FlowConfig | None = None, *, start_ns: int = 0) -> None:
        """Fill the books and let `warm_up` orders pass; the first burst comes after `start_ns`.

        ValueError for no or repeated symbols, and for a configuration that no exchange could keep up.
        """
        config = config or FlowConfig()
        if not markets or len({market.symbol for market in markets}) != len(markets):
            raise ValueError(f"expected distinct symbols, found {[market.symbol for market in markets]}")
        if config.levels < 8 or config.rate <= 0 or config.history < 1 or config.warm_up < 0:
            raise ValueError(
                f"expected levels >= 8, rate > 0, history >= 1 and warm_up >= 0, found {config.levels}, {config.rate}, "
                f"{config.history} and {config.warm_up}"
            )
        self.config = config
        self._random = Random(config.seed).random
        self._last_id = 0
        if config.update_ids == "exchange":
            self._last_id = 5_000_000_000_000 + int(self._random() * 1e9)
        self._states = [
            _MarketState(
                market,
                config,
                self._last_id or 40_000_000_000 + int(self._random() * 1e9),
                3_000_000_000 + int(self._random() * 1e6),
            )
            for market in markets
        ]
        self._by_symbol = {state.market.symbol: state for state in self._states}
        # The first symbol is the most active, the second half as much, and so on.
        self._weights = list(accumulate(1 / (i + 1) for i in range(len(markets))))
        self._busy = False
        # Exponential table units (mean 1024) per ns.
        self._quiet_gap = NS_PER_SECOND * _MEAN_BURST / (config.rate * _QUIET_FACTOR * 1024)
        self._busy_gap = NS_PER_SECOND * _MEAN_BURST / (config.rate * _BUSY_FACTOR * 1024)
        self.ts_event = start_ns  # of the newest order
        for state in self._states:
            state.ts_event = start_ns
            self._open(state)
        for state in self._states:
            for _ in range(config.warm_up):
                self._order(state, start_ns)
        self._state_until = start_ns + self._exponential(_QUIET_NS)
        self._next_ns = start_ns
        self._schedule()

    @property
    def markets(self) -> list[Market]:
        return [state.market for state in self._states]

    @property
    def next_ns(self) -> int:
        """Exchange time of the next burst."""
        return self._next_ns

    def __iter__(self) -> Iterator[Update]:
        """Yield updates without end, in the order of their times; the books are ahead, at the end of each burst."""
        while True:
            yield from self.next_burst()

    def next_burst(self) -> list[Update]:
        """Return all orders of the next instant at which something happens."""
        ts_event = self._next_ns
        random = self._random
        count = _BURST_SIZE[int(random() * _TABLE_SIZE)]
        leader = self._pick()
        updates = []
        for _ in range(count):
            state = leader if random() < 0.8 else self._pick()
            updates.append(self._order(state, ts_event))
        self.ts_event = ts_event
        self._schedule()
        return updates

    def step(self, now_ns: int) -> list[Update]:
        """Return everything up to and including `now_ns`."""
        updates: list[Update] = []
        while self._next_ns <= now_ns:
            updates += self.next_burst()
        return updates

    def burst(self, symbol: str, orders: int, ts_event: int) -> list[Update]:
        """Make `orders` orders of one symbol at one instant, besides those that come by themselves.

        KeyError for an unknown symbol, ValueError for a time before the newest order's.
        """
        if ts_event < self.ts_event:
            raise ValueError(f"expected a time from {self.ts_event} on, found {ts_event}")
        state = self._by_symbol[symbol]
        self.ts_event = ts_event
        self._next_ns = max(self._next_ns, ts_event)
        return [self._order(state, ts_event) for _ in range(orders)]

    def book(self, symbol: str, *, levels: int | None = None) -> Book:
        """Copy the true book as it is now, or its best `levels` a side."""
        state = self._by_symbol[symbol]
        return Book(symbol, state.update_id, state.ts_event, state.bids.levels(levels), state.asks.levels(levels))

    def top(self, symbol: str) -> Top:
        return _top(self._by_symbol[symbol])

    def depth(self, symbol: str) -> int:
        """Return how many levels the deeper side of the book has."""
        state = self._by_symbol[symbol]
        return max(len(state.bids.keys), len(state.asks.keys))

    def qty_at(self, symbol: str, is_bid: bool, price: int) -> int:
        """Return the quantity of a level, 0 where there is none."""
        state = self._by_symbol[symbol]
        return state.bids.qty.get(price, 0) if is_bid else state.asks.qty.get(-price, 0)

    def last_id(self, symbol: str) -> int:
        """Return the id of the symbol's newest change."""
        return self._by_symbol[symbol].update_id

    def first_book(self, symbol: str) -> Book:
        """Copy the book that the symbol opened with: older than anything that a client can have seen."""
        return self._by_symbol[symbol].first

    def book_at(self, symbol: str, update_id: int) -> Book:
        """Copy the true book as it was after change `update_id` (or the last one before it).

        LookupError when the id lies ahead or further back than `history` changes.
        """
        state = self._by_symbol[symbol]
        if update_id > state.update_id:
            raise LookupError(f"{symbol}: expected an update id up to {state.update_id}, found {update_id}")
        bids, asks = dict(state.bids.qty), dict(state.asks.qty)
        found_id, found_ts = state.update_id, state.ts_event
        remembered = reversed(state.history)
        for change_id, ts_event, is_bid, key, before in remembered:
            if change_id <= update_id:
                found_id, found_ts = change_id, ts_event
                break
            side = bids if is_bid else asks
            if before:
                side[key] = before
            else:
                del side[key]
        else:
            if update_id < state.update_id:
                oldest = state.history[0][0] if state.history else state.update_id
                raise LookupError(f"{symbol}: expected an update id from {oldest} on, found {update_id}")
        return Book(
            symbol,
            found_id,
            found_ts,
            [(key, bids[key]) for key in sorted(bids, reverse=True)],
            [(-key, asks[key]) for key in sorted(asks, reverse=True)],
        )

    def _pick(self) -> _MarketState:
        states = self._states
        if len(states) == 1:
            return states[0]
        return states[min(bisect_right(self._weights, self._random() * self._weights[-1]), len(states) - 1)]

    def _exponential(self, mean_ns: int) -> int:
        return _EXPONENTIAL[int(self._random() * _TABLE_SIZE)] * mean_ns // 1024

    def _schedule(self) -> None:
        gap = self._busy_gap if self._busy else self._quiet_gap
        self._next_ns += 1 + int(_EXPONENTIAL[int(self._random() * _TABLE_SIZE)] * gap)
        while self._next_ns > self._state_until:
            self._busy = not self._busy
            self._state_until += self._exponential(_BUSY_NS if self._busy else _QUIET_NS) + 1

    def _open(self, state: _MarketState) -> None:
        """Fill an empty book: dense at the touch, thinner and larger further out, as real ones are."""
        random = self._random
        for side, key in ((state.bids, state.fair), (state.asks, -state.fair - 1)):
            for i in range(self.config.levels):
                if side.is_bid and key < 1:
                    break
                side.qty[key] = self._qty(state) * (1 + i // 50)
                side.keys.append(key)
                key -= 1 + int(random() * 2 * state.spacing * (1 + i // 100)) if i > 1 else 1
            side.keys.reverse()
        state.first = Book(
            state.market.symbol, state.update_id, state.ts_event, state.bids.levels(), state.asks.levels()
        )

    def _qty(self, state: _MarketState) -> int:
        return 1 + (state.market.typical_qty * _QTY[int(self._random() * _TABLE_SIZE)] >> 8)

    def _order(self, state: _MarketState, ts_event: int) -> Update:
        random = self._random
        previous_id = state.update_id
        bids, asks = state.bids, state.asks
        bid, ask = bids.keys[-1], asks.keys[-1]
        bid_qty, ask_qty = bids.qty[bid], asks.qty[ask]
        state.ts_event = ts_event
        changes: list[LevelChange] = []
        fills: list[Fill] = []

        draw = random()
        if draw < 0.05:
            step = 1 + int(random() * 2 * state.spacing)
            state.fair += step if draw < 0.025 else -step
            if state.fair < state.floor:
                state.fair += 2 * step
        thin = len(bids.keys) < state.min_levels or len(asks.keys) < state.min_levels
        if thin:
            side, other = (bids, asks) if len(bids.keys) < len(asks.keys) else (asks, bids)
            self._add_level(state, side, changes)
        elif state.fair > -ask + state.spacing:
            self._take(state, asks, 2, changes, fills)
        elif state.fair < bid - state.spacing:
            self._take(state, bids, 2, changes, fills)
        elif draw > 0.94:
            self._take(state, bids if random() < 0.5 else asks, 1, changes, fills)
        else:
            side, other = (bids, asks) if random() < 0.5 else (asks, bids)
            levels = len(side.keys)
            # More cancels in a full book, more new levels in a thin one: their number stays near where it began.
            if levels >= state.max_levels:
                self._change(state, side, side.keys[0], 0, changes)
            elif random() < 0.5 * levels / self.config.levels:
                self._cancel(state, side, changes)
            elif random() < 0.4:
                self._add_level(state, side, changes)
            else:
                self._add(state, side, other, changes)

        new_bid, new_ask = bids.keys[-1], asks.keys[-1]
        top = None
        if new_bid != bid or new_ask != ask or bids.qty[new_bid] != bid_qty or asks.qty[new_ask] != ask_qty:
            top = Top(new_bid, bids.qty[new_bid], -new_ask, asks.qty[new_ask])
        return Update(ts_event, state.market.symbol, previous_id, changes, fills, top)

    def _change(self, state: _MarketState, side: _Side, key: int, qty: int, changes: list[LevelChange]) -> None:
        if self._last_id:
            self._last_id += 1 + int(self._random() * 64)
            state.update_id = self._last_id
        else:
            state.update_id += 1
        state.history.append((state.update_id, state.ts_event, side.is_bid, key, side.qty.get(key, 0)))
        side.set(key, qty)
        changes.append(LevelChange(state.update_id, side.is_bid, key * side.sign, qty))

    def _take(
        self, state: _MarketState, side: _Side, urgency: int, changes: list[LevelChange], fills: list[Fill]
    ) -> None:
        """A market order: walk the book until it is filled or only a thin rest of the side is left."""
        wanted = self._qty(state) * urgency
        while wanted:
            key = side.keys[-1]
            there = side.qty[key]
            taken = there if wanted >= there else wanted
            if taken == there and len(side.keys) == 2:
                return  # the last two levels stay; a market order that finds no more is cancelled
            wanted -= taken
            rest = taken
            # A level holds several makers' orders: sometimes its fill is several trades.
            if taken > 1 and self._random() < 0.3:
                part = 1 + int(self._random() * (taken - 1))
                self._fill(state, side, key, part, fills)
                rest -= part
            self._fill(state, side, key, rest, fills)
            self._change(state, side, key, there - taken, changes)

    def _fill(self, state: _MarketState, side: _Side, key: int, qty: int, fills: list[Fill]) -> None:
        state.trade_id += 1
        fills.append(Fill(state.trade_id, key * side.sign, qty, side.is_bid))

    def _add(self, state: _MarketState, side: _Side, other: _Side, changes: list[LevelChange]) -> None:
        random = self._random
        best = side.keys[-1]
        # Makers improve towards the fair price and never lock the book.
        limit = -other.keys[-1] - 1
        fair = state.fair * side.sign if side.is_bid else -state.fair - 1
        if fair < limit:
            limit = fair
        draw = random()
        if limit > best and draw < 0.8:
            key = limit if draw < 0.5 else best + 1 + int(random() * (limit - best))
        elif draw < 0.5:
            key = best
        else:
            depth = _DEPTH[int(random() * _TABLE_SIZE)]
            key = side.keys[-1 - depth] if depth < len(side.keys) else side.keys[0]
        self._change(state, side, key, side.qty.get(key, 0) + self._qty(state), changes)

    def _add_level(self, state: _MarketState, side: _Side, changes: list[LevelChange]) -> None:
        """A limit order at a price that has none yet, behind the touch."""
        random = self._random
        spacing = state.spacing
        key = side.keys[-1] - 1 - int((_DEPTH[int(random() * _TABLE_SIZE)] + random()) * spacing)
        while key in side.qty:
            key -= 1 + int(random() * spacing)
        if side.is_bid and key < 1:
            key = side.keys[-1]  # no room left above zero
        self._change(state, side, key, side.qty.get(key, 0) + self._qty(state), changes)

    def _cancel(self, state: _MarketState, side: _Side, changes: list[LevelChange]) -> None:
        random = self._random
        keys = side.keys
        depth = _DEPTH[int(random() * _TABLE_SIZE)]
        key = keys[-1 - depth] if depth < len(keys) else keys[int(random() * len(keys))]
        qty = side.qty[key]
        left = 0 if random() < 0.6 else qty - 1 - int(random() * qty)
        self._change(state, side, key, left, changes)


def _top(state: _MarketState) -> Top:
    bid, ask = state.bids.keys[-1], state.asks.keys[-1]
    return Top(bid, state.bids.qty[bid], -ask, state.asks.qty[ask])
