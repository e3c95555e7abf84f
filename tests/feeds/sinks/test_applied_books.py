"""Books as their readers must see them: the same as ours after every message."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feeds.book import BookState, OrderBook
from feeds.events import BookDelta, BookStatus, BookUpdate
from feeds.exchange import exchange
from feeds.instrument import Instrument, Instruments
from feeds.pipeline import Pipeline
from feeds.recording import open_recording
from feeds.replay import Replay
from feeds.sinks.applied_books import AppliedBooks
from tests.feeds.messages import depth, partial, snapshot
from tests.feeds.sinks.following import Levels, apply, exact


class Reader(AppliedBooks):
    """Follows books by what is written only; `compare` at the ends of batches holds it against ours."""

    def __init__(self) -> None:
        super().__init__()
        self.books: dict[Instrument, tuple[Levels, Levels]] = {}
        self.ours: dict[Instrument, OrderBook] = {}
        self.written: list[str] = []
        self.compared = 0
        self.every = 1

    def write_book(self, book: OrderBook, ts_event: int, ts_recv: int) -> None:
        self.books[book.instrument] = exact(book)
        self.written.append("book")

    def write_delta(self, event: BookDelta) -> None:
        book = self.books[event.instrument]
        if event.is_snapshot:
            book[0].clear()
            book[1].clear()
        apply(book, 0, event.bids)
        apply(book, 1, event.asks)
        self.written.append("snapshot" if event.is_snapshot else "delta")

    def on_book(self, event: BookUpdate) -> None:
        super().on_book(event)
        self.ours[event.instrument] = event.book

    def on_book_status(self, event: BookStatus) -> None:
        super().on_book_status(event)
        self.ours[event.instrument] = event.book

    def on_batch_end(self, ts_recv: int) -> None:
        super().on_batch_end(ts_recv)
        self.compared += 1
        if self.compared % self.every == 0:
            self.compare()

    def compare(self) -> None:
        for instrument, book in self.ours.items():
            if book.state in (BookState.LIVE, BookState.CROSSED):
                assert self.books[instrument] == exact(book)


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def spot(reader: Reader) -> Callable[..., None]:
    """Takes messages, each a batch unless told otherwise; bytes that begin like a snapshot are a reply."""
    times = itertools.count(2)
    pipeline = Pipeline(exchange("binance"), Instruments(infer=True), reader)
    pipeline.on_connected("", 1)

    def take(*messages: bytes, batch: bool = False) -> None:
        for number, message in enumerate(messages, 1):
            if message.startswith(b'{"lastUpdateId"'):
                pipeline.on_reply("BTCUSDT", message, next(times))
            else:
                pipeline.on_message(message, next(times), not batch or number == len(messages))

    return take


SNAPSHOT = snapshot(10, [("100", "1"), ("99", "2")], [("101", "1")])


def test_messages_that_waited_for_the_snapshot_are_in_the_book(reader: Reader, spot: Callable[..., None]) -> None:
    spot(depth(9, 9, [("50", "1")]), depth(10, 11, [("100", "5")]), depth(12, 12, [], [("101", "7")]))
    assert reader.written == []
    spot(SNAPSHOT)
    assert reader.written == ["book"]
    spot(depth(13, 13, [("99", "0")]))
    assert reader.written == ["book", "delta"]


def test_a_message_in_the_batch_of_the_snapshot_comes_after_it(reader: Reader, spot: Callable[..., None]) -> None:
    spot(
        depth(10, 11, [("100", "5")]), SNAPSHOT, depth(12, 12, [("98", "1")]), depth(13, 13, [("97", "1")]), batch=True
    )
    assert reader.written == ["book", "delta", "delta"]


def test_what_no_book_could_use_is_left_out(reader: Reader, spot: Callable[..., None]) -> None:
    spot(depth(10, 11, [("100", "5")]), SNAPSHOT, depth(11, 11, [("90", "1")]))
    assert reader.written == ["book"]
    spot(depth(14, 14, [("91", "1")]), depth(15, 15, [("92", "1")]))  # 12 and 13 are missing
    assert reader.written == ["book"]
    spot(snapshot(14, [("100", "3")], [("101", "1")]))
    assert reader.written == ["book", "book"]


def test_a_crossed_book_goes_on(reader: Reader, spot: Callable[..., None]) -> None:
    spot(depth(10, 11, [("100", "5")]), SNAPSHOT)
    spot(depth(12, 12, [("102", "1")]), depth(13, 13, [("98", "1")]), depth(13, 13, [("97", "1")]))
    assert reader.written == ["book", "delta", "delta"]
    spot(depth(14, 14, [("102", "0")]))
    assert reader.written == ["book", "delta", "delta", "delta"]


def test_each_top_n_snapshot_is_written(reader: Reader, spot: Callable[..., None]) -> None:
    spot(partial(1, [("100", "1")], [("101", "1")]), partial(2, [("99", "1")], [("101", "2")]))
    assert reader.written == ["book", "snapshot"]


def test_a_sink_says_what_becomes_of_books(spot: Callable[..., None]) -> None:
    bare = AppliedBooks()
    pipeline = Pipeline(exchange("binance"), Instruments(infer=True), bare)
    with pytest.raises(NotImplementedError, match="AppliedBooks does not say what becomes of books"):
        pipeline.on_message(partial(1, [("100", "1")], [("101", "1")]), 2, True)
    with pytest.raises(NotImplementedError, match="AppliedBooks does not say what becomes of deltas"):
        bare.write_delta(BookDelta(Instruments().add("binance", "BTCUSDT")))


@pytest.mark.parametrize(
    ("name", "every", "windowed"),
    [
        ("KRAKEN.ws.50.0.gz", 100, True),
        ("BYBIT.ws.26.0.gz", 20, False),
        ("BITMEX.ws.1.0.gz", 50, False),
        ("HUOBI.ws.44.0.gz", 50, None),
        ("BITFLYER.ws.1.0.gz", 50, False),
        ("PHEMEX.ws.1.0.gz", 50, None),
        ("BINANCE_FUTURES.ws.1.0.gz", 20, None),
    ],
)
def test_readers_of_real_traffic_have_our_books(
    name: str, every: int, windowed: bool | None, captures: Path, reader: Reader
) -> None:
    reader.every = every
    with open_recording(captures / "exchanges" / name) as source:
        run: Any = Replay(source, reader)
        run.run()
    reader.compare()
    assert reader.compared > 100
    assert reader.written.count("delta") + reader.written.count("snapshot") > 100
    if windowed is not None:
        assert bool(reader._windows) is windowed
