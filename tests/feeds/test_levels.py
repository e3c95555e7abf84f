import contextlib
import json
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feeds.levels import parse_levels, parse_number

INT64_MAX = 2**63 - 1
DIGITS = st.text("0123456789", min_size=1, max_size=22)
NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    DIGITS,
    st.one_of(st.just(""), DIGITS.map(lambda d: f".{d}")),
    st.one_of(st.just(""), st.integers(-25, 25).map(lambda e: f"e{e}"), st.integers(0, 20).map(lambda e: f"E+{e}")),
)


@given(NUMBERS, st.integers(0, 18))
@example("9223372036854775807", 0)
@example("-9223372036854775807", 0)
@example("9223372036854775808", 0)
@example("9.223372036854775807", 18)
@example("9.223372036854775808", 18)
@example("0.000000000000000001", 18)
@example("0.0000000000000000001", 18)
@example("000000000000000000000000000012.50", 2)
@example("0.1e1", 0)
def test_a_number_is_exact_or_a_clear_error(text, decimals):
    with localcontext() as context:
        context.prec = 200
        number = Decimal(text)
        needs = max(0, -number.normalize().as_tuple().exponent) if number else 0
        fits = abs(number).scaleb(max(decimals, needs)) <= INT64_MAX
    try:
        mantissa, needed = parse_number(b'"' + text.encode() + b'"', decimals)
    except ValueError:
        assert not fits or needs > 18
        return
    assert needed == max(decimals, needs)
    if needed == decimals:
        with localcontext() as context:
            context.prec = 200
            assert fits
            assert mantissa == number.scaleb(decimals)


@pytest.mark.parametrize("text", [b"0e99999999999999999999", b"0e-99999999999999999999", b"-0.000e5", b"-0"])
def test_zero_is_zero_whatever_its_exponent(text):
    assert parse_number(text, 3) == (0, 3)


@pytest.mark.parametrize("text", [b"1e99999999999999999999", b"1e-99999999999999999999", b"1e19", b"1e-19", b"9" * 20])
def test_numbers_far_out_are_refused(text):
    with pytest.raises(ValueError, match="int64"):
        parse_number(text, 0)


@given(st.integers(-INT64_MAX, INT64_MAX), st.integers(0, 18))
def test_every_mantissa_survives_the_way_over_text(mantissa, decimals):
    text = format(Decimal(f"{mantissa}E-{decimals}"), "f").encode()
    assert parse_number(text, decimals) == (mantissa, decimals)
    assert parse_number(b'"' + text + b'"', decimals) == (mantissa, decimals)


@given(st.integers(0, 10**12), st.integers(0, 9))
def test_more_decimals_than_given_are_asked_for_and_then_exact(mantissa, decimals):
    text = format(Decimal(f"{mantissa}E-{decimals}"), "f").encode()
    _, needed = parse_number(text, 0)
    assert parse_number(text, needed)[0] == Decimal(text.decode()).scaleb(needed)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-",
        b".",
        b"1.",
        b".5",
        b"+1",
        b"1e",
        b"1e+",
        b"e5",
        b"1.2.3",
        b"1 ",
        b" 1",
        b'"1',
        b'1"',
        b'""',
        b"0x10",
        b"NaN",
        b"Infinity",
        b"1_000",
        b"--1",
        b'"1" ',
        b"01",
        b"-00.5",
        b"null",
        b"1e5.5",
        b'"-"',
        "\u0661".encode(),
    ],
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="not a JSON number"):
        parse_number(text, 2)


def test_leading_zeros_are_text_but_not_json():
    assert parse_number(b'"007.50"', 2) == (750, 2)
    with pytest.raises(ValueError, match="not a JSON number"):
        parse_number(b"007.50", 2)


@pytest.mark.parametrize("decimals", [-1, 19])
def test_decimals_beyond_an_int64_are_refused(decimals):
    with pytest.raises(ValueError, match="expected 0 to 18 decimals"):
        parse_number(b"1", decimals)
    with pytest.raises(ValueError, match="expected 0 to 18 decimals"):
        parse_levels(b"[]", decimals, 0)
    with pytest.raises(ValueError, match="expected 0 to 18 decimals"):
        parse_levels(b"[]", 0, decimals)


PRICES = st.decimals("-99999", "99999", places=4, allow_nan=False)
QTYS = st.decimals("0", "99999", places=3, allow_nan=False)
EXTRAS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text("abc {}[],:0", max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=2), inner, max_size=2)),
    max_leaves=4,
)


@given(
    st.lists(st.tuples(PRICES, QTYS, st.lists(EXTRAS, max_size=2)), max_size=20),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_levels_equal_what_json_and_decimal_say(levels, quoted, indent):
    def number(value):
        return format(value, "f") if quoted else float(value)

    text = json.dumps([[number(price), number(qty), *extras] for price, qty, extras in levels], indent=indent)
    parsed, needed_price, needed_qty = parse_levels(text.encode(), 4, 3)
    assert (needed_price, needed_qty) == (4, 3)
    expected = json.loads(text, parse_float=Decimal)
    assert parsed == [(Decimal(level[0]).scaleb(4), Decimal(level[1]).scaleb(3)) for level in expected]


LEVELS = b'[["61737.63","0.014",{"n":[1,{"a":null}]}],[61737.7, 2e1 ,true,"x",-1.5e+3],["0","0"]]'


@pytest.mark.parametrize("cut", range(len(LEVELS)))
def test_truncated_levels_are_refused(cut):
    with pytest.raises(ValueError, match="not a JSON"):
        parse_levels(LEVELS[:cut], 2, 3)


@given(st.integers(0, len(LEVELS) - 1), st.integers(0, 255))
def test_a_changed_byte_never_crashes_or_hangs(at, byte):
    text = LEVELS[:at] + bytes([byte]) + LEVELS[at + 1 :]
    try:
        levels, _, _ = parse_levels(text, 8, 8)
    except ValueError:
        return
    expected = json.loads(text.decode("utf-8", "replace"), parse_float=Decimal)
    assert len(levels) == len(expected)


@given(st.binary(max_size=60))
def test_any_bytes_are_levels_or_a_clear_error(text):
    with contextlib.suppress(ValueError):
        assert all(type(number) is int for level in parse_levels(text, 2, 2)[0] for number in level)


@pytest.mark.parametrize(
    "extra",
    [
        b"@",
        b"[@]",
        b"[1 2]",
        b"tru",
        b"{1:1}",
        b'{"a" 1}',
        b"[1,]",
        b'{"a":1,}',
        b"]",
        b"nul",
        b'"\\q"',
        b'"\x01"',
        b"01",
        b"1.",
        b"-",
        b"{",
        b"{}}",
    ],
)
def test_what_follows_price_and_qty_is_checked(extra):
    with pytest.raises(ValueError, match="not a JSON"):
        parse_levels(b'[["1","1",' + extra + b"]]", 0, 0)


def test_nesting_has_a_limit():
    deep = b'[["1","1",' + b"[" * 64 + b"1" + b"]" * 64 + b"]]"
    assert parse_levels(deep, 0, 0)[0] == [(1, 1)]
    with pytest.raises(ValueError, match="not a JSON"):
        parse_levels(b'[["1","1",' + b"[" * 65 + b"1" + b"]" * 65 + b"]]", 0, 0)


def test_a_negative_quantity_is_refused_and_a_negative_price_is_not():
    assert parse_levels(b'[["-37.63","1"]]', 2, 0)[0] == [(-3763, 1)]
    with pytest.raises(ValueError, match="negative quantity"):
        parse_levels(b'[["37.63","-1"]]', 2, 0)


def test_levels_say_how_many_decimals_each_side_of_them_needs():
    _, price, qty = parse_levels(b'[["1.25","0.5"],["1.2500","0.12345"]]', 1, 1)
    assert (price, qty) == (2, 5)


SHORT_NUMBERS = st.builds(
    "{}{}{}".format,
    st.text("0123456789", min_size=1, max_size=9),
    st.one_of(st.just(""), st.text("0123456789", max_size=9).map(lambda digits: f".{digits}")),
    st.sampled_from(["", "", "", "e1", "x", "/", ":", "\\u0030", "-", " "]),
)


@given(SHORT_NUMBERS, SHORT_NUMBERS, st.integers(0, 12), st.integers(0, 12))
def test_a_level_is_read_alike_wherever_it_stands(price, qty, price_decimals, qty_decimals):
    """In front of others a level is read eight characters at a time; the last one never is."""
    decimals = (price_decimals, qty_decimals)
    level = f'["{price}","{qty}"]'
    last = read_levels(f"[{level}]", decimals)
    first = read_levels(f'[{level},["1","1"],["2","2"],["3","3"],["4","4"],["5","5"]]', decimals)
    if last is None:
        assert first is None
    else:
        rest = [(n * 10**price_decimals, n * 10**qty_decimals) for n in range(1, 6)]
        assert first == (last[0] + rest, *last[1:])


def read_levels(text, decimals):
    try:
        return parse_levels(text.encode(), *decimals)
    except ValueError:
        return None
