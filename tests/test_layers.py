"""Who may import whom: picows neither of the others, feeds never strategies; pure rooms no sockets and no clocks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", re.MULTILINE)
# The rooms that know sockets, loops or clocks.
SHELLS = ("feeds/live/", "feeds/simulator/", "feeds/session.py", "feeds/cli.py", "feeds/demo.py")


def imports(path: Path) -> set[str]:
    return {a or b for a, b in IMPORT.findall(path.read_text())}


def sources(package: str) -> list[Path]:
    return [path for path in (PROJECT / package).rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".pyi")]


@pytest.mark.parametrize(("package", "foreign"), [("picows", {"feeds", "strategies"}), ("feeds", {"strategies"})])
def test_a_package_does_not_import_what_stands_above_it(package: str, foreign: set[str]) -> None:
    found = {path: {name.partition(".")[0] for name in imports(path)} & foreign for path in sources(package)}
    assert {path: names for path, names in found.items() if names} == {}
    assert len(found) > 10


def test_what_is_pure_imports_no_socket_no_loop_and_no_clock() -> None:
    impure = {"asyncio", "socket", "time", "aiohttp", "feeds.clock", "picows", "threading"}
    for path in sources("feeds"):
        name = path.relative_to(PROJECT).as_posix()
        if name.startswith((*SHELLS, "feeds/clock.", "feeds/latency.")):
            continue
        if name.startswith(("feeds/recording/writer.", "feeds/recording/ahead.")):  # whose threads change nothing
            continue
        assert not {i for i in imports(path) if i in impure or i.partition(".")[0] in impure}, name
