"""The page of an inspection: whole, of its own, bounded, and not to be written by what it shows."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from feeds import cli
from feeds.inspection import Inspection
from feeds.inspection_page import _Scale, page
from feeds.recording import LAST_IN_BATCH, Kind, RawMessage, RecordingWriter
from tests.feeds.test_inspection import MS, T0, S, record

EVIL = "</title><script>alert(1)</script>&\"'\x00\x1b[31m"
STREAM = '{"stream":"%s@bookTicker","data":{"u":1,"s":"%s","b":"100","B":"1","a":"%s","A":"3"}}'
VOID = {"meta"}


def quote(symbol: str, ask: str = "101") -> str:
    return STREAM % (symbol.lower(), symbol, ask)


class Balanced(HTMLParser):
    """Fails where a tag is not closed, or another than the one that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        assert tag in VOID or "svg" in self.open

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> ET.Element:
    """Return the page as a tree; what an HTML parser sees of it is well formed as well."""
    html = Balanced()
    html.feed(text)
    html.close()
    assert html.open == []
    assert "script" not in html.seen
    return ET.fromstring(text)


def inspected(path: Path, messages: list[tuple[int, str]]) -> Inspection:
    with RecordingWriter(path, max_pending_blocks=1000) as writer:
        source = writer.add_source("binance", "wss://x")
        for ts, payload in messages:
            writer.write(RawMessage(ts, source, Kind.TEXT | LAST_IN_BATCH, "", payload.encode()))
    return Inspection.of(str(path))


def titles(tree: ET.Element) -> list[str]:
    return ["".join(heading.itertext()) for heading in tree.iter() if heading.tag in ("h2", "h3", "h4")]


def test_the_page_has_the_tables_and_the_plots(tmp_path: Path) -> None:
    tree = parsed(page([Inspection.of(str(record(tmp_path / "a.feeds")))]))
    assert titles(tree) == [
        "Over time", "Messages a second", "Latency", "binance", "Spread and depth", "binance BTCUSDT",
        "binance ETHUSDT", "Connections", "Events", "Disconnects", "Connections without a message for 5.00 s and more",
        "Books that were not in sync", "Received after the exchange's time of the event", "Most messages at once",
        "Messages in a batch",
    ]  # fmt: skip
    plots = list(tree.iter("svg"))
    assert len(plots) == 2 + 2 * 2
    rate, _latency, spread, _depth, *_ = plots
    assert [mark.findtext("title") for mark in rate.iter("path") if mark.get("class") == "mark"] == [
        "2023-11-14 22:13:32.000000000Z, 0 ns: binance disconnected: reset by peer"
    ]
    shades = [shade for shade in rate.iter("rect") if shade.get("class") == "shade"]
    assert len(shades) == 3
    assert float(shades[0].get("width", "")) == pytest.approx((860 - 76 - 14) * (10 - 0.0038) / 20, abs=0.1)
    gaps = [shade.findtext("title", "") for shade in spread.iter("rect") if shade.get("class") == "shade"]
    assert ["GAP: " in gaps[0], "STALE: " in gaps[1], len(gaps)] == [True, True, 2]
    cells = ["".join(cell.itertext()) for cell in tree.iter("td")]
    assert {"wss://one.example/ws", "reset by peer", "10.000 ms", "3 to 4"} <= set(cells)


def test_the_page_asks_for_nothing_and_follows_the_reader_into_the_dark(tmp_path: Path) -> None:
    text = page([Inspection.of(str(record(tmp_path / "a.feeds")))])
    assert re.search(r"\b(src|href|action|data)=|url\(|@import|<link|<script|<img|<iframe", text) is None
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_what_a_file_brings_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "<b>&'.feeds"
    with RecordingWriter(path) as writer:
        source = writer.add_source("binance", EVIL)
        writer.write(RawMessage(T0, source, Kind.CONNECTED, "", b""))
        symbol = EVIL.replace('"', "'").replace("\x00", "").replace("\x1b", "")
        writer.write(RawMessage(T0 + 1, source, Kind.TEXT | LAST_IN_BATCH, "", quote(symbol).encode()))
        writer.write(RawMessage(T0 + 9 * S, source, Kind.DISCONNECTED, "", EVIL.encode()))
    inspection = Inspection.of(str(path))
    tree = parsed(page([inspection]))
    cells = {"".join(cell.itertext()) for cell in tree.iter("td")}
    harmless = EVIL.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")
    assert harmless in cells
    assert "".join(tree.itertext()).count("<script>alert(1)</script>") >= 2
    assert f"What is in {path}" in (tree.findtext("head/title") or "")


def test_a_spike_is_not_lost_and_the_page_is_bounded(tmp_path: Path) -> None:
    messages = [(T0 + n * 50 * MS, quote(f"S{n % 40}", "9999" if n == 7777 else "101")) for n in range(20_000)]
    text = page([inspected(tmp_path / "a.feeds", messages)])
    tree = parsed(text)
    assert len(text) < 1_500_000
    symbols = [title for title in titles(tree) if title.startswith("binance S")]
    assert len(symbols) == 12
    assert "The 12 symbols with the most events, of 40." in text
    for plot in tree.iter("svg"):
        for line in plot.iter("polyline"):
            assert len(line.get("points", "").split()) <= 512
    by_slot = inspected(tmp_path / "b.feeds", messages).survey.symbols[7777 % 40].spread
    assert by_slot is not None
    assert max(point[3] for point in by_slot.points()) == 9899


def test_the_band_of_a_plot_reaches_the_spike(tmp_path: Path) -> None:
    messages = [(T0 + n * MS, quote("S", "9999" if n == 777 else "101")) for n in range(2_000)]
    tree = parsed(page([inspected(tmp_path / "a.feeds", messages)]))
    spread = list(tree.iter("svg"))[1]
    (band,) = [polygon for polygon in spread.iter("polygon") if "band" in polygon.get("class", "")]
    heights = [float(point.split(",")[1]) for point in band.get("points", "").split()]
    assert min(heights) == 10.0  # the upper edge
    assert heights.count(10.0) == 1


def test_a_recording_without_a_span_says_so(tmp_path: Path) -> None:
    text = page([inspected(tmp_path / "a.feeds", [(T0, quote("S"))])])
    assert "There is nothing to show" in "".join(parsed(text).itertext())


def test_several_recordings_are_on_one_page(tmp_path: Path) -> None:
    paths = [record(tmp_path / "a.feeds"), record(tmp_path / "b.feeds")]
    out = tmp_path / "page.html"
    result = CliRunner().invoke(cli.commands, ["inspect", *map(str, paths), "--html", str(out)], catch_exceptions=False)
    assert result.output == f"wrote {out} ({out.stat().st_size:,} bytes)\n"
    tree = parsed(out.read_text(encoding="utf-8"))
    assert ["".join(heading.itertext()).split()[0] for heading in tree.iter("h1")] == [str(path) for path in paths]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 10], [0, 2, 4, 6, 8, 10]),
        ([95, 100], [95, 96, 97, 98, 99, 100]),
        ([1, 1e4], [1, 10, 100, 1000, 10000]),
        ([-3, 7], [-2, 0, 2, 4, 6]),
        ([], [-1, -0.5, 0, 0.5, 1]),
        ([5, 5, float("inf")], [3, 4, 5, 6, 7]),
    ],
)
def test_scales_have_round_numbers(values: list[float], ticks: list[float]) -> None:
    scale = _Scale(values)
    assert list(scale.ticks()) == pytest.approx(ticks)
    heights = [scale.y(tick) for tick in ticks]
    assert heights == sorted(heights, reverse=True)
    assert all(10 <= height <= 146 for height in heights)


def test_the_page_is_utf8_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = tmp_path / "\udcff.feeds"  # a name that is no text
    try:
        record(path)
    except OSError:  # where file systems refuse that
        path = record(tmp_path / "ü.feeds")
    parsed(io.TextIOWrapper(io.BytesIO(page([Inspection.of(str(path))]).encode()), encoding="utf-8").read())
