"""What is in a recording: `feeds inspect`. docs/inspection.md describes every key."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from feeds.recording import CollectorReader, RawSource, RecordingReader, open_recording
from feeds.recording.text_formats import CryptofeedReader, TardisReader
from feeds.survey import COUNTED, Survey, SurveyedReplay

__all__ = ["Inspection", "when"]

SLICE = 20_000  # records between two calls of `progress`
SHOWN = 10  # rows of what a person need not see whole
_FORMATS = {
    RecordingReader: "native",
    CollectorReader: "collector",
    CryptofeedReader: "cryptofeed",
    TardisReader: "tardis",
}
_KINDS = tuple(name for name in COUNTED if name not in ("snapshots", "gaps", "checksum_failures"))
_RARE = (
    "ticker",
    "funding",
    "open_interest",
    "liquidation",
    "candle",
    "checksum_failures",
)  # shown where there are any


@dataclass
class Inspection:
    """What is in one recording. Times are ns since the epoch, 0 = none; durations are ns."""

    path: str
    size: int
    format: str
    metadata: dict[str, Any]
    first: int = 0
    last: int = 0
    records: int = 0
    messages: int = 0
    connections: list[dict[str, Any]] = field(default_factory=list)
    unlisted_connections: int = 0
    channels: list[dict[str, Any]] = field(default_factory=list)
    unlisted_symbols: dict[str, Any] = field(default_factory=dict)
    disconnects: dict[str, Any] = field(default_factory=dict)
    silences: dict[str, Any] = field(default_factory=dict)
    book_gaps: dict[str, Any] = field(default_factory=dict)
    clock_skew: list[dict[str, Any]] = field(default_factory=list)
    steps_back: dict[str, int] = field(default_factory=dict)
    bursts: list[dict[str, int]] = field(default_factory=list)
    batches: dict[str, Any] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    damages: list[str] = field(default_factory=list)
    damage_count: int = 0
    lost_bytes: int = 0
    survey: Survey = field(default_factory=Survey, repr=False)
    """What the plots of a page are made of; not among the JSON values."""

    @classmethod
    def of(
        cls,
        path: str,
        *,
        format: Literal["auto", "native", "collector", "cryptofeed", "tardis"] = "auto",
        exchange: str | None = None,
        silence: float = 5.0,
        progress: Callable[[RawSource], None] | None = None,
    ) -> Inspection:
        """Read the whole recording once and decode it; RecordingError where it cannot be read.

        silence -- seconds without a message of a connection from which on they are told.
        """
        survey = Survey(silence)
        with open_recording(path, format=format, exchange=exchange) as source:
            run = SurveyedReplay(source, survey)
            found = cls(path, os.path.getsize(path), _FORMATS[type(source)], dict(source.metadata), survey=survey)
            while run.run(max_records=SLICE):
                if progress is not None:
                    progress(source)
            survey.finish()
            found.records, found.messages = run.records, run.messages
            for pipeline in run.pipelines:
                for kind, problem in pipeline.problems.items():
                    found.problems[kind] = found.problems.get(kind, 0) + problem.count
            found.damages = [str(damage) for damage in source.damages]
            found.damage_count, found.lost_bytes = source.damage_count, source.lost_bytes
        found._take(survey, silence)
        return found

    def _take(self, survey: Survey, silence: float) -> None:
        self.first, self.last = survey.first, survey.last
        for tally in survey.connections:
            pipeline = tally.pipeline
            self.connections.append(
                {
                    "source": pipeline.source,
                    "exchange": pipeline.exchange,
                    "url": tally.url,
                    "messages": pipeline.messages,
                    "per_second": self._rate(pipeline.messages),
                    "bytes": pipeline.payload_bytes,
                    "bursts": pipeline.batches,
                    "largest_batch": tally.largest_batch,
                    "checksum_failures": pipeline.books.mismatched,
                    "disconnects": tally.disconnects,
                    "reasons": tally.reasons,
                }
            )
        self.unlisted_connections = survey.unlisted_connections
        for row in survey.symbols:
            instrument, counts = row.instrument, row.counts
            self.channels.append(
                {"exchange": instrument.exchange, "symbol": instrument.symbol, "raw_symbol": instrument.raw_symbol}
                | counts
                | {"per_second": {kind: self._rate(counts[kind]) for kind in _KINDS}}
                | {"first_live": row.first_live, "not_live_ns": row.not_live_ns}
            )
        self.unlisted_symbols = {"count": survey.unlisted_symbols, **survey.others.counts}
        self.disconnects = survey.disconnects.to_dict()
        self.silences = {"longer_than_ns": int(silence * 1e9), **survey.silences.to_dict()}
        self.book_gaps = survey.book_gaps.to_dict()
        for exchange, skew in survey.skews.items():
            if skew.count:
                quantiles = {"p50": skew.quantile(0.5), "p99": skew.quantile(0.99)}
                self.clock_skew.append(
                    {"exchange": exchange, "events": skew.count, "min": skew.min, **quantiles, "max": skew.max}
                )
        self.steps_back = {"count": survey.steps_back, "largest_ns": survey.largest_step_back}
        self.bursts = [
            {"window_ns": window, "messages": most, "ts_recv": ts} for window, (most, ts) in survey.bursts.items()
        ]
        self.batches = {
            "count": survey.batches,
            "largest": survey.largest_batch,
            "largest_ts_recv": survey.largest_batch_ts,
            "sizes": [
                {"least": least, "most": most, "batches": count} for (least, most), count in survey.batch_sizes.items()
            ],
        }
        self.statuses = survey.statuses

    def _rate(self, count: int) -> float:
        """Return so many as a rate per second over the recording."""
        return round(count * 1e9 / (self.last - self.first), 3) if self.last > self.first else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, in the order of docs/inspection.md."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "survey"}

    def tables(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Return what a person is shown as tables: titles, and rows of texts and numbers under the same names."""
        symbols = [
            {name: value for name, value in row.items() if name not in ("per_second", "first_live", "not_live_ns")}
            | {"events/s": round(sum(row["per_second"].values()), 1), "not live": duration(row["not_live_ns"])}
            for row in self.channels
        ]
        absent = {kind for kind in _RARE if not any(row[kind] for row in symbols)}
        symbols = [{name: value for name, value in row.items() if name not in absent} for row in symbols]
        hidden = {"reasons"} | {
            name for name in ("checksum_failures", "disconnects") if not any(row[name] for row in self.connections)
        }
        connections = [{name: v for name, v in row.items() if name not in hidden} for row in self.connections]
        tables: list[tuple[str, list[dict[str, Any]]]] = [
            ("Connections", connections),
            ("Events", symbols),
            ("Disconnects", [_timed(row) for row in self.disconnects["listed"]]),
            (
                f"Connections without a message for {duration(self.silences['longer_than_ns'])} and more",
                [_timed(row) for row in self.silences["listed"]],
            ),
            ("Books that were not in sync", [_timed(row) for row in self.book_gaps["listed"]]),
            (
                "Received after the exchange's time of the event",
                [
                    {
                        name: f"{value / 1e6:,.3f} ms" if name in ("min", "p50", "p99", "max") else value
                        for name, value in row.items()
                    }
                    for row in self.clock_skew
                ],
            ),
            (
                "Most messages at once",
                [
                    {
                        "within": duration(row["window_ns"]),
                        "messages": row["messages"],
                        "until": when(row["ts_recv"]),
                    }
                    for row in self.bursts
                ],
            ),
            (
                "Messages in a batch",
                [
                    {
                        "messages": f"{row['least']:,}"
                        + (f" to {row['most']:,}" if row["most"] > row["least"] else ""),
                        "batches": row["batches"],
                    }
                    for row in self.batches["sizes"]
                ],
            ),
        ]
        return [
            (title, [{name.replace("_", " "): value for name, value in row.items()} for row in rows])
            for title, rows in tables
        ]

    def remarks(self) -> list[str]:
        """Return what else a person is to know, in sentences."""
        remarks = []
        if self.unlisted_connections:
            remarks.append(f"{self.unlisted_connections:,} more connections are counted in the totals only")
        if self.unlisted_symbols["count"]:
            events = sum(self.unlisted_symbols[kind] for kind in _KINDS)
            remarks.append(f"{self.unlisted_symbols['count']:,} more symbols had {events:,} events")
        if self.steps_back["count"]:
            longest = duration(self.steps_back["largest_ns"])
            remarks.append(
                f"the receiver's clock went back {self.steps_back['count']:,} times, by {longest} at the most"
            )
        for name, counts in (("status", self.statuses), ("skipped", self.problems)):
            if counts:
                remarks.append(f"{name}: " + ", ".join(f"{word} {count:,}" for word, count in counts.items()))
        remarks += [f"damaged: {damage}" for damage in self.damages]
        if self.damage_count > len(self.damages):
            remarks.append(f"damaged: {self.damage_count - len(self.damages):,} more")
        return remarks

    def headline(self) -> list[str]:
        """Return the recording in three lines."""
        seconds = (self.last - self.first) / 1e9
        rate = f"{self._rate(self.messages):,.1f} a second"
        return [
            f"{self.path}  {self.format}, {self.size:,} bytes",
            f"{when(self.first)} to {when(self.last)} ({seconds:,.3f} s)",
            f"{self.records:,} records, {self.messages:,} messages received, {rate}; "
            f"{self.batches['count']:,} batches, the largest of {self.batches['largest']:,}",
        ]

    def print(self, console: Console) -> None:
        """Print everything for a person; of long lists the longest or the first."""
        first, *others = self.headline()
        console.print(first, style="bold", markup=False)
        for line in others:
            console.print(f"  {line}", markup=False)
        for title, rows in self.tables():
            if rows:
                console.print(f"\n{title}", style="bold", markup=False)
                shown = rows if title in ("Connections", "Events") else rows[:SHOWN]
                console.print(_table(shown))
                if len(rows) > len(shown):
                    console.print(f"  and {len(rows) - len(shown):,} more", markup=False)
        console.print()
        for remark in self.remarks():
            console.print(f"  {remark}", markup=False)


def when(ts: int) -> str:
    """Return ns since the epoch as a person reads a time, in UTC."""
    if not ts:
        return "-"
    moment = datetime.fromtimestamp(ts // 1_000_000_000, timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{ts % 1_000_000_000:09d}Z"


def duration(ns: int) -> str:
    """Return a duration in three digits and a unit: 1.23 ms."""
    size = abs(ns)
    for unit, factor in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)):
        if size >= factor:
            value = ns / factor
            digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
            return f"{value:,.{digits}f} {unit}"
    return f"{ns} ns"


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a moment or a period with its times in words."""
    if "ts_recv" in row:
        return {"at": when(row["ts_recv"])} | {name: value for name, value in row.items() if name != "ts_recv"}
    times = {"from": when(row["start"]), "for": duration(row["end"] - row["start"])}
    if row.get("is_open"):
        times["for"] += ", to the end"
    return times | {name: value for name, value in row.items() if name not in ("start", "end", "is_open")}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) or value is None else "right")
    for row in rows:
        table.add_row(*(shown(value) for value in row.values()))
    return table


def shown(value: Any) -> str:
    """Return a cell of a table as text."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)
