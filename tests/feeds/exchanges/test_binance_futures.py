from decimal import Decimal

import pytest

from feeds.decoder import Fetch
from feeds.events import Candle, Liquidation, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.sequencing import LinkedSequence
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import Samples, decoded
from tests.feeds.exchanges.test_binance import day_ticker, entry, exchange_info, info, kline, listed
from tests.feeds.messages import NS, T, agg_trade, book_ticker, depth, dump, on_stream, snapshot, trade

USDM, COINM = exchange("binance-futures"), exchange("binance-delivery")


def mark_price(symbol="BTCUSDT", **more):
    """A mark price as the documentation has it."""
    data = {"e": "markPriceUpdate", "E": T, "s": symbol, "p": "11794.15000000", "P": "11784.25641265"}
    return data | {"r": "0.00038167", "T": T + 3_600_000} | more


def force_order(side="SELL", symbol="BTCUSDT", **more):
    order = {"s": symbol, "S": side, "o": "LIMIT", "f": "IOC", "q": "0.014", "p": "9910", "ap": "9915.5"}
    order |= {"X": "FILLED", "l": "0.004", "z": "0.010", "T": T}
    return {"e": "forceOrder", "E": T + 1, "o": order, **more}


def samples(market, symbol, entries):
    name = symbol.lower()
    return Samples(
        market,
        {
            "ack": b'{"result":null,"id":1}',
            "depth": depth(157, 160, [("7.5", "1")], [("7.7", "2")], previous=150, symbol=symbol),
            "second depth": depth(163, 165, [("7.6", "1")], previous=160, symbol=symbol),
            "quote": book_ticker("7.6", "7.7", symbol=symbol, time=T),
            "trade": trade(symbol=symbol, X="MARKET"),
            "trade of the insurance fund": trade(symbol=symbol, X="INSURANCE_FUND"),
            "fills added up": agg_trade(symbol=symbol),
            "ticker": on_stream(f"{name}@ticker", day_ticker("7.61", symbol=symbol)),
            "mark price": on_stream(f"{name}@markPrice@1s", mark_price(symbol, i="11784.62659091", ap="11790.1", st=0)),
            "liquidation": on_stream(f"{name}@forceOrder", force_order(symbol=symbol)),
            "candle": kline(symbol=symbol),
        },
        replies=[(symbol, snapshot(158, [("7.4", "7")], [("7.8", "1")], E=T, T=T))],
        instruments=[exchange_info(*entries)],
    )


SAMPLES = [
    samples(
        "binance-futures",
        "BTCUSDT",
        [entry("BTCUSDT", "BTC", "USDT"), entry("BTCUSDT_260925", "BTC", "USDT")],
    ),
    samples(
        "binance-delivery",
        "BTCUSD_PERP",
        [entry("BTCUSD_PERP", "BTC", "USD", contractSize=100), entry("BTCUSD_260925", "BTC", "USD", contractSize=100)],
    ),
]


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


def test_mark_and_index_price_and_funding_are_one_ticker():
    (ticker,) = decoded("binance-futures", SAMPLES[0].messages["mark price"]).of(Ticker)
    assert (ticker.mark_price_decimal, ticker.index_price_decimal) == (Decimal("11794.15"), Decimal("11784.62659091"))
    assert (ticker.funding_rate_decimal, ticker.next_funding_time) == (Decimal("0.00038167"), NS + 3600 * 10**9)
    assert (ticker.last_price, ticker.open_interest, ticker.ts_event) == (None, None, NS)


@pytest.mark.parametrize("rate", ["", "0.00000000"])
def test_contracts_with_a_delivery_day_have_no_funding(rate):
    message = on_stream("btcusd_260925@markPrice", mark_price("BTCUSD_260925", r=rate, T=0))
    (ticker,) = decoded("binance-delivery", message).of(Ticker)
    assert (ticker.mark_price, ticker.index_price, ticker.funding_rate, ticker.next_funding_time) == (
        11794.15,
        None,
        None,
        0,
    )


def test_the_index_price_of_coinm_is_of_a_pair():
    data = {"e": "indexPriceUpdate", "E": T, "i": "BTCUSD", "p": "9636.57860000"}
    (ticker,) = decoded("binance-delivery", on_stream("btcusd@indexPrice@1s", data)).of(Ticker)
    assert (ticker.instrument.raw_symbol, ticker.index_price, ticker.mark_price) == ("BTCUSD_PERP", 9636.5786, None)


@pytest.mark.parametrize("side", ["SELL", "BUY"])
def test_liquidations_have_the_side_and_size_of_the_order(side):
    (event,) = decoded("binance-futures", on_stream("!forceOrder@arr", force_order(side))).of(Liquidation)
    assert (event.side, event.price, str(event.qty_decimal), event.ts_event) == (Side[side], 9910, "0.014", NS)


@pytest.mark.parametrize(("market", "st"), [("binance-futures", 1), ("binance-delivery", 2)])
def test_of_arrays_that_both_markets_are_in_each_takes_its_own(market, st):
    message = on_stream("!markPrice@arr@1s", [mark_price("A", st=1), mark_price("B", st=2), mark_price("C")])
    found = [ticker.instrument.raw_symbol for ticker in decoded(market, message).of(Ticker)]
    assert found == ["AB"[st - 1], "C"]


def test_candles_of_coinm_have_no_volume_in_the_quote_currency():
    volumes = [
        [(candle.volume, candle.quote_volume) for candle in decoded(market, kline()).of(Candle)]
        for market in ("binance-futures", "binance-delivery")
    ]
    assert volumes == [[(10, 15.5)], [(10, None)]]


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


def test_tickers_of_a_contract_come_on_several_streams():
    """Trap 1: mark prices and liquidations are served by the other route than books."""
    instruments = Instruments()
    USDM.load_instruments(SAMPLES[0].instruments[0], instruments)
    COINM.load_instruments(SAMPLES[1].instruments[0], instruments)
    channels = ("ticker", "liquidation", "candle")
    (usdm,) = USDM.plan([Subscription("BTC-USDT-PERP", channels)], instruments)
    assert (usdm.path, usdm.streams) == (
        "/market/stream",
        ["btcusdt@ticker", "btcusdt@markPrice@1s", "btcusdt@forceOrder", "btcusdt@kline_1m"],
    )
    subscriptions = [Subscription(name, ("ticker",)) for name in ("BTC-USD-PERP", "BTC-USD-260925")]
    (coinm,) = COINM.plan(subscriptions, instruments)
    assert (coinm.path, coinm.streams) == (
        "/stream",
        [
            "btcusd_perp@ticker",
            "btcusd_perp@markPrice@1s",
            "btcusd@indexPrice@1s",
            "btcusd_260925@ticker",
            "btcusd_260925@markPrice@1s",
        ],
    )


def test_the_rule_of_futures_books():
    assert USDM.new_sequence is COINM.new_sequence is LinkedSequence
