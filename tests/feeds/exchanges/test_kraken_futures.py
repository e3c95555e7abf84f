import json

import pytest

from feeds.book import BookState
from feeds.decoder import Refused
from feeds.events import Liquidation, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import Samples, decoded, replayed, tops

FUTURES = exchange("kraken-futures")
MS = 1_790_000_000_000


def on(feed, **fields):
    return json.dumps({"feed": feed, "product_id": "PF_XBTUSD", **fields}).encode()


def update(seq, side="sell", price=61001.5, qty=2.0):
    return on("book", side=side, seq=seq, price=price, qty=qty, timestamp=MS)


def trade(seq, kind="fill", **fields):
    known = {"feed": "trade", "product_id": "PF_XBTUSD", "uid": f"u{seq}", "side": "sell", "type": kind, "seq": seq}
    return known | {"time": MS + seq, "qty": 3.0, "price": 61000.5} | fields


SNAPSHOT = on(
    "book_snapshot",
    timestamp=MS,
    seq=100,
    tickSize=None,
    bids=[{"price": 61000.5, "qty": 1.5e1}, {"price": 61000, "qty": -1.0}],
    asks=[{"price": 61001.5, "qty": 4787.0}, {"price": 61002, "qty": 0.0}],
)
TICKER = {
    "bid": 61000.5,
    "ask": 61001.5,
    "bid_size": 42864,
    "ask_size": 2300,
    "last": 61001,
    "time": MS,
    "funding_rate": 0.39,
    "relative_funding_rate": 1.1e-05,
    "next_funding_rate_time": MS + 1000,
    "index": 61000.75,
    "markPrice": 61001.25,
    "openInterest": 150.5,
}
LISTED = json.dumps(
    {
        "result": "success",
        "instruments": [
            {"symbol": "pi_xbtusd", "type": "futures_inverse", "tickSize": 0.5, "contractSize": 1},
            {"symbol": "PF_XBTUSD", "tickSize": 0.5, "contractSize": 1, "contractValueTradePrecision": 4},
            {"symbol": "FI_XBTUSD_260925", "tickSize": 0.5, "contractSize": 1, "contractValueTradePrecision": 0},
            {"symbol": "PF_PEPEUSD", "tickSize": 1e-9, "contractSize": 1, "contractValueTradePrecision": -3},
            {"symbol": "in_xbtusd", "type": "spot index"},
        ],
    }
).encode()
SAMPLES = [
    Samples(
        "kraken-futures",
        {
            "info": b'{"event":"info","version":1}',
            "ack": b'{"event":"subscribed","feed":"book","product_ids":["PF_XBTUSD"]}',
            "heartbeat": b'{"feed":"heartbeat","time":1790000000000}',
            "snapshot": SNAPSHOT,
            "update": update(101),
            "trade backlog": on("trade_snapshot", trades=[trade(2), trade(1)]),
            "trade": json.dumps(trade(3)).encode(),
            "liquidation": json.dumps(trade(4, "liquidation")).encode(),
            "block": json.dumps(trade(5, "block")).encode(),
            "ticker": on("ticker", **TICKER),
            "ticker lite": on("ticker_lite", bid=61000.5, ask=61001.5, change=0.1, premium=0, volume="7.0541503E7"),
        },
        instruments=[LISTED],
        captures=("KRAKEN_FUTURES.ws.1.0",),
    )
]


@pytest.fixture
def pipeline(log):
    pipeline = SAMPLES[0].pipeline(log)
    pipeline.on_message(SNAPSHOT, 1, True)
    return pipeline


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "KRAKEN_FUTURES.ws.1.0")
    found = tops(replay)
    assert found["PI_ETHUSD"] == ("2002.05 x 4387", "2003.05 x 600", "347/305")
    assert found["FI_BCHUSD_210730"] == ("439.3 x 20108", "439.8 x 50", "11/12")
    updates = [delta.instrument.raw_symbol for delta in log.deltas if not delta.is_snapshot]
    assert (len(updates), updates.count("PI_ETHUSD"), updates.count("FI_BCHUSD_210730")) == (7014, 3890, 18)
    (pipeline,) = replay.pipelines
    ids = {book.instrument.raw_symbol: book.last_id for book in pipeline.books.books}
    assert (ids["PI_ETHUSD"], ids["FI_BCHUSD_210730"]) == (26664749, 91210)
    assert (sum(t.is_backlog for t in log.trades), sum(not t.is_backlog for t in log.trades)) == (1000, 3)
    assert len(log.quotes) == 107


def test_the_backlog_comes_oldest_first(captures):
    """Trap 17: 100 trades of each."""
    log, _ = replayed(captures, "KRAKEN_FUTURES.ws.1.0")
    for symbol in {trade.instrument.raw_symbol for trade in log.trades}:
        times = [trade.ts_event for trade in log.trades if trade.instrument.raw_symbol == symbol]
        assert times == sorted(times)


def test_levels_of_no_quantity_or_a_negative_one_are_none(pipeline):
    (kept,) = pipeline.books.books
    assert (kept.bids(), kept.asks()) == ([(61000.5, 15.0)], [(61001.5, 4787.0)])
    pipeline.on_message(update(101, "buy", 61000.5, -5.0), 1, True)
    assert kept.bids() == []


@pytest.mark.parametrize(("seq", "state"), [(101, BookState.LIVE), (100, BookState.LIVE), (102, BookState.GAP)])
def test_the_number_grows_by_one(pipeline, seq, state):
    pipeline.on_message(update(seq), 1, True)
    assert pipeline.books.books[0].state is state
    requests = pipeline.decoder.take_requests()
    assert [request.messages for request in requests] == (
        []
        if state is BookState.LIVE
        else [
            (
                b'{"event":"unsubscribe","feed":"book","product_ids":["PF_XBTUSD"]}',
                b'{"event":"subscribe","feed":"book","product_ids":["PF_XBTUSD"]}',
            )
        ]
    )


def test_a_book_message_without_its_number_is_no_change(pipeline):
    pipeline.on_message(update(101).replace(b'"seq"', b'"simulated"'), 1, True)
    pipeline.on_message(SNAPSHOT.replace(b'"seq"', b'"simulated"'), 1, True)
    assert pipeline.problems["missing_field"].count == 2
    pipeline.on_message(update(102), 1, True)
    assert pipeline.books.books[0].state is BookState.GAP


def test_trades_liquidations_and_what_is_no_print():
    log = decoded("kraken-futures", *SAMPLES[0].messages.values())
    assert [(one.id, one.side, one.is_backlog) for one in log.trades] == [
        ("u1", Side.SELL, True),
        ("u2", Side.SELL, True),
        ("u3", Side.SELL, False),
        ("u4", Side.SELL, False),
    ]
    assert [(one.id, one.side) for one in log.of(Liquidation)] == [("u4", Side.SELL)]


@pytest.mark.parametrize(("relative", "rate"), [(True, 1.1e-05), (False, 0.39)])
def test_the_funding_rate_is_the_relative_one_or_the_absolute(monkeypatch, relative, rate):
    """Disagreement 16."""
    monkeypatch.setattr(FUTURES, "relative_funding", relative)
    log = decoded("kraken-futures", *(SAMPLES[0].messages[name] for name in ("ticker", "ticker lite")))
    (ticker,) = log.of(Ticker)
    assert (ticker.funding_rate, ticker.mark_price, ticker.open_interest) == (rate, 61001.25, 150.5)
    assert ticker.next_funding_time == (MS + 1000) * 10**6
    assert [(one.bid_qty, one.ts_event) for one in log.quotes] == [(42864, MS * 10**6), (None, 0)]


@pytest.mark.parametrize("event", ["error", "alert"])
def test_a_refusal(pipeline, event):
    pipeline.on_message(json.dumps({"event": event, "message": "Invalid product id"}).encode(), 1, True)
    assert pipeline.decoder.take_requests() == [Refused("Invalid product id")]


def test_names_and_subscriptions():
    instruments = Instruments()
    assert FUTURES.load_instruments(LISTED, instruments) == []
    assert [one.symbol for one in instruments] == [
        "BTC-USD-PERP-BTC",
        "BTC-USD-PERP",
        "BTC-USD-20260925-BTC",
        "PEPE-USD-PERP",
    ]
    (plan,) = FUTURES.plan([Subscription("PF_XBTUSD", ("book", "trade"))], instruments)
    assert plan.subscribe == [
        b'{"event":"subscribe","feed":"heartbeat"}',
        b'{"event":"subscribe","feed":"book","product_ids":["PF_XBTUSD"]}',
        b'{"event":"subscribe","feed":"trade","product_ids":["PF_XBTUSD"]}',
    ]
