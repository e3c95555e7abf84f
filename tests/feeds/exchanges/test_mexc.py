import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.decoder import Fetch, Refused
from feeds.errors import DecodeError
from feeds.events import Candle, Funding, Side, Ticker
from feeds.exchange import exchange, exchange_of_messages
from feeds.exchanges.mexc import FUTURES_PATH, name_of, protobuf_fields
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import NOW, Samples, decoded

MEXC = exchange("mexc")
MS = NOW // 10**6
# The frames of the reference.
DEPTH = bytes.fromhex(
    "0a2e73706f74407075626c69632e61676772652e64657074682e76332e6170692e70624031306d734042544355534454ca13"
    "670a0c0a0736313736302e3512013012150a0836313735392e37331209302e303030313737381a2673706f74407075626c69"
    "632e61676772652e64657074682e76332e6170692e70624031306d73220b37343839313331333236332a0b37343839313331"
    "333236351a074254435553445430e287809fef33"
)
DEALS = bytes.fromhex(
    "0a2e73706f74407075626c69632e61676772652e6465616c732e76332e6170692e70624031306d734042544355534454d213"
    "420a180a0736313736302e311204302e32351802209a90809fef33122673706f74407075626c69632e61676772652e646561"
    "6c732e76332e6170692e70624031306d731a0742544355534454309b90809fef33"
)
BBO = bytes.fromhex(
    "0a3373706f74407075626c69632e61676772652e626f6f6b5469636b65722e76332e6170692e70624031306d734042544355"
    "534454da13240a0836323338332e35361206302e303739351a0836323338332e35372206302e303935351a07425443555344"
    "5430e287809fef33"
)


def varint(value):
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def field(number, value):
    """A protobuf field of an int, of text or of bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(*values):
    return b"".join(field(number, value) for number, value in values)


def frame(*body, symbol="BTCUSDT"):
    return fields((1, "spot@public.x"), (3, symbol), (6, MS), *body)


def depth(first, last, bids=(), asks=()):
    sides = [(1, fields(*enumerate(level, 1))) for level in asks] + [
        (2, fields(*enumerate(level, 1))) for level in bids
    ]
    return frame((313, fields(*sides, (3, "x"), (4, str(first)), (5, str(last)), (6, MS))))


def push(channel, data, **more):
    return json.dumps(
        {"channel": f"push.{channel}", "data": data, "ts": MS + 1, **more}, separators=(",", ":")
    ).encode()


def futures_depth(first, last, bids="[]", asks="[]", channel="depth"):
    return (
        f'{{"channel":"push.{channel}","data":{{"asks":{asks},"bids":{bids},"begin":{first},"end":{last or "null"},'
        f'"version":{last or 14},"cts":{MS}}},"symbol":"BTC_USDT","ts":{MS + 1}}}'
    ).encode()


SPOT_SNAPSHOT = b'{"lastUpdateId":100,"bids":[["10.5","1.0"]],"asks":[["11","2"]]}'
FUTURES_SNAPSHOT = (
    b'{"success":true,"code":0,"data":{"asks":[[75481.5,10,2]],"bids":[[75480,7,1]],"cts":0,"version":10,'
    b'"timestamp":1790000000000}}'
)
SAMPLES = [
    Samples(
        "mexc",
        {
            "ack": b'{"id":0,"code":0,"msg":"spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT"}',
            "pong": b'{"id":0,"code":0,"msg":"PONG"}',
            "quote": BBO,
            "depth": depth(99, 101, [("10.5", "0.00000000"), ("10.4", "3")], [("11.0", "2.5")]),
            "next depth": depth(102, 104, [("10.3", "1")]),
            "quiet": frame(),
            "trade": DEALS,
            "trade with id": frame((314, fields((1, fields((1, "1.5"), (2, "2"), (3, 1), (4, MS), (5, "1X0_2X0")))))),
            "one side": frame((315, fields((3, "11"), (4, "2"), (5, "7")))),
            "top": frame(
                (303, fields((1, fields((1, "11"), (2, "1"))), (2, fields((1, "10"), (2, "2"))), (4, "55"))),
                symbol="ETHUSDT",
            ),
            "candle": frame(
                (
                    308,
                    fields((1, "Min1"), (2, MS // 1000), *enumerate(("1", "2", "3", "0.5", "10", "20.5"), 3)),
                )
            ),
            "ticker": frame((309, fields((1, "BTCUSDT"), (2, "61760.5"), (3, "0.01")))),
            "futures ack": b'{"channel":"rs.sub.depth","data":"success","ts":1790000000000}',
            "futures pong": b'{"channel":"pong","data":1790000000000,"ts":1790000000000}',
            "futures depth": futures_depth(9, 12, "[[7.548E+4,0,0],[75479.5,3,1]]", "[[75481.50,4,1]]"),
            "unmerged depth": futures_depth("null", 13, "[[75479,3,1]]"),
            "futures top": futures_depth(0, 14, "[[1,2,1]]", "[[2,2,1],[3,1,1]]", "depth.full").replace(
                b"BTC_USDT", b"ETH_USDT"
            ),
            "deals": push(
                "deal",
                [{"p": 75480.5, "v": 26, "T": 1, "O": 3, "M": 2, "t": MS, "i": "876", "cts": str(MS)}],
                symbol="BTC_USDT",
            ),
            "futures ticker": push(
                "ticker",
                {"symbol": "BTC_USDT", "lastPrice": 75480.5, "bid1": 1, "ask1": 2, "holdVol": 8137204,
                 "fairPrice": 75481, "indexPrice": 75482.1, "fundingRate": 1e-05, "timestamp": MS},
                symbol="BTC_USDT",
            ),
            "tickers": push("tickers", [{"symbol": "BTC_USDT", "lastPrice": 7.5e4, "fairPrice": 75001, "volume24": 7}]),
            "fair price": push("fair.price", {"price": 75481, "symbol": "BTC_USDT"}, symbol="BTC_USDT"),
            "index price": push("index.price", {"price": 75482, "symbol": "BTC_USDT"}, symbol="BTC_USDT"),
            "funding": push("funding.rate", {"rate": 0.0001, "symbol": "BTC_USDT", "nextSettleTime": MS + 1}),
            "futures candle": push(
                "kline",
                {"symbol": "BTC_USDT", "interval": "Hour4", "t": MS // 1000, "o": 1, "c": 2, "h": 3, "l": 0.5,
                 "a": 20.5, "q": 10, "ro": 1},
                symbol="BTC_USDT",
            ),
            "contract": push("contract", {"symbol": "BTC_USDT", "contractSize": 0.0001}),
        },
        replies=[("BTCUSDT", SPOT_SNAPSHOT), ("BTC_USDT", FUTURES_SNAPSHOT)],
        instruments=[
            b'{"timezone":"CST","symbols":[{"symbol":"BTCUSDT","baseAsset":"BTC","quoteAsset":"USDT","quotePrecision":2,'
            b'"baseAssetPrecision":8,"baseSizePrecision":"0.000001"},{"symbol":"ETHUSDT","baseAsset":"ETH",'
            b'"quoteAsset":"USDT","quotePrecision":2,"baseSizePrecision":"0.000001"},{"symbol":"XBTC","baseAsset":"X","quoteAsset":"BTC",'
            b'"quotePrecision":8,"baseSizePrecision":"0"}]}',
            b'{"success":true,"code":0,"data":[{"symbol":"BTC_USDT","baseCoin":"BTC","quoteCoin":"USDT","priceUnit":0.1,'
            b'"volUnit":1,"contractSize":0.0001,"minVol":1},{"symbol":"ETH_USDT","baseCoin":"ETH","quoteCoin":"USDT",'
            b'"priceUnit":0.01,"volUnit":1,"contractSize":0.01,"minVol":1}]}',
        ],
    )
]  # fmt: skip


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- spot: protobuf -------------------------------------------------------------------------------


def test_the_frames_of_the_reference():
    """Trap 25: a binary message is protobuf here, and only here."""
    log = decoded("mexc", DEPTH, DEALS, BBO)
    (delta,), (trade,), (quote,) = log.deltas, log.trades, log.quotes
    assert (delta.first_id, delta.last_id, delta.ts_event) == (74891313263, 74891313265, 1782208005090 * 10**6)
    assert (delta.bids, delta.asks) == ([(Decimal("61759.73"), Decimal("0.0001778"))], [(Decimal("61760.5"), 0)])
    assert (trade.side, str(trade.price_decimal.normalize()), trade.qty, trade.id, trade.ts_event) == (
        Side.SELL, "61760.1", 0.25, None, 1782208006170 * 10**6
    )  # fmt: skip
    assert (quote.bid_price, quote.bid_qty, quote.ask_price, quote.ask_qty) == (62383.56, 0.0795, 62383.57, 0.0955)
    assert exchange_of_messages([DEPTH]) == "mexc"


def test_spot_books_are_seeded_by_rest(pipeline, log):
    for message in (SAMPLES[0].messages["depth"], SAMPLES[0].messages["next depth"]):
        pipeline.on_message(message, NOW, True)
    assert pipeline.decoder.take_requests() == [Fetch("/api/v3/depth?symbol=BTCUSDT&limit=5000", "BTCUSDT")]
    pipeline.on_reply("BTCUSDT", SPOT_SNAPSHOT, NOW)
    (book,) = pipeline.books.books
    assert ([level.price for level in book.bids()], [level.qty for level in book.asks()]) == ([10.4, 10.3], [2.5])
    pipeline.on_message(depth(106, 107), NOW, True)
    assert (book.state.name, pipeline.books.gaps) == ("GAP", 1)


def test_other_messages_of_spot():
    names = ("trade with id", "one side", "top", "candle", "ticker", "quiet")
    log = decoded("mexc", *(SAMPLES[0].messages[name] for name in names))
    (trade,), (quote,), (top,), (candle,), (ticker,) = (
        log.trades, log.quotes, log.deltas, log.of(Candle), log.of(Ticker)
    )  # fmt: skip
    assert (trade.side, trade.id, trade.ts_event) == (Side.BUY, "1X0_2X0", MS * 10**6)
    assert (quote.bid_price, quote.ask_price, quote.ask_qty) == (None, 11, 2)
    assert (top.is_snapshot, top.depth, top.last_id, top.bids, top.asks) == (True, 1, 55, [(10, 2)], [(11, 1)])
    assert (candle.ts_open, candle.interval, candle.close, candle.volume, candle.quote_volume) == (
        MS // 1000 * 10**9, 60, 2, 10, 20.5
    )  # fmt: skip
    assert (ticker.last_price, ticker.ts_event) == (61760.5, MS * 10**6)


def test_fields_that_are_new_are_skipped_whatever_their_type():
    new = field(90, 7) + field(91, b"\xff") + varint(92 << 3 | 1) + bytes(8) + varint(93 << 3 | 5) + bytes(4)
    (delta,) = decoded("mexc", DEPTH + new).deltas
    assert delta.last_id == 74891313265


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (frame((399, b"")), "unknown_message"),
        (field(3, "BTCUSDT"), "unknown_message"),
        (frame((313, fields((4, "1")))), "bad_value"),
        (frame((313, 7)), "bad_value"),
        (frame((1, 7)), "bad_value"),
        (frame() + b"\x9a\x01\x05abc", "bad_value"),
        (frame() + b"\xff" * 11, "bad_value"),
        (frame() + b"\x0b", "bad_value"),
        (frame() + b"\x00\x01", "bad_value"),
    ],
)
def test_what_is_no_frame(log, message, kind):
    with pytest.raises(DecodeError) as error:
        decoded("mexc", message)
    assert error.value.kind == kind


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_a_value_error(data):
    try:
        found = list(protobuf_fields(data))
    except ValueError:
        return
    assert all(number > 0 for number, _ in found)


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=20)), max_size=8))
def test_what_is_written_is_read(values):
    assert list(protobuf_fields(fields(*values))) == values


# --- futures --------------------------------------------------------------------------------------


def test_futures_books(pipeline):
    """Traps 14 and 22: numbers with exponents, quantities in contracts."""
    pipeline.on_message(SAMPLES[0].messages["futures depth"], NOW, True)
    assert pipeline.decoder.take_requests() == [Fetch("/api/v1/contract/depth/BTC_USDT?limit=1000", "BTC_USDT")]
    pipeline.on_reply("BTC_USDT", FUTURES_SNAPSHOT, NOW)
    pipeline.on_message(SAMPLES[0].messages["unmerged depth"], NOW, True)
    (book,) = pipeline.books.books
    assert [(level.price, level.qty) for level in book.bids()] == [(75479.5, 3), (75479, 3)]
    assert [(level.price, level.qty) for level in book.asks()] == [(75481.5, 4)]
    assert (book.state.name, book.last_id, book.ts_event) == ("LIVE", 13, MS * 10**6)
    pipeline.on_message(futures_depth(15, 16), NOW, True)
    assert (book.state.name, pipeline.books.gaps) == ("GAP", 1)


def test_other_messages_of_futures():
    names = (
        "deals",
        "futures top",
        "futures ticker",
        "tickers",
        "fair price",
        "index price",
        "funding",
        "futures candle",
    )
    log = decoded("mexc", *(SAMPLES[0].messages[name] for name in names))
    (trade,), (top,), (funding,), (candle,) = log.trades, log.deltas, log.of(Funding), log.of(Candle)
    assert (trade.side, trade.price, trade.qty, trade.id) == (Side.BUY, 75480.5, 26, "876")
    assert (top.is_snapshot, top.depth, top.instrument.raw_symbol) == (True, 2, "ETH_USDT")
    found = [(t.last_price, t.mark_price, t.index_price, t.open_interest, t.funding_rate) for t in log.of(Ticker)]
    assert found == [
        (75480.5, 75481, 75482.1, 8137204, 0.00001),
        (75000, 75001, None, None, None),
        (None, 75481, None, None, None),
        (None, None, 75482, None, None),
    ]
    assert (funding.funding_rate, funding.next_funding_time) == (0.0001, (MS + 1) * 10**6)
    assert (candle.interval, candle.low, candle.volume, candle.quote_volume) == (14_400, 0.5, 10, 20.5)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"channel":"rs.error","data":"Contract [NOPE_USDT] not exists","ts":1}', "Contract [NOPE_USDT] not exists"),
        (b'{"id":0,"code":0,"msg":"Not Subscribed successfully! [x]"}', "code 0: Not Subscribed successfully! [x]"),
    ],
)
def test_refusals(pipeline, payload, reason):
    pipeline.on_message(payload, NOW, True)
    assert pipeline.decoder.take_requests() == [Refused(reason)]


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata():
    instruments = Instruments()
    for reply in SAMPLES[0].instruments:
        assert MEXC.load_instruments(reply, instruments) == []
    found = [(i.symbol, i.kind, i.price_decimals, i.tick_size, i.lot_size, i.contract_size) for i in instruments]
    assert found == [
        ("BTC-USDT", "spot", 2, None, Decimal("0.000001"), None),
        ("ETH-USDT", "spot", 2, None, Decimal("0.000001"), None),
        ("X-BTC", "spot", 8, None, None, None),
        ("BTC-USDT-PERP", "perpetual", 1, Decimal("0.1"), 1, Decimal("0.0001")),
        ("ETH-USDT-PERP", "perpetual", 2, Decimal("0.01"), 1, Decimal("0.01")),
    ]
    assert name_of("XBTC") == (None, "unknown")


def test_a_list_of_one_market_may_be_empty_and_an_error_is_no_list():
    instruments = Instruments()
    assert MEXC.load_instruments(b'{"success":true,"code":0,"data":[]}', instruments) == []
    with pytest.raises(DecodeError, match="expected symbols or contracts"):
        MEXC.load_instruments(b'{"success":false,"code":510,"message":"too frequent"}', instruments)
    assert len(instruments) == 0


def test_spot_and_futures_are_two_sockets_with_pings_of_their_own():
    """Trap 11."""
    instruments = Instruments()
    for reply in SAMPLES[0].instruments:
        MEXC.load_instruments(reply, instruments)
    spot, futures = MEXC.plan(
        [Subscription(name, ("book", "trade")) for name in ("BTC-USDT", "BTC-USDT-PERP")], instruments
    )
    assert (spot.path, spot.subscribe, spot.heartbeat.message(0)) == (
        "/ws",
        [
            b'{"method":"SUBSCRIPTION","params":["spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT",'
            b'"spot@public.aggre.deals.v3.api.pb@10ms@BTCUSDT"]}'
        ],
        b'{"method":"PING"}',
    )
    assert (futures.path, futures.subscribe, futures.heartbeat.message(0)) == (
        FUTURES_PATH,
        [
            b'{"method":"sub.depth","param":{"symbol":"BTC_USDT"}}',
            b'{"method":"sub.deal","param":{"symbol":"BTC_USDT"}}',
        ],
        b'{"method":"ping"}',
    )
