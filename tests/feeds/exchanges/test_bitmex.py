import gzip
import json
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe
from feeds.events import Candle, Funding, Liquidation, Side, Ticker
from feeds.exchange import exchange
from feeds.exchanges.bitmex import BitmexDecoder
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import Samples, decoded, replayed, tops

BITMEX = exchange("bitmex")
TIME = "2026-09-22T22:36:10.014Z"


def on(table, action, *rows, symbol=None, filtered="XBTUSD"):
    """Rows of XBTUSD as a table message; a partial says what it is filtered by."""
    data = [{"symbol": symbol or "XBTUSD", **row} for row in rows]
    message = {"table": table, "action": action}
    if action == "partial":
        message |= {"keys": [], "filter": {"symbol": filtered} if filtered else {}}
    return json.dumps(message | {"data": data}).encode()


def level(number, side="Buy", **fields):
    return {"id": number, "side": side, **fields}


def book(action, *rows, **options):
    return on("orderBookL2", action, *rows, **options)


TRADE = {"timestamp": TIME, "side": "Buy", "size": 52, "price": 61000.5, "trdMatchID": "39744121", "trdType": "Regular"}
QUOTE = {"timestamp": TIME, "bidSize": 15, "bidPrice": 61000.5, "askPrice": 61001.0, "askSize": 1703}
TOP = {"bids": [[61000.5, 100]], "asks": [[61001, 3]], "timestamp": TIME}
BIN = {"timestamp": "2026-09-22T22:36:00.000Z", "open": 5, "high": 7, "low": 4, "close": 6.5, "volume": 100}
ORDER = {"orderID": "a1", "side": "Sell", "price": 60900, "leavesQty": 100}
INSTRUMENT = {
    "markPrice": 61000.7,
    "indicativeSettlePrice": 61000.9,
    "fundingRate": 0.0001,
    "fundingTimestamp": "2026-09-23T04:00:00.000Z",
    "openInterest": 512000,
    "lastPrice": 61000.5,
    "timestamp": TIME,
}
PARTIAL = book("partial", level(1, size=100, price=61000.5), level(2, "Sell", size=30, price=61001))


def entry(symbol, typ, underlying, quote, **fields):
    known = {"symbol": symbol, "typ": typ, "underlying": underlying, "quoteCurrency": quote, "tickSize": 0.5}
    return known | {"lotSize": 100, "state": "Open"} | fields


LISTED = json.dumps(
    [
        entry("XBTUSD", "FFWCSX", "XBT", "USD", isInverse=True),
        entry("XBTUSDT", "FFWCSX", "XBT", "USDT", underlyingToPositionMultiplier=1_000_000),
        entry("XBTZ26", "FFCCSX", "XBT", "USD", expiry="2026-12-25T12:00:00.000Z", isInverse=True),
        entry("ETHUSD", "FFWCSX", "ETH", "USD"),
        entry("ETHUSD_ETH", "FFWCSX", "ETH", "USD", isInverse=True),
        entry("XBT_USDT", "IFXXXP", "XBT", "USDT", tickSize=1e-1),
    ]
).encode()
SAMPLES = [
    Samples(
        "bitmex",
        {
            "welcome": b'{"info":"Welcome to the BitMEX Realtime API.","limit":{"remaining":39}}',
            "ack": b'{"success":true,"subscribe":"orderBookL2:XBTUSD","request":{"op":"subscribe"}}',
            "pong": b"pong",
            "partial": PARTIAL,
            "insert": book("insert", level(3, size=7, price=61000, timestamp=TIME)),
            "update": book("update", level(1, size=99)),
            "delete": book("delete", level(2, "Sell")),
            "top": on("orderBook10", "partial", TOP, symbol="ETHUSD", filtered="ETHUSD"),
            "trade backlog": on("trade", "partial", TRADE),
            "trade": on("trade", "insert", TRADE, TRADE),
            "quotes": on("quote", "partial", QUOTE),
            "quote": on("quote", "insert", QUOTE | {"askPrice": None, "askSize": None}),
            "instrument": on("instrument", "partial", INSTRUMENT),
            "part of an instrument": on("instrument", "update", {"markPrice": 61000.8, "timestamp": TIME}),
            "nothing of an instrument": on("instrument", "update", {"volume": 5, "timestamp": TIME}),
            "funding": on("funding", "partial", {"timestamp": TIME, "fundingRate": 0.0001}),
            "liquidations": on("liquidation", "partial"),
            "liquidation": on("liquidation", "insert", ORDER),
            "liquidation over": on("liquidation", "delete", {"orderID": "a1"}),
            "candle": on("tradeBin1m", "partial", BIN),
        },
        instruments=[LISTED],
        captures=("BITMEX.ws.1.0",),
    )
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


def levels(pipeline):
    (kept,) = pipeline.books.books
    return [[(str(p.normalize()), str(q)) for p, q in kept.exact(side)] for side in (0, 1)]


# --- captures -------------------------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "BITMEX.ws.1.0")
    found = tops(replay)
    assert found["XBTUSD"] == ("32186.5 x 1407700", "32187 x 36000", "5557/3795")
    assert found["TRXU21"] == ("0.0000016425 x 14700", "0.0000016477 x 700", "94/49")
    rows = {
        symbol: sum(
            len(delta.bids) + len(delta.asks)
            for delta in log.deltas
            if delta.instrument.raw_symbol == symbol and not delta.is_snapshot
        )
        for symbol in ("XBTUSD", "TRXU21")
    }
    assert rows == {"XBTUSD": 1712, "TRXU21": 2}
    assert len(log.deltas) == 10 + 1969
    (pipeline,) = replay.pipelines
    assert set(pipeline.decoder.silent) == {"welcome", "ack"}


def test_trades_of_the_capture(captures):
    log, _ = replayed(captures, "BITMEX.ws.1.0")
    bitcoin = [t for t in log.trades if t.instrument.raw_symbol == "XBTUSD" and not t.is_backlog]
    volume = {
        side: sum((t.qty_decimal for t in bitcoin if t.side is side), Decimal(0)) for side in (Side.BUY, Side.SELL)
    }
    assert (len(bitcoin), volume) == (15, {Side.BUY: 37900, Side.SELL: 0})
    assert sum(trade.is_backlog for trade in log.trades) == 10


def test_the_last_quotes_of_the_capture_are_the_tops_of_the_books(captures):
    """Nine of ten: the tenth book changed after its last quote."""
    log, replay = replayed(captures, "BITMEX.ws.1.0")
    last = {quote.instrument.raw_symbol: (quote.bid_decimal, quote.ask_decimal) for quote in log.quotes}
    (pipeline,) = replay.pipelines
    books = {book.instrument.raw_symbol: (book.exact(0)[0], book.exact(1)[0]) for book in pipeline.books.books}
    assert len(last) == len(books) == 10
    assert len([symbol for symbol, top in books.items() if top == last[symbol]]) == 9


def test_metadata_of_2021(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "BITMEX.0.gz", "rb") as file:
        (reply,) = [line.partition(b": ")[2] for line in file if line.startswith(b"https")]
    assert BITMEX.load_instruments(reply, instruments) == []
    names = {one.raw_symbol: one.symbol for one in instruments}
    assert (names["XBTUSD"], names["XRPU21"], names["UNIUSDT"]) == ("BTC-USD-PERP", "XRP-BTC-20210924", "UNI-USDT-PERP")


# --- books ----------------------------------------------------------------------------------------


def test_a_level_is_known_by_its_id(pipeline):
    """Disagreement 34: without a price, and with one."""
    pipeline.on_message(PARTIAL, 1, True)
    pipeline.on_message(book("update", level(1, size=99), level(2, "Sell", size=31, price=61001)), 1, True)
    assert levels(pipeline) == [[("61000.5", "99")], [("61001", "31")]]
    pipeline.on_message(book("delete", level(1), level(2, "Sell", price=61001)), 1, True)
    assert levels(pipeline) == [[], []]


def test_a_level_whose_price_changes_moves(pipeline):
    pipeline.on_message(PARTIAL, 1, True)
    pipeline.on_message(book("update", level(1, size=99, price=60999.5)), 1, True)
    pipeline.on_message(book("update", level(2, "Sell", price=61001)), 1, True)  # says nothing new
    assert levels(pipeline) == [[("60999.5", "99")], [("61001", "30")]]


def test_a_change_of_an_unknown_id_is_ignored(pipeline):
    pipeline.on_message(PARTIAL, 1, True)
    pipeline.on_message(book("update", level(9, size=1, price=5)), 1, True)
    pipeline.on_message(book("delete", level(1, "Sell")), 1, True)
    assert levels(pipeline) == [[("61000.5", "100")], [("61001", "30")]]
    assert pipeline.decoder.silent == {"unknown id": 2}


@pytest.mark.parametrize("row", [level(3, size=1), level(3, price=1), level(3, price=None, size=1)])
def test_a_new_level_needs_price_and_size(pipeline, row):
    pipeline.on_message(PARTIAL, 1, True)
    pipeline.on_message(book("insert", row), 1, True)
    assert pipeline.problems["missing_field"].count == 1


def test_messages_before_the_partial_are_dropped(pipeline, log):
    pipeline.on_message(book("insert", level(9, size=1, price=70000)), 1, True)
    pipeline.on_message(on("trade", "insert", TRADE), 1, True)
    assert (log.events, pipeline.decoder.silent) == ([], {"early": 2})
    pipeline.on_message(PARTIAL, 1, True)
    assert levels(pipeline) == [[("61000.5", "100")], [("61001", "30")]]


def test_an_empty_partial_empties_the_book(pipeline):
    pipeline.on_message(PARTIAL, 1, True)
    pipeline.on_message(book("partial"), 1, True)
    assert levels(pipeline) == [[], []]
    assert pipeline.books.books[0].state is BookState.LIVE
    pipeline.on_message(book("update", level(1, size=5)), 1, True)
    assert levels(pipeline) == [[], []]


def test_a_partial_of_all_symbols_mixes_them(pipeline):
    mixed = json.loads(book("partial", level(1, size=100, price=5), level(2, size=7, price=6), filtered=None))
    mixed["data"][1]["symbol"] = "ETHUSD"
    pipeline.on_message(json.dumps(mixed).encode(), 1, True)
    pipeline.on_message(book("update", level(2, size=8), symbol="ETHUSD"), 1, True)
    assert [book.best_bid for book in pipeline.books.books] == [(5.0, 100.0), (6.0, 8.0)]


def test_a_second_book_table_does_not_disturb_the_first(pipeline):
    pipeline.on_message(PARTIAL, 1, True)
    pipeline.on_message(on("orderBookL2_25", "partial", level(1, size=1, price=5)), 1, True)
    assert levels(pipeline) == [[("61000.5", "100")], [("61001", "30")]]


def test_the_levels_that_are_known_are_bounded(pipeline, monkeypatch):
    monkeypatch.setattr(BitmexDecoder, "max_levels", 2)
    pipeline.on_message(PARTIAL, 1, True)
    pipeline.on_message(book("insert", level(3, size=1, price=1)), 1, True)
    assert pipeline.problems["too_many_levels"].count == 1


def test_a_snapshot_is_had_by_subscribing_anew(pipeline):
    pipeline.on_message(PARTIAL, 1, True)
    pipeline.decoder.request_snapshot(pipeline.books.books[0].instrument)
    assert pipeline.decoder.take_requests() == [
        Resubscribe(
            (
                b'{"op":"unsubscribe","args":["orderBookL2:XBTUSD"]}',
                b'{"op":"subscribe","args":["orderBookL2:XBTUSD"]}',
            ),
            "XBTUSD",
        )
    ]


# --- other events ---------------------------------------------------------------------------------


def test_the_last_trade_is_repeated_as_backlog():
    log = decoded("bitmex", *(SAMPLES[0].messages[name] for name in ("trade backlog", "trade")))
    assert [(trade.is_backlog, trade.side, trade.qty) for trade in log.trades] == [
        (True, Side.BUY, 52.0),
        (False, Side.BUY, 52.0),
        (False, Side.BUY, 52.0),
    ]


def test_special_trades():
    zeros = "00000000-0000-0000-0000-000000000000"
    log = decoded(
        "bitmex",
        on("trade", "partial"),
        on("trade", "insert", TRADE | {"trdMatchID": zeros, "side": None}, TRADE | {"size": None}),
    )
    assert [(trade.id, trade.side) for trade in log.trades] == [(None, Side.UNKNOWN)]


def test_parts_of_an_instrument_are_merged():
    """Trap 16; null is none, and funding is due at its time."""
    log = decoded(
        "bitmex",
        on("instrument", "partial", INSTRUMENT),
        on("instrument", "update", {"markPrice": 61000.8, "timestamp": TIME}),
        on("instrument", "update", {"fundingRate": None, "fundingTimestamp": None, "timestamp": TIME}),
        on("instrument", "update", {"volume": 5, "timestamp": TIME}),
    )
    due = iso_ns("2026-09-23T04:00:00Z")
    assert [
        (one.mark_price, one.index_price, one.open_interest, one.funding_rate, one.next_funding_time)
        for one in log.of(Ticker)
    ] == [
        (61000.7, 61000.9, 512000, 0.0001, due),
        (61000.8, 61000.9, 512000, 0.0001, due),
        (61000.8, 61000.9, 512000, None, 0),
    ]


def test_quotes_funding_liquidations_and_candles():
    log = decoded("bitmex", *SAMPLES[0].messages.values())
    assert [quote.ask_decimal for quote in log.quotes] == [(Decimal(61001), Decimal(1703)), None]
    assert [(one.funding_rate, one.next_funding_time) for one in log.of(Funding)] == [(0.0001, iso_ns(TIME))]
    assert [(one.id, one.side, one.price, one.qty) for one in log.of(Liquidation)] == [("a1", Side.SELL, 60900, 100)]
    (candle,) = log.of(Candle)
    assert (candle.ts_open, candle.close, candle.is_closed) == (iso_ns("2026-09-22T22:35:00Z"), 6.5, True)


def test_exponents_are_numbers():
    """Trap 14."""
    log = decoded("bitmex", on("quote", "partial", QUOTE | {"bidPrice": 1e-7, "askPrice": 2e-7}))
    assert log.quotes[0].bid_decimal == (Decimal("0.0000001"), Decimal(15))


def test_a_refusal(pipeline):
    pipeline.on_message(b'{"status":400,"error":"Unknown table: x","meta":{},"request":{}}', 1, True)
    assert pipeline.decoder.take_requests() == [Refused("Unknown table: x")]


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata():
    instruments = Instruments()
    assert BITMEX.load_instruments(LISTED, instruments) == []
    assert [(one.symbol, one.kind, one.contract_size) for one in instruments] == [
        ("BTC-USD-PERP", "perpetual", 1),
        ("BTC-USDT-PERP", "perpetual", Decimal("0.000001")),
        ("BTC-USD-20261225", "future", 1),
        ("ETH-USD-PERP", "perpetual", None),
        ("ETH-USD-PERP-ETH", "perpetual", 1),
        ("BTC-USDT", "spot", None),
    ]


def test_topics_and_ping():
    instruments = Instruments()
    BITMEX.load_instruments(LISTED, instruments)
    (plan,) = BITMEX.plan([Subscription("XBTUSD", ("book", "trade", "quote"))], instruments)
    assert (plan.path, plan.subscribe) == (
        "/realtime",
        [b'{"op":"subscribe","args":["orderBookL2:XBTUSD","trade:XBTUSD","quote:XBTUSD"]}'],
    )
    assert plan.heartbeat.message(0) == b"ping"
