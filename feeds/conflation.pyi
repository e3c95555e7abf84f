"""Conflation: one callback per burst with the newest state, and a receipt for what was merged."""

from typing import Final

from feeds.events import EventHandler, Stage

__all__ = ["POLICIES", "Conflator", "conflated"]

POLICIES: Final[tuple[str, ...]]

def conflated(handler: EventHandler, policy: str = "batch") -> EventHandler:
    """Return what stands before `handler` under a policy: "batch" (newest state once per socket read) or "none"."""

class Conflator(Stage):
    """Holds books, quotes and tickers back until the batch (all messages of one socket read) ends."""

    def __init__(self, downstream: EventHandler) -> None: ...
    @property
    def quotes_in(self) -> int: ...
    @property
    def quotes_out(self) -> int: ...
    @property
    def tickers_in(self) -> int: ...
    @property
    def tickers_out(self) -> int: ...
    @property
    def books_in(self) -> int:
        """Deltas and snapshots that became part of a book."""
    @property
    def books_out(self) -> int: ...
    @property
    def books_withheld(self) -> int:
        """Of `books_in`, those whose book was not LIVE any more at the batch's end."""
    @property
    def trades(self) -> int: ...
    @property
    def batches(self) -> int: ...
