"""Both engines over the same bytes: equal events, or the same DecodeError."""

import json
import random

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from feeds.decoder import Decoder
from feeds.errors import DecodeError
from feeds.events import BookDelta, Quote, Trade
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.levels import LevelShape
from feeds.testing import EventLog
from feeds.wire import Wire
from tests.feeds.messages import T, agg_trade, book_ticker, depth, on_stream, partial, trade

# As they came off the wire.
REAL = {
    "binance": [
        b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,'
        b'"u":50093239202,"b":[["61737.63000000","0.00000000"],["61737.62","1e-3"]],"a":[["61837.64000000","1.54698000"]]}}',
        b'{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000",'
        b'"a":"61837.64000000","A":"1.54698000"}}',
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
        b'"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}',
        b'{"stream":"nknusdt@aggTrade","data":{"e":"aggTrade","E":1633998523963,"s":"NKNUSDT","a":15683430,'
        b'"p":"0.35280000","q":"58.00000000","f":19862790,"l":19862790,"T":1633998523963,"m":false,"M":true}}',
        b'{"stream":"btcusdt@depth5@100ms","data":{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}}',
    ],
    "binance-futures": [
        b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT",'
        b'"U":5123107832006,"u":5123107837557,"pu":5123107831937,"b":[["58710.20","0.014"],["-1","0"]],"a":[["61800.30","2.510"]]}}',
        b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507",'
        b'"a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}}',
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,'
        b'"p":"61800.30","q":"0.006","X":"MARKET","m":false}}',
    ],
}
MESSAGES = [(exchange_id, message) for exchange_id, messages in REAL.items() for message in messages]


class Engine:
    """One engine that has seen `seed` before: once, so that its stream has a route; twice: and a template."""

    def __init__(self, exchange_id, seed, *, reference, times=1):
        self.log = EventLog()
        self.instruments = Instruments(infer=True)
        self.decoder = exchange(exchange_id).new_decoder(self.instruments, self.log, reference=reference)
        for _ in range(times):
            self.decoder.decode(seed, 1)
        self.scanned_before = self.decoder.scanned

    def outcome(self, message):
        self.log.clear()
        try:
            self.decoder.decode(message, 2)
        except DecodeError as error:
            assert not self.log.events
            return error.kind, str(error), self.decimals()
        return [
            (type(event), event.price_decimals, event.qty_decimals, str(event.instrument), event._fields()[1:])
            for event in self.log.events
        ], self.decimals()

    def decimals(self):
        return [(i.raw_symbol, i.price_decimals, i.qty_decimals) for i in self.instruments]


def agree(exchange_id, seed, message):
    """Assert that the engines say the same, the hot one also with a template; return whether that did it alone."""
    expected = Engine(exchange_id, seed, reference=True).outcome(message)
    scanned = []
    for times in (1, 2):
        hot = Engine(exchange_id, seed, reference=False, times=times)
        assert hot.outcome(message) == expected
        scanned.append(hot.decoder.scanned > hot.scanned_before)
    assert scanned[0] == scanned[1]
    return scanned[0]


@pytest.mark.parametrize(("exchange_id", "message"), MESSAGES)
def test_real_messages_are_read_alike_by_the_scanner_alone(exchange_id, message):
    assert agree(exchange_id, message, message)


@pytest.mark.parametrize(("exchange_id", "message"), MESSAGES)
def test_truncated_at_every_byte(exchange_id, message):
    for cut in range(len(message)):
        assert not agree(exchange_id, message, message[:cut])


@pytest.mark.parametrize(("exchange_id", "message"), MESSAGES)
def test_every_byte_changed(exchange_id, message):
    """Each byte in turn becomes one of those that mean something to a JSON parser."""
    hot = Engine(exchange_id, message, reference=False, times=2)
    reference = Engine(exchange_id, message, reference=True)
    rng = random.Random(1)
    for at in range(len(message)):
        for byte in rng.sample(b'"\\{}[],: \n0159-+.eEtfnul\x00\x1f\x7f\x80\xc3\xff', 6):
            changed = message[:at] + bytes([byte]) + message[at + 1 :]
            assert hot.outcome(changed) == reference.outcome(changed), changed


@pytest.mark.parametrize(("exchange_id", "message"), MESSAGES)
@pytest.mark.parametrize("indent", [0, 1, "\t"])
def test_keys_in_any_order_with_more_of_them_and_white_space(exchange_id, message, indent):
    rng = random.Random(7)
    stream, data = json.loads(message)["stream"], json.loads(message)["data"]
    for _ in range(20):
        data |= {
            rng.choice("xyz"): rng.choice([1, -1.5e3, None, True, "text", "\u5e01", [1, [2, {}]], {"a": {"b": []}}])
        }
        items = list(data.items())
        rng.shuffle(items)
        text = json.dumps(dict(items), indent=indent, ensure_ascii=False).encode()
        assert agree(exchange_id, message, b'{"stream":"' + stream.encode() + b'","data":' + text + b" }\r\n")


@pytest.mark.parametrize(("exchange_id", "message"), MESSAGES)
def test_each_field_removed_doubled_or_of_another_type(exchange_id, message):
    stream, data = json.loads(message)["stream"], json.loads(message)["data"]
    for key in data:
        agree(exchange_id, message, on_stream(stream, {k: v for k, v in data.items() if k != key}))
        text = json.dumps(data).encode()
        agree(exchange_id, message, on_stream(stream, text[:-1] + f',"{key}":{json.dumps(data[key])}}}'.encode()))
        for value in (
            None,
            True,
            0,
            -1,
            5,
            1.5,
            "",
            "5",
            "-5",
            "x",
            '"5"',
            [],
            [["1", "2"]],
            {},
            2**63,
            -(2**63),
            10**400,
            "\u5e01",
        ):
            agree(exchange_id, message, on_stream(stream, data | {key: value}))


DIGIT = st.sampled_from("0123456789")


@given(st.sampled_from(MESSAGES), st.data())
def test_digits_changed_and_inserted(case, data):
    exchange_id, message = case
    places = [at for at in range(message.index(b'"data"'), len(message)) if chr(message[at]).isdigit()]
    changed = bytearray(message)
    for at in sorted(data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True)), reverse=True):
        changed[at : at + 1] = data.draw(st.text("0123456789", max_size=8)).encode()
    agree(exchange_id, message, bytes(changed))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@given(st.sampled_from(MESSAGES), st.text(max_size=3), JSON)
@example(MESSAGES[0], "x", float("nan"))
def test_an_unknown_field_of_any_kind(case, key, value):
    exchange_id, message = case
    stream, data = json.loads(message)["stream"], json.loads(message)["data"]
    if key not in data:
        agree(exchange_id, message, on_stream(stream, {key: value} | data))


@pytest.mark.parametrize(
    "symbol",
    [
        b"\xe5\xb8\x81\xe5\xae\x89USDT",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe5\xb8",
        b"\xf0\x9f\x90\xb6",
        b"a\x01",
        b"a\\u0042",
        b"a\\",
    ],
)
def test_text_that_may_not_be_utf8(symbol):
    message = MESSAGES[2][1]
    scanned = agree("binance", message, message.replace(b'"BTCUSDT"', b'"' + symbol + b'"'))
    assert scanned == (symbol in (b"\xe5\xb8\x81\xe5\xae\x89USDT", b"\xf0\x9f\x90\xb6"))


def test_nothing_nested_too_deep_ends_the_feed():
    message = MESSAGES[0][1]
    deep = b"[" * 100_000 + b"]" * 100_000
    hot = Engine("binance", message, reference=False)
    for bad in (
        on_stream("btcusdt@depth@100ms", b'{"x":' + deep + b"}"),
        on_stream("a@trade", deep),
        b'{"error":' + deep + b"}",
    ):
        assert hot.outcome(bad)[0] == "not_json"


@pytest.mark.parametrize("value", ["[@]", "[1 2]", '{"a":@}', "@", "tru", "1-2", "01", "[1,]", "{1:2}", "nan"])
def test_what_is_no_json_in_an_unknown_field_is_refused_and_does_not_hang(value):
    message = MESSAGES[0][1]
    hot = Engine("binance", message, reference=False)
    assert hot.outcome(on_stream("btcusdt@depth@100ms", message[43:-2] + f',"x":{value}}}'.encode()))[0] == "not_json"


@pytest.mark.parametrize("time", [-1, 9_223_372_036_855, 99_999_999_999_999, 9_223_372_036_854_776])
def test_a_time_that_cannot_be_is_refused(time):
    assert not agree("binance", trade(), trade(time=time))
    hot = Engine("binance", trade(), reference=False)
    assert hot.outcome(trade(time=time))[:2][0] == "bad_value"


@pytest.mark.parametrize(("time", "ns"), [(0, 0), (T, T * 10**6), (T * 1000, T * 10**6), (T * 10**6, T * 10**6)])
def test_times_in_ms_us_and_ns(time, ns):
    assert agree("binance", trade(), trade(time=time))
    log = EventLog()
    exchange("binance").new_decoder(Instruments(infer=True), log).decode(trade(time=time), 1)
    assert log.trades[0].ts_event == ns


def test_a_message_that_is_refused_leaves_the_decimals_alone():
    """One number needs 18 decimals, with which the other does not fit: no later message may pay for that."""
    seed = trade("61837.63", "0.02")
    for bad in (depth(1, 2, [("61837.63", "1"), ("0.000000000000000001", "1")]), trade("0.0000000000000000001", "1")):
        hot = Engine("binance", seed, reference=False)
        hot.decoder.decode(depth(1, 2, [("61837.63", "1")]), 1)
        kind, _, decimals = hot.outcome(bad)
        assert kind == "bad_value"
        assert decimals == [("BTCUSDT", 2, 2)]
        assert agree("binance", seed, bad) is False


def test_a_zero_quantity_is_no_trade_and_a_negative_one_no_message():
    for build in (trade, agg_trade):
        assert agree("binance", build(), build(qty="0.000"))
        assert not agree("binance", build(), build(qty="-1"))
    assert not agree("binance", book_ticker(), book_ticker(bid_qty="-1"))
    assert not agree("binance", depth(1, 1), depth(1, 1, [("1", "-1")]))
    assert not agree("binance", partial(1), partial(1, [("1", "-1")]))


# --- declarations ---------------------------------------------------------------------------------


class _Bare(msgspec.Struct):
    p: Raw
    q: Raw
    T: int = 0
    kind: str = "FILL"
    id: int = -7
    extra: int = 5


BARE = Wire(_Bare, Trade, price="p", qty="q", ts_event="T", trade_id="id", only=("kind", "FILL"))


@pytest.mark.parametrize(
    "data",
    [
        b'{"p":1.25,"q":3}',
        b'{"p":"1.25","q":"3"}',
        b'{"p":1.25,"q":3,"kind":"OTHER"}',
        b'{"p":1.25,"q":3,"kind":""}',
        b'{"p":1.25,"q":3,"id":9}',
        b'{"p":1.25}',
        b'{"p":null,"q":3}',
        b'{"p":1.25,"q":3,"extra":"x"}',
        b'{"p":01.25,"q":3}',
        b'{"p":1.25,"q":-3}',
        b'{"p":1.25,"q":[3]}',
        b'{"p":1e2,"q":3E0}',
        b'{"p":"","q":3}',
    ],
)
def test_defaults_and_bare_numbers_are_read_alike(data):
    assert read_by(BARE, data, reference=False)[0] == read_by(BARE, data, reference=True)[0]


def read_by(wire, data, *, reference):
    """Return what one engine makes of `data`, and whether the hot one did it alone."""
    log = EventLog()
    instruments = Instruments(infer=True)

    class One(Decoder):
        envelope = (b'{"stream":"', b'","data":', b"}")

        def decode_other(self, payload, ts_recv):
            self.decode_as(wire, instruments.find("x", "X"), data, ts_recv)

    decoder = One(instruments, log, exchange="x", reference=reference)
    decoder.add_route("x", wire, instruments.find("x", "X"))
    try:
        decoder.decode(on_stream("x", data), 1)
    except DecodeError as error:
        return str(error), False
    return [(e._fields()[1:], e.price_decimals, e.qty_decimals) for e in log.events], decoder.scanned == 1


# --- shapes of levels -----------------------------------------------------------------------------


class _Book(msgspec.Struct):
    bids: Raw = Raw(b"")
    asks: Raw = Raw(b"")
    id: int = -1


class _Changes(msgspec.Struct):
    changes: Raw


def book_of(**shape):
    return Wire(_Book, BookDelta, bids="bids", asks="asks", last_id="id", levels=LevelShape(**shape))


def changes_of(**shape):
    return Wire(_Changes, BookDelta, bids_and_asks="changes", levels=LevelShape(**shape))


# As exchanges send them, without what stands around: (how, message, bids, asks).
SHAPED = {
    "hyperliquid": (
        book_of(price="px", qty="sz"),
        b'{"bids":[{"px":"59.8","sz":"3.4","n":1}],"asks":[{"px":"59.811","sz":"2.9","n":1},{"px":"60","sz":"1","n":2}]}',
        [(59.8, 3.4)],
        [(59.811, 2.9), (60, 1)],
    ),
    "kraken": (
        book_of(price="price", qty="qty"),
        b'{"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.3947558}],"asks":[],"checksum":2114181697}',
        [(0.5657, 1098.3947558)],
        [],
    ),
    "gateio-futures": (
        book_of(price="p", qty="s"),
        b'{"id":4,"asks":[{"p":"97.1","s":2245}],"bids":[{"p":"97.0","s":0}]}',
        [(97.0, 0)],
        [(97.1, 2245)],
    ),
    "deribit": (
        book_of(price=1, qty=2),
        b'{"bids":[["change",42500.0,950.0]],"asks":[["delete",42501.0,0.0]]}',
        [(42500, 950)],
        [(42501, 0)],
    ),
    "crypto-com": (
        book_of(),
        b'{"bids":[["30082.5","0.1689","1"]],"asks":[["30084.92000","0.23","2"]]}',
        [(30082.5, 0.1689)],
        [(30084.92, 0.23)],
    ),
    "phemex": (
        book_of(price_scale=4),
        b'{"asks":[],"bids":[[345475000,14340]]}',
        [(34547.5, 14340)],
        [],
    ),
    "coinbase-advanced": (
        changes_of(side="side", bid="bid", ask="offer", price="price_level", qty="new_quantity"),
        b'{"changes":[{"side":"bid","event_time":"2026-04-07T14:30:01.456789Z","price_level":"68900.00","new_quantity":"2.0"},'
        b'{"side":"offer","event_time":"...","price_level":"68901.00","new_quantity":"0.00000000"}]}',
        [(68900, 2)],
        [(68901, 0)],
    ),
    "coinbase": (
        changes_of(side=0, bid="buy", ask="sell", price=1, qty=2),
        b'{"type":"l2update","changes":[["sell","0.00001306","660.5"],["buy","0.00001305","1E+2"]]}',
        [(0.00001305, 100)],
        [(0.00001306, 660.5)],
    ),
    "bitfinex": (
        changes_of(qty=2, signed=True, removal=(1, 0)),
        b'{"changes":[[279380,1,0.0089],[279390.5,2,-0.25],[279370,0,1],[279400,0,-1]]}',
        [(279380, 0.0089), (279370, 0)],
        [(279390.5, 0.25), (279400, 0)],
    ),
    "bitflyer": (
        book_of(price="price", qty="size", skip_zero_price=True),
        b'{"bids":[{"price":0.0,"size":3.5},{"price":4409765.0,"size":0.1}],"asks":[]}',
        [(4409765, 0.1)],
        [],
    ),
}


@pytest.mark.parametrize("name", SHAPED)
def test_levels_of_every_shape_by_both_engines(name):
    wire, data, bids, asks = SHAPED[name]
    hot, scanned = read_by(wire, data, reference=False)
    reference, _ = read_by(wire, data, reference=True)
    assert hot == reference
    assert scanned
    delta = hot[0][0]
    assert [[(float(p), float(q)) for p, q in side] for side in delta[-2:]] == [bids, asks]


@pytest.mark.parametrize("name", SHAPED)
def test_levels_of_every_shape_truncated_and_changed_by_both_engines(name):
    wire, data, _, _ = SHAPED[name]
    rng = random.Random(1)
    for at in range(len(data)):
        for changed in (
            data[:at],
            *(data[:at] + bytes([b]) + data[at + 1 :] for b in rng.sample(b'"\\{}[],: \n0159-+.eEtfnul', 4)),
        ):
            assert read_by(wire, changed, reference=False)[0] == read_by(wire, changed, reference=True)[0], changed


def test_levels_of_another_shape_are_refused_with_the_shape_that_was_expected():
    error, _ = read_by(SHAPED["kraken"][0], b'{"bids":[[1,2]],"asks":[]}', reference=True)
    assert error.startswith('Book: expected [{"price": price, "qty": qty}, ...] in \'bids\', found something else')
    error, _ = read_by(SHAPED["coinbase"][0], b'{"changes":[["ask","1","2"]]}', reference=True)
    assert error.startswith("Changes: expected [[side, price, qty], ...] in 'changes', found something else")


def test_a_declaration_that_cannot_work_is_refused():
    class Short(msgspec.Struct):
        p: float
        q: str = "1"

    with pytest.raises(TypeError, match="expected Trade, Quote or BookDelta"):
        Wire(_Bare, dict)
    with pytest.raises(TypeError, match="found 'colour'"):
        Wire(_Bare, Trade, colour="p")
    with pytest.raises(TypeError, match=r"expected fields among .*, found \['z'\]"):
        Wire(_Bare, Trade, price="z")
    with pytest.raises(TypeError, match="expected 'p' to be one of"):
        Wire(Short, Trade, price="p")
    with pytest.raises(TypeError, match="expected 'p' to be one of"):
        Wire(Short, Quote)
    with pytest.raises(TypeError, match="at most 24 bytes"):
        Wire(msgspec.defstruct("Long", [("k" * 25, int)]), Trade)
    with pytest.raises(TypeError, match="at most 16 fields"):
        Wire(msgspec.defstruct("Many", [(f"k{n}", int) for n in range(17)]), Trade)
    with pytest.raises(TypeError, match="to be empty by default"):
        Wire(msgspec.defstruct("Given", [("q", str, "1")]), Trade, qty="q")
    with pytest.raises(TypeError, match="'bids_and_asks' of levels that say their side"):
        changes_of(price=1, qty=2)
    with pytest.raises(TypeError, match="'bids_and_asks' of levels that say their side"):
        book_of(side=2, bid="b", ask="a")
    with pytest.raises(TypeError, match="'bids_and_asks' of levels that say their side"):
        book_of(signed=True)


def test_a_wire_says_what_it_reads():
    wire = Wire(_Bare, BookDelta, is_snapshot=True, depth=5)
    assert (wire.name, wire.struct, wire.is_snapshot, wire.depth) == ("Bare", _Bare, True, 5)
