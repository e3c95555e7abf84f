"""A selection of the fault matrix: all faults at three exchanges, three faults at all. `make soak-faults` plays all."""

from __future__ import annotations

import pytest

from feeds.simulator.server import simulated_ids

from .judging import Case
from .matrix import ALL_CASES, SCENARIOS, Scenario, play

ALL_FAULTS = ("binance", "bitstamp", "okx")
EVERYWHERE = ("malformed", "disconnect", "half-open")

CELLS = [
    pytest.param(case, scenario, id=f"{case}-{scenario}")
    for case in ALL_CASES
    for scenario in SCENARIOS
    if (case.exchange in ALL_FAULTS or scenario.name in EVERYWHERE) and scenario.missing(case) is None
]


@pytest.mark.parametrize(("case", "scenario"), CELLS)
def test_a_feed_is_right_again_and_never_wrong(case: Case, scenario: Scenario) -> None:
    play(case, scenario)


def test_every_simulated_exchange_is_in_the_matrix() -> None:
    assert sorted(case.exchange for case in ALL_CASES) == simulated_ids()


def test_every_fault_is_possible_somewhere() -> None:
    for scenario in SCENARIOS:
        assert any(scenario.missing(case) is None for case in ALL_CASES), scenario.name
