import gzip
import json
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe
from feeds.events import Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded, replayed, tops

GEMINI = exchange("gemini")
THEN = iso_ns("2021-06-24T00:14:26Z")
V2 = "wss://api.gemini.com/v2/marketdata/"


def book(begin, end, bids=(), asks=(), symbol="btcusd"):
    levels = {"b": [list(level) for level in bids], "a": [list(level) for level in asks]}
    return json.dumps({"e": "depthUpdate", "E": NOW, "s": symbol, "U": begin, "u": end, **levels}).encode()


def listing(*names):
    """The details of symbols: (symbol, base, quote)."""
    fields = '"tick_size":1E-8,"quote_increment":0.01,"min_order_size":"0.00001","status":"open"'
    entries = [f'{{"symbol":"{s}","base_currency":"{b}","quote_currency":"{q}",{fields}}}' for s, b, q in names]
    return f"[{','.join(entries)}]".encode()


ACK = b'{"id":"1","status":200}'
TRADE = b'{"E":1783981140085684200,"s":"btcrlusd","t":2840141014190422,"p":"62145.38000","q":"0.0162522200","m":true}'
QUOTE = (
    b'{"u":1764549594389752,"E":1783981140085684200,"s":"xrpgusd","b":"1.0614900","B":"958.69","a":"1.0615000",'
    b'"A":"38.39","c":"1.0612500","C":"4.71"}'
)
TOP = b'{"lastUpdateId":1764549594389752,"symbol":"trumpgusdperp","bids":[["2.1","3"]],"asks":[["2.2","4"]]}'
MARK = b'{"e":"markPrice","E":1789456746446652397,"s":"btcgusdperp","p":"77303.727","i":"7725880.833"}'
FUNDING = b'{"e":"fundingAmount","E":1789459200000000000,"s":"btcgusdperp","T":1789459200000000000,"i":60,"f":"7.9"}'
START = book(100, 100, [("5.00", "1"), ("4.00", "2")], [("6.00", "1")])
LISTED = listing(("BTCUSD", "BTC", "USD"), ("BTCGUSD", "BTC", "GUSD"), ("BTCGUSDPERP", "BTC", "GUSD"))
V2_TRADE = (
    '{"type":"trade","symbol":"ANKRUSD","event_id":%d,"timestamp":1624493670759,"price":"0.07946",'
    '"quantity":"1020.482111","side":"%s"}'
)
V2_START = (
    '{"type":"l2_updates","symbol":"ANKRUSD","changes":[["buy","0.07945","10"],["sell","0.07947","5"]],'
    f'"trades":[{V2_TRADE % (8, "sell")},{V2_TRADE % (7, "block")}],"auction_events":[]}}'
).encode()
SAMPLES = [
    Samples(
        "gemini",
        {
            "snapshot": START,  # comes before the confirmation
            "ack": ACK,
            "delta": book(100, 105, [("5.00", "0.00000000")], [("6.50", "2")]),
            "trade": TRADE,
            "quote": QUOTE,
            "quote without prices": b'{"u":1764549594389753,"E":1783981140085684200,"s":"xrpgusd"}',
            "top": TOP,
            "mark": MARK,
            "funding": FUNDING,
        },
        instruments=[also(also(LISTED, "BTCGUSD", {"GUSD": "RLUSD"}, {"BTC": "XRP"}), "BTCGUSDPERP", {"BTC": "TRUMP"})],
    ),
    Samples(
        "gemini",
        {
            "snapshot": V2_START,
            "changes": b'{"type":"l2_updates","symbol":"ANKRUSD","changes":[["buy","0.07945","0"],["buy","0.07","3"]]}',
            "trade": (V2_TRADE % (9, "buy")).encode(),
            "heartbeat": b'{"type":"heartbeat","timestamp":1624493666869}',
            "auction": b'{"type":"auction_open","symbol":"ANKRUSD","auction_open_ms":1486591200000}',
        },
        captures=("GEMINI.ws.1.0",),
        url=V2,
        ts=THEN,
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


def play(pipeline, *messages):
    for message in messages:
        pipeline.on_message(message, NOW, True)
    return pipeline.books.books[0].state.name


# --- the capture, which is of v2 ------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "GEMINI.ws.1.0")
    assert tops(replay)["filusd"] == ("58.6448 x 56", "58.7256 x 56", "179/474")
    assert (sum(delta.is_snapshot for delta in log.deltas), len(log.deltas)) == (10, 655)
    assert sum(delta.instrument.raw_symbol == "filusd" and not delta.is_snapshot for delta in log.deltas) == 167
    live = [trade for trade in log.trades if not trade.is_backlog]
    assert (len(live), len(log.trades)) == (16, 516)
    bought = [trade for trade in live if trade.instrument.raw_symbol == "filusd"]
    assert (len(bought), {trade.side for trade in bought}) == (12, {Side.BUY})
    assert sum((trade.qty_decimal for trade in bought), Decimal(0)) == Decimal("619.023994")
    assert replay.pipelines[0].decoder.silent == {"heartbeat": 7}


def test_metadata_of_2021(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "GEMINI.0.gz", "rb") as file:
        replies = [line.partition(b": ")[2].strip() for line in file if b"/symbols/details/" in line]
    for reply in replies:
        assert GEMINI.load_instruments(reply, instruments) == []
    assert len(instruments) == len(replies) == 71
    found = instruments.resolve("gemini", "BTC-GUSD")
    assert (found.raw_symbol, found.kind, found.tick_size, found.lot_size) == (
        "btcgusd", "spot", Decimal("0.01"), Decimal("1E-8")
    )  # fmt: skip


def test_trades_of_a_v2_snapshot_are_a_backlog_oldest_first():
    """Trap 17."""
    log = decoded("gemini", *SAMPLES[1].messages.values(), url=V2)
    assert [(trade.id, trade.side, trade.is_backlog) for trade in log.trades] == [
        ("7", Side.UNKNOWN, True),  # a block trade
        ("8", Side.SELL, True),
        ("9", Side.BUY, False),
    ]


def test_a_v2_snapshot_replaces_the_book(log):
    pipeline = SAMPLES[1].pipeline(log)
    again = b'{"type":"l2_updates","symbol":"ANKRUSD","changes":[["buy","0.05","1"]],"auction_events":[]}'
    assert play(pipeline, *SAMPLES[1].messages.values(), again) == "LIVE"
    assert [level.price for level in pipeline.books.books[0].bids()] == [0.05]
    assert pipeline.books.books[0].asks() == []


@pytest.mark.parametrize(
    ("url", "ts", "is_v2"),
    [
        (V2, NOW, True),
        ("wss://api.gemini.com/v2/marketdata", THEN, True),
        ("wss://ws.gemini.com/?snapshot=-1", THEN, False),
        ("", THEN, True),
        ("", NOW, False),
    ],
)
def test_which_version_was_spoken(url, ts, is_v2):
    assert (GEMINI.spoken(url, ts) is not GEMINI) is is_v2


# --- books ----------------------------------------------------------------------------------------


def test_a_delta_begins_where_the_one_before_ended_and_not_one_above(pipeline):
    """Trap 2."""
    assert play(pipeline, START, book(100, 105, [("4.50", "1")]), book(105, 110, [("4.60", "1")])) == "LIVE"
    assert [level.price for level in pipeline.books.books[0].bids()] == [5.0, 4.6, 4.5, 4.0]
    assert play(pipeline, book(111, 120)) == "GAP"


def test_what_is_stale_is_dropped_and_what_overlaps_applied(pipeline):
    stale, overlapping = book(90, 100, [("1.00", "1")]), book(95, 105, [("4.50", "1")])
    assert play(pipeline, START, stale, overlapping) == "LIVE"
    assert [level.price for level in pipeline.books.books[0].bids()] == [5.0, 4.5, 4.0]
    assert pipeline.books.old == 1


def test_a_gap_subscribes_anew_and_the_next_first_message_is_the_snapshot(pipeline):
    """Trap 20: it has no mark."""
    assert play(pipeline, START, book(101, 110)) == "GAP"
    assert pipeline.decoder.take_requests() == [
        Resubscribe(
            (
                b'{"id":"btcusd","method":"UNSUBSCRIBE","params":["btcusd@depth@100ms"]}',
                b'{"id":"btcusd","method":"SUBSCRIBE","params":["btcusd@depth@100ms"]}',
            ),
            "btcusd",
        )
    ]
    assert play(pipeline, book(110, 115, [("4.50", "1")])) == "GAP"  # was on its way
    assert play(pipeline, book(120, 120, [("3.00", "1")]), book(120, 121, [("2.00", "1")])) == "LIVE"
    assert [level.price for level in pipeline.books.books[0].bids()] == [3.0, 2.0]


@pytest.mark.parametrize("field", [b'"U"', b'"u"'])
def test_a_change_without_its_ids_is_no_change(pipeline, field):
    bad = book(100, 105, [("4.50", "1")]).replace(field, b'"simulated"')
    assert play(pipeline, START, bad) == "LIVE"
    assert pipeline.problems["missing_field"].count == 1
    assert [level.price for level in pipeline.books.books[0].bids()] == [5.0, 4.0]
    assert play(pipeline, book(105, 110)) == "GAP"


def test_without_a_snapshot_one_is_asked_for(pipeline):
    assert play(pipeline, book(90, 100, [("5.00", "1")])) == "SYNCING"
    (request,) = pipeline.decoder.take_requests()
    assert request.tag == "btcusd"
    assert play(pipeline, book(100, 100, [("5.00", "1")])) == "LIVE"


def test_a_message_that_begins_where_it_ends_is_no_snapshot_in_mid_stream(pipeline):
    assert play(pipeline, START, book(100, 100)) == "LIVE"
    assert len(pipeline.books.books[0].bids()) == 2


@pytest.mark.parametrize("side", [{"bids": [("5.00", "1")]}, {"asks": [("6.00", "1")]}, {}])
def test_a_snapshot_may_have_one_side_or_none(pipeline, side):
    assert play(pipeline, book(100, 100, **side)) == "LIVE"


def test_two_symbols_have_snapshots_of_their_own(pipeline):
    play(pipeline, START, book(200, 200, [("7.00", "1")], symbol="ethusd"), book(201, 202, symbol="ethusd"))
    assert [kept.state for kept in pipeline.books.books] == [BookState.LIVE, BookState.GAP]


# --- other events ---------------------------------------------------------------------------------


def test_numbers_above_2_to_the_53_are_exact():
    """Trap 13."""
    log = decoded("gemini", TRADE, QUOTE)
    (trade,) = log.trades
    assert (trade.id, trade.ts_event) == ("2840141014190422", 1_783_981_140_085_684_200)
    assert (str(trade.price_decimal.normalize()), str(trade.qty_decimal.normalize())) == ("62145.38", "0.01625222")
    (quote,) = log.quotes
    assert (quote.sequence, quote.ts_event) == (1_764_549_594_389_752, 1_783_981_140_085_684_200)
    assert (quote.bid_price, quote.bid_qty, quote.ask_price, quote.ask_qty) == (1.06149, 958.69, 1.0615, 38.39)


def test_the_buyer_as_maker_means_that_the_taker_sold():
    log = decoded("gemini", TRADE, TRADE.replace(b"true", b"false"))
    assert [trade.side for trade in log.trades] == [Side.SELL, Side.BUY]


def test_one_side_of_a_quote_may_be_missing():
    (quote,) = decoded("gemini", b'{"u":5,"E":1783981140085684200,"s":"xrpgusd","a":"1.5","A":"2"}').quotes
    assert (quote.bid_price, quote.bid_qty, quote.ask_price, quote.ask_qty) == (None, None, 1.5, 2)


def test_tops_marks_and_what_tells_nothing(pipeline, log):
    for message in (TOP, MARK, FUNDING, SAMPLES[0].messages["quote without prices"], ACK):
        pipeline.on_message(message, NOW, True)
    (top,) = log.deltas
    assert (top.depth, top.is_snapshot, top.instrument.raw_symbol) == (20, True, "trumpgusdperp")
    (ticker,) = log.of(Ticker)
    assert (ticker.mark_price, ticker.index_price) == (77303.727, None)  # the index is scaled wrongly
    assert pipeline.decoder.silent == {"fundingAmount": 1, "no quote": 1, "ack": 1}


def test_refusals(pipeline):
    refusal = b'{"id":4,"status":400,"error":{"code":-1013,"msg":"Invalid stream name: nosuch@trade"}}'
    pipeline.on_message(refusal, NOW, True)
    assert pipeline.decoder.take_requests() == [Refused("code -1013: Invalid stream name: nosuch@trade")]


# --- subscribing ----------------------------------------------------------------------------------


def test_subscribing_asks_for_snapshots_of_whole_books():
    instruments = Instruments()
    assert GEMINI.load_instruments(LISTED, instruments) == []
    assert [(i.raw_symbol, i.symbol) for i in instruments] == [
        ("btcusd", "BTC-USD"),
        ("btcgusd", "BTC-GUSD"),
        ("btcgusdperp", "BTC-GUSD-PERP"),
    ]
    (plan,) = GEMINI.plan([Subscription("BTC-GUSD-PERP", ("book", "quote", "trade", "ticker"))], instruments)
    assert plan.path == "/?snapshot=-1"
    assert plan.subscribe == [
        b'{"id":"1","method":"SUBSCRIBE","params":["btcgusdperp@depth@100ms","btcgusdperp@bookTicker",'
        b'"btcgusdperp@trade","btcgusdperp@markPrice"]}'
    ]
