"""What a person sees of a feed without a strategy: status lines at once, a line per book and second."""

from __future__ import annotations

from collections.abc import Callable

from feeds.events import BookStatus, BookUpdate, EventHandler, FeedStatus, Quote, Trade
from feeds.instrument import Instrument

__all__ = ["Terminal"]


class _Row:
    """What happened to one instrument since its last line."""

    def __init__(self) -> None:
        self.update: BookUpdate | None = None
        self.quote: Quote | None = None
        self.books = self.merged = self.trades = 0


class Terminal(EventHandler):
    """Writes lines through `write` (print by default); `interval` is in seconds of receive time."""

    def __init__(self, write: Callable[[str], None] = print, interval: float = 1.0) -> None:
        self._write = write
        self._interval = int(interval * 1e9)
        self._next = 0
        self._rows: dict[Instrument, _Row] = {}

    def on_trade(self, event: Trade) -> None:
        self._row(event.instrument).trades += 1

    def on_quote(self, event: Quote) -> None:
        row = self._row(event.instrument)
        row.quote = event
        row.merged += event.merged - 1

    def on_book(self, event: BookUpdate) -> None:
        row = self._row(event.instrument)
        row.update = event
        row.books += 1
        row.merged += event.merged - 1

    def on_book_status(self, event: BookStatus) -> None:
        name = event.instrument.symbol or event.instrument.raw_symbol
        self._write(f"{name}: book {event.old.name} -> {event.new.name} ({event.reason})")

    def on_feed_status(self, event: FeedStatus) -> None:
        self._write(f"{event.exchange}[{event.source}]: {event.status} {event.reason}".rstrip())

    def on_batch_end(self, ts_recv: int) -> None:
        if ts_recv < self._next:
            return
        self._next = ts_recv + self._interval
        for instrument, row in self._rows.items():
            self._write(f"{instrument.symbol or instrument.raw_symbol:<16}{_top(row)}  {_counts(row)}")
            row.books = row.merged = row.trades = 0

    def _row(self, instrument: Instrument) -> _Row:
        row = self._rows.get(instrument)
        if row is None:
            row = self._rows[instrument] = _Row()
        return row


def _top(row: _Row) -> str:
    if row.update is not None:
        bid, ask = row.update.book.best_bid, row.update.book.best_ask
        if bid is None or ask is None:
            return f"book is {row.update.book.state.name}"
        return f"{bid.qty:>14g} @ {bid.price:<12g} | {ask.price:>12g} @ {ask.qty:<14g}"
    if row.quote is not None and row.quote.bid_price is not None and row.quote.ask_price is not None:
        quote = row.quote
        bid_qty = "" if quote.bid_qty is None else f"{quote.bid_qty:g}"
        ask_qty = "" if quote.ask_qty is None else f"{quote.ask_qty:g}"
        return f"{bid_qty:>14} @ {quote.bid_price:<12g} | {quote.ask_price:>12g} @ {ask_qty:<14}"
    return "nothing yet"


def _counts(row: _Row) -> str:
    return f"{row.books} book calls, {row.merged} updates merged, {row.trades} trades"
