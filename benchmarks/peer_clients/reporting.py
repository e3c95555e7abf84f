"""What a client under faults tells its harness: lines of JSON on stdout, as things happen to it.

    {"symbol": "BTCUSDT", "bids": [["1.5", "2"], ...], "asks": [...]}   a book that it gives to its user as good
    {"symbol": "BTCUSDT"}                                               it says that it has no good book
    {"told": "log", "text": "..."}                                      its user has been told something, and how

Standard library alone: each client runs in an environment of its own.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from typing import Any


def show(symbol: str, bids: Iterable[tuple[Any, Any]], asks: Iterable[tuple[Any, Any]]) -> None:
    """Report a book, best levels first."""
    sides = {"bids": bids, "asks": asks}
    _write({"symbol": symbol} | {name: [(str(p), str(q)) for p, q in side] for name, side in sides.items()})


def withdraw(symbol: str) -> None:
    _write({"symbol": symbol})


def tell(how: str, text: str) -> None:
    _write({"told": how, "text": text})


class LogReport(logging.Handler):
    """Reports what is logged from WARNING on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        tell("log", record.getMessage() + (f" ({type(error).__name__}: {error})" if error else ""))


def _write(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()
