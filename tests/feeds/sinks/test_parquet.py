"""Parquet, read back by its own reader, against what `feeds decode` prints."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from feeds import session
from feeds.events import BookDelta, Fanout, Trade
from feeds.instrument import Instruments
from feeds.sinks.json_lines import JsonLines
from feeds.sinks.parquet import Parquet
from tests.feeds.messages import depth
from tests.feeds.sinks.following import T, an_instrument, every_kind

NUMBERS = {"price", "qty", "bid_price", "bid_qty", "ask_price", "ask_qty", "last_price", "mark_price", "index_price",
           "open_interest", "funding_rate", "next_funding_rate", "open", "high", "low", "close", "volume",
           "quote_volume"}  # fmt: skip
KINDS = {"trades": "trade", "quotes": "quote", "book_deltas": "book", "tickers": "ticker", "funding": "funding",
         "open_interest": "open_interest", "liquidations": "liquidation", "candles": "candle"}  # fmt: skip


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; times as ints, since those of Python end at microseconds."""
    table = pyarrow.parquet.read_table(path)
    for place, column in enumerate(table.schema):
        if pyarrow.types.is_timestamp(column.type):
            assert column.type == pyarrow.timestamp("ns", tz="UTC")
            table = table.set_column(place, column.name, table[column.name].cast("int64"))
    return table.to_pylist()


def lines(folder: Path) -> list[dict[str, Any]]:
    """Everything in a folder as `feeds decode` would have it, numbers as Decimals."""
    found: dict[int, dict[str, Any]] = {}
    for path in folder.glob("*.parquet"):
        for row in rows(path):
            number = row.pop("event")
            if path.stem == "book_deltas":
                line = found.setdefault(number, {"type": "book", "bids": [], "asks": [], **row})
                for name in ("side", "price", "qty", "depth", "first_id", "last_id", "previous_id"):
                    line.pop(name, None)
                if row["side"] is not None:
                    line[f"{row['side']}s"].append((row["price"], row["qty"]))
            elif path.stem == "statuses":
                of_book = row["source"] is None
                found[number] = (
                    {"type": "book_status" if of_book else "feed_status", "reason": row["reason"]}
                    | {name: row[name] for name in ("exchange", "symbol", "raw_symbol", "ts_event", "ts_recv")}
                    | ({"old": row["old"], "new": row["new"]} if of_book else {"status": row["new"]})
                )
            else:
                row.pop("sequence", None)
                if row.get("is_backlog") is False:
                    del row["is_backlog"]
                found[number] = {"type": KINDS[path.stem], **row}
    assert sorted(found) == list(range(len(found)))
    return [found[number] for number in sorted(found)]


def decoded(printed: io.BytesIO) -> list[dict[str, Any]]:
    found = []
    for text in printed.getvalue().splitlines():
        line = json.loads(text)
        for name in NUMBERS & set(line):
            line[name] = None if line[name] is None else Decimal(line[name])
        for side in ("bids", "asks") if line["type"] == "book" else ():
            line[side] = [(Decimal(price), Decimal(qty)) for price, qty in line[side]]
        found.append(line)
    return found


def test_every_kind_of_event_comes_back(tmp_path: Path) -> None:
    sink, printed = Parquet(tmp_path), io.BytesIO()
    expected = JsonLines(printed)
    for event in every_kind(an_instrument()):
        event.dispatch(sink)
        event.dispatch(expected)
    sink.close()
    expected.flush()
    assert lines(tmp_path) == decoded(printed)
    assert {path.stem for path in tmp_path.iterdir()} == {*KINDS, "statuses"}


@pytest.mark.parametrize(
    "capture", ["binance/usdm-btcusdt_20240808.gz", "exchanges/BITFLYER.ws.1.0.gz", "exchanges/OKX.ws.1.0.gz"]
)
def test_a_capture_is_equal_to_what_decode_prints(capture: str, captures: Path, tmp_path: Path) -> None:
    sink, printed = Parquet(tmp_path), io.BytesIO()
    expected = JsonLines(printed)
    # Of the largest capture its first ten seconds, level by level; the totals of all of it stand in test_conversion.
    end = 1723161265000000000 if "usdm" in capture else None
    session.replay(Fanout([sink, expected]), captures / capture, policy="none", end=end)
    sink.close()
    expected.flush()
    assert expected.lines > 300
    assert lines(tmp_path) == decoded(printed)


def test_a_column_keeps_its_type_and_every_value_when_decimals_grow(tmp_path: Path) -> None:
    instruments = Instruments(infer=True)
    coarse = instruments.add("binance", "BTCUSDT", price_decimals=0, qty_decimals=0)
    sink = Parquet(tmp_path, max_rows=2)
    prices = ["9223372036854775807", "1", "-1"]
    for price in prices:
        sink.on_trade(Trade(coarse, price=price, qty=1))
    fine = Instruments().add("binance", "BTCUSDT", price_decimals=18, qty_decimals=18)
    for price in ("0.000000000000000001", "9.223372036854775807", "-9.223372036854775807"):
        prices.append(price)
        sink.on_trade(Trade(fine, price=price, qty="0.5"))
    sink.close()
    table = pyarrow.parquet.read_table(tmp_path / "trades.parquet")
    assert table.schema.field("price").type == pyarrow.decimal128(38, 18)
    assert table["price"].to_pylist() == list(map(Decimal, prices))


def test_decimals_that_a_message_makes_grow_are_written_in_the_same_column(tmp_path: Path) -> None:
    text = "".join(
        f"{T + number} {depth(number, number, bids=[(price, '1')]).decode()}\n"
        for number, price in enumerate(("100", "100.5", "100.125"), 1)
    )
    (tmp_path / "collected").write_text(text)
    sink = Parquet(tmp_path)
    session.replay(sink, tmp_path / "collected", policy="none")
    sink.close()
    assert [row["price"] for row in rows(tmp_path / "book_deltas.parquet")] == [
        100,
        Decimal("100.5"),
        Decimal("100.125"),
    ]


def test_row_groups_end_by_rows_and_by_time(tmp_path: Path) -> None:
    instrument = an_instrument()
    sink = Parquet(tmp_path, max_rows=3, interval=10)
    for second in (1, 2, 9, 9, 10, 31):
        sink.on_trade(Trade(instrument, price=1, qty=1, ts_recv=second * 1_000_000_000))
    sink.close()
    groups = pyarrow.parquet.ParquetFile(tmp_path / "trades.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [3, 1, 1, 1]


def test_a_book_message_may_be_larger_than_a_row_group(tmp_path: Path) -> None:
    levels = [(price, 1) for price in range(1, 8)]
    sink = Parquet(tmp_path, max_rows=3)
    sink.on_book_delta(BookDelta(an_instrument(), bids=levels))
    sink.close()
    assert lines(tmp_path)[0]["bids"] == [(Decimal(price), Decimal(qty)) for price, qty in levels]


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    sink = Parquet(tmp_path, metadata={"recordings": "a.feeds"})
    instrument = an_instrument(tick_size="0.01")
    sink.on_trade(Trade(instrument, price="0.25", qty=1, side=2))
    sink.close()
    metadata = pyarrow.parquet.read_metadata(tmp_path / "trades.parquet").metadata
    assert metadata[b"software"].startswith(b"picows-feeds ")
    assert json.loads(metadata[b"exchanges"]) == ["binance"]
    assert json.loads(metadata[b"instruments"]) == [instrument.describe()]
    assert metadata[b"recordings"] == b"a.feeds"
    schema = pyarrow.parquet.read_schema(tmp_path / "trades.parquet")
    for name in ("exchange", "symbol", "raw_symbol", "side"):
        assert pyarrow.types.is_dictionary(schema.field(name).type)


@pytest.mark.parametrize("options", [{"max_rows": 0}, {"interval": 0.0}, {"interval": float("nan")}])
def test_limits_must_make_sense(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected max_rows of at least 1"):
        Parquet(tmp_path, **options)
