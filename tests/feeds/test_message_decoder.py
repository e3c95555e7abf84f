import json
import zlib
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.book import BookState
from feeds.decoder import Reconnect, Refused
from feeds.errors import DecodeError
from feeds.events import BookDelta, Side, Ticker
from feeds.exchange import Exchange, exchange
from feeds.instrument import Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder, inflate
from feeds.pipeline import Pipeline
from feeds.sequencing import ConnectionCounter
from feeds.testing import EventLog


class Told(MessageDecoder):
    """A decoder that does what the test says."""

    silent_kinds = {"ack": "for tests"}  # noqa: RUF012
    does = None

    def decode_message(self, payload):
        self.does(self, payload)

    def decode_snapshot(self, tag, payload):
        self.does(self, payload)


def tell(does, *payloads, instruments=None, ts=7):
    log = EventLog()
    decoder = Told(Instruments(infer=True) if instruments is None else instruments, log, exchange="x")
    Told.does = staticmethod(does)
    for payload in payloads or (b"",):
        decoder.decode(payload, ts)
    return log, decoder


# --- numbers --------------------------------------------------------------------------------------


def test_numbers_are_taken_as_they_stand_in_the_message():
    def trade(decoder, _):
        x = decoder.find("X")
        for price in ("1.50", b'"1.25"', b"1.5e-1", msgspec.Raw(b"7"), 3):
            decoder.trade(x, price, "2", side=Side.SELL, id="a")

    log, _ = tell(trade)
    assert [str(t.price_decimal) for t in log.trades] == ["1.5", "1.25", "0.15", "7.00", "3.00"]
    assert {(t.side, t.id, t.ts_recv, t.ts_event) for t in log.trades} == {(Side.SELL, "a", 7, 0)}


@pytest.mark.parametrize(
    "price", ["", "x", "1.5x", '"1', "1.", b"null", b"true", "1e99", "9" * 30, "1e-30", "--1", "NaN", None, 1.5]
)
def test_what_is_no_number_is_a_decode_error_and_emits_nothing(price):
    def trade(decoder, _):
        decoder.trade(decoder.find("X"), "1", "1")
        decoder.trade(decoder.find("X"), price, "1")

    log = EventLog()
    decoder = Told(Instruments(infer=True), log, exchange="x")
    Told.does = staticmethod(trade)
    with pytest.raises(DecodeError, match=r"^x: ") as error:
        decoder.decode(b"payload", 1)
    assert (error.value.kind, error.value.payload) == ("bad_value", b"payload")
    assert log.events == []


def test_a_quote_has_the_sides_that_are_there():
    def quote(decoder, _):
        x = decoder.find("X")
        decoder.quote(x, "1.5", "2", "", "")
        decoder.quote(x, None, None, "1.6", "0")
        decoder.quote(x, "1.5", None, "1.6", "3")
        decoder.quote(x, "0.0", "0", b"1.7", b"4")

    log, _ = tell(quote)
    assert [(q.bid_price, q.bid_qty, q.ask_price, q.ask_qty) for q in log.quotes] == [
        (1.5, 2, None, None),
        (None, None, None, None),
        (1.5, None, 1.6, 3),
        (None, None, 1.7, 4),
    ]
    assert log.quotes[2].bid_decimal == (Decimal("1.5"), None)


def test_padded_numbers_keep_their_zeros():
    class Padded(Told):
        padded = True

    log = EventLog()
    decoder = Padded(Instruments(infer=True), log, exchange="x")
    Told.does = staticmethod(lambda decoder, _: decoder.trade(decoder.find("X"), "1.500", "2.0"))
    decoder.decode(b"", 1)
    assert (str(log.trades[0].price_decimal), str(log.trades[0].qty_decimal)) == ("1.500", "2.0")


# --- levels ---------------------------------------------------------------------------------------


def levels_of(shape, bids, asks=None):
    def book(decoder, _):
        decoder.book(decoder.find("X"), bids, asks, shape=shape)

    log, _ = tell(book)
    (delta,) = log.deltas
    return [[f"{p.normalize():f} {q.normalize():f}" for p, q in side] for side in (delta.bids, delta.asks)]


@pytest.mark.parametrize(
    ("shape", "bids", "asks", "expected"),
    [
        (None, b'[["1.5","2","0","1"],[3,4]]', None, [["1.5 2", "3 4"], []]),
        (LevelShape("price", "qty"), b'[{"price":0.5666,"n":[{}],"qty":4831.7}]', b"[]", [["0.5666 4831.7"], []]),
        (LevelShape("px", "sz"), b"[]", b'[ { "n" : 1, "sz" : "3.4" , "px" : "59.8" } ]', [[], ["59.8 3.4"]]),
        (LevelShape(1, 2, side=0, bid="buy", ask="sell"), b'[["sell","0.13","660.5"],["buy","0.12","0"]]', None,
         [["0.12 0"], ["0.13 660.5"]]),
        (LevelShape(0, 2, signed=True, removal=(1, 0)), b"[[1.5,1,0.25],[1.6,2,-3],[1.4,0,1],[1.7,0,-1]]", None,
         [["1.5 0.25", "1.4 0"], ["1.6 3", "1.7 0"]]),
        (LevelShape(1, 2, removal=(0, "delete")), b'[["new",42500.0,1000.0],["delete",42501.0,7]]', None,
         [["42500 1000", "42501 0"], []]),
        (LevelShape(skip_zero_price=True), b'[["0","0"],["242.5","1.25"]]', None, [["242.5 1.25"], []]),
        (LevelShape(negative_removes=True), b'[["1","-5"]]', None, [["1 0"], []]),
        (LevelShape("price", None, side="side", bid="Buy", ask="Sell"), b'[{"price":"7","side":"Sell"}]', None,
         [[], ["7 0"]]),
        (None, [("1.5", "2"), (b"1.25", "3")], None, [["1.5 2", "1.25 3"], []]),
        (None, ((b'[["1","2"]]', LevelShape()), (b'[{"p":3,"s":4.5}]', LevelShape("p", "s"))), None,
         [["1 2", "3 4.5"], []]),
        (None, ((b'[["1","2"]]', LevelShape()), (b"[[3,4]]", LevelShape())), b'[["5","6"]]', [["1 2", "3 4"], ["5 6"]]),
        (LevelShape("p", "q"), b'[{"p":1,"q":2}]', b'[{"p":3,"q":4}]', [["1 2"], ["3 4"]]),
        (None, b"null", None, [[], []]),
        (LevelShape(), msgspec.Raw(b""), None, [[], []]),
        (LevelShape(0, 1), b'[["1E-7","9.2E+2"]]', None, [["0.0000001 920"], []]),
    ],
)  # fmt: skip
def test_levels_are_found_where_the_exchange_writes_them(shape, bids, asks, expected):
    assert levels_of(shape, bids, asks) == expected


@pytest.mark.parametrize(
    "text",
    [b"{}", b"[", b"[[", b"[[1]]", b"[[1,2]", b"[[1,2],]", b"[[1,2,]]", b'[["1","x"]]', b"[[-1,-2]]", b'[{"a":1}]',
     b"[1]", b"[[1,2]]x", b"[[1 2]]", b'[["1",null]]'],
)  # fmt: skip
@pytest.mark.parametrize("shape", [None, LevelShape(), LevelShape(1, 0), LevelShape("a", "b")])
def test_what_is_no_array_of_levels(text, shape):
    with pytest.raises(DecodeError) as error:
        levels_of(shape, text)
    assert error.value.kind == "bad_value"


NUMBERS = st.decimals(0, 10**6, places=4).map(lambda n: f"{n:f}")


@given(st.lists(st.tuples(st.sampled_from(["buy", "sell"]), NUMBERS, NUMBERS, st.sampled_from(["1", "[1,{}]"]))))
def test_any_shape_gives_what_json_gives(rows):
    by_index = json.dumps([[extra, side, price, {"q": qty}, qty] for side, price, qty, extra in rows]).encode()
    by_key = json.dumps(
        [{"x": extra, "s": side, "q": qty, "p": price} for side, price, qty, extra in rows], indent=1
    ).encode()
    expected = [
        [f"{Decimal(p).normalize():f} {Decimal(q).normalize():f}" for s, p, q, _ in rows if s == side]
        for side in ("buy", "sell")
    ]
    assert levels_of(LevelShape(2, 4, side=1, bid="buy", ask="sell"), by_index) == expected
    assert levels_of(LevelShape("p", "q", side="s", bid="buy", ask="sell"), by_key) == expected


@given(st.binary(max_size=60) | st.text('[]{},:"0123456789.eE- nulabpq', max_size=60).map(str.encode))
def test_any_bytes_are_levels_or_a_decode_error(text):
    for shape in (LevelShape(1, 0, side=2, bid=1, ask="b"), LevelShape("a", "b", removal=("p", None))):
        try:
            levels_of(shape, text)
        except DecodeError:
            pass


@pytest.mark.parametrize("decimals", [0, 2, 4, 6])
def test_scaled_integers_are_numbers(decimals):
    instruments = Instruments()
    instruments.add("x", "X", price_decimals=decimals, qty_decimals=decimals)

    def scaled(decoder, _):
        x = decoder.find("X")
        decoder.book(x, b"[[30070,55567]]", None, price_scale=4, qty_scale=2)
        decoder.trade(x, 30071, "5", price_scale=4)
        decoder.quote(x, 30070, 1, b"30090", 2, price_scale=4, qty_scale=2)

    log, _ = tell(scaled, instruments=instruments)
    assert log.deltas[0].bids == [(Decimal("3.007"), Decimal("555.67"))]
    assert (log.trades[0].price_decimal, log.trades[0].qty_decimal) == (Decimal("3.0071"), 5)
    assert log.quotes[0].ask_decimal == (Decimal("3.009"), Decimal("0.02"))


# --- messages -------------------------------------------------------------------------------------


def test_unknown_symbols_are_counted_after_the_rest_is_emitted():
    instruments = Instruments()
    instruments.add("x", "X")
    log = EventLog()
    decoder = Told(instruments, log, exchange="x")

    def trades(decoder, _):
        for name in ("Y", "X", "Z"):
            if (instrument := decoder.find(name)) is not None:
                decoder.trade(instrument, "1", "1")

    Told.does = staticmethod(trades)
    with pytest.raises(DecodeError, match="expected a known symbol, found 'Y'") as error:
        decoder.decode(b"payload", 1)
    assert (error.value.kind, error.value.payload) == ("unknown_symbol", b"payload")
    assert len(log.trades) == 1


def test_two_names_never_share_a_symbol_of_ours():
    class Naming(Told):
        def infer(self, raw_symbol):
            return "BTC-USD", "spot"

    instruments = Instruments(infer=True)
    decoder = Naming(instruments, EventLog(), exchange="x")
    assert [decoder.find(name).symbol for name in ("XBT/USD", "BTC/USD")] == ["BTC-USD", None]


@pytest.mark.parametrize(
    "error", [ValueError("v"), KeyError("k"), TypeError("t"), IndexError("i"), ZeroDivisionError("z")]
)
def test_what_parsing_raises_is_a_decode_error(error):
    def fail(decoder, _):
        raise error

    with pytest.raises(DecodeError, match=type(error).__name__):
        tell(fail)


def test_what_a_handler_raises_is_not_ours():
    class Angry(EventLog):
        def on_trade(self, event):
            raise KeyError("mine")

    decoder = Told(Instruments(infer=True), Angry(), exchange="x")
    Told.does = staticmethod(lambda decoder, _: decoder.trade(decoder.find("X"), "1", "1"))
    with pytest.raises(KeyError, match="mine"):
        decoder.decode(b"", 1)


def test_messages_that_tell_nothing_are_counted_by_their_documented_kind():
    _, decoder = tell(lambda decoder, _: decoder.nothing("ack"), b"", b"")
    assert decoder.silent == {"ack": 2}
    with pytest.raises(DecodeError, match="expected a silent kind"):
        tell(lambda decoder, _: decoder.nothing("other"))


def test_refusals_and_announcements():
    def both(decoder, _):
        decoder.refused("no such symbol")
        decoder.reconnect("maintenance")

    log, decoder = tell(both)
    assert decoder.take_requests() == [Refused("no such symbol"), Reconnect("maintenance")]
    assert [status.status for status in log.feed_statuses] == ["refused", "shutdown"]


def test_backlog_is_what_is_older_than_the_connection():
    def trades(decoder, payload):
        x = decoder.find("X")
        ts = int(payload)
        decoder.trade(x, "1", "1", ts_event=ts, is_backlog=decoder.is_backlog(x, ts))

    log, _ = tell(trades, b"50", b"99", b"100", b"98", ts=100)
    assert [t.is_backlog for t in log.trades] == [
        True,
        True,
        False,
        False,
    ]  # no clock is asked after the first live one


def test_tickers_in_parts_are_merged_and_empty_ones_are_none():
    def ticker(decoder, payload):
        decoder.ticker(decoder.find("X"), merge=True, **json.loads(payload))

    log, _ = tell(ticker, b"{}", b'{"last_price":"5"}', b'{"mark_price":"6"}', b'{"last_price":""}')
    assert [(t.last_price, t.mark_price) for t in log.of(Ticker)] == [(5, None), (5, 6), (None, 6)]


class Counted(Told):
    """A counter over the connection: `<number>` or `<number>S`, a snapshot of X."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.counter = ConnectionCounter()
        self.asked = []

    def decode_message(self, payload):
        if not self.counter.follows(int(payload.rstrip(b"S"))):
            self.lost("a message is missing")
        if payload.endswith(b"S"):
            for name in ("X", "Y"):
                self.book(self.find(name), [("1", "1")], [("2", "1")], is_snapshot=True)

    def request_snapshot(self, instrument):
        self.asked.append(instrument.raw_symbol)


def test_a_jump_of_a_connection_wide_counter_costs_every_book():
    class Market(Exchange):
        id = "x"
        decoder = Counted

    log = EventLog()
    pipeline = Pipeline(Market(), Instruments(infer=True), log)
    for payload in (b"1S", b"2", b"2", b"3"):
        pipeline.on_message(payload, 1, True)
    assert {book.state for book in pipeline.books.books} == {BookState.LIVE}
    pipeline.on_message(b"5", 1, True)
    assert [book.state for book in pipeline.books.books] == [BookState.GAP] * 2
    assert (pipeline.books.gaps, pipeline.decoder.asked, pipeline.decoder.counter.missed) == (2, ["X", "Y"], 1)
    pipeline.on_message(b"6S", 1, True)
    assert {book.state for book in pipeline.books.books} == {BookState.LIVE}


def test_snapshots_of_replies_are_joined_and_those_of_the_stream_start_over():
    def book(decoder, payload):
        starts_over = None if not payload else bool(int(payload))
        decoder.book(decoder.find("X"), [("1", "1")], None, is_snapshot=True, starts_over=starts_over)

    log = EventLog()
    decoder = Told(Instruments(infer=True), log, exchange="x")
    Told.does = staticmethod(book)
    decoder.decode(b"", 1)
    decoder.decode_reply("X", b"", 1)
    decoder.decode(b"0", 1)  # an answer on the connection
    assert [delta.starts_over for delta in log.of(BookDelta)] == [True, False, False]


# --- compressed messages --------------------------------------------------------------------------


def test_inflate():
    text = b'{"ping":1618678073643}'
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(text) + packer.flush()
    assert inflate(packed) == text
    packer = zlib.compressobj(wbits=-15)
    assert inflate(packer.compress(text) + packer.flush(), -15) == text
    for bad in (b"", b"x", packed[:-1], text):
        with pytest.raises(ValueError, match="expected a compressed message"):
            inflate(bad)


def test_inflate_is_bounded():
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(bytes(10_000_000)) + packer.flush()
    with pytest.raises(ValueError, match="at most 1000 bytes"):
        inflate(packed, max_size=1000)


# --- books whose messages have no numbers ---------------------------------------------------------


@pytest.mark.parametrize(
    ("exchange_id", "damaged"),
    [
        ("coinbase", b'{"type":"l2update","product_id":"BTC-USD","changes":[["buy","610'),
        ("coinbase", b'{"type":"l2update","product_id":"BTC-USD","time":"2026-09-21T16:43:37.075687Z"}'),
        ("bitmex", b'{"table":"orderBookL2","action":"update","data":[{"symbol":"XBTUSD","id":'),
        ("bitstamp", b'{"data":{"timestamp":"1641343691","microtimestamp":"16413436913102'),
        ("kraken", b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"pri'),
    ],
)
def test_a_lost_message_that_no_later_one_shows_is_a_gap_of_every_book(exchange_id, damaged):
    log = EventLog()
    decoder = exchange(exchange_id).new_decoder(Instruments(infer=True), log)
    with pytest.raises(DecodeError):
        decoder.decode(damaged, 7)
    assert [(status.status, status.ts_recv) for status in log.feed_statuses] == [("gap", 7)]


@pytest.mark.parametrize(
    ("exchange_id", "damaged"),
    [
        ("coinbase", b'{"type":"match","trade_id":280232,"side":"sell","si'),
        ("coinbase", b'{"type":"l2update","product_id":"NO","changes":[["buy","1","1"]],"time":"2026-09-21T16:43Z"}'),
        ("bitmex", b'{"table":"trade","action":"insert","data":[{"symbol":"XBTUSD","si'),
        ("okx", b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["8'),
    ],
)
def test_what_concerns_no_book_or_is_shown_by_numbers_is_no_gap(exchange_id, damaged):
    log = EventLog()
    decoder = exchange(exchange_id).new_decoder(Instruments(), log)
    with pytest.raises(DecodeError):
        decoder.decode(damaged, 7)
    assert log.feed_statuses == []
