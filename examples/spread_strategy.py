"""A strategy in Python, run on a recording: how wide is the spread, and how many updates did each call stand for?

python examples/spread_strategy.py session.feeds
"""

from __future__ import annotations

import sys

from feeds.events import BookUpdate, Trade
from strategies import Strategy, run_replay


class Spread(Strategy):
    """Averages the spread over book updates, and asks itself once a second of market time."""

    def __init__(self) -> None:
        self.spreads: list[float] = []
        self.updates = 0
        self.traded = 0.0
        self.seconds = 0

    def on_start(self) -> None:
        self.set_timer("second", every=1_000_000_000)

    def on_book(self, event: BookUpdate) -> None:
        self.updates += event.merged  # the receipt: how many messages this call stands for
        bid, ask = event.book.best_bid, event.book.best_ask
        if bid and ask:
            self.spreads.append(ask.price - bid.price)

    def on_trade(self, event: Trade) -> None:
        self.traded += event.qty

    def on_timer(self, name: str) -> None:
        self.seconds += 1


if __name__ == "__main__":
    strategy = Spread()
    run_replay(strategy, sys.argv[1])
    calls = len(strategy.spreads)
    print(f"{calls} book calls for {strategy.updates} updates in {strategy.seconds} timer seconds")
    print(f"average spread {sum(strategy.spreads) / max(calls, 1):.4f}, traded {strategy.traded:.4f}")
