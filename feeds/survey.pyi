"""What `feeds inspect` counts while a recording is replayed, in constant memory."""

from typing import Any

from feeds.events import EventHandler
from feeds.instrument import Instrument
from feeds.pipeline import Pipeline
from feeds.recording.reader import RawSource
from feeds.replay import Replay

__all__ = [
    "COUNTED",
    "ConnectionTally",
    "Moments",
    "Periods",
    "Series",
    "Skew",
    "Survey",
    "SurveyedReplay",
    "SymbolTally",
]

COUNTED: tuple[str, ...]
"""What is counted of an instrument: events by kind, of those of the book `snapshots`, `gaps`, `checksum_failures`."""

class Periods:
    """Stretches of time: how many, how long together, and the longest thousand of them."""

    count: int
    total_ns: int
    def __init__(self) -> None: ...
    def add(self, start: int, end: int, **what: Any) -> None:
        """Count a period from `start` to `end`, ns since the epoch; `what` describes it."""

    @property
    def listed(self) -> list[dict[str, Any]]:
        """The longest, in the order of time."""

    def to_dict(self) -> dict[str, Any]:
        """Return {"count", "total_ns", "listed"}."""

class Moments:
    """Things that happened at a time: how many, and the first thousand of them."""

    count: int
    listed: list[dict[str, Any]]
    def __init__(self) -> None: ...
    def add(self, **what: Any) -> None:
        """Count one; `what` describes it."""

    def to_dict(self) -> dict[str, Any]:
        """Return {"count", "listed"}."""

class Series:
    """A value over time, in at most 512 slots of equal length that keep the least and the greatest."""

    def points(self) -> list[tuple[int, float, float, float, int]]:
        """Return (slot, least, mean, greatest, how many) of every slot that has values."""

class Skew:
    """How much later than `ts_event` an exchange's events were received, ns; negative where clocks disagree so far."""

    @property
    def count(self) -> int:
        """Events that were compared."""
    @property
    def min(self) -> int: ...
    @property
    def max(self) -> int: ...
    @property
    def series(self) -> Series: ...
    def quantile(self, q: float) -> int:
        """Return what a share `q` (0 to 1) of them does not exceed, within 3.2 % of its distance from the first.

        Distances of 18 minutes and more are one. ValueError where there are none.
        """

class ConnectionTally:
    """What one connection has sent."""

    def __init__(self, pipeline: Pipeline, url: str) -> None: ...
    @property
    def pipeline(self) -> Pipeline: ...
    @property
    def url(self) -> str: ...
    @property
    def largest_batch(self) -> int: ...
    @property
    def disconnects(self) -> int: ...
    @property
    def reasons(self) -> dict[str, int]:
        """Of the disconnects: text -> how often; beyond 20 texts "(others)"."""

    def end(self, reason: str) -> None:
        """It was lost."""

class SymbolTally:
    """What one instrument has had."""

    def __init__(self, instrument: Instrument | None, skew: Skew | None) -> None: ...
    @property
    def instrument(self) -> Instrument: ...
    @property
    def counts(self) -> dict[str, int]:
        """What -> how many, in the order of `COUNTED`."""
    @property
    def events(self) -> int:
        """Of all kinds."""
    @property
    def first_live(self) -> int:
        """When its book was first in sync, ns since the epoch; 0: never."""
    @property
    def not_live_ns(self) -> int:
        """How long its book was not, in periods that `Survey.book_gaps` counts."""
    @property
    def spread(self) -> Series | None:
        """Best ask less best bid, of its book; of its quotes while it has none. None beyond 200 instruments."""
    @property
    def bid_qty(self) -> Series | None:
        """Quantity at the best bid."""
    @property
    def ask_qty(self) -> Series | None:
        """Quantity at the best ask."""

class Survey(EventHandler):
    """Counts what passes. `silence`: seconds without a message of a connection that are told.

    Memory does not grow with the recording: 1,000 connections, symbols, and periods of a kind are listed, others are
    counted; 200 instruments have series.
    """

    def __init__(self, silence: float = 5.0) -> None: ...
    @property
    def first(self) -> int:
        """Receive time of the first message that has one, ns since the epoch."""
    @property
    def last(self) -> int:
        """The greatest receive time."""
    @property
    def steps_back(self) -> int:
        """Messages that were received before the one before them, by the clock."""
    @property
    def largest_step_back(self) -> int: ...
    @property
    def start(self) -> int:
        """Of slot 0 of every series; a slot is 2**`shift` ns long."""
    @property
    def shift(self) -> int: ...
    @property
    def rate(self) -> Series:
        """For each message, how many the 100 ms that end with it had."""
    @property
    def bursts(self) -> dict[int, tuple[int, int]]:
        """Window, ns -> the most messages that one had, and the receive time of the last of them."""
    @property
    def batch_sizes(self) -> dict[tuple[int, int], int]:
        """(least, most messages) -> how many batches had so many, of the sizes that there were."""
    @property
    def batches(self) -> int: ...
    @property
    def largest_batch(self) -> int: ...
    @property
    def largest_batch_ts(self) -> int: ...
    @property
    def silences(self) -> Periods:
        """Periods without a message of a connection."""
    @property
    def book_gaps(self) -> Periods:
        """Periods in which a book was GAP, STALE or CROSSED, until it was LIVE again or the recording ended."""
    @property
    def disconnects(self) -> Moments: ...
    @property
    def statuses(self) -> dict[str, int]: ...
    @property
    def connections(self) -> list[ConnectionTally]: ...
    @property
    def unlisted_connections(self) -> int: ...
    @property
    def symbols(self) -> list[SymbolTally]: ...
    @property
    def unlisted_symbols(self) -> int: ...
    @property
    def others(self) -> SymbolTally:
        """The instruments that are not listed, together."""
    @property
    def skews(self) -> dict[str, Skew]: ...
    def declare(self, number: int, pipeline: Pipeline, url: str) -> None:
        """The source `number` is this pipeline's connection from now on."""

    def finish(self) -> None:
        """The recording is at its end: what still lasts ends with it."""

class SurveyedReplay(Replay):
    """Plays `source` into `survey`, and tells it of every message."""

    def __init__(self, source: RawSource, survey: Survey, **options: Any) -> None: ...
    @property
    def survey(self) -> Survey: ...
