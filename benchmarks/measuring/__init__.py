"""What the benchmarks share: the compiled loops, a core of one's own, the tables, and where the captures are."""

from __future__ import annotations

import importlib
import os
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from feeds.recording import RawMessage, open_recording
from measuring.callgrind import collected
from measuring.results import RESULTS, machine, row, write_section

__all__ = [
    "RESULTS",
    "ROOT",
    "Figure",
    "collected",
    "default_capture",
    "load",
    "loops",
    "machine",
    "pin",
    "row",
    "short",
    "write_section",
]

ROOT = Path(__file__).resolve().parents[2]
_HERE = Path(__file__).resolve().parent
_BUILD = ROOT / "build" / "benchmarks"


def loops() -> Any:
    """Return the module `loops`, compiled anew when its source or a `.pxd` that it rests on has changed."""
    tag = f"{sys.implementation.cache_tag}-{sys.platform}"
    folder = _BUILD / tag
    built = next(folder.glob("measuring_loops.*.so"), None)
    source = _HERE / "loops.pyx"
    newest = max(path.stat().st_mtime for path in [source, *ROOT.glob("feeds/**/*.pxd")])
    if built is None or built.stat().st_mtime < newest:
        _compile(source, folder)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module("measuring_loops")


def _compile(source: Path, folder: Path) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension  # type: ignore[import-untyped]

    extensions = cythonize(  # type: ignore[no-untyped-call]
        [Extension("measuring_loops", [str(source)])],
        build_dir=str(folder),
        include_path=[str(ROOT)],
        force=True,
        quiet=True,
    )
    command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(folder)
    command.force = True
    command.ensure_finalized()
    command.run()


def pin(core: int | None) -> str:
    """Keep this process on one core, the last one it may use by default; say which, or why not."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned: this system cannot"
    core = max(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {core})
    return f"pinned to core {core}"


def default_capture() -> Path:
    """Return the capture that the published figures are of."""
    folder = Path(os.environ.get("FEEDS_CAPTURES", ROOT / "../shared/captures"))
    return folder / "binance" / "usdm-btcusdt_20240808.gz"


def load(path: Path) -> list[RawMessage]:
    """Return every message of a recording that was received, and the declarations of their sources."""
    if not path.exists():
        sys.exit(f"{path}: expected a recording; name one with --capture, or its folder in FEEDS_CAPTURES")
    with open_recording(path) as source:
        messages: list[RawMessage] = loops().collect(source)
    return messages


class Figure:
    """One figure over the rounds: median, and the range it was in."""

    def __init__(self, values: Iterable[float]) -> None:
        self.values = sorted(values)
        self.median = statistics.median(self.values)

    def __str__(self) -> str:
        return short(self.median)

    @property
    def range(self) -> str:
        return f"{short(self.values[0])}-{short(self.values[-1])}"


def short(value: float) -> str:
    """Return a figure as the tables print it: one decimal below 100, none above."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
