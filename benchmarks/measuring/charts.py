"""Bar charts of a few figures, as SVG for a light and a dark page. Needs matplotlib: the dependency group `charts`."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Bar", "Panel", "draw", "missing"]


class Bar(NamedTuple):
    label: str
    value: float
    kind: str  # ours, peer or limit: its colour


class Panel(NamedTuple):
    """One chart; its title says what is counted. A log scale begins at the power of ten below half the smallest bar."""

    title: str
    bars: list[Bar]
    is_log: bool = False


THEMES = {
    "light": {"text": "#1f2328", "ours": "#0969da", "peer": "#afb8c1", "limit": "#dfe3e8"},
    "dark": {"text": "#e6edf3", "ours": "#4493f8", "peer": "#6e7681", "limit": "#3d444d"},
}


def missing() -> str:
    """Say why nothing can be drawn; empty if it can."""
    if importlib.util.find_spec("matplotlib") is None:
        return "matplotlib is not installed: pip install --group charts"
    return ""


def short(value: float) -> str:
    """Return a value in three digits: 1,234,567 is 1.23 M."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.{max(0, 2 - len(str(int(value / size))) + 1)}f}{unit}"
    return f"{value:.0f}"


def draw(path: Path, heading: str, panels: list[Panel], theme: str) -> None:
    """Draw the panels, two to a row, into an SVG file without a background."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    colours = THEMES[theme]
    rows = (len(panels) + 1) // 2
    most = max(len(panel.bars) for panel in panels)
    settings: dict[str, Any] = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "bars",  # the same figures make the same file
        "font.family": "sans-serif",
        "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
        "text.color": colours["text"],
    }
    with matplotlib.rc_context(settings):
        figure, grid = pyplot.subplots(rows, 2, figsize=(10, rows * (0.34 * most + 0.9)), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, panel in zip(grid.flat, panels, strict=False):
            _bars(axes, panel, colours)
            axes.set_ylim(len(panel.bars) - most - 0.5, len(panel.bars) - 0.5)  # all bars are of one height
        figure.suptitle(heading, x=0.02, ha="left", fontsize=13, fontweight="bold")
        figure.tight_layout(rect=(0, 0, 1, 0.98), w_pad=3, h_pad=2)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def lengths_of(bars: list[Bar], is_log: bool) -> list[float]:
    """Return how long each bar is drawn."""
    if not is_log:
        return [bar.value for bar in bars]
    powers = [math.log10(bar.value) for bar in bars]
    floor = math.floor(min(powers) - math.log10(2))  # so that the shortest is still a bar
    return [power - floor for power in powers]


def _bars(axes: Any, panel: Panel, colours: dict[str, str]) -> None:
    bars = list(reversed(panel.bars))  # the first on top
    lengths = lengths_of(bars, panel.is_log)
    longest = max(lengths)
    axes.barh(range(len(bars)), lengths, height=0.72, color=[colours[bar.kind] for bar in bars])
    axes.set_title(panel.title, loc="left", x=-0.42, fontsize=11)
    for at, (bar, length) in enumerate(zip(bars, lengths, strict=True)):
        weight = "bold" if bar.kind == "ours" else "normal"
        axes.text(-0.02 * longest, at, bar.label, ha="right", va="center", fontsize=10, fontweight=weight)
        axes.text(length + 0.02 * longest, at, short(bar.value), va="center", fontsize=10, fontweight=weight)
    axes.set_xlim(0, longest * 1.2)
