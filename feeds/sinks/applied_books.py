"""Books as their readers must see them: what was applied, and the whole book where one begins."""

from __future__ import annotations

from decimal import Decimal

from feeds.book import BookState, OrderBook
from feeds.events import BookDelta, BookStatus, BookUpdate, EventHandler
from feeds.instrument import Instrument

__all__ = ["AppliedBooks"]

_APPLYING = (BookState.LIVE, BookState.CROSSED)


class AppliedBooks(EventHandler):
    """Base of sinks whose readers follow books without knowing the sequence rules of exchanges.

    `write_book(book, ts_event, ts_recv)` gets a whole book when it has become LIVE, with the messages that had been
    held back for its snapshot in it; `write_delta(event)` every message (snapshots too) that was applied afterwards.
    Messages that no book could use are left out; levels that leave a book without a word of the exchange
    (`BookDelta.window`) are removed in the message that pushed them out. It must stand behind the books, without
    conflation.
    """

    def __init__(self) -> None:
        self._books: dict[Instrument, OrderBook] = {}  # those whose deltas are written
        self._begun: dict[Instrument, BookStatus] = {}
        self._unproven: dict[Instrument, BookDelta] = {}
        self._windows: dict[Instrument, tuple[set[Decimal], set[Decimal]]] = {}  # prices of the books that have one

    def write_book(self, book: OrderBook, ts_event: int, ts_recv: int) -> None:
        """Take a whole book, by `book.exact(side)`."""
        raise NotImplementedError(f"{type(self).__name__} does not say what becomes of books")

    def write_delta(self, event: BookDelta) -> None:
        """Take a message that the book in hand has got: changes, or with `is_snapshot` all of it."""
        raise NotImplementedError(f"{type(self).__name__} does not say what becomes of deltas")

    def on_book_delta(self, event: BookDelta) -> None:
        instrument = event.instrument
        if instrument in self._begun:  # this message is not in the book yet
            self._begin(instrument)
        self._settle(instrument)
        book = self._books.get(instrument)
        if book is not None:
            self._unproven[instrument] = event
            if event.window and instrument not in self._windows:
                self._windows[instrument] = _prices(book)

    def on_book(self, event: BookUpdate) -> None:
        delta = self._unproven.pop(event.instrument, None)
        if delta is not None:
            self._pass_on(delta)

    def on_book_status(self, event: BookStatus) -> None:
        instrument = event.instrument
        if event.new not in _APPLYING:
            for of_instruments in (self._books, self._begun, self._unproven):
                of_instruments.pop(instrument, None)
        elif event.old not in _APPLYING:
            self._begun[instrument] = event

    def on_batch_end(self, ts_recv: int) -> None:
        for instrument in list(self._begun):
            self._begin(instrument)
        for instrument in list(self._unproven):
            self._settle(instrument)

    def _begin(self, instrument: Instrument) -> None:
        status = self._begun.pop(instrument)
        self._books[instrument] = status.book
        self._windows.pop(instrument, None)
        self.write_book(status.book, status.ts_event, status.ts_recv)

    def _settle(self, instrument: Instrument) -> None:
        """Write the last message if it went into a crossed book, of which no `on_book` tells."""
        delta = self._unproven.pop(instrument, None)
        if delta is not None:
            book = self._books[instrument]
            if book.state is BookState.CROSSED and (book.last_id, book.ts_recv) == (delta.last_id, delta.ts_recv):
                self._pass_on(delta)

    def _pass_on(self, delta: BookDelta) -> None:
        self.write_delta(self._whole(delta) if delta.window else delta)

    def _whole(self, event: BookDelta) -> BookDelta:
        """Return the message with the removals that the exchange leaves to its reader."""
        prices = self._windows[event.instrument]
        sides = (event.bids, event.asks)
        for side, (known, levels) in enumerate(zip(prices, sides, strict=True)):
            if event.is_snapshot:
                known.clear()
            known.difference_update(price for price, qty in levels if not qty)
            known.update(price for price, qty in levels if qty)
            if len(known) > event.window:
                beyond = sorted(known, reverse=side == 0)[event.window :]
                known.difference_update(beyond)
                levels += [(price, Decimal(0)) for price in beyond]
        return BookDelta(
            event.instrument,
            bids=sides[0],
            asks=sides[1],
            is_snapshot=event.is_snapshot,
            ts_event=event.ts_event,
            ts_recv=event.ts_recv,
        )


def _prices(book: OrderBook) -> tuple[set[Decimal], set[Decimal]]:
    return {price for price, _ in book.exact(0)}, {price for price, _ in book.exact(1)}
