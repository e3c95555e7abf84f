"""The book-imbalance strategy in Python: where the book leans, the price tends to go.

The same strategy stands in `imbalance_cython.pyx` as a C-level class; a test shows that both see the same calls and
come to the same decisions.
"""

from __future__ import annotations

from feeds.book import Level
from feeds.events import BookStatus, BookUpdate, Side, Trade
from feeds.instrument import Instrument
from strategies.strategy import Strategy

__all__ = ["BookImbalance"]


def _qty(levels: list[Level]) -> float:
    """Add up as the C-level strategy does, from the best level on: `sum` compensates since Python 3.12."""
    total = 0.0
    for level in levels:
        total += level.qty
    return total


class BookImbalance(Strategy):
    """Counts a signal whenever the imbalance of the best `levels` levels crosses `threshold`.

    The imbalance is (bid qty - ask qty) / (bid qty + ask qty), from -1 to 1. `positions` ends as what the signals said:
    1 long, -1 short, 0 none yet; `signals` counts the changes; `traded` sums the quantity of the trades seen, buys
    positive, sells negative.
    """

    def __init__(self, levels: int = 5, threshold: float = 0.6) -> None:
        self.levels = levels
        self.threshold = threshold
        self.positions: dict[Instrument, int] = {}
        self.signals = 0
        self.updates = 0
        self.merged = 0
        self.traded = 0.0

    def on_book(self, event: BookUpdate) -> None:
        self.updates += 1
        self.merged += event.merged
        bid_qty = _qty(event.book.bids(self.levels))
        ask_qty = _qty(event.book.asks(self.levels))
        total = bid_qty + ask_qty
        imbalance = (bid_qty - ask_qty) / total if total else 0.0
        if imbalance > self.threshold:
            self._signal(event.instrument, 1)
        elif imbalance < -self.threshold:
            self._signal(event.instrument, -1)

    def on_trade(self, event: Trade) -> None:
        self.traded += event.qty if event.side is Side.BUY else -event.qty

    def on_book_status(self, event: BookStatus) -> None:
        self.positions[event.instrument] = 0  # no opinion on a book that was not right

    def _signal(self, instrument: Instrument, position: int) -> None:
        if self.positions[instrument] != position:
            self.positions[instrument] = position
            self.signals += 1
