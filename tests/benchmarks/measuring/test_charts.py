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
