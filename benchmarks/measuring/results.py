"""The tables of benchmarks and the file that keeps them, a section per program."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

__all__ = ["RESULTS", "machine", "row", "write_section"]

RESULTS = Path(__file__).resolve().parents[1] / "RESULTS.md"


def row(cells: list[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    """Name what the figures were taken on, in a sentence."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        model = found[1] if found else model
    load = f"load {os.getloadavg()[0]:.1f} at the end"
    return f"{model}, {os.cpu_count()} cores, {load}, {platform.system()}, Python {platform.python_version()}."


def write_section(text: str, path: Path = RESULTS) -> None:
    """Put `text`, which begins with a line "# TITLE", in place of the section of that title, else at the end."""
    title, _, _ = text.partition("\n")
    if not title.startswith("# "):
        raise ValueError(f"expected a section to begin with '# ', found {title!r}")
    old = path.read_text() if path.exists() else ""
    sections = [section for section in re.split(r"^(?=# )", old, flags=re.MULTILINE) if section.strip()]
    names = [section.partition("\n")[0] for section in sections]
    text = text.rstrip("\n") + "\n"
    if title in names:
        sections[names.index(title)] = text
    else:
        sections.append(text)
    path.write_text("\n".join(section.rstrip("\n") + "\n" for section in sections))
