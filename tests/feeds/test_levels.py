import contextlib
import json
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feeds.levels import LevelShape, parse_levels, parse_number, parse_sides

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


# --- shapes ---------------------------------------------------------------------------------------

SIDES = {"bid": 0, "offer": 1}
SHAPES = {
    "pairs, by shape": LevelShape(),
    "quantity first": LevelShape(price=1, qty=0),
    "behind an action": LevelShape(price=1, qty=2),
    "apart": LevelShape(price=0, qty=3),
    "named": LevelShape(price="px", qty="sz"),
    "named like another": LevelShape(price="price", qty="price_level_quantity"),
    "scaled": LevelShape(price="p", qty="s", price_scale=4, qty_scale=8),
    "scaled, array": LevelShape(price_scale=3),
    "side first": LevelShape(side=0, bid="bid", ask="offer", price=1, qty=2),
    "side last": LevelShape(side=2, bid="bid", ask="offer"),
    "side named": LevelShape(side="side", bid="bid", ask="offer", price="price_level", qty="new_quantity"),
}
PLACES = {  # as the shapes above declare them: places of price, qty and side, scales of price and qty
    "pairs, by shape": (0, 1, None, 0, 0),
    "quantity first": (1, 0, None, 0, 0),
    "behind an action": (1, 2, None, 0, 0),
    "apart": (0, 3, None, 0, 0),
    "named": ("px", "sz", None, 0, 0),
    "named like another": ("price", "price_level_quantity", None, 0, 0),
    "scaled": ("p", "s", None, 4, 8),
    "scaled, array": (0, 1, None, 3, 0),
    "side first": (1, 2, 0, 0, 0),
    "side last": (0, 1, 2, 0, 0),
    "side named": ("price_level", "new_quantity", "side", 0, 0),
}


def read_shape(name, text, price_decimals, qty_decimals):
    """Return (bids, asks, needed price decimals, needed qty decimals), None where the scanner refuses."""
    shape = SHAPES[name]
    try:
        if shape.has_side:
            found = parse_sides(text, price_decimals, qty_decimals, shape)
        else:
            bids, *needed = parse_levels(text, price_decimals, qty_decimals, shape)
            found = (bids, [], *needed)
    except ValueError:
        return None
    if max(found[2:]) <= 18 and found[2:] != (price_decimals, qty_decimals):
        return read_shape(name, text, *found[2:])  # with too few decimals it need not see what else is wrong
    return found


class Doubled(Exception):
    """An object has a key twice."""


def unique(pairs):
    if len(dict(pairs)) < len(pairs):
        raise Doubled
    return dict(pairs)


def by_decimal(name, text, price_decimals, qty_decimals):
    """Return what `read_shape` should, by `json` and `decimal`; an error for what is none."""
    price_at, qty_at, side_at, price_scale, qty_scale = PLACES[name]
    levels = json.loads(text, parse_float=Decimal, parse_int=Decimal, object_pairs_hook=unique)
    sides, needs = ([], []), [price_decimals, qty_decimals]
    for level in levels:
        if isinstance(level, dict) != isinstance(price_at, str):
            raise TypeError(name)
        numbers = []
        for at, scale in ((price_at, price_scale), (qty_at, qty_scale)):
            if not isinstance(level[at], Decimal | str) or not set(str(level[at])) <= set("0123456789.-+eE"):
                raise TypeError(level[at])
            if not str(level[at])[-1].isdigit() or str(level[at])[0] in "+.":
                raise ValueError(level[at])
            numbers.append(Decimal(level[at]).scaleb(-scale))
        if numbers[1] < 0:
            raise ValueError(numbers)
        for i, (number, scale) in enumerate(zip(numbers, (price_scale, qty_scale), strict=True)):
            decimals = max(0, -number.normalize().as_tuple().exponent) if number else 0
            needs[i] = max(needs[i], decimals, scale)
        sides[SIDES[level[side_at]] if side_at is not None else 0].append(numbers)
    return sides, needs


def agrees(name, text, price_decimals, qty_decimals):
    """Assert that the scanner says what `decimal` says, with decimals that suffice; return whether it is levels."""
    with localcontext() as context:
        context.prec = 200
        try:
            sides, needs = by_decimal(name, text, price_decimals, qty_decimals)
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, Doubled):
            assert read_shape(name, text, price_decimals, qty_decimals) is None
            return False
        found = read_shape(name, text, price_decimals, qty_decimals)
        exact = [[(p.scaleb(needs[0]), q.scaleb(needs[1])) for p, q in side] for side in sides]
        if (
            found is None
            or max(needs) > 18
            or any(abs(n) > INT64_MAX for side in exact for level in side for n in level)
        ):
            assert found is None or max(found[2:]) > 18 or read_shape(name, text, *found[2:]) is None
            assert max(needs) > 18 or any(abs(n) > INT64_MAX for side in exact for level in side for n in level)
            return False
        assert found[2:] == (needs[0], needs[1])
        assert read_shape(name, text, *needs)[:2] == tuple(exact)
        return True


OTHERS = ["null", "-1.5e3", '"x, ]}:["', '[1,{"px":[]}]', '{"sz":2,"side":"bid"}']


def shape_text(name, rows, draw):
    """Return a JSON array of rows (price text, qty text, is ask), with more in every level, keys in any order."""
    price_at, qty_at, side_at, _, _ = PLACES[name]
    levels = []
    for price, qty, is_ask in rows:
        parts = {price_at: price, qty_at: qty}
        if side_at is not None:
            parts[side_at] = '"offer"' if is_ask else '"bid"'
        others = iter(draw(st.permutations(OTHERS)))
        if isinstance(price_at, int):
            size = max(parts) + 1 + draw(st.integers(0, 1))
            levels.append(f"[{','.join(parts.get(at) or next(others) for at in range(size))}]")
        else:
            items = [*parts.items(), *zip(draw(st.sampled_from([[], ["n"], ["pric", "px2"]])), others, strict=False)]
            levels.append("{" + ",".join(f'"{key}":{value}' for key, value in draw(st.permutations(items))) + "}")
    return "[" + ",".join(levels) + "]"


JSON_NUMBERS = st.one_of(
    st.decimals("0", "99999", places=4).map(lambda n: format(n, "f")),
    st.builds("{}e{}".format, st.integers(0, 99999), st.integers(-6, 3)),
    st.integers(0, INT64_MAX + 2).map(str),
    st.integers(0, 10**12).map(lambda n: format(Decimal(n).scaleb(-8), "f")),
)
TEXT_NUMBERS = st.tuples(JSON_NUMBERS, st.booleans()).map(lambda pair: f'"{pair[0]}"' if pair[1] else pair[0])


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=50)
@given(st.lists(st.tuples(TEXT_NUMBERS, TEXT_NUMBERS, st.booleans()), max_size=6), st.integers(0, 9), st.data())
def test_levels_of_any_shape_equal_what_json_and_decimal_say(name, rows, decimals, data):
    text = shape_text(name, rows, data.draw)
    if data.draw(st.booleans()):
        text = text.replace(":", " : ").replace("],[", "] ,\n[").replace("},{", "} ,\t{")
    assert agrees(name, text.encode(), decimals, 8) or any(len(n) > 10 for row in rows for n in row[:2])


ROWS = [("61737.63", '"0.014"', False), ("0.5", "2e1", True), ('"-7"', "12345678.25", True), ("1", "0", False)]


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=10)
@given(st.data())
def test_every_truncation_of_a_shape_is_refused(name, data):
    text = shape_text(name, ROWS, data.draw).encode()
    assert agrees(name, text, 2, 3)
    for cut in range(len(text)):
        assert read_shape(name, text[:cut], 2, 3) is None


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=50)
@given(st.data(), st.integers(0), st.sampled_from(b'"\\{}[],: \n0159-+.eEtfnul\x00\x1f\x7fbid'))
def test_a_changed_byte_of_a_shape_is_read_as_json_and_decimal_read_it(name, data, at, byte):
    text = bytearray(shape_text(name, ROWS, data.draw).encode())
    text[at % len(text)] = byte
    found = read_shape(name, bytes(text), 8, 9)
    if found is not None:  # stricter than `json` it may be: escapes, texts with leading zeros
        with contextlib.suppress(Doubled):
            assert agrees(name, bytes(text), 8, 9)


@pytest.mark.parametrize("name", SHAPES)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_shape_or_a_clear_error(name, text):
    for tried in (text, b"[" + text + b"]", b"[[" + text + b"]]", b"[{" + text + b"}]"):
        read_shape(name, tried, 2, 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("named", b"[[1,2]]"),
        ("named", b"[{}]"),
        ("named", b'[{"px":1}]'),
        ("named", b'[{"px":1,"px":1,"sz":1}]'),
        ("named", b'[{"px":1,"sz":null}]'),
        ("named", b'[{"\\u0070x":1,"sz":1}]'),
        ("named", b'{"px":1,"sz":1}'),
        ("named", b"null"),
        ("behind an action", b'[["new",1]]'),
        ("behind an action", b'[{"1":1,"2":2}]'),
        ("side first", b'[["buy",1,1]]'),
        ("side first", b"[[null,1,1]]"),
        ("side named", b'[{"price_level":1,"new_quantity":1}]'),
        ("side named", b'[{"side":"ask","price_level":1,"new_quantity":1}]'),
    ],
)
def test_what_does_not_have_the_shape_is_refused(name, text):
    with pytest.raises(ValueError, match="not a JSON number or level array"):
        (parse_sides if SHAPES[name].has_side else parse_levels)(text, 2, 2, SHAPES[name])


def test_a_scaled_number_asks_for_the_decimals_of_its_scale():
    shape = LevelShape(price_scale=4)
    assert parse_levels(b"[[345475000,14340]]", 1, 0, shape)[1:] == (4, 0)
    assert parse_levels(b"[[345475000,14340]]", 6, 0, shape) == ([(34_547_500_000, 14_340)], 6, 0)
    assert parse_levels(b"[]", 1, 0, shape) == ([], 1, 0)


@pytest.mark.parametrize(
    ("error", "arguments", "match"),
    [
        (TypeError, {"price": 0, "qty": 0}, "different positions or different names"),
        (TypeError, {"price": "p", "qty": 1}, "different positions or different names"),
        (TypeError, {"price": True, "qty": 2}, "different positions or different names"),
        (TypeError, {"side": 2}, "two texts with a side"),
        (TypeError, {"side": 2, "bid": "b", "ask": "b"}, "two texts with a side"),
        (TypeError, {"bid": "b", "ask": "a"}, "two texts with a side"),
        (ValueError, {"price": -1}, "positions of 0 to 31"),
        (ValueError, {"price": 32}, "positions of 0 to 31"),
        (ValueError, {"price": "p" * 25, "qty": "q"}, "1 to 24 bytes"),
        (ValueError, {"price": "", "qty": "q"}, "1 to 24 bytes"),
        (ValueError, {"price": 'p"', "qty": "q"}, "printable ASCII"),
        (ValueError, {"price_scale": 19}, "a scale of 0 to 18"),
        (ValueError, {"qty_scale": -1}, "a scale of 0 to 18"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(error, arguments, match):
    with pytest.raises(error, match=match):
        LevelShape(**arguments)


def test_a_shape_is_read_by_the_function_of_its_kind():
    with pytest.raises(ValueError, match=r"expected levels of one side, found \[\[side, price, qty\], ...\]"):
        parse_levels(b"[]", 0, 0, SHAPES["side first"])
    with pytest.raises(ValueError, match=r'with a side, found \[{"px": price, "sz": qty}, ...\]'):
        parse_sides(b"[]", 0, 0, SHAPES["named"])
