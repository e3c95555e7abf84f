"""Help for the tests of handlers and strategies."""

from __future__ import annotations

from typing import TypeVar

from feeds.events import (
    BookDelta,
    BookStatus,
    BookUpdate,
    Candle,
    Event,
    EventHandler,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Ticker,
    Trade,
)

__all__ = ["EventLog"]

_E = TypeVar("_E", bound=Event)


class EventLog(EventHandler):
    """Keeps every event in the order in which it came, in `events`, and the times of batch ends in `batch_ends`.

    The events are those that the emitters made, not copies: events may be kept. `tops` has the best bid and ask of the
    book at each `BookUpdate`, as a book may be read only inside the call.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batch_ends: list[int] = []
        self.tops: list[tuple[tuple[float, float] | None, tuple[float, float] | None]] = []

    def of(self, kind: type[_E]) -> list[_E]:
        """Return the events of this class."""
        return [event for event in self.events if type(event) is kind]

    @property
    def trades(self) -> list[Trade]:
        return self.of(Trade)

    @property
    def quotes(self) -> list[Quote]:
        return self.of(Quote)

    @property
    def deltas(self) -> list[BookDelta]:
        return self.of(BookDelta)

    @property
    def updates(self) -> list[BookUpdate]:
        return self.of(BookUpdate)

    @property
    def book_statuses(self) -> list[BookStatus]:
        return self.of(BookStatus)

    @property
    def feed_statuses(self) -> list[FeedStatus]:
        return self.of(FeedStatus)

    def clear(self) -> None:
        """Forget what came so far."""
        self.events.clear()
        self.batch_ends.clear()
        self.tops.clear()

    def on_trade(self, event: Trade) -> None:
        self.events.append(event)

    def on_quote(self, event: Quote) -> None:
        self.events.append(event)

    def on_book_delta(self, event: BookDelta) -> None:
        self.events.append(event)

    def on_book(self, event: BookUpdate) -> None:
        self.events.append(event)
        self.tops.append((event.book.best_bid, event.book.best_ask))

    def on_book_status(self, event: BookStatus) -> None:
        self.events.append(event)

    def on_feed_status(self, event: FeedStatus) -> None:
        self.events.append(event)

    def on_ticker(self, event: Ticker) -> None:
        self.events.append(event)

    def on_funding(self, event: Funding) -> None:
        self.events.append(event)

    def on_open_interest(self, event: OpenInterest) -> None:
        self.events.append(event)

    def on_liquidation(self, event: Liquidation) -> None:
        self.events.append(event)

    def on_candle(self, event: Candle) -> None:
        self.events.append(event)

    def on_batch_end(self, ts_recv: int) -> None:
        self.batch_ends.append(ts_recv)
