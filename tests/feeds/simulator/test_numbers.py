import pytest

from feeds.simulator.markets import plausible_market
from feeds.simulator.numbers import Numbers, iso


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


def test_times_as_text() -> None:
    assert iso(1_696_613_755_440_295_999) == "2023-10-06T17:35:55.440295Z"
    assert iso(1_000_000, 3) == "1970-01-01T00:00:00.001Z"
