"""Large messages that are taken apart give the events that they give as they are."""

import json
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.large import PLACEHOLDER, take_apart
from feeds.levels import LevelShape
from feeds.pipeline import Pipeline
from feeds.testing import EventLog

PAIRS = LevelShape()
TS = 1_790_000_000_000_000_000
SIDES = (("bids", PAIRS), ("asks", PAIRS))


def pairs(count, seed=0, *, price_decimals=2, qty_decimals=4):
    """Return so many levels as pairs of texts, of which only some need all of the decimals."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        price = f"{1 + rng.randrange(10**6)}.{rng.randrange(10**price_decimals):0{price_decimals}}"
        qty = f"0.{rng.randrange(1, 10**qty_decimals):0{qty_decimals}}"
        found.append([price, str(rng.randrange(1, 10**6))] if i % 7 else ["5", qty])
    return found


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


BINANCE = {"lastUpdateId": 9, "bids": pairs(9_000, 1), "asks": pairs(4, 2)}
COINBASE = {
    "type": "snapshot",
    "product_id": "BTC-USD",
    "asks": [*pairs(5_000, 3), ["1.25", "NaN"], ["1.5", "-3"]],
    "bids": pairs(6_000, 4, price_decimals=5),
    "time": "2026-09-21T10:13:20.000000Z",
}
ADVANCED = {
    "channel": "l2_data",
    "timestamp": "2026-09-21T10:13:20.000000Z",
    "sequence_num": 0,
    "events": [
        {
            "type": "snapshot",
            "product_id": product,
            "updates": [
                {
                    "side": "offer" if i % 2 else "bid",
                    "event_time": "1970-01-01T00:00:00Z",
                    "price_level": price,
                    "new_quantity": qty,
                }
                for i, (price, qty) in enumerate(pairs(3_000, 5))
            ],
        }
        for product in ("BTC-USD", "ETH-USD")
    ],
}
DERIBIT = {
    "jsonrpc": "2.0",
    "method": "subscription",
    "params": {
        "channel": "book.BTC-PERPETUAL.100ms",
        "data": {
            "type": "snapshot",
            "timestamp": TS // 10**6,
            "instrument_name": "BTC-PERPETUAL",
            "change_id": 7,
            "bids": [["new", float(price), float(qty)] for price, qty in pairs(6_000, 6)],
            "asks": [["new", float(price), float(qty)] for price, qty in pairs(10, 7)],
        },
    },
}
KRAKEN_FUTURES = {
    "feed": "book_snapshot",
    "product_id": "PF_XBTUSD",
    "timestamp": TS // 10**6,
    "seq": 3,
    "bids": [{"price": float(price), "qty": float(qty)} for price, qty in pairs(6_000, 8)],
    "asks": [],
}
KUCOIN = {
    "code": "200000",
    "data": {"time": TS // 10**6, "sequence": "12", "bids": [["0", "0"], *pairs(6_000, 9)], "asks": pairs(6_000, 10)},
}
CASES = [
    ("binance", "BTCUSDT", BINANCE, 1),
    ("binance-futures", "BTCUSDT", {**BINANCE, "E": TS // 10**6, "T": TS // 10**6}, 1),
    ("coinbase", None, COINBASE, 2),
    ("coinbase-advanced", None, ADVANCED, 2),
    ("deribit", None, DERIBIT, 1),
    ("kraken-futures", None, KRAKEN_FUTURES, 1),
    ("kucoin", "BTC-USDT", KUCOIN, 2),
]


def played(exchange_id, tag, payload, *, how):
    """Return what is emitted, and the problems, by a decoder that knows no decimals."""
    log = EventLog()
    instruments = Instruments(infer=True)
    pipeline = Pipeline(exchange(exchange_id), instruments, log, reference=how == "as it is")
    large = pipeline.decoder.take_apart(payload) if how == "apart" else None
    assert (large is not None) == (how == "apart")
    if tag is None:
        pipeline.on_message(payload, TS, True, large)
    else:
        pipeline.on_reply(tag, payload, TS, large)
    books = [(b.instrument.raw_symbol, b.state.name, b.exact(0), b.exact(1)) for b in pipeline.books.books]
    return [repr(event) for event in log.events], books, {kind: p.count for kind, p in pipeline.problems.items()}


@pytest.mark.parametrize(("exchange_id", "tag", "message", "arrays"), CASES, ids=[case[0] for case in CASES])
def test_what_was_taken_apart_is_what_it_was(exchange_id, tag, message, arrays):
    payload = compact(message)
    large = exchange(exchange_id).new_decoder(Instruments(infer=True), EventLog()).take_apart(payload)
    assert large.payload == payload
    assert large.array_count == arrays
    assert large.text.count(PLACEHOLDER) == arrays
    assert len(large.text) < len(payload) // 2 or arrays == 1
    plain = played(exchange_id, tag, payload, how="as it is")
    assert plain[1]
    assert not plain[2]
    assert played(exchange_id, tag, payload, how="apart") == plain
    assert played(exchange_id, tag, payload, how="at once") == plain


@pytest.mark.parametrize(("exchange_id", "tag", "message", "arrays"), CASES, ids=[case[0] for case in CASES])
def test_a_level_that_is_wrong_is_told_as_ever(exchange_id, tag, message, arrays):
    payload = bytearray(compact(message))
    payload[len(payload) // 2 :] = payload[len(payload) // 2 :].replace(b"5", b"x")
    plain = played(exchange_id, tag, bytes(payload), how="as it is")
    assert plain[2]
    assert played(exchange_id, tag, bytes(payload), how="at once") == plain


def test_numbers_that_do_not_fit_at_the_decimals_of_others_are_refused():
    levels = pairs(3_000)
    levels[17] = ["9000000000000000000", "1"]
    levels[30] = ["1.123456", "1"]
    payload = compact({"lastUpdateId": 9, "bids": levels, "asks": pairs(3_000)})
    plain = played("binance", "BTCUSDT", payload, how="as it is")
    assert plain[2] == {"bad_value": 1}
    assert played("binance", "BTCUSDT", payload, how="at once") == plain


def test_decimals_that_the_instrument_has_are_kept():
    instruments = Instruments()
    instrument = instruments.add("binance", "BTCUSDT", price_decimals=6, qty_decimals=9)
    log = EventLog()
    pipeline = Pipeline(exchange("binance"), instruments, log)
    pipeline.on_reply("BTCUSDT", compact(BINANCE), TS)
    (book,) = pipeline.books.books
    assert (instrument.price_decimals, instrument.qty_decimals) == (6, 9)
    assert book.exact(0)[0][0] == max(Decimal(price) for price, _ in BINANCE["bids"])


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["bids", "asks", "other", 'x\\"bids']), max_size=6), st.data())
def test_arrays_are_found_by_their_names_alone(names, data):
    sizes = [data.draw(st.sampled_from([0, 3, 2_000])) for _ in names]
    arrays = [compact(pairs(size, i)) for i, size in enumerate(sizes)]
    parts = [b'"%b":%b' % (name.encode(), array) for name, array in zip(names, arrays, strict=True)]
    payload = b'{"text":"\\"bids\\":[[",' + b",".join(parts) + b"}"
    large = take_apart(payload, SIDES)
    found = [name in ("bids", "asks") and size > 1_000 for name, size in zip(names, sizes, strict=True)]
    if not any(found):
        assert large is None
        return
    shown = [PLACEHOLDER if hit else array for hit, array in zip(found, arrays, strict=True)]
    expected = [b'"%b":%b' % (name.encode(), array) for name, array in zip(names, shown, strict=True)]
    assert large.text == b'{"text":"\\"bids\\":[[",' + b",".join(expected) + b"}"
    assert large.array_count == sum(found)


@pytest.mark.parametrize("cut", [1, 2, 1_000, 30_000])
def test_an_array_that_is_cut_off_stays(cut):
    payload = b'{"bids":' + compact(pairs(4_000)) + b"}"
    assert take_apart(payload, SIDES).array_count == 1
    assert take_apart(payload[: -1 - cut], SIDES) is None


def test_levels_within_levels_are_read_once():
    inner = b'{"bids":' + compact(pairs(2_000)) + b"}"
    payload = b'{"bids":[' + b",".join([b'["1","2",%b]' % inner] * 3) + b"]}"
    large = take_apart(payload, SIDES)
    assert (large.text, large.array_count) == (b'{"bids":[0]}', 1)


def test_there_is_a_limit_to_arrays():
    part = b'"bids":' + compact(pairs(1_500))
    large = take_apart(b"{" + b",".join([part] * 70) + b"}", SIDES)
    assert large.array_count == 64
    assert large.text.count(b"[0]") == 64
    assert large.text.endswith(b",".join([part] * 6) + b"}")


def test_names_are_limited_and_have_shapes():
    with pytest.raises(ValueError, match="at most 8 names"):
        take_apart(b"{}", (("bids", PAIRS),) * 9)
    with pytest.raises(TypeError):
        take_apart(b"{}", (("bids", None),))


def test_small_messages_and_the_reference_are_left_alone():
    decoder = exchange("binance").new_decoder(Instruments(infer=True), EventLog())
    assert decoder.take_apart(compact({"lastUpdateId": 9, "bids": pairs(3_000), "asks": []})) is None
    reference = exchange("binance").new_decoder(Instruments(infer=True), EventLog(), reference=True)
    assert reference.take_apart(compact(BINANCE)) is None
    assert decoder.take_apart(compact(BINANCE)) is not None
