"""Sides of a book with and without a window of ticks: whatever is where, the levels are those of a dictionary."""

import random
import sys
from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from feeds.book import BookState, OrderBook
from feeds.book_builder import BookBuilder
from feeds.events import BookDelta
from feeds.instrument import Instruments
from feeds.testing import EventLog
from tests.feeds.conftest import pipeline_of
from tests.feeds.messages import trade
from tests.feeds.test_book import Reference, build

LARGEST = 2**63 - 1
BID, ASK = 0, 1


def deltas(instrument, side, levels, **options):
    return BookDelta(instrument, **{("bids", "asks")[side]: levels}, **options)


def a_book(levels=(), side=BID, **options):
    """A builder and its book, with these levels on a side."""
    builder, instrument = build(**options)
    builder.on_book_delta(deltas(instrument, side, levels))
    return builder, builder.book(instrument)


def best_first(levels, side=BID):
    return sorted(dict(levels).items(), reverse=side == BID)


class Market(RuleBasedStateMachine):
    """Moves a market about: dense and sparse, near and far, on the tick and off it, until it has been everywhere."""

    @initialize(
        max_window=st.sampled_from([0, 511, 512, 1500, 4096, 32_768]), max_levels=st.sampled_from([50, 200_000])
    )
    def start(self, max_window, max_levels):
        instruments = Instruments()
        self.instrument = instruments.add("binance", "X")
        self.decoding = pipeline_of("binance", EventLog(), instruments=instruments)
        self.builder = BookBuilder(EventLog(), max_window=max_window, max_levels=max_levels)
        self.builder.on_book_delta(BookDelta(self.instrument, is_snapshot=True))
        self.book = self.builder.book(self.instrument)
        self.sides = Reference(1, max_levels), Reference(-1, max_levels)

    def apply(self, side, levels):
        for price, qty in levels:
            self.sides[side].set(price, qty)
        self.builder.on_book_delta(deltas(self.instrument, side, [self.exact(level) for level in levels]))

    def exact(self, level):
        return Decimal(level[0]).scaleb(-self.instrument.price_decimals), level[1]

    @rule(
        side=st.sampled_from([BID, ASK]),
        centre=st.one_of(
            st.integers(-5000, 5000), st.sampled_from([10**6, 10**12, -(10**12), LARGEST - 10**6, 10**6 - LARGEST])
        ),
        tick=st.sampled_from([1, 2, 5, 7, 10, 25, 96, 1000, 3 * 2**20, 10**13]),
        count=st.sampled_from([1, 40, 200, 400]),
        spread=st.sampled_from([1, 3, 100]),
        seed=st.integers(0, 2**16),
    )
    def burst(self, side, centre, tick, count, spread, seed):
        """Levels on some tick around some price, some of them removals, in order or not."""
        rng = random.Random(seed)
        prices = [
            centre // tick * tick + tick * rng.randrange(-count, count) * rng.randint(1, spread) for _ in range(count)
        ]
        if rng.random() < 0.7:
            prices.sort(reverse=rng.random() < 0.5)
        self.apply(side, [(p, rng.choice([0, 1, 7, LARGEST])) for p in prices if -LARGEST <= p <= LARGEST])

    @rule(side=st.sampled_from([BID, ASK]), price=st.integers(-LARGEST, LARGEST), qty=st.integers(0, 3))
    def anything(self, side, price, qty):
        self.apply(side, [(price, qty)])

    @rule(side=st.sampled_from([BID, ASK]), count=st.integers(1, 300), seed=st.integers(0, 2**16))
    def the_touch_is_eaten(self, side, count, seed):
        best = self.sides[side].best_first()[:count]
        random.Random(seed).shuffle(best)
        self.apply(side, [(price, 0) for price, _ in best])

    @rule(side=st.sampled_from([BID, ASK]), shift=st.integers(-3, 3), seed=st.integers(0, 2**16))
    def near_the_levels_there_are(self, side, shift, seed):
        rng = random.Random(seed)
        there = self.sides[side].best_first()
        chosen = rng.sample(there, min(len(there), 120))
        self.apply(side, [(p + shift, rng.randint(0, 2)) for p, _ in chosen if -LARGEST <= p + shift <= LARGEST])

    @rule(keep=st.integers(0, 500), seed=st.integers(0, 2**16))
    def snapshot(self, keep, seed):
        """Replaces both sides by a part of themselves, in some order."""
        rng = random.Random(seed)
        kept = []
        for side in self.sides:
            levels = rng.sample(sorted(side.levels.items()), min(keep, len(side.levels)))
            side.levels = dict(levels)
            kept.append([self.exact(level) for level in levels])
        self.builder.on_book_delta(BookDelta(self.instrument, is_snapshot=True, bids=kept[0], asks=kept[1]))

    @precondition(lambda self: self.instrument.price_decimals < 3)
    @rule()
    def decimals_grow(self):
        """Prices are ten times as many units; where one does not fit, the book is given up and a snapshot comes."""
        unit = Decimal(1).scaleb(-self.instrument.price_decimals - 1)
        fits = all(-(LARGEST // 10) <= price <= LARGEST // 10 for side in self.sides for price in side.levels)
        unfit = self.builder.unfit
        self.decoding.on_message(trade(f"{unit:f}", "1", symbol="X"), 1, True)
        self.builder.on_book_delta(deltas(self.instrument, BID, [(unit, 0)]))
        for side in self.sides:
            side.levels = {p * 10: qty for p, qty in side.levels.items()} if fits else {}
        assert self.builder.unfit == unfit + (not fits)
        if not fits:
            self.builder.on_book_delta(BookDelta(self.instrument, is_snapshot=True))

    @invariant()
    def both_sides_are_those_of_the_dictionaries(self):
        if not hasattr(self, "book"):
            return
        for side, reference in enumerate(self.sides):
            expected = [(self.exact(level)[0], Decimal(level[1])) for level in reference.best_first()]
            assert self.book.exact(side) == expected
            top = (self.book.last_bids, self.book.last_asks)[side](5)
            assert [float(p) for p, _ in expected[:5]] == [level.price for level in top]
        bids, asks = (side.best_first() for side in self.sides)
        if bids and asks and bids[0][0] >= asks[0][0]:
            assert self.book.state is BookState.CROSSED
        else:
            assert self.book.state is BookState.LIVE
            for best, levels in ((self.book.best_bid, bids), (self.book.best_ask, asks)):
                assert best == ((float(self.exact(levels[0])[0]), float(levels[0][1])) if levels else None)
        assert (self.book.bid_count, self.book.ask_count) == tuple(len(side.levels) for side in self.sides)
        assert self.book.evicted == sum(side.evicted for side in self.sides)


Market.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_a_market_that_goes_anywhere = Market.TestCase


@pytest.mark.parametrize("side", [BID, ASK])
@pytest.mark.parametrize("tick", [1, 5, 25, 96, 1000])
def test_the_window_learns_its_tick_and_stands_at_the_touch(side, tick):
    sign = (1, -1)[side]
    _, book = a_book([(70_000 * tick - sign * n * tick, 1) for n in range(1000)], side)
    low, high, learned = book.window(side)
    assert learned == tick
    assert low <= 70_000 * tick <= high
    covered = [price for price, _ in book.exact(side) if low <= price <= high]
    assert len(covered) >= 900
    assert book.window(1 - side) is None


def test_a_small_side_has_no_window_and_one_without_limit_none_either():
    levels = [(price, 1) for price in range(1000)]
    assert a_book(levels[:31])[1].window(BID) is None
    assert a_book(levels, max_window=0)[1].window(BID) is None
    assert a_book(levels, max_window=511)[1].window(BID) is None
    assert a_book(levels)[1].window(BID) is not None


@pytest.mark.parametrize("max_window", [512, 1000, 2048, 32_768])
def test_the_window_grows_to_what_the_levels_need_and_not_beyond_its_limit(max_window):
    _, book = a_book([(price, 1) for price in range(0, 120_000, 3)], max_window=max_window)
    low, high, tick = book.window(BID)
    assert (tick, (high - low) / tick + 1) == (3, 2 ** (max_window.bit_length() - 1))


def test_a_window_is_no_larger_than_so_many_ticks_a_level():
    sparse = [(price, qty) for qty in (1, 2, 3) for price in [5 * (2503 * n + n * n) for n in range(41)]]
    _, book = a_book(sparse)
    low, high, tick = book.window(BID)
    assert (book.bid_count, tick) == (41, 10)
    assert (high - low) / tick + 1 == 4096  # the first power of two from 41 * 64


def test_the_window_follows_the_market():
    builder, book = a_book([(price, 1) for price in range(10_000, 11_000)])
    for start in range(10_000, 90_000, 500):
        builder.on_book_delta(deltas(book.instrument, BID, [(p, 0) for p in range(start, start + 500)]))
        builder.on_book_delta(deltas(book.instrument, BID, [(p, 1) for p in range(start + 1000, start + 1500)]))
        low, high, _ = book.window(BID)
        assert low <= start + 700 <= high
    assert book.exact(BID) == best_first((p, 1) for p in range(90_000, 91_000))


def test_the_window_follows_a_change_of_the_tick_both_ways():
    builder, book = a_book([(price, 1) for price in range(0, 10_000, 10)])
    assert book.window(BID)[2] == 10
    for tick in (1, 50):
        levels = [(price, 2) for price in range(40_000, 40_000 + 1000 * tick, tick)]
        builder.on_book_delta(BookDelta(book.instrument, is_snapshot=True, bids=levels))
        assert book.exact(BID) == best_first(levels)
        assert book.window(BID)[2] == tick


def test_a_few_prices_off_the_tick_do_not_change_it():
    levels = [(price, 1) for price in range(0, 100_000, 100)]
    stray = [(50_001, 3), (99_999, 4), (7, 5)]
    _, book = a_book(stray + levels)
    assert book.window(BID)[2] == 100
    assert book.exact(BID) == best_first(stray + levels)
    assert book.exact(BID)[:2] == [(99_999, 4), (99_900, 1)]


def test_prices_far_beyond_the_touch_do_not_move_the_window():
    absurd = [(10**15, 1), (10**12, 1), (10**9, 1)]
    _, book = a_book(absurd + [(price, 1) for price in range(60_000, 61_000)])
    low, high, _ = book.window(BID)
    assert low <= 60_999 <= high < 10**6
    assert book.exact(BID)[:4] == [*absurd, (60_999, 1)]


@pytest.mark.parametrize("side", [BID, ASK])
@pytest.mark.parametrize("edge", [1, -1])
@pytest.mark.parametrize("tick", [1, 2, 3, 10**12])
def test_at_the_edges_of_int64_the_window_does_not_reach_beyond(side, edge, tick):
    """Prices at one edge, thick enough for a window; then prices at the other, which a window that wraps would take."""
    levels = [(edge * (LARGEST // tick - n) * tick, n + 1) for n in range(300)]
    builder, book = a_book(levels, side)
    low, high, learned = book.window(side)
    assert learned == tick
    assert any(low <= price <= high for price, _ in levels)
    others = [(-price, qty) for price, qty in levels[:40]]
    builder.on_book_delta(deltas(book.instrument, side, others))
    assert book.exact(side) == best_first(levels + others, side)


@pytest.mark.parametrize("order", ["best first", "worst first", "any"])
def test_a_snapshot_of_five_thousand_levels_may_come_in_any_order(order):
    levels = [(price, price % 9 + 1) for price in range(20, 100_001, 20)]
    if order == "best first":
        levels.reverse()
    elif order == "any":
        random.Random(5).shuffle(levels)
    builder, book = a_book([(3, 3)])
    for _ in range(2):
        builder.on_book_delta(
            BookDelta(book.instrument, is_snapshot=True, bids=levels, asks=[(p + 10**6, q) for p, q in levels])
        )
        assert book.exact(BID) == best_first(levels)
        assert book.exact(ASK) == sorted((p + 10**6, q) for p, q in levels)
        assert book.window(BID)[2] == 20


def test_the_worst_level_is_dropped_from_where_it_is():
    """From the window, and from the array when that has a worse one."""
    builder, book = a_book([(price, 1) for price in range(1000, 2000)], max_levels=1000)
    low, _, _ = book.window(BID)
    assert low < 1000
    builder.on_book_delta(deltas(book.instrument, BID, [(2000, 1)]))
    assert book.exact(BID)[-1] == (1001, 1)
    builder.on_book_delta(deltas(book.instrument, BID, [(1500, 0), (-(10**9), 1)]))
    assert book.exact(BID)[-1] == (-(10**9), 1)
    builder.on_book_delta(deltas(book.instrument, BID, [(2001, 1), (-(10**10), 1)]))
    assert book.exact(BID)[-1] == (1001, 1)
    assert (book.bid_count, book.evicted) == (1000, 3)


def test_memory_is_what_the_levels_need():
    empty = sys.getsizeof(a_book()[1])
    assert empty < 1500
    assert sys.getsizeof(a_book([(price, 1) for price in range(20)])[1]) < empty + 2000
    dense = sys.getsizeof(a_book([(price, 1) for price in range(1000)])[1])
    assert 512 * 8 < dense - empty < 64 * 1024
    wide = [(price, 1) for price in range(40_000)]
    limited = sys.getsizeof(a_book(wide, max_window=1024)[1])
    assert sys.getsizeof(a_book(wide, max_window=32_768)[1]) - limited < 32_768 * 9


def test_a_window_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="max_window of at least 0, found -1"):
        OrderBook(Instruments(infer=True).find("x", "X"), max_window=-1)
    assert OrderBook(Instruments(infer=True).find("x", "X"), max_window=5).max_window == 5
