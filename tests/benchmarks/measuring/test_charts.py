from __future__ import annotations

import pytest
from measuring import charts


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (950, "950"), (1234, "1.23 k"), (45678, "45.7 k"), (456789, "457 k"), (30_300_000, "30.3 M")],
)
def test_a_value_has_three_digits(value, text):
    assert charts.short(value) == text


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(charts.importlib.util, "find_spec", lambda name: None)
    assert charts.missing() == "matplotlib is not installed: pip install --group charts"


def test_the_themes_colour_the_same_things():
    assert charts.THEMES["light"].keys() == charts.THEMES["dark"].keys()


def test_bars_on_a_log_scale_begin_at_the_power_of_ten_below_half_the_smallest():
    bars = [charts.Bar("ours", 100.0, "ours"), charts.Bar("theirs", 2000.0, "peer")]
    assert charts.lengths_of(bars, False) == [100.0, 2000.0]
    assert charts.lengths_of(bars, True) == [1.0, pytest.approx(2.30103)]  # from 10
