import json
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe
from feeds.events import Candle, Liquidation, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded, replayed

BYBIT = exchange("bybit")
MS = NOW // 1_000_000
THEN = iso_ns("2021-04-17T16:43:05Z")
LINEAR_V2, INVERSE_V2 = "wss://stream.bybit.com/realtime_public", "wss://stream.bybit.com/realtime"


def message(topic, data, *, kind="snapshot", **more):
    return json.dumps({"topic": topic, "type": kind, "ts": MS, "data": data, **more}).encode()


def book(kind, u, bids=(), asks=(), *, depth=50, symbol="BTCUSDT"):
    data = {"s": symbol, "b": [list(b) for b in bids], "a": [list(a) for a in asks], "u": u, "seq": 7}
    return message(f"orderbook.{depth}.{symbol}", data, kind=kind, cts=MS - 5)


def tickers(kind="delta", **fields):
    return message("tickers.BTCUSDT", {"symbol": "BTCUSDT", **fields}, kind=kind, cs=24987956059)


def entry(symbol, base, quote, kind, delivery="0"):
    return {
        "symbol": symbol,
        "baseCoin": base,
        "quoteCoin": quote,
        "contractType": kind,
        "deliveryTime": delivery,
        "priceFilter": {"tickSize": "0.10"},
        "lotSizeFilter": {"qtyStep": "0.001"},
    }


LISTED = json.dumps(
    {
        "retCode": 0,
        "result": {
            "category": "linear",
            "list": [
                entry("BTCUSDT", "BTC", "USDT", "LinearPerpetual"),
                entry("BTCPERP", "BTC", "USDC", "LinearPerpetual"),
                entry("BTCUSDT-25SEP26", "BTC", "USDT", "LinearFutures", "1790323200000"),
                entry("BTCUSD", "BTC", "USD", "InversePerpetual"),
                entry("BTCUSDU26", "BTC", "USD", "InverseFutures", "1790323200000"),
            ],
            "nextPageCursor": "abc=",
        },
    }
).encode()
SAMPLES = [
    Samples(
        "bybit",
        {
            "ack": b'{"success":true,"ret_msg":"","conn_id":"1","req_id":"1","op":"subscribe"}',
            "pong": b'{"success":true,"ret_msg":"pong","conn_id":"1","req_id":"","op":"ping"}',
            "pong of options": b'{"args":["1672916271846"],"op":"pong"}',
            "snapshot": book("snapshot", 100, [("27450.00", "0.500")], [("27451.00", "0.750")]),
            "delta": book("delta", 101, [], [("27451.00", "0"), ("27452.5", "1")]),
            "quote": book("snapshot", 9, [("27450.00", "0.5")], [("27451.00", "0.75")], depth=1),
            "trade": message(
                "publicTrade.BTCUSDT",
                [
                    {
                        "T": MS,
                        "s": "BTCUSDT",
                        "S": "Buy",
                        "v": "0.001",
                        "p": "16578.50",
                        "i": "20f43950-d8dd",
                        "BT": False,
                    },
                    {
                        "T": MS,
                        "s": "BTCUSDT",
                        "S": "Sell",
                        "v": "0.002",
                        "p": "16578.5",
                        "i": "20f43950-d8de",
                        "BT": False,
                    },
                ],
            ),
            "ticker": tickers(
                "snapshot", lastPrice="17216", markPrice="17217.33", fundingRate="-0.0002", indexPrice=""
            ),
            "changed": tickers(lastPrice="17217.00", nextFundingTime="1790006400000"),
            "candle": message(
                "kline.5.BTCUSDT",
                [
                    {
                        "start": MS,
                        "end": MS + 299_999,
                        "interval": "5",
                        "open": "1",
                        "close": "2",
                        "high": "3",
                        "low": "0.5",
                        "volume": "2.081",
                        "turnover": "34666.4005",
                        "confirm": False,
                        "timestamp": MS,
                    }
                ],
            ),
            "liquidation": message(
                "allLiquidation.ROSEUSDT", [{"T": MS, "s": "ROSEUSDT", "S": "Sell", "v": "20000", "p": "0.04499"}]
            ),
        },
        instruments=[also(LISTED, "BTCUSDT", {"BTC": "ROSE"})],
    ),
    Samples(
        "bybit",
        {
            "ack": b'{"success":true,"ret_msg":"","conn_id":"9","request":{"op":"subscribe","args":["trade.EOSUSD"]}}',
            "snapshot of inverse": b'{"topic":"orderBookL2_25.EOSUSD","type":"snapshot","data":[{"price":"7.943",'
            b'"symbol":"EOSUSD","id":79430,"side":"Buy","size":154219}],"cross_seq":1225777224,'
            b'"timestamp_e6":1618677786598877}',
            "delta of inverse": b'{"topic":"orderBookL2_25.EOSUSD","type":"delta","data":{"delete":[{"price":"7.943",'
            b'"symbol":"EOSUSD","id":79430,"side":"Buy"}],"update":[],"insert":[{"price":"7.95","symbol":"EOSUSD",'
            b'"id":79500,"side":"Sell","size":7}],"transactTimeE6":0},"cross_seq":1225777225,'
            b'"timestamp_e6":1618677786598878}',
            "snapshot of linear": b'{"topic":"orderBookL2_25.XTZUSDT","type":"snapshot","data":{"order_book":['
            b'{"price":"7.183","symbol":"XTZUSDT","id":"71830","side":"Buy","size":25.900002}]},"cross_seq":"8",'
            b'"timestamp_e6":"1618677786589984"}',
            "trade": b'{"topic":"trade.BTCUSD","data":[{"trade_time_ms":1618677786614,"timestamp":"2021-04-17T16:43Z",'
            b'"symbol":"BTCUSD","side":"Sell","size":4,"price":60621.5,"trade_id":"5ffb8b77","cross_seq":5938955347}]}',
        },
        captures=("BYBIT.ws.25.0", "BYBIT.ws.26.0"),
        url=INVERSE_V2,
        ts=THEN,
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- captures of API v2, which is retired ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "snapshots", "deltas", "messages_with_trades"),
    [("BYBIT.ws.25.0", 8, 3252, 66), ("BYBIT.ws.26.0", 2, 1016, 76)],
)
def test_captures(captures, name, snapshots, deltas, messages_with_trades):
    log, replay = replayed(captures, name)
    assert (sum(d.is_snapshot for d in log.deltas), len(log.deltas)) == (snapshots, snapshots + deltas)
    assert len(log.trades) >= messages_with_trades
    assert replay.messages == len(log.deltas) + messages_with_trades + replay.pipelines[0].decoder.silent["ack"]
    for kept in replay.pipelines[0].books.books:
        assert kept.state is BookState.LIVE
        assert 0 < kept.bid_count <= 25
        assert 0 < kept.ask_count <= 25
        assert kept.best_bid.price < kept.best_ask.price
    names = "BCH-USDT XTZ-USDT UNI-USDT EOS-USD LTC-USDT DOT-USDT LINK-USDT ADA-USDT ETH-USDT BTC-USD"
    assert {d.instrument.symbol for d in log.deltas} <= {f"{name}-PERP" for name in names.split()}


def test_prices_are_text_or_numbers():
    trades = decoded("bybit", SAMPLES[1].messages["trade"], url=INVERSE_V2).trades
    assert [(str(t.price_decimal), str(t.qty_decimal), t.side, t.id) for t in trades] == [
        ("60621.5", "4", Side.SELL, "5ffb8b77")
    ]
    (delta,) = decoded("bybit", SAMPLES[1].messages["snapshot of linear"], url=LINEAR_V2).deltas
    assert delta.bids == [(Decimal("7.183"), Decimal("25.900002"))]


# --- books of v5 ----------------------------------------------------------------------------------


def play(pipeline, *messages):
    for one in messages:
        pipeline.on_message(one, NOW, True)
    return pipeline.books.books[0].state.name


START = book("snapshot", 100, [("10", "1"), ("9", "1")], [("11", "1")])


def test_ids_have_no_holes(pipeline):
    assert play(pipeline, START, book("delta", 101, [("8", "1")])) == "LIVE"
    assert play(pipeline, book("delta", 101, [("7", "1")])) == "LIVE"  # sent twice: ignored
    assert len(pipeline.books.books[0].bids()) == 3
    assert play(pipeline, book("delta", 103, [("7", "1")])) == "GAP"
    assert pipeline.decoder.take_requests() == [
        Resubscribe(
            (
                b'{"op":"unsubscribe","args":["orderbook.50.BTCUSDT"]}',
                b'{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}',
            ),
            "BTCUSDT",
        )
    ]
    assert play(pipeline, book("snapshot", 7, [("5", "1")])) == "LIVE"


def test_a_snapshot_replaces_the_book_at_any_time(pipeline):
    assert play(pipeline, START, book("snapshot", 55, [("5", "2")]), book("delta", 56, [("6", "1")])) == "LIVE"
    assert [level.price for level in pipeline.books.books[0].bids()] == [6, 5]


def test_id_1_is_a_snapshot_whatever_its_type(pipeline):
    """Trap 20: the service has restarted."""
    assert play(pipeline, START, book("delta", 1, [("5", "2")]), book("delta", 2, [("6", "1")])) == "LIVE"
    assert [level.price for level in pipeline.books.books[0].bids()] == [6, 5]


def test_levels_beyond_the_depth_leave(pipeline, log):
    bids = [(str(1000 - n), "1") for n in range(50)]
    play(pipeline, book("snapshot", 5, bids, [("2000", "1")]), book("delta", 6, [("1001", "1")]))
    kept = pipeline.books.books[0].bids()
    assert (len(kept), kept[0].price, kept[-1].price) == (50, 1001, 952)


def test_a_second_depth_of_a_symbol_does_not_touch_the_book(pipeline):
    assert play(pipeline, START, book("snapshot", 7, [("1", "1")], depth=200), book("delta", 101)) == "LIVE"
    assert pipeline.decoder.silent == {"other depth": 1}


def test_quotes_of_depth_1_in_snapshots_and_in_the_deltas_of_old():
    log = decoded(
        "bybit",
        book("snapshot", 5, [("10", "1")], [("11", "2")], depth=1),
        book("snapshot", 5, [("10", "1")], [("11", "2")], depth=1),  # trap 24: repeated after 3 s
        book("delta", 6, [("10", "0"), ("9.5", "3")], [], depth=1),
        book("snapshot", 7, [("10", "1")], [], depth=1),
    )
    assert [(q.bid_price, q.bid_qty, q.ask_price, q.ask_qty) for q in log.quotes] == [
        (10, 1, 11, 2),
        (10, 1, 11, 2),
        (9.5, 3, 11, 2),
        (10, 1, None, None),
    ]
    assert log.quotes[0].ts_event == (MS - 5) * 1_000_000  # of the matching engine


# --- other events ---------------------------------------------------------------------------------


def test_tickers_are_merged_field_by_field():
    """Trap 16: after the first only what has changed is sent."""
    first, second, third = decoded(
        "bybit", SAMPLES[0].messages["ticker"], SAMPLES[0].messages["changed"], tickers(markPrice="", openInterest="5")
    ).of(Ticker)
    assert (first.last_price, first.mark_price, first.index_price, first.funding_rate) == (
        17216,
        17217.33,
        None,
        -0.0002,
    )
    assert (second.last_price, second.mark_price, second.next_funding_time) == (17217, 17217.33, 1_790_006_400 * 10**9)
    assert (third.last_price, third.mark_price, third.open_interest) == (17217, None, 5)  # "" is not available


def test_trades_candles_and_liquidations():
    log = decoded("bybit", *SAMPLES[0].messages.values())
    buy, sell = log.trades
    assert (buy.side, buy.id, sell.side, str(sell.qty_decimal)) == (Side.BUY, "20f43950-d8dd", Side.SELL, "0.002")
    (candle,) = log.of(Candle)
    assert (candle.interval, candle.low, candle.is_closed, candle.ts_open) == (300, 0.5, False, NOW // 10**6 * 10**6)
    (liquidation,) = log.of(Liquidation)
    assert liquidation.side is Side.BUY  # the position was short


def test_refusals(pipeline):
    refusal = b'{"success":false,"ret_msg":"error:handler not found,topic:x","conn_id":"1","op":"subscribe"}'
    pipeline.on_message(refusal, NOW, True)
    assert pipeline.decoder.take_requests() == [Refused("error:handler not found,topic:x")]


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata_and_its_pages():
    instruments = Instruments()
    assert BYBIT.load_instruments(LISTED, instruments) == []
    assert [(i.symbol, i.kind) for i in instruments] == [
        ("BTC-USDT-PERP", "perpetual"),
        ("BTC-USDC-PERP", "perpetual"),
        ("BTC-USDT-20260925", "future"),
        ("BTC-USD-PERP", "perpetual"),
        ("BTC-USD-20260925", "future"),
    ]
    url = BYBIT.instruments_urls[0]
    assert BYBIT.next_page(url, LISTED) == url + "&cursor=abc%3D"
    assert BYBIT.next_page(url, LISTED.replace(b"abc=", b"")) is None


def test_linear_and_inverse_are_two_sockets():
    instruments = Instruments()
    BYBIT.load_instruments(LISTED, instruments)
    plans = BYBIT.plan([Subscription(s, ("quote", "trade")) for s in ("BTC-USDT-PERP", "BTC-USD-PERP")], instruments)
    assert [(plan.path, plan.subscribe) for plan in plans] == [
        ("/v5/public/linear", [b'{"op":"subscribe","args":["orderbook.1.BTCUSDT","publicTrade.BTCUSDT"]}']),
        ("/v5/public/inverse", [b'{"op":"subscribe","args":["orderbook.1.BTCUSD","publicTrade.BTCUSD"]}']),
    ]


@pytest.mark.parametrize("url", [LINEAR_V2, INVERSE_V2])
def test_which_version_was_spoken(url):
    assert BYBIT.spoken(url, NOW) is not BYBIT
    assert BYBIT.spoken("wss://stream.bybit.com/v5/public/linear", THEN) is BYBIT
    assert BYBIT.spoken("", THEN) is not BYBIT
    assert BYBIT.spoken("", NOW) is BYBIT
