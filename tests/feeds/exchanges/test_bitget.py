import json
import zlib
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe
from feeds.events import Candle, Liquidation, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.testing import EventLog
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded, replayed, tops

BITGET = exchange("bitget")
MS = NOW // 1_000_000
THEN = iso_ns("2022-04-07T00:08:00Z")
SPOT_V1, MIX_V1 = "wss://ws.bitget.com/spot/v1/stream", "wss://ws.bitget.com/mix/v1/stream"


def v2(channel, *data, inst="BTCUSDT", kind="USDT-FUTURES", action="snapshot"):
    arg = {"instType": kind, "channel": channel, "instId": inst}
    return json.dumps({"action": action, "arg": arg, "data": data, "ts": MS}).encode()


def v3(topic, *data, inst="BTCUSDT", kind="spot", action="snapshot"):
    arg = {"instType": kind, "topic": topic, "symbol": inst}
    return json.dumps({"action": action, "arg": arg, "data": data, "ts": MS}).encode()


def book(action, seq, pseq, bids=(), asks=(), **more):
    data = {"a": [list(a) for a in asks], "b": [list(b) for b in bids], "seq": seq, "pseq": pseq, "ts": str(MS)}
    return v3("books", data | more, action=action)


def trades(*ids, action="update", side="sell"):
    rows = [{"ts": str(MS + i), "price": "26293.4", "size": "0.0013", "side": side, "tradeId": str(i)} for i in ids]
    return v2("trade", *rows, action=action)


SNAPSHOT = book("snapshot", 100, 0, [("76646.9", "0.03914")], [("76679.99", "2"), ("76680", "7")])
TICKER = {
    "instId": "BTCUSDT",
    "lastPr": "87673.6",
    "markPrice": "87673.7",
    "indexPrice": "87714.7",
    "fundingRate": "0.000005",
    "nextFundingTime": "1790006400000",
    "holdingAmount": "29505.06",
    "ts": str(MS),
}
SPOT_LISTED = (
    b'{"code":"00000","data":[{"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","pricePrecision":"2",'
    b'"quantityPrecision":"6","status":"online"}]}'
)
CONTRACT = {"baseCoin": "BTC", "pricePlace": "1", "priceEndStep": "5", "volumePlace": "3", "sizeMultiplier": "0.001"}
LISTED = json.dumps(
    {
        "code": "00000",
        "data": [
            CONTRACT | {"symbol": "BTCUSDT", "quoteCoin": "USDT", "symbolType": "perpetual", "deliveryTime": ""},
            CONTRACT | {"symbol": "BTCPERP", "quoteCoin": "USDC", "symbolType": "perpetual", "deliveryTime": ""},
            CONTRACT | {"symbol": "BTCUSD", "quoteCoin": "USD", "symbolType": "perpetual", "deliveryTime": ""},
            CONTRACT
            | {"symbol": "BTCUSDU26", "quoteCoin": "USD", "symbolType": "delivery", "deliveryTime": "1790323200000"},
        ],
    }
).encode()
SAMPLES = [
    Samples(
        "bitget",
        {
            "ack": b'{"event":"subscribe","arg":{"instType":"spot","topic":"books","symbol":"BTCUSDT"},"connId":"1"}',
            "pong": b"pong",
            "snapshot": SNAPSHOT,
            "update": book("update", 105, 100, [("76646.9", "0")]),
            "quote": v3("books1", {"a": [["1.5", "2"]], "b": [], "seq": 9, "ts": str(MS)}),
            "trades": v3(
                "publicTrade",
                {
                    "i": "1432912488536195072",
                    "p": "76671.22",
                    "v": "0.001367",
                    "S": "sell",
                    "T": str(MS),
                    "isRPI": "no",
                },
                action="update",
            ),
            "ticker": v3("ticker", {"lastPrice": "76671.22", "bid1Price": "1", "openInterest": "0"}),
            "snapshot of v2": v2(
                "books",
                {
                    "asks": [["0.01039", "4499.23"]],
                    "bids": [["0.01038", "4311.15"]],
                    "ts": "1789456510736",
                    "seq": 427583461144,
                    "pseq": 0,
                },
                inst="MAVUSDT",
            ),
            "top of v2": v2("books15", {"asks": [["2", "1"]], "bids": [["1", "1"]], "ts": str(MS)}, inst="XUSDT"),
            "trades of v2": trades(1, 2),
            "ticker of v2": v2("ticker", TICKER),
            "candle": v2("candle1m", [str(MS), "8533", "8553.74", "8527.1", "8548.2", "45.2", "386000.1", "386000.1"]),
            "liquidation": b'{"action":"update","arg":{"instType":"usdt-futures","topic":"liquidation"},"data":[{'
            b'"symbol":"BTCUSDT","side":"sell","price":"87600.1","amount":"0.5","ts":"%d"}],"ts":%d}' % (MS, MS),
        },
        instruments=[SPOT_LISTED, also(LISTED, "BTCUSDT", {"BTC": "MAV"}, {"BTC": "X"})],
    ),
    Samples(
        "bitget",
        {
            "ack": b'{"event":"subscribe","arg":{"instType":"sp","channel":"books","instId":"CULTUSDT"}}',
            "book": b'{"action":"snapshot","arg":{"instType":"sp","channel":"books","instId":"AVAXUSDT"},"data":[{'
            b'"asks":[["83.0714","180.0000"]],"bids":[["82.8186","12.1030"]],"ts":"1649290107166"}]}',
            "trades": b'{"action":"update","arg":{"instType":"sp","channel":"trade","instId":"HOTUSDT"},'
            b'"data":[["1649290077777","0.005613","890.8","buy"]]}',
            "ticker": b'{"action":"snapshot","arg":{"instType":"mc","channel":"ticker","instId":"DASHUSDT"},"data":[{'
            b'"instId":"DASHUSDT","last":"113.370","capitalRate":"-0.000100","nextSettleTime":1649314800000,'
            b'"systemTime":1649290077309,"markPrice":"113.381","indexPrice":"113.427","holding":"21957.17"}]}',
            "candle": b'{"action":"update","arg":{"instType":"mc","channel":"candle1m","instId":"DASHUSDT"},'
            b'"data":[["1649290020000","113.47","113.47","113.33","113.37","16.68"]]}',
        },
        captures=("BITGET.ws.1.0", "BITGET.ws.2.0"),
        url=SPOT_V1,
        ts=THEN,
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- captures: v1, without ids and with checksums -------------------------------------------------


@pytest.mark.parametrize(
    ("name", "verified", "symbol", "deltas", "top"),
    [
        ("BITGET.ws.1.0", 443, "AVAXUSDT", 55, ("82.8186 x 12.103", "83.0114 x 73.794", "88/89")),
        ("BITGET.ws.2.0", 194, "USDT-FUTURES:DASHUSDT", 97, ("113.28 x 174.25", "113.33 x 9.06", "86/100")),
    ],
)
def test_golden_values_of_the_captures(captures, name, verified, symbol, deltas, top):
    log, replay = replayed(captures, name)
    (pipeline,) = replay.pipelines
    assert (pipeline.books.verified, pipeline.books.mismatched, pipeline.books.gaps) == (verified, 0, 0)
    assert tops(replay)[symbol] == top
    found = [d for d in log.deltas if d.instrument.raw_symbol == symbol and not d.is_snapshot]
    assert len(found) == deltas


def test_every_event_of_the_captures_is_counted(captures):
    spot, _ = replayed(captures, "BITGET.ws.1.0")
    mix, _ = replayed(captures, "BITGET.ws.2.0")
    assert [(len(log.trades), len(log.of(Ticker)), len(log.of(Candle))) for log in (spot, mix)] == [
        (430, 128, 8035),
        (125, 217, 2025),
    ]
    assert sum(not trade.is_backlog for trade in spot.trades) == 30
    assert {log.events[-1].instrument.symbol for log in (mix,)} <= {"DASH-USDT-PERP", "UNI-USDT-PERP"}


def test_trades_come_oldest_first_and_those_of_a_snapshot_are_backlog(captures):
    """Trap 17."""
    log, _ = replayed(captures, "BITGET.ws.2.0")
    dash = [trade for trade in log.trades if trade.instrument.symbol == "DASH-USDT-PERP"]
    backlog = [trade for trade in dash if trade.is_backlog]
    assert (backlog[-1].ts_event, str(backlog[-1].price_decimal)) == (1_649_290_076_980_000_000, "113.37")
    assert [trade.ts_event for trade in dash] == sorted(trade.ts_event for trade in dash)


def test_a_ticker_of_v1_has_what_the_contract_has():
    (ticker,) = decoded("bitget", SAMPLES[1].messages["ticker"], url=MIX_V1, ts=THEN).of(Ticker)
    assert (ticker.last_price, ticker.mark_price, ticker.index_price) == (113.37, 113.381, 113.427)
    assert (ticker.open_interest, ticker.funding_rate_decimal) == (21957.17, Decimal("-0.0001"))
    assert (ticker.next_funding_time, ticker.ts_event) == (1_649_314_800_000_000_000, 1_649_290_077_309_000_000)


# --- books ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seq", "pseq", "state"),
    [
        (105, 100, "LIVE"),
        (105, 90, "LIVE"),  # documented: the snapshot's seq is inside [pseq, seq]
        (99, 90, "LIVE"),  # old
        (105, 101, "GAP"),
        (105, 0, "GAP"),  # the exchange has restarted
        (5, 0, "GAP"),
    ],
)
def test_the_first_update_after_a_snapshot(pipeline, seq, pseq, state):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(book("update", seq, pseq, [("8000", "1")]), 1, True)
    assert pipeline.books.books[0].state.name == state


def test_a_gap_subscribes_anew_as_it_was_subscribed(pipeline):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(book("update", 9_007_199_254_740_993, 100, [("8000", "1")]), 1, True)
    pipeline.on_message(book("update", 9_007_199_254_740_995, 9_007_199_254_740_993), 1, True)  # trap 13
    assert pipeline.books.books[0].state is BookState.LIVE
    pipeline.on_message(book("update", 9_007_199_254_740_999, 9_007_199_254_740_996), 1, True)
    assert pipeline.books.books[0].state is BookState.GAP
    arg = b'[{"instType":"spot","topic":"books","symbol":"BTCUSDT"}]}'
    assert pipeline.decoder.take_requests() == [
        Resubscribe((b'{"op":"unsubscribe","args":' + arg, b'{"op":"subscribe","args":' + arg), "BTCUSDT")
    ]
    pipeline.on_message(SNAPSHOT, 1, True)
    assert pipeline.books.books[0].state is BookState.LIVE


def test_a_checksum_is_compared_where_there_is_one(pipeline):
    """Trap 7: 0 and missing are none."""
    pipeline.on_message(SNAPSHOT, 1, True)
    right = zlib.crc32(b"76646.9:0.03914:76679.99:2:76000:1:76680:7")
    right = right - 2**32 if right >= 2**31 else right  # signed
    pipeline.on_message(book("update", 101, 100, [("76000", "1")], checksum=right), 1, True)
    pipeline.on_message(book("update", 102, 101, [("76001", "1")], checksum=0), 1, True)
    assert (pipeline.books.verified, pipeline.books.mismatched) == (1, 0)
    pipeline.on_message(book("update", 103, 102, [("76001", "2")], checksum=right), 1, True)
    assert (pipeline.books.verified, pipeline.books.mismatched) == (1, 1)


def test_a_book_without_sides_is_an_error(pipeline):
    pipeline.on_message(v3("books", {"a": [], "ts": str(MS), "seq": 1, "pseq": 0}), 1, True)
    assert pipeline.problems["missing_field"].count == 1


# --- other events ---------------------------------------------------------------------------------


def test_spot_and_perpetual_of_one_name_are_two_instruments():
    """Trap 23."""
    log = decoded("bitget", SNAPSHOT, trades(1))
    assert [event.instrument.raw_symbol for event in log.events] == ["BTCUSDT", "USDT-FUTURES:BTCUSDT"]
    coin = decoded("bitget", v3("ticker", {"lastPrice": "1"}, inst="BTCUSD_CM", kind="coin-futures")).of(Ticker)
    assert (coin[0].instrument.raw_symbol, coin[0].instrument.symbol) == ("COIN-FUTURES:BTCUSD", "BTC-USD-PERP")


def test_events():
    log = decoded("bitget", *SAMPLES[0].messages.values())
    (quote,) = log.quotes
    assert (quote.bid_decimal, quote.ask_price, quote.ask_qty, quote.sequence) == (None, 1.5, 2.0, 9)
    spot, perpetual = log.of(Ticker)
    assert (spot.last_price, spot.open_interest, spot.funding_rate, spot.ts_event) == (76671.22, None, None, NOW)
    assert (perpetual.mark_price, perpetual.index_price, perpetual.open_interest) == (87673.7, 87714.7, 29505.06)
    assert (str(perpetual.funding_rate_decimal), perpetual.next_funding_time) == (
        "0.000005",
        1_790_006_400_000_000_000,
    )
    one, two, three = log.trades
    assert (one.id, one.side, str(one.price_decimal), str(one.qty_decimal)) == (
        "1432912488536195072",
        Side.SELL,
        "76671.22",
        "0.001367",
    )
    assert (two.id, three.id, two.is_backlog) == ("1", "2", False)
    (candle,) = log.of(Candle)
    assert (candle.interval, candle.is_closed, candle.close, candle.volume, candle.quote_volume) == (
        60,
        None,
        8548.2,
        45.2,
        386000.1,
    )
    (liquidation,) = log.of(Liquidation)
    assert (liquidation.side, liquidation.price, liquidation.qty) == (Side.BUY, 87600.1, 0.5)
    assert liquidation.instrument.symbol == "BTC-USDT-PERP"  # and the side was the position's


def test_no_funding_time_is_none():
    (ticker,) = decoded("bitget", v2("ticker", TICKER | {"nextFundingTime": "0"})).of(Ticker)
    assert ticker.next_funding_time in (None, 0)


def test_liquidations_of_instruments_that_are_not_subscribed_are_no_problem():
    log = EventLog()
    decoder = BITGET.new_decoder(Instruments(), log)
    decoder.decode(SAMPLES[0].messages["liquidation"], NOW)
    assert (log.events, decoder.silent) == ([], {"foreign": 1})


def test_a_refusal(pipeline):
    pipeline.on_message(
        b'{"event":"error","arg":{"instType":"SPOT","channel":"x","instId":"BTCUSDT"},"code":30001,"msg":"no x"}',
        1,
        True,
    )
    assert pipeline.decoder.take_requests() == [Refused("code 30001: no x x BTCUSDT")]


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata():
    instruments = Instruments()
    assert BITGET.load_instruments(SPOT_LISTED, instruments) == []
    assert BITGET.load_instruments(LISTED, instruments) == []
    assert [(i.raw_symbol, i.symbol, i.kind, str(i.tick_size)) for i in instruments] == [
        ("BTCUSDT", "BTC-USDT", "spot", "0.01"),
        ("USDT-FUTURES:BTCUSDT", "BTC-USDT-PERP", "perpetual", "0.5"),
        ("USDC-FUTURES:BTCPERP", "BTC-USDC-PERP", "perpetual", "0.5"),
        ("COIN-FUTURES:BTCUSD", "BTC-USD-PERP", "perpetual", "0.5"),
        ("COIN-FUTURES:BTCUSDU26", "BTC-USD-20260925", "future", "0.5"),
    ]


def test_subscriptions():
    instruments = Instruments()
    BITGET.load_instruments(LISTED, instruments)
    plans = BITGET.plan([Subscription("BTC-USD-PERP", ("book", "candle", "liquidation"))], instruments)
    assert [(plan.path, plan.subscribe) for plan in plans] == [
        (
            "/v3/ws/public",
            [
                b'{"op":"subscribe","args":[{"instType":"coin-futures","topic":"books","symbol":"BTCUSD_CM"},'
                b'{"instType":"coin-futures","topic":"liquidation"}]}'
            ],
        ),
        (
            "/v2/ws/public",
            [b'{"op":"subscribe","args":[{"instType":"COIN-FUTURES","channel":"candle1m","instId":"BTCUSD"}]}'],
        ),
    ]
    assert plans[0].heartbeat.message(0) == b"ping"  # trap 11
