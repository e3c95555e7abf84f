"""`feeds inspect --html`: inspections as one page that needs nothing else, no network, no script, no other file."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, NamedTuple

from feeds.inspection import Inspection, duration, shown, when
from feeds.survey import Series, SymbolTally

__all__ = ["page"]

PLOTTED = 12  # symbols, those with the most events
PEAK_NS = 100_000_000  # of `Survey.rate`
BRIDGED = 4  # slots without values that a curve may pass over
ROWS = 100  # of a table
MARKS = 200  # in a plot
WIDTH, HEIGHT = 860, 170
LEFT, RIGHT, TOP, BOTTOM = 76, 14, 10, 24
TICKS = 5
LOG_RATIO = 200  # a plot whose greatest value is so many times its least is logarithmic

STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --page: #ffffff; --line: #d1d9e0; --one: #0969da;
  --other: #bc4c00; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --page: #0d1117; --line: #3d444d;
  --one: #4493f8; --other: #db6d28; --bad: #f85149; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 900px;
  margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3, h4 { line-height: 1.2; overflow-wrap: anywhere; } h2 { margin-top: 2.5rem; }
p { color: var(--soft); margin: .3rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; white-space: nowrap; }
th, td { padding: .15rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; } .text { text-align: left; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--line); fill: none; } .band { stroke: none; opacity: .25; }
.curve { fill: none; stroke-width: 1.4; stroke-linecap: round; }
.one { stroke: var(--one); } .band.one, .key.one { fill: var(--one); } .other { stroke: var(--other); }
.band.other, .key.other { fill: var(--other); } .shade { fill: var(--bad); opacity: .18; }
.mark { stroke: var(--bad); stroke-dasharray: 3 2; }
"""

Point = tuple[int, float, float, float, int]  # slot, least, mean, greatest, how many


class Curve(NamedTuple):
    """A value over time: a line of the means in a band from the least to the greatest."""

    name: str
    points: list[Point]
    holds: bool = False  # a value stays what it was until there is another, or what is shaded begins


class Stretch(NamedTuple):
    """What is marked in a plot, and what a pointer on it is told; where it ends as it begins, a line. Times in ns."""

    start: int
    end: int
    what: str


def page(inspections: list[Inspection]) -> str:
    """Return the HTML of all of them, one after the other. Well-formed XML as well; some 100 kB for each."""
    title = "What is in " + (inspections[0].path if len(inspections) == 1 else f"{len(inspections)} recordings")
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        # So that the browser, too, sees to it that the page asks for nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>",
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body>",
    ]
    for inspection in inspections:
        parts += _section(inspection)
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _section(inspection: Inspection) -> Iterator[str]:
    first, *others = inspection.headline()
    yield f"<h1>{_text(first)}</h1>"
    yield "<p>A recording of market data, as it was received. All times are UTC.</p>"
    yield from (f"<p>{_text(line)}</p>" for line in others)
    remarks = inspection.remarks()
    yield from (f"<p>{_text(remark)}</p>" for remark in remarks[:ROWS])
    if len(remarks) > ROWS:
        yield f"<p>and {len(remarks) - ROWS:,} more</p>"
    yield "<h2>Over time</h2>"
    if inspection.last > inspection.first:
        yield from _plots(inspection)
    else:
        yield "<p>There is nothing to show: no two messages have different receive times.</p>"
    for title, rows in inspection.tables():
        if rows:
            yield f"<h2>{_text(title)}</h2>"
            yield from _table(rows)


# --- plots ----------------------------------------------------------------------------------------


def _plots(inspection: Inspection) -> Iterator[str]:
    survey = inspection.survey
    time = _Time(inspection.first, inspection.last, survey.start, survey.shift)
    lost = [
        Stretch(row["ts_recv"], row["ts_recv"], f"{row['exchange']} disconnected: {row['reason']}")
        for row in inspection.disconnects["listed"]
    ]
    silent = [
        Stretch(row["start"], row["end"], f"no message of connection {row['source']} ({row['exchange']})")
        for row in inspection.silences["listed"]
    ]
    yield "<h3>Messages a second</h3>"
    yield (
        "<p>The mean of each slot of time, and the most that any 100 ms in it had, as a rate. Shaded: a connection was "
        "silent; dashed: it was lost.</p>"
    )
    means, peaks = _rates(survey.rate.points(), time)
    yield _plot(time, [Curve("mean", means), Curve("peak", peaks)], silent + lost)

    skews = [(exchange, skew) for exchange, skew in survey.skews.items() if skew.count]
    if skews:
        yield "<h3>Latency</h3>"
        yield (
            "<p>How long after the exchange's time of an event it was received, in ms: the mean, and the band from the "
            "least to the greatest. It has the difference of the two clocks in it, and may be negative for that.</p>"
        )
    for exchange, skew in skews:
        points = [(i, low / 1e6, mean / 1e6, high / 1e6, n) for i, low, mean, high, n in skew.series.points()]
        yield f"<h4>{_text(exchange)}</h4>"
        yield _plot(time, [Curve(exchange, points)], [])

    busiest = sorted((row for row in survey.symbols if row.spread is not None), key=lambda row: -row.events)
    yield from _symbol_plots(inspection, time, [row for row in busiest if _points(row.spread)])


def _rates(counted: list[Point], time: _Time) -> tuple[list[Point], list[Point]]:
    """Return messages a second, mean and peak, of every slot, also of those without messages."""
    means, peaks = [], []
    by_slot = {point[0]: point for point in counted}
    for i in range(time.slots):
        _, _, _, most, count = by_slot.get(i, (i, 0.0, 0.0, 0.0, 0))
        mean = count * 1e9 / max(time.length(i), min(time.slot_ns, PEAK_NS))  # the last slot may be next to nothing
        peak = max(mean, most * 1e9 / PEAK_NS)
        means.append((i, mean, mean, mean, count))
        peaks.append((i, peak, peak, peak, count))
    return means, peaks


def _symbol_plots(inspection: Inspection, time: _Time, rows: list[SymbolTally]) -> Iterator[str]:
    if not rows:
        return
    yield "<h3>Spread and depth</h3>"
    yield (
        "<p>The best ask less the best bid, and the quantities at the best bid and ask, in the exchange's units: the "
        "mean of each slot in the band from the least to the greatest. Shaded: the book was not in sync.</p>"
    )
    if len(rows) > PLOTTED:
        yield f"<p>The {PLOTTED} symbols with the most events, of {len(rows):,}.</p>"
    for row in rows[:PLOTTED]:
        instrument = row.instrument
        gaps = [
            Stretch(gap["start"], gap["end"], f"{gap['state']}: {gap['reason']}")
            for gap in inspection.book_gaps["listed"]
            if (gap["exchange"], gap["raw_symbol"]) == (instrument.exchange, instrument.raw_symbol)
        ]
        yield f"<h4>{_text(f'{instrument.exchange} {instrument.symbol or instrument.raw_symbol}')}</h4>"
        yield _plot(time, [Curve("spread", _points(row.spread), holds=True)], gaps)
        if _points(row.bid_qty):
            curves = [Curve("bid", _points(row.bid_qty), holds=True), Curve("ask", _points(row.ask_qty), holds=True)]
            yield _plot(time, curves, gaps)


def _points(series: Series | None) -> list[Point]:
    return series.points() if series is not None else []


class _Time:
    """The axis of time of all plots of a recording."""

    def __init__(self, first: int, last: int, start: int, shift: int) -> None:
        self.first, self.last, self.start, self.slot_ns = first, last, start, 1 << shift
        self.slots = max(1, -(-(last - start) // self.slot_ns))

    def x(self, ts: int) -> float:
        share = (min(max(ts, self.first), self.last) - self.first) / (self.last - self.first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def middle(self, slot: int) -> int:
        return self.start + slot * self.slot_ns + self.slot_ns // 2

    def x_of_slot(self, slot: int) -> float:
        return self.x(self.middle(slot))

    def length(self, slot: int) -> int:
        """Return how much of a slot is in the recording, whose end is in the last one; ns."""
        return max(1, min(self.slot_ns, self.last - self.start - slot * self.slot_ns))

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield places and words; as many words as it takes to tell them apart."""
        span = self.last - self.first
        for n in range(TICKS):
            ts = self.first + span * n // (TICKS - 1)
            words = when(ts)
            with_day = span > 86_400_000_000_000
            fraction = 0 if span > 60_000_000_000 else 4 if span > 100_000_000 else 10
            yield self.x(ts), words[5 if with_day else 11 : 19 + fraction]


class _Scale:
    """The axis of values of one plot: linear, or logarithmic where the values need it."""

    def __init__(self, values: Iterable[float]) -> None:
        found = [value for value in values if math.isfinite(value)] or [0.0]
        self.low, self.high = min(found), max(found)
        self.is_log = self.low > 0 and self.high / self.low > LOG_RATIO
        if self.is_log:
            self.low, self.high = math.log10(self.low), math.log10(self.high)
        elif 0 <= self.low < self.high / 2:
            self.low = 0.0
        if self.high - self.low <= abs(self.high) * 1e-9:  # a straight line, in the middle
            margin = abs(self.high) / 2 or 1.0
            self.low, self.high = self.low - margin, self.high + margin

    def y(self, value: float) -> float:
        if self.is_log:
            value = math.log10(value) if value > 0 else self.low
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def ticks(self) -> Iterator[float]:
        if self.is_log:
            powers = range(math.ceil(self.low), math.floor(self.high) + 1)
            yield from (10.0**power for power in powers[:: max(1, len(powers) // TICKS)])
            return
        raw = (self.high - self.low) / TICKS
        unit = 10 ** math.floor(math.log10(raw))
        step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= raw)
        n = math.ceil(self.low / step)
        while n * step <= self.high:
            yield n * step
            n += 1


def _plot(time: _Time, curves: list[Curve], stretches: list[Stretch]) -> str:
    """Return a plot as SVG."""
    scale = _Scale(value for curve in curves for point in curve.points for value in (point[1], point[3]))
    names = " and ".join(curve.name for curve in curves)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_text(names)}">']
    bottom = HEIGHT - BOTTOM
    for value in scale.ticks():
        y = scale.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for n, (x, words) in enumerate(time.ticks()):
        anchor = "start" if n == 0 else "end" if n == TICKS - 1 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{_text(words)}</text>')
    for stretch in stretches[:MARKS]:
        x, to = time.x(stretch.start), time.x(stretch.end)
        told = (
            f"<title>{_text(f'{when(stretch.start)}, {duration(stretch.end - stretch.start)}: {stretch.what}')}</title>"
        )
        if stretch.end > stretch.start:
            width = max(1.0, to - x)
            parts.append(
                f'<rect class="shade" x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{bottom - TOP}">{told}</rect>'
            )
        else:
            parts.append(f'<path class="mark" d="M{x:.1f} {TOP}V{bottom}">{told}</path>')
    for curve, colour in zip(curves, ("one", "other"), strict=False):
        for run in _runs(curve, time, stretches):
            upper = " ".join(f"{time.x_of_slot(i):.1f},{scale.y(high):.1f}" for i, _, _, high, _ in run)
            lower = " ".join(f"{time.x_of_slot(i):.1f},{scale.y(low):.1f}" for i, low, _, _, _ in reversed(run))
            means = " ".join(f"{time.x_of_slot(i):.1f},{scale.y(mean):.1f}" for i, _, mean, _, _ in run)
            if curve.holds:
                means += (
                    f" {time.x(_until(time.middle(run[-1][0]), stretches, time.last)):.1f},{scale.y(run[-1][2]):.1f}"
                )
            elif len(run) == 1:  # which round ends make a dot
                means += " " + means
            if any(low != high for _, low, _, high, _ in run):
                parts.append(f'<polygon class="band {colour}" points="{upper} {lower}"/>')
            parts.append(f'<polyline class="curve {colour}" points="{means}"/>')
    parts.append(f'<path class="grid" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>')
    if len(curves) > 1:
        for n, (curve, colour) in enumerate(zip(curves, ("one", "other"), strict=False)):
            x = WIDTH - RIGHT - 70 * (len(curves) - n)
            parts.append(f'<rect class="key {colour}" x="{x}" y="{TOP}" width="10" height="3"/>')
            parts.append(f'<text x="{x + 14}" y="{TOP + 6}">{_text(curve.name)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _runs(curve: Curve, time: _Time, stretches: list[Stretch]) -> Iterator[list[Point]]:
    """Yield what can be drawn in one go."""
    starts = sorted(stretch.start for stretch in stretches)
    run: list[Point] = []
    for point in curve.points:
        if run:
            before, now = time.middle(run[-1][0]), time.middle(point[0])
            if bisect(starts, before) < bisect(starts, now) if curve.holds else point[0] - run[-1][0] > BRIDGED + 1:
                yield run
                run = []
        run.append(point)
    if run:
        yield run


def _until(ts: int, stretches: list[Stretch], end: int) -> int:
    """Return when the first of the stretches begins after `ts`, `end` where none does."""
    return min((stretch.start for stretch in stretches if stretch.start > ts), default=end)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


# --- tables and text ------------------------------------------------------------------------------


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    kinds = [' class="text"' if isinstance(value, str) or value is None else "" for value in rows[0].values()]
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f"<th{kind}>{_text(name)}</th>" for name, kind in zip(rows[0], kinds, strict=True))
    yield "</tr></thead><tbody>"
    for row in rows[:ROWS]:
        cells = zip(row.values(), kinds, strict=True)
        yield "<tr>" + "".join(f"<td{kind}>{_text(shown(value))}</td>" for value, kind in cells) + "</tr>"
    yield "</tbody></table></div>"
    if len(rows) > ROWS:
        yield f"<p>and {len(rows) - ROWS:,} more</p>"


def _text(text: str) -> str:
    """Return a text, which a file may have brought, as it can stand in a page."""
    return escape("".join(letter if letter.isprintable() else "\ufffd" for letter in text))
