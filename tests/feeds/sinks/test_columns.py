"""Events as columns: what Parquet's tests do not see."""

from __future__ import annotations

import struct

import pytest

from feeds.events import Trade
from feeds.sinks.columns import EventColumns, Table
from tests.feeds.sinks.following import T, an_instrument, every_kind


class Kept(EventColumns):
    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.kept: list[tuple[str, int]] = []
        self.trades: list[dict[str, tuple[bytes | None, bytes]]] = []

    def write_rows(self, table: Table) -> None:
        self.kept.append((table.name, table.rows))
        if table.name == "trades":
            numbers = [column for column in table.columns if column.kind != "text"]
            self.trades.append({column.name: column.buffers(table.rows) for column in numbers})


def test_buffers_are_laid_out_as_arrow_has_them() -> None:
    instrument = an_instrument()
    sink = Kept()
    sink.on_trade(Trade(instrument, price="1.5", qty="-0.001", side=2, ts_event=T))
    sink.on_trade(Trade(instrument, price="-1", qty="1", ts_event=0, is_backlog=True))
    sink.flush()
    [found] = sink.trades
    assert found["event"] == (None, struct.pack("<qq", 0, 1))
    assert found["ts_event"] == (b"\x01", struct.pack("<qq", T, 0))
    assert found["ts_recv"][0] == b"\x00"
    assert found["instrument"] == (None, struct.pack("<ii", 0, 0))
    assert found["side"] == (b"\x01", b"\x01\x00")
    assert found["price"] == (None, b"".join((n * 10**16).to_bytes(16, "little", signed=True) for n in (150, -100)))
    assert found["is_backlog"] == (None, b"\x02")
    assert sink.owners == [instrument]


def test_rows_are_gone_after_they_were_handed_on() -> None:
    sink = Kept(max_rows=2)
    events = every_kind(an_instrument())
    for event in events:
        event.dispatch(sink)
    assert sink.kept == [("book_deltas", 2)]
    sink.flush()
    sink.flush()
    assert sink.kept[1:] == [
        ("trades", 2), ("quotes", 2), ("book_deltas", 2), ("tickers", 1), ("funding", 2), ("open_interest", 1),
        ("liquidations", 1), ("candles", 2), ("statuses", 1),
    ]  # fmt: skip
    assert sink.events == len(events)


def test_a_sink_says_what_becomes_of_rows() -> None:
    sink = EventColumns()
    sink.on_trade(Trade(an_instrument(), price=1, qty=1))
    with pytest.raises(NotImplementedError, match="EventColumns does not say what becomes of rows"):
        sink.flush()
