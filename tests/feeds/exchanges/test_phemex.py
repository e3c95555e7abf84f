import json
from collections import Counter
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe
from feeds.events import Candle, Side, Ticker
from feeds.exchange import exchange
from feeds.exchanges.phemex import PACK_FIELDS, name_of
from feeds.instrument import Instruments
from feeds.sequencing import NonDecreasingSequence
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded, replayed, tops

PHEMEX = exchange("phemex")


def dump(**message):
    return json.dumps(message, separators=(",", ":")).encode()


def book(kind, sequence, bids=(), asks=(), *, symbol="ETHUSDT", depth=30):
    key = "orderbook_p" if symbol.endswith("USDT") and symbol[0] != "s" else "book"
    levels = {"asks": [list(level) for level in asks], "bids": [list(level) for level in bids]}
    return dump(
        depth=depth, dts=NOW + 9, mts=NOW + 5, **{key: levels}, sequence=sequence, symbol=symbol, timestamp=NOW + 1,
        type=kind,
    )  # fmt: skip


def trades(kind, rows, *, symbol="BTCUSDT", key="trades_p"):
    return dump(sequence=77, symbol=symbol, **{key: rows}, type=kind)


PACK_ROW = ["BTCUSDT", "1", "3", "0.5", "2763.87", "10", "20", "8137.204", "2763.5", "2763.6", "0.0001", "0.00012"]
LISTED = dump(
    code=0,
    data={
        "products": [
            {"symbol": "BTCUSD", "type": "Perpetual", "status": "Listed", "tickSize": 0.5, "lotSize": 1,
             "contractSize": 1.0},
            {"symbol": "cETHUSD", "type": "Perpetual", "status": "Listed", "tickSize": 0.05, "lotSize": 1},
            {"symbol": "XTZUSD", "type": "Perpetual", "status": "Delisted", "tickSize": 0.001, "lotSize": 1},
            {"symbol": "sOLUSDT", "type": "Spot", "status": "Listed", "baseCurrency": "OL", "quoteCurrency": "USDT",
             "quoteTickSize": "0.0001 USDT", "baseTickSize": "0.01 OL"},
            {"symbol": "OTHER", "type": "Else"},
        ],
        "perpProductsV2": [
            {"symbol": "SOLUSDT", "type": "PerpetualV2", "status": "Listed", "tickSize": "0.01", "qtyStepSize": "0.01",
             "contractSize": "1"},
            {"symbol": "u1000PEPEUSDT", "type": "PerpetualV2", "status": "Listed", "tickSize": "0.00001",
             "qtyStepSize": "1"},
        ],
    },
)  # fmt: skip
SAMPLES = [
    Samples(
        "phemex",
        {
            "ack": b'{"error":null,"id":1,"result":{"status":"success"}}',
            "pong": b'{"error":null,"id":0,"result":"pong"}',
            "snapshot": book("snapshot", 68604886383, [("2763.86", "32.22")], [("2763.87", "0.06")]),
            "incremental": book("incremental", 68604886390, [("2763.86", "0")], [("2763.870", "0.5")]),
            "scaled contracts": book("snapshot", 9047872983, [(345475000, 14340)], symbol="BTCUSD"),
            "scaled spot": book("snapshot", 146075184, [(761500000, 6995300000)], symbol="sSUSHIUSDT"),
            "trade backlog": trades(
                "snapshot", [[NOW + 2, "Buy", "16545.6", "0.7"], [NOW + 1, "Sell", "16545.5", "1.5"]]
            ),
            "trade": trades("incremental", [[NOW + 3, "Sell", "16545.6", "0.70"]]),
            "scaled trade": trades("incremental", [[NOW, "Buy", 30090, 100]], symbol="XTZUSD", key="trades"),
            "candle": dump(
                kline_p=[[1790000000, 60, "1", "1.5", "3", "0.5", "2", "10", "20.5"]], sequence=7, symbol="BTCUSDT",
                type="incremental",
            ),
            "scaled candles": dump(
                kline=[[1790000060, 60, 1, 15000, 30000, 5000, 20000, 10, 1], [1790000000, 60, 1, 2, 2, 2, 2, 1, 1]],
                sequence=8, symbol="BTCUSD", type="snapshot",
            ),
            "spot candle": dump(
                kline=[[1790000000, 60, 1, 150000000, 300000000, 50000000, 200000000, 1000000000, 2050000000]],
                sequence=8, symbol="sBTCUSDT", type="incremental",
            ),
            "ticker": dump(
                market24h={"close": 345500000, "fundingRate": 10000, "high": 1, "indexPrice": 345400000, "low": 1,
                           "markPrice": 345450000, "openInterest": 8137204, "predFundingRate": 9, "symbol": "BTCUSD"},
                timestamp=NOW,
            ),
            "spot ticker": dump(spot_market24h={"symbol": "sBTCUSDT", "lastEp": 3455050000000}, timestamp=NOW),
            "tickers": dump(data=[PACK_ROW], method="perp_market24h_pack_p.update", timestamp=NOW, type="snapshot"),
            "tickers with names": dump(
                data=[PACK_ROW[::-1]], fields=PACK_FIELDS[::-1], method="perp_market24h_pack_p.update", timestamp=NOW,
                type="incremental",
            ),
            "tick": dump(tick_p={"last": "1", "symbol": ".MBTCUSDT", "timestamp": NOW}),
        },
        instruments=[
            also(
                also(
                    also(LISTED, "SOLUSDT", {"SOL": "ETH"}, {"SOL": "BTC"}),
                    "sOLUSDT",
                    {"OL": "SUSHI"},
                    {"OL": "BTC"},
                ),
                "BTCUSD",
                {"BTC": "XTZ"},
            )
        ],
        captures=("PHEMEX.ws.1.0", "PHEMEX.ws.2.0"),
    )
]  # fmt: skip


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


def play(pipeline, *messages):
    for one in messages:
        pipeline.on_message(one, NOW, True)
    return pipeline.books.books[0].state.name


def test_golden_values(captures):
    log, replay = replayed(captures, "PHEMEX.ws.1.0")
    (pipeline,) = replay.pipelines
    found = tops(replay)
    assert found["XTZUSD"] == ("3.007 x 55567", "3.009 x 4350", "30/30")  # raw: 30070, 30090
    assert found["sSUSHIUSDT"] == ("7.615 x 69.953", "7.691 x 123.96", "30/30")  # raw: units of 10**-8
    ids = {book.instrument.raw_symbol: book.last_id for book in pipeline.books.books}
    assert (ids["XTZUSD"], ids["sSUSHIUSDT"]) == (4899663546, 146075184)
    assert Counter(delta.is_snapshot for delta in log.deltas) == {True: 13, False: 1324}
    applied = Counter(delta.instrument.raw_symbol for delta in log.deltas if not delta.is_snapshot)
    assert (applied["XTZUSD"], applied["sSUSHIUSDT"], pipeline.books.old) == (392, 8, 0)
    assert Counter(trade.is_backlog for trade in log.trades) == {True: 10_000, False: 25}  # 1000 of each symbol
    assert not [status for status in log.book_statuses if status.new is BookState.CROSSED]


def test_candles_of_the_capture(captures):
    log, replay = replayed(captures, "PHEMEX.ws.2.0")
    candles = log.of(Candle)
    assert len(candles) == 10_041
    first = next(c for c in candles if c.instrument.raw_symbol == "YFIUSD" and c.ts_open == 1625342220 * 10**9)
    assert (first.open, first.close, first.volume, first.interval, first.quote_volume) == (
        32991.5,
        32991.5,
        133,
        60,
        None,
    )
    assert replay.pipelines[0].decoder.silent == {"ack": 10}


# --- books ----------------------------------------------------------------------------------------


def test_both_families_of_books():
    """Traps 13 and 23: ns beyond 2**53, and symbols whose case tells the family."""
    names = ("snapshot", "incremental", "scaled contracts", "scaled spot")
    text, change, contracts, spot = decoded("phemex", *(SAMPLES[0].messages[name] for name in names)).deltas
    assert (text.bids, text.ts_event, text.last_id) == ([(Decimal("2763.86"), Decimal("32.22"))], NOW + 1, 68604886383)
    assert (change.is_snapshot, change.bids, change.asks) == (
        False, [(Decimal("2763.86"), 0)], [(Decimal("2763.87"), Decimal("0.5"))]
    )  # fmt: skip
    assert contracts.bids == [(Decimal("34547.5"), 14340)]
    assert spot.bids == [(Decimal("7.615"), Decimal("69.953"))]


def test_sequence_tells_only_what_is_old(pipeline):
    """Trap 19; every 60 s a snapshot replaces the book."""
    start = book("snapshot", 100, [("10", "1")], [("11", "1")])
    assert (
        play(pipeline, start, book("incremental", 100, [("9", "1")]), book("incremental", 500, [("8", "1")])) == "LIVE"
    )
    (kept,) = pipeline.books.books
    assert [level.price for level in kept.bids()] == [10, 9, 8]
    play(pipeline, book("snapshot", 500, [("5", "1")], [("6", "1")]), book("incremental", 499, [("7", "1")]))
    assert ([level.price for level in kept.bids()], pipeline.books.old, pipeline.books.gaps) == ([5], 1, 0)
    assert PHEMEX.new_sequence is NonDecreasingSequence


def test_a_change_behind_a_newer_one_is_a_gap(pipeline):
    start = book("snapshot", 100, [("10", "1")], [("11", "1")])
    play(pipeline, start, book("incremental", 102, [("9", "1")]))
    assert play(pipeline, book("incremental", 101, [("8", "1")])) == "GAP"
    assert pipeline.decoder.has_requests
    assert play(pipeline, book("snapshot", 103, [("5", "1")], [("6", "1")])) == "LIVE"


@pytest.mark.parametrize(("symbol", "level"), [("ETHUSDT", ["10", "1"]), ("BTCUSD", [100000, 1])])
def test_a_message_of_a_book_that_cannot_be_read_is_a_gap_of_all(pipeline, symbol, level):
    """Its symbol stands at its end, and no later message shows that it is missing."""
    play(pipeline, book("snapshot", 1, [level], symbol=symbol))
    message = book("incremental", 2, [level], symbol=symbol)
    if symbol == "BTCUSD":
        message = dump(book={"asks": [], "bids": [level]}, depth=30, sequence=2, symbol=symbol, type="incremental")
    assert play(pipeline, message[: len(message) * 2 // 3]) == "GAP"
    assert play(pipeline, book("snapshot", 3, [level], symbol=symbol), trades("incremental", [["?"]])) == "LIVE"


@pytest.mark.parametrize(("depth", "count"), [(30, 30), (0, 31)])
def test_levels_beyond_the_depth_leave(pipeline, depth, count):
    """Section 27, 45: where they are removed by messages too, nothing is left to do."""
    bids = [(str(1000 - n), "1") for n in range(30)]
    play(pipeline, book("snapshot", 5, bids, depth=depth), book("incremental", 6, [("1001", "1")], depth=depth))
    assert pipeline.books.books[0].bid_count == count


def test_a_snapshot_is_asked_for_by_subscribing_again(pipeline):
    for symbol, method in (("ETHUSDT", "orderbook_p"), ("BTCUSD", "orderbook"), ("sBTCUSDT", "orderbook")):
        pipeline.decoder.request_snapshot(pipeline.decoder.find(symbol))
        message = b'{"id":0,"method":"%s.subscribe","params":["%s",true]}' % (method.encode(), symbol.encode())
        assert pipeline.decoder.take_requests() == [Resubscribe((message,), symbol)]


# --- other events ---------------------------------------------------------------------------------


def test_trades_and_the_backlog_oldest_first():
    """Trap 17."""
    log = decoded("phemex", *(SAMPLES[0].messages[name] for name in ("trade backlog", "trade", "scaled trade")))
    assert [(t.side, str(t.price_decimal.normalize()), t.qty, t.is_backlog, t.ts_event, t.id) for t in log.trades] == [
        (Side.SELL, "16545.5", 1.5, True, NOW + 1, None),
        (Side.BUY, "16545.6", 0.7, True, NOW + 2, None),
        (Side.SELL, "16545.6", 0.7, False, NOW + 3, None),
        (Side.BUY, "3.009", 100, False, NOW, None),
    ]


def test_tickers_of_three_kinds():
    names = ("ticker", "spot ticker", "tickers", "tickers with names")
    coin, spot, first, second = decoded("phemex", *(SAMPLES[0].messages[name] for name in names)).of(Ticker)
    assert (coin.last_price, coin.mark_price, coin.index_price, coin.open_interest, coin.funding_rate) == (
        34550, 34545, 34540, 8137204, 0.0001
    )  # fmt: skip
    assert (spot.last_price_decimal, spot.mark_price, spot.ts_event) == (Decimal("34550.5"), None, NOW)
    for ticker in (first, second):
        assert (ticker.last_price, ticker.mark_price, ticker.index_price) == (2763.87, 2763.6, 2763.5)
        assert (ticker.open_interest, ticker.funding_rate, ticker.instrument.symbol) == (
            8137.204,
            0.0001,
            "BTC-USDT-PERP",
        )


def test_candles():
    names = ("candle", "scaled candles", "spot candle")
    found = decoded("phemex", *(SAMPLES[0].messages[name] for name in names)).of(Candle)
    assert [c.ts_open // 10**9 - 1790000000 for c in found] == [0, 0, 60, 0]
    for candle, quote_volume in zip((found[0], found[2], found[3]), (20.5, None, 20.5), strict=True):
        assert (candle.open, candle.high, candle.low, candle.close, candle.volume) == (1.5, 3, 0.5, 2, 10)
        assert (candle.quote_volume, candle.interval) == (quote_volume, 60)


def test_refusals(pipeline):
    pipeline.on_message(b'{"error":{"code":6001,"message":"invalid argument"},"id":106,"result":null}', NOW, True)
    assert pipeline.decoder.take_requests() == [Refused("request 106: code 6001: invalid argument")]


# --- symbols and subscribing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw_symbol", "expected"),
    [
        ("sOLUSDT", ("OL-USDT", "spot")),
        ("SOLUSDT", ("SOL-USDT-PERP", "perpetual")),
        ("BTCUSDC", ("BTC-USDC-PERP", "perpetual")),
        ("cETHUSD", ("ETH-USD-PERP", "perpetual")),
        ("u1000PEPEUSDT", ("1000PEPE-USDT-PERP", "perpetual")),
        ("sETHBTC", (None, "unknown")),
        ("USDT", (None, "unknown")),
        ("sUSDT", (None, "unknown")),
    ],
)
def test_symbols_tell_their_family_by_case(raw_symbol, expected):
    assert name_of(raw_symbol) == expected


def test_metadata():
    instruments = Instruments()
    assert PHEMEX.load_instruments(LISTED, instruments) == []
    assert [(i.raw_symbol, i.symbol, str(i.tick_size), str(i.lot_size), i.contract_size) for i in instruments] == [
        ("BTCUSD", "BTC-USD-PERP", "0.5", "1", 1),
        ("cETHUSD", "ETH-USD-PERP", "0.05", "1", None),
        ("sOLUSDT", "OL-USDT", "0.0001", "0.01", None),
        ("SOLUSDT", "SOL-USDT-PERP", "0.01", "0.01", 1),
        ("u1000PEPEUSDT", "1000PEPE-USDT-PERP", "0.00001", "1", None),
    ]


def test_one_symbol_a_message_and_a_ping_every_five_seconds():
    """Trap 11: without pings the connection ends although data flow."""
    instruments = Instruments()
    PHEMEX.load_instruments(LISTED, instruments)
    channels = ("book", "trade", "ticker", "candle")
    names = ("SOL-USDT-PERP", "BTC-USD-PERP", "OL-USDT")
    (plan,) = PHEMEX.plan([Subscription(name, channels) for name in names], instruments)
    sent = [(m["id"], m["method"].removesuffix(".subscribe"), m["params"]) for m in map(json.loads, plan.subscribe)]
    assert sent == [
        (1, "orderbook_p", ["SOLUSDT", True]),
        (2, "trade_p", ["SOLUSDT"]),
        (3, "perp_market24h_pack_p", []),
        (4, "kline_p", ["SOLUSDT", 60]),
        (5, "orderbook", ["BTCUSD", True]),
        (6, "trade", ["BTCUSD"]),
        (7, "market24h", []),
        (8, "kline", ["BTCUSD", 60]),
        (9, "orderbook", ["sOLUSDT", True]),
        (10, "trade", ["sOLUSDT"]),
        (11, "spot_market24h", []),
        (12, "kline", ["sOLUSDT", 60]),
    ]
    assert (plan.path, plan.heartbeat.interval) == ("", 5.0)
