"""Counting instructions, where a time is too noisy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence


def collected(command: Sequence[str]) -> tuple[int, str]:
    """Run a command under callgrind; return how many instructions it took, and what it printed.

    CalledProcessError where it fails. What two lengths of a run differ by is free of what both begin with.
    """
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        sys.exit(f"callgrind: expected 'Collected : N', found {done.stderr[-500:]}")
    return int(found[1]), done.stdout
