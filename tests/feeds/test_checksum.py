import zlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.book_builder import BookBuilder
from feeds.checksum import InterleavedChecksum, NumberText, SideBySideChecksum
from feeds.events import BookDelta
from feeds.instrument import Instruments
from feeds.testing import EventLog


def book_of(bids, asks, *, price_decimals=4, qty_decimals=8):
    instrument = Instruments().add("x", "X", price_decimals=price_decimals, qty_decimals=qty_decimals)
    builder = BookBuilder(EventLog())
    builder.on_book_delta(BookDelta(instrument, bids=bids, asks=asks, is_snapshot=True))
    return builder.book(instrument)


def pairs(text):
    return [tuple(level.split()) for level in text.split("; ")]


def test_the_example_of_kraken():
    asks = pairs(
        "45285.2 0.00100000; 45286.4 1.54571953; 45286.6 1.54571109; 45289.6 1.54560911; 45290.2 0.15890660; "
        "45291.8 1.54553491; 45294.7 0.04454749; 45296.1 0.35380000; 45297.5 0.09945542; 45299.5 0.18772827"
    )
    bids = pairs(
        "45283.5 0.10000000; 45283.4 1.54582015; 45282.1 0.10000000; 45281.0 0.10000000; 45280.3 1.54592586; "
        "45279.0 0.07990000; 45277.6 0.03310103; 45277.5 0.30000000; 45277.3 1.54602737; 45276.6 0.15445238"
    )
    checksum = SideBySideChecksum(levels=10, number_text=NumberText.DIGITS)
    book = book_of(bids, [*asks, ("50000", "1")], price_decimals=1)
    assert checksum.of(book) == 3310070434
    assert checksum.text(book).startswith("452852100000452864")


BIDS, ASKS = [("10.5", "2"), ("10", "0.0000005")], [("11", "3.25")]


@pytest.mark.parametrize(
    ("number_text", "expected"),
    [
        (NumberText.SHORTEST, "10.5:2:11:3.25:10:0.0000005"),
        (NumberText.PADDED, "10.5000:2.00000000:11.0000:3.25000000:10.0000:0.00000050"),
        (NumberText.JAVASCRIPT, "10.5:2:11:3.25:10:5e-7"),
        (NumberText.DIGITS, "105000:200000000:110000:325000000:100000:50"),
    ],
)
def test_interleaved_sides_of_different_length(number_text, expected):
    checksum = InterleavedChecksum(levels=25, number_text=number_text)
    book = book_of(BIDS, ASKS)
    assert checksum.text(book) == expected
    assert checksum.of(book) == zlib.crc32(expected.encode())


def test_asks_may_be_negative():
    checksum = InterleavedChecksum(levels=1, number_text=NumberText.JAVASCRIPT, asks_negative=True)
    assert checksum.text(book_of(BIDS, ASKS)) == "10.5:2:11:-3.25"


def test_an_empty_book():
    assert InterleavedChecksum(levels=25, number_text=NumberText.SHORTEST).text(book_of([], [])) == ""
    assert SideBySideChecksum(levels=10, number_text=NumberText.DIGITS).of(book_of([], [])) == 0


def javascript(number):
    """How JavaScript writes a number above 0: shortest, with an exponent below 1e-6."""
    number = number.normalize()
    if number >= Decimal("1e-6"):
        return f"{number:f}"
    digits = "".join(map(str, number.as_tuple().digits))
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e-{-number.adjusted()}"


@given(st.integers(1, 10**17), st.integers(0, 18))
def test_every_number_is_written_as_it_should_be(mantissa, decimals):
    number = Decimal(mantissa).scaleb(-decimals)
    book = book_of([(number, 1)], [], price_decimals=decimals, qty_decimals=0)
    for number_text, expected in [
        (NumberText.SHORTEST, f"{number.normalize():f}"),
        (NumberText.PADDED, f"{number:.{decimals}f}"),
        (NumberText.JAVASCRIPT, javascript(number)),
        (NumberText.DIGITS, str(mantissa)),
    ]:
        assert InterleavedChecksum(levels=1, number_text=number_text).text(book) == f"{expected}:1"


def test_at_least_one_level():
    with pytest.raises(ValueError, match="expected at least 1 level"):
        SideBySideChecksum(levels=0, number_text=NumberText.DIGITS)
