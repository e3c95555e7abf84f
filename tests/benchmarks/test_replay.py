"""A tiny run of `benchmarks/replay.py`, and its table on figures that are made up."""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import replay
from replay import FILES, FORMATS, Program, make_files, measure, run_rounds, table

from feeds.recording import Kind, TardisReader, open_recording

DEPTH = (
    '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":%d,"u":%d,"b":[["99.5","1"]],'
    '"a":[]}}'
)
LINES = [
    DEPTH % (9, 12),
    '{"lastUpdateId":10,"bids":[["100.00","2"]],"asks":[["100.20","3.00"],["100.30","1"]]}',
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":5,"s":"BTCUSDT","t":7,"p":"100.20","q":"0.25","T":4,"m":false,"M":true}}',
    DEPTH % (13, 14),
]
TOP = [2, 2, 100.0, 100.2]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "capture.gz"
    path.write_bytes(gzip.compress("".join(f"{10**18 + n} {line}\n" for n, line in enumerate(LINES)).encode()))
    return path


def test_the_files_hold_the_same_messages(capture: Path, tmp_path: Path) -> None:
    assert make_files(capture, tmp_path) == "binance"
    found = []
    for file in FILES.values():
        with open_recording(tmp_path / file, exchange="binance") as source:
            found.append([(m.kind, m.tag, m.payload) for m in source if m.kind in (Kind.TEXT, Kind.REPLY)])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 4
    with open_recording(tmp_path / FILES["tardis"], exchange="binance") as source:
        assert isinstance(source, TardisReader)
        assert source.damages == []


@pytest.mark.parametrize("strategy", ["Cython", "Python"])
@pytest.mark.parametrize("file", FILES.values())
def test_every_file_is_played_to_the_same_book(file: str, strategy: str, capture: Path, tmp_path: Path) -> None:
    make_files(capture, tmp_path)
    record = measure(tmp_path / file, "binance", strategy, passes=3)
    assert (record["n"], record["top"]) == (3, TOP)
    assert record["wall"] > 0 < record["cpu"]


def test_peers_that_are_absent_are_said_so(capture: Path) -> None:
    command = [sys.executable, replay.__file__, f"--capture={capture}", "--rounds=1", "--passes=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# From a file to the strategy\n\nThe 3 messages of `capture.gz`")
    assert done.stdout.count("| ours, to the ") == 6
    for line in ("tardis-dev: no --tardis-dev", "cryptofeed: no --cryptofeed-python", "no --hftbacktest-python"):
        assert line in done.stdout
    assert "The final books of the 6 programs that have one have the same levels and best prices." in done.stdout


def test_a_peer_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    options = argparse.Namespace(
        passes=1, tardis_dev=tmp_path, cryptofeed_python=sys.executable, hftbacktest_python=str(tmp_path / "none")
    )
    programs, absent = replay.find_programs(options, tmp_path, "binance")
    assert len(programs) == 6
    assert absent["cryptofeed"] == "ModuleNotFoundError: No module named 'cryptofeed'"
    assert "No such file" in absent["hftbacktest, conversion"]


def test_books_that_differ_end_the_run() -> None:
    record = {"n": 1, "wall": 1, "cpu": 1}
    programs = [
        Program("one", "native", lambda: record | {"top": [1, 1, 2.0, 3.0]}),
        Program("other", "native", lambda: record | {"top": [1, 1, 2.0, 4.0]}),
        Program("third", "native", lambda: record | {"top": None}),
    ]
    assert len(run_rounds([programs[0], programs[2]], 2)) == 4
    with pytest.raises(SystemExit, match="expected one final book"):
        run_rounds(programs, 1)


def test_the_table_has_medians_and_ratios_inside_a_round() -> None:
    programs = [Program(title, "tardis", dict) for title in ("ours", "tardis-dev")]
    records = [
        {
            "title": title,
            "input": "tardis",
            "round": number,
            "n": 1000,
            "wall": wall * number,
            "cpu": cpu * number,
            "top": None,
        }
        for number in (1, 2, 3)
        for title, wall, cpu in (("ours", 500_000, 600_000), ("tardis-dev", 4_000_000, 6_000_000))
    ]
    *_, ours, peer = table(records, programs)
    assert ours == f"| ours | {FORMATS['tardis']} | 1,000,000 | 666,667-2,000,000 | 1,200 | 600-1,800 | 10.0 |"
    assert peer.endswith("| 12,000 | 6,000-18,000 | 1.0 |")
    *_, alone = table(records, programs[:1])
    assert alone.endswith("| - |")
