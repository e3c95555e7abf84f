"""The benchmarks are programs, not a package: they import each other by the folder that they are in."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
