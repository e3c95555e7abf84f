"""A client that follows the documented rules arrives at the true book, message by message.

The rebuild here is a second implementation of the rules, written from the exchange's documentation.
"""

import json
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from feeds.simulator.binance import Binance, BinanceDelivery, BinanceFutures, BinanceSession, BinanceSpot
from feeds.simulator.markets import Market
from feeds.simulator.order_flow import NS_PER_SECOND, Book, FlowConfig

SYMBOLS: dict[type[Binance], tuple[str, str]] = {
    BinanceSpot: ("BTCUSDT", "ETHUSDT"),
    BinanceFutures: ("BTCUSDT", "ETHUSDT"),
    BinanceDelivery: ("BTCUSD_PERP", "ETHUSD_PERP"),
}
MS = 1_000_000
Levels = dict[Decimal, Decimal]


class Rebuild:
    """A book of one symbol by the rules that the exchange publishes."""

    def __init__(self, is_futures: bool) -> None:
        self.is_futures = is_futures
        self.bids: Levels = {}
        self.asks: Levels = {}
        self.buffered: list[dict[str, Any]] = []
        self.last_id: int | None = None
        self.joined_by = ""
        self.applied = 0

    def on_diff(self, diff: dict[str, Any]) -> None:
        if self.last_id is None:
            self.buffered.append(diff)
        elif self.joined_by:
            expected = diff["pu"] if self.is_futures else diff["U"] - 1
            assert expected == self.last_id, "gap"
            self.apply(diff)
        else:
            self.join(diff)

    def on_snapshot(self, snapshot: dict[str, Any]) -> None:
        self.bids = {Decimal(price): Decimal(qty) for price, qty in snapshot["bids"]}
        self.asks = {Decimal(price): Decimal(qty) for price, qty in snapshot["asks"]}
        self.last_id = snapshot["lastUpdateId"]
        if self.buffered:
            assert self.last_id >= self.buffered[0]["U"] - 1, "the snapshot is too old"
        buffered, self.buffered = self.buffered, []
        for diff in buffered:
            self.on_diff(diff)

    def join(self, diff: dict[str, Any]) -> None:
        last_id = self.last_id
        assert last_id is not None
        if self.is_futures:
            if diff["u"] < last_id:
                return
            assert diff["U"] <= last_id <= diff["u"] or diff["pu"] == last_id
            self.joined_by = "range" if diff["U"] <= last_id else "pu"
        else:
            if diff["u"] <= last_id:
                return
            assert diff["U"] <= last_id + 1 <= diff["u"]
            self.joined_by = "range"
        self.apply(diff)

    def apply(self, diff: dict[str, Any]) -> None:
        for side, levels in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, qty in levels:
                if Decimal(qty):
                    side[Decimal(price)] = Decimal(qty)
                else:
                    side.pop(Decimal(price), None)
        self.last_id = diff["u"]
        self.applied += 1


def levels_of(levels: list[tuple[int, int]], market: Market) -> list[tuple[Decimal, Decimal]]:
    return [
        (
            Decimal(ticks * market.tick).scaleb(-market.price_decimals),
            Decimal(lots * market.lot).scaleb(-market.qty_decimals),
        )
        for ticks, lots in levels
    ]


def assert_equal(rebuilt: Rebuild, true: Book, market: Market) -> None:
    assert rebuilt.last_id == true.update_id
    assert sorted(rebuilt.bids.items(), reverse=True) == levels_of(true.bids, market)
    assert sorted(rebuilt.asks.items()) == levels_of(true.asks, market)


def make(cls: type[Binance], **config: Any) -> Binance:
    config = {"rate": 2_500.0, "levels": 100, "warm_up": 200, "seed": 11} | config
    return cls(SYMBOLS[cls], flow=FlowConfig(**config), start_ns=1_700_000_000 * NS_PER_SECOND)


def connect(exchange: Binance, *streams: str, route: str = "/stream") -> BinanceSession:
    session = exchange.connect(f"{route}?streams={'/'.join(streams)}")
    session.open(exchange.source.flow.ts_event)
    return session


def run(exchange: Binance, session: BinanceSession, seconds: float) -> list[tuple[str, dict[str, Any]]]:
    """Let exchange time pass; return what the session got as (stream, data)."""
    return [
        (message["stream"], message["data"])
        for batch in exchange.source.poll(exchange.source.flow.ts_event + round(seconds * NS_PER_SECOND))
        for m in batch.messages
        if (payload := session.encode(m)) is not None
        for message in [json.loads(payload)]
    ]


def snapshot(exchange: Binance, symbol: str) -> dict[str, Any]:
    limit = 1000
    reply = exchange.rest(f"{exchange.dialect.rest_root}/depth?symbol={symbol}&limit={limit}", 0)
    assert reply.status == 200, reply
    result: dict[str, Any] = json.loads(reply.body)
    return result


@pytest.mark.parametrize(
    ("cls", "speed"),
    [
        (BinanceSpot, "@100ms"),
        (BinanceSpot, ""),
        (BinanceFutures, "@100ms"),
        (BinanceFutures, "@0ms"),
    ],
)
def test_snapshot_and_diffs_rebuild_the_true_book(cls: type[Binance], speed: str) -> None:
    exchange = make(cls)
    flow = exchange.source.flow
    session = connect(
        exchange, *(f"{s.lower()}@{kind}" for s in SYMBOLS[cls] for kind in (f"depth{speed}", "bookTicker", "trade"))
    )
    rebuilds = {symbol: Rebuild(cls is BinanceFutures) for symbol in SYMBOLS[cls]}
    counts: Counter[str] = Counter()
    compared = quotes_matched = 0
    tops: dict[str, tuple[int, list[str]]] = {}
    for second in range(25):
        messages = run(exchange, session, 1.017)
        assert messages
        for stream, data in messages:
            symbol = data["s"]
            counts[stream.partition("@")[2]] += 1
            rebuilt = rebuilds[symbol]
            if "bookTicker" in stream:
                tops[symbol] = data["u"], [data[key] for key in "bBaA"]
                if counts["bookTicker"] % 20 == 0:
                    true = flow.book_at(symbol, data["u"])
                    top = levels_of([true.bids[0], true.asks[0]], exchange.markets[symbol])
                    assert [Decimal(data[key]) for key in "bBaA"] == [*top[0], *top[1]]
            elif "depth" in stream:
                rebuilt.on_diff(data)
            quote_id, quote = tops.get(symbol, (0, []))
            if rebuilt.joined_by and rebuilt.last_id == quote_id:
                bid, ask = max(rebuilt.bids), min(rebuilt.asks)
                assert [bid, rebuilt.bids[bid], ask, rebuilt.asks[ask]] == list(map(Decimal, quote))
                quotes_matched += 1
        if second == 2:
            for symbol, rebuilt in rebuilds.items():
                rebuilt.on_snapshot(snapshot(exchange, symbol))
        for symbol, rebuilt in rebuilds.items():
            if rebuilt.joined_by and rebuilt.last_id is not None:
                assert_equal(rebuilt, flow.book_at(symbol, rebuilt.last_id), exchange.markets[symbol])
                compared += 1
    assert counts.total() > 20_000
    assert compared >= 40
    assert quotes_matched > (1_000 if speed == "@0ms" else 1)


@pytest.mark.parametrize("cls", [BinanceFutures, BinanceDelivery])
def test_futures_join_by_the_documented_range_within_a_period_and_by_pu_between_two(cls: type[Binance]) -> None:
    exchange = make(cls, rate=50.0)
    symbol = SYMBOLS[cls][0]
    stream = f"{symbol.lower()}@depth@500ms"
    early, late = connect(exchange, stream), Rebuild(True)
    # Half a period in, with changes pending: the snapshot lies inside the next diff.
    exchange.source.burst(symbol, 5, exchange.source.flow.ts_event)
    late.on_snapshot(snapshot(exchange, symbol))
    for _, data in run(exchange, early, 1.0):
        late.on_diff(data)
    assert late.joined_by == "range"
    early.close()
    # A client that subscribes after the last change gets a snapshot that the next diff continues.
    session, fresh = connect(exchange, stream), Rebuild(True)
    fresh.on_snapshot(snapshot(exchange, symbol))
    for _, data in run(exchange, session, 1.0):
        fresh.on_diff(data)
    assert fresh.joined_by == "pu"
    assert fresh.last_id is not None
    assert_equal(fresh, exchange.source.flow.book_at(symbol, fresh.last_id), exchange.markets[symbol])


def test_a_stale_snapshot_is_too_old_for_the_first_diff() -> None:
    exchange = make(BinanceSpot)
    session = connect(exchange, "btcusdt@depth@100ms")
    diffs = run(exchange, session, 1.0)
    reply = exchange.rest("/api/v3/depth?symbol=BTCUSDT&limit=1000", 0, stale=True)
    assert json.loads(reply.body)["lastUpdateId"] < diffs[0][1]["U"] - 1


@pytest.mark.parametrize("cls", [BinanceSpot, BinanceFutures])
@pytest.mark.parametrize("levels", [5, 10, 20])
def test_partial_books_are_the_true_top(cls: type[Binance], levels: int) -> None:
    exchange = make(cls)
    session = connect(exchange, f"btcusdt@depth{levels}@100ms")
    seen = 0
    for _ in range(20):
        for _, data in run(exchange, session, 0.1):
            update_id = data["u"] if cls is BinanceFutures else data["lastUpdateId"]
            bids, asks = (data["b"], data["a"]) if cls is BinanceFutures else (data["bids"], data["asks"])
            true = exchange.source.flow.book_at("BTCUSDT", update_id)
            market = exchange.markets["BTCUSDT"]
            assert [(Decimal(p), Decimal(q)) for p, q in bids] == levels_of(true.bids[:levels], market)
            assert [(Decimal(p), Decimal(q)) for p, q in asks] == levels_of(true.asks[:levels], market)
            seen += 1
    assert seen >= 10


@pytest.mark.parametrize("cls", [BinanceSpot, BinanceFutures])
def test_aggregate_trades_cover_every_trade_once(cls: type[Binance]) -> None:
    exchange = make(cls)
    trades_session = connect(exchange, "btcusdt@trade")
    route = "/market/stream" if cls is BinanceFutures else "/stream"
    session = connect(exchange, "btcusdt@aggTrade", route=route)
    trades: dict[int, dict[str, Any]] = {}
    aggregates: list[dict[str, Any]] = []
    for batch in exchange.source.poll(exchange.source.flow.ts_event + 20 * NS_PER_SECOND):
        for message in batch.messages:
            if (payload := trades_session.encode(message)) is not None:
                data = json.loads(payload)["data"]
                trades[data["t"]] = data
            if (payload := session.encode(message)) is not None:
                aggregates.append(json.loads(payload)["data"])
    assert len(aggregates) > 100
    assert [aggregate["a"] for aggregate in aggregates] == list(
        range(aggregates[0]["a"], aggregates[0]["a"] + len(aggregates))
    )
    assert any(aggregate["f"] != aggregate["l"] for aggregate in aggregates)
    for last, aggregate in zip([None, *aggregates], aggregates, strict=False):
        assert last is None or aggregate["f"] == last["l"] + 1
        parts = [trades[t] for t in range(aggregate["f"], aggregate["l"] + 1)]
        assert {(part["p"], part["m"]) for part in parts} == {(aggregate["p"], aggregate["m"])}
        assert sum(Decimal(part["q"]) for part in parts) == Decimal(aggregate["q"])
        assert aggregate["T"] == parts[0]["T"]


def test_diffs_come_at_their_speed_on_the_exchanges_grid() -> None:
    exchange = make(BinanceFutures)
    session = connect(exchange, "btcusdt@depth", "btcusdt@depth@100ms", "btcusdt@depth@500ms")
    times: dict[str, list[int]] = {}
    for stream, data in run(exchange, session, 10):
        times.setdefault(stream, []).append(data["E"])
        assert data["T"] <= data["E"]
    for stream, period in (("btcusdt@depth", 250), ("btcusdt@depth@100ms", 100), ("btcusdt@depth@500ms", 500)):
        assert all(time % period == 0 for time in times[stream])
        assert len(times[stream]) > 0.9 * 10_000 / period


def test_streams_without_subscribers_produce_nothing() -> None:
    exchange = make(BinanceSpot)
    session = connect(exchange, "btcusdt@trade")
    session.close()
    batches = list(exchange.source.poll(exchange.source.flow.ts_event + NS_PER_SECOND))
    assert batches
    assert not any(batch.messages for batch in batches)


def test_microsecond_times_on_request() -> None:
    exchange = make(BinanceSpot)
    session = exchange.connect("/stream?streams=btcusdt@trade&timeUnit=MICROSECOND")
    session.open(0)
    stream, data = run(exchange, session, 2)[0]
    assert stream == "btcusdt@trade"
    assert len(str(data["T"])) == 16
