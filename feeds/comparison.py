"""Where two replays part: `feeds diff`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from feeds.conflation import conflated
from feeds.events import (
    BookDelta,
    BookStatus,
    BookUpdate,
    Candle,
    Event,
    EventHandler,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Ticker,
    Trade,
)
from feeds.recording import RawSource, open_session
from feeds.replay import Replay

__all__ = ["Comparison", "Playing", "SeenEvent", "compare"]

SLICE = 64  # records between two looks at what came of them
PROGRESS_EVENTS = 20_000  # between two calls of `progress`
BOOK_LEVELS = 5  # of each side that are compared with every on_book
_VALUES: dict[type[Event], tuple[str, ...]] = {
    Trade: ("side", "price_decimal", "qty_decimal", "id", "is_backlog"),
    Quote: ("bid_decimal", "ask_decimal", "sequence", "merged", "ts_event_first"),
    BookDelta: ("is_snapshot", "depth", "first_id", "last_id", "previous_id", "starts_over", "window", "checksum",
                "merged", "bids", "asks"),
    Ticker: ("last_price_decimal", "mark_price_decimal", "index_price_decimal", "open_interest_decimal",
             "funding_rate_decimal", "next_funding_time", "merged", "ts_event_first"),
    Funding: ("funding_rate_decimal", "next_funding_rate_decimal", "next_funding_time"),
    OpenInterest: ("open_interest_decimal",),
    Liquidation: ("side", "price_decimal", "qty_decimal", "id"),
    Candle: ("ts_open", "interval", "open_decimal", "high_decimal", "low_decimal", "close_decimal", "volume_decimal",
             "quote_volume_decimal", "is_closed"),
    BookUpdate: ("merged", "ts_event_first"),
    BookStatus: ("old", "new", "reason"),
    FeedStatus: ("source", "status", "reason"),
}  # fmt: skip


@dataclass(frozen=True)
class Playing:
    """One side of a comparison: what is played, and how."""

    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]
    policy: str = "none"
    """One of `feeds.conflation.POLICIES`."""
    reference: bool = False
    """Decode everything with the reference engine."""


@dataclass(frozen=True)
class SeenEvent:
    """What an event was when it was delivered; a book update with the best five levels of each side."""

    kind: str
    exchange: str
    raw_symbol: str
    """Empty in the status of a connection."""
    ts_event: int
    ts_recv: int
    values: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> SeenEvent:
        """Copy everything that can be compared."""
        values = {name.removesuffix("_decimal"): getattr(event, name) for name in _VALUES[type(event)]}
        if isinstance(event, BookUpdate):
            book = event.book
            values |= {"bid_count": book.bid_count, "ask_count": book.ask_count}
            values |= {"bids": book.last_bids(BOOK_LEVELS), "asks": book.last_asks(BOOK_LEVELS)}
        if isinstance(event, FeedStatus):
            exchange, raw_symbol = event.exchange, ""
        else:
            exchange, raw_symbol = event.instrument.exchange, event.instrument.raw_symbol
        return cls(type(event).__name__, exchange, raw_symbol, event.ts_event, event.ts_recv, values)

    def __str__(self) -> str:
        whose = f"{self.kind} {self.exchange} {self.raw_symbol} ts_event={self.ts_event} ts_recv={self.ts_recv}"
        return " ".join((whose, *(f"{name}={_said(value)}" for name, value in self.values.items())))

    def differences(self, other: SeenEvent, *, ignore_ts_recv: bool = False) -> list[tuple[str, str, str]]:
        """Return (name, ours, theirs) of what differs; of levels the first that does."""
        names = ["kind", "exchange", "raw_symbol", "ts_event"] + ["ts_recv"] * (not ignore_ts_recv)
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        if self.kind == other.kind:
            pairs += [(name, value, other.values[name]) for name, value in self.values.items()]
        found = []
        for name, ours, theirs in pairs:
            if ours == theirs:
                continue
            if isinstance(ours, list) and isinstance(theirs, list):
                place = next(i for i, (a, b) in enumerate(zip_longest(ours, theirs)) if a != b)
                ours, theirs = ours[place : place + 1] or None, theirs[place : place + 1] or None
                name = f"{name}[{place}]"
            found.append((name, _said(ours), _said(theirs)))
        return found


@dataclass
class Comparison:
    """How two replays compare: equal, or where they part."""

    equal: int = 0
    """Events that were equal, from the beginning."""
    before: list[SeenEvent] = field(default_factory=list)
    """The last of them."""
    first: SeenEvent | None = None
    """What followed on each side, where that differs; None where it has no more."""
    second: SeenEvent | None = None
    damages: list[str] = field(default_factory=list)
    """What could not be read, up to there."""

    @property
    def is_equal(self) -> bool:
        """Whether both sides had the same events, to their ends."""
        return self.first is None and self.second is None


def compare(
    first: Playing,
    second: Playing,
    *,
    ignore_ts_recv: bool = False,
    context: int = 3,
    format: Literal["auto", "native", "collector", "cryptofeed", "tardis"] = "auto",
    exchange: str | None = None,
    progress: Callable[[RawSource], None] | None = None,
) -> Comparison:
    """Play both sides in step, up to the first event that differs: in kind, instrument, times or any value.

    Prices and quantities are equal by value, with however many decimals. `ignore_ts_recv` is for recordings that two
    machines made. `context` equal events before the difference are kept. The memory is that of two replays. Raises
    RecordingError, OSError.
    """
    found = Comparison()
    before: deque[SeenEvent] = deque(maxlen=context)
    options: dict[str, Any] = {"format": format, "exchange": exchange}
    ours = _play(first, found.damages, options, progress)
    theirs = _play(second, found.damages, options, None)
    try:
        for one, other in zip_longest(ours, theirs):
            if one is None or other is None or one.differences(other, ignore_ts_recv=ignore_ts_recv):
                found.first, found.second = one, other
                break
            before.append(one)
            found.equal += 1
    finally:
        ours.close()
        theirs.close()
    found.before = list(before)
    return found


def _play(
    playing: Playing, damages: list[str], options: dict[str, Any], progress: Callable[[RawSource], None] | None
) -> Generator[SeenEvent, None, None]:
    tape = _Tape()
    seen = 0
    with open_session(playing.paths, **options) as source:
        handler = conflated(tape, playing.policy)
        run = Replay(source, handler, reference=playing.reference, skip_superseded=handler is not tape)
        try:
            is_more = True
            while is_more:
                is_more = run.run(max_records=SLICE)
                if progress is not None and (seen + len(tape.seen)) // PROGRESS_EVENTS > seen // PROGRESS_EVENTS:
                    progress(source)
                seen += len(tape.seen)
                yield from tape.seen
                tape.seen.clear()
        finally:
            damages += [f"{source.path}: {damage}" for damage in source.damages]


class _Tape(EventHandler):
    """Keeps what was delivered since it was last looked at."""

    def __init__(self) -> None:
        self.seen: list[SeenEvent] = []

    def _see(self, event: Event) -> None:
        self.seen.append(SeenEvent.of(event))

    on_trade = on_quote = on_book_delta = on_book = on_ticker = on_funding = on_open_interest = _see
    on_liquidation = on_candle = on_book_status = on_feed_status = _see


def _said(value: Any) -> str:
    """Return a value for a person: numbers in full, of levels how many."""
    if isinstance(value, list) and len(value) != 1:
        return f"{len(value)} levels"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_said, value))
    return value.name if hasattr(value, "name") else format(value, "f") if hasattr(value, "as_tuple") else str(value)
