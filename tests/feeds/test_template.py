"""Templates of messages: what they take, and that they never take what they should not."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from feeds.errors import DecodeError
from feeds.events import BookDelta, Trade
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.template import read_like
from feeds.testing import EventLog
from feeds.wire import Wire
from tests.feeds.messages import book_ticker, depth, trade


class _Fill(msgspec.Struct):
    p: str
    q: Raw
    T: int
    kind: str = "FILL"
    maker: bool = False
    note: Raw = Raw(b"")
    id: int = -7


class _Book(msgspec.Struct):
    u: int
    b: Raw
    a: Raw


FILL = Wire(
    _Fill, Trade, price="p", qty="q", ts_event="T", trade_id="id", buyer_is_maker="maker", only=("kind", "FILL")
)
BOOK = Wire(_Book, BookDelta, last_id="u", bids="b", asks="a")
MODEL = (
    b'{"note":"n","p":"10.50","q":"2","T":1700000000000,"more":{"x":[1,"2"]},"kind":"FILL","maker":true,'
    b'"id":1234567890123}}'
)


def read(message, wire=FILL, model=MODEL):
    return read_like(wire, model, message, 2, 1)


def replaced(old, new, model=MODEL):
    assert old in model
    return model.replace(old, new)


def test_reads_the_model_and_messages_with_other_values():
    found = read(MODEL)
    assert sorted(found.values()) == [1, 1, 20, 1050, 1234567890123, 1700000000000]
    other = replaced(b"10.50", b"9.5")
    assert sorted(read(other).values()) == [1, 1, 20, 950, 1234567890123, 1700000000000]
    for old, new in [
        (b'{"x":[1,"2"]}', b"[]"),
        (b'{"x":[1,"2"]}', b'"text"'),
        (b'{"x":[1,"2"]}', b"-1e5"),
        (b"1234567890123", b"1234567890"),
        (b"1234567890123", b"-1"),
        (b"1234567890123", b"1234567890123456789"),
        (b"10.50", b"-10.50"),
        (b"10.50", b"1e3"),
        (b"10.50", b"12345678901234.5"),
    ]:
        assert read(replaced(old, new)) is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"n"', b'"m"'),  # a text that was never seen
        (b'"FILL"', b'"LIQUIDATION"'),
        (b'"p"', b'"P"'),
        (b'"T":', b'"T": '),
        (b'{"note"', b'{ "note"'),
        (b'{"note"', b'{"new":1,"note"'),
        (b"1234567890123", b'1234567890123,"new":1'),
        (b"1234567890123", b"1234567890123.5"),
        (b"1234567890123", b"01234567890123"),
        (b'"id":1234567890123}}', b'"id":5}'),
        (b'"id":1234567890123}}', b'"id":5}} '),
        (b'"10.50"', b'"10.505"'),  # has no room in two decimals
        (b'"10.50"', b'""'),
        (b'"10.50"', b"10.50"),
        (b'"q":"2"', b'"q":2'),
        (b"true", b"True"),
        (b'{"x":[1,"2"]}', b'{"x":[1,"2"}'),
    ],
)
def test_leaves_everything_else_to_those_who_know(old, new):
    assert read(replaced(old, new)) is None


def test_a_message_that_is_cut_off_anywhere_is_not_like_it():
    for size in range(len(MODEL)):
        assert read(MODEL[:size]) is None


def test_fields_that_the_model_does_not_have_get_their_defaults():
    model = b'{"p":"1.00","q":"2.0","T":1700000000000}'
    assert sorted(read(model, model=model).values()) == [-7, 1, 20, 100, 1700000000000]
    other = b'{"p":"1.00","q":"2.0","kind":"OTHER","T":1700000000000}'  # not what is asked for: the value of ONLY is 0
    assert sorted(read(other, model=other).values()) == [-7, 20, 100, 1700000000000]


def test_levels_bare_numbers_and_space_are_part_of_a_template_too():
    model = b'{"u": 7, "b": [["1.5", "2"]], "a": []}'
    assert list(read(model, BOOK, model).values()) == [7]
    assert list(read(b'{"u": 8, "b": [], "a": [[1.5, 2, 9], ["2", "3"]]}', BOOK, model).values()) == [8]
    assert read(b'{"u": 8, "b": [["1.5"]], "a": []}', BOOK, model) is None
    bare = replaced(b'"q":"2"', b'"q":2.5')
    assert sorted(read(replaced(b'"q":2.5', b'"q":31', bare), model=bare).values()) == [
        1,
        1,
        310,
        1050,
        1234567890123,
        1700000000000,
    ]


def test_a_template_has_limits():
    many = json.dumps({"p": "1", "q": "2", "T": 5} | {f"x{n}": n for n in range(30)}).encode()
    with pytest.raises(ValueError, match="at most 24 values"):
        read(many, model=many)
    wide = json.dumps({"p": "1", "q": "2", "T": 5, "note": "x" * 3000}).encode()
    with pytest.raises(ValueError, match="2048 bytes around"):
        read(wide, model=wide)


def test_a_template_ends_where_the_message_does():
    """What is behind the object belongs to it: an envelope that closes."""
    assert read(MODEL[:-1]) is None
    assert read(MODEL[:-1], model=MODEL[:-1]) is not None


FORMS = [
    book_ticker(u=5),
    book_ticker("100.1", "100.25", u=6),
    book_ticker(u=7, time=1_700_000_000_001),
    book_ticker(u=8).replace(b'"s"', b'"new":null,"s"'),
    book_ticker(u=9).replace(b",", b", "),
    depth(1, 2, [("1.5", "2")]),
    depth(3, 4, [], [("1.5", "2"), ("1.75", "0")]),
    trade(),
    trade("100.105", "7"),
    trade(X="MARKET"),
    b"not JSON",
]


@given(st.lists(st.sampled_from(FORMS), max_size=60))
def test_whatever_came_before_a_message_is_decoded_alike(messages):
    """Templates are learned, unlearned and left aside; the reference engine has none."""
    logs = []
    for reference in (False, True):
        log, errors = EventLog(), []
        decoder = exchange("binance").new_decoder(Instruments(infer=True), log, reference=reference)
        for message in messages:
            try:
                decoder.decode(message, 1)
            except DecodeError as error:
                errors.append(str(error))
        logs.append(([str(event) for event in log.events], errors))
    assert logs[0] == logs[1]
