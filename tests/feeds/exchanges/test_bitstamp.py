import gzip
import json
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Fetch, Reconnect, Refused
from feeds.events import Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import Samples, also, decoded, replayed, tops

BITSTAMP = exchange("bitstamp")
US = 1_790_000_000_000_000


def on(channel, event="data", **data):
    return json.dumps({"data": data, "channel": channel, "event": event}).encode()


def diff(at, bids=(), asks=(), market="btcusd"):
    times = {"timestamp": str((US + at) // 10**6), "microtimestamp": str(US + at)}
    return on(f"diff_order_book_{market}", **times, bids=bids, asks=asks)


def snapshot(at, **fields):
    times = {"timestamp": str((US + at) // 10**6), "microtimestamp": str(US + at)}
    return json.dumps(times | {"bids": [["5.00", "1"]], "asks": [["6.00", "1"]]} | fields).encode()


TRADE = on(
    "live_trades_btcusd-perp",
    "trade",
    id=216000477,
    timestamp="1790000000000",
    amount=0.0016429999999999999,
    amount_str="0.00164300",
    price=3805.44,
    price_str="3805.44",
    type=1,
    microtimestamp=str(US),
)
FUNDING = on(
    "funding_rate_btcusd-perp",
    "funding_rate_saved",
    market="btcusd-perp",
    mark_price="77180.1",
    index_price="77177.99454545454",
    funding_rate="0.000123",
    timestamp="1789457618",
    next_funding_time="1789459200",
)
LISTED = json.dumps(
    [
        {"name": "BTC/USD", "market_symbol": "btcusd", "base_decimals": 8, "counter_decimals": 2},
        {"name": "BTC/USD-PERP", "market_symbol": "btcusd-perp", "base_decimals": 5, "counter_decimals": 0},
    ]
).encode()
SAMPLES = [
    Samples(
        "bitstamp",
        {
            "ack": b'{"event":"bts:subscription_succeeded","channel":"diff_order_book_btcusd","data":{}}',
            "heartbeat": b'{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}',
            "first": diff(0, [["4.80", "3"]]),
            "diff": diff(1, [["5.00", "0.00000000"], ["4.90", "2"]]),
            "top": on("order_book_ethusd", timestamp="1790000000", microtimestamp=str(US), bids=[["5", "1"]], asks=[]),
            "trade": TRADE,
            "funding": FUNDING,
        },
        replies=[("btcusd", snapshot(0))],
        instruments=[also(LISTED, "btcusd", {"BTC": "ETH", "btc": "eth"})],
        captures=("BITSTAMP.ws.1.0",),
    )
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "BITSTAMP.ws.1.0")
    found = tops(replay)
    assert found["ethusd"] == ("3800.78 x 0.6", "3803.58 x 15.09750054", "2013/1977")
    assert found["batbtc"] == ("0.00002834 x 52.52866685", "0.00002843 x 2064.32304089", "50/48")
    diffs = [delta.instrument.raw_symbol for delta in log.deltas if not delta.is_snapshot]
    assert (len(diffs), diffs.count("ethusd"), diffs.count("batbtc")) == (717, 73 + 12, 111 + 25)
    bought = [trade for trade in log.trades if trade.instrument.raw_symbol == "ethusd"]
    volume = {
        side: sum((t.qty_decimal for t in bought if t.side is side), Decimal(0)) for side in (Side.BUY, Side.SELL)
    }
    assert (len(bought), volume) == (10, {Side.BUY: Decimal("0.0792"), Side.SELL: Decimal("34.83974724")})


def test_metadata_of_2022(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "BITSTAMP.0.gz", "rb") as file:
        (reply,) = [line.partition(b": ")[2] for line in file if line.startswith(b"https")]
    assert BITSTAMP.load_instruments(reply, instruments) == []
    assert instruments.resolve("bitstamp", "BTC-EUR").raw_symbol == "btceur"


def test_diffs_that_the_snapshot_has_are_dropped(pipeline):
    for at, price in ((1, "4.10"), (2, "4.20"), (3, "4.30")):
        pipeline.on_message(diff(at, [[price, "1"]]), 1, True)
    assert pipeline.decoder.take_requests() == [Fetch("/api/v2/order_book/btcusd/?group=1", "btcusd")]
    pipeline.on_reply("btcusd", snapshot(2), 1)
    pipeline.on_message(diff(3, [["4.40", "1"]]), 1, True)  # old
    (kept,) = pipeline.books.books
    assert (kept.state, [level.price for level in kept.bids()]) == (BookState.LIVE, [5.0, 4.3])


def test_a_snapshot_without_microseconds_is_joined_by_the_second(pipeline):
    for at in (-1, 0, 1):
        pipeline.on_message(diff(at, [[f"4.{at + 1}0", "1"]]), 1, True)
    pipeline.on_reply("btcusd", snapshot(0, microtimestamp=""), 1)
    (kept,) = pipeline.books.books
    assert [level.price for level in kept.bids()] == [5.0, 4.2, 4.1]


def test_a_snapshot_from_before_the_first_diff_is_asked_for_again(pipeline):
    request = Fetch("/api/v2/order_book/btcusd/?group=1", "btcusd")
    pipeline.on_message(diff(10, [["4.10", "1"]]), 1, True)
    assert pipeline.decoder.take_requests() == [request]
    pipeline.on_reply("btcusd", snapshot(9), 1)  # and what was between them?
    (kept,) = pipeline.books.books
    assert (kept.state, pipeline.decoder.take_requests()) == (BookState.SYNCING, [request])
    pipeline.on_reply("btcusd", snapshot(10), 1)
    assert (kept.state, [level.price for level in kept.bids()]) == (BookState.LIVE, [5.0])


def test_after_a_loss_a_snapshot_is_asked_for_with_the_next_diff(pipeline):
    pipeline.on_message(diff(1), 1, True)
    pipeline.on_reply("btcusd", snapshot(2), 1)
    pipeline.decoder.take_requests()
    pipeline.on_message(diff(3)[:-20], 1, True)
    (kept,) = pipeline.books.books
    assert (kept.state, pipeline.decoder.take_requests()) == (BookState.GAP, ())
    pipeline.on_message(diff(4), 1, True)
    assert pipeline.decoder.take_requests() == [Fetch("/api/v2/order_book/btcusd/?group=1", "btcusd")]


def test_a_clock_that_is_set_back_makes_a_book_anew(pipeline):
    hour = 3600 * 10**6
    pipeline.on_message(diff(1), 1, True)
    pipeline.on_reply("btcusd", snapshot(2), 1)
    pipeline.on_message(diff(3), 1, True)
    pipeline.on_message(diff(-hour, [["4.10", "1"]]), 1, True)
    (kept,) = pipeline.books.books
    assert kept.state is BookState.GAP
    pipeline.on_reply("btcusd", snapshot(1 - hour), 1)
    pipeline.on_message(diff(2 - hour, [["4.20", "1"]]), 1, True)
    assert (kept.state, [level.price for level in kept.bids()]) == (BookState.LIVE, [5.0, 4.2])


def test_trades_are_exact_and_perpetuals_tell_their_funding():
    log = decoded("bitstamp", TRADE, FUNDING)
    (trade,) = log.trades
    assert (str(trade.qty_decimal.normalize()), trade.side, trade.id) == ("0.001643", Side.SELL, "216000477")
    assert (trade.ts_event, trade.instrument.raw_symbol) == (US * 1000, "btcusd-perp")
    (ticker,) = log.of(Ticker)
    assert (str(ticker.funding_rate_decimal), ticker.mark_price) == ("0.000123", 77180.1)
    assert ticker.next_funding_time == 1_789_459_200_000_000_000


def test_requests_and_refusals(pipeline):
    pipeline.on_message(b'{"event":"bts:request_reconnect","channel":"","data":null}', 1, True)
    pipeline.on_message(b'{"event":"bts:error","channel":"","data":{"code":4009,"message":"x"}}', 1, True)
    assert pipeline.decoder.take_requests() == [Reconnect("the server asks for it"), Refused("code 4009: x")]


def test_one_channel_a_frame_below_512_bytes():
    instruments = Instruments()
    assert BITSTAMP.load_instruments(LISTED, instruments) == []
    assert [one.symbol for one in instruments] == ["BTC-USD", "BTC-USD-PERP"]
    (plan,) = BITSTAMP.plan([Subscription("BTC-USD-PERP", ("book", "ticker"))], instruments)
    assert plan.subscribe == [
        b'{"event":"bts:subscribe","data":{"channel":"diff_order_book_btcusd-perp"}}',
        b'{"event":"bts:subscribe","data":{"channel":"funding_rate_btcusd-perp"}}',
    ]
