import json
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe
from feeds.events import Candle, Side, Ticker
from feeds.exchange import exchange
from feeds.exchanges.coinbase_advanced import CoinbaseAdvanced
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.testing import EventLog
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded

ADVANCED = exchange("coinbase-advanced")
TIME = "2026-04-07T14:30:00.123456Z"
EARLIER = "2026-04-07T14:30:00.1Z"


def message(channel, *events, number=-1, time=TIME):
    return json.dumps({"channel": channel, "timestamp": time, "sequence_num": number, "events": events}).encode()


def level(side, price, quantity, time=TIME):
    return {"side": side, "event_time": time, "price_level": price, "new_quantity": quantity}


def book(kind, *levels, product="BTC-USD", number=-1):
    return message("l2_data", {"type": kind, "product_id": product, "updates": levels}, number=number)


def trade(number, side="BUY", time=TIME):
    return {"trade_id": number, "product_id": "BTC-USD", "price": "68900.5", "size": "0.3", "side": side, "time": time}


def trades(kind, *those, number=-1):
    return message("market_trades", {"type": kind, "trades": those}, number=number)


SNAPSHOT = book(
    "snapshot",
    level("bid", "68900.00", "1.5", "1970-01-01T00:00:00Z"),
    level("offer", "68901.00", "1", "1970-01-01T00:00:00Z"),
    number=1,
)
UPDATE = book(
    "update",
    level("bid", "68900.00", "2.00000000", EARLIER),
    level("offer", "68901.00", "0.00000000", "2026-04-07T14:30:00.12Z"),
    level("offer", "68902.00", "3", EARLIER),
    number=2,
)
TICKER = {
    "product_id": "BTC-USD",
    "price": "68900.5",
    "best_bid": "68900.00",
    "best_bid_quantity": "2",
    "best_ask": "68902.00",
    "best_ask_quantity": "3",
}
CANDLE = {
    "start": "1790000100",
    "high": "1867.72",
    "low": "1865.63",
    "open": "1867.38",
    "close": "1866.81",
    "volume": "0.20269406",
    "product_id": "ETH-USD",
}
LISTED = json.dumps(
    {
        "products": [
            {"product_id": "BTC-USD", "price_increment": "0.01", "base_increment": "0.00000001", "alias": ""},
            {"product_id": "BTC-USDC", "price_increment": "0.01", "base_increment": "0.00000001", "alias": "BTC-USD"},
            {"product_id": "BTC-PERP-INTX", "price_increment": "0.1", "base_increment": "0.0001"},
            {"product_id": "BIT-25SEP26-CDE", "quote_increment": "5", "base_increment": "1"},
        ]
    }
).encode()
SAMPLES = [
    Samples(
        "coinbase-advanced",
        {
            "subscriptions": message("subscriptions", {"subscriptions": {"level2": ["BTC-USD"]}}, number=0),
            "snapshot": SNAPSHOT,
            "update": UPDATE,
            "trade backlog": trades("snapshot", trade("2"), trade("1", time=EARLIER), number=3),
            "trades": trades("update", trade("3"), trade("4", "SELL"), number=4),
            "ticker": message("ticker", {"type": "update", "tickers": [TICKER]}, number=5),
            "ticker batch": message(
                "ticker_batch", {"type": "update", "tickers": [{"product_id": "BTC-USD", "price": "1"}]}, number=6
            ),
            "candle": message("candles", {"type": "snapshot", "candles": [CANDLE]}, number=7),
            "heartbeat": message("heartbeats", {"current_time": TIME, "heartbeat_counter": 3049}, number=8),
            "status": message("status", {"type": "snapshot", "products": []}, number=9),
        },
        instruments=[also(LISTED, "BTC-USD", {"BTC": "ETH"})],
    )
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- books ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["offer", "ask"])
def test_the_ask_side_is_called_offer(pipeline, name):
    """Trap 4: asks are not lost, whichever of the two names the exchange uses."""
    pipeline.on_message(SNAPSHOT.replace(b"offer", name.encode()), 1, True)
    pipeline.on_message(UPDATE.replace(b"offer", name.encode()), 1, True)
    (kept,) = pipeline.books.books
    assert (kept.best_bid, kept.best_ask, len(kept.exact(1))) == ((68900.0, 2.0), (68902.0, 3.0), 1)


def test_an_unknown_side_is_a_problem(pipeline):
    pipeline.on_message(SNAPSHOT.replace(b"offer", b"both"), 1, True)
    assert pipeline.problems["bad_value"].count == 1


def test_the_time_of_an_update_is_that_of_its_newest_level():
    """Fewer digits are not an earlier time: .1, .12 and .123456."""
    log = decoded("coinbase-advanced", SNAPSHOT, UPDATE)
    assert [delta.ts_event for delta in log.deltas] == [iso_ns(TIME), iso_ns("2026-04-07T14:30:00.12Z")]


def test_a_message_of_any_channel_that_is_missed_costs_every_book_of_the_connection(pipeline, log):
    """Trap 5: the counter is of the connection, and nobody knows what was in the message."""
    other = book("snapshot", level("bid", "1", "1"), level("offer", "2", "1"), product="ETH-USD", number=2)
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(other, 1, True)
    pipeline.on_message(message("heartbeats", {}, number=3), 1, True)
    assert [kept.state for kept in pipeline.books.books] == [BookState.LIVE] * 2
    pipeline.on_message(message("heartbeats", {}, number=5), 1, True)
    assert [kept.state for kept in pipeline.books.books] == [BookState.GAP] * 2
    assert [request.tag for request in pipeline.decoder.take_requests()] == ["BTC-USD", "ETH-USD"]
    assert [status.status for status in log.feed_statuses] == ["gap"]
    pipeline.on_message(book("update", level("bid", "7", "1"), number=6), 1, True)  # still under way
    pipeline.on_message(SNAPSHOT.replace(b'"sequence_num": 1', b'"sequence_num": 7'), 1, True)
    assert [kept.state for kept in pipeline.books.books] == [BookState.LIVE, BookState.GAP]
    assert pipeline.books.books[0].best_bid == (68900.0, 1.5)


def test_a_message_that_comes_twice_is_decoded_once(pipeline, log):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(UPDATE, 1, True)
    pipeline.on_message(SNAPSHOT, 1, True)
    assert len(log.deltas) == 2
    assert pipeline.decoder.silent == {"repeated": 1}
    assert pipeline.books.books[0].best_bid == (68900.0, 2.0)


def test_a_snapshot_is_had_by_subscribing_anew(pipeline):
    pipeline.on_message(UPDATE, 1, True)
    assert pipeline.decoder.take_requests() == [
        Resubscribe(
            (
                b'{"type":"unsubscribe","channel":"level2","product_ids":["BTC-USD"]}',
                b'{"type":"subscribe","channel":"level2","product_ids":["BTC-USD"]}',
            ),
            "BTC-USD",
        )
    ]


# --- other events ---------------------------------------------------------------------------------


def test_the_side_of_a_trade_is_the_makers():
    log = decoded("coinbase-advanced", trades("update", trade("3"), trade("4", "SELL")))
    assert [(one.id, one.side, str(one.price_decimal)) for one in log.trades] == [
        ("3", Side.SELL, "68900.5"),
        ("4", Side.BUY, "68900.5"),
    ]


def test_the_side_of_a_trade_can_be_taken_for_the_aggressors():
    """Disagreement 13: the other reading."""
    other, log = CoinbaseAdvanced(), EventLog()
    other.names_maker = False
    other.new_decoder(Instruments(infer=True), log).decode(trades("update", trade("3"), trade("4", "SELL")), NOW)
    assert [one.side for one in log.trades] == [Side.BUY, Side.SELL]


def test_trades_of_a_snapshot_are_backlog_oldest_first():
    log = decoded(
        "coinbase-advanced", trades("snapshot", trade("2"), trade("1", time=EARLIER)), trades("update", trade("3"))
    )
    assert [(one.id, one.is_backlog) for one in log.trades] == [("1", True), ("2", True), ("3", False)]


def test_tickers_candles_and_what_they_do_not_tell():
    log = decoded("coinbase-advanced", *(SAMPLES[0].messages[name] for name in ("ticker", "ticker batch", "candle")))
    (quote,) = log.quotes
    assert (quote.bid_decimal, quote.ask_decimal) == ((Decimal(68900), Decimal(2)), (Decimal(68902), Decimal(3)))
    assert [ticker.last_price for ticker in log.of(Ticker)] == [68900.5, 1.0]
    (candle,) = log.of(Candle)
    assert (candle.ts_open, candle.interval, candle.close) == (1_790_000_100_000_000_000, 300, 1866.81)
    assert candle.is_closed is None


def test_a_refusal(pipeline):
    pipeline.on_message(b'{"type":"error","message":"authentication failure"}', 1, True)
    assert pipeline.decoder.take_requests() == [Refused("authentication failure")]


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata_leaves_out_markets_whose_data_name_another():
    instruments = Instruments()
    assert ADVANCED.load_instruments(LISTED, instruments) == []
    assert [(one.raw_symbol, one.symbol, one.kind) for one in instruments] == [
        ("BTC-USD", "BTC-USD", "spot"),
        ("BTC-PERP-INTX", "BTC-USDC-PERP", "perpetual"),
        ("BIT-25SEP26-CDE", "BIT-USD-20260925", "future"),
    ]


def test_one_channel_a_message_and_heartbeats_always():
    instruments = Instruments()
    ADVANCED.load_instruments(LISTED, instruments)
    wanted = [Subscription("BTC-USD", ("book", "trade")), Subscription("BTC-USDC-PERP", ("book",))]
    (plan,) = ADVANCED.plan(wanted, instruments)
    assert plan.subscribe == [
        b'{"type":"subscribe","channel":"heartbeats"}',
        b'{"type":"subscribe","channel":"level2","product_ids":["BTC-USD","BTC-PERP-INTX"]}',
        b'{"type":"subscribe","channel":"market_trades","product_ids":["BTC-USD"]}',
    ]
