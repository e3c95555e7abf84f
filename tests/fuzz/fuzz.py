"""Fuzz one target with atheris for a bounded time, or say why not.

usage: python -m tests.fuzz.fuzz TARGET SECONDS [option of libFuzzer ...]

Begins with tests/fuzz/corpus/TARGET; what it finds goes to build/fuzz/TARGET, and an input that fails to
build/fuzz/TARGET-crash-*. A failing input belongs into the corpus, which the test suite replays.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parents[1] / "build" / "fuzz"


def main() -> int:
    name, seconds, *options = sys.argv[1:]
    try:
        import atheris
    except ImportError as exc:
        print(f"fuzz: NOT RUN: {exc}; atheris has no build for every Python and system")
        return 0
    with atheris.instrument_imports(include=["picows", "feeds", "tests.picows", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS

    found = WORK / name
    found.mkdir(parents=True, exist_ok=True)
    seeds = HERE / "corpus" / name
    print(f"fuzz: {name}, {seconds} seconds", flush=True)
    arguments = [sys.argv[0], f"-max_total_time={seconds}", "-max_len=600", "-verbosity=0", "-print_final_stats=1"]
    arguments += [f"-artifact_prefix={WORK}/{name}-crash-", *options, str(found), str(seeds)]
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
