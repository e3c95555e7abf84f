import gzip
import json
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe, Send
from feeds.errors import DecodeError
from feeds.events import Candle, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.testing import EventLog
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded, replayed, tops

HTX = exchange("htx")
MS = NOW // 1_000_000
MBP = "market.btcusdt.mbp.400"
ASK = Resubscribe((b'{"req":"market.btcusdt.mbp.400","id":"snapshot btcusdt"}',), "btcusdt")


def on(topic, tick, **more):
    return json.dumps({"ch": topic, "ts": MS, "tick": tick, **more}).encode()


def changes(before, last, bids=(), asks=()):
    levels = {"bids": [list(level) for level in bids], "asks": [list(level) for level in asks]}
    return on(MBP, {"seqNum": last, "prevSeqNum": before, **levels})


def snapshot(last, bids=((5.0, 1),), asks=((6.0, 1),)):
    data = {"seqNum": last, "bids": [list(level) for level in bids], "asks": [list(level) for level in asks]}
    return json.dumps({"id": ASK.tag, "rep": MBP, "status": "ok", "ts": MS, "data": data}).encode()


def trades(*entries):
    return on("market.trioeth.trade.detail", {"id": 100182534526, "ts": MS, "data": list(entries)})


PING = b'{"ping":1618678073643}'
TRADE = {
    "id": 100182534526255757567432481,
    "ts": MS,
    "tradeId": 100045088885,
    "amount": 20995.88,
    "price": 9.2e-7,
    "direction": "buy",
}
BEST = {
    "seqId": 157,
    "ask": 62382.57,
    "askSize": 0.0955,
    "bid": 62382.56,
    "bidSize": 0.0795,
    "quoteTime": MS - 3,
    "symbol": "btcusdt",
}
STEP0 = (
    b'{"ch":"market.ethusdt.depth.step0","ts":%d,"tick":{"bids":[[9.121E-7,92730.24],[1.0E-9,2.2E8]],'
    b'"asks":[[9.2E-7,13463.35]],"version":7,"ts":%d}}' % (MS, MS - 1)
)
CANDLE = (
    b'{"ch":"market.btcusdt.kline.1min","ts":%d,"tick":{"id":1790000000,"open":54907.85,"close":54840.82,"low":54835.5,'
    b'"high":54917.74,"amount":13.815438084125795,"vol":758023.92393986,"count":404}}' % MS
)
LISTED = json.dumps(
    {
        "status": "ok",
        "data": [
            {
                "base-currency": base,
                "quote-currency": quote,
                "price-precision": 2,
                "amount-precision": 6,
                "symbol": base + quote,
                "state": "online",
            }
            for base, quote in (("btc", "usdt"), ("btc", "husd"))
        ],
    }
).encode()
SAMPLES = [
    Samples(
        "htx",
        {
            "ack": b'{"id":"1","status":"ok","subbed":"market.btcusdt.mbp.400","ts":1618678070653}',
            "ping": PING,
            "changes": changes(10, 11, [(4.5, 1)]),
            "one side": b'{"ch":"market.btcusdt.mbp.400","ts":%d,"tick":{"seqNum":12,"prevSeqNum":11,"bids":null}}'
            % MS,
            "snapshot": snapshot(11),
            "top": on("market.ltcusdt.mbp.refresh.20", {"seqNum": 5, "bids": [[5.5, 1]], "asks": [[5.6, 2]]}),
            "step0": STEP0,
            "quote": on("market.btcusdt.bbo", BEST),
            "trade": trades(TRADE),
            "trade, compressed": gzip.compress(trades(TRADE | {"direction": "sell"}), mtime=0),
            "ticker": on("market.btcusdt.ticker", {"open": 27516.87, "close": 26274.0, "lastPrice": 26274.5}),
            "candle": CANDLE,
            "delisted": on("market.xxxusdt.depth.step0", {"version": 7, "ts": MS}),
        },
        instruments=[
            also(LISTED, "btcusdt", *({"btc": base} for base in ("ltc", "eth", "xxx")), {"btc": "trio", "usdt": "eth"})
        ],
    )
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


def play(pipeline, *messages):
    for message in messages:
        pipeline.on_message(message, NOW, True)
    return pipeline.books.books[0].state.name


# --- the capture ----------------------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    """All of it, but for books whose amounts no int64 holds together: 13 decimals beside 5,993,289.85 are 20 digits."""
    log, replay = replayed(captures, "HUOBI.ws.44.0")
    (pipeline,) = replay.pipelines
    assert {kind: problem.count for kind, problem in pipeline.problems.items()} == {"bad_value": 45}
    assert "found one beyond int64" in pipeline.problems["bad_value"].first
    assert tops(replay)["trioeth"] == ("0.0000009121 x 202452.64", "0.00000092 x 13463.35", "26/150")
    (kept,) = (book for book in pipeline.books.books if book.instrument.raw_symbol == "trioeth")
    assert (kept.ts_event, kept.state) == (1_618_678_099_959_000_000, BookState.LIVE)
    assert Counter(delta.instrument.raw_symbol for delta in log.deltas) == {
        "borusdt": 27,
        "dogeeth": 30,
        "fil3susdt": 17,  # of 31
        "nesteth": 29,
        "omgbtc": 31,
        "propyeth": 25,
        "trioeth": 26,
        "yfihusd": 31,
        "zeneth": 31,
    }  # and of xvgeth none of 31
    assert all(delta.is_snapshot and delta.depth == 150 for delta in log.deltas)
    assert pipeline.decoder.silent == {"ack": 20, "ping": 6}
    assert replay.messages == 292 + 44 + 20 + 6


def test_the_first_trades_of_the_capture_are_from_before_the_connection(captures):
    """Trap 17."""
    log, _ = replayed(captures, "HUOBI.ws.44.0")
    began = 1_618_678_070 * 10**9
    assert (len(log.trades), sum(trade.is_backlog for trade in log.trades)) == (73, 11)
    assert all(trade.is_backlog == (trade.ts_event < began) for trade in log.trades)
    first = log.trades[0]
    assert (first.instrument.raw_symbol, first.id, first.side) == ("trioeth", "100045088885", Side.BUY)
    assert (first.price_decimal.normalize(), first.qty_decimal.normalize()) == (Decimal("9.2E-7"), Decimal("20995.88"))


def test_metadata_of_2021(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "HUOBI.0.gz", "rb") as file:
        (reply,) = [line.partition(b": ")[2].strip() for line in file if line.startswith(b"https")]
    assert HTX.load_instruments(reply, instruments) == []
    assert len(instruments) == 883  # 55 more are offline
    found = instruments.resolve("htx", "YEE-BTC")
    assert (found.raw_symbol, found.kind, found.tick_size, found.lot_size) == (
        "yeebtc", "spot", Decimal("1E-10"), Decimal("0.01")
    )  # fmt: skip


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [PING, gzip.compress(PING, mtime=0)])
def test_pings_are_echoed(pipeline, message):
    """Trap 12. Trap 25: what is compressed shows by its first bytes."""
    pipeline.on_message(message, NOW, True)
    assert pipeline.decoder.take_requests() == [Send(b'{"pong":1618678073643}')]
    assert pipeline.problems == {}


@pytest.mark.parametrize("cut", range(1, 30, 7))
def test_frames_that_are_cut_off_are_refused(log, cut):
    decoder = HTX.new_decoder(Instruments(infer=True), log)
    with pytest.raises(DecodeError, match=r"^htx: expected a compressed message"):
        decoder.decode(gzip.compress(PING, mtime=0)[:-cut], NOW)


def test_errors_show_the_text_and_not_the_frame(pipeline):
    pipeline.on_message(gzip.compress(on("market.btcusdt.nosuch", {}), mtime=0), NOW, True)
    assert "market.btcusdt.nosuch" in pipeline.problems["unknown_message"].first


# --- books ----------------------------------------------------------------------------------------


def test_a_snapshot_is_requested_on_the_connection_and_joined(pipeline):
    assert (
        play(pipeline, changes(9, 10, [(4.1, 1)]), changes(10, 11, [(4.2, 1)]), changes(11, 12, [(4.3, 1)]))
        == "SYNCING"
    )
    assert pipeline.decoder.take_requests() == [ASK]
    assert play(pipeline, snapshot(11)) == "LIVE"
    (kept,) = pipeline.books.books
    assert [level.price for level in kept.bids()] == [5.0, 4.3, 4.2]  # 10 is in it; 11 changes nothing in truth
    assert kept.last_id == 12
    assert play(pipeline, changes(12, 15, [(4.3, 0)]), changes(15, 16)) == "LIVE"
    assert play(pipeline, changes(17, 18)) == "GAP"
    assert pipeline.decoder.take_requests() == [ASK]


def test_a_snapshot_that_is_too_old_is_requested_again(pipeline):
    assert play(pipeline, changes(11, 12, [(4.3, 1)]), snapshot(9)) == "SYNCING"
    assert pipeline.decoder.take_requests() == [ASK, ASK]
    assert play(pipeline, snapshot(12)) == "LIVE"


def test_a_message_around_the_snapshot_does_not_continue_it(pipeline):
    assert play(pipeline, changes(10, 14, [(4.3, 1)]), snapshot(12)) == "SYNCING"
    assert pipeline.decoder.take_requests() == [ASK, ASK]
    assert play(pipeline, snapshot(14), changes(14, 15)) == "LIVE"


def test_a_snapshot_newer_than_all_changes_is_joined_by_the_next(pipeline):
    assert play(pipeline, changes(10, 11, [(4.3, 1)]), snapshot(20), changes(11, 12), changes(20, 21)) == "LIVE"
    (kept,) = pipeline.books.books
    assert (kept.last_id, len(kept.bids())) == (21, 1)


STEPS = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from("ba"), st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=20
)


@given(STEPS, st.data())
def test_a_joined_book_is_the_true_one_and_a_lost_message_is_noticed(steps, data):
    """Changes of (step of the id, side, price, size); the snapshot is of any moment and comes at any later one."""
    last, truth, messages, snapshots = 100, ({}, {}), [], []
    for step, side, price, size in steps:
        snapshots.append(snapshot(last, *([*levels.items()] for levels in truth)))
        is_ask = side == "a"
        level = [(price + 100 * is_ask, size)]
        messages.append(changes(last, last + step, () if is_ask else level, level if is_ask else ()))
        last += step
        truth[is_ask][level[0][0]] = size
    truth = tuple({price: size for price, size in levels.items() if size} for levels in truth)
    of = data.draw(st.integers(0, len(steps) - 1))
    when = data.draw(st.integers(of, len(steps)))
    lost = data.draw(st.none() | st.integers(of, len(steps) - 1))
    stream = list(messages)
    stream.insert(when, snapshots[of])
    if lost is not None:
        stream.remove(messages[lost])
    pipeline = SAMPLES[0].pipeline(EventLog())
    state = play(pipeline, *stream)
    (kept,) = pipeline.books.books
    if lost is None:
        assert state == "LIVE"
    if state == "LIVE":
        # what comes after it tells of a loss at the end
        if play(pipeline, changes(last, last + 1)) == "LIVE":
            found = tuple({level.price: level.qty for level in levels} for levels in (kept.bids(), kept.asks()))
            assert (lost, found) == (None, truth)
        else:
            assert lost is not None


@pytest.mark.parametrize("data", [b',"data":null', b""])
def test_a_snapshot_that_is_not_there_yet_is_requested_again(pipeline, data):
    reply = b'{"id":"snapshot btcusdt","rep":"market.btcusdt.mbp.400","status":"ok","ts":1%s}' % data
    assert play(pipeline, changes(10, 11), reply) == "SYNCING"
    assert pipeline.decoder.take_requests() == [ASK, ASK]
    assert pipeline.decoder.silent == {"no snapshot": 1}


def test_a_refused_snapshot_is_a_problem_and_a_refused_subscription_ends_the_feed(pipeline):
    refusal = b'{"status":"error","err-code":"bad-request","err-msg":"no","id":"%s","ts":1}'
    pipeline.on_message(refusal % b"snapshot btcusdt", NOW, True)
    assert not pipeline.decoder.has_requests
    assert "expected the book of btcusdt, found bad-request: no" in pipeline.problems["unknown_reply"].first
    pipeline.on_message(refusal % b"1", NOW, True)
    assert pipeline.decoder.take_requests() == [Refused("bad-request: no")]


@pytest.mark.parametrize("sides", [b'"bids":[]', b'"bids":null,"asks":null', b'"asks":[]', b'"zzz":0'])
def test_changes_without_levels_still_count(pipeline, sides):
    """Trap 21."""
    empty = b'{"ch":"market.btcusdt.mbp.400","ts":%d,"tick":{"seqNum":12,"prevSeqNum":11,%s}}' % (MS, sides)
    assert play(pipeline, changes(10, 11), snapshot(11), empty, changes(12, 13)) == "LIVE"


def test_levels_beyond_the_window_leave(pipeline):
    bids = [(1000 - n, 1) for n in range(400)]
    assert play(pipeline, changes(10, 11), snapshot(11, bids, [(2000, 1)]), changes(11, 12, [(1001, 1)])) == "LIVE"
    kept = pipeline.books.books[0].bids()
    assert (len(kept), kept[0].price, kept[-1].price) == (400, 1001, 602)


def test_a_second_depth_of_a_symbol_does_not_touch_the_book(pipeline):
    other = on("market.btcusdt.mbp.20", {"seqNum": 99, "prevSeqNum": 98, "bids": [[1, 1]], "asks": []})
    assert play(pipeline, changes(10, 11), snapshot(11), other, changes(11, 12)) == "LIVE"
    assert pipeline.decoder.silent == {"other depth": 1}


def test_numbers_with_exponents_are_exact():
    """Trap 14."""
    (top,) = decoded("htx", STEP0).deltas
    assert top.bids == [(Decimal("9.121E-7"), Decimal("92730.24")), (Decimal("1E-9"), Decimal(220_000_000))]
    assert top.ts_event == (MS - 1) * 1_000_000


# --- other events ---------------------------------------------------------------------------------


def test_ids_of_27_digits_are_not_rounded():
    """Trap 13: without an id of the trade, that of the match is all there is."""
    bare = {key: value for key, value in TRADE.items() if key != "tradeId"}
    log = decoded("htx", trades(TRADE, bare | {"direction": "sell"}))
    assert [(trade.id, trade.side) for trade in log.trades] == [
        ("100045088885", Side.BUY),
        ("100182534526255757567432481", Side.SELL),
    ]


def test_quotes_tickers_and_candles():
    log = decoded("htx", *SAMPLES[0].messages.values())
    (quote,) = log.quotes
    assert (quote.bid_price, quote.bid_qty, quote.ask_price, quote.ask_qty) == (62382.56, 0.0795, 62382.57, 0.0955)
    assert (quote.ts_event, quote.sequence) == ((MS - 3) * 1_000_000, 0)
    (ticker,) = log.of(Ticker)
    assert ticker.last_price == 26274.5
    (candle,) = log.of(Candle)
    assert (candle.interval, candle.ts_open, candle.low) == (60, 1_790_000_000 * 10**9, 54835.5)
    assert (candle.volume, candle.quote_volume) == (13.815438084125795, 758023.92393986)


def test_a_side_of_a_quote_may_be_null():
    (quote,) = decoded("htx", on("market.btcusdt.bbo", BEST | {"bid": None, "bidSize": None})).quotes
    assert (quote.bid_price, quote.bid_qty, quote.ask_price) == (None, None, 62382.57)


def test_symbols_that_are_not_traded_any_more_tell_nothing(pipeline):
    pipeline.on_message(SAMPLES[0].messages["delisted"], NOW, True)
    assert (pipeline.decoder.silent, pipeline.problems) == ({"no levels": 1}, {})


# --- subscribing ----------------------------------------------------------------------------------


def test_changes_have_a_socket_of_their_own():
    instruments = Instruments()
    assert HTX.load_instruments(LISTED, instruments) == []
    assert [i.symbol for i in instruments] == ["BTC-USDT", "BTC-HUSD"]
    plans = HTX.plan([Subscription("BTC-USDT", ("book", "quote", "trade"))], instruments)
    assert [(plan.path, plan.subscribe) for plan in plans] == [
        ("/feed", [b'{"sub":"market.btcusdt.mbp.400","id":"1"}']),
        (
            "/ws",
            [b'{"sub":"market.btcusdt.bbo","id":"1"}', b'{"sub":"market.btcusdt.trade.detail","id":"2"}'],
        ),
    ]
