"""Normalised events as Parquet: a folder with one file per channel."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from feeds.instrument import Instrument
from feeds.sinks.columns import Column, EventColumns, Table

__all__ = ["Parquet"]

# Wide enough for every int64 mantissa at up to 18 decimals: a column keeps its type, and every value, when the decimals
# of an instrument grow in mid-file.
PRECISION, SCALE = 38, 18
_DICTIONARIES = {"side": ["buy", "sell"], "book_side": ["bid", "ask"]}


class Parquet(EventColumns):
    """Writes each kind of event to a file of its own in `folder`: trades.parquet, book_deltas.parquet ...

    A file is there when its first event is. Prices, quantities and rates are exact (decimal128 with 18 decimals), times
    are `timestamp[ns, UTC]`; what an exchange does not send is null. The column `event` numbers the events of the
    session over all files: by it they are in order, and the levels of one book message (a row each) together.
    A row group has at most `max_rows` rows, and none goes over a multiple of `interval` seconds of receive time: so the
    memory is bounded, and a reader that wants an hour reads little more. The key-value metadata of each file, which
    stands at its end (`pyarrow.parquet.read_metadata`), says `software`, `exchanges`, `instruments` (JSON) and what
    `metadata` adds. `close` when done: without it there is no such end.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        metadata: dict[str, str] | None = None,
        max_rows: int = 262_144,
        interval: float = 3600.0,
    ) -> None:
        import pyarrow  # type: ignore[import-untyped,import-not-found,unused-ignore]
        import pyarrow.parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]

        super().__init__(max_rows=max_rows, interval=interval)
        self._arrow: Any = pyarrow
        self._folder = Path(folder)
        self._metadata = metadata or {}
        self._types = {
            "int": pyarrow.int64(),
            "time": pyarrow.timestamp("ns", tz="UTC"),
            "decimal": pyarrow.decimal128(PRECISION, SCALE),
            "flag": pyarrow.bool_(),
            "text": pyarrow.string(),
        }
        self._writers: dict[str, Any] = {}

    def write_rows(self, table: Table) -> None:
        columns: dict[str, Any] = {}
        for column in table.columns:
            if column.kind == "instrument":
                columns |= self._owners(column, table.rows)
            else:
                columns[column.name] = self._array(column, table.rows)
        rows = self._arrow.table(columns)
        writer = self._writers.get(table.name)
        if writer is None:
            path = self._folder / f"{table.name}.parquet"
            writer = self._arrow.parquet.ParquetWriter(path, rows.schema, compression="zstd")
            self._writers[table.name] = writer
        writer.write_table(rows, row_group_size=table.rows)

    def close(self) -> None:
        """Write what is left, and the end of each file."""
        self.flush()
        instruments = [owner.describe() for owner in self.owners if isinstance(owner, Instrument)]
        exchanges = sorted({_names(owner)[0] for owner in self.owners})
        described = {
            "software": f"picows-feeds {importlib.metadata.version('picows-feeds')}",
            "exchanges": orjson.dumps(exchanges).decode(),
            "instruments": orjson.dumps(instruments).decode(),
        } | self._metadata
        for writer in self._writers.values():
            writer.add_key_value_metadata(described)
            writer.close()

    def abandon(self) -> None:
        """Let go of the files, which nobody is to read."""
        for writer in self._writers.values():
            writer.close()

    def _array(self, column: Column, rows: int) -> Any:
        arrow = self._arrow
        if column.kind == "text":
            return arrow.array(column.values(rows), self._types["text"])
        if column.kind in _DICTIONARIES:
            codes = self._from_buffers(arrow.int8(), column, rows)
            return arrow.DictionaryArray.from_arrays(codes, _DICTIONARIES[column.kind])
        return self._from_buffers(self._types[column.kind], column, rows)

    def _from_buffers(self, kind: Any, column: Column, rows: int) -> Any:
        known, data = column.buffers(rows)
        buffers = [None if known is None else self._arrow.py_buffer(known), self._arrow.py_buffer(data)]
        return self._arrow.Array.from_buffers(kind, rows, buffers)

    def _owners(self, column: Column, rows: int) -> dict[str, Any]:
        codes = self._from_buffers(self._arrow.int32(), column, rows)
        names: Sequence[tuple[str | None, ...]] = list(zip(*map(_names, self.owners), strict=True))
        return {
            name: self._arrow.array(of_owners, self._types["text"]).dictionary_encode().take(codes)
            for name, of_owners in zip(("exchange", "symbol", "raw_symbol"), names, strict=True)
        }


def _names(owner: Instrument | str) -> tuple[str, str | None, str | None]:
    if isinstance(owner, str):
        return owner, None, None
    return owner.exchange, owner.symbol, owner.raw_symbol
