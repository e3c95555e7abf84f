from decimal import Decimal

import pytest

from feeds.decoder import Fetch
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.sequencing import LinkedSequence
from feeds.subscription import Subscription
from tests.feeds.exchanges.test_binance import info, listed
from tests.feeds.messages import NS, T, agg_trade, book_ticker, depth, dump, on_stream, snapshot, trade

USDM, COINM = exchange("binance-futures"), exchange("binance-delivery")


@pytest.fixture(params=["hot", "reference"])
def decoder(request, log):
    made = USDM.new_decoder(Instruments(infer=True), log, reference=request.param == "reference")
    for seed in (
        depth(1, 1, previous=0),
        book_ticker(time=T),
        trade(),
        agg_trade(),
        depth(1, 1, previous=0, stream="depth5"),
    ):
        made.decode(seed, 1)
    log.clear()
    return made


def test_depth_has_the_engine_time_and_the_link(decoder, log):
    decoder.decode(depth(157, 160, [("7.5", "1")], previous=150).replace(b'"E":17', b'"E":18'), 7)
    (delta,) = log.deltas
    assert (delta.first_id, delta.last_id, delta.previous_id, delta.ts_event) == (157, 160, 150, NS)


def test_the_publish_time_stands_in(decoder, log):
    decoder.decode(depth(157, 160, previous=150).replace(b'"T":%d,' % T, b""), 7)
    decoder.decode(book_ticker(time=T).replace(b'"T":%d,' % T, b""), 7)
    assert [event.ts_event for event in log.events] == [NS, NS]


def test_partial_depth_is_told_by_its_stream(decoder, log):
    decoder.decode(depth(157, 160, [("7.5", "1")], previous=150, stream="depth5"), 7)
    (delta,) = log.deltas
    assert (delta.is_snapshot, delta.depth, delta.last_id) == (True, 5, 160)


def test_the_order_of_fields_does_not_matter(decoder, log):
    message = {
        "u": 5,
        "e": "bookTicker",
        "s": "BTCUSD_PERP",
        "ps": "BTCUSD",
        "b": "1.5",
        "B": "2",
        "a": "1.6",
        "A": "3",
        "st": 2,
        "T": T,
        "E": T,
    }
    decoder.decode(on_stream("btcusdt@bookTicker", message), 7)
    assert (log.quotes[0].bid_decimal, log.quotes[0].sequence) == ((Decimal("1.5"), 2), 5)


@pytest.mark.parametrize(
    ("more", "count"),
    [({"X": "MARKET"}, 1), ({}, 1), ({"X": "INSURANCE_FUND"}, 0), ({"X": "ADL"}, 0), ({"X": "NA"}, 0), ({"X": ""}, 0)],
)
def test_only_market_trades_are_trades(decoder, log, more, count):
    decoder.decode(trade(**more), 7)
    assert len(log.trades) == count


def test_a_trade_of_nothing_is_none(decoder, log):
    decoder.decode(trade(qty="0.000"), 7)
    decoder.decode(agg_trade(qty="0"), 7)
    assert log.events == []


def test_bare_messages(decoder, log):
    for message in (depth(1, 1, previous=0), trade(), agg_trade(), book_ticker(time=T)):
        decoder.decode(message[message.index(b'"data":') + 7 : -1], 1)
    assert [type(event).__name__ for event in log.events] == ["BookDelta", "Trade", "Trade", "Quote"]


@pytest.mark.parametrize(("market", "path"), [(USDM, "/fapi/v1"), (COINM, "/dapi/v1")])
def test_snapshots(log, market, path):
    decoder = market.new_decoder(Instruments(infer=True), log)
    decoder.request_snapshot(decoder.instruments.find(market.id, "X"))
    assert decoder.take_requests() == [Fetch(f"{path}/depth?symbol=X&limit=1000", "X")]
    decoder.decode_reply("X", snapshot(160, [("1", "2")], E=T + 1, T=T), 7)
    decoder.decode_reply("X", snapshot(160), 8)
    assert [(d.last_id, d.ts_event) for d in log.deltas] == [(160, NS), (160, 0)]


def test_names_and_kinds():
    instruments = Instruments()
    USDM.load_instruments(
        info(listed(contractType="PERPETUAL"), listed("BTCUSDT_260925", contractType="CURRENT_QUARTER")), instruments
    )
    COINM.load_instruments(
        info(listed("BTCUSD_PERP", quote="USD", contractSize=100), listed("BTCUSD_260925", quote="USD")), instruments
    )
    assert [(i.exchange, i.symbol, i.kind, i.contract_size) for i in instruments] == [
        ("binance-futures", "BTC-USDT-PERP", "perpetual", None),
        ("binance-futures", "BTC-USDT-260925", "future", None),
        ("binance-delivery", "BTC-USD-PERP", "perpetual", 100),
        ("binance-delivery", "BTC-USD-260925", "future", None),
    ]


def test_usdm_streams_go_to_their_routes_and_coinm_has_none():
    instruments = Instruments()
    USDM.load_instruments(info(listed()), instruments)
    COINM.load_instruments(info(listed("BTCUSD_PERP", quote="USD")), instruments)
    assert {plan.path: plan.streams for plan in USDM.plan([Subscription("BTC-USDT-PERP")], instruments)} == {
        "/public/stream": ["btcusdt@depth@0ms", "btcusdt@bookTicker"],
        "/market/stream": ["btcusdt@aggTrade"],
    }
    (plan,) = COINM.plan([Subscription("BTC-USD-PERP", ("book_top", "trade", "agg_trade"))], instruments)
    assert (plan.path, plan.streams) == ("/stream", ["btcusd_perp@depth20@100ms", "btcusd_perp@aggTrade"])
    assert dump(plan.streams) in plan.subscribe[0]


def test_the_rule_of_futures_books():
    assert USDM.new_sequence is COINM.new_sequence is LinkedSequence
