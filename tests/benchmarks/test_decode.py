"""A tiny run of `benchmarks/decode.py`, and its table on figures that are made up."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import decode
import pytest
from decode import Capture, Row
from measuring import default_capture, load, write_section

OPTIONS = argparse.Namespace(rounds=1, pinned="not pinned")


@pytest.fixture
def folder() -> Path:
    folder = default_capture().parents[1]
    if not folder.is_dir():
        pytest.skip(f"no captures in {folder}: set FEEDS_CAPTURES")
    return folder


@pytest.fixture
def okx(folder: Path) -> Capture:
    (capture, *_) = (one for one in decode.find_captures(folder, ["okx"], 10_000) if one.path.name.startswith("OKX"))
    return capture


def test_every_kind_of_a_capture_has_a_figure(okx: Capture) -> None:
    assert {kind: count for kind, (count, _) in okx.counts().items()} == {
        "book": 287,
        "snapshot": 3,
        "ticker": 28,
        "trade": 74,
    }
    rows = decode.run_rounds([okx, okx], rounds=2, passes=1, python=None)
    assert [(one.exchange, one.kind, one.messages) for one in rows] == [
        ("okx", "book", 574),
        ("okx", "snapshot", 6),
        ("okx", "ticker", 56),
        ("okx", "trade", 148),
    ]
    for one in rows:
        assert one.ours.keys() == {1, 2}
        assert all(ns > 0 for ns in one.ours.values())
        assert one.cells()[-4:] == ["-"] * 4


def test_every_exchange_with_a_capture_is_found(folder: Path) -> None:
    found = {capture.exchange for capture in decode.find_captures(folder, [], 60)}
    assert len(found) == 24
    assert set(decode.PEERS) == found - {"bitmex"}


def test_the_table_goes_into_its_section_of_the_results(okx: Capture, tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text("# Decoding, by exchange\n\nold\n\n# Another\n\nkept\n")
    text = decode.report(decode.run_rounds([okx], 1, 1, None), "no --cryptofeed-python", OPTIONS)
    write_section(text, results)
    written = results.read_text()
    assert written.startswith("# Decoding, by exchange\n\nns per message, over captures of 1 exchanges;")
    assert "Not measured: cryptofeed: no --cryptofeed-python." in written
    assert "old" not in written
    assert written.endswith("# Another\n\nkept\n")


def test_cryptofeed_is_compared_over_the_captures_that_it_decodes() -> None:
    one = Row("okx", "book", messages=300, size=30_000, ours={1: 3e6, 2: 6e6, 3: 3e6}, compared=100)
    one.ours_compared, one.theirs = {1: 1e6, 2: 2e6, 3: 1e6}, {1: 5e6, 2: 8e6, 3: 6e6}
    assert one.cells() == [
        "okx", "book", "300", "100", "10,000", "10,000-20,000", "100", "60,000", "50,000-80,000", "5.0"
    ]  # fmt: skip


def test_cryptofeed_decodes_what_it_does_not_fail_at(okx: Capture, tmp_path: Path) -> None:
    """With a worker that is made up: one kind is decoded, one raises, one is not called back for."""
    found = {
        "book": {"n": 287, "ns": 5, "calls": 287, "errors": 0},
        "trade": {"n": 74, "ns": 6, "calls": 74, "errors": 1},
        "ticker": {"n": 28, "ns": 7, "calls": 13, "errors": 0},
    }
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.read()\nprint('''{json.dumps(found)}''')\n")
    python.chmod(0o755)
    assert decode.cryptofeed_of(str(python), okx, 1) == {"book": 5}


def test_what_the_worker_is_given_is_the_capture(okx: Capture) -> None:
    spec = okx.spec(passes=2)
    assert spec["class"] == "OKX"
    assert spec["symbols"]["BTC-USDT"] == "BTC-USDT"
    received = [record for record in load(okx.path) if record.kind.name == "TEXT"]
    assert [message[0].encode() for message in spec["messages"]] == [record.payload for record in received]
    assert {message[3] for message in spec["messages"]} == {"book", "snapshot", "ticker", "trade", "other"}


def test_why_there_is_no_cryptofeed_is_said() -> None:
    assert decode.missing(None) == "no --cryptofeed-python"
    assert "No such file" in decode.missing("/nonexistent/python")
    assert "cryptofeed" in decode.missing(sys.executable)


def test_an_unknown_exchange_is_refused() -> None:
    done = subprocess.run([sys.executable, decode.__file__, "--only=nosuch"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--only: expected some of binance," in done.stderr
