from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.simulator.markets import plausible_market
from feeds.simulator.numbers import Numbers, decimal, iso, shortest


@pytest.mark.parametrize(
    ("decimals", "shown", "ticks", "text"),
    [(2, 8, 6183763, "61837.63000000"), (2, None, 5, "0.05"), (0, None, 813, "813"), (0, 8, 7, "7.00000000")],
)
def test_numbers_have_the_decimals_of_the_exchange(decimals: int, shown: int | None, ticks: int, text: str) -> None:
    market = plausible_market("XUSDT", precision=(decimals, 1, decimals, 1))
    numbers = Numbers(market, shown, shown)
    assert numbers.price(ticks) == text
    assert numbers.qty(ticks) == text


def test_numbers_that_are_as_short_as_they_can_be() -> None:
    numbers = Numbers(plausible_market("XUSDT", precision=(2, 10, 3, 1)), is_short=True)
    assert [numbers.price(ticks) for ticks in (1, 10, 105)] == ["0.1", "1", "10.5"]
    assert [numbers.qty(lots) for lots in (0, 1, 1000, 1230)] == ["0", "0.001", "1", "1.23"]


@given(mantissa=st.integers(-(2**63), 2**63 - 1), decimals=st.integers(0, 20), more=st.integers(0, 20))
def test_a_decimal_has_all_digits_of_its_number(mantissa: int, decimals: int, more: int) -> None:
    text = decimal(mantissa, decimals, decimals + more)
    assert text == f"{Decimal(mantissa).scaleb(-decimals):.{decimals + more}f}"
    market = plausible_market("XUSDT", precision=(decimals, 1, decimals, 1))
    assert Numbers(market, decimals + more, is_short=True).price(mantissa) == shortest(text)


def test_numbers_that_have_no_room_are_refused() -> None:
    with pytest.raises(OverflowError, match=f"found {2**62} times 10"):
        Numbers(plausible_market("XUSDT", precision=(2, 10, 3, 1))).price(2**62)
    with pytest.raises(ValueError, match="at most 40, found 2 and 41"):
        decimal(1, 2, 41)
    with pytest.raises(ValueError, match="found 2 and 1"):
        Numbers(plausible_market("XUSDT", precision=(2, 10, 3, 1)), shown_price=1)


class _Dollars(Numbers):
    def price(self, ticks: int) -> str:
        return f"${super().price(ticks)}"


def test_levels_are_written_as_their_numbers_are() -> None:
    market = plausible_market("XUSDT", precision=(2, 10, 3, 1))
    levels = [(105, 1), (104, 20)]
    assert Numbers(market).levels(levels) == '["10.50","0.001"],["10.40","0.020"]'
    assert Numbers(market).levels([]) == ""
    assert Numbers(market).levels(levels, "<", ":", ">", "\u2192") == "<10.50:0.001>\u2192<10.40:0.020>"
    assert _Dollars(market).levels(levels) == '["$10.50","0.001"],["$10.40","0.020"]'
    assert _Dollars(market).levels(levels, "", ":", "", ":") == "$10.50:0.001:$10.40:0.020"


def test_times_as_text() -> None:
    assert iso(1_696_613_755_440_295_999) == "2023-10-06T17:35:55.440295Z"
    assert iso(1_000_000, 3) == "1970-01-01T00:00:00.001Z"
