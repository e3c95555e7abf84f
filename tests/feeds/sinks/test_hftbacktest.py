"""hftbacktest's arrays: its layout, its order of events, and the books and trades that come out."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.events import Fanout, Side, Trade
from feeds.recording import open_recording
from feeds.replay import Replay
from feeds.sinks.hftbacktest import Hftbacktest
from feeds.testing import EventLog
from tests.feeds.sinks.following import Levels, an_instrument, apply, exact

DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4
EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28


def load(path: Path) -> Any:
    with numpy.load(path) as archive:
        assert archive.files == ["data"]
        return archive["data"]


def trades(tmp_path: Path, times: list[tuple[int, int]], **options: int) -> tuple[Hftbacktest, Any]:
    """Export trades of these (ts_event, ts_recv); their number is their price."""
    sink = Hftbacktest(tmp_path, **options)
    instrument = an_instrument("A/B")
    for number, (ts_event, ts_recv) in enumerate(times):
        sink.on_trade(Trade(instrument, price=number, qty=1, side=Side.SELL, ts_event=ts_event, ts_recv=ts_recv))
    sink.close()
    return sink, load(tmp_path / "binance.A%2FB.npz")


def flagged(rows: Any, flag: int) -> Any:
    return rows[rows["ev"] & flag != 0]


def test_the_layout_is_that_of_hftbacktest(tmp_path: Path) -> None:
    sink, rows = trades(tmp_path, [(5, 7)])
    assert [(name, rows.dtype[name].str) for name in rows.dtype.names] == [
        ("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"), ("order_id", "<u8"),
        ("ival", "<i8"), ("fval", "<f8"),
    ]  # fmt: skip
    assert rows.dtype.itemsize == 64
    assert rows.tolist() == [(TRADE | SELL | EXCH | LOCAL, 5, 7, 0.0, 1.0, 0, 0, 0.0)]
    assert [path.name for path in tmp_path.iterdir()] == ["binance.A%2FB.npz"]
    assert sink.paths == [tmp_path / "binance.A%2FB.npz"]


def test_an_event_dated_before_one_that_came_earlier_gives_two_rows(tmp_path: Path) -> None:
    sink, rows = trades(tmp_path, [(10, 20), (30, 40), (20, 41), (5, 42), (30, 43)])
    assert [(row["px"], int(row["ev"]) & (EXCH | LOCAL)) for row in rows] == [
        (3, EXCH), (0, EXCH | LOCAL), (2, EXCH), (1, EXCH | LOCAL), (2, LOCAL), (3, LOCAL), (4, EXCH | LOCAL),
    ]  # fmt: skip
    assert sink.raised == sink.ahead == 0


def test_what_comes_later_than_the_window_is_raised_and_counted(tmp_path: Path) -> None:
    times = [(number, number) for number in range(100, 120)] + [(1, 120), (50, 90)]
    sink, rows = trades(tmp_path, times, window=2)
    assert flagged(rows, EXCH)["exch_ts"].tolist() == sorted(flagged(rows, EXCH)["exch_ts"])
    assert flagged(rows, LOCAL)["local_ts"].tolist() == [*range(100, 121), 120]
    assert sink.raised == 3


def test_an_unknown_time_is_that_of_receipt_and_one_ahead_is_counted(tmp_path: Path) -> None:
    sink, rows = trades(tmp_path, [(0, 7), (9, 8)])
    assert rows["exch_ts"].tolist() == [7, 9]
    assert sink.ahead == 1


def test_the_window_must_make_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a window of at least 1, found 0"):
        Hftbacktest(tmp_path, window=0)


@given(
    times=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3)), min_size=1, max_size=60), window=st.integers(1, 80)
)
def test_any_order_of_times_is_brought_into_order(
    times: list[tuple[int, int]], window: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    received, steps = 100, []
    for ts_event, step in times:
        received += step
        steps.append((ts_event, received))
    sink, rows = trades(tmp_path_factory.mktemp("npz"), steps, window=window)
    at_exchange, at_us = flagged(rows, EXCH), flagged(rows, LOCAL)
    assert at_us["px"].tolist() == list(range(len(steps)))
    assert at_us["local_ts"].tolist() == [ts_recv for _, ts_recv in steps]
    assert (numpy.diff(at_exchange["exch_ts"]) >= 0).all()
    assert sorted(at_exchange["px"]) == list(range(len(steps)))
    if sink.raised == 0:  # of equal times, the first to come is the first
        assert at_exchange["px"].tolist() == sorted(range(len(steps)), key=lambda number: steps[number][0])
        assert at_exchange["exch_ts"].tolist() == sorted(ts_event for ts_event, _ in steps)
    if window >= len(steps):
        assert sink.raised == 0


@pytest.mark.parametrize(
    "capture", ["binance/usdm-btcusdt_20240808.gz", "exchanges/BITFLYER.ws.1.0.gz", "exchanges/KRAKEN.ws.50.0.gz"]
)
def test_a_reader_has_our_books_and_trades(capture: str, captures: Path, tmp_path: Path) -> None:
    sink, log = Hftbacktest(tmp_path), EventLog()
    with open_recording(captures / capture) as source:
        run = Replay(source, Fanout([sink, log]))
        run.run(1723161295000000000 if "usdm" in capture else 2**63 - 1)
    sink.close()
    books = {book.instrument: book for pipeline in run.pipelines for book in pipeline.books.books}
    assert len(sink.paths) == len(books)
    for path, instrument in zip(sink.paths, sink.instruments, strict=True):
        rows = load(path)
        for flag, times in ((EXCH, "exch_ts"), (LOCAL, "local_ts")):
            assert (numpy.diff(flagged(rows, flag)[times]) >= 0).all()
        local = flagged(rows, LOCAL)
        sold = local[local["ev"] & 0xFF == TRADE]
        assert [(row["px"], row["qty"], row["local_ts"]) for row in sold] == [
            (trade.price, trade.qty, trade.ts_recv)
            for trade in log.trades
            if trade.instrument is instrument and not trade.is_backlog
        ]
        assert followed(local) == tuple(
            {float(price): float(qty) for price, qty in side.items()} for side in exact(books[instrument])
        )


def followed(rows: Any) -> tuple[Levels, Levels]:
    book: tuple[Levels, Levels] = ({}, {})
    for event, px, qty in zip(rows["ev"].tolist(), rows["px"].tolist(), rows["qty"].tolist(), strict=True):
        side = 0 if event & BUY else 1
        if event & 0xFF == CLEAR:
            assert px != px, "all of a side is cleared"
            book[side].clear()
        elif event & 0xFF in (DEPTH, SNAPSHOT):
            apply(book, side, [(px, qty)])
    return book


def test_floats_are_the_nearest(tmp_path: Path) -> None:
    sink = Hftbacktest(tmp_path)
    sink.on_trade(Trade(an_instrument(), price="61659.7", qty="0.1", ts_recv=1))
    sink.close()
    [row] = load(sink.paths[0])
    assert (Decimal(repr(float(row["px"]))), Decimal(repr(float(row["qty"])))) == (Decimal("61659.7"), Decimal("0.1"))
