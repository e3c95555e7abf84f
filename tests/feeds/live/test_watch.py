"""The newest of everything."""

from __future__ import annotations

from math import isnan

import pytest

from feeds.book import BookState, Level, OrderBook
from feeds.book_builder import BookBuilder
from feeds.conflation import Conflator
from feeds.events import (
    BookDelta,
    BookStatus,
    Candle,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Ticker,
    Trade,
)
from feeds.instrument import Instrument, Instruments
from feeds.live.watch import Watch


@pytest.fixture
def instruments() -> list[Instrument]:
    known = Instruments()
    named = [("x", "A"), ("x", "B"), ("y", "A")]
    return [known.add(exchange, name, symbol=name, kind="spot", price_decimals=2) for exchange, name in named]


def quote(instrument: Instrument, **options: str | int) -> Quote:
    return Quote(instrument, **{"bid_price": "1.5", "bid_qty": "2", "ask_price": "1.75", "ask_qty": "3", **options})


def test_every_kind_is_counted_and_what_was_merged(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    watch = Watch()
    chain = BookBuilder(Conflator(watch))
    batches = [
        [Trade(a, price="1", qty="1", ts_recv=1)],
        [quote(a, ts_recv=2) for _ in range(4)],
        [BookDelta(a, is_snapshot=True, bids=[("1", "1")], ts_recv=3)],
        [BookDelta(a, bids=[("1", "1")], ts_recv=4) for _ in range(3)],
        [Ticker(a, last_price="1", ts_recv=5) for _ in range(2)],
        [Funding(a, funding_rate="1", ts_recv=6)],
        [OpenInterest(a, open_interest="1", ts_recv=7)],
        [Liquidation(a, price="1", qty="1", ts_recv=8)],
        [Candle(a, ts_open=0, interval=60, open="1", high="1", low="1", close="1", ts_recv=9)],
    ]
    counted = []
    for batch in batches:
        for event in batch:
            event.dispatch(chain)
        chain.on_batch_end(event.ts_recv)
        row = watch.row(a)
        counted.append((row.messages, row.merged, row.trades, row.ts_recv))
    assert counted == [
        (1, 0, 1, 1),
        (5, 3, 1, 2),
        (6, 3, 1, 3),
        (9, 5, 1, 4),
        (11, 6, 1, 5),
        (12, 6, 1, 6),
        (13, 6, 1, 7),
        (14, 6, 1, 8),
        (15, 6, 1, 9),
    ]
    assert [row.instrument for row in watch.rows] == [a]
    assert (watch.row(b).messages, watch.row(b).ts_recv, watch.row(b).state) == (0, 0, None)


def test_best_prices_are_those_of_the_newest_quote(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    watch = Watch()
    assert watch.row(a).best_bid is None
    quote(a).dispatch(watch)
    quote(a, bid_price="1.25", ask_price="1.5").dispatch(watch)
    quote(b, bid_price="7").dispatch(watch)
    assert (watch.row(a).best_bid, watch.row(a).best_ask) == (Level(1.25, 2.0), Level(1.5, 3.0))
    Quote(a, ask_price="2", ask_qty=None).dispatch(watch)
    assert watch.row(a).best_bid is None
    assert watch.row(a).best_ask is not None
    assert isnan(watch.row(a).best_ask.qty)


def test_quotes_from_before_a_disconnect_are_not_shown(instruments: list[Instrument]) -> None:
    a, b, other = instruments
    watch = Watch()
    for instrument in instruments:
        quote(instrument).dispatch(watch)
    FeedStatus("x", "disconnected", "gone").dispatch(watch)
    assert [row.best_bid for row in watch.rows] == [None, None, Level(1.5, 2.0)]
    quote(a).dispatch(watch)
    assert watch.row(a).best_bid == Level(1.5, 2.0)
    assert watch.row(b).best_ask is None
    assert watch.row(other).best_ask == Level(1.75, 3.0)


def test_a_book_that_is_not_live_shows_no_price_and_no_quote_instead(instruments: list[Instrument]) -> None:
    a = instruments[0]
    watch = Watch()
    books = BookBuilder(watch)
    quote(a, bid_price="1").dispatch(books)
    delta = BookDelta(a, is_snapshot=True, bids=[("5", "1")], asks=[("6", "2")], ts_recv=4)
    delta.dispatch(books)
    row = watch.row(a)
    assert (row.state, row.best_bid, row.best_ask) == (BookState.LIVE, Level(5.0, 1.0), Level(6.0, 2.0))
    FeedStatus("x", "disconnected", "gone").dispatch(books)
    assert (row.state, row.best_bid, row.best_ask) == (BookState.STALE, None, None)
    quote(a).dispatch(books)
    assert (row.state, row.best_bid, row.best_ask) == (BookState.STALE, None, None)
    assert "gone" in row.reason or "disconnected" in row.reason


def test_statuses_are_kept_once_for_each_reason_the_newest_last(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    watch = Watch(history=3)
    book = {instrument: OrderBook(instrument) for instrument in (a, b)}
    told = [
        FeedStatus("x", "connected", ts_recv=1),
        BookStatus(book[a], BookState.LIVE, BookState.GAP, "missed 3", ts_recv=2),
        BookStatus(book[b], BookState.LIVE, BookState.GAP, "missed 3", ts_recv=3),
        BookStatus(book[a], BookState.LIVE, BookState.GAP, "missed 3", ts_recv=4),
    ]
    for event in told:
        event.dispatch(watch)
    assert [(one.event, one.count) for one in watch.happenings] == [(told[0], 1), (told[2], 1), (told[3], 2)]
    more = FeedStatus("y", "dead", "no pong for 10.0 s", ts_recv=5)
    more.dispatch(watch)
    assert [(one.event, one.count) for one in watch.happenings] == [(told[2], 1), (told[3], 2), (more, 1)]


def test_a_history_has_a_length() -> None:
    with pytest.raises(ValueError, match="expected history of at least 1, found 0"):
        Watch(history=0)
