import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def capture_lines() -> Callable[[str], Iterator[str]]:
    """Lines of a capture by its name below the captures' folder; skips where there is none."""
    folder = PROJECT / os.environ.get("FEEDS_CAPTURES", "../shared/captures")

    def lines(name: str) -> Iterator[str]:
        path = folder / name
        if not path.exists():
            pytest.skip(f"no capture {path}: set FEEDS_CAPTURES")
        with gzip.open(path, "rt") as file:
            yield from file

    return lines
