"""Run the Autobahn WebSocket test suite against our server and our client.

usage: python -m tests.conformance.run [--cases PATTERNS] [--mode server|client|both] [--out DIR]

CONFORMANCE_SUITE names the directory of the suite's `setup.sh` and `run.py` (by default ../shared/autobahn, seen from
the project), WSTEST_SUITE the one that the test tool is, or will be, installed in (by default .venv/autobahn). Exit
status 0 if every case passed, 1 if not; also 0, with a line that says so, where the suite, or the Python 2.7 it needs,
is absent.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["server", "client", "both"], default="both", help="what of ours is tested")
    parser.add_argument("--cases", default="*", help="comma-separated patterns, such as 1.*,12.1.*; all 517 by default")
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "conformance", help="where reports go")
    return parser.parse_args()


def skip(reason: str) -> int:
    print(f"conformance: NOT RUN: {reason}")
    return 0


def main() -> int:
    args = parse_args()
    suite = Path(os.environ.get("CONFORMANCE_SUITE", PROJECT / ".." / "shared" / "autobahn"))
    tool = Path(os.environ.get("WSTEST_SUITE", PROJECT / ".venv" / "autobahn"))
    if not (suite / "run.py").exists():
        return skip(f"no test suite in {suite}; set CONFORMANCE_SUITE to its directory")
    installed = subprocess.run(["bash", suite / "setup.sh", tool], capture_output=True, text=True)
    if installed.returncode:
        return skip(f"the suite needs Python 2.7 and cannot be installed here\n{installed.stdout}{installed.stderr}")

    testee = [sys.executable, "-m", "tests.conformance.testee"]
    commands = {"server": [*testee, "server", "{port}"], "client": [*testee, "client", "{url}", "{agent}"]}
    failed = 0
    for mode in commands if args.mode == "both" else [args.mode]:
        command = [sys.executable, suite / "run.py", mode, "--suite", tool, "--agent", f"picows-{mode}"]
        command += ["--cases", args.cases, "--out", args.out / mode, "--", *commands[mode]]
        print(f"conformance: our {mode}", flush=True)
        failed |= subprocess.run(command, cwd=PROJECT).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
