"""A tiny run of `benchmarks/garbage.py`."""

from __future__ import annotations

import argparse

import garbage
import pytest
from measuring import default_capture, load, loops

from feeds.recording import RawMessage


@pytest.fixture(scope="module")
def messages() -> list[RawMessage]:
    if not default_capture().exists():
        pytest.skip(f"no capture {default_capture()}: set FEEDS_CAPTURES")
    return load(default_capture())[:5000]


def test_every_chain_has_a_row_and_grows_by_nothing(messages: list[RawMessage]) -> None:
    runs = [garbage.run(title, messages, 10_000, 3) for title in garbage.CHAINS]
    for one in runs:
        assert one.messages >= 10_000
        assert one.laps == 3
        assert max(one.growth[:2]) <= 32
        assert one.growth.collections == 0
    text = garbage.report(runs, argparse.Namespace(capture=default_capture(), batch=3))
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| policy")] == [
        f"| {title}" for title in garbage.CHAINS
    ]


def test_growth_is_seen(messages: list[RawMessage], monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[object] = []
    play = loops().play
    monkeypatch.setattr(
        garbage.loops(), "play", lambda *arguments: kept.extend(map(str, range(500))) or play(*arguments)
    )
    assert garbage.run("policy batch", messages, 10_000, 3).growth.blocks >= 1000
