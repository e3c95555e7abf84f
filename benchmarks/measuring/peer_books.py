"""Order books of other Python libraries on the changes that our book gets: run by `book.py` with the peers' own Python.

    python peer_books.py CHANGES     the file that `book.py` writes: a pickle of [(bids, asks), ...]

Prints a JSON line per library: its name and versions, ns per level, and the sum of the best prices after every message,
which tells whether it kept the same book. A library that is not installed is left out.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import pickle
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

Levels = list[tuple[int, int]]


def with_sorted_dict(messages: list[tuple[Levels, Levels]]) -> int:
    from sortedcontainers import SortedDict

    bids, asks, total = SortedDict(), SortedDict(), 0
    for message in messages:
        for side, levels in zip((bids, asks), message, strict=True):
            for price, qty in levels:
                if qty:
                    side[price] = qty
                else:
                    side.pop(price, None)
        if bids:
            total += bids.peekitem(-1)[0]
        if asks:
            total += asks.peekitem(0)[0]
    return total


def with_order_book(messages: list[tuple[Levels, Levels]]) -> int:
    from order_book import OrderBook

    book, total = OrderBook(), 0
    bids, asks = book.bids, book.asks
    for message in messages:
        for side, levels in zip((bids, asks), message, strict=True):
            for price, qty in levels:
                if qty:
                    side[price] = qty
                elif price in side:
                    del side[price]
        if len(bids):
            total += bids.index(0)[0]
        if len(asks):
            total += asks.index(0)[0]
    return total


def main() -> None:
    messages: Any = pickle.loads(Path(sys.argv[1]).read_bytes())
    count = sum(len(bids) + len(asks) for bids, asks in messages)
    for module, run in (("order_book", with_order_book), ("sortedcontainers", with_sorted_dict)):
        if importlib.util.find_spec(module) is None:
            continue
        gc.collect()
        start = time.thread_time_ns()
        total = run(messages)
        elapsed = time.thread_time_ns() - start
        name = f"{module} {version(module)}, Python {platform.python_version()}"
        print(json.dumps({"name": name, "ns": elapsed / count, "total": total}))


if __name__ == "__main__":
    main()
