import hashlib
from collections import Counter
from itertools import islice

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.simulator.markets import plausible_market
from feeds.simulator.order_flow import NS_PER_SECOND, Book, FlowConfig, OrderFlow, Top, Update

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def make_flow(symbols: tuple[str, ...] = SYMBOLS, **config: object) -> OrderFlow:
    config.setdefault("levels", 50)
    config.setdefault("warm_up", 100)
    return OrderFlow([plausible_market(symbol) for symbol in symbols], msgspec.convert(config, FlowConfig))


def apply(book: Book, update: Update) -> Book:
    sides = {True: dict(book.bids), False: dict(book.asks)}
    for change in update.changes:
        if change.qty:
            sides[change.is_bid][change.price] = change.qty
        else:
            del sides[change.is_bid][change.price]
    return Book(
        book.symbol,
        update.last_id,
        update.ts_event,
        sorted(sides[True].items(), reverse=True),
        sorted(sides[False].items()),
    )


def test_the_same_seed_makes_the_same_flow() -> None:
    first, second, other = make_flow(seed=7), make_flow(seed=7), make_flow(seed=8)
    assert list(islice(first, 5_000)) == list(islice(second, 5_000))
    assert list(islice(make_flow(seed=7), 50)) != list(islice(other, 50))


@pytest.mark.parametrize(
    ("update_ids", "digest"),
    [
        ("symbol", "7246aba8ad499f87"),
        ("exchange", "d4bfb2701e571733"),
    ],
)
def test_the_flow_of_a_seed_is_the_same_everywhere(update_ids: str, digest: str) -> None:
    updates = list(islice(make_flow(seed=1, update_ids=update_ids), 3_000))
    assert hashlib.sha256(msgspec.json.encode(updates)).hexdigest()[:16] == digest


def test_how_time_is_cut_does_not_change_the_flow() -> None:
    whole, cut = make_flow(), make_flow()
    pieces: list[Update] = []
    for now_ns in range(0, NS_PER_SECOND + 1, NS_PER_SECOND // 16):
        pieces += cut.step(now_ns)
    assert pieces == whole.step(NS_PER_SECOND)
    assert pieces


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), levels=st.integers(8, 200), price=st.sampled_from(["BTCUSDT", "XUSDT", "PEPEUSDT"]))
def test_updates_rebuild_the_true_book(seed: int, levels: int, price: str) -> None:
    flow = make_flow((price,), seed=seed, levels=levels)
    rebuilt = flow.book(price)
    for update in flow.step(2 * NS_PER_SECOND):
        assert update.previous_id == rebuilt.update_id
        before = Top(*rebuilt.bids[0], *rebuilt.asks[0])
        rebuilt = apply(rebuilt, update)
        after = Top(*rebuilt.bids[0], *rebuilt.asks[0])
        assert update.top == (None if after == before else after)
        assert after.bid < after.ask
        assert min(after.bid, after.bid_qty, after.ask_qty) > 0
    assert rebuilt == flow.book(price)
    assert len(rebuilt.bids) <= 2 * levels + 1
    assert rebuilt.bids[-1][0] > 0


def test_fills_take_what_the_book_loses() -> None:
    flow = make_flow(("BTCUSDT",))
    book = flow.book("BTCUSDT")
    seen = 0
    for update in islice(flow, 5_000):
        levels = dict(book.bids) | dict(book.asks)
        book = apply(book, update)
        if not update.fills:
            assert len(update.changes) == 1
            continue
        seen += 1
        filled = Counter[int]()
        for fill in update.fills:
            filled[fill.price] += fill.qty
            assert fill.buyer_is_maker is update.changes[0].is_bid
        assert filled == {change.price: levels[change.price] - change.qty for change in update.changes}
    assert seen > 100


def test_trade_ids_ascend_by_one_per_symbol() -> None:
    ids: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
    for update in islice(make_flow(), 5_000):
        ids[update.symbol] += [fill.trade_id for fill in update.fills]
    for trade_ids in ids.values():
        assert len(trade_ids) > 10
        assert trade_ids == list(range(trade_ids[0], trade_ids[0] + len(trade_ids)))


def test_update_ids_of_a_symbol_have_no_holes() -> None:
    flow = make_flow()
    last = {symbol: flow.last_id(symbol) for symbol in SYMBOLS}
    for update in islice(flow, 3_000):
        for change in update.changes:
            assert change.update_id == last[update.symbol] + 1
            last[update.symbol] = change.update_id


def test_update_ids_of_an_exchange_ascend_over_all_symbols_with_holes() -> None:
    ids = [change.update_id for update in islice(make_flow(update_ids="exchange"), 3_000) for change in update.changes]
    assert ids == sorted(set(ids))
    assert ids[-1] - ids[0] > 10 * len(ids)


def test_the_book_at_any_remembered_id_is_the_book_as_it_was() -> None:
    flow = make_flow(history=1_000)
    books = {symbol: [flow.book(symbol)] for symbol in SYMBOLS}
    for update in flow.step(NS_PER_SECOND // 2):
        books[update.symbol].append(apply(books[update.symbol][-1], update))
    for symbol in SYMBOLS:
        assert len(books[symbol]) > 30
        for book in books[symbol]:
            assert flow.book_at(symbol, book.update_id) == book


def test_the_book_of_a_forgotten_or_future_id_is_refused() -> None:
    flow = make_flow(("BTCUSDT",), history=10)
    first = flow.last_id("BTCUSDT")
    list(islice(flow, 100))
    with pytest.raises(LookupError, match=f"from {flow.last_id('BTCUSDT') - 9} on, found {first}"):
        flow.book_at("BTCUSDT", first)
    with pytest.raises(LookupError, match="expected an update id up to"):
        flow.book_at("BTCUSDT", flow.last_id("BTCUSDT") + 1)


def test_the_first_book_is_older_than_the_flow_that_a_user_sees() -> None:
    flow = make_flow()
    assert flow.first_book("BTCUSDT").update_id < flow.last_id("BTCUSDT") - 50


def test_the_rate_holds_on_average_in_quiet_and_busy_times() -> None:
    flow = make_flow(rate=2_000, seed=5)
    seconds = 60
    per_second = Counter(update.ts_event // NS_PER_SECOND for update in flow.step(seconds * NS_PER_SECOND))
    assert 0.7 * 2_000 < per_second.total() / seconds < 1.3 * 2_000
    assert min(per_second.values()) < 1_300
    assert max(per_second.values()) > 4_000


def test_orders_come_in_bursts_of_one_instant_as_recorded_ones_do() -> None:
    sizes = sorted(Counter(update.ts_event for update in islice(make_flow(seed=2), 30_000)).values())
    quantile = {q: sizes[int(len(sizes) * q)] for q in (0.5, 0.9, 0.99)}
    assert quantile[0.5] == 1
    assert 3 <= quantile[0.9] <= 5
    assert 10 <= quantile[0.99] <= 25
    assert sizes[-1] > 60


def test_books_keep_their_depth_and_the_price_moves() -> None:
    flow = make_flow(("BTCUSDT",), levels=300)
    start = flow.top("BTCUSDT").bid
    prices = set()
    for _ in range(30):
        list(islice(flow, 1_000))
        book = flow.book("BTCUSDT")
        assert 150 <= len(book.bids) <= 600
        assert 150 <= len(book.asks) <= 600
        prices.add(book.bids[0][0])
    assert len(prices) > 20
    assert max(abs(price - start) for price in prices) < start / 10


def test_a_burst_on_request_has_the_orders_symbol_and_time_asked_for() -> None:
    flow = make_flow()
    now_ns = flow.next_ns - 1
    updates = flow.burst("ETHUSDT", 40, now_ns)
    assert [(update.symbol, update.ts_event) for update in updates] == [("ETHUSDT", now_ns)] * 40
    assert all(update.ts_event >= now_ns for update in islice(flow, 100))
    with pytest.raises(ValueError, match="expected a time from"):
        flow.burst("ETHUSDT", 1, now_ns)


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(ValueError, match="expected distinct symbols"):
        make_flow(("BTCUSDT", "BTCUSDT"))
    with pytest.raises(ValueError, match="expected distinct symbols"):
        make_flow(())
    with pytest.raises(ValueError, match="rate > 0"):
        make_flow(rate=0)


@pytest.mark.parametrize("change", [{"start_price": 99}, {"start_price": 10**12 + 1}, {"typical_qty": 0}])
def test_markets_that_have_no_room_are_refused(change: dict[str, int]) -> None:
    market = msgspec.structs.replace(plausible_market("BTCUSDT"), **change)
    with pytest.raises(ValueError, match="BTCUSDT: expected a start price from 100 to"):
        OrderFlow([market])


@pytest.mark.parametrize("change", [{"start_price": 100}, {"start_price": 10**12}, {"typical_qty": 10**12}])
@pytest.mark.parametrize("seed", range(5))
def test_markets_that_have_just_room_stay_markets(change: dict[str, int], seed: int) -> None:
    market = msgspec.structs.replace(plausible_market("BTCUSDT"), **change)
    flow = OrderFlow([market], FlowConfig(seed=seed, levels=8, warm_up=0))
    for update in flow.burst("BTCUSDT", 20_000, NS_PER_SECOND):
        assert all(change.qty >= 0 and change.price >= 1 for change in update.changes)
    book = flow.book("BTCUSDT")
    assert min(len(book.bids), len(book.asks)) >= 2
    assert 0 < book.bids[0][0] < book.asks[0][0]
