"""`feeds convert`: the choice of a format, and that nothing is overwritten, lost, or left half done."""

from __future__ import annotations

import builtins
import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import numpy
import orjson
import pyarrow.parquet
import pytest

from feeds import conversion, session
from feeds.conversion import convert
from feeds.errors import ConfigError
from feeds.events import BookDelta, BookStatus, EventHandler, FeedStatus, Quote, Trade
from feeds.recording import RecordingError, RecordingExists, open_recording
from feeds.sinks.parquet import Parquet
from tests.feeds.messages import depth, snapshot, trade

USDM = "binance/usdm-btcusdt_20240808.gz"


@pytest.fixture
def collected(tmp_path: Path) -> Path:
    """Two messages, a snapshot and a trade, of two instruments."""
    payloads = [
        depth(9, 11, [("100.5", "1")]),
        snapshot(10, [("100", "1")], [("101", "1")], symbol="BTCUSDT"),
        depth(12, 12, [("100.5", "0")]),
        trade("101", "0.25", symbol="ETHUSDT"),
    ]
    path = tmp_path / "collected"
    path.write_bytes(b"".join(b"%d %s\n" % (10**18 + number, payload) for number, payload in enumerate(payloads)))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


class Totals(EventHandler):
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def on_trade(self, event: Trade) -> None:
        self.counts["trades"] += 1

    def on_quote(self, event: Quote) -> None:
        self.counts["quotes"] += 1

    def on_book_delta(self, event: BookDelta) -> None:
        self.counts["book_deltas"] += (len(event.bids) + len(event.asks)) or 1

    def on_book_status(self, event: BookStatus) -> None:
        self.counts["statuses"] += 1

    def on_feed_status(self, event: FeedStatus) -> None:
        self.counts["statuses"] += 1


def test_parquet_has_every_event_of_a_capture(captures: Path, folder: Path) -> None:
    seen: list[int] = []
    done = convert(captures / USDM, folder / "usdm.parquet", progress=lambda source: seen.append(source.bytes_read))
    totals = Totals()
    session.replay(totals, captures / USDM, policy="none")
    files = {path.stem: pyarrow.parquet.read_metadata(path).num_rows for path in done.path.iterdir()}
    assert files == totals.counts
    assert files["book_deltas"] > 400_000
    assert (done.target, done.messages) == ("parquet", 93_953)
    assert done.size == sum(path.stat().st_size for path in done.path.iterdir())
    assert len(seen) == 4
    assert seen == sorted(set(seen))


def test_tardis_csv_makes_a_folder(collected: Path, folder: Path) -> None:
    done = convert(collected, folder / "csv", to="tardis-csv")
    assert {path.name for path in done.path.iterdir()} == {"incremental_book_L2.csv.gz", "trades.csv.gz"}
    with gzip.open(done.path / "incremental_book_L2.csv.gz", "rt") as file:
        assert [line.rstrip().split(",")[4:] for line in file][1:] == [
            ["true", "bid", "100.5", "1"], ["true", "bid", "100.0", "1"], ["true", "ask", "101.0", "1"],
            ["false", "bid", "100.5", "0"],
        ]  # fmt: skip
    assert done.report is not None
    assert (done.report.trades, done.messages) == (1, 3)


def test_hftbacktest_makes_a_folder_or_the_file_of_one_instrument(collected: Path, folder: Path) -> None:
    done = convert(collected, folder / "arrays", to="hftbacktest")
    assert {path.name for path in done.path.iterdir()} == {"binance.BTCUSDT.npz", "binance.ETHUSDT.npz"}
    assert any("are dated after their receipt" in remark for remark in done.remarks)

    with pytest.raises(RecordingError, match=r"btc\.npz: expected books and trades of one instrument, found 2"):
        convert(collected, folder / "btc.npz")
    lines = [line for line in collected.read_bytes().splitlines(keepends=True) if b"ETHUSDT" not in line]
    collected.write_bytes(b"".join(lines))
    done = convert(collected, folder / "btc.npz")
    assert done.target == "hftbacktest"
    assert len(numpy.load(done.path)["data"]) == 6


def test_native_is_a_recording(collected: Path, folder: Path) -> None:
    done = convert(collected, folder / "ours.feeds")
    with open_recording(done.path) as source:
        assert sum(1 for _ in source) == done.messages == 5
    assert (done.target, done.report) == ("native", None)


def test_damage_is_told(collected: Path, folder: Path) -> None:
    collected.write_bytes(collected.read_bytes() + b"nonsense\n")
    assert "malformed line" in convert(collected, folder / "ours.feeds").remarks[0]
    report = convert(collected, folder / "csv", to="tardis-csv").report
    assert report is not None
    assert len(report.damages) == 1


@pytest.mark.parametrize(
    ("name", "to", "found"),
    [("out.xlsx", None, "'.xlsx'"), ("out", None, "'neither'"), ("out.npz", "excel", "'excel'")],
)
def test_a_format_must_be_named(name: str, to: str | None, found: str, collected: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"expected a format of parquet, tardis-csv, .* found {found}"):
        convert(collected, folder / name, to=to)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("to", conversion.TARGETS)
def test_nothing_is_overwritten(to: str, collected: Path, folder: Path) -> None:
    (folder / "out").write_bytes(b"precious")
    with pytest.raises(RecordingExists, match="out: expected a new name, found that it is there already"):
        convert(collected, folder / "out", to=to)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("out", b"precious")]


def test_what_appears_meanwhile_is_not_overwritten(collected: Path, folder: Path) -> None:
    def progress(source: Any) -> None:
        raise AssertionError("so few messages make no progress")

    class Late(Parquet):
        def close(self) -> None:
            super().close()
            (folder / "out.parquet").write_bytes(b"precious")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feeds.sinks.parquet.Parquet", Late)
        with pytest.raises(RecordingExists):
            convert(collected, folder / "out.parquet", progress=progress)
    assert [path.name for path in folder.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize("to", conversion.TARGETS)
def test_what_fails_leaves_nothing_behind(to: str, captures: Path, folder: Path) -> None:
    def fail(source: Any) -> None:
        assert len(list(folder.iterdir())) == 1
        assert not (folder / "out").exists()
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        convert(captures / USDM, folder / "out", to=to, progress=fail)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("to", "package"), [("parquet", "pyarrow"), ("hftbacktest", "numpy")])
def test_software_that_is_missing_is_named(
    to: str, package: str, collected: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ConfigError, match=rf"expected {package} to be installed.* pip install 'picows-feeds\[export\]'"
    ):
        convert(collected, folder / "out", to=to)
    assert list(folder.iterdir()) == []


def test_several_files_are_merged(collected: Path, folder: Path) -> None:
    other = collected.with_name("other")
    other.write_bytes(b"%d %s\n" % (10**18 - 5, trade("99", "1", symbol="ETHUSDT")))
    done = convert([collected, other], folder / "both.parquet")
    prices = pyarrow.parquet.read_table(done.path / "trades.parquet")["price"].to_pylist()
    assert list(map(float, prices)) == [99.0, 101.0]
    metadata = pyarrow.parquet.read_metadata(done.path / "trades.parquet").metadata
    assert {i["raw_symbol"] for i in orjson.loads(metadata[b"instruments"])} == {"BTCUSDT", "ETHUSDT"}
