"""What exchanges declare as superseded: skipping it is not noticed by a handler that conflates."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.conflation import Conflator
from feeds.exchange import exchange, exchange_ids
from feeds.instrument import Instruments
from feeds.pipeline import Pipeline
from feeds.recording import Kind, open_recording
from feeds.testing import EventLog
from tests.feeds.exchanges.samples import all_samples
from tests.feeds.test_superseding import _books, _problems, told

MS = 1_790_000_000_000
OKX = '{"arg":{"channel":"CHANNEL","instId":"SYMBOL"},"data":[{"asks":[["11","QTY","0","1"]],"bids":[],"ts":"MS"}]}'
BYBIT = '"data":{"s":"SYMBOL","b":[["10","QTY"]],"a":[["11","1"]],"u":N,"seq":N},"cts":MS}'
GATEIO = (
    '{"time":1790000000,"time_ms":MS,"channel":"CHANNEL","event":"update","result":{"t":MS,"u":N,"s":"SYMBOL",REST}}'
)
DERIBIT = (
    '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"CHANNEL","data":{"timestamp":MS,"instrument_name":'
    '"SYMBOL",REST}}}'
)
BITGET = '"data":[{"REST,"seq":N,"ts":"MS"}],"ts":MS}'
LEVEL1 = '"data":{"asks":["11","QTY"],"bids":["10","1"],"timestamp":MS},"subject":"level1"}'
DEPTH5 = '"subject":"level2","data":{"asks":[["11","QTY"]],"bids":[["10","1"]],"timestamp":MS}}'
TICKER_V2 = (
    '"subject":"tickerV2","data":{"symbol":"SYMBOL","sequence":N,"bestBidPrice":"10","bestBidSize":QTY,'
    '"bestAskPrice":"11","bestAskSize":2,"ts":MS000000}}'
)
KUCOIN = [
    ("/spotMarket/level1", LEVEL1),
    ("/spotMarket/level2Depth5", DEPTH5),
    ("/spotMarket/level2Depth50", DEPTH5),
    ("/contractMarket/tickerV2", TICKER_V2),
    ("/contractMarket/level2Depth5", DEPTH5),
    ("/contractMarket/level2Depth50", DEPTH5),
]
UPBIT = [
    '{"type":"orderbook","code":"SYMBOL","timestamp":MS,"orderbook_units":[{"ask_price":11,"bid_price":10,"ask_size":QTY,'
    '"bid_size":1}],"stream_type":"REALTIME","level":0}',
    '{"ty":"orderbook","cd":"SYMBOL","tms":MS,"obu":[{"ap":11,"bp":10,"as":QTY,"bs":1}],"st":"REALTIME","lv":0}',
]
BYBITS = [
    '{"topic":"orderbook.1.SYMBOL","type":"snapshot","ts":MS,' + BYBIT,
    '{"topic":"orderbook.1.SYMBOL","ts":MS,"type":"snapshot",' + BYBIT,
]

# A message for each key, as the exchange writes it. SYMBOL, N, QTY and MS are put in.
STATES = {
    "bitflyer": [
        '{"jsonrpc":"2.0","method":"channelMessage","params":{"channel":"lightning_ticker_SYMBOL","message":{"product_code":'
        '"SYMBOL","timestamp":"2026-09-21T23:05:30.1371457Z","tick_id":N,"best_bid":10.0,"best_ask":11.0,"best_bid_size":QTY,'
        '"best_ask_size":1.0,"ltp":10.5}}}'
    ],
    "bitget": [
        f'{{"action":"snapshot","arg":{{"instType":"{kind}","{names[0]}":"{channel}","{names[1]}":"SYMBOL"}},'
        + BITGET.replace("REST", rest)
        for channel in ("books1", "books5", "books15")
        for kind, names, rest in (
            ("USDT-FUTURES", ("channel", "instId"), 'asks":[["11","QTY"]],"bids":[["10","1"]]'),
            ("spot", ("topic", "symbol"), 'a":[["11","QTY"]],"b":[]'),
        )
    ],
    "bithumb": UPBIT,
    "bybit": BYBITS,
    "bybit-spot": BYBITS,
    "coinbase": [
        '{"type":"ticker","sequence":N,"product_id":"SYMBOL","price":"10.5","best_bid":"10","best_bid_size":"QTY",'
        '"best_ask":"11","best_ask_size":"1","side":"buy","time":"2026-09-21T16:43:37.075687Z","trade_id":N}'
    ],
    "deribit": [
        DERIBIT.replace("CHANNEL", "quote.SYMBOL").replace(
            "REST", '"best_bid_price":10,"best_bid_amount":QTY,"best_ask_price":11,"best_ask_amount":1'
        ),
        DERIBIT.replace("CHANNEL", "book.SYMBOL.none.10.100ms").replace(
            "REST", '"change_id":N,"bids":[[10,QTY]],"asks":[[11,1]]'
        ),
    ],
    "gateio": [
        GATEIO.replace("CHANNEL", "spot.book_ticker").replace("REST", '"b":"10","B":"QTY","a":"11","A":"1"'),
    ],
    "gateio-futures": [
        GATEIO.replace("CHANNEL", "futures.book_ticker").replace("REST", '"b":"10","B":QTY,"a":"11","A":1'),
    ],
    "gemini": ['{"u":N,"E":MS000000,"s":"SYMBOL","b":"10","B":"QTY","a":"11","A":"1"}'],
    "hyperliquid": [
        '{"channel":"bbo","data":{"coin":"SYMBOL","time":MS,"bbo":[{"px":"10","sz":"QTY","n":1},null]}}',
        '{"channel":"l2Book","data":{"coin":"SYMBOL","time":MS,"levels":[[{"px":"10","sz":"QTY","n":1}],[]]}}',
    ],
    "kraken": [
        '{"channel":"ticker","type":"update","data":[{"symbol":"SYMBOL","bid":10.0,"bid_qty":QTY,"ask":11.0,"ask_qty":1.0,'
        '"last":10.5,"timestamp":"2026-09-21T17:35:55.440295Z"}]}'
    ],
    "kucoin": [f'{{"type":"message","topic":"{topic}:SYMBOL",{rest}' for topic, rest in KUCOIN]
    + [f'{{"topic":"{topic}:SYMBOL","type":"message",{rest}' for topic, rest in KUCOIN],
    "okx": [OKX.replace("CHANNEL", "bbo-tbt"), OKX.replace("CHANNEL", "books5")],
    "upbit": UPBIT,
}
TODAYS = {samples.exchange: samples for samples in all_samples() if not samples.url}
EACH = pytest.mark.parametrize("exchange_id", STATES)


def state(exchange_id, key, symbol, n):
    text = STATES[exchange_id][key].replace("SYMBOL", f"K{key}{symbol}").replace("QTY", f"{n + 1}")
    return text.replace("MS", str(MS + n)).replace("N,", f"{n + 1},").replace("N}", f"{n + 1}}}").encode()


def play(exchange_id, messages, ends, **options):
    log = EventLog()
    pipeline = Pipeline(exchange(exchange_id), Instruments(infer=True), Conflator(log), **options)
    for n, message in enumerate(messages):
        pipeline.on_message(message, MS * 10**6 + n, n in ends)
    pipeline.on_tick(MS * 10**6 + len(messages))
    return log, pipeline


def newest(log):
    """Return the state that each batch ends with, without what it stands for."""
    return [
        (one.instrument.raw_symbol, one.ts_event, one.ts_recv, repr(one).partition(" merged=")[0])
        for one in states(log)
    ]


def states(log):
    return [one for one in log.events if type(one).__name__ in ("Quote", "Ticker", "BookUpdate")]


def test_every_exchange_that_declares_keys_is_tried():
    declared = {name: len(getattr(exchange(name).decoder, "supersede_keys", ())) for name in exchange_ids()}
    assert {name: count for name, count in declared.items() if count} == {n: len(one) for n, one in STATES.items()}


@EACH
def test_of_each_kind_the_first_and_the_newest_are_decoded(exchange_id):
    for key in range(len(STATES[exchange_id])):
        made = [state(exchange_id, key, symbol, n) for n in range(12) for symbol in "AB"]
        log, pipeline = play(exchange_id, made, {1})  # the first batch makes the streams known
        assert pipeline.superseded == 0
        log, pipeline = play(exchange_id, made, {1}, skip_superseded=True)
        assert pipeline.problems == {}
        assert pipeline.superseded == 2 * 9
        assert pipeline.decoder.referred == 2 * 3
        merged = {(type(one), one.instrument.raw_symbol): one.merged for one in states(log)}
        assert set(merged.values()) == {11}
        assert len(merged) >= 2


def messages_of(exchange_id, steps):
    """Return messages of the streams that `steps` choose, mostly that of the step before, and samples between them."""
    keys, others = len(STATES[exchange_id]), list(TODAYS[exchange_id].messages.values())
    made, key = [], 0
    for n, (kind, symbol, number) in enumerate(steps):
        if kind == "other":
            made.append(others[number % len(others)])
            continue
        key = number % keys if kind == "switch" else key
        message = state(exchange_id, key, symbol, n)
        if kind == "cut":
            message = message[: number % len(message)]
        elif kind == "bad":
            message = message.replace(f"{n + 1}".encode(), b"x")
        elif kind == "spaced":  # as no server does in the midst of a stream
            message = message.replace(b":", b": ", 1)
        elif kind in ("space", "behind"):
            message += b" " if kind == "space" else b"x"
        made.append(message)
    return made


def steps_of(*kinds):
    kinds = st.sampled_from(["same"] * 6 + ["switch", *kinds])
    return st.lists(st.tuples(kinds, st.sampled_from("AAB"), st.integers(0, 1000)), max_size=50)


ENDS = st.sets(st.integers(0, 50), max_size=5)
FEW = settings(max_examples=40)


@EACH
@FEW
@given(steps_of("other", "space", "spaced"), ENDS, st.sampled_from([0, 500, 5000, 256 * 1024]))
def test_skipping_is_not_noticed(exchange_id, steps, ends, room):
    made = messages_of(exchange_id, steps)
    every, all_decoded = play(exchange_id, made, ends)
    log, skipped = play(exchange_id, made, ends, skip_superseded=True, max_held_bytes=room)
    assert told(log) == told(every)
    assert log.tops == every.tops
    assert _books(skipped) == _books(all_decoded)
    assert _problems(skipped) == _problems(all_decoded)
    assert skipped.decoder.silent == all_decoded.decoder.silent
    assert skipped.decoder.referred + skipped.superseded == all_decoded.decoder.referred
    assert skipped.messages == all_decoded.messages


@EACH
@FEW
@given(steps_of("cut", "bad", "space", "spaced", "behind"), ENDS)
def test_malformed_messages_never_change_the_state_that_is_delivered(exchange_id, steps, ends):
    made = messages_of(exchange_id, steps)
    every, all_decoded = play(exchange_id, made, ends)
    log, skipped = play(exchange_id, made, ends, skip_superseded=True)
    assert newest(log) == newest(every)
    assert log.tops == every.tops
    assert _books(skipped) == _books(all_decoded)
    missing = sum(_problems(all_decoded).values()) - sum(_problems(skipped).values())
    assert 0 <= missing <= skipped.superseded


@pytest.mark.parametrize(
    ("exchange_id", "name"),
    [("bitflyer", "BITFLYER.ws.1.0"), ("coinbase", "COINBASE.ws.28.0"), ("upbit", "UPBIT.ws.62.0")],
)
def test_skipping_is_not_noticed_in_captures(captures, exchange_id, name):
    with open_recording(captures / "exchanges" / f"{name}.gz") as source:
        messages = [one.payload for one in source if one.kind in (Kind.TEXT, Kind.BINARY)]
    rng = random.Random(name)
    ends = {n for n in range(len(messages)) if rng.random() < 0.02}
    every, all_decoded = play(exchange_id, messages, ends)
    log, skipped = play(exchange_id, messages, ends, skip_superseded=True)
    assert told(log) == told(every)
    assert log.tops == every.tops
    assert _books(skipped) == _books(all_decoded)
    assert _problems(skipped) == _problems(all_decoded)
    assert skipped.superseded > 0
    assert skipped.decoder.referred + skipped.superseded == all_decoded.decoder.referred
