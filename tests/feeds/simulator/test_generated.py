"""Simulated exchanges read plainly, without our decoders: what a client of anybody's could hold them to."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from feeds.simulator.doubles import double
from feeds.simulator.exchanges.mexc import protobuf as written_by_mexc
from feeds.simulator.generated import GeneratedExchange, GeneratedSession, QuoteStream, only_for
from feeds.simulator.order_flow import NS_PER_SECOND, Book, FlowConfig, Update
from feeds.simulator.protocol import Message, PolicyViolation, Refused
from feeds.simulator.server import find_simulator, simulated_ids

GENERATED = [name for name in simulated_ids() if not name.startswith("binance")]
START_NS = 1_700_000_000 * NS_PER_SECOND
Side = dict[Decimal, Decimal]


def make(name: str, *symbols: str, rate: float = 2000) -> GeneratedExchange:
    simulator = find_simulator(name)
    flow = FlowConfig(levels=60, warm_up=100, seed=3, rate=rate)
    made: GeneratedExchange = simulator(symbols or simulator.default_symbols, flow=flow, start_ns=START_NS)
    return made


def ask(session: GeneratedSession, request: Any, now_ns: int = START_NS) -> list[Any]:
    text = request if isinstance(request, bytes) else json.dumps(request).encode()
    return [read(answer) for answer in session.receive(text, now_ns)]


def read(payload: bytes) -> Any:
    """Decode a message; HTX packs each."""
    return json.loads(gzip.decompress(payload) if payload.startswith(b"\x1f\x8b") else payload, parse_float=Decimal)


def messages(exchange: GeneratedExchange, session: GeneratedSession, seconds: float = 1.0) -> Iterator[Any]:
    """Yield what a client gets, up to the end of a period, the source at the moment of each."""
    until_ns = exchange.source.flow.ts_event + round(seconds * NS_PER_SECOND)
    for batch in exchange.source.poll(until_ns - until_ns % (NS_PER_SECOND // 10)):
        for message in batch.messages:
            if (payload := session.encode(message)) is not None:
                yield read(payload)


def true(exchange: GeneratedExchange, book: Book) -> tuple[Side, Side]:
    market = exchange.markets[book.symbol]

    def side(levels: Any) -> Side:
        return {
            Decimal(price * market.tick).scaleb(-market.price_decimals): Decimal(qty * market.lot).scaleb(
                -market.qty_decimals
            )
            for price, qty in levels
        }

    return side(book.bids), side(book.asks)


def apply(side: Side, levels: Any) -> None:
    for level in levels:
        price, qty, *_ = (level["p"], level["s"]) if isinstance(level, dict) else level
        if Decimal(qty):
            side[Decimal(price)] = Decimal(qty)
        else:
            side.pop(Decimal(price), None)


class _Spy(QuoteStream):
    """Is told of all updates, as it does not say that it is told of some only."""

    told: list[Update]

    def on_update(self, update: Update, out: list[Message]) -> None:
        self.told.append(update)


class _SpyOfTops(_Spy):
    on_update = only_for("top")(_Spy.on_update)


class _SpyOfFills(_Spy):
    on_update = only_for("fills")(_Spy.on_update)


def test_streams_are_told_of_the_updates_that_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = make("okx", "BTC-USDT")
    kinds = {"all": _Spy, "tops": _SpyOfTops, "fills": _SpyOfFills}
    streams = {name: kind(exchange, f"{name}:BTC-USDT", "BTC-USDT") for name, kind in kinds.items()}
    monkeypatch.setattr(exchange, "stream", lambda key, channel, symbol: streams[channel])
    session = exchange.connect("/ws/v5/public")
    for name, stream in streams.items():
        stream.told = []
        session.subscribe(name, "BTC-USDT", START_NS)
    list(messages(exchange, session))
    updates = list(streams["all"].told)
    assert len(updates) > 100
    assert streams["tops"].told == [update for update in updates if update.top is not None] != []
    assert streams["fills"].told == [update for update in updates if update.fills] != []
    session.unsubscribe("all", "BTC-USDT")
    list(messages(exchange, session))
    assert streams["all"].told == updates


def test_okx_chains_ids_and_signs_the_25_best_levels() -> None:
    exchange = make("okx", "BTC-USDT")
    session = exchange.connect("/ws/v5/public")
    arg = {"channel": "books", "instId": "BTC-USDT"}
    ack, snapshot = ask(session, {"op": "subscribe", "args": [arg]})
    assert (ack["event"], ack["arg"]) == ("subscribe", arg)
    bids, asks = Side(), Side()
    last = -1
    seen = 0
    for message in [snapshot, *messages(exchange, session)]:
        (data,) = message["data"]
        assert data["prevSeqId"] == last
        last = data["seqId"]
        apply(bids, data["bids"])
        apply(asks, data["asks"])
        best_bids, best_asks = sorted(bids, reverse=True)[:25], sorted(asks)[:25]
        texts = [
            f"{price.normalize():f}:{side[price].normalize():f}"
            for pair in zip(best_bids, best_asks, strict=True)
            for price, side in zip(pair, (bids, asks), strict=True)
        ]
        assert data["checksum"] & 0xFFFFFFFF == zlib.crc32(":".join(texts).encode())
        assert (bids, asks) == true(exchange, exchange.source.flow.book_at("BTC-USDT", last))
        seen += 1
    assert seen > 5


def test_a_later_subscriber_gets_the_book_of_the_time_that_it_is_told() -> None:
    exchange = make("deribit", "BTC-PERPETUAL")
    request = {"method": "public/subscribe", "params": {"channels": ["book.BTC-PERPETUAL.100ms"]}, "id": 1}
    ask(exchange.connect("/ws/api/v2"), request)
    list(exchange.source.poll(START_NS + 250_000_000))
    flow = exchange.source.flow
    assert flow.ts_event > START_NS + 200_000_000  # something has changed in the period that runs
    _, message = ask(exchange.connect("/ws/api/v2"), request, START_NS + 250_000_000)
    data = message["params"]["data"]
    assert data["timestamp"] == START_NS // 1_000_000 + 200
    assert len(data["bids"]) > 5
    then = flow.book_at("BTC-PERPETUAL", data["change_id"])
    assert then.update_id < flow.last_id("BTC-PERPETUAL")


@pytest.mark.parametrize("depth", [10, 25])
def test_kraken_leaves_dropped_levels_to_the_client_and_signs_ten(depth: int) -> None:
    exchange = make("kraken", "BTC/USD")
    session = exchange.connect("/v2")
    assert json.loads(session.open(START_NS)[0])["channel"] == "status"
    params = {"channel": "book", "symbol": ["BTC/USD"], "depth": depth}
    ack, snapshot = ask(session, {"method": "subscribe", "params": params, "req_id": 7})
    assert (ack["success"], ack["req_id"], ack["result"]["depth"]) == (True, 7, depth)
    bids, asks = Side(), Side()
    seen = 0
    for message in [snapshot, *messages(exchange, session)]:
        (data,) = message["data"]
        for side, name, best_first in ((bids, "bids", True), (asks, "asks", False)):
            apply(side, [(level["price"], level["qty"]) for level in data[name]])
            for price in sorted(side, reverse=best_first)[depth:]:
                del side[price]
        levels = [(price, asks[price]) for price in sorted(asks)[:10]]
        levels += [(price, bids[price]) for price in sorted(bids, reverse=True)[:10]]
        decimals = exchange.markets["BTC/USD"].price_decimals
        text = "".join(f"{int(price.scaleb(decimals))}{int(qty.scaleb(8))}" for price, qty in levels)
        assert data["checksum"] == zlib.crc32(text.encode())
        seen += 1
    assert seen > 50
    assert (bids, asks) == true(exchange, exchange.source.flow.book("BTC/USD", levels=depth))


@pytest.mark.parametrize(("name", "path"), [("bybit", "/v5/public/linear"), ("bybit-spot", "/v5/public/spot")])
def test_bybit_counts_the_messages_of_a_topic_and_keeps_its_depth(name: str, path: str) -> None:
    exchange = make(name, "BTCUSDT")
    session = exchange.connect(path)
    ack, snapshot = ask(session, {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"], "req_id": "1"})
    assert (ack["success"], ack["req_id"], snapshot["type"]) == (True, "1", "snapshot")
    bids, asks = Side(), Side()
    numbers = []
    for message in [snapshot, *messages(exchange, session)]:
        apply(bids, message["data"]["b"])
        apply(asks, message["data"]["a"])
        numbers.append(message["data"]["u"])
        assert (bids, asks) == tuple(
            dict(list(side.items())[:50])
            for side in true(exchange, exchange.source.flow.book_at("BTCUSDT", message["data"]["seq"]))
        )
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(numbers) > 20


def test_one_bad_topic_of_bybit_fails_all_of_its_request() -> None:
    session = make("bybit", "BTCUSDT").connect("/v5/public/linear")
    (answer,) = ask(session, {"op": "subscribe", "args": ["publicTrade.BTCUSDT", "publicTrade.NOPE"]})
    assert (answer["success"], answer["ret_msg"]) == (False, "error:handler not found,topic:publicTrade.NOPE")
    assert session.streams == []


def test_spot_of_bybit_takes_ten_topics_a_request_and_numbers_trades() -> None:
    exchange = make("bybit-spot", "BTCUSDT")
    session = exchange.connect("/v5/public/spot")
    (answer,) = ask(session, {"op": "subscribe", "args": ["publicTrade.BTCUSDT"] * 11})
    assert (answer["success"], answer["ret_msg"]) == (False, "args size >10")
    ask(session, {"op": "subscribe", "args": ["publicTrade.BTCUSDT"]})
    trades = [trade for message in messages(exchange, session) for trade in message["data"]]
    ids = [int(trade["i"]) for trade in trades]
    assert len(ids) > 20
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert all("L" not in trade and trade["S"] in ("Buy", "Sell") for trade in trades)
    listed = json.loads(exchange.rest("/v5/market/instruments-info?category=spot", START_NS).body)["result"]["list"]
    assert [(one["symbol"], one["lotSizeFilter"]["basePrecision"]) for one in listed] == [("BTCUSDT", "0.000001")]
    assert json.loads(exchange.rest("/v5/market/instruments-info?category=linear", 0).body)["result"]["list"] == []


@pytest.mark.parametrize(
    ("name", "path", "topic", "join"),
    [
        (
            "gateio",
            "/ws/v4/",
            {"channel": "spot.order_book_update", "event": "subscribe", "payload": ["BTC_USDT", "100ms"]},
            "/api/v4/spot/order_book?currency_pair=BTC_USDT&limit=1000&with_id=true",
        ),
        (
            "gateio-futures",
            "/v4/ws/usdt",
            {"channel": "futures.order_book_update", "event": "subscribe", "payload": ["BTC_USDT", "100ms", "100"]},
            "/api/v4/futures/usdt/order_book?contract=BTC_USDT&limit=100&with_id=true",
        ),
        (
            "kucoin",
            "",
            {"id": "1", "type": "subscribe", "topic": "/market/level2:BTC-USDT", "response": True},
            "/api/v1/market/orderbook/level2_100?symbol=BTC-USDT",
        ),
        (
            "bitstamp",
            "/",
            {"event": "bts:subscribe", "data": {"channel": "diff_order_book_btcusd"}},
            "/api/v2/order_book/btcusd/?group=1",
        ),
    ],
)
@pytest.mark.parametrize("wait", [0.05, 0.17, 0.333])
def test_a_snapshot_by_rest_joins_the_stream_at_any_moment(
    name: str, path: str, topic: Any, join: str, wait: float
) -> None:
    exchange = make(name)
    if name == "kucoin":
        ticket = json.loads(exchange.rest("/api/v1/bullet-public", START_NS).body)["data"]
        path = f"/?token={ticket['token']}&connectId=me"
    session = exchange.connect(path)
    ask(session, topic)
    waiting = list(messages(exchange, session, wait))
    snapshot = json.loads(exchange.rest(join, exchange.source.flow.ts_event).body)
    snapshot = snapshot.get("data", snapshot)
    bids, asks = Side(), Side()
    apply(bids, snapshot["bids"])
    apply(asks, snapshot["asks"])
    last = int(snapshot.get("id") or snapshot.get("sequence") or snapshot["microtimestamp"])
    applied = 0
    for message in [*waiting, *messages(exchange, session)]:
        data = message.get("result") or message["data"]
        sides = data.get("changes", data)
        begins = int(data.get("U") or data.get("sequenceStart") or last + 1)
        number = int(data.get("u") or data.get("sequenceEnd") or data["microtimestamp"])
        if number <= last:
            continue
        assert begins <= last + 1
        assert not applied or begins == last + 1
        fresh = [level for level in sides.get("bids", sides.get("b")) if len(level) < 3 or int(level[2]) > last]
        apply(bids, fresh)
        fresh = [level for level in sides.get("asks", sides.get("a")) if len(level) < 3 or int(level[2]) > last]
        apply(asks, fresh)
        last = number
        applied += 1
    assert applied >= 9
    assert (bids, asks) == true(exchange, exchange.source.flow.book(exchange.default_symbols[0]))


def test_futures_of_gateio_have_books_in_the_stream_whose_sides_may_be_absent() -> None:
    exchange = make("gateio-futures", "BTC_USDT", rate=300)
    session = exchange.connect("/v4/ws/usdt")
    request = {"time": 1, "channel": "futures.obu", "event": "subscribe", "payload": ["ob.BTC_USDT.50"]}
    ack, snapshot = ask(session, request)
    assert (ack["payload"], ack["result"]) == (["ob.BTC_USDT.50"], {"status": "success"})
    assert snapshot["result"]["full"] is True
    (again,) = ask(session, request)
    assert again["error"] == {"code": 2, "message": "Alert sub ob.BTC_USDT.50"}
    bids, asks = Side(), Side()
    last = snapshot["result"]["u"]
    one_sided = 0
    for message in [snapshot, *messages(exchange, session)]:
        result = message["result"]
        assert result.get("U", last + 1) == last + 1
        last = result["u"]
        one_sided += ("a" in result) != ("b" in result)
        apply(bids, result.get("b", []))
        apply(asks, result.get("a", []))
        book = true(exchange, exchange.source.flow.book_at("BTC_USDT", last))
        assert (bids, asks) == tuple(dict(list(side.items())[:50]) for side in book)
    assert one_sided > 3


def test_futures_of_gateio_acknowledge_books_that_never_come() -> None:
    exchange = make("gateio-futures", "BTC_USDT", "BTC_USD", "BTC_USDT_20260925")
    for path, name in (
        ("/v4/ws/usdt", "ob.NOPE_USDT.50"),
        ("/v4/ws/usdt", "ob.BTC_USDT.20"),
        ("/v4/ws/usdt", "ob.BTC_USD.50"),
        ("/v4/ws/delivery/usdt", "ob.BTC_USDT_20260925.50"),
    ):
        session = exchange.connect(path)
        (answer,) = ask(session, {"channel": "futures.obu", "event": "subscribe", "payload": [name]})
        assert answer["result"] == {"status": "success"}
        assert session.streams == []


def test_futures_of_gateio_count_contracts_and_tell_the_taker_by_the_sign() -> None:
    exchange = make("gateio-futures", "BTC_USDT", "BTC_USD", "BTC_USDT_20260925")
    session = exchange.connect("/v4/ws/btc")
    ask(session, {"channel": "futures.trades", "event": "subscribe", "payload": ["BTC_USD"]})
    trades = [trade for message in messages(exchange, session) for trade in message["result"]]
    assert {trade["contract"] for trade in trades} == {"BTC_USD"}
    assert {trade["size"] > 0 for trade in trades} == {True, False}
    assert all(isinstance(trade["size"], int) for trade in trades)
    listed = json.loads(exchange.rest("/api/v4/futures/btc/contracts", START_NS).body)
    assert [(one["name"], one["type"], one["quanto_multiplier"]) for one in listed] == [("BTC_USD", "inverse", "0")]
    dated = json.loads(exchange.rest("/api/v4/delivery/usdt/contracts", START_NS).body)
    assert [one["name"] for one in dated] == ["BTC_USDT_20260925"]


def test_futures_of_gateio_repeat_the_best_levels_whole() -> None:
    exchange = make("gateio-futures", "BTC_USDT")
    session = exchange.connect("/v4/ws/usdt")
    _, first = ask(session, {"channel": "futures.order_book", "event": "subscribe", "payload": ["BTC_USDT", "20", "0"]})
    received = [first, *messages(exchange, session)]
    assert len(received) > 5
    for message in received:
        assert message["event"] == "all"
        bids, asks = Side(), Side()
        apply(bids, message["result"]["bids"])
        apply(asks, message["result"]["asks"])
        book = true(exchange, exchange.source.flow.book_at("BTC_USDT", message["result"]["id"]))
        assert (bids, asks) == tuple(dict(list(side.items())[:20]) for side in book)


@pytest.mark.parametrize("wait", [0.05, 0.17, 0.333])
def test_books_of_htx_are_joined_to_a_snapshot_that_is_requested(wait: float) -> None:
    exchange = make("htx", "btcusdt")
    session = exchange.connect("/feed")
    topic = "market.btcusdt.mbp.20"
    (ack,) = ask(session, {"sub": topic, "id": "1"})
    assert (ack["id"], ack["status"], ack["subbed"]) == ("1", "ok", topic)
    waiting = list(messages(exchange, session, wait))
    (reply,) = ask(session, {"req": topic, "id": "2"}, exchange.source.flow.ts_event)
    assert (reply["id"], reply["rep"], reply["status"]) == ("2", topic, "ok")
    bids, asks = Side(), Side()
    apply(bids, reply["data"]["bids"])
    apply(asks, reply["data"]["asks"])
    last = reply["data"]["seqNum"]
    applied = 0
    for message in [*waiting, *messages(exchange, session)]:
        tick = message["tick"]
        if tick["seqNum"] <= last:
            continue
        assert tick["prevSeqNum"] == last
        last = tick["seqNum"]
        apply(bids, tick["bids"])
        apply(asks, tick["asks"])
        book = true(exchange, exchange.source.flow.book_at("btcusdt", last))
        assert (bids, asks) == tuple(dict(list(side.items())[:20]) for side in book)
        applied += 1
    assert applied > 50


def test_a_book_of_htx_can_be_requested_without_a_subscription() -> None:
    session = make("htx", "btcusdt").connect("/feed")
    (reply,) = ask(session, {"req": "market.btcusdt.mbp.150", "id": 3})
    assert len(reply["data"]["bids"]) > 50
    assert session.streams == []


def test_htx_repeats_the_last_trade_to_who_comes_later() -> None:
    exchange = make("htx", "btcusdt")
    request = {"sub": "market.btcusdt.trade.detail", "id": "1"}
    first = exchange.connect("/ws")
    assert len(ask(first, request)) == 1  # nothing has been traded yet
    last = list(messages(exchange, first))[-1]
    first.close()
    assert ask(exchange.connect("/ws"), request)[1] == last
    ids = [str(trade["id"]) for trade in last["tick"]["data"]]
    assert {len(trade_id) for trade_id in ids} == {27}


@pytest.mark.parametrize(("symbol", "path"), [("BTC-USDT", "/linear-swap-ws"), ("BTC-USD", "/swap-ws")])
def test_swaps_of_htx_count_the_messages_of_a_book_and_keep_its_depth(symbol: str, path: str) -> None:
    exchange = make("htx-swap", "BTC-USDT", "BTC-USD")
    session = exchange.connect(path)
    topic = f"market.{symbol}.depth.size_20.high_freq"
    ack, snapshot = ask(session, {"sub": topic, "data_type": "incremental", "id": "1"})
    assert (ack["subbed"], snapshot["tick"]["event"]) == (topic, "snapshot")
    bids, asks = Side(), Side()
    versions = []
    for message in [snapshot, *messages(exchange, session)]:
        tick = message["tick"]
        versions.append(tick["version"])
        apply(bids, tick["bids"])
        apply(asks, tick["asks"])
        book = true(exchange, exchange.source.flow.book_at(symbol, tick["mrid"]))
        assert (bids, asks) == tuple(dict(list(side.items())[:20]) for side in book)
    assert versions == list(range(versions[0], versions[0] + len(versions)))
    assert len(versions) > 20
    assert ask(session, {"unsub": topic, "id": "2"})[0]["unsubbed"] == topic
    assert session.streams == []


def test_books_of_swaps_of_htx_are_whole_unless_changes_are_asked_for() -> None:
    exchange = make("htx-swap", "BTC-USDT")
    session = exchange.connect("/linear-swap-ws")
    _, first = ask(session, {"sub": "market.BTC-USDT.depth.size_20.high_freq", "id": "1"})
    received = [first, *messages(exchange, session)]
    assert len(received) > 20
    for message in received:
        tick = message["tick"]
        assert (tick["event"], len(tick["bids"]), len(tick["asks"])) == ("snapshot", 20, 20)


def test_swaps_of_htx_tell_what_contracts_are_worth() -> None:
    exchange = make("htx-swap", "BTC-USDT", "BTC-USD")
    for symbol, path, size in (
        ("BTC-USDT", "/linear-swap-ws", Decimal("0.001")),
        ("BTC-USD", "/swap-ws", Decimal(100)),
    ):
        session = exchange.connect(path)
        ask(session, {"sub": f"market.{symbol}.trade.detail", "id": "1"})
        trades = [trade for message in messages(exchange, session) for trade in message["tick"]["data"]]
        assert len(trades) > 20
        for trade in trades:
            if symbol == "BTC-USDT":
                assert trade["quantity"] == trade["amount"] * size
                assert trade["trade_turnover"] == trade["quantity"] * trade["price"]
            else:
                assert abs(trade["quantity"] * trade["price"] - trade["amount"] * size) < Decimal("1e-20")
                assert "trade_turnover" not in trade


@pytest.mark.parametrize(
    ("name", "path", "timeout"), [("htx", "/ws", 15), ("htx", "/feed", 15), ("htx-swap", "/swap-ws", 20)]
)
def test_htx_disconnects_who_does_not_answer_its_pings(name: str, path: str, timeout: int) -> None:
    session = make(name).connect(path)
    pings = [(second, read(ping)) for second in range(11) for ping in session.beat(second * NS_PER_SECOND, START_NS)]
    assert pings == [(second, {"ping": START_NS // 1_000_000}) for second in (5, 6, 7, 8, 9, 10)]
    session.count_frame(10 * NS_PER_SECOND)
    assert ask(session, {"pong": START_NS // 1_000_000}) == []
    assert [len(session.beat(second * NS_PER_SECOND, START_NS)) for second in range(11, 17)] == [0, 0, 0, 0, 1, 1]
    session.count_frame(20 * NS_PER_SECOND)
    ask(session, {"ping": 1})  # is no answer
    session.beat((10 + timeout - 1) * NS_PER_SECOND, START_NS)
    with pytest.raises(PolicyViolation) as caught:
        session.beat((10 + timeout) * NS_PER_SECOND, START_NS)
    assert (caught.value.code, caught.value.reason[:18]) == (1003, "ping check expired")


def test_deribit_disconnects_who_does_not_answer_its_test() -> None:
    session = make("deribit").connect("/ws/api/v2")
    (answer,) = ask(session, {"jsonrpc": "2.0", "id": 1, "method": "public/set_heartbeat", "params": {"interval": 10}})
    assert answer["result"] == "ok"
    beats = [session.beat(second * NS_PER_SECOND, START_NS) for second in range(1, 12)]
    assert [len(beat) for beat in beats] == [0] * 10 + [2]
    ask(session, {"jsonrpc": "2.0", "id": 2, "method": "public/test", "params": {}})
    assert len(session.beat(21 * NS_PER_SECOND, START_NS)) == 2
    with pytest.raises(PolicyViolation):
        session.beat(31 * NS_PER_SECOND, START_NS)


def test_deribit_leaves_unknown_channels_out_of_its_answer() -> None:
    session = make("deribit").connect("/ws/api/v2")
    channels = ["book.BTC-PERPETUAL.100ms", "book.NOPE.100ms", "nothing"]
    answer, snapshot = ask(
        session, {"jsonrpc": "2.0", "id": 1, "method": "public/subscribe", "params": {"channels": channels}}
    )
    assert answer["result"] == channels[:1]
    assert snapshot["params"]["data"]["type"] == "snapshot"
    raw = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "public/subscribe",
        "params": {"channels": ["trades.BTC-PERPETUAL.raw"]},
    }
    assert ask(session, raw)[0]["error"]["code"] == 13778


def test_coinbase_advanced_numbers_all_that_it_sends() -> None:
    exchange = make("coinbase-advanced", "BTC-USD", "ETH-USD")
    session = exchange.connect("/")
    received = ask(session, {"type": "subscribe", "channel": "heartbeats"})
    received += ask(session, {"type": "subscribe", "channel": "level2", "product_ids": ["BTC-USD", "ETH-USD"]})
    received += ask(session, {"type": "subscribe", "channel": "market_trades", "product_ids": ["BTC-USD"]})
    received += messages(exchange, session)
    received += [json.loads(beat) for beat in session.beat(NS_PER_SECOND, START_NS)]
    assert [message["sequence_num"] for message in received] == list(range(len(received)))
    assert {message["channel"] for message in received} == {"heartbeats", "subscriptions", "l2_data", "market_trades"}


def test_gemini_goes_on_with_the_id_at_which_the_message_before_ended() -> None:
    exchange = make("gemini", "btcusd", "ethusd")
    session = exchange.connect("/?snapshot=-1")
    request = {"id": "1", "method": "SUBSCRIBE", "params": ["btcusd@depth@100ms"]}
    snapshot, ack = ask(session, request)
    assert ack == {"id": "1", "status": 200}  # behind the snapshot
    assert snapshot["U"] == snapshot["u"]
    bids, asks = Side(), Side()
    last, seen = snapshot["u"], 0
    for message in [snapshot, *messages(exchange, session)]:
        assert (message["e"], message["s"], message["U"]) == ("depthUpdate", "btcusd", last)
        last = message["u"]
        apply(bids, message["b"])
        apply(asks, message["a"])
        assert (bids, asks) == true(exchange, exchange.source.flow.book_at("btcusd", last))
        seen += 1
    assert seen > 5
    assert ask(exchange.connect("/"), request) == [ack]  # who does not ask for snapshots gets none


def crypto_com(topic: str, **params: Any) -> dict[str, Any]:
    updates = {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 10}
    return {"id": 1, "method": "subscribe", "params": {"channels": [topic]} | updates | params}


def test_crypto_com_names_the_message_before_and_keeps_its_depth() -> None:
    exchange = make("crypto-com", "BTC_USDT", "ETH_USDT")
    session = exchange.connect("/exchange/v1/market")
    ack, snapshot = ask(session, crypto_com("book.BTC_USDT.50"))
    assert ack == {"id": 1, "code": 0, "method": "subscribe"}
    bids, asks = Side(), Side()
    last, seen = 0, 0
    for message in [snapshot, *messages(exchange, session)]:
        result = message["result"]
        assert (result["subscription"], result["depth"]) == ("book.BTC_USDT.50", 50)
        (data,) = result["data"]
        if seen:
            assert (result["channel"], data["pu"]) == ("book.update", last)
        else:
            assert (result["channel"], "pu" in data) == ("book", False)
        sides = data["update"] if seen else data
        apply(bids, sides["bids"])
        apply(asks, sides["asks"])
        last = data["u"]
        assert (bids, asks) == tuple(
            dict(list(side.items())[:50]) for side in true(exchange, exchange.source.flow.book_at("BTC_USDT", last))
        )
        seen += 1
    assert seen > 50


def test_a_quiet_book_of_crypto_com_repeats_its_number() -> None:
    flow = FlowConfig(levels=60, warm_up=100, rate=0.001)
    exchange = find_simulator("crypto-com")(["BTC_USDT"], flow=flow, start_ns=START_NS)
    session = exchange.connect("/exchange/v1/market")
    _, snapshot = ask(session, crypto_com("book.BTC_USDT.50"))
    last = snapshot["result"]["data"][0]["u"]
    quiet = [message["result"]["data"][0] for message in messages(exchange, session, 11.0)]
    assert [(data["u"], data["pu"], data["update"]) for data in quiet] == [(last, last, {"bids": [], "asks": []})] * 2


def test_crypto_com_sends_whole_books_to_who_does_not_ask_for_changes() -> None:
    exchange = make("crypto-com", "BTC_USDT")
    session = exchange.connect("/exchange/v1/market")
    answers = ask(session, crypto_com("book.BTC_USDT.10", book_subscription_type="SNAPSHOT"))
    found = [message["result"] for message in [*answers[1:], *messages(exchange, session, 1.6)]]
    assert [result["channel"] for result in found] == ["book"] * 4
    assert {len(result["data"][0]["bids"]) for result in found} == {10}
    unsubscribe = {"id": 2, "method": "unsubscribe", "params": {"channels": ["book.BTC_USDT.10", "nothing"]}}
    assert ask(session, unsubscribe) == [{"id": 2, "code": 0, "method": "unsubscribe"}]
    assert session.streams == []


def test_crypto_com_repeats_trades_newest_first() -> None:
    exchange = make("crypto-com", "BTC_USDT")
    request = crypto_com("trade.BTC_USDT")
    session = exchange.connect("/exchange/v1/market")
    _, first = ask(session, request)
    (opening,) = first["result"]["data"]
    sent = [trade for message in messages(exchange, session) for trade in message["result"]["data"][::-1]]
    assert len(sent) > 20
    _, backlog = ask(exchange.connect("/exchange/v1/market"), request)
    assert backlog["result"]["data"] == [opening, *sent][::-1][:100]


def test_crypto_com_disconnects_who_does_not_answer_a_heartbeat() -> None:
    session = make("crypto-com").connect("/exchange/v1/market")
    assert [session.beat(second * NS_PER_SECOND, START_NS) for second in range(1, 31)] == [[]] * 30
    (beat,) = session.beat(31 * NS_PER_SECOND, START_NS)
    heartbeat = json.loads(beat)
    assert heartbeat == {"id": START_NS // 1_000_000, "method": "public/heartbeat", "code": 0}
    assert ask(session, {"id": heartbeat["id"], "method": "public/respond-heartbeat"}) == []
    assert session.beat(60 * NS_PER_SECOND, START_NS) == []
    assert len(session.beat(61 * NS_PER_SECOND, START_NS)) == 1
    ask(session, {"id": 1, "method": "public/respond-heartbeat"})  # of none that was sent
    assert session.beat(65 * NS_PER_SECOND, START_NS) == []
    with pytest.raises(PolicyViolation):
        session.beat(66 * NS_PER_SECOND, START_NS)


def test_kraken_futures_numbers_each_level() -> None:
    exchange = make("kraken-futures", "PF_XBTUSD", "PF_ETHUSD")
    session = exchange.connect("/ws/v1")
    assert [json.loads(greeting) for greeting in session.open(START_NS)] == [{"event": "info", "version": 1}]
    request = {"event": "subscribe", "feed": "book", "product_ids": ["pf_xbtusd"]}
    ack, snapshot = ask(session, request)
    assert ack == {"event": "subscribed", "feed": "book", "product_ids": ["PF_XBTUSD"]}
    assert (snapshot["feed"], snapshot["product_id"]) == ("book_snapshot", "PF_XBTUSD")
    bids, asks = ({level["price"]: level["qty"].normalize() for level in snapshot[name]} for name in ("bids", "asks"))
    received = list(messages(exchange, session))
    assert len(received) > 50
    for number, message in enumerate(received, snapshot["seq"] + 1):
        assert (message["feed"], message["product_id"], message["seq"]) == ("book", "PF_XBTUSD", number)
        side = bids if message["side"] == "buy" else asks
        assert message["qty"] or message["price"] in side  # what is gone was there
        apply(side, [(message["price"], message["qty"].normalize())])
        assert max(bids) < min(asks)
    assert (bids, asks) == true(exchange, exchange.source.flow.book("PF_XBTUSD"))
    _, again = ask(exchange.connect("/ws/v1"), request)
    assert again["seq"] == number


def test_kraken_futures_repeats_trades_and_sends_tickers_once_a_second() -> None:
    exchange = make("kraken-futures", "PF_XBTUSD")
    session = exchange.connect("/ws/v1")
    request = {"event": "subscribe", "feed": "trade", "product_ids": ["PF_XBTUSD"]}
    _, empty = ask(session, request)
    assert empty == {"feed": "trade_snapshot", "product_id": "PF_XBTUSD", "trades": []}
    _, ticker = ask(session, request | {"feed": "ticker"})
    received = [ticker, *messages(exchange, session, 3.05)]
    trades = [message for message in received if message["feed"] == "trade"]
    tickers = [message for message in received if message["feed"] == "ticker"]
    assert [message["time"] // 1000 - START_NS // NS_PER_SECOND for message in tickers] == [0, 1, 2, 3]
    _, repeated = ask(exchange.connect("/ws/v1"), request)
    assert len(trades) > 100
    assert repeated["trades"] == trades[::-1][:100]


def test_heartbeats_of_kraken_futures_stand_for_pings() -> None:
    session = make("kraken-futures").connect("/ws/v1")
    (answer,) = ask(session, {"event": "subscribe", "feed": "heartbeat"})
    assert answer == {"event": "subscribed", "feed": "heartbeat"}
    beats = [session.beat(second * NS_PER_SECOND, START_NS) for second in range(100)]
    assert beats == [[b'{"feed":"heartbeat","time":%d}' % (START_NS // 1_000_000)]] * 100


def bitfinex(exchange: GeneratedExchange, flags: int = 32768 + 65536 + 131072) -> GeneratedSession:
    session = exchange.connect("/ws/2")
    (greeting,) = map(json.loads, session.open(START_NS))
    assert (greeting["event"], greeting["version"], greeting["platform"]) == ("info", 2, {"status": 1})
    assert ask(session, {"event": "conf", "flags": flags}) == [{"event": "conf", "status": "OK", "flags": flags}]
    return session


def bitfinex_book(symbol: str, length: str = "25") -> dict[str, str]:
    return {"event": "subscribe", "channel": "book", "symbol": symbol, "prec": "P0", "freq": "F0", "len": length}


@pytest.mark.parametrize("symbol", ["tBTCUSD", "tSHIB:BTC"])  # the second has prices below a millionth
def test_bitfinex_numbers_all_that_it_sends_and_signs_the_25_best_levels(symbol: str) -> None:
    exchange = make("bitfinex", symbol)
    session = bitfinex(exchange)
    subscribed, snapshot = ask(session, bitfinex_book(symbol, "250"))
    number = subscribed["chanId"]
    expected = {"event": "subscribed", "channel": "book", "chanId": number, "symbol": symbol, "prec": "P0"}
    assert subscribed == expected | {"freq": "F0", "len": "250", "pair": symbol[1:]}
    (_, rows, first, ts) = snapshot
    assert (first, ts) == (1, START_NS // 1_000_000)
    sides: list[dict[Decimal, Any]] = [{}, {}]  # price -> amount, as they are written

    def change(price: Any, count: int, amount: Any) -> None:
        side = sides[amount < 0]
        if count:
            side[Decimal(price)] = amount
        else:
            assert abs(amount) == 1
            del side[Decimal(price)]

    for row in rows:
        change(*row)
    signed = 0
    received = list(messages(exchange, session))
    for expected_number, message in enumerate(received, 2):
        assert (message[0], message[-2]) == (number, expected_number)
        if message[1] != "cs":
            change(*message[1])
            continue
        best = [sorted(side, reverse=not i)[:25] for i, side in enumerate(sides)]
        levels = [level for pair in zip(*best, strict=True) for level in zip(pair, sides, strict=True)]
        text = ":".join(f"{price}:{side[price]}" for price, side in levels).lower()
        assert message[2] & 0xFFFFFFFF == zlib.crc32(text.encode())
        signed += 1
    assert signed > 5
    bids, asks = ({price: abs(Decimal(amount)) for price, amount in side.items()} for side in sides)
    assert (bids, asks) == true(exchange, exchange.source.flow.book(symbol))


def test_bitfinex_leaves_out_what_no_flag_asks_for() -> None:
    exchange = make("bitfinex", "tBTCUSD")
    session = bitfinex(exchange, flags=0)
    subscribed, (_, rows) = ask(session, bitfinex_book("tBTCUSD", "1"))
    assert [row[1] for row in rows] == [1, 1]
    received = list(messages(exchange, session))
    assert len(received) > 20
    assert all(message[0] == subscribed["chanId"] and len(message) == 2 for message in received)
    assert all(len(message[1]) == 3 for message in received)


def test_bitfinex_repeats_trades_newest_first_and_each_again_a_second_later() -> None:
    exchange = make("bitfinex", "tBTCUSD")
    session = bitfinex(exchange)
    request = {"event": "subscribe", "channel": "trades", "symbol": "tBTCUSD"}
    assert ask(session, request)[1][1] == []
    received = list(messages(exchange, session, 2.5))
    told = [message[2] for message in received if message[1] == "te"]
    again = [message[2] for message in received if message[1] == "tu"]
    assert len(told) > len(again) > 20
    assert again == told[: len(again)]
    assert all(message[-1] - message[2][1] >= 1000 for message in received if message[1] == "tu")
    assert ask(bitfinex(exchange), request)[1][1] == told[::-1][:30]


def test_a_quiet_channel_of_bitfinex_beats() -> None:
    session = bitfinex(make("bitfinex", "tBTCUSD"))
    subscribed, _ = ask(session, bitfinex_book("tBTCUSD"))
    beats = [session.beat(second * NS_PER_SECOND, START_NS) for second in range(31)]
    ts = START_NS // 1_000_000
    assert [json.loads(text) for beat in beats for text in beat] == [
        [subscribed["chanId"], "hb", 2, ts],
        [subscribed["chanId"], "hb", 3, ts],
    ]


def test_channels_of_bitfinex_are_few_and_have_numbers() -> None:
    session = bitfinex(make("bitfinex", *(f"tAAA{letter}{last}D" for letter in "ABCDEF" for last in "UVWXYZ")))
    symbols = list(session.exchange.markets)[:31]
    numbers = [ask(session, bitfinex_book(symbol))[0]["chanId"] for symbol in symbols[:30]]
    assert len(set(numbers)) == 30
    assert ask(session, bitfinex_book(symbols[0]))[0]["code"] == 10301
    assert ask(session, bitfinex_book(symbols[30]))[0]["code"] == 10305
    end = {"event": "unsubscribe", "chanId": numbers[0]}
    assert ask(session, end) == [{"event": "unsubscribed", "status": "OK", "chanId": numbers[0]}]
    assert ask(session, end)[0]["code"] == 10400
    assert ask(session, bitfinex_book(symbols[30]))[0]["event"] == "subscribed"


Fields = dict[int, list[Any]]


def protobuf(data: bytes) -> Fields:
    """Read a protobuf message, and the messages in it, by the numbers of their fields."""
    found: Fields = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value

    while at < len(data):
        tag = varint()
        value: Any = varint()
        if tag & 7 == 2:
            at, value = at + value, data[at : at + value]
        found.setdefault(tag >> 3, []).append(value)
    assert at == len(data)
    return found


def mexc(exchange: GeneratedExchange, *topics: str) -> GeneratedSession:
    session = exchange.connect("/ws")
    names = [f"spot@public.{topic}" for topic in topics]
    answers = ask(session, {"method": "SUBSCRIPTION", "params": names})
    assert answers == [{"id": 0, "code": 0, "msg": ",".join(names)}]
    return session


def sent(exchange: GeneratedExchange, session: GeneratedSession, seconds: float = 1.0) -> Iterator[Fields]:
    """Yield what a client of MEXC's spot gets."""
    for batch in exchange.source.poll(exchange.source.flow.ts_event + round(seconds * NS_PER_SECOND)):
        for message in batch.messages:
            if (payload := session.encode(message)) is not None:
                assert message.is_binary
                yield protobuf(payload)


def mexc_levels(fields: Fields, number: int) -> list[tuple[str, str]]:
    found = [protobuf(level) for level in fields.get(number, [])]
    return [(level[1][0].decode(), level[2][0].decode()) for level in found]


def test_mexc_writes_protobuf_as_the_reference_has_it() -> None:
    topic, kind = "spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT", "spot@public.aggre.depth.v3.api.pb@10ms"
    depths = {
        "asks": [{"price": "61760.5", "quantity": "0"}],
        "bids": [{"price": "61759.73", "quantity": "0.0001778"}],
        "eventType": kind,
        "fromVersion": "74891313263",
        "toVersion": "74891313265",
    }
    fields = {"channel": topic, "publicAggreDepths": depths, "symbol": "BTCUSDT", "sendTime": 1782208005090}
    assert written_by_mexc(fields).hex() == (
        "0a2e73706f74407075626c69632e61676772652e64657074682e76332e6170692e70624031306d734042544355534454ca13670a0c0a0736"
        "313736302e3512013012150a0836313735392e37331209302e303030313737381a2673706f74407075626c69632e61676772652e6465"
        "7074682e76332e6170692e70624031306d73220b37343839313331333236332a0b37343839313331333236351a074254435553445430"
        "e287809fef33"
    )


@pytest.mark.parametrize("wait", [0.05, 0.17, 0.333])
def test_a_snapshot_of_mexc_joins_the_stream_at_any_moment(wait: float) -> None:
    exchange = make("mexc", "BTCUSDT", "ETHUSDT")
    session = mexc(exchange, "aggre.depth.v3.api.pb@100ms@BTCUSDT")
    waiting = list(sent(exchange, session, wait))
    snapshot = json.loads(exchange.rest("/api/v3/depth?symbol=BTCUSDT&limit=5000", exchange.source.flow.ts_event).body)
    bids, asks = Side(), Side()
    apply(bids, snapshot["bids"])
    apply(asks, snapshot["asks"])
    last, applied = snapshot["lastUpdateId"], 0
    for message in [*waiting, *sent(exchange, session)]:
        assert (message[3], len(message[6])) == ([b"BTCUSDT"], 1)
        assert message[1] == [b"spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT"]
        body = protobuf(message[313][0])
        begin, end = int(body[4][0]), int(body[5][0])
        if end <= last:
            continue
        assert begin <= last + 1 if not applied else begin == last + 1
        apply(asks, mexc_levels(body, 1))
        apply(bids, mexc_levels(body, 2))
        last, applied = end, applied + 1
    assert applied >= 9
    assert (bids, asks) == true(exchange, exchange.source.flow.book_at("BTCUSDT", last))


def test_mexc_collects_deals_and_best_prices_of_a_period() -> None:
    exchange = make("mexc", "BTCUSDT")
    topics = ("aggre.deals.v3.api.pb@100ms", "aggre.bookTicker.v3.api.pb@100ms")
    session = mexc(exchange, *(f"{topic}@BTCUSDT" for topic in topics), "limit.depth.v3.api.pb@BTCUSDT@5")
    received = list(sent(exchange, session, 0.999))
    for number, least in ((314, 5), (315, 9), (303, 9)):
        assert least <= sum(number in message for message in received) <= 10
    deals = [protobuf(deal) for message in received if 314 in message for deal in protobuf(message[314][0])[1]]
    assert len(deals) > 20
    assert {deal[3][0] for deal in deals} == {1, 2}
    quotes = [protobuf(message[315][0]) for message in received if 315 in message]
    tops = [protobuf(message[303][0]) for message in received if 303 in message]
    for quote, top in zip(quotes, tops, strict=True):
        assert [len(mexc_levels(top, side)) for side in (1, 2)] == [5, 5]
        assert (quote[1][0].decode(), quote[2][0].decode()) == mexc_levels(top, 2)[0]
        assert (quote[3][0].decode(), quote[4][0].decode()) == mexc_levels(top, 1)[0]


def test_mexc_has_room_for_thirty_topics_and_no_patience_without_any() -> None:
    exchange = make("mexc", *(f"{letter}{last}USDT" for letter in "ABCDEF" for last in "ABCDEF"))
    topics = [f"spot@public.aggre.deals.v3.api.pb@10ms@{symbol}" for symbol in exchange.markets][:31]
    session = exchange.connect("/ws")
    taken, refused = ask(session, {"method": "SUBSCRIPTION", "params": topics})
    assert taken["msg"] == ",".join(topics[:30])
    assert refused["msg"].startswith(f"Not Subscribed successfully! [{topics[30]}].")
    (answer,) = ask(session, {"method": "UNSUBSCRIPTION", "params": topics[:30]})
    assert answer["msg"] == ",".join(topics[:30])
    session.count_frame(29 * NS_PER_SECOND)
    assert [session.beat(second * NS_PER_SECOND, START_NS) for second in range(30)] == [[]] * 30
    with pytest.raises(PolicyViolation):
        session.beat(30 * NS_PER_SECOND, START_NS)


def test_futures_of_mexc_are_json_on_a_socket_of_their_own() -> None:
    exchange = make("mexc", "BTC_USDT", "BTCUSDT")
    session = exchange.connect("/edge")
    (ack,) = ask(session, {"method": "sub.depth", "param": {"symbol": "BTC_USDT"}})
    assert ack == {"channel": "rs.sub.depth", "data": "success", "ts": START_NS // 1_000_000}
    ask(session, {"method": "sub.depth.full", "param": {"symbol": "BTC_USDT", "limit": 5}})
    ask(session, {"method": "sub.deal", "param": {"symbol": "BTC_USDT"}})
    _, ticker = ask(session, {"method": "sub.ticker", "param": {"symbol": "BTC_USDT"}})
    assert (ticker["channel"], ticker["data"]["bid1"] < ticker["data"]["ask1"]) == ("push.ticker", True)
    snapshot = json.loads(exchange.rest("/api/v1/contract/depth/BTC_USDT", START_NS).body, parse_float=Decimal)["data"]
    bids, asks = Side(), Side()
    last, applied, deals = snapshot["version"], 0, 0
    for side, levels in ((bids, snapshot["bids"]), (asks, snapshot["asks"])):
        apply(side, levels)
    for message in messages(exchange, session):
        data = message["data"]
        deals += message["channel"] == "push.deal" and len(data)
        if message["channel"] == "push.depth.full":
            assert (len(data["bids"]), len(data["asks"])) == (5, 5)
        if message["channel"] != "push.depth":
            continue
        assert (data["begin"], data["version"]) == (last + 1, data["end"])
        apply(bids, data["bids"])
        apply(asks, data["asks"])
        last, applied = data["end"], applied + 1
    assert (applied, deals > 20) == (5, True)
    assert (bids, asks) == true(exchange, exchange.source.flow.book_at("BTC_USDT", last))
    assert ask(session, {"method": "sub.nothing", "param": {"symbol": "BTC_USDT"}}) == []
    assert session.beat(0, START_NS) == session.beat(59 * NS_PER_SECOND, START_NS) == []
    with pytest.raises(PolicyViolation):  # though data flow
        session.beat(60 * NS_PER_SECOND, START_NS)


def test_one_bad_stream_of_gemini_fails_all_of_its_request() -> None:
    session = make("gemini", "btcusd").connect("/?snapshot=-1")
    request = {"id": 4, "method": "SUBSCRIBE", "params": ["btcusd@trade", "nope@trade"]}
    (answer,) = ask(session, request)
    assert answer == {"id": 4, "status": 400, "error": {"code": -1013, "msg": "Invalid stream name: nope@trade"}}
    assert session.streams == []


def test_hyperliquid_cuts_off_who_asks_for_a_coin_that_there_is_not() -> None:
    session = make("hyperliquid").connect("/ws")
    with pytest.raises(PolicyViolation) as caught:
        ask(session, {"method": "subscribe", "subscription": {"type": "bbo", "coin": "btc"}})
    assert caught.value.code == 1006


def bitflyer_call(channel: str, symbol: str = "BTC_JPY", method: str = "subscribe", **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": {"channel": f"lightning_{channel}_{symbol}"}} | more


def test_bitflyer_answers_calls_that_have_an_id_and_batches() -> None:
    session = make("bitflyer", "BTC_JPY").connect("/json-rpc")
    assert ask(session, bitflyer_call("board")) == []
    assert session.streams == ["board:BTC_JPY"]
    batch = [bitflyer_call("board", id=7), bitflyer_call("ticker", "NO_JPY", id="x"), bitflyer_call("ticker")]
    ((already, silent),) = ask(session, batch)
    assert already == {"jsonrpc": "2.0", "id": 7, "error": {"code": -32009, "message": "already subscribed"}}
    assert silent == {"jsonrpc": "2.0", "id": "x", "result": True}
    assert session.streams == ["board:BTC_JPY", "ticker:BTC_JPY"]
    assert ask(session, bitflyer_call("board", method="unsubscribe", id=8))[0]["result"] is True
    assert session.streams == ["ticker:BTC_JPY"]


def test_bitflyer_sends_changes_and_a_snapshot_every_five_seconds() -> None:
    exchange = find_simulator("bitflyer")(["BTC_JPY"], flow=FlowConfig(levels=60, rate=300), start_ns=START_NS)
    session = exchange.connect("/json-rpc")
    assert ask(session, [bitflyer_call("board"), bitflyer_call("board_snapshot")]) == []
    bids, asks = Side(), Side()
    snapshots = seen = 0
    for message in messages(exchange, session, 10.0):
        assert (message["jsonrpc"], message["method"]) == ("2.0", "channelMessage")
        board = message["params"]["message"]
        if message["params"]["channel"] == "lightning_board_snapshot_BTC_JPY":
            snapshots += 1
            for side, name in ((bids, "bids"), (asks, "asks")):
                prices = [level["price"] for level in board[name]]
                assert prices == sorted(prices)
                side.clear()
        for side, name in ((bids, "bids"), (asks, "asks")):
            apply(side, [(level["price"], level["size"]) for level in board[name]])
        if snapshots:
            assert (bids, asks) == true(exchange, exchange.source.flow.book("BTC_JPY"))
            assert board["mid_price"] == (max(bids) + min(asks)) // 2
            seen += 1
    assert (snapshots, seen > 40) == (2, True)


def test_bitflyer_tells_prices_at_most_twice_a_second_and_every_execution() -> None:
    exchange = make("bitflyer", "BTC_JPY")
    session = exchange.connect("/json-rpc")
    ask(session, [bitflyer_call("ticker"), bitflyer_call("executions")])
    tickers, executions = [], []
    for message in messages(exchange, session):
        params = message["params"]
        if params["channel"] == "lightning_ticker_BTC_JPY":
            tickers.append(params["message"])
            assert params["message"]["ltp"] == executions[-1]["price"]
            top = exchange.source.flow.top("BTC_JPY")
            assert (params["message"]["best_bid"], params["message"]["best_ask"]) == (top.bid, top.ask)
            assert params["message"]["volume"] == sum(execution["size"] for execution in executions)
        else:
            executions += params["message"]
    assert [ticker["timestamp"] for ticker in tickers] == [
        "2023-11-14T22:13:20.5000000Z",
        "2023-11-14T22:13:21.0000000Z",
    ]
    ids = [execution["id"] for execution in executions]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert all(re.fullmatch(r"2023-11-14T22:13:2\d\.\d{7}Z", execution["exec_date"]) for execution in executions)
    assert {execution["side"] for execution in executions} == {"BUY", "SELL"}


def test_bitflyer_writes_numbers_with_a_decimal_at_least() -> None:
    exchange = make("bitflyer", "BTC_JPY")
    text = exchange.rest("/v1/getboard?product_code=BTC_JPY", START_NS).body
    assert re.match(rb'{"mid_price":\d+\.0,"bids":\[{"price":\d+\.0,"size":0\.\d*[1-9]}', text)
    assert exchange.rest("/v1/getboard?product_code=NO_JPY", START_NS).status == 404
    for path in ("/v1/getmarkets", "/v1/getmarkets/usa", "/v1/getmarkets/eu"):
        assert json.loads(exchange.rest(path, START_NS).body) == [{"product_code": "BTC_JPY", "market_type": "Spot"}]


def dydx_request(channel: str, symbol: str = "BTC-USD", kind: str = "subscribe", **more: Any) -> dict[str, Any]:
    return {"type": kind, "channel": channel, "id": symbol} | more


def test_dydx_numbers_all_that_a_connection_gets() -> None:
    exchange = make("dydx", "BTC-USD", "ETH-USD")
    session = exchange.connect("/v4/ws")
    received = [json.loads(session.open(START_NS)[0])]
    assert received[0].keys() == {"type", "connection_id", "message_id"}
    for channel in ("v4_orderbook", "v4_trades", "v4_orderbook", "v4_nothing"):
        received += ask(session, dydx_request(channel))
    received += ask(session, dydx_request("v4_orderbook", "ETH-USD", batched=True))
    received += messages(exchange, session, 0.3)
    received += ask(session, dydx_request("v4_orderbook", "ETH-USD", "unsubscribe"))
    assert [message["message_id"] for message in received] == list(range(len(received)))
    assert {message["type"] for message in received} == {
        "connected",
        "subscribed",
        "error",
        "channel_data",
        "channel_batch_data",
        "unsubscribed",
    }
    assert {message["connection_id"] for message in received} == {"00000000-0000-0000-0000-000000000001"}
    assert json.loads(exchange.connect("/v4/ws").open(START_NS)[0])["connection_id"][-1] == "2"


@pytest.mark.parametrize("batched", [False, True])
def test_books_of_dydx_are_crossed_now_and_then_and_right_when_they_are_uncrossed(batched: bool) -> None:
    flow = FlowConfig(levels=16, warm_up=100, seed=3, rate=2000)
    exchange = find_simulator("dydx")(["BTC-USD"], flow=flow, start_ns=START_NS)
    session = exchange.connect("/v4/ws")
    (snapshot,) = ask(session, dydx_request("v4_orderbook", batched=batched))
    stamps: tuple[dict[Decimal, int], ...] = ({}, {})  # of the messages that changed the levels
    sides, told = (Side(), Side()), (Side(), Side())  # uncrossed, and as they are told
    for number, side in enumerate(("bids", "asks")):
        levels = [(level["price"], level["size"]) for level in snapshot["contents"][side]]
        apply(sides[number], levels)
        apply(told[number], levels)
    crossed = seen = 0
    for message in messages(exchange, session, 2.0):
        for contents in message["contents"] if batched else [message["contents"]]:
            for number, side in enumerate(("bids", "asks")):
                apply(sides[number], contents.get(side, ()))
                apply(told[number], contents.get(side, ()))
                stamps[number].update((Decimal(price), message["message_id"]) for price, _ in contents.get(side, ()))
        while (bid := max(sides[0])) >= (ask_ := min(sides[1])):
            assert stamps[0].get(bid, 0) != stamps[1].get(ask_, 0)
            if stamps[0].get(bid, 0) < stamps[1].get(ask_, 0):
                del sides[0][bid]
            else:
                del sides[1][ask_]
        book = true(exchange, exchange.source.flow.book("BTC-USD"))
        assert sides == book
        if max(told[0]) >= min(told[1]):
            crossed += 1
        else:
            assert told == book  # what is told too late is told with the next message
        seen += 1
    assert (seen > 3, crossed > 0) == (True, True)


def test_dydx_tells_trades_and_those_of_the_past_newest_first() -> None:
    exchange = make("dydx", "BTC-USD")
    session = exchange.connect("/v4/ws")
    (empty,) = ask(session, dydx_request("v4_trades"))
    assert (empty["type"], empty["contents"]) == ("subscribed", {"trades": []})
    told = [trade for message in messages(exchange, session) for trade in message["contents"]["trades"]]
    assert {(trade["side"], trade["type"]) for trade in told} == {("BUY", "LIMIT"), ("SELL", "LIMIT")}
    (past,) = ask(exchange.connect("/v4/ws"), dydx_request("v4_trades"))
    height = {"createdAtHeight": str(START_NS // NS_PER_SECOND)}
    assert past["contents"]["trades"] == [trade | height for trade in told[:-101:-1]]


@pytest.mark.parametrize("request_", [b"{", dydx_request("v4_orderbook"), dydx_request("nothing")])
def test_dydx_ends_a_connection_that_asks_in_vain_for_the_third_time_in_a_second(request_: Any) -> None:
    session = make("dydx").connect("/v4/ws")
    for _ in range(2):
        session.count_frame(0)
        assert not ask(session, request_)[0].get("message", "").startswith("Too many")
        session.beat(1, START_NS)
    session.count_frame(NS_PER_SECOND - 1)
    (answer,) = ask(session, request_)
    assert answer["message"].startswith("Too many")
    with pytest.raises(PolicyViolation) as caught:
        session.beat(NS_PER_SECOND, START_NS)
    assert caught.value.code == 1008


def test_dydx_refuses_the_33rd_subscription_of_a_channel() -> None:
    symbols = [f"A{number}-USD" for number in range(33)]
    session = make("dydx", *symbols).connect("/v4/ws")
    answers = [ask(session, dydx_request("v4_trades", symbol))[0] for symbol in symbols]
    assert [answer["type"] for answer in answers] == ["subscribed"] * 32 + ["error"]
    assert answers[-1]["message"] == "Per-connection subscription limit reached for v4_trades (limit=32)."
    assert ask(session, dydx_request("v4_orderbook", symbols[0]))[0]["type"] == "subscribed"


def test_dydx_answers_requests_for_books_by_rest() -> None:
    exchange = make("dydx", "BTC-USD")
    reply = json.loads(exchange.rest("/v4/orderbooks/perpetualMarket/BTC-USD", START_NS).body)
    found = tuple({Decimal(one["price"]): Decimal(one["size"]) for one in reply[side]} for side in ("bids", "asks"))
    assert found == true(exchange, exchange.source.flow.book("BTC-USD"))


def phemex_sides(symbol: str, message: Any) -> tuple[Any, Any]:
    """Return the levels of a message in decimals."""
    if symbol.endswith("USDT") and symbol[0] != "s":
        return message["orderbook_p"]["bids"], message["orderbook_p"]["asks"]
    price_scale, qty_scale = (8, 8) if symbol[0] == "s" else (4, 0)
    bids, asks = (
        [(Decimal(price).scaleb(-price_scale), Decimal(qty).scaleb(-qty_scale)) for price, qty in message["book"][side]]
        for side in ("bids", "asks")
    )
    return bids, asks


@pytest.mark.parametrize(
    ("symbol", "method"), [("sBTCUSDT", "orderbook"), ("BTCUSD", "orderbook"), ("ETHUSDT", "orderbook_p")]
)
@pytest.mark.parametrize(("wanted", "depth"), [([], 30), ([True], 0), ([False, 5], 5)])
def test_phemex_scales_and_numbers_books(symbol: str, method: str, wanted: list[Any], depth: int) -> None:
    exchange = make("phemex", "sBTCUSDT", "BTCUSD", "ETHUSDT")
    session = exchange.connect("/")
    ack, snapshot = ask(session, {"id": 3, "method": f"{method}.subscribe", "params": [symbol, *wanted]})
    assert ack == {"error": None, "id": 3, "result": {"status": "success"}}
    assert snapshot["type"] == "snapshot"
    bids, asks = Side(), Side()
    seen, last = 0, 0
    for message in [snapshot, *messages(exchange, session)]:
        assert (message["symbol"], message["depth"], message["sequence"] >= last) == (symbol, depth, True)
        assert message["timestamp"] >= START_NS
        last = message["sequence"]
        changes = phemex_sides(symbol, message)
        apply(bids, changes[0])
        apply(asks, changes[1])
        book = true(exchange, exchange.source.flow.book_at(symbol, last))
        assert (bids, asks) == tuple(dict(list(side.items())[: depth or None]) for side in book)
        seen += 1
    assert seen > 8


def test_phemex_repeats_a_book_whole_every_minute() -> None:
    exchange = find_simulator("phemex")(["BTCUSD"], flow=FlowConfig(levels=20, rate=30), start_ns=START_NS)
    session = exchange.connect("/")
    ask(session, {"id": 1, "method": "orderbook.subscribe", "params": ["BTCUSD", True]})
    kinds = [(message["timestamp"], message["type"]) for message in messages(exchange, session, 60.0)]
    assert [at for at, kind in kinds if kind == "snapshot"] == [START_NS + 40 * NS_PER_SECOND]  # a full minute
    assert len(kinds) > 100


def test_phemex_tells_a_later_subscriber_past_trades_newest_first_and_ends_all_subscriptions_of_a_kind() -> None:
    exchange = make("phemex", "BTCUSD", "ETHUSDT")
    session = exchange.connect("/")
    for symbol, method in (("BTCUSD", "trade"), ("BTCUSD", "orderbook"), ("ETHUSDT", "trade_p")):
        ask(session, {"id": 1, "method": f"{method}.subscribe", "params": [symbol]})
    told = [row for message in messages(exchange, session) for row in message.get("trades", [])]
    subscribe = {"id": 1, "method": "trade.subscribe", "params": ["BTCUSD"]}
    _, backlog = ask(exchange.connect("/"), subscribe)
    assert (backlog["type"], backlog["trades"]) == ("snapshot", told[::-1])
    assert {side for _, side, _, _ in told} == {"Buy", "Sell"}
    ask(session, {"id": 1, "method": "trade.unsubscribe", "params": []})
    assert session.streams == ["orderbook.30:BTCUSD", "trade_p:ETHUSDT"]


def test_phemex_refuses_the_21st_subscription() -> None:
    symbols = [f"A{number}USDT" for number in range(21)]
    session = make("phemex", *symbols).connect("/")
    answers = [ask(session, {"id": 1, "method": "trade_p.subscribe", "params": [symbol]})[0] for symbol in symbols]
    assert [answer["error"] for answer in answers[:20]] == [None] * 20
    assert answers[20]["error"]["code"] == 6015


def upbit_sides(exchange: GeneratedExchange, message: Any) -> tuple[Side, Side]:
    """Return the levels of units; those that are missing on one side are zeros."""
    bids, asks = (
        {unit[f"{side}_price"]: unit[f"{side}_size"] for unit in message["orderbook_units"] if unit[f"{side}_price"]}
        for side in ("bid", "ask")
    )
    assert [sum(side.values()) for side in (bids, asks)] == [message["total_bid_size"], message["total_ask_size"]]
    return bids, asks


@pytest.mark.parametrize(
    ("name", "code", "depth"),
    [("upbit", "KRW-BTC", 30), ("upbit", "KRW-BTC.5", 5)],
)
def test_books_of_upbit_are_whole_tops_of_which_the_first_is_marked(name: str, code: str, depth: int) -> None:
    exchange = make(name, "KRW-BTC", "KRW-ETH")
    session = exchange.connect("/websocket/v1")
    assert session.sends_binary
    (first,) = ask(session, [{"ticket": "t"}, {"type": "orderbook", "codes": [code]}])
    assert first["stream_type"] == "SNAPSHOT"
    seen = 0
    for message in messages(exchange, session):
        assert (message["type"], message["code"], message["stream_type"]) == ("orderbook", "KRW-BTC", "REALTIME")
        assert upbit_sides(exchange, message) == true(exchange, exchange.source.flow.book("KRW-BTC", levels=depth))
        seen += 1
    assert seen == 10


@pytest.mark.parametrize("code", ["KRW-BTC", "KRW-BTC.30"])
def test_books_of_bithumb_have_fifteen_levels_of_which_one_may_be_of_dust(code: str) -> None:
    exchange = make("bithumb", "KRW-BTC", "KRW-XRP")
    session = exchange.connect("/websocket/v1")
    assert session.sends_binary
    (first,) = ask(session, [{"ticket": "t"}, {"type": "orderbook", "codes": [code]}])
    assert (first["stream_type"], first["timestamp"]) == ("SNAPSHOT", START_NS // 1000)
    dust = seen = 0
    for message in messages(exchange, session):
        bids, asks = upbit_sides(exchange, message)
        assert (len(bids), len(asks), message["level"]) == (15, 15, 1)
        best_bid = max(bids)
        if not bids[best_bid]:
            assert best_bid < min(asks)
            del bids[best_bid]
            dust += 1
        book = true(exchange, exchange.source.flow.book("KRW-BTC", levels=15))
        assert (list(bids.items()), asks) == (list(book[0].items())[: len(bids)], book[1])
        seen += 1
    assert (seen, 0 < dust < 10) == (10, True)
    assert exchange.markets["KRW-XRP"].qty_decimals <= 4  # sizes are rounded, so lots are as large


def test_bithumb_tells_times_of_trades_in_korean_time_and_ids_of_19_digits() -> None:
    exchange = make("bithumb", "KRW-BTC")
    session = exchange.connect("/websocket/v1")
    ask(session, [{"ticket": "t"}, {"type": "trade", "codes": ["KRW-BTC"], "is_only_realtime": True}])
    trade = next(messages(exchange, session))
    assert (trade["trade_date"], trade["trade_time"]) == ("2023-11-15", "07:13:20")  # 22:13:20 UTC the day before
    assert START_NS // 1_000_000 <= trade["trade_timestamp"] < START_NS // 1_000_000 + 1000
    assert 10**18 < trade["sequential_id"] < 2**63
    for _ in range(200):
        session.count_frame(0)  # nobody counts


@pytest.mark.parametrize("name", ["bithumb", "upbit"])
def test_a_request_in_korea_replaces_the_one_before(name: str) -> None:
    exchange = make(name, "KRW-BTC", "KRW-ETH")
    session = exchange.connect("/websocket/v1")
    books = {"type": "orderbook", "codes": ["KRW-BTC", "KRW-NOPE"]}
    assert ask(session, [{"ticket": "t"}, books | {"isOnlyRealtime": True}]) == []
    assert session.streams == ["orderbook:KRW-BTC"]
    trades = [{"ticket": "t"}, {"type": "trade", "codes": ["KRW-BTC"]}]
    assert ask(session, trades) == []  # none that it remembers
    assert session.streams == ["trade:KRW-BTC"]
    *_, last = messages(exchange, session)
    (past,) = ask(exchange.connect("/websocket/v1"), trades)
    assert (past["sequential_id"], past["stream_type"]) == (last["sequential_id"], "SNAPSHOT")
    assert len(ask(session, [{"ticket": "t"}, books | {"isOnlySnapshot": True}])) == 1
    assert session.streams == []


@pytest.mark.parametrize("name", ["bithumb", "upbit"])
def test_a_bad_request_in_korea_ends_the_connection(name: str) -> None:
    session = make(name).connect("/websocket/v1")
    ask(session, b"{")
    with pytest.raises(PolicyViolation) as caught:
        session.beat(1, START_NS)
    assert caught.value.code == 1000


def test_upbit_writes_doubles_and_short_names() -> None:
    """The names are those of a recording of 2021, and what has come since."""
    exchange = make("upbit", "KRW-BTC")
    session = exchange.connect("/websocket/v1")
    kinds = [{"type": kind, "codes": ["KRW-BTC"]} for kind in ("orderbook", "trade")]
    (text,) = session.receive(json.dumps([{"ticket": "t"}, *kinds, {"format": "SIMPLE"}]).encode(), START_NS)
    assert re.match(
        rb'{"ty":"orderbook","cd":"KRW-BTC","tms":\d+,"tas":\d\.\d+,"tbs":\d\.\d+,"obu":\[{"ap":8\.\d+E7,"bp":', text
    )
    trade = next(message for message in messages(exchange, session) if message["ty"] == "trade")
    names = "ty cd tms td ttm ttms tp tv ab pcp c cp sid bap bas bbp bbs st"
    assert " ".join(trade) == names
    assert trade["tp"] - trade["pcp"] == (trade["cp"] if trade["c"] == "RISE" else -trade["cp"])
    assert [double(text, "") for text in ("116539000", "127", "0.00079276", "0.00000006", "0.001", "0")] == [
        "1.16539E8",
        "127.0",
        "7.9276E-4",
        "6E-8",
        "0.001",
        "0.0",
    ]


@pytest.mark.parametrize(("name", "allowed", "seconds"), [("upbit", 5, 1), ("upbit", 100, 60), ("phemex", 20, 1)])
async def test_a_client_that_sends_too_much_is_disconnected(name: str, allowed: int, seconds: int) -> None:
    exchange = make(name)
    session = exchange.connect(exchange.paths[0])
    step = seconds * NS_PER_SECOND // allowed - 1
    for number in range(allowed):
        session.count_frame(number * step)
    with pytest.raises(PolicyViolation) as caught:
        session.count_frame(allowed * step)
    assert caught.value.code == 1008


def test_upbit_tells_that_it_is_up_every_ten_seconds_once_it_was_asked() -> None:
    session = make("upbit").connect("/websocket/v1")
    session.count_frame(0)
    session.receive(b"PING", START_NS)
    beats = [session.beat(second * NS_PER_SECOND, START_NS) for second in range(1, 100)]
    assert [second for second, beat in enumerate(beats, 1) if beat] == list(range(10, 100, 10))


def test_upbit_answers_requests_for_books_by_rest() -> None:
    exchange = make("upbit", "KRW-BTC", "KRW-ETH")
    eth, btc = json.loads(exchange.rest("/v1/orderbook?markets=KRW-ETH,KRW-BTC", START_NS).body, parse_float=Decimal)
    assert (eth["market"], btc["market"]) == ("KRW-ETH", "KRW-BTC")
    assert upbit_sides(exchange, btc) == true(exchange, exchange.source.flow.book("KRW-BTC", levels=30))
    assert exchange.rest("/v1/orderbook?markets=KRW-NO", START_NS).status == 404


@pytest.mark.parametrize(
    ("name", "path", "request_", "answer"),
    [
        ("okx", "/ws/v5/public", b"{", {"event": "error", "code": "60012"}),
        (
            "okx",
            "/ws/v5/public",
            {"op": "subscribe", "args": [{"channel": "no", "instId": "BTC-USDT"}]},
            {"code": "60018"},
        ),
        (
            "okx",
            "/ws/v5/public",
            {"op": "subscribe", "args": [{"channel": "books", "instId": "NO-NO"}]},
            {"code": "60018"},
        ),
        (
            "okx",
            "/ws/v5/public",
            {"op": "subscribe", "args": [{"channel": "trades-all", "instId": "BTC-USDT"}]},
            {"code": "60018"},
        ),
        ("kraken", "/v2", b"{", {"success": False}),
        (
            "kraken",
            "/v2",
            {"method": "subscribe", "params": {"channel": "book", "symbol": ["NO/NO"]}},
            {"error": "Currency pair not supported NO/NO"},
        ),
        ("bybit", "/v5/public/linear", b"[]", {"success": False}),
        ("bybit-spot", "/v5/public/spot", {"op": "subscribe", "args": ["tickers.NO"]}, {"success": False}),
        ("coinbase", "/", {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["level2"]}, {"type": "error"}),
        (
            "coinbase",
            "/",
            {"type": "subscribe", "product_ids": ["NO-NO"], "channels": ["matches"]},
            {"reason": "NO-NO is not a valid product"},
        ),
        (
            "deribit",
            "/ws/api/v2",
            {"id": 5, "method": "public/no"},
            {"error": {"code": -32601, "message": "Method not found"}},
        ),
        (
            "bitget",
            "/v3/ws/public",
            {"op": "subscribe", "args": [{"instType": "spot", "topic": "books", "symbol": "NO"}]},
            {"code": 30001},
        ),
        (
            "gateio",
            "/ws/v4/",
            {"channel": "spot.trades", "event": "subscribe", "payload": ["NO_NO"]},
            {"error": {"code": 2, "message": "unknown currency pair: NO_NO"}},
        ),
        ("gateio-futures", "/v4/ws/usdt", b"{", {"error": {"code": 1, "message": "request message need json scheme"}}),
        (
            "gateio-futures",
            "/v4/ws/usdt",
            {"channel": "futures.nope", "event": "subscribe", "payload": ["BTC_USDT"]},
            {"error": {"code": 2, "message": "Unknown channel futures.nope"}, "result": {"status": "fail"}},
        ),
        (
            "gateio-futures",
            "/v4/ws/usdt",
            {"channel": "futures.order_book_update", "event": "subscribe", "payload": ["BTC_USDT", "100ms", "30"]},
            {"error": {"code": 2, "message": "provided level not supported: 30"}},
        ),
        (
            "gateio-futures",
            "/v4/ws/usdt",
            {"channel": "futures.trades", "event": "subscribe", "payload": ["NO_USDT"]},
            {"error": {"code": 2, "message": "unknown currency pair: NO_USDT"}},
        ),
        ("bitmex", "/realtime", {"op": "subscribe", "args": ["nothing:XBTUSD"]}, {"status": 400}),
        (
            "bitstamp",
            "/",
            {"event": "bts:subscribe", "data": {"channel": "diff_order_book_BTCUSD"}},
            {"event": "bts:error"},
        ),
        (
            "bitstamp",
            "/",
            {"event": "bts:subscribe", "data": {"channel": "live_trades_nono"}},
            {"event": "bts:subscription_succeeded"},
        ),
        (
            "coinbase-advanced",
            "/",
            {"type": "subscribe", "channel": "level2", "product_ids": ["NO-NO"]},
            {"type": "error"},
        ),
        ("htx", "/ws", b"no", {"status": "error", "err-msg": "not json, is not json string"}),
        ("htx", "/ws", {"sub": "market.nope.bbo", "id": "7"}, {"id": "7", "err-msg": "invalid symbol nope"}),
        (
            "htx",
            "/ws",
            {"sub": "market.btcusdt.no"},
            {"err-code": "bad-request", "err-msg": "invalid topic market.btcusdt.no"},
        ),
        ("htx", "/ws", {"sub": "market.btcusdt.mbp.400"}, {"err-msg": "invalid topic market.btcusdt.mbp.400"}),
        ("htx", "/feed", {"sub": "market.btcusdt.mbp.30"}, {"err-msg": "invalid topic market.btcusdt.mbp.30"}),
        ("htx", "/feed", {"req": "market.nope.mbp.400"}, {"err-msg": "invalid symbol nope"}),
        ("htx", "/ws", {"unsub": "market.btcusdt.bbo"}, {"err-msg": "unsub with not subbed topic"}),
        ("htx-swap", "/swap-ws", {"sub": "market.BTC-USDT.bbo"}, {"err-msg": "invalid topic market.BTC-USDT.bbo"}),
        ("hyperliquid", "/ws", b"[]", {"channel": "error"}),
        ("gemini", "/", b"{", {"status": 400}),
        ("gemini", "/", {"id": "7", "method": "nothing"}, {"id": "7", "status": 400}),
        ("gemini", "/", {"id": "7", "method": "SUBSCRIBE", "params": "btcusd@trade"}, {"id": "7", "status": 400}),
        ("crypto-com", "/exchange/v1/market", b"[]", {"code": 40003}),
        ("crypto-com", "/exchange/v1/market", {"id": 3, "method": "nothing"}, {"id": 3, "code": 40003}),
        ("crypto-com", "/exchange/v1/market", crypto_com("trade.NO_NO"), {"id": 1, "code": 40003}),
        ("crypto-com", "/exchange/v1/market", crypto_com("book.BTC_USDT.7"), {"id": 1, "code": 40003}),
        ("crypto-com", "/exchange/v1/market", crypto_com("book.BTC_USDT.150"), {"id": 1, "code": 40003}),
        (
            "crypto-com",
            "/exchange/v1/market",
            crypto_com("book.BTC_USDT.10", book_update_frequency=50),
            {"method": "subscribe", "message": "Invalid request"},
        ),
        ("kraken-futures", "/ws/v1", b"{", {"event": "error", "message": "Json Error"}),
        ("kraken-futures", "/ws/v1", {"event": "nothing"}, {"event": "error"}),
        ("kraken-futures", "/ws/v1", {"event": "subscribe", "feed": "nothing"}, {"message": "Invalid feed"}),
        (
            "kraken-futures",
            "/ws/v1",
            {"event": "subscribe", "feed": "book", "product_ids": ["PF_NONOUSD"]},
            {"event": "error", "message": "Invalid product id"},
        ),
        ("bitfinex", "/ws/2", b"[]", {"event": "error", "code": 10000}),
        ("bitfinex", "/ws/2", {"event": "subscribe", "channel": "no"}, {"code": 10302, "msg": "channel: unknown"}),
        (
            "bitfinex",
            "/ws/2",
            {"event": "subscribe", "channel": "ticker", "symbol": "tNONOUSD"},
            {"event": "error", "code": 10300, "msg": "symbol: invalid", "symbol": "tNONOUSD"},
        ),
        ("bitfinex", "/ws/2", bitfinex_book("tBTCUSD", "7"), {"event": "error", "code": 10300}),
        ("mexc", "/ws", b"{", {"msg": "msg format invalid"}),
        (
            "mexc",
            "/ws",
            {"method": "SUBSCRIPTION", "params": ["spot@public.aggre.deals.v3.api.pb@10ms@NOUSDT"]},
            {
                "code": 0,
                "msg": "Not Subscribed successfully! [spot@public.aggre.deals.v3.api.pb@10ms@NOUSDT]."
                "  Reason\N{FULLWIDTH COLON} Blocked! ",
            },
        ),
        (
            "mexc",
            "/edge",
            {"method": "sub.deal", "param": {"symbol": "NO_USDT"}},
            {"channel": "rs.error", "data": "Contract [NO_USDT] not exists"},
        ),
        ("mexc", "/edge", {"method": "sub.deal", "param": {"symbol": "BTCUSDT"}}, {"channel": "rs.error"}),
        *(
            ("bitflyer", "/json-rpc", request, {"jsonrpc": "2.0", "error": {"code": code, "message": message}})
            for request, code, message in (
                (b"{", -32700, "Parse error"),
                (7, -32600, "Invalid Request"),
                ({"id": 1, "method": "no"}, -32601, "Method not found"),
                ({"id": 1, "method": "subscribe"}, -32602, "invalid channel"),
                ({"id": 1, "method": "subscribe", "params": {"channel": "board"}}, -32602, "invalid channel"),
            )
        ),
        *(
            ("dydx", "/v4/ws", request, {"type": "error", "message": message, "message_id": 0})
            for request, message in (
                (b"{", "Invalid message: could not parse"),
                ({"type": "no"}, "Invalid message type: no"),
                ({"type": "subscribe", "channel": "v3_trades", "id": "BTC-USD"}, "Invalid channel: v3_trades"),
                (
                    {"type": "subscribe", "channel": "v4_trades", "id": "NO-USD"},
                    "Invalid subscription id for channel: (v4_trades-NO-USD)",
                ),
            )
        ),
        *(
            ("phemex", "/", request, {"error": {"code": 6001, "message": "invalid argument"}, "result": None})
            for request in (
                b"{",
                {"id": 1, "method": "orderbook.subscribe", "params": ["BTCUSDT"]},  # of the other family
                {"id": 1, "method": "orderbook_p.subscribe", "params": ["BTCUSDT", "ETHUSDT"]},
                {"id": 1, "method": "orderbook_p.subscribe", "params": ["BTCUSDT", False, 7]},
                {"id": 1, "method": "trade_p.subscribe", "params": ["NOUSDT"]},
            )
        ),
        *(
            (
                name,
                "/websocket/v1",
                request,
                {"error": {"name": error, "message": message}},
            )
            for name in ("bithumb", "upbit")
            for request, error, message in (
                (b"{", "WRONG_FORMAT", "Format 이 맞지 않습니다."),
                ([], "NO_TICKET", "티켓이 존재하지 않거나, 유효하지 않습니다."),
                ([{"ticket": "t"}], "NO_TYPE", "type 필드가 존재하지 않습니다."),
                ([{"ticket": "t"}, {"type": "trade"}], "NO_CODES", "codes 필드가 존재하지 않습니다."),
                ([{"ticket": "t"}, {"type": "trade", "codes": []}], "INVALID_PARAM", "codes 필드가 비어 있습니다."),
            )
        ),
    ],
)
def test_bad_requests_get_the_answer_of_the_exchange(
    name: str, path: str, request_: Any, answer: dict[str, Any]
) -> None:
    (answered,) = ask(make(name).connect(path), request_)
    assert {key: answered[key] for key in answer} == answer


@pytest.mark.parametrize(
    ("name", "path", "ping", "pong"),
    [
        ("okx", "/ws/v5/public", b"ping", b"pong"),
        ("bitget", "/v3/ws/public", b"ping", b"pong"),
        ("bitmex", "/realtime", b"ping", b"pong"),
        ("kraken", "/v2", b'{"method":"ping"}', b'"pong"'),
        ("bybit", "/v5/public/linear", b'{"op":"ping"}', b'"pong"'),
        ("bybit-spot", "/v5/public/spot", b'{"op":"ping"}', b'"pong"'),
        ("gateio", "/ws/v4/", b'{"time":1,"channel":"spot.ping"}', b'"spot.pong"'),
        ("gateio-futures", "/v4/ws/usdt", b'{"time":1,"channel":"futures.ping"}', b'"futures.pong"'),
        ("bitstamp", "/", b'{"event":"bts:heartbeat"}', b'"success"'),
        ("hyperliquid", "/ws", b'{"method":"ping"}', b'"pong"'),
        ("bitfinex", "/ws/2", b'{"event":"ping","cid":7}', b'{"event":"pong","ts":1700000000000,"cid":7}'),
        ("mexc", "/ws", b'{"method":"PING"}', b'{"id":0,"code":0,"msg":"PONG"}'),
        ("mexc", "/edge", b'{"method":"ping"}', b'{"channel":"pong","data":1700000000000,"ts":1700000000000}'),
        ("gemini", "/", b'{"id":"ping","method":"ping"}', b'{"id":"ping","status":200}'),
        ("bithumb", "/websocket/v1", b"PING", b'{"status":"UP"}'),
        ("upbit", "/websocket/v1", b"PING", b'{"status":"UP"}'),
        ("dydx", "/v4/ws", b'{"type":"ping"}', b'{"type":"pong"'),
        ("phemex", "/", b'{"id":0,"method":"server.ping","params":[]}', b'{"error":null,"id":0,"result":"pong"}'),
    ],
)
def test_pings_of_the_client_are_answered(name: str, path: str, ping: bytes, pong: bytes) -> None:
    (answer,) = make(name).connect(path).receive(ping, START_NS)
    assert pong in answer


@pytest.mark.parametrize(
    "name",
    [
        *("okx", "kraken", "kraken-futures", "bybit", "bybit-spot", "bitget", "gateio", "gateio-futures"),
        *("coinbase", "coinbase-advanced", "hyperliquid", "phemex", "upbit"),
    ],
)
def test_a_client_that_is_silent_for_too_long_is_disconnected(name: str) -> None:
    exchange = make(name)
    session = exchange.connect(exchange.paths[0])
    timeout = session.idle_timeout
    assert timeout is not None
    session.beat(0, START_NS)
    session.beat(round((timeout - 1) * NS_PER_SECOND), START_NS)
    with pytest.raises(PolicyViolation):
        session.beat(round(timeout * NS_PER_SECOND), START_NS)


@pytest.mark.parametrize("name", GENERATED)
def test_what_no_exchange_would_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected symbols such as"):
        make(name, "not a symbol")
    with pytest.raises(Refused):
        make(name).connect("/nowhere")
    assert make(name).rest("/nowhere", START_NS).status == 404
