from __future__ import annotations

import random

import pytest

from feeds.live.backoff import Backoff, BackoffConfig


def test_waits_double_up_to_the_maximum() -> None:
    backoff = Backoff(BackoffConfig(initial=0.5, maximum=5.0, factor=2.0, jitter=0.0))
    assert [backoff.next() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_success_starts_anew() -> None:
    backoff = Backoff(BackoffConfig(jitter=0.0))
    backoff.next(), backoff.next()
    backoff.reset()
    assert backoff.next() == 0.5


def test_jitter_stays_within_its_share() -> None:
    backoff = Backoff(BackoffConfig(initial=1.0, maximum=1.0, jitter=0.25), random.Random(1))
    waits = [backoff.next() for _ in range(200)]
    assert 0.75 <= min(waits) < 0.8
    assert 1.2 < max(waits) <= 1.25


def test_it_never_overflows() -> None:
    backoff = Backoff(BackoffConfig(jitter=0.0))
    backoff.attempts = 10**6
    assert backoff.next() == 30.0


@pytest.mark.parametrize(
    "options", [{"initial": 0.0}, {"initial": 2.0, "maximum": 1.0}, {"factor": 0.5}, {"jitter": 1}]
)
def test_values_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected 0 < initial"):
        BackoffConfig(**options)
