from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.book import BookState, Level, OrderBook
from feeds.book_builder import BookBuilder
from feeds.events import BookDelta
from feeds.instrument import Instruments
from feeds.testing import EventLog
from tests.feeds.conftest import pipeline_of
from tests.feeds.messages import depth, snapshot, trade


def build(price_decimals=0, qty_decimals=0, **options):
    """A builder, and an instrument whose empty snapshot it has joined."""
    instrument = Instruments().add("x", "X", price_decimals=price_decimals, qty_decimals=qty_decimals)
    builder = BookBuilder(EventLog(), **options)
    builder.on_book_delta(BookDelta(instrument, is_snapshot=True))
    return builder, instrument


class Reference:
    """A side as a dictionary, with the same rule of eviction."""

    def __init__(self, sign, max_levels):
        self.levels = {}
        self.evicted = 0
        self.sign = sign
        self.max_levels = max_levels

    def set(self, price, qty):
        if qty == 0:
            self.levels.pop(price, None)
            return
        self.levels[price] = qty
        if len(self.levels) > self.max_levels:
            self.evicted += 1
            del self.levels[min(self.levels, key=lambda p: self.sign * p)]

    def best_first(self):
        return sorted(self.levels.items(), key=lambda level: -self.sign * level[0])


PRICES = st.one_of(st.integers(-8, 8), st.integers(-(2**62), 2**62), st.sampled_from([2**63 - 1, -(2**63) + 1]))
SETS = st.lists(
    st.tuples(st.booleans(), PRICES, st.one_of(st.just(0), st.integers(1, 5), st.just(2**63 - 1))), max_size=60
)


@settings(max_examples=80)
@given(st.lists(SETS, max_size=6), st.sampled_from([1, 2, 5, 200_000]))
def test_any_sequence_of_sets_gives_what_a_dictionary_gives(messages, max_levels):
    builder, instrument = build(max_levels=max_levels)
    book = builder.book(instrument)
    bids, asks = Reference(1, max_levels), Reference(-1, max_levels)
    for sets in messages:
        for is_ask, price, qty in sets:
            (asks if is_ask else bids).set(price, qty)
        builder.on_book_delta(
            BookDelta(instrument, bids=[s[1:] for s in sets if not s[0]], asks=[s[1:] for s in sets if s[0]])
        )
        assert book.exact(0) == bids.best_first()
        assert book.exact(1) == asks.best_first()
        assert book.last_bids(3) == [(float(p), float(q)) for p, q in bids.best_first()[:3]]
        assert book.last_asks(3) == [(float(p), float(q)) for p, q in asks.best_first()[:3]]
        assert (book.bid_count, book.ask_count) == (len(bids.levels), len(asks.levels))
        assert book.evicted == bids.evicted + asks.evicted
        crossed = bool(bids.levels and asks.levels and max(bids.levels) >= min(asks.levels))
        assert book.state is (BookState.CROSSED if crossed else BookState.LIVE)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 2000), min_size=300, max_size=600))
def test_a_deep_book_finds_its_levels(prices):
    """Enough levels that the search gallops in both directions, and that the array grows."""
    builder, instrument = build()
    reference = {}
    for at in range(0, len(prices), 50):
        part = [(price, (price * 7 + at) % 3) for price in prices[at : at + 50]]
        for price, qty in part:
            reference.pop(price, None)
            if qty:
                reference[price] = qty
        builder.on_book_delta(BookDelta(instrument, bids=part))
    assert builder.book(instrument).exact(0) == sorted(reference.items(), reverse=True)


def test_the_best_levels_come_first_and_only_as_many_as_asked_for():
    builder, instrument = build(2, 1)
    builder.on_book_delta(BookDelta(instrument, bids=[("1.25", 1), ("1.5", "2.5")], asks=[("2", 1), ("1.75", 3)]))
    book = builder.book(instrument)
    assert book.best_bid == Level(1.5, 2.5) == (1.5, 2.5)
    assert book.best_ask == (1.75, 3.0)
    assert book.mid == 1.625
    assert book.bids() == book.bids(-1) == book.bids(9) == [(1.5, 2.5), (1.25, 1.0)]
    assert book.bids(1) == [(1.5, 2.5)]
    assert book.asks(0) == []
    assert book.asks() == [(1.75, 3.0), (2.0, 1.0)]
    assert repr(book) == "<OrderBook <Instrument x X> LIVE 2 bids 2 asks>"


def test_a_book_that_is_not_live_answers_nothing_but_its_last_levels():
    builder, instrument = build()
    builder.on_book_delta(BookDelta(instrument, bids=[(5, 1)], asks=[(4, 1)]))
    book = builder.book(instrument)
    assert book.state is BookState.CROSSED
    assert (book.best_bid, book.best_ask, book.mid, book.bids(), book.asks()) == (None, None, None, [], [])
    assert (book.last_bids(), book.last_asks()) == ([(5.0, 1.0)], [(4.0, 1.0)])


def test_an_empty_side_has_no_best():
    builder, instrument = build()
    builder.on_book_delta(BookDelta(instrument, bids=[(5, 1)]))
    book = builder.book(instrument)
    assert (book.best_ask, book.mid) == (None, None)


def test_a_full_side_drops_the_worst_and_counts_it():
    builder, instrument = build(max_levels=2)
    book = builder.book(instrument)
    builder.on_book_delta(BookDelta(instrument, bids=[(1, 1), (2, 1), (3, 1)], asks=[(9, 1), (8, 1), (10, 1)]))
    assert book.exact(0) == [(3, 1), (2, 1)]
    assert book.exact(1) == [(8, 1), (9, 1)]
    assert book.evicted == 2


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(0, 4), st.integers(0, 4))
def test_growing_decimals_rescale_and_lose_nothing(price, qty, more_price, more_qty):
    pipeline = pipeline_of("binance", EventLog())
    level = (Decimal(price).scaleb(-2), Decimal(qty).scaleb(-2))
    pipeline.on_reply("X", snapshot(1, [(f"{level[0]:f}", f"{level[1]:f}")]), 1)
    book = pipeline.books.books[0]
    tiny = (Decimal(1).scaleb(-2 - more_price), Decimal(1).scaleb(-2 - more_qty))
    pipeline.on_message(trade(f"{tiny[0]:f}", f"{tiny[1]:f}", symbol="X"), 2, True)
    assert book.exact(0) == [level]
    pipeline.on_message(depth(2, 2, [(f"{-tiny[0]:f}", f"{tiny[1]:f}")], symbol="X"), 3, True)
    assert book.exact(0) == [level, (-tiny[0], tiny[1])]
    assert book.state is BookState.LIVE


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="max_levels of at least 1, found 0"):
        OrderBook(Instruments(infer=True).find("x", "X"), max_levels=0)
    with pytest.raises(TypeError):
        OrderBook(None)
