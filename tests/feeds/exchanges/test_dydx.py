import json

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe
from feeds.events import Candle, Liquidation, Side, Ticker
from feeds.exchange import exchange
from feeds.exchanges.dydx import SETTLING, Dydx, Uncrossing
from feeds.instrument import Instruments
from feeds.pipeline import Pipeline
from feeds.subscription import Subscription
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import NOW, Samples, decoded, replayed, tops

DYDX = exchange("dydx")
V3 = "wss://api.dydx.exchange/v3/ws"
THEN = iso_ns("2021-10-28T18:03:50Z")
TIME = "2026-09-21T18:03:51.833Z"


def message(kind, number, channel="", contents=None, *, id="GRT-USD", **more):
    found = {"type": kind, "connection_id": "6783", "message_id": number, **more}
    if channel:
        found |= {"channel": channel, "id": id}
    if contents is not None:
        found["contents"] = contents
    return json.dumps(found).encode()


def snapshot(number, bids=(), asks=(), **more):
    sides = [[{"price": price, "size": size} for price, size in side] for side in (bids, asks)]
    return message("subscribed", number, "v4_orderbook", {"bids": sides[0], "asks": sides[1]}, **more)


def delta(number, *, id="GRT-USD", **sides):
    contents = {side: [list(level) for level in levels] for side, levels in sides.items()}
    return message("channel_data", number, "v4_orderbook", contents, id=id, version="1.0.0")


def trade(kind="LIMIT", side="BUY", **more):
    return {
        "id": "02c0b3", "size": "0.1", "price": "4215.6", "side": side, "createdAt": TIME, "type": kind, **more
    }  # fmt: skip


def candle(resolution="1MIN", at="2026-09-21T18:03:00.000Z"):
    return {
        "startedAt": at, "ticker": "GRT-USD", "resolution": resolution, "low": "0.5", "high": "3", "open": "1",
        "close": "2", "baseTokenVolume": "0.5", "usdVolume": "1.5", "trades": 2, "startingOpenInterest": "4",
    }  # fmt: skip


def v3(kind, number, channel, contents):
    return message(kind, number, channel, contents, id="ETH-USD")


LISTED = json.dumps(
    {
        "markets": {
            "BTC-USD": {"ticker": "BTC-USD", "tickSize": "1", "stepSize": "0.0001", "status": "ACTIVE"},
            "GRT-USD": {"ticker": "GRT-USD", "tickSize": "0.0001", "stepSize": "10", "status": "ACTIVE"},
            "X,RAY,9BB6-USD": {"ticker": "X,RAY,9BB6-USD", "tickSize": "0.1", "stepSize": "1", "status": "PAUSED"},
        }
    }
).encode()
SAMPLES = [
    Samples(
        "dydx",
        {
            "greeting": message("connected", 0),
            "snapshot": snapshot(1, [("0.1547", "35520")], [("0.155", "3220")]),
            "delta": delta(2, bids=[("0.1547", "0.0"), ("0.1546", "10")]),
            "batch": message(
                "channel_batch_data",
                3,
                "v4_orderbook",
                [{"bids": [["0.1545", "7"]]}, {"asks": [["0.1551", "4"]]}, {"asks": [["0.1551", "0"]]}],
                version="1.0.0",
            ),
            "nothing": message("channel_data", 4, "v4_orderbook"),
            "trade backlog": message(
                "subscribed",
                5,
                "v4_trades",
                {"trades": [trade(createdAtHeight="12"), trade(createdAtHeight="9", id="02c0b2")]},
            ),
            "trades": message("channel_data", 6, "v4_trades", {"trades": [trade(), trade("LIQUIDATED", "SELL")]}),
            "markets": message(
                "subscribed",
                7,
                "v4_markets",
                {
                    "markets": {
                        "GRT-USD": {
                            "ticker": "GRT-USD",
                            "status": "ACTIVE",
                            "oraclePrice": "0.15",
                            "openInterest": "5885.4242",
                            "nextFundingRate": "0.0000191279",
                        },
                        "NEW-USD": {"ticker": "NEW-USD", "status": "INITIALIZING"},
                    }
                },
            ),
            "market changed": message(
                "channel_data", 8, "v4_markets", {"trading": {"GRT-USD": {"openInterest": "5885.5", "trades24H": 7}}}
            ),
            "oracle price": message(
                "channel_data",
                9,
                "v4_markets",
                {"oraclePrices": {"GRT-USD": {"oraclePrice": "0.16", "effectiveAt": TIME, "effectiveAtHeight": "7"}}},
            ),
            "candles": message(
                "subscribed",
                10,
                "v4_candles",
                {"candles": [candle(), candle(at="2026-09-21T18:02:00.000Z")]},
                id="GRT-USD/1MIN",
            ),
            "candle": message("channel_data", 11, "v4_candles", candle("4HOURS"), id="GRT-USD/4HOURS"),
            "height": message("channel_data", 12, "v4_block_height", {"blockHeight": "7", "time": TIME}),
            "unsubscribed": message("unsubscribed", 13, "v4_trades"),
        },
        instruments=[LISTED],
    ),
    Samples(
        "dydx",
        {
            "greeting": message("connected", 0),
            "snapshot": v3(
                "subscribed",
                1,
                "v3_orderbook",
                {
                    "bids": [{"price": "1", "offset": "9", "size": "6.2"}],
                    "asks": [{"price": "2", "offset": "8", "size": "1"}],
                },
            ),
            "delta": v3("channel_data", 2, "v3_orderbook", {"offset": "10", "bids": [["1", "0"]], "asks": []}),
            "trade": v3(
                "channel_data",
                3,
                "v3_trades",
                {"trades": [{"size": "1", "side": "BUY", "price": "4215.6", "createdAt": "2021-10-28T18:03:51.833Z"}]},
            ),
        },
        captures=("DYDX.ws.1.0",),
        url=V3,
        ts=THEN,
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


def play(pipeline, *messages):
    for one in messages:
        pipeline.on_message(one, NOW, True)
    return pipeline.books.books[0].state.name


def levels(pipeline):
    book = pipeline.books.books[0]
    return [[f"{level.price} x {level.qty}" for level in side] for side in (book.bids(), book.asks())]


# --- the capture of v3 ----------------------------------------------------------------------------


def test_golden_values_of_v3(captures):
    log, replay = replayed(captures, "DYDX.ws.1.0")
    (pipeline,) = replay.pipelines
    assert tops(replay)["ETH-USD"] == ("4215.5 x 222.96", "4215.6 x 100.53", "534/256")
    updates = [d for d in log.deltas if not d.is_snapshot]
    assert (len(updates), sum(d.instrument.raw_symbol == "ETH-USD" for d in updates)) == (4687, 1720)
    assert pipeline.decoder.stale == 34
    assert not [status for status in log.book_statuses if status.new is BookState.CROSSED]
    backlog = [trade.is_backlog for trade in log.trades]
    assert (len(backlog), sum(backlog)) == (1026, 1000)
    # Trap 5: messages overtook each other while subscriptions were answered, and none is missing.
    counter = pipeline.decoder.counter
    assert (counter.last, counter.missed, counter.repeated, counter.awaited) == (4732, 0, 0, set())


def test_levels_of_v3_are_set_by_newer_messages_only():
    log = decoded(
        "dydx",
        *list(SAMPLES[1].messages.values())[:2],
        v3("channel_data", 2, "v3_orderbook", {"offset": "12", "bids": [["1", "0"], ["3", "1"]], "asks": [["2", "7"]]}),
        v3("channel_data", 3, "v3_orderbook", {"offset": "11", "bids": [["1", "5"], ["4", "1"]], "asks": [["2", "8"]]}),
        url=V3,
        ts=THEN,
    )
    assert [[(int(p), int(q)) for p, q in side] for side in (log.deltas[-1].bids, log.deltas[-1].asks)] == [
        [(4, 1)],
        [],
    ]


def test_which_version_was_spoken():
    assert DYDX.spoken(V3, NOW) is not DYDX
    assert DYDX.spoken("wss://indexer.dydx.trade/v4/ws", THEN) is DYDX
    assert DYDX.spoken("", THEN) is not DYDX
    assert DYDX.spoken("", NOW) is DYDX


# --- books of v4 ----------------------------------------------------------------------------------


def test_snapshots_are_objects_and_changes_pairs_with_sides_missing(pipeline):
    """Trap 21."""
    messages = SAMPLES[0].messages
    assert play(pipeline, *(messages[name] for name in ("snapshot", "delta", "batch", "nothing"))) == "LIVE"
    assert levels(pipeline) == [["0.1546 x 10.0", "0.1545 x 7.0"], ["0.155 x 3220.0"]]
    assert pipeline.decoder.silent == {"nothing changed": 1}


@pytest.mark.parametrize(
    ("messages", "bids", "asks"),
    [
        # the older level leaves, whichever is larger
        ([delta(2, bids=[("11", "1")])], ["11.0 x 1.0", "10.0 x 5.0", "8.0 x 1.0"], ["12.0 x 2.0"]),
        ([delta(2, asks=[("9", "1")])], ["8.0 x 1.0"], ["9.0 x 1.0", "11.0 x 3.0", "12.0 x 2.0"]),
        # of one message: the smaller leaves, and its size; the ask of 11 is older
        (
            [delta(2, bids=[("11.5", "4")], asks=[("11.5", "1")])],
            ["11.5 x 3.0", "10.0 x 5.0", "8.0 x 1.0"],
            ["12.0 x 2.0"],
        ),
        ([delta(2, bids=[("11.5", "4")], asks=[("11.5", "4")])], ["10.0 x 5.0", "8.0 x 1.0"], ["12.0 x 2.0"]),
        # what has left may come again
        (
            [delta(2, bids=[("11", "1")]), delta(3, bids=[("11", "0")], asks=[("11", "6")])],
            ["10.0 x 5.0", "8.0 x 1.0"],
            ["11.0 x 6.0", "12.0 x 2.0"],
        ),
    ],
)
def test_crossed_books_are_uncrossed(pipeline, messages, bids, asks):
    """Trap 18: crossed by design, and no gap."""
    start = snapshot(1, [("10", "5"), ("8", "1")], [("11", "3"), ("12", "2")])
    assert play(pipeline, message("connected", 0), start, *messages) == "LIVE"
    assert levels(pipeline) == [bids, asks]
    assert pipeline.books.gaps == 0


def test_a_snapshot_may_be_crossed(pipeline):
    start = snapshot(1, [("10", "5"), ("9", "1")], [("9.5", "3"), ("12", "2")])
    assert play(pipeline, start) == "LIVE"
    assert levels(pipeline) == [["10.0 x 2.0", "9.0 x 1.0"], ["12.0 x 2.0"]]


def test_crossed_books_may_be_had_as_they_are(log):
    """Section 27, 36: the other reading is an option."""
    pipeline = Pipeline(Dydx(uncrosses=False), Instruments(infer=True), log)
    assert play(pipeline, snapshot(1, [("10", "5")], [("11", "3")]), delta(2, bids=[("11", "1")])) == "CROSSED"


@pytest.mark.parametrize("level", [("NaN", "1"), ("1", "NaN"), ("Infinity", "1"), ("1", "-1"), ("x", "1")])
def test_a_level_that_is_none_changes_nothing(pipeline, level):
    assert play(pipeline, snapshot(1, [("10", "5")], [("11", "3")]), delta(2, bids=[("10", "0"), level])) == "LIVE"
    assert pipeline.problems["bad_value"].count == 1
    assert play(pipeline, delta(3, bids=[("9", "1")])) == "LIVE"
    assert levels(pipeline)[0] == ["10.0 x 5.0", "9.0 x 1.0"]


def test_uncrossing_ends_with_one_side_empty():
    assert Uncrossing().apply([("2", "1"), ("3", "1")], [("1", "5.0")], 7) == (
        [("2", "1"), ("3", "1"), ("3", "0"), ("2", "0")],
        [("1", "5.0"), ("1", "4.0"), ("1", "3.0")],
    )


# --- the connection's counter ---------------------------------------------------------------------


START = (message("connected", 0), snapshot(1, [("10", "5")], [("11", "3")]))


def later(first, count=SETTLING):
    return [message("channel_data", n, "v4_block_height", {"blockHeight": "7"}) for n in range(first, first + count)]


def test_a_jump_is_a_gap_of_every_book(pipeline):
    """Trap 5."""
    assert play(pipeline, *START, *later(2)) == "LIVE"
    assert play(pipeline, delta(SETTLING + 3)) == "GAP"
    assert pipeline.decoder.counter.missed == 1
    assert pipeline.decoder.take_requests() == [
        Resubscribe(
            (
                b'{"type":"unsubscribe","channel":"v4_orderbook","id":"GRT-USD"}',
                b'{"type":"subscribe","channel":"v4_orderbook","id":"GRT-USD"}',
            ),
            "GRT-USD",
        )
    ]
    assert play(pipeline, snapshot(SETTLING + 4, [("1", "1")], [])) == "LIVE"


def test_while_subscribing_messages_may_overtake_each_other(pipeline):
    assert play(pipeline, *START, delta(4), delta(2), delta(3), *later(5)) == "LIVE"
    assert pipeline.decoder.counter.missed == 0


def test_messages_that_overtook_another_wait_for_it(pipeline):
    """Or the book would be LIVE with a change and without the one before."""
    assert play(pipeline, *START, delta(3, bids=[("10.5", "1")]), delta(4, bids=[("10.5", "2")])) == "LIVE"
    (book,) = pipeline.books.books
    assert (book.best_bid.price, pipeline.decoder.silent["held"]) == (10, 2)
    play(pipeline, delta(2, asks=[("11", "0"), ("12", "1")]))
    assert (book.best_bid.qty, book.best_ask.price) == (2, 12)
    play(pipeline, delta(5, asks=[("12", "9")]))
    assert (book.best_ask.qty, pipeline.decoder.silent["held"]) == (9, 2)


def test_a_gap_among_messages_that_waited_stands_where_it_is(pipeline):
    """Not in front of a snapshot that waited with them, which lacks what came behind it."""
    cut = b'{"type":"channel_data","message_id":5,"id":"GRT-USD","chan'
    play(pipeline, *START, snapshot(3, [("1", "1")], []), delta(4, bids=[("1", "2")]), cut, delta(6, bids=[("1", "3")]))
    assert play(pipeline, delta(2, bids=[("10", "6")])) == "GAP"
    assert pipeline.decoder.counter.awaited == set()


def test_one_that_waited_and_cannot_be_read_is_a_gap(pipeline):
    broken = message("channel_data", 3, "v4_orderbook", {"bids": [["x", "1"]]})
    assert play(pipeline, *START, broken, delta(4, bids=[("9", "1")]), delta(2, bids=[("10", "6")])) == "GAP"
    assert {kind: problem.count for kind, problem in pipeline.problems.items()} == {"bad_value": 1}


def test_what_waits_has_a_bound(pipeline):
    play(pipeline, *START, *[delta(3)] * SETTLING)
    assert play(pipeline) == "LIVE"
    assert play(pipeline, delta(3)) == "GAP"
    assert pipeline.decoder.silent["held"] == SETTLING


def test_trades_that_cannot_be_read_are_no_gap_of_books(pipeline):
    cut = b'{"type":"channel_data","message_id":2,"id":"GRT-USD","channel":"v4_trades","contents":{"tra'
    assert play(pipeline, *START, cut, delta(3, bids=[("10", "6")])) == "LIVE"
    (book,) = pipeline.books.books
    assert book.best_bid.qty == 6


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"channel_data","message_id":2,"id":"GRT-USD","contents":{"bids":[["10.5","1"]]}}',
        b'{"type":"channel_data","message_id":2,"id":"GRT-USD","chan',
    ],
)
def test_a_message_that_cannot_be_read_is_a_gap_of_every_book(pipeline, text):
    assert play(pipeline, *START, text) == "GAP"


def test_what_does_not_come_while_subscribing_is_missing(pipeline):
    assert play(pipeline, *START, delta(3), *later(4)) == "GAP"
    assert pipeline.decoder.counter.missed == 1


# --- other events ---------------------------------------------------------------------------------


def test_trades_the_backlog_in_order_and_liquidations():
    """Trap 17."""
    log = decoded("dydx", *(SAMPLES[0].messages[name] for name in ("trade backlog", "trades")))
    assert [(t.id, t.side, t.is_backlog) for t in log.trades] == [
        ("02c0b2", Side.BUY, True),
        ("02c0b3", Side.BUY, True),
        ("02c0b3", Side.BUY, False),
        ("02c0b3", Side.SELL, False),
    ]
    numbers = {(str(t.price_decimal), str(t.qty_decimal), t.ts_event) for t in log.trades}
    assert numbers == {("4215.6", "0.1", iso_ns(TIME))}
    assert [(one.side, one.price, one.id) for one in log.of(Liquidation)] == [(Side.SELL, 4215.6, "02c0b3")]


def test_tickers_are_merged_field_by_field():
    """Trap 16."""
    names = ("markets", "market changed", "oracle price")
    first, second, third = decoded("dydx", *(SAMPLES[0].messages[name] for name in names)).of(Ticker)
    assert (first.index_price, first.open_interest, first.funding_rate) == (0.15, 5885.4242, 0.0000191279)
    assert (second.index_price, second.open_interest, second.ts_event) == (0.15, 5885.5, 0)
    assert (third.index_price, third.open_interest, third.ts_event) == (0.16, 5885.5, iso_ns(TIME))
    assert (third.mark_price, third.last_price, third.next_funding_time) == (None, None, 0)


def test_candles():
    found = decoded("dydx", *(SAMPLES[0].messages[name] for name in ("candles", "candle"))).of(Candle)
    starts = [iso_ns(f"2026-09-21T18:0{minute}:00Z") for minute in (2, 3, 3)]
    assert [(c.ts_open, c.interval, c.is_closed) for c in found] == [
        (starts[0], 60, None),
        (starts[1], 60, None),
        (starts[2], 14_400, None),
    ]
    assert (found[0].open, found[0].high, found[0].low, found[0].close, found[0].volume, found[0].quote_volume) == (
        1, 3, 0.5, 2, 0.5, 1.5
    )  # fmt: skip


def test_refusals(pipeline):
    refusal = message("error", 1, message="Invalid subscription: x")
    pipeline.on_message(refusal, NOW, True)
    assert pipeline.decoder.take_requests() == [Refused("Invalid subscription: x")]


# --- subscribing ----------------------------------------------------------------------------------


def test_one_message_a_subscription_after_the_greeting():
    instruments = Instruments()
    DYDX.load_instruments(LISTED, instruments)
    channels = ("book", "trade", "liquidation", "ticker", "candle")
    subscriptions = [Subscription(name, channels) for name in ("BTC-USD-PERP", "X,RAY,9BB6-USD-PERP")]
    (plan,) = DYDX.plan(subscriptions, instruments)
    assert (plan.path, plan.awaits_greeting) == ("/v4/ws", True)
    assert [json.loads(text) for text in plan.subscribe] == [
        {"type": "subscribe", "channel": "v4_orderbook", "id": "BTC-USD"},
        {"type": "subscribe", "channel": "v4_trades", "id": "BTC-USD"},
        {"type": "subscribe", "channel": "v4_markets"},
        {"type": "subscribe", "channel": "v4_candles", "id": "BTC-USD/1MIN"},
        {"type": "subscribe", "channel": "v4_orderbook", "id": "X,RAY,9BB6-USD"},
        {"type": "subscribe", "channel": "v4_trades", "id": "X,RAY,9BB6-USD"},
        {"type": "subscribe", "channel": "v4_candles", "id": "X,RAY,9BB6-USD/1MIN"},
    ]
