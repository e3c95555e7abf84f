"""Checks of books against what the exchange says elsewhere."""

from typing import Any, NamedTuple, TypeAlias

from feeds.events import EventHandler, Stage

__all__ = ["CheckResult", "Mismatch", "QuoteCheck"]

MAX_MISMATCHES: int

_Top: TypeAlias = tuple[tuple[int, int, int, int], tuple[int, int, int, int]]

class Mismatch(NamedTuple):
    """A book whose top is not the exchange's: ids, and (bid, ask) of both, each as
    (price mantissa, decimals, qty mantissa, decimals)."""

    instrument: Any
    book_id: int
    quote_id: int
    book: _Top
    quote: _Top

class CheckResult(NamedTuple):
    """How many book updates were compared, how many agreed, how many had no quote before them; the first mismatches."""

    compared: int
    equal: int
    without_quote: int
    mismatches: list[Mismatch]

class QuoteCheck(Stage):
    """Collects the top of every book update and every quote that pass, and compares them in `result()`."""

    def __init__(self, downstream: EventHandler) -> None: ...
    def result(self) -> CheckResult: ...
