import json
import zlib

import pytest

from feeds.book import BookState
from feeds.decoder import Reconnect, Refused
from feeds.events import Candle, Liquidation, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import Samples, decoded, replayed, tops

BITFINEX = exchange("bitfinex")
MS = 1_790_000_000_000


def subscribed(channel, number, **fields):
    known = {"symbol": "tBTCUSD"} if "key" not in fields else {}
    if channel == "book":
        known |= {"prec": "P0", "freq": "F0", "len": "25"}
    return json.dumps({"event": "subscribed", "channel": channel, "chanId": number} | known | fields).encode()


def data(number, sequence, *parts):
    return json.dumps([number, *parts, sequence, MS], separators=(",", ":")).encode()


CONF = b'{"event":"conf","status":"OK","flags":229376}'
SNAPSHOT = data(1, 1, [[7254.7, 3, 3.3], [7254.6, 1, 0.5], [7255, 2, -1e-7]])
CHECKSUM = zlib.crc32(b"7254.7:3.3:7255:-1e-7:7254.6:0.5")
SIGNED = CHECKSUM - 2**32 if CHECKSUM >= 2**31 else CHECKSUM
DERIV = [MS, None, 61000.5, 61001, None, 1, None, MS + 1000, 0, 0, None, 0.0001, None, None, 61002, None, None, 1234.5]
LIQUIDATION = ["pos", 145400868, MS, None, "tBTCF0:USTF0", -0.015, 61000.5, None, 0, 0, None, 61010]
SAMPLES = [
    Samples(
        "bitfinex",
        {
            "info": b'{"event":"info","version":2,"serverId":"a","platform":{"status":1}}',
            "conf": CONF,
            "book": subscribed("book", 1),
            "snapshot": SNAPSHOT,
            "early heartbeat": data(2, 2, "hb"),
            "checksum": data(1, 3, "cs", SIGNED),
            "update": data(1, 4, [7254.5, 1, 0.0089]),
            "removal": data(1, 5, [7255, 0, -1]),
            "trades": subscribed("trades", 2),
            "trade backlog": data(2, 6, [[12, MS, -0.5, 7254.7], [11, MS - 5, 0.25, 7254.6]]),
            "trade": data(2, 7, "te", [13, MS, 0.5, 7254.7]),
            "trade once more": data(2, 8, "tu", [13, MS, 0.5, 7254.7]),
            "tickers": subscribed("ticker", 3),
            "ticker": data(3, 9, [7254.7, 99.5, 7255, 80.5, 1, 0.01, 7254.8, 1000, 7300, 7200, None]),
            "candles": subscribed("candles", 4, key="trade:1m:tBTCUSD"),
            "first candles": data(4, 10, [[MS, 5, 6, 7, 4, 100], [MS - 60_000, 5, 5, 5, 5, 1]]),
            "candle": data(4, 11, [MS, 5, 6.5, 7, 4, 101]),
            "status": subscribed("status", 5, key="deriv:tBTCF0:USTF0"),
            "derivative": data(5, 12, DERIV),
            "liquidations": subscribed("status", 6, key="liq:global"),
            "liquidation": data(6, 13, [LIQUIDATION]),
            "unsubscribed": b'{"event":"unsubscribed","status":"OK","chanId":4}',
            "too late": data(4, 14, [MS, 5, 6.5, 7, 4, 102]),
            "pong": b'{"event":"pong","ts":1790000000000,"cid":1}',
        },
        instruments=[b'[["AAABBB","BTCUSD","AVAX:UST","IOTETH"],["BTCF0:USTF0"]]'],
        captures=("BITFINEX.ws.11.0",),
    )
]


@pytest.fixture
def pipeline(log):
    pipeline = SAMPLES[0].pipeline(log)
    for message in (CONF, subscribed("book", 1), SNAPSHOT):
        pipeline.on_message(message, 1, True)
    return pipeline


# --- captures -------------------------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "BITFINEX.ws.11.0")
    found = tops(replay)
    assert found["tIOTETH"] == ("0.001026 x 9.80717706", "0.0010272 x 8", "99/100")
    assert found["tTESTBTC:TESTUSD"] == ("60417 x 0.68807848", "60423 x 0.68805459", "100/100")
    updates = [delta.instrument.raw_symbol for delta in log.deltas if not delta.is_snapshot]
    assert (len(updates), updates.count("tIOTETH"), updates.count("tTESTBTC:TESTUSD")) == (1593, 783, 79)
    (pipeline,) = replay.pipelines
    assert (pipeline.decoder._counter.last, pipeline.decoder._counter.missed) == (1670, 0)
    assert (len(log.of(Ticker)), pipeline.decoder.silent["heartbeat"]) == (21, 42)


# --- books ----------------------------------------------------------------------------------------


def test_a_removal_is_told_by_the_count_and_its_amount_is_none(pipeline):
    """Trap 9."""
    pipeline.on_message(data(1, 2, [7254.7, 0, 1]), 1, True)
    pipeline.on_message(data(1, 3, [7255, 0, -1]), 1, True)
    (kept,) = pipeline.books.books
    assert (kept.best_bid, kept.best_ask) == ((7254.6, 0.5), None)


def test_the_checksum_is_signed_and_has_exponents(pipeline):
    pipeline.on_message(data(1, 2, "cs", SIGNED), 1, True)
    assert (pipeline.books.verified, pipeline.books.mismatched) == (1, 0)
    pipeline.on_message(data(1, 3, "cs", SIGNED ^ 1), 1, True)
    assert (pipeline.books.verified, pipeline.books.mismatched) == (1, 1)
    (request,) = pipeline.decoder.take_requests()
    assert request.messages == (
        b'{"event":"unsubscribe","chanId":1}',
        b'{"event":"subscribe","channel":"book","symbol":"tBTCUSD","prec":"P0","freq":"F0","len":"25"}',
    )
    for message in (b'{"event":"unsubscribed","status":"OK","chanId":1}', subscribed("book", 9), data(9, 4, [])):
        pipeline.on_message(message, 1, True)
    (kept,) = pipeline.books.books
    assert (kept.state, kept.best_bid) == (BookState.LIVE, None)


def test_a_jump_of_the_connections_counter_costs_every_book(pipeline, log):
    """Trap 5: heartbeats are counted too."""
    pipeline.on_message(data(8, 2, "hb"), 1, True)
    assert pipeline.books.books[0].state is BookState.LIVE
    pipeline.on_message(data(8, 4, "hb"), 1, True)
    assert pipeline.books.books[0].state is BookState.GAP
    assert [status.status for status in log.feed_statuses] == ["gap"]


def test_several_levels_are_a_snapshot_and_with_bulk_updates_only_at_first(log):
    pipeline = SAMPLES[0].pipeline(log)
    for flags in (65536 + 32768, 65536 + 32768 + 536870912):
        pipeline.on_message(json.dumps({"event": "conf", "flags": flags}).encode(), 1, True)
        sequence = 1 if flags < 536870912 else 3
        pipeline.on_message(subscribed("book", sequence), 1, True)
        if sequence == 3:
            pipeline.on_message(b'{"event":"unsubscribed","chanId":1}', 1, True)
            pipeline.on_message(subscribed("book", 3), 1, True)
        pipeline.on_message(data(sequence, sequence, [[5, 1, 1]]), 1, True)
        pipeline.on_message(data(sequence, sequence + 1, [[4, 1, 1]]), 1, True)
    assert [delta.is_snapshot for delta in log.deltas] == [True, True, True, False]


# --- other events ---------------------------------------------------------------------------------


def test_events():
    log = decoded("bitfinex", *SAMPLES[0].messages.values())
    assert [(one.id, one.side, one.qty, one.is_backlog) for one in log.trades] == [
        ("11", Side.BUY, 0.25, True),
        ("12", Side.SELL, 0.5, True),
        ("13", Side.BUY, 0.5, False),
    ]
    (quote,) = log.quotes
    assert (quote.bid_price, quote.bid_qty, quote.ask_price) == (7254.7, None, 7255)
    assert [one.ts_open for one in log.of(Candle)] == [(MS - 60_000) * 10**6, MS * 10**6, MS * 10**6]
    assert log.of(Candle)[2].close == 6.5
    status = log.of(Ticker)[1]
    assert (status.last_price, status.index_price, status.mark_price) == (61000.5, 61001, 61002)
    assert (status.funding_rate, status.open_interest) == (0.0001, 1234.5)
    (liquidation,) = log.of(Liquidation)
    assert (liquidation.side, liquidation.qty, liquidation.instrument.symbol) == (Side.BUY, 0.015, "BTC-USDT-PERP")


def test_refusals_and_restarts(pipeline):
    pipeline.on_message(b'{"event":"error","msg":"symbol: invalid","code":10300}', 1, True)
    pipeline.on_message(b'{"event":"error","msg":"dup","code":10301}', 1, True)
    pipeline.on_message(b'{"event":"info","code":20051,"msg":"x"}', 1, True)
    assert pipeline.decoder.take_requests() == [
        Refused("code 10300: symbol: invalid"),
        Reconnect("code 20051: the server restarts"),
    ]


def test_flags_come_first():
    instruments = Instruments()
    assert BITFINEX.load_instruments(SAMPLES[0].instruments[0], instruments) == []
    assert [one.symbol for one in instruments] == ["BTC-USD", "AVAX-USDT", "IOTA-ETH", "BTC-USDT-PERP"]
    (plan,) = BITFINEX.plan([Subscription("BTC-USD", ("book",))], instruments)
    assert plan.subscribe == [
        b'{"event":"conf","flags":229376}',
        b'{"event":"subscribe","channel":"book","symbol":"tBTCUSD","prec":"P0","freq":"F0","len":"250"}',
    ]
