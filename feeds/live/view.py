"""The live view of a terminal: what every feed and symbol is doing now, and what has happened last."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isnan
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from feeds.book import BookState, Level
from feeds.events import BookStatus
from feeds.instrument import Instrument
from feeds.live.watch import Happening, Row, Watch

if TYPE_CHECKING:
    from feeds.live.feed import LiveFeed
    from feeds.live.handler import FeedHandler

__all__ = ["Picture", "View", "draw"]

SHOWS_LATENCY_FROM = 20  # lines that a terminal has


@dataclass(frozen=True)
class FeedPicture:
    """One exchange."""

    exchange: str
    connected: int
    connections: int
    rate: float  # messages per second
    waiting: int  # snapshots
    problems: dict[str, int]  # by kind, how many messages could not be used


@dataclass(frozen=True)
class RowPicture:
    """One symbol."""

    exchange: str
    symbol: str
    bid: str = ""
    bid_qty: str = ""
    ask: str = ""
    ask_qty: str = ""
    rate: float = 0.0  # messages per second
    age: str = ""  # of the newest event
    merged: int = 0  # messages that a newer one stood for
    state: str = ""
    reason: str = ""  # of a state that is not LIVE


@dataclass(frozen=True)
class Picture:
    """What is drawn."""

    elapsed: float  # seconds
    feeds: list[FeedPicture] = field(default_factory=list)
    rows: list[RowPicture] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)  # symbols for which there is no room, by state
    latency: dict[str, dict[str, int]] = field(default_factory=dict)  # as `Latency.to_dict`
    happenings: list[tuple[str, bool]] = field(default_factory=list)  # in words, and whether it is bad; the newest last


class View:
    """Draws what its `watch` is told, `redraws` times a second.

    Values are taken in the event loop, as many as there is room for; drawing is done in a thread, and left out while
    the terminal has not taken the last picture: a slow line does not hold up the feeds. `with View() as view` has the
    screen from `follow` on, which is what `feeds.session.live` calls `on_start`, and gives it back at the end. A
    picture that cannot be drawn ends the view, which says so, and not the feeds.
    """

    def __init__(
        self, console: Console | None = None, *, redraws: float = 2.0, now: Callable[[], int] = time.time_ns
    ) -> None:
        self.watch = Watch()
        self._console = console or Console(highlight=False, emoji=False, markup=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False)
        self._interval = 1 / redraws
        self._now = now
        self._feeds: FeedHandler | None = None
        self._began = self._taken = now()
        self._counted: dict[Instrument, int] = {}  # messages, at the last picture
        self._redrawing: asyncio.Task[None] | None = None

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._redrawing is not None:
            self._redrawing.cancel()
        self._live.stop()

    def follow(self, feeds: FeedHandler) -> None:
        """Draw these feeds from now on, until the event loop ends or the view is left."""
        self._feeds = feeds
        self._began = self._taken = self._now()
        self._live.start()
        self._redrawing = asyncio.ensure_future(self._redraw())

    async def _redraw(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                width, height = self._console.size
                await loop.run_in_executor(None, self._show, self.take(height), width, height)
                await asyncio.sleep(self._interval)
        except Exception as error:
            with suppress(OSError):  # the terminal may be what has failed
                self._live.stop()
                self._console.print(f"the view has ended, the feeds go on: {type(error).__name__}: {error}")

    def _show(self, picture: Picture, width: int, height: int) -> None:
        if self._live.is_started:
            self._live.update(draw(picture, width, height), refresh=True)

    def take(self, room: int) -> Picture:
        """Return what there is to be seen now, `room` symbols and statuses at most."""
        assert self._feeds is not None
        now = self._now()
        seconds, self._taken = (now - self._taken) / 1e9, now
        feeds: list[FeedPicture] = []
        rows: list[RowPicture] = []
        more = Counter[str]()
        for exchange, feed in self._feeds.feeds.items():
            total = 0.0
            for row in self._rows(exchange, feed):
                before = self._counted.get(row.instrument, 0)
                self._counted[row.instrument] = row.messages
                rate = (row.messages - before) / seconds if seconds > 0 else 0.0
                total += rate
                if len(rows) < room:
                    rows.append(_row(row, rate, now))
                else:
                    more[_state(row)] += 1
            feeds.append(_feed(exchange, feed, total))
        latency = self._feeds.latency
        return Picture(
            elapsed=(now - self._began) / 1e9,
            feeds=feeds,
            rows=rows,
            more=more,
            latency={} if latency is None else latency.to_dict(),
            happenings=[(_in_words(one), _is_bad(one)) for one in self.watch.happenings[-room:]],
        )

    def _rows(self, exchange: str, feed: LiveFeed) -> Iterator[Row]:
        for subscription in feed.subscriptions:
            instrument = feed.instruments.known(exchange, subscription.symbol)
            if instrument is not None:
                yield self.watch.row(instrument)


# --- what is seen ---------------------------------------------------------------------------------


def _feed(exchange: str, feed: LiveFeed, rate: float) -> FeedPicture:
    problems = Counter[str]()
    for line in feed.lines:
        for kind, problem in line.pipeline.problems.items():
            problems[kind] += problem.count
    connected = sum(line.receiver.is_connected for line in feed.lines)
    return FeedPicture(exchange, connected, len(feed.lines), rate, len(feed.snapshots.pending), dict(problems))


def _row(row: Row, rate: float, now: int) -> RowPicture:
    instrument = row.instrument
    bid, ask = row.best_bid, row.best_ask
    is_live = row.state in (None, BookState.LIVE)
    return RowPicture(
        instrument.exchange,
        _printable(instrument.symbol or instrument.raw_symbol),
        bid=_price(bid, instrument),
        bid_qty=_qty(bid, instrument),
        ask=_price(ask, instrument),
        ask_qty=_qty(ask, instrument),
        rate=rate,
        age=_age(now - row.ts_recv) if row.ts_recv else "",
        merged=row.merged,
        state=_state(row),
        reason="" if is_live else _printable(row.reason),
    )


def _state(row: Row) -> str:
    """The state of the book; without one, whether there is anything at all."""
    if row.state is not None:
        return row.state.name
    return "no book" if row.ts_recv else "no data"


def _price(level: Level | None, instrument: Instrument) -> str:
    return "" if level is None else f"{level.price:.{instrument.price_decimals}f}"


def _qty(level: Level | None, instrument: Instrument) -> str:
    return "" if level is None or isnan(level.qty) else f"{level.qty:.{instrument.qty_decimals}f}"


def _age(ns: int) -> str:
    seconds = max(0, ns) / 1e9
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _in_words(happening: Happening) -> str:
    event = happening.event
    at = time.strftime("%H:%M:%S", time.gmtime(event.ts_recv // 1_000_000_000)) if event.ts_recv else "-"
    if isinstance(event, BookStatus):
        name = event.instrument.symbol or event.instrument.raw_symbol
        what = f"{event.instrument.exchange} {name}: {event.old.name} -> {event.new.name} {event.reason}"
    else:
        what = f"{event.exchange}[{event.source}]: {event.status} {event.reason}"
    return f"{at} {_printable(what).rstrip()}{f' ({happening.count} times)' if happening.count > 1 else ''}"


def _printable(text: str) -> str:
    """Reasons quote what exchanges say: nothing of it is to reach the terminal as a command."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _is_bad(happening: Happening) -> bool:
    event = happening.event
    if isinstance(event, BookStatus):
        return event.new not in (BookState.LIVE, BookState.SYNCING)
    return event.status not in ("connected", "subscribed", "unsubscribed", "resnapshot", "quiet")


# --- how it is drawn ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """A column of texts, the heading first. Those of the lowest `worth` are left out where there is no room."""

    cells: Sequence[str]
    worth: int
    is_number: bool = True

    @property
    def width(self) -> int:
        return max(map(len, self.cells))


def draw(picture: Picture, width: int, height: int) -> Group:
    """Return the picture as lines that fill a terminal of this size, at most."""
    top = [_title(picture), *(_feed_line(feed) for feed in picture.feeds[: max(1, height // 6)])]
    latency = _latency_lines(picture, width) if picture.latency and height >= SHOWS_LATENCY_FROM else []
    left = max(0, height - len(top) - len(latency) - 1)  # for symbols and statuses, without the heading
    wanted = len(picture.rows) + picture.more.total()
    below = min(len(picture.happenings), max(left // 3, left - wanted))
    rows = _row_lines(picture, width, left - below)
    below_lines = [
        Text(words, style="yellow" if is_bad else "dim")
        for words, is_bad in picture.happenings[len(picture.happenings) - below :]
    ]
    lines = [*top, *rows, *latency, *below_lines][:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)


def _title(picture: Picture) -> Text:
    minutes, seconds = divmod(int(picture.elapsed), 60)
    clock = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    symbols = len(picture.rows) + picture.more.total()
    rate = sum(feed.rate for feed in picture.feeds)
    exchanges = f"{len(picture.feeds)} exchange{'' if len(picture.feeds) == 1 else 's'}"
    return Text(f"feeds live {clock}  {exchanges}, {symbols} symbols, {rate:,.0f} messages/s", style="bold")


def _feed_line(feed: FeedPicture) -> Text:
    line = Text(f"{feed.exchange}: ")
    connected = f"{feed.connected} of {feed.connections} connected"
    line.append(connected, style="green" if feed.connected == feed.connections else "red")
    line.append(f", {feed.rate:,.0f} messages/s")
    if feed.waiting:
        line.append(f", {feed.waiting} snapshots wait")
    if feed.problems:
        problems = ", ".join(f"{count:,} {kind}" for kind, count in feed.problems.items())
        line.append(f", problems: {problems}", style="red")
    return line


def _row_lines(picture: Picture, width: int, room: int) -> list[Text]:
    """The heading, and as many symbols as there is room for: where that is not for all, the last line says so."""
    rows, more = picture.rows, picture.more.copy()
    if len(rows) + more.total() > room:
        rows = rows[: max(0, room - 1)]
        more.update(row.state for row in picture.rows[len(rows) :])
    columns = [
        _Column(["symbol", *(row.symbol for row in rows)], 9, is_number=False),
        _Column(["bid qty", *(row.bid_qty for row in rows)], 2),
        _Column(["bid", *(row.bid for row in rows)], 8),
        _Column(["ask", *(row.ask for row in rows)], 7),
        _Column(["ask qty", *(row.ask_qty for row in rows)], 1),
        _Column(["msg/s", *(f"{row.rate:,.0f}" for row in rows)], 4),
        _Column(["age", *(row.age for row in rows)], 5),
        _Column(["merged", *(f"{row.merged:,}" for row in rows)], 0),
        _Column(["book", *(row.state for row in rows)], 6, is_number=False),
    ]
    if len(picture.feeds) > 1:
        columns.insert(0, _Column(["exchange", *(row.exchange for row in rows)], 3, is_number=False))
    lines = _laid_out(columns, width)
    lines[0].stylize("bold")
    for line, row in zip(lines[1:], rows, strict=True):
        if row.reason:
            line.append(f" {row.reason}")
        if row.state not in ("LIVE", "no book"):
            line.stylize("red")
    if more:
        states = ", ".join(f"{count} {state}" for state, count in more.most_common())
        lines.append(Text(f"and {more.total()} more: {states}", style="dim"))
    return lines


def _latency_lines(picture: Picture, width: int) -> list[Text]:
    columns = [_Column(["latency, us", "p50", "p99", "max"], 9, is_number=False)]
    for worth, (stage, figures) in enumerate(reversed(picture.latency.items())):
        name = "read to callback" if stage == "to_callback" else stage.replace("_", " ")
        columns.insert(1, _Column([name, *(f"{figures[of] / 1000:,.1f}" for of in ("p50", "p99", "max"))], worth))
    return _laid_out(columns, width)


def _laid_out(columns: list[_Column], width: int) -> list[Text]:
    """Return lines of the columns that there is room for, the most worthy ones, two spaces between them."""
    while len(columns) > 1 and sum(column.width + 2 for column in columns) - 2 > width:
        least = min(columns, key=lambda column: column.worth)
        columns = [column for column in columns if column is not least]
    padded = [
        [cell.rjust(column.width) if column.is_number else cell.ljust(column.width) for cell in column.cells]
        for column in columns
    ]
    return [Text("  ".join(cells).rstrip()) for cells in zip(*padded, strict=True)]
