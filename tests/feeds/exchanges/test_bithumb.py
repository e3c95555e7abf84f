import json
from decimal import Decimal

import pytest

from feeds.decoder import Refused
from feeds.events import Side, Ticker
from feeds.exchange import exchange, exchange_of_messages
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import NOW, Samples, decoded, replayed

BITHUMB = exchange("bithumb")
OLD = "wss://pubwss.bithumb.com/pub/ws"
THEN = iso_ns("2021-06-01T23:43:22Z")
BOOK = (
    b'{"type":"orderbook","code":"KRW-ETH","total_ask_size":369.9832,"total_bid_size":287.0216,"orderbook_units":['
    b'{"ask_price":3715000,"bid_price":3714000,"ask_size":8.4592,"bid_size":0.0},'
    b'{"ask_price":0,"bid_price":3713000,"ask_size":0,"bid_size":3.012}],"level":1,"timestamp":1790133505546514,'
    b'"stream_type":"REALTIME"}'
)
TRADE = (
    b'{"type":"trade","code":"KRW-BTC","trade_price":116539000,"trade_volume":0.0002,"ask_bid":"BID",'
    b'"trade_date":"2026-09-23","trade_time":"12:39:02","trade_timestamp":1790134742106,'
    b'"sequential_id":1079953210371761700,"timestamp":1790134742110,"stream_type":"SNAPSHOT"}'
)
SAMPLES = [
    Samples(
        "bithumb",
        {
            "status": b'{"status":"UP"}',
            "book": BOOK,
            "book after it": BOOK.replace(b"REALTIME", b"SNAPSHOT"),
            "backlog": TRADE,
            "trade": TRADE.replace(b"SNAPSHOT", b"REALTIME"),
            "ticker": b'{"type":"ticker","code":"KRW-BTC","trade_price":116538000,"trade_date":"20260923",'
            b'"trade_time":"123902","trade_timestamp":1790134742106,"market_state":"ACTIVE",'
            b'"is_trading_suspended":false,"market_warning":"NONE","timestamp":1790134742110}',
        },
        instruments=[b'[{"market":"KRW-BTC","english_name":"Bitcoin"},{"market":"BTC-ETH"},{"market":"KRW-ETH"}]'],
    ),
    Samples(
        "bithumb",
        {
            "greeting": b'{"status":"0000","resmsg":"Connected Successfully"}',
            "trades": b'{"type":"transaction","content":{"list":[{"buySellGb":"2","contPrice":"3.908",'
            b'"contQty":"12365.191","contDtm":"2021-06-02 08:43:34.555058","updn":"dn","symbol":"CON_KRW"},'
            b'{"buySellGb":"1","contPrice":"3.907","contQty":"1","contDtm":"2021-06-02 08:43:34.555059",'
            b'"symbol":"CON_KRW"}]}}',
            "book": b'{"type":"orderbooksnapshot","content":{"symbol":"BTC_KRW","datetime":"1622591015093842",'
            b'"bids":[["43232000","0.1"]],"asks":[["43240000","0.2"]]}}',
            "changes": b'{"type":"orderbookdepth","content":{"list":[],"datetime":"1622591015093842"}}',
            "ticker": b'{"type":"ticker","content":{"symbol":"BTC_KRW","tickType":"24H","date":"20210602",'
            b'"time":"084334","closePrice":"43232000"}}',
        },
        captures=("BITHUMB.ws.1.0",),
        url=OLD,
        ts=THEN,
    ),
]


def test_books_have_padding_and_dust_even_at_the_best_price():
    """Trap 15; the time of books, other than that of trades, is in us."""
    (delta,) = decoded("bithumb", BOOK).deltas
    assert delta.bids == [(3714000, 0), (3713000, Decimal("3.012"))]  # 0 removes
    assert delta.asks == [(3715000, Decimal("8.4592"))]
    assert (delta.is_snapshot, delta.depth, delta.ts_event) == (True, 2, 1790133505546514 * 1000)


def test_what_is_rounded_to_nothing_is_not_in_the_book(log):
    pipeline = SAMPLES[0].pipeline(log)
    pipeline.on_message(BOOK, NOW, True)
    (book,) = pipeline.books.books
    assert [(level.price, level.qty) for level in book.bids()] == [(3713000, 3.012)]


def test_trades_and_tickers():
    log = decoded("bithumb", *(SAMPLES[0].messages[name] for name in ("backlog", "trade", "ticker")))
    assert [(t.side, t.id, t.is_backlog, t.ts_event) for t in log.trades] == [
        (Side.BUY, "1079953210371761700", True, 1790134742106 * 10**6),
        (Side.BUY, "1079953210371761700", False, 1790134742106 * 10**6),
    ]
    (ticker,) = log.of(Ticker)
    assert (ticker.last_price, ticker.ts_event) == (116538000, 1790134742110 * 10**6)


def test_the_capture_of_the_socket_before(captures):
    log, replay = replayed(captures, "BITHUMB.ws.1.0")
    sides = [(t.instrument.symbol, t.side, str(t.qty_decimal.normalize()), t.id) for t in log.trades]
    assert sides == [
        ("CON-KRW", Side.BUY, "12365.191", None),
        ("GOM2-KRW", Side.SELL, "626", None),
        ("GOM2-KRW", Side.BUY, "526", None),
        ("GOM2-KRW", Side.BUY, "76999.569", None),
        ("GOM2-KRW", Side.BUY, "537", None),
        ("GOM2-KRW", Side.BUY, "524", None),
        ("GOM2-KRW", Side.SELL, "556", None),
    ]
    assert log.trades[0].ts_event == iso_ns("2021-06-01T23:43:34.555058Z")  # Korean time is 9 h ahead
    assert replay.pipelines[0].decoder.silent == {"status": 2}


def test_books_and_tickers_of_the_socket_before():
    log = decoded("bithumb", *SAMPLES[1].messages.values(), url=OLD, ts=THEN)
    (delta,) = log.deltas
    assert (delta.depth, delta.bids, delta.ts_event) == (30, [(43232000, Decimal("0.1"))], 1622591015093842 * 1000)
    (ticker,) = log.of(Ticker)
    assert (ticker.last_price, ticker.ts_event) == (43232000, iso_ns("2021-06-01T23:43:34Z"))


@pytest.mark.parametrize(
    ("samples", "payload", "reason"),
    [
        (SAMPLES[0], b'{"error":{"name":"INVALID_PARAM","message":"x"}}', "INVALID_PARAM: x"),
        (SAMPLES[1], b'{"status":"5100","resmsg":"Invalid Filter Syntax"}', "5100: Invalid Filter Syntax"),
    ],
)
def test_refusals(log, samples, payload, reason):
    pipeline = samples.pipeline(log)
    pipeline.on_message(payload, NOW, True)
    assert pipeline.decoder.take_requests() == [Refused(reason)]


def test_which_protocol_was_spoken():
    assert BITHUMB.spoken(OLD, NOW) is not BITHUMB
    assert BITHUMB.spoken("wss://ws-api.bithumb.com/websocket/v1", THEN) is BITHUMB
    assert BITHUMB.spoken("", THEN) is not BITHUMB


def test_messages_are_told_from_those_of_upbit():
    assert exchange_of_messages([BOOK]) == "bithumb"
    upbit = BOOK.replace(b'"total_ask_size"', b'"timestamp":1790134742106,"total_ask_size"')
    assert exchange_of_messages([upbit]) == "upbit"


def test_subscribing():
    instruments = Instruments()
    BITHUMB.load_instruments(SAMPLES[0].instruments[0], instruments)
    (plan,) = BITHUMB.plan([Subscription("BTC-KRW", ("book", "ticker"))], instruments)
    assert plan.path == "/websocket/v1"
    assert json.loads(plan.subscribe[0])[1:] == [
        {"type": "orderbook", "codes": ["KRW-BTC"]},
        {"type": "ticker", "codes": ["KRW-BTC"]},
        {"format": "DEFAULT"},
    ]
