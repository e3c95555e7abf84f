"""The CSV of tardis.dev: its columns, and what a reader makes of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from feeds import session
from feeds.events import EventHandler, Fanout, Funding, OpenInterest, Ticker, Trade
from feeds.recording import open_recording
from feeds.replay import Replay
from feeds.sinks.json_lines import JsonLines
from feeds.sinks.tardis_csv import TardisCsv
from tests.feeds.sinks.following import Levels, T, an_instrument, apply, every_kind, exact


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(folder / f"{name}.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_the_columns_are_those_that_are_documented(tmp_path: Path) -> None:
    sink = TardisCsv(tmp_path)
    for event in every_kind(an_instrument(raw_symbol="btcusdt")):
        event.dispatch(sink)
    sink.close()
    head = {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "timestamp": "1700000000000000",
        "local_timestamp": "1700000000000001",
    }
    assert table(tmp_path, "trades") == [head | {"id": "7", "side": "buy", "price": "100.25", "amount": "0.001"}]
    assert table(tmp_path, "quotes") == [
        head | {"ask_amount": "0.500", "ask_price": "100.50", "bid_price": "100.25", "bid_amount": ""},
        head | {"timestamp": "", "local_timestamp": ""}
        | {"ask_amount": "0.500", "ask_price": "100.50", "bid_price": "", "bid_amount": ""},
    ]  # fmt: skip
    assert table(tmp_path, "liquidations") == [head | {"id": "L-1", "side": "sell", "price": "99.75", "amount": ""}]
    assert list(table(tmp_path, "derivative_ticker")[0]) == [
        *head, "funding_timestamp", "funding_rate", "predicted_funding_rate", "open_interest", "last_price",
        "index_price", "mark_price",
    ]  # fmt: skip


def test_names_of_an_exchange_do_not_break_a_row(tmp_path: Path) -> None:
    sink = TardisCsv(tmp_path)
    sink.on_trade(Trade(an_instrument(raw_symbol='A,"B'), price=1, qty=2, id="1,\n2"))
    sink.close()
    [row] = table(tmp_path, "trades")
    assert (row["symbol"], row["id"], row["amount"]) == ('A,"B', "1,\n2", "2.000")


def test_a_derivative_ticker_has_the_last_of_each_value(tmp_path: Path) -> None:
    instrument = an_instrument()
    sink = TardisCsv(tmp_path)
    sink.on_ticker(Ticker(instrument, last_price="1.5", mark_price="1.25", ts_recv=T))
    sink.on_funding(
        Funding(instrument, funding_rate="-0.0001", next_funding_rate="0.0002", next_funding_time=T, ts_recv=T)
    )
    sink.on_open_interest(OpenInterest(instrument, open_interest="1000", ts_recv=T))
    sink.on_open_interest(OpenInterest(instrument, open_interest="1000", ts_recv=T + 10**9))
    sink.on_ticker(Ticker(instrument, last_price="1.75", index_price="1.6", ts_recv=T))
    sink.close()
    values = [list(row.values())[4:] for row in table(tmp_path, "derivative_ticker")]
    assert values == [
        ["", "", "", "", "1.5", "", "1.25"],
        ["1700000000000000", "-0.0001", "0.0002", "", "1.5", "", "1.25"],
        ["1700000000000000", "-0.0001", "0.0002", "1000", "1.5", "", "1.25"],
        ["1700000000000000", "-0.0001", "0.0002", "1000", "1.75", "1.6", "1.25"],
    ]


def books_of(rows: list[dict[str, str]]) -> dict[str, tuple[Levels, Levels]]:
    """Follow the books as tardis.dev documents it: a snapshot row after another kind of row begins a new book."""
    books: dict[str, tuple[Levels, Levels]] = {}
    after_snapshot: dict[str, bool] = {}
    for row in rows:
        is_snapshot = row["is_snapshot"] == "true"
        if is_snapshot and not after_snapshot.get(row["symbol"]):
            books[row["symbol"]] = ({}, {})
        after_snapshot[row["symbol"]] = is_snapshot
        apply(books[row["symbol"]], row["side"] == "ask", [(Decimal(row["price"]), Decimal(row["amount"]))])
    return books


@pytest.mark.parametrize(
    "capture",
    ["binance/usdm-btcusdt_20240808.gz", "exchanges/BITFLYER.ws.1.0.gz", "exchanges/KRAKEN.ws.50.0.gz",
     "exchanges/OKX.ws.1.0.gz"],
)  # fmt: skip
def test_a_reader_has_our_books_trades_and_quotes(capture: str, captures: Path, tmp_path: Path) -> None:
    sink, printed = TardisCsv(tmp_path), io.BytesIO()
    lines = JsonLines(printed)
    with open_recording(captures / capture) as source:
        run = Replay(source, Fanout([sink, lines]))
        run.run(1723161315000000000 if "usdm" in capture else 2**63 - 1)
    sink.close()
    lines.flush()

    ours = {
        book.instrument.raw_symbol.upper(): exact(book) for pipeline in run.pipelines for book in pipeline.books.books
    }
    assert books_of(table(tmp_path, "incremental_book_L2")) == ours

    decoded: list[dict[str, Any]] = [json.loads(line) for line in printed.getvalue().splitlines()]
    trades = [line for line in decoded if line["type"] == "trade" and "is_backlog" not in line]
    if trades:
        assert [list(row.values())[1:] for row in table(tmp_path, "trades")] == [
            [
                line["raw_symbol"].upper(),
                *times(line),
                line["id"] or "",
                line["side"] or "unknown",
                line["price"],
                line["qty"],
            ]
            for line in trades
        ]
    quotes = [line for line in decoded if line["type"] == "quote"]
    if quotes:
        assert [list(row.values())[1:] for row in table(tmp_path, "quotes")] == [
            [line["raw_symbol"].upper(), *times(line)]
            + [line[name] or "" for name in ("ask_qty", "ask_price", "bid_price", "bid_qty")]
            for line in quotes
        ]
    assert len(trades) + len(quotes) > 50 or "KRAKEN" in capture


def times(line: dict[str, Any]) -> list[str]:
    return [str((line["ts_event"] or line["ts_recv"]) // 1000), str(line["ts_recv"] // 1000)]


def test_a_snapshot_after_a_snapshot_begins_a_new_book(captures: Path, tmp_path: Path) -> None:
    sink = TardisCsv(tmp_path)
    session.replay(Fanout([sink, EventHandler()]), captures / "exchanges/BITFLYER.ws.1.0.gz", policy="none")
    sink.close()
    rows = table(tmp_path, "incremental_book_L2")
    begun = [row for row, before in zip(rows[1:], rows, strict=False) if row["is_snapshot"] > before["is_snapshot"]]
    assert len(begun) > 10
