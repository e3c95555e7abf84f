import json

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe, Send
from feeds.events import Candle, Funding, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded

CRYPTO_COM = exchange("crypto-com")
MS = NOW // 1_000_000


def on(channel, *data, name="DOGE_USDT", subscription=None):
    result = {"instrument_name": name, "subscription": subscription or f"{channel}.{name}", "channel": channel}
    message = {"id": -1, "code": 0, "method": "subscribe", "result": result | {"data": data}}
    return json.dumps(message, separators=(",", ":")).encode()


def sides(bids, asks):
    return {"bids": [[*b, "1"] for b in bids], "asks": [[*a, "1"] for a in asks]}


def snapshot(u, bids=(), asks=()):
    return on("book", sides(bids, asks) | {"t": MS, "tt": MS - 5, "u": u, "cs": 1}, subscription="book.DOGE_USDT.50")


def update(u, pu, bids=(), asks=()):
    data = {"update": sides(bids, asks), "t": MS, "tt": MS - 5, "u": u, "pu": pu, "cs": 2}
    return on("book.update", data, subscription="book.DOGE_USDT.50")


def trades(*ids):
    rows = [{"d": str(i), "t": MS + i, "p": "0.062", "q": "300", "s": "SELL", "i": "DOGE_USDT"} for i in ids]
    return on("trade", *rows)


TICKER = {
    "i": "BTCUSD-PERP",
    "b": "30120.1",
    "bs": "0.2",
    "k": None,
    "ks": None,
    "a": "30120.1",
    "oi": "100.5",
    "t": MS,
}
SNAPSHOT = snapshot(100, [("0.0621", "300")], [("0.0622", "10")])
ENTRY = {"base_ccy": "BTC", "quote_ccy": "USD", "price_tick_size": "0.1", "qty_tick_size": "0.0001"}
LISTED = json.dumps(
    {
        "result": {
            "data": [
                ENTRY | {"symbol": "BTC_USD", "inst_type": "CCY_PAIR"},
                ENTRY | {"symbol": "BTCUSD-PERP", "inst_type": "PERPETUAL_SWAP", "expiry_timestamp_ms": 0},
                ENTRY | {"symbol": "BTCUSD-260925", "inst_type": "FUTURE", "expiry_timestamp_ms": 1790323200000},
            ]
        }
    }
).encode()
SAMPLES = [
    Samples(
        "crypto-com",
        {
            "ack": b'{"id":1,"code":0,"method":"subscribe"}',
            "heartbeat": b'{"id":1587523073344,"method":"public/heartbeat","code":0}',
            "snapshot": SNAPSHOT,
            "update": update(107, 100, [("0.0621", "0")]),
            "quiet": update(107, 107),
            "trades": trades(2, 1),
            "ticker": on("ticker", TICKER, name="BTCUSD-PERP"),
            "mark": on("mark", {"v": "30123.5", "t": MS}, name="BTCUSD-PERP"),
            "funding": on("funding", {"v": "0.00001", "t": MS}, name="BTCUSD-PERP"),
            "estimated": on("estimatedfunding", {"v": "-0.00002", "t": MS}, name="BTCUSD-PERP"),
            "candle": on(
                "candlestick",
                {"o": "1", "h": "3", "l": "0.5", "c": "2", "v": "9", "t": MS},
                subscription="candlestick.1m.DOGE_USDT",
            ),
            "settlement": on("settlement", {"v": "1", "t": MS}),
        },
        instruments=[also(LISTED, "BTC_USD", {"BTC": "DOGE", "USD": "USDT"})],
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


@pytest.mark.parametrize(
    ("u", "pu", "state"),
    [(107, 100, "LIVE"), (100, 100, "LIVE"), (107, 101, "GAP")],  # ids jump; a quiet book repeats its id
)
def test_a_change_names_the_message_before(pipeline, u, pu, state):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(update(u, pu), 1, True)
    assert pipeline.books.books[0].state.name == state


def test_a_gap_subscribes_anew(pipeline):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(update(107, 100, [("0.0621", "0")]), 1, True)
    pipeline.on_message(update(107, 107), 1, True)  # trap 21
    (book,) = pipeline.books.books
    assert (book.state, list(book.bids())) == (BookState.LIVE, [])
    pipeline.on_message(update(120, 110), 1, True)
    (request,) = pipeline.decoder.take_requests()
    assert isinstance(request, Resubscribe)
    assert [json.loads(message)["params"]["channels"] for message in request.messages] == [["book.DOGE_USDT.50"]] * 2
    pipeline.on_message(snapshot(130, [("0.05", "1")]), 1, True)
    assert (book.state, [level.price for level in book.bids()]) == (BookState.LIVE, [0.05])


def test_a_heartbeat_is_answered_with_its_id(pipeline):
    """Trap 12."""
    pipeline.on_message(SAMPLES[0].messages["heartbeat"], 1, True)
    assert pipeline.decoder.take_requests() == [Send(b'{"id":1587523073344,"method":"public/respond-heartbeat"}')]


def test_trades_come_oldest_first_and_the_first_ones_are_backlog():
    """Trap 17."""
    log = decoded("crypto-com", trades(2, 1), trades(3))
    assert [(trade.id, trade.is_backlog, trade.side) for trade in log.trades] == [
        ("1", True, Side.SELL),
        ("2", True, Side.SELL),
        ("3", False, Side.SELL),
    ]


def test_events():
    log = decoded("crypto-com", *SAMPLES[0].messages.values())
    (quote,) = log.quotes
    assert (quote.bid_price, quote.bid_qty, quote.ask_price) == (30120.1, 0.2, None)
    ticker, mark = log.of(Ticker)
    assert (ticker.last_price, ticker.open_interest, mark.mark_price, mark.last_price) == (
        30120.1,
        100.5,
        30123.5,
        None,
    )
    now, next_ = log.of(Funding)
    assert (now.funding_rate, now.next_funding_rate) == (0.00001, None)
    assert (next_.funding_rate, next_.next_funding_rate) == (None, -0.00002)
    (candle,) = log.of(Candle)
    assert (candle.interval, candle.open, candle.close, candle.volume) == (60, 1, 2, 9)
    assert [delta.ts_event for delta in log.deltas] == [(MS - 5) * 1_000_000] * 3


def test_a_refusal(pipeline):
    pipeline.on_message(b'{"id":1,"code":40003,"method":"subscribe","message":"Invalid request"}', 1, True)
    assert pipeline.decoder.take_requests() == [Refused("code 40003: Invalid request")]


def test_subscriptions():
    instruments = Instruments()
    assert CRYPTO_COM.load_instruments(LISTED, instruments) == []
    assert [(i.symbol, i.kind) for i in instruments] == [
        ("BTC-USD", "spot"),
        ("BTC-USD-PERP", "perpetual"),
        ("BTC-USD-20260925", "future"),
    ]
    (plan,) = CRYPTO_COM.plan([Subscription("BTC-USD-PERP", ("book", "quote", "ticker"))], instruments)
    assert (plan.path, plan.subscribe_after) == ("/exchange/v1/market", 1.0)
    assert json.loads(plan.subscribe[0])["params"] == {
        "channels": ["book.BTCUSD-PERP.50", "ticker.BTCUSD-PERP", "mark.BTCUSD-PERP"],
        "book_subscription_type": "SNAPSHOT_AND_UPDATE",
        "book_update_frequency": 10,
    }
