import gzip
import json
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Fetch, Reconnect, Refused, Resubscribe
from feeds.events import Candle, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded, replayed, tops

GATEIO = exchange("gateio")
MS = NOW // 1_000_000


def message(channel, result, *, event="update", market="spot", **more):
    head = {"time": MS // 1000, "time_ms": MS, "channel": f"{market}.{channel}", "event": event}
    return json.dumps(head | more | {"result": result}).encode()


def obu(first, last, bids=None, asks=None, *, full=False, market="spot", name="ob.BTC_USDT.400"):
    result = {"t": MS, "s": name, "u": last}
    result |= {"full": True} if full else {"U": first}
    for key, levels in (("b", bids), ("a", asks)):
        if levels is not None:
            result[key] = [list(level) for level in levels]
    return message("obu", result, market=market)


SNAPSHOT = obu(0, 100, [("83705.9", "0.5")], [("83706.0", "1")], full=True)
TRADE = {
    "id": 816995772,
    "create_time": 1619093543,
    "create_time_ms": "1619093543708.2642",
    "side": "sell",
    "currency_pair": "DIS_USDT",
    "amount": "0.2010000000",
    "price": "121.5800000000",
    "range": "1-1",
}
CANDLE = {"t": "1790000000", "v": "250", "c": "2", "h": "3", "l": "1", "o": "1.5", "n": "1m_X_Y_USDT", "a": "125"}
LISTED = b'[{"id":"BTC_USDT","base":"BTC","quote":"USDT","precision":1,"amount_precision":6,"trade_status":"tradable"}]'
SAMPLES = [
    Samples(
        "gateio",
        {
            "snapshot": SNAPSHOT,  # may come before the acknowledgement
            "ack": message("obu", {"status": "success"}, event="subscribe", error=None, payload=["ob.BTC_USDT.400"]),
            "pong": b'{"time":1790000000,"time_ms":1790000000123,"channel":"spot.pong","event":"","result":null}',
            "update": obu(101, 107, [("83705.9", "0")]),
            "ids only": obu(108, 120),
            "top": message("order_book", {"t": MS, "lastUpdateId": 7, "s": "A_USDT", "bids": [["2", "1"]], "asks": []}),
            "quote": message("book_ticker", {"t": MS, "u": 9, "s": "BTC_USDT", "b": "1.5", "B": "2", "a": "", "A": ""}),
            "trade": message("trades", TRADE),
            "ticker": message("tickers", {"currency_pair": "BTC_USDT", "last": "0.0018716", "lowest_ask": "1"}),
            "candle": message("candlesticks", CANDLE | {"w": True}),
        },
        instruments=[also(LISTED, "BTC_USDT", {"BTC": "A"}, {"BTC": "DIS"}, {"BTC": "X_Y"})],
        captures=("GATEIO.ws.1.0",),
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- capture --------------------------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "GATEIO.ws.1.0")
    found = tops(replay)
    assert found["OMG_USDT"] == ("7.899 x 288", "7.927 x 316.6", "100/100")
    assert found["DIS_USDT"] == ("121.5 x 0.148", "122.23 x 0.00896999", "100/100")
    last = {d.instrument.raw_symbol: d.last_id for d in log.deltas}
    assert (last["OMG_USDT"], last["DIS_USDT"]) == (59231950, 1750488)
    updates = [d for d in log.deltas if not d.is_snapshot]
    names = [d.instrument.raw_symbol for d in updates]
    assert (names.count("OMG_USDT"), names.count("DIS_USDT")) == (51, 17)  # of the 51 one is older than the snapshot
    assert (len(updates), len(log.trades), len(log.of(Ticker)), len(log.of(Candle))) == (172, 9, 22, 14)
    neo = [trade for trade in log.trades if trade.instrument.symbol == "NEO-BTC"]
    volume = {side: sum((t.qty_decimal for t in neo if t.side is side), Decimal(0)) for side in (Side.BUY, Side.SELL)}
    assert (len(neo), volume) == (5, {Side.BUY: Decimal("0.5"), Side.SELL: Decimal("2.57")})


# --- books ----------------------------------------------------------------------------------------


def test_messages_without_levels_move_the_id_on(pipeline):
    """Trap 21."""
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(obu(101, 107), 1, True)
    pipeline.on_message(obu(108, 108, asks=[("83707", "2")]), 1, True)
    (book,) = pipeline.books.books
    assert (book.state, [level.price for level in book.asks()]) == (BookState.LIVE, [83706.0, 83707.0])


def test_a_gap_subscribes_anew_and_a_full_message_repairs(pipeline):
    pipeline.on_message(SNAPSHOT, NOW, True)
    pipeline.on_message(obu(102, 107), NOW, True)
    (book,) = pipeline.books.books
    assert book.state is BookState.GAP
    head = '{"time":1790000000,"channel":"spot.obu","event":"%s","payload":["ob.BTC_USDT.400"]}'
    assert pipeline.decoder.take_requests() == [
        Resubscribe(((head % "unsubscribe").encode(), (head % "subscribe").encode()), "BTC_USDT")
    ]
    pipeline.on_message(obu(0, 300, [("1", "1")], [], full=True), NOW, True)
    assert (book.state, [level.price for level in book.bids()]) == (BookState.LIVE, [1.0])


def test_order_book_update_needs_a_snapshot_of_rest(pipeline):
    def update(first, last, bids):
        result = {"t": MS * 1000, "e": "depthUpdate", "s": "A_USDT", "U": first, "u": last, "b": bids, "a": []}
        return message("order_book_update", result)

    pipeline.on_message(update(101, 103, [["5", "1"]]), 1, True)
    (fetch,) = pipeline.decoder.take_requests()
    assert fetch == Fetch("/api/v4/spot/order_book?currency_pair=A_USDT&limit=100&with_id=true", "A_USDT")
    assert GATEIO.reply_tag("https://api.gateio.ws" + fetch.url) == "A_USDT"
    pipeline.on_message(update(104, 104, [["6", "1"]]), 1, True)
    pipeline.on_reply("A_USDT", b'{"id":102,"current":1790000000123,"update":1790000000100,"asks":[],"bids":[]}', 2)
    (book,) = pipeline.books.books
    assert (book.state, [level.price for level in book.bids()]) == (BookState.LIVE, [6.0, 5.0])
    assert book.last_id == 104


def test_an_update_without_a_first_id_is_an_error(pipeline):
    pipeline.on_message(message("obu", {"t": MS, "s": "ob.BTC_USDT.50", "u": 7}), 1, True)
    pipeline.on_message(message("obu", {"t": MS, "s": "BTC_USDT", "u": 7, "U": 7}), 1, True)
    assert {kind: problem.count for kind, problem in pipeline.problems.items()} == {"missing_field": 1, "bad_value": 1}


# --- other events ---------------------------------------------------------------------------------


def test_events():
    log = decoded("gateio", *SAMPLES[0].messages.values())
    (quote,) = log.quotes
    assert (quote.bid_price, quote.bid_qty, quote.ask_decimal, quote.sequence) == (1.5, 2.0, None, 9)
    (trade,) = log.trades
    assert (trade.id, trade.side, trade.price_decimal, trade.qty_decimal) == (
        "816995772",
        Side.SELL,
        Decimal("121.58"),
        Decimal("0.201"),
    )
    assert trade.ts_event == 1_619_093_543_708_264_200
    (ticker,) = log.of(Ticker)
    assert (ticker.last_price, ticker.ts_event) == (0.0018716, MS * 1_000_000)
    (candle,) = log.of(Candle)
    assert (candle.instrument.raw_symbol, candle.interval, candle.volume, candle.quote_volume, candle.is_closed) == (
        "X_Y_USDT",
        60,
        125,
        250,
        True,
    )
    assert [d.depth for d in log.deltas if d.depth] == [5]  # the shortest that there is


def test_a_time_in_microseconds_tells_by_its_size():
    result = {"t": MS * 1000, "s": "A_USDT", "U": 1, "u": 1, "b": [], "a": []}
    (delta,) = decoded("gateio", message("order_book_update", result)).deltas
    assert delta.ts_event == MS * 1_000_000


def test_refusals_and_notices(pipeline):
    error = {"code": 2, "message": "unknown currency pair: NOPE_USDT"}
    pipeline.on_message(message("trades", {"status": "fail"}, event="subscribe", error=error), 1, True)
    pipeline.on_message(message("system", {"type": "upgrade", "msg": "will be closed"}), 1, True)
    assert pipeline.decoder.take_requests() == [
        Refused("spot.trades: code 2: unknown currency pair: NOPE_USDT"),
        Reconnect("upgrade: will be closed"),
    ]


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata_of_2021(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "GATEIO.0.gz", "rb") as file:
        (line,) = (line for line in file if line.startswith(b"https"))
    assert GATEIO.load_instruments(line.partition(b": ")[2], instruments) == []
    found = instruments.resolve("gateio", "NEO-BTC")
    assert (found.raw_symbol, str(found.tick_size), found.kind) == ("NEO_BTC", "1E-7", "spot")


def test_subscriptions():
    instruments = Instruments()
    GATEIO.load_instruments(LISTED, instruments)
    (plan,) = GATEIO.plan([Subscription("BTC-USDT", ("book", "trade"))], instruments)
    assert plan.path == "/ws/v4/"
    requests = [json.loads(message(NOW)) for message in plan.subscribe]
    assert [(r["channel"], r["event"], r["payload"]) for r in requests] == [
        ("spot.obu", "subscribe", ["ob.BTC_USDT.400"]),
        ("spot.trades", "subscribe", ["BTC_USDT"]),
    ]
    assert [r["time"] for r in requests] == [1790000000] * 2
    assert plan.heartbeat.message(NOW) == b'{"time":1790000000,"channel":"spot.ping"}'
