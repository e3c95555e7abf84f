import json
import re
import zlib
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe
from feeds.events import Candle, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.recording import open_recording
from feeds.subscription import Subscription
from feeds.testing import EventLog
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded, replayed, tops

KRAKEN = exchange("kraken")
V1 = "wss://ws.kraken.com"
THEN = iso_ns("2021-04-17T16:48:52Z")
TIME = "2026-09-21T17:35:55.440295Z"

# The example of the documentation, with the checksums of it and of the update.
BIDS = (
    "0.5666,4831.75496356 0.5665,6658.22734739 0.5664,18724.91513344 0.5663,11563.92544914 0.5662,14006.65365711 "
    "0.5661,17454.85679807 0.566,18097.1547 0.5659,33644.89175666 0.5658,148.3464 0.5657,606.70854372"
)
ASKS = (
    "0.5668,4410.79769741 0.5669,4655.40412487 0.567,49844.89424998 0.5671,24306.41678 0.5672,29783.25223475 "
    "0.5673,57234.71239278 0.5674,45065.04744 0.5675,5912.76380354 0.5676,42514.92434778 0.5677,36304.0847022"
)


def levels(text):
    pairs = (level.split(",") for level in text.split())
    return "[" + ",".join(f'{{"price":{price},"qty":{qty}}}' for price, qty in pairs) + "]"


def book(kind, bids="", asks="", checksum=0, symbol="MATIC/USD"):
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":{levels(bids)},"asks":{levels(asks)},'
        f'"checksum":{checksum},"timestamp":"{TIME}"}}]}}'
    ).encode()


SNAPSHOT = book("snapshot", BIDS, ASKS, 2439117997)
UPDATE = book("update", "0.5657,1098.3947558", "", 2114181697)
LISTED = json.dumps(
    {
        "error": [],
        "result": {
            "XXBTZUSD": {"wsname": "XBT/USD", "pair_decimals": 1, "lot_decimals": 8, "tick_size": "0.1"},
            "MATICUSD": {"wsname": "MATIC/USD", "pair_decimals": 4, "lot_decimals": 8},
            "XXBTZUSD.d": {"pair_decimals": 1, "lot_decimals": 8},
            "AAPLxUSD": {"wsname": "AAPLx/USD", "pair_decimals": 2, "lot_decimals": 8, "tick_size": "0.01"},
        },
    }
).encode()
SAMPLES = [
    Samples(
        "kraken",
        {
            "status": b'{"channel":"status","type":"update","data":[{"system":"online","version":"2.0.10"}]}',
            "ack": b'{"method":"subscribe","result":{"channel":"book","symbol":"MATIC/USD","depth":10},"success":true}',
            "heartbeat": b'{"channel":"heartbeat"}',
            "pong": b'{"method":"pong","req_id":42}',
            "snapshot": SNAPSHOT,
            "update": UPDATE,
            "trades": (
                '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":105944.20,'
                f'"qty":0.00027625,"ord_type":"limit","trade_id":10218208,"timestamp":"{TIME}"}}]}}'
            ).encode(),
            "trade backlog": (
                '{"channel":"trade","type":"snapshot","data":[{"symbol":"BTC/USD","side":"sell","price":105944.1,'
                f'"qty":1e-5,"ord_type":"limit","trade_id":10218207,"timestamp":"{TIME}"}}]}}'
            ).encode(),
            "ticker": (
                '{"channel":"ticker","type":"update","data":[{"symbol":"ALGO/USD","bid":0.10025,"bid_qty":740.0,"ask":0,'
                f'"ask_qty":0.0,"last":0.10035,"timestamp":"{TIME}"}}]}}'
            ).encode(),
            "ticker of a pair never traded": (
                b'{"channel":"ticker","type":"snapshot","data":[{"symbol":"NEW/USD","bid":0.0,"bid_qty":0.0,"ask":0.0,'
                b'"ask_qty":0.0,"last":0.0,"timestamp":"1970-01-01T00:00:00.000000Z"}]}'
            ),
            "candle": (
                b'{"channel":"ohlc","type":"update","data":[{"symbol":"ALGO/USD","open":0.1,"high":0.11,"low":0.09,"close":0.1,'
                b'"trades":6,"volume":138.5,"vwap":0.1,"interval_begin":"2026-09-21T16:25:00.000000000Z","interval":5}]}'
            ),
        },
        instruments=[also(LISTED, "MATIC/USD", {"MATIC": "ALGO"}, {"MATIC": "NEW"})],
    ),
    Samples(
        "kraken",
        {
            "status": b'{"connectionID":18239578009413566319,"event":"systemStatus","status":"online"}',
            "ack": b'{"channelID":1,"channelName":"book-10","event":"subscriptionStatus","status":"subscribed"}',
            "heartbeat": b'{"event":"heartbeat"}',
            "snapshot": (
                b'[1,{"as":[["0.05005","0.00000500","1618678133.365913"]],"bs":[["0.05000","0.00000500","1618678133.3"]]},'
                b'"book-10","XBT/USD"]'
            ),
            # Two objects, of which the last has the checksum.
            "update": b'[1,{"a":[["0.05005","0.00000500","1618678134.365913","r"]]},{"b":[["0.04900","1.00000000",'
            b'"1618678134.365914"]],"c":"%d"},"book-10","XBT/USD"]' % zlib.crc32(b"500550050005004900100000000"),
            "trade": b'[0,[["5541.20000","0.15850568","1618678142.557535","s","l",""]],"trade","XBT/USD"]',
            "ticker": b'[0,{"a":["5525.40000",1,"1.000"],"b":["5525.10000",1,"1.000"],"c":["5525.10000","0.00398963"]},'
            b'"ticker","XBT/USD"]',
            "spread": b'[0,["5698.40000","5700.00000","1618678142.557535","1.01234567","0.98765432"],"spread",'
            b'"XBT/USD"]',
            "candle": b'[42,["1618678142.557535","1618678200.000000","3586.7","3586.7","3586.6","3586.6","3586.6",'
            b'"0.03",2],"ohlc-5","XBT/USD"]',
        },
        captures=("KRAKEN.ws.48.0", "KRAKEN.ws.49.0", "KRAKEN.ws.50.0"),
        url=V1,
        ts=THEN,
    ),
]


@pytest.fixture
def listed():
    instruments = Instruments()
    assert KRAKEN.load_instruments(LISTED, instruments) == []
    return instruments


# --- captures -------------------------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "KRAKEN.ws.50.0")
    (pipeline,) = replay.pipelines
    assert (pipeline.books.verified, pipeline.books.mismatched, pipeline.books.gaps) == (4269, 0, 0)
    found = tops(replay)
    assert found["XBT/CHF"] == ("56060.3 x 0.05804973", "56194.2 x 0.017", "500/315")
    assert found["XMR/USD"] == ("353.64 x 30.3", "354.48 x 6.86050247", "657/426")
    assert len([d for d in log.deltas if d.instrument.raw_symbol == "XBT/CHF"]) == 290
    assert len([d for d in log.deltas if d.instrument.raw_symbol == "XMR/USD"]) == 847
    assert {d.instrument.symbol for d in log.deltas} >= {"BTC-CHF", "XMR-USD", "ADA-BTC"}
    assert {d.is_snapshot for d in log.deltas[:1]} == {True}


def test_the_book_of_v1_is_that_of_v2(captures):
    """The messages of the capture as v2 would have sent them: bare numbers without the zeros at their ends.

    No metadata: how many decimals the checksum is of, the first ones tell.
    """
    log = EventLog()
    pipeline = Samples("kraken", {}).pipeline(log)
    with open_recording(captures / "exchanges" / "KRAKEN.ws.50.0.gz") as source:
        for message in source:
            if message.kind.name == "TEXT" and message.payload.startswith(b"["):
                for converted in v2_of(message.payload):
                    pipeline.on_message(converted, message.ts_recv, True)
    assert pipeline.problems == {}
    assert (pipeline.books.verified, pipeline.books.mismatched) == (4269 + 10, 0)  # the snapshots too


def v2_of(payload):
    _, *parts, channel, pair = json.loads(payload)
    merged = {key: value for part in parts for key, value in part.items()}

    def rows(*keys):
        found = next((merged[key] for key in keys if key in merged), [])
        return " ".join(f"{_bare(price)},{_bare(qty)}" for price, qty, *_ in found)

    kind = "snapshot" if "as" in merged else "update"
    message = book(kind, rows("bs", "b"), rows("as", "a"), merged.get("c", 0), symbol=pair)
    if kind == "snapshot":
        result = {"channel": "book", "symbol": pair, "depth": int(channel.removeprefix("book-"))}
        yield json.dumps({"method": "subscribe", "result": result, "success": True}).encode()
        message = message.replace(b'"checksum":0,', b"")  # v1 snapshots have none; v2 ones without would be refused
        message = re.sub(rb',"timestamp"', b',"checksum":%d,"timestamp"' % _checksum(merged), message)
    yield message


def _bare(number):
    return f"{Decimal(number).normalize():f}"


def _checksum(merged):
    text = ""
    for key, reverse in (("as", False), ("bs", True)):
        best = sorted(merged[key], key=lambda level: Decimal(level[0]), reverse=reverse)[:10]
        text += "".join(number.replace(".", "").lstrip("0") for level in best for number in level[:2])
    return zlib.crc32(text.encode())


def test_trades_of_the_capture(captures):
    log, _ = replayed(captures, "KRAKEN.ws.48.0")
    assert len(log.trades) == 10
    assert {trade.id for trade in log.trades} == {None}
    assert all(trade.side is not Side.UNKNOWN for trade in log.trades)


def test_tickers_of_the_capture(captures):
    log, _ = replayed(captures, "KRAKEN.ws.49.0")
    assert (len(log.quotes), len(log.of(Ticker))) == (18, 18)
    first = log.quotes[0]
    assert (first.bid_decimal, first.ask_decimal) == (
        (Decimal("13.232900"), Decimal("185.18432037")),
        (Decimal("13.253900"), Decimal("35.72892241")),
    )


# --- books of v2 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_the_checksums_of_the_documentation(log, listed, known):
    """Trap 6: numbers as text of the exchange's decimals, which without metadata the checksum tells."""
    pipeline = SAMPLES[0].pipeline(log, listed if known else None)
    for message in (SNAPSHOT, UPDATE):
        pipeline.on_message(message, NOW, True)
    assert (pipeline.books.verified, pipeline.books.mismatched, pipeline.problems) == (2, 0, {})
    instrument = pipeline.books.books[0].instrument
    assert (instrument.symbol, instrument.price_decimals, instrument.qty_decimals) == ("MATIC-USD", 4, 8)


def test_levels_beyond_the_depth_leave_without_a_word(log, listed):
    pipeline = SAMPLES[0].pipeline(log, listed)
    pipeline.on_message(SAMPLES[0].messages["ack"], NOW, True)  # depth 10
    pipeline.on_message(SNAPSHOT, NOW, True)
    ten = ["0.5667,1", *ASKS.split()[:9], *BIDS.split()]
    checksum = zlib.crc32("".join(text for level in ten for text in digits(level)).encode())
    pipeline.on_message(book("update", "", "0.5667,1", checksum), NOW, True)
    kept = pipeline.books.books[0]
    assert (pipeline.books.verified, kept.ask_count, kept.bid_count) == (2, 10, 10)
    assert kept.asks()[-1].price == 0.5676


def digits(level):
    price, qty = level.split(",")
    return f"{Decimal(price):.4f}".replace(".", "").lstrip("0"), f"{Decimal(qty):.8f}".replace(".", "").lstrip("0")


def test_a_mismatch_resubscribes_this_symbol_alone(log, listed):
    pipeline = SAMPLES[0].pipeline(log, listed)
    pipeline.on_message(SNAPSHOT, NOW, True)
    pipeline.on_message(book("update", "0.5657,1098", "", 2114181697), NOW, True)
    assert pipeline.books.books[0].state is BookState.GAP
    assert (pipeline.books.verified, pipeline.books.mismatched) == (1, 1)
    (request,) = pipeline.decoder.take_requests()
    params = b'"params":{"channel":"book","symbol":["MATIC/USD"],"depth":10}}'
    assert request == Resubscribe(
        (b'{"method":"unsubscribe",' + params, b'{"method":"subscribe",' + params), "MATIC/USD"
    )
    pipeline.on_message(SNAPSHOT, NOW, True)
    assert pipeline.books.books[0].state is BookState.LIVE


# --- other events ---------------------------------------------------------------------------------


def test_trades_say_whether_they_are_backlog():
    """Trap 17: 50 trades are repeated after every subscription."""
    live, old = decoded("kraken", SAMPLES[0].messages["trades"], SAMPLES[0].messages["trade backlog"]).trades
    assert (live.is_backlog, live.id, live.side, str(live.price_decimal)) == (False, "10218208", Side.BUY, "105944.2")
    assert (old.is_backlog, old.id, old.side, str(old.qty_decimal)) == (True, "10218207", Side.SELL, "0.00001000")
    assert live.ts_event == iso_ns(TIME)


def test_a_ticker_is_a_quote_too_and_0_is_no_side():
    log = decoded("kraken", SAMPLES[0].messages["ticker"])
    (quote,) = log.quotes
    assert (quote.bid_price, quote.bid_qty, quote.ask_price, quote.ask_qty) == (0.10025, 740, None, None)
    (ticker,) = log.of(Ticker)
    assert (ticker.last_price, ticker.mark_price) == (0.10035, None)


def test_candles_of_both_versions():
    (candle,) = decoded("kraken", SAMPLES[0].messages["candle"]).of(Candle)
    assert (candle.interval, candle.ts_open, candle.low, candle.is_closed) == (
        300, iso_ns("2026-09-21T16:25:00Z"), 0.09, None,
    )  # fmt: skip
    (candle,) = decoded("kraken", SAMPLES[1].messages["candle"], url=V1).of(Candle)
    assert (candle.interval, candle.ts_open) == (300, (1_618_678_200 - 300) * 10**9)


def test_refusals(log):
    pipeline = SAMPLES[0].pipeline(log)
    refusal = b'{"method":"subscribe","error":"Currency pair not supported XXX/USD","success":false,"symbol":"XXX/USD"}'
    pipeline.on_message(refusal, NOW, True)
    assert pipeline.decoder.take_requests() == [Refused("Currency pair not supported XXX/USD")]


# --- subscribing ----------------------------------------------------------------------------------


def test_names_and_decimals_of_metadata(listed):
    assert [(i.raw_symbol, i.symbol, i.price_decimals, i.qty_decimals) for i in listed] == [
        ("BTC/USD", "BTC-USD", 1, 8),
        ("MATIC/USD", "MATIC-USD", 4, 8),
        ("AAPLx/USD", "AAPLx-USD", 2, 8),  # trap 23: case matters
    ]


def test_one_message_subscribes_all_symbols_of_a_channel(listed):
    symbols = [Subscription(s, ("book", "quote", "ticker")) for s in ("BTC-USD", "MATIC-USD")]
    (plan,) = KRAKEN.plan(symbols, listed)
    assert plan.path == "/v2"
    assert [json.loads(message)["params"] for message in plan.subscribe] == [
        {"channel": "book", "depth": 1000, "symbol": ["BTC/USD", "MATIC/USD"]},
        {"channel": "ticker", "event_trigger": "bbo", "symbol": ["BTC/USD", "MATIC/USD"]},
    ]


@pytest.mark.parametrize(
    ("url", "ts", "is_v1"),
    [
        ("wss://ws.kraken.com", NOW, True),
        ("wss://ws.kraken.com/", THEN, True),
        ("wss://ws.kraken.com/v2", THEN, False),
        ("", THEN, True),
        ("", NOW, False),
        ("", 0, False),
    ],
)
def test_which_version_was_spoken(url, ts, is_v1):
    assert (KRAKEN.spoken(url, ts) is not KRAKEN) == is_v1
