from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.times import iso_ns, ms_ns, seconds_ns, unix_ns, us_ns

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
TIMES = st.integers(1, 9_200_000_000 * 10**9)


@given(TIMES)
def test_iso_times_of_any_day(ns):
    moment = EPOCH + timedelta(seconds=ns // 10**9)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}"
    assert iso_ns(text + "Z") == ns if ns >= 10**9 else True
    assert iso_ns(text) == iso_ns(text + "+00:00") == iso_ns(text + "Z")


@pytest.mark.parametrize(
    ("text", "fraction"),
    [("", 0), (".5", 500_000_000), (".440295", 440_295_000), (".1234567", 123_456_700), (".1234567891", 123_456_789)],
)
def test_fractions_of_any_length(text, fraction):
    assert iso_ns(f"2023-10-06T17:35:55{text}Z") == 1_696_613_755_000_000_000 + fraction


def test_years_before_1970_are_unknown():
    assert iso_ns("0001-01-01T00:00:00.000000Z") == iso_ns("1970-01-01T00:00:00Z") == 0


@pytest.mark.parametrize(
    "text",
    ["", "x", "2023-10-06", "2023-10-06T17:35", "2023-13-06T17:35:55Z", "2023-10-06T17:35:55+02:00", "2023-1x-06T1",
     "9999-10-06T17:35:55Z", "2023-10-06T17:35:55.Zz", "2023-10-06T25:35:55Z"],
)  # fmt: skip
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="expected a time like"):
        iso_ns(text)


@given(TIMES)
def test_seconds_with_a_fraction_are_exact(ns):
    assert seconds_ns(f"{ns // 10**9}.{ns % 10**9:09d}") == ns


def test_numbers_and_their_texts():
    assert ms_ns(1_672_304_486_865) == ms_ns("1672304486865") == 1_672_304_486_865_000_000
    assert us_ns("1641343691310202") == 1_641_343_691_310_202_000
    assert seconds_ns("1618678142.557535") == 1_618_678_142_557_535_000
    assert seconds_ns("1618678142") == 1_618_678_142_000_000_000


@given(st.integers(1_300_000_000, 2_200_000_000))
def test_the_unit_is_told_by_the_size(seconds):
    for factor in (1, 1_000, 1_000_000, 1_000_000_000):
        assert unix_ns(seconds * factor) == seconds * 10**9


@pytest.mark.parametrize("value", [-1, "-1", "x", 2**70, "1.5"])
def test_numbers_that_are_no_time(value):
    for function in (ms_ns, us_ns, unix_ns):
        with pytest.raises(ValueError):  # noqa: PT011 - int() has words of its own
            function(value)
    with pytest.raises(ValueError, match="expected"):
        seconds_ns(f"x{value}")
