import contextlib
import itertools
import json
import re
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feeds.levels import LevelShape, parse_levels, parse_number, parse_sides

INT64_MAX = 2**63 - 1
DIGITS = st.text("0123456789", min_size=1, max_size=9) | st.text("0123456789", min_size=1, max_size=22)
NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    DIGITS,
    st.one_of(st.just(""), DIGITS.map(lambda d: f".{d}")),
    st.one_of(st.just(""), st.integers(-25, 25).map(lambda e: f"e{e}"), st.integers(0, 20).map(lambda e: f"E+{e}")),
)


@pytest.mark.parametrize("quote", ['"', ""])
@given(NUMBERS, st.integers(0, 18))
@example("9223372036854775807", 0)
@example("-9223372036854775807", 0)
@example("9223372036854775808", 0)
@example("9.223372036854775807", 18)
@example("9.223372036854775808", 18)
@example("0.000000000000000001", 18)
@example("0.0000000000000000001", 18)
@example("000000000000000000000000000012.50", 2)
@example("00.5", 1)
@example("0", 10)
@example("1234567.12345678", 10)
@example("0.1e1", 0)
def test_a_number_is_exact_or_a_clear_error(quote, text, decimals):
    with localcontext() as context:
        context.prec = 200
        number = Decimal(text)
        needs = max(0, -number.normalize().as_tuple().exponent) if number else 0
        fits = abs(number).scaleb(max(decimals, needs)) <= INT64_MAX
    try:
        mantissa, needed = parse_number(f"{quote}{text}{quote}".encode(), decimals)
    except ValueError:
        whole = text.lstrip("-").partition(".")[0].partition("e")[0].partition("E")[0]
        assert not fits or needs > 18 or (not quote and whole[0] == "0" and len(whole) > 1)
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


@given(SHORT_NUMBERS, SHORT_NUMBERS, st.sampled_from(['"', ""]), st.sampled_from(['"', ""]), st.data())
def test_a_level_is_read_alike_wherever_it_stands(price, qty, price_quote, qty_quote, data):
    """In front of others a level is read eight characters at a time where it lies, the last one in copies."""
    decimals = data.draw(st.tuples(st.integers(0, 12), st.integers(0, 12)))
    level = f"[{price_quote}{price}{price_quote},{qty_quote}{qty}{qty_quote}]"
    last = read_levels(f"[{level}]", decimals)
    for one, two in ((1, 2), ('"1"', '"2"'), (1, '"2"')):
        ahead = read_levels(f"[{level},[{one},{one}],[{two},{two}],[3,3],[4,4],[5,5],[6,6],[7,7]]", decimals)
        if last is None:
            assert ahead is None
        elif last[1:] != decimals:  # they have to be read again, with as many as are needed
            assert ahead[1:] == last[1:]
        else:
            rest = [(n * 10 ** decimals[0], n * 10 ** decimals[1]) for n in range(1, 8)]
            assert ahead == (last[0] + rest, *last[1:])
    if last is not None:
        assert agrees("scaled, array", f"[{level}]".encode(), *decimals) or len(price) + len(qty) > 10


def read_levels(text, decimals):
    try:
        return parse_levels(text.encode(), *decimals)
    except ValueError:
        return None


# --- shapes ---------------------------------------------------------------------------------------

DECLARED = {
    "pairs": {},
    "quantity first": {"price": 1, "qty": 0},
    "behind an action": {"price": 1, "qty": 2},
    "apart": {"price": 0, "qty": 3},
    "far apart": {"price": 31, "qty": 30},
    "named": {"price": "px", "qty": "sz"},
    "named like another": {"price": "price", "qty": "price_level_quantity"},
    "named at length": {"price": "price of the level in units of the quote currency", "qty": "q"},
    "scaled": {"price": "p", "qty": "s", "price_scale": 4, "qty_scale": 8},
    "scaled, array": {"price_scale": 3},
    "side first": {"side": 0, "bid": "bid", "ask": "offer", "price": 1, "qty": 2},
    "side last": {"side": 2, "bid": "bid", "ask": "offer"},
    "side named": {"side": "side", "bid": "bid", "ask": "offer", "price": "price_level", "qty": "new_quantity"},
    "sides of several names": {"side": 2, "bid": ("b", "bid", 1), "ask": ("offer", "ask", 12, None)},
    "sides that are numbers": {"price": "p", "qty": "q", "side": "s", "bid": 1, "ask": -1},
    "removed by a text": {"price": 1, "qty": 2, "removal": (0, "delete")},
    "removed by a number": {"qty": 2, "removal": (1, 0)},
    "removed by null": {"price": "p", "qty": "q", "removal": ("action", None)},
    "removed of a side": {"price": "p", "qty": "q", "side": "s", "bid": "b", "ask": "a", "removal": ("x", True)},
    "signed": {"signed": True},
    "signed and removed": {"qty": 2, "signed": True, "removal": (1, 0)},
    "signed, named": {"price": "p", "qty": "q", "signed": True},
    "zeros are padding": {"skip_zero_price": True},
    "zeros are padding, named": {"price": "bp", "qty": "bs", "skip_zero_price": True},
    "negative removes": {"negative_removes": True},
    "texts are padding": {"skip_qty": ("NaN", None)},
    "texts are padding, named": {"price": "p", "qty": "q", "skip_qty": ("NaN", None)},
    "texts are padding, negative removes": {"skip_qty": ("NaN", None), "negative_removes": True},
    "padded": {"padded": True},
    "padded, named": {"price": "p", "qty": "q", "padded": True},
    "padded and scaled": {"padded": True, "price_scale": 2},
    "all removed": {"price": "price", "qty": None},
    "all removed, of a side": {"qty": None, "side": 1, "bid": "Buy", "ask": "Sell"},
}
SHAPES = {name: LevelShape(**declared) for name, declared in DECLARED.items()}


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


class Bare(str):
    """The text of a bare number."""


def json_text(value):
    return str(value) if isinstance(value, Bare) else json.dumps(value)


def json_texts(values):
    return [json_text(value) for value in (values if isinstance(values, tuple) else (values,))]


def by_decimal(name, text, price_decimals, qty_decimals):
    """Return (sides, needed decimals, all numbers) by `json` and `decimal`; an error for what is no levels."""
    how = DECLARED[name]
    places = [how.get("price", 0), how.get("qty", 1)]
    scales = [how.get("price_scale", 0), how.get("qty_scale", 0)]
    sides, needs, everything = ([], []), [price_decimals, qty_decimals], []
    for level in json.loads(text, parse_float=Bare, parse_int=Bare, object_pairs_hook=unique):
        if not isinstance(level, dict if isinstance(places[0], str) else list):
            raise TypeError(name)
        numbers = [Decimal(0), Decimal(0)]
        for i, (place, scale) in enumerate(zip(places, scales, strict=True)):
            if place is None:
                needs[i] = max(needs[i], scale)
                continue
            if i and json_text(level[place]) in json_texts(how.get("skip_qty", ())):
                numbers[1] = None
                continue
            if not isinstance(level[place], str) or not set(level[place]) <= set("0123456789.-+eE"):
                raise TypeError(level[place])
            if not level[place][-1].isdigit() or level[place][0] in "+.":
                raise ValueError(level[place])
            number = Decimal(level[place])
            decimals = max(0, -number.normalize().as_tuple().exponent) if number else 0
            if how.get("padded"):
                decimals = max(decimals, len(re.match(r"[-\d]*\.?(\d*)", level[place])[1]))
            numbers[i] = number.scaleb(-scale)
            needs[i] = max(needs[i], decimals + scale)
        if numbers[1] is None:
            everything += [(numbers[0], Decimal(0))]
            continue
        everything += [numbers]
        price, qty = numbers
        is_ask = False
        if "side" in how:
            side = json_text(level[how["side"]])
            is_ask = side in json_texts(how["ask"])
            if not is_ask and side not in json_texts(how["bid"]):
                raise ValueError(side)
        if qty < 0:
            if not (how.get("signed") or how.get("negative_removes")):
                raise ValueError(qty)
            is_ask = is_ask or how.get("signed", False)
            qty = -qty if how.get("signed") else Decimal(0)
        if "removal" in how:
            place, value = how["removal"]
            if json_text(level[place]) == json_text(value):
                qty = Decimal(0)
        if price or not how.get("skip_zero_price"):
            sides[is_ask].append((price, qty))
    return sides, needs, everything


def agrees(name, text, price_decimals, qty_decimals):
    """Assert that the scanner says what `decimal` says, with decimals that suffice; return whether it is levels."""
    with localcontext() as context:
        context.prec = 200
        try:
            sides, needs, everything = by_decimal(name, text, price_decimals, qty_decimals)
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, Doubled):
            assert read_shape(name, text, price_decimals, qty_decimals) is None
            return False
        found = read_shape(name, text, price_decimals, qty_decimals)
        exact = [[(p.scaleb(needs[0]), q.scaleb(needs[1])) for p, q in side] for side in (*sides, everything)]
        fits = max(needs) <= 18 and all(abs(n) <= INT64_MAX for level in exact[2] for n in level)
        if found is None or not fits:
            assert found is None or max(found[2:]) > 18 or read_shape(name, text, *found[2:]) is None
            assert not fits
            return False
        assert found[2:] == (needs[0], needs[1])
        assert read_shape(name, text, *needs)[:2] == tuple(exact[:2])
        return True


OTHERS = ["null", "-1.5e3", '"x, ]}:["', '[1,{"px":[]}]', '{"sz":2,"side":"bid"}']


def negative(number):
    """Return a JSON number, quoted or not, with a minus before it."""
    return re.sub(r'^("?)-?', r"\1-", number)


def shape_text(name, rows, draw):
    """Return a JSON array of rows (price text, qty text, is ask), with more in every level, keys in any order."""
    how = DECLARED[name]
    levels = []
    for price, qty, is_ask in rows:
        may_be_negative = how.get("signed") or how.get("negative_removes")
        parts = {how.get("price", 0): price, how.get("qty", 1): negative(qty) if is_ask and may_be_negative else qty}
        parts.pop(None, None)
        if "skip_qty" in how and draw(st.booleans()):
            parts[how.get("qty", 1)] = draw(st.sampled_from(json_texts(how["skip_qty"])))
        if "side" in how:
            parts[how["side"]] = draw(st.sampled_from(json_texts(how["ask" if is_ask else "bid"])))
        if "removal" in how:
            place, value = how["removal"]
            parts[place] = draw(st.sampled_from([json.dumps(value), '"new"', "3", "0.0", "[true, null]"]))
        others = itertools.cycle(draw(st.permutations(OTHERS)))
        if isinstance(how.get("price", 0), int):
            size = max(parts) + 1 + draw(st.integers(0, 1))
            levels.append(f"[{','.join(parts.get(at) or next(others) for at in range(size))}]")
        else:
            items = [*parts.items(), *zip(draw(st.sampled_from([[], ["n"], ["pric", "px2"]])), others, strict=False)]
            levels.append("{" + ",".join(f'"{key}":{value}' for key, value in draw(st.permutations(items))) + "}")
    return "[" + ",".join(levels) + "]"


JSON_NUMBERS = st.one_of(
    st.sampled_from(["0", "0.00", "7.50", "-0"]),
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
@settings(max_examples=100)
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
        ("side named", b'[{"side":"bid","side":"bid","price_level":1,"new_quantity":1}]'),
        ("sides that are numbers", b'[{"s":12,"p":1,"q":1}]'),
        ("sides that are numbers", b'[{"s":"1","p":1,"q":1}]'),
        ("removed by a number", b"[[1]]"),
        ("removed by null", b'[{"p":1,"q":1}]'),
        ("removed by null", b'[{"p":1,"q":1,"action":nul}]'),
        ("all removed", b'[{"qty":1}]'),
        ("all removed", b'[{"price":1}'),
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
        (TypeError, {"qty": None, "side": 0, "bid": "b", "ask": "a"}, "different positions or different names"),
        (TypeError, {"removal": (1, 0)}, "different positions or different names"),
        (TypeError, {"removal": ("action", 0)}, "different positions or different names"),
        (TypeError, {"side": 2}, "different values of bid and ask with a side"),
        (TypeError, {"side": 2, "bid": "b"}, "different values of bid and ask with a side"),
        (TypeError, {"side": 2, "bid": "b", "ask": "b"}, "different values of bid and ask with a side"),
        (TypeError, {"side": 2, "bid": ("b", 1), "ask": (1, "a")}, "different values of bid and ask with a side"),
        (TypeError, {"bid": "b", "ask": "a"}, "different values of bid and ask with a side"),
        (TypeError, {"side": 2, "bid": "b", "ask": "a", "signed": True}, "a side or signed quantities"),
        (ValueError, {"side": 2, "bid": tuple("abcdefgh"), "ask": "i"}, "at most 8 values of bid and ask, found 9"),
        (ValueError, {"side": 2, "bid": "b", "ask": '"'}, "printable ASCII"),
        (ValueError, {"removal": (2, "gel\u00f6scht")}, "printable ASCII"),
        (ValueError, {"price": -1}, "positions of 0 to 31"),
        (ValueError, {"price": 32}, "positions of 0 to 31"),
        (ValueError, {"price": "", "qty": "q"}, "names of 1 character or more"),
        (ValueError, {"price": 'p"', "qty": "q"}, "printable ASCII"),
        (ValueError, {"price_scale": 19}, "a scale of 0 to 18"),
        (ValueError, {"qty_scale": -1}, "a scale of 0 to 18"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(error, arguments, match):
    with pytest.raises(error, match=match):
        LevelShape(**arguments)


def test_places_are_given_by_position_or_by_name():
    assert str(LevelShape("px", "sz")) == '[{"px": price, "sz": qty}, ...]'
    assert str(LevelShape(0, 3, side=1, bid="b", ask="a", removal=(4, 0))) == "[[price, side, ..., qty, removal], ...]"


def test_with_too_few_decimals_all_that_are_needed_are_told_at_once():
    shape = LevelShape("p", "q", removal=("x", 1), skip_zero_price=True)
    text = b'[{"p":0.0001,"q":0.5,"x":1},{"p":0.00,"q":0.125,"x":0},{"p":"2.50","q":"0.0625","x":0}]'
    assert parse_levels(text, 0, 0, shape)[1:] == (4, 4)
    assert parse_levels(text, 4, 4, shape) == ([(1, 0), (25_000, 625)], 4, 4)


def test_a_shape_is_read_by_the_function_of_its_kind():
    with pytest.raises(ValueError, match=r"expected levels of one side, found \[\[side, price, qty\], ...\]"):
        parse_levels(b"[]", 0, 0, SHAPES["side first"])
    with pytest.raises(ValueError, match=r'with a side, found \[{"px": price, "sz": qty}, ...\]'):
        parse_sides(b"[]", 0, 0, SHAPES["named"])
