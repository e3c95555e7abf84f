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
from tests.feeds.exchanges.samples import Samples, decoded, replayed, tops

COINBASE = exchange("coinbase")
TIME = "2026-09-21T16:43:37.075687Z"


def message(kind, **fields):
    return json.dumps({"type": kind, "product_id": "BTC-USD", "time": TIME, **fields}).encode()


def changed(*changes, **fields):
    return message("l2update", changes=[list(change) for change in changes], **fields)


def match(kind="match", side="sell", number=280232):
    return message(kind, trade_id=number, maker_order_id="a", side=side, size="985", price="61000.05", sequence=7)


SNAPSHOT = message("snapshot", asks=[["61000.10", "12.77"]], bids=[["61000.05", "3.1"], ["61000.01", "1"]])
TICKER = {"sequence": 8, "price": "61000.05", "best_bid": "61000.05", "best_ask": "61000.10", "side": "buy"}
LISTED = json.dumps(
    [
        {
            "id": "BTC-USD",
            "base_currency": "BTC",
            "quote_currency": "USD",
            "quote_increment": "0.01",
            "base_increment": "0.00000001",
            "status": "online",
        }
    ]
).encode()
SAMPLES = [
    Samples(
        "coinbase",
        {
            "subscriptions": b'{"type":"subscriptions","channels":[{"name":"level2_batch","product_ids":["BTC-USD"]}]}',
            "snapshot": SNAPSHOT,
            "update": changed(("buy", "61000.05", "0.00000000"), ("sell", "61000.09", "2")),
            "last match": match("last_match", number=280231),
            "match": match(),
            "ticker": message("ticker", **TICKER, best_bid_size="1.5", best_ask_size="2", last_size="0.04"),
            "first ticker": b'{"type":"ticker","sequence":8,"product_id":"BTC-USD","price":"61000.05","best_bid":"",'
            b'"best_ask":""}',
            "heartbeat": message("heartbeat", sequence=90, last_trade_id=20),
        },
        instruments=[LISTED],
        captures=("COINBASE.ws.28.0",),
    )
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- captures -------------------------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "COINBASE.ws.28.0")
    found = tops(replay)
    assert found["SKL-USD"] == ("0.7902 x 468", "0.7911 x 450", "816/1341")
    assert found["DASH-BTC"] == ("0.00619316 x 1.687", "0.00619947 x 28.997", "436/541")
    updates = [delta for delta in log.deltas if not delta.is_snapshot]
    assert (len(log.deltas), len(updates)) == (10 + 9719, 9719)
    for symbol, count in (("SKL-USD", 2592), ("DASH-BTC", 1925)):
        assert len([delta for delta in updates if delta.instrument.raw_symbol == symbol]) == count
    assert (len(log.quotes), len(log.of(Ticker)), len(log.trades)) == (107, 107, 107)
    (pipeline,) = replay.pipelines
    assert pipeline.decoder.silent == {"subscriptions": 3}


@pytest.mark.parametrize(
    ("symbol", "count", "bought", "sold"), [("SKL-USD", 52, "40691.3", "6040.0"), ("DASH-BTC", 15, "11.888", "3.867")]
)
def test_trades_of_the_capture(captures, symbol, count, bought, sold):
    log, _ = replayed(captures, "COINBASE.ws.28.0")
    trades = [trade for trade in log.trades if trade.instrument.raw_symbol == symbol]
    live = [trade for trade in trades if not trade.is_backlog]
    volume = {side: sum((t.qty_decimal for t in live if t.side is side), Decimal(0)) for side in (Side.BUY, Side.SELL)}
    assert (len(live), volume) == (count, {Side.BUY: Decimal(bought), Side.SELL: Decimal(sold)})
    assert [trade.is_backlog for trade in trades] == [True] + [False] * count
    first = int(trades[0].id)
    assert [int(trade.id) for trade in trades] == list(range(first, first + count + 1))


def test_a_match_names_the_makers_side_and_a_ticker_the_takers(captures):
    """Trap 3: both tell of the same trades, by their ids."""
    log, _ = replayed(captures, "COINBASE.ws.28.0")
    sides = {(trade.instrument.raw_symbol, int(trade.id)): trade.side for trade in log.trades}
    compared = 0
    with gzip.open(captures / "exchanges" / "COINBASE.ws.28.0.gz", "rt") as file:
        for line in file:
            ticker = json.loads(line.partition(": ")[2] or "0") if '"type":"ticker"' in line else {}
            if "trade_id" in ticker:
                key = ticker["product_id"], ticker["trade_id"]
                assert sides[key] is {"buy": Side.BUY, "sell": Side.SELL}[ticker["side"]]
                compared += 1
    assert compared == 107


def test_metadata_of_2021(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "COINBASE.0.gz", "rb") as file:
        (reply,) = [line.partition(b": ")[2] for line in file if line.startswith(b"https")]
    assert COINBASE.load_instruments(reply, instruments) == []
    found = instruments.resolve("coinbase", "SKL-EUR")
    assert (found.price_decimals, found.qty_decimals, found.kind) == (4, 1, "spot")


# --- books ----------------------------------------------------------------------------------------


def test_changes_are_absolute_and_zero_removes(pipeline):
    for payload in (SNAPSHOT, changed(("buy", "61000.05", "0.00000000"), ("sell", "61000.09", "2"))):
        pipeline.on_message(payload, 1, True)
    (book,) = pipeline.books.books
    assert [[(str(p), str(q)) for p, q in book.exact(side)] for side in (0, 1)] == [
        [("61000.01", "1.00")],
        [("61000.09", "2.00"), ("61000.10", "12.77")],
    ]


def test_a_time_of_the_year_1_is_unknown_and_the_content_counts(pipeline, log):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(changed(("buy", "61000.06", "1"), time="0001-01-01T00:00:00.000000Z"), 1, True)
    assert (log.deltas[-1].ts_event, log.tops[-1][0]) == (0, (61000.06, 1.0))
    assert pipeline.problems == {}


@pytest.mark.parametrize("size", ["-1.5", "NaN", "Infinity"])
def test_sizes_in_a_snapshot_that_are_none_are_left_out(pipeline, size):
    pipeline.on_message(message("snapshot", asks=[["3", "1"]], bids=[["2", size], ["1", "5"]]), 1, True)
    (book,) = pipeline.books.books
    assert (book.state, book.best_bid, book.best_ask) == (BookState.LIVE, (1.0, 5.0), (3.0, 1.0))


def test_a_negative_size_in_an_update_is_a_problem(pipeline):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(changed(("buy", "61000.06", "-1")), 1, True)
    assert pipeline.problems["bad_value"].count == 1


def test_a_snapshot_is_asked_for_on_the_channel_that_is_subscribed(pipeline):
    pipeline.on_message(changed(("buy", "61000.06", "1")), 1, True)
    (request,) = pipeline.decoder.take_requests()
    assert request == Resubscribe(
        (
            b'{"type":"unsubscribe","channels":[{"name":"level2_batch","product_ids":["BTC-USD"]}]}',
            b'{"type":"subscribe","channels":[{"name":"level2_batch","product_ids":["BTC-USD"]}]}',
        ),
        "BTC-USD",
    )
    subscribed = b'{"type":"subscriptions","channels":[{"name":"level2","product_ids":["ETH-USD"]}]}'
    pipeline.on_message(subscribed, 1, True)
    pipeline.on_message(changed(("buy", "61000.06", "1"), product_id="ETH-USD"), 1, True)
    (request,) = pipeline.decoder.take_requests()
    assert b'"name":"level2","product_ids":["ETH-USD"]' in request.messages[1]


# --- other events ---------------------------------------------------------------------------------


def test_the_last_match_is_backlog():
    log = decoded("coinbase", match("last_match"), match(side="buy"))
    assert [(trade.is_backlog, trade.side) for trade in log.trades] == [(True, Side.BUY), (False, Side.SELL)]


def test_sizes_of_quotes_are_unknown_before_2022():
    log = decoded(
        "coinbase", message("ticker", **TICKER), SAMPLES[0].messages["ticker"], SAMPLES[0].messages["first ticker"]
    )
    old, new, first = log.quotes
    assert (old.bid_decimal, old.ask_decimal) == ((Decimal("61000.05"), None), (Decimal("61000.1"), None))
    assert (new.bid_decimal, new.ask_qty) == ((Decimal("61000.05"), Decimal("1.5")), 2.0)
    assert (first.bid_decimal, first.ask_decimal, first.ts_event) == (None, None, 0)
    assert [ticker.last_price for ticker in log.of(Ticker)] == [61000.05] * 3


def test_orders_auctions_and_requests_for_quotes_tell_nothing():
    kinds = ("received", "open", "done", "change", "activate", "auction", "rfq_match", "status")
    log = decoded("coinbase", *(message(kind) for kind in kinds))
    assert log.events == []


def test_a_refusal(pipeline, log):
    pipeline.on_message(b'{"type":"error","message":"Failed to subscribe","reason":"no such product"}', 1, True)
    assert pipeline.decoder.take_requests() == [Refused("Failed to subscribe: no such product")]
    assert [status.status for status in log.feed_statuses] == ["refused"]


def test_one_message_subscribes_to_all():
    instruments = Instruments()
    COINBASE.load_instruments(LISTED, instruments)
    (plan,) = COINBASE.plan([Subscription("BTC-USD", ("book", "quote", "ticker", "trade"))], instruments)
    assert plan.subscribe == [
        b'{"type":"subscribe","channels":[{"name":"level2_batch","product_ids":["BTC-USD"]},'
        b'{"name":"ticker","product_ids":["BTC-USD"]},{"name":"matches","product_ids":["BTC-USD"]}]}'
    ]
