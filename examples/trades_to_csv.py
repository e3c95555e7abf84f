"""A sink of your own: any `EventHandler` can stand at the end of a chain. This one writes trades as CSV.

python examples/trades_to_csv.py session.feeds > trades.csv
"""

from __future__ import annotations

import csv
import sys

from feeds import session
from feeds.events import EventHandler, Trade


class CsvTrades(EventHandler):
    """Writes one line a trade, prices and quantities exactly."""

    def __init__(self) -> None:
        self._rows = csv.writer(sys.stdout)
        self._rows.writerow(["ts_event", "symbol", "side", "price", "qty"])

    def on_trade(self, event: Trade) -> None:
        symbol = event.instrument.symbol or event.instrument.raw_symbol
        self._rows.writerow([event.ts_event, symbol, event.side.name, event.price_decimal, event.qty_decimal])


if __name__ == "__main__":
    session.replay(CsvTrades(), sys.argv[1:])
