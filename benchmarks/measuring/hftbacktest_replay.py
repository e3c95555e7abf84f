"""hftbacktest's converter over a collector file; runs with a Python that has it, and none of ours.

usage: hftbacktest_replay.py EXCHANGE FILE PASSES; one JSON object on stdout, as replay.py writes it of ours.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import statistics
import sys
import time

CONVERTERS = {"binance": "binancespot", "binance-futures": "binancefutures"}
ROOM = 2_000_000  # rows of the array


def main():
    exchange, path, passes = sys.argv[1:]
    converter = importlib.import_module(f"hftbacktest.data.utils.{CONVERTERS[exchange]}")
    with gzip.open(path) as lines:
        n = sum(b'"lastUpdateId"' not in line[:60] for line in lines)

    def convert():
        with contextlib.redirect_stdout(io.StringIO()):
            converter.convert(path, None, "", 0, True, ROOM)

    convert()  # numba compiles
    wall, cpu = [], []
    for _ in range(int(passes)):
        began, used = time.perf_counter_ns(), time.process_time_ns()
        convert()
        wall.append(time.perf_counter_ns() - began)
        cpu.append(time.process_time_ns() - used)
    print(json.dumps({"n": n, "wall": statistics.median(wall), "cpu": statistics.median(cpu), "top": None}))


if __name__ == "__main__":
    main()
