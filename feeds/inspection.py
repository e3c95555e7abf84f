"""What is in a recording: `feeds inspect`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from feeds.book import BookState
from feeds.events import (
    BookDelta,
    BookStatus,
    Candle,
    EventHandler,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Ticker,
    Trade,
)
from feeds.instrument import Instrument
from feeds.recording import CollectorReader, RawSource, RecordingReader, open_recording
from feeds.recording.text_formats import CryptofeedReader, TardisReader
from feeds.replay import Replay

__all__ = ["Inspection", "when"]

SLICE = 20_000  # records between two calls of `progress`
_FORMATS = {
    RecordingReader: "native",
    CollectorReader: "collector",
    CryptofeedReader: "cryptofeed",
    TardisReader: "tardis",
}


# Kinds that are only shown where there are any.
_RARE = ("ticker", "funding", "open_interest", "liquidation", "candle")


@dataclass
class _Counts:
    """What one instrument of one exchange has."""

    book: int = 0
    snapshots: int = 0
    quote: int = 0
    trade: int = 0
    ticker: int = 0
    funding: int = 0
    open_interest: int = 0
    liquidation: int = 0
    candle: int = 0
    gaps: int = 0


class _Counter(EventHandler):
    """Counts events per instrument."""

    def __init__(self) -> None:
        self.counts: dict[Instrument, _Counts] = {}
        self.statuses: Counter[str] = Counter()

    def _of(self, instrument: Instrument) -> _Counts:
        return self.counts.setdefault(instrument, _Counts())

    def on_trade(self, event: Trade) -> None:
        self._of(event.instrument).trade += 1

    def on_quote(self, event: Quote) -> None:
        self._of(event.instrument).quote += 1

    def on_book_delta(self, event: BookDelta) -> None:
        counts = self._of(event.instrument)
        counts.book += 1
        counts.snapshots += event.is_snapshot

    def on_ticker(self, event: Ticker) -> None:
        self._of(event.instrument).ticker += 1

    def on_funding(self, event: Funding) -> None:
        self._of(event.instrument).funding += 1

    def on_open_interest(self, event: OpenInterest) -> None:
        self._of(event.instrument).open_interest += 1

    def on_liquidation(self, event: Liquidation) -> None:
        self._of(event.instrument).liquidation += 1

    def on_candle(self, event: Candle) -> None:
        self._of(event.instrument).candle += 1

    def on_book_status(self, event: BookStatus) -> None:
        self._of(event.instrument).gaps += event.new is BookState.GAP

    def on_feed_status(self, event: FeedStatus) -> None:
        self.statuses[event.status] += 1


@dataclass
class Inspection:
    """What is in one recording. Times are ns since the epoch, 0 = none."""

    path: str
    size: int
    format: str
    metadata: dict[str, Any]
    first: int = 0
    last: int = 0
    records: int = 0
    messages: int = 0
    connections: list[dict[str, Any]] = field(default_factory=list)
    channels: list[dict[str, Any]] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    damages: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        path: str,
        *,
        format: Literal["auto", "native", "collector", "cryptofeed", "tardis"] = "auto",
        exchange: str | None = None,
        progress: Callable[[RawSource], None] | None = None,
    ) -> Inspection:
        """Read the whole recording and decode it; RecordingError where it cannot be read."""
        counter = _Counter()
        with open_recording(path, format=format, exchange=exchange) as source:
            run = Replay(source, counter)
            found = cls(
                path,
                os.path.getsize(path),
                _FORMATS[type(source)],
                dict(source.metadata),
            )
            while run.ts_recv == 0 and run.run(max_records=1):
                pass
            found.first = run.ts_recv
            while run.run(max_records=SLICE):
                if progress is not None:
                    progress(source)
            found.last, found.records, found.messages = run.ts_recv, run.records, run.messages
            for pipeline in run.pipelines:
                declared = source.sources.get(pipeline.source, {})
                found.connections.append(
                    {
                        "source": pipeline.source,
                        "exchange": pipeline.exchange,
                        "url": declared.get("url", ""),
                        "messages": pipeline.messages,
                        "bursts": pipeline.batches,
                        "bytes": pipeline.payload_bytes,
                    }
                )
                for kind, problem in pipeline.problems.items():
                    found.problems[kind] = found.problems.get(kind, 0) + problem.count
            found.damages = [str(damage) for damage in source.damages]
        found.statuses = dict(counter.statuses)
        rows = {instrument: asdict(counts) for instrument, counts in counter.counts.items()}
        absent = {kind for kind in _RARE if not any(row[kind] for row in rows.values())}
        found.channels = [
            {"exchange": i.exchange, "symbol": i.symbol, "raw_symbol": i.raw_symbol}
            | {kind: count for kind, count in row.items() if kind not in absent}
            for i, row in rows.items()
        ]
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def print(self, console: Console) -> None:
        """Print everything for a person."""
        seconds = (self.last - self.first) / 1e9
        console.print(f"[bold]{self.path}[/bold]  {self.format}, {self.size:,} bytes", markup=True)
        console.print(f"  {when(self.first)} to {when(self.last)} ({seconds:,.3f} s)")
        console.print(f"  {self.records:,} records, {self.messages:,} messages received")
        console.print(_table(self.connections))
        console.print(_table(self.channels))
        for name, counts in (("status", self.statuses), ("skipped", self.problems)):
            if counts:
                console.print(f"  {name}: " + ", ".join(f"{word} {count:,}" for word, count in counts.items()))
        for damage in self.damages:
            console.print(f"  damaged: {damage}", markup=False)


def when(ts: int) -> str:
    """Return ns since the epoch as a person reads a time, in UTC."""
    if not ts:
        return "-"
    moment = datetime.fromtimestamp(ts // 1_000_000_000, timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{ts % 1_000_000_000:09d}Z"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right" if isinstance(rows[0][name], int) else "left")
    for row in rows:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v if v is not None else "-") for v in row.values()))
    return table
