"""Normalised events as the arrays of hftbacktest: https://hftbacktest.readthedocs.io/en/latest/data.html"""

from __future__ import annotations

import os
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from feeds.book import OrderBook
from feeds.events import BookDelta, Side, Trade
from feeds.instrument import Instrument
from feeds.sinks.applied_books import AppliedBooks

__all__ = ["Hftbacktest"]

DEPTH, TRADE, DEPTH_CLEAR, DEPTH_SNAPSHOT = 1, 2, 3, 4
EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
FIELDS = [("ev", "u8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8"), ("order_id", "u8"),
          ("ival", "i8"), ("fval", "f8")]  # fmt: skip
_SIDES = {Side.UNKNOWN: 0, Side.BUY: BUY, Side.SELL: SELL}
_Levels = list[tuple[Decimal, Decimal]]


class Hftbacktest(AppliedBooks):
    """Writes books and trades to a file per instrument in `folder`: EXCHANGE.RAW_SYMBOL.npz, with the array `data`.

    Times are in ns; an event whose time the exchange does not send has its receive time. Events stand in the order of
    receipt. One that the exchange dates before another that came earlier gives two rows, as hftbacktest wants it: one
    for its exchange, where the time of the exchange puts it, and one for the local side. For that, the last `window`
    events at least are held; one that comes later still is dated as late as it must be, and counted in `raised`.
    Receive times never go back: one that does is raised as well. `ahead` counts events that the exchange dates after
    their receipt: its clock is not ours, and `hftbacktest.data.correct_local_timestamp` is for that. Trades that an
    exchange repeats after a subscription are left out. `close` when done.
    """

    def __init__(self, folder: str | os.PathLike[str], *, window: int = 16_384) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"expected a window of at least 1, found {window}")
        self._folder = Path(folder)
        self._window = window
        self._files: dict[Instrument, _EventFile] = {}

    @property
    def raised(self) -> int:
        """Times that were raised to keep the order."""
        return sum(file.raised for file in self._files.values())

    @property
    def ahead(self) -> int:
        """Events that the exchange dates after their receipt."""
        return sum(file.ahead for file in self._files.values())

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [file.path for file in self._files.values()]

    @property
    def instruments(self) -> list[Instrument]:
        """Whose they are."""
        return list(self._files)

    def on_trade(self, event: Trade) -> None:
        if not event.is_backlog:
            row = (TRADE | _SIDES[event.side], event.price, event.qty)
            self._file(event.instrument).add([row], event.ts_event, event.ts_recv)

    def write_book(self, book: OrderBook, ts_event: int, ts_recv: int) -> None:
        rows = _snapshot(book.exact(0), book.exact(1))
        self._file(book.instrument).add(rows, ts_event, ts_recv)

    def write_delta(self, event: BookDelta) -> None:
        rows = _snapshot(event.bids, event.asks) if event.is_snapshot else _levels(DEPTH, event.bids, event.asks)
        self._file(event.instrument).add(rows, event.ts_event, event.ts_recv)

    def close(self) -> None:
        """Write what is left, and make the archives."""
        for file in self._files.values():
            file.close()

    def abandon(self) -> None:
        """Let go of the files, which nobody is to read: none is open."""

    def _file(self, instrument: Instrument) -> _EventFile:
        file = self._files.get(instrument)
        if file is None:
            name = f"{instrument.exchange}.{quote(instrument.raw_symbol, safe='')}.npz"
            file = self._files[instrument] = _EventFile(self._folder / name, self._window)
        return file


def _levels(kind: int, bids: _Levels, asks: _Levels) -> list[tuple[int, float, float]]:
    return [(kind | BUY, float(price), float(qty)) for price, qty in bids] + [
        (kind | SELL, float(price), float(qty)) for price, qty in asks
    ]


def _snapshot(bids: _Levels, asks: _Levels) -> list[tuple[int, float, float]]:
    # Without a price, all of a side is cleared.
    clear = [(DEPTH_CLEAR | side, float("nan"), 0.0) for side in (BUY, SELL)]
    return clear + _levels(DEPTH_SNAPSHOT, bids, asks)


class _EventFile:
    """The events of one instrument, brought into hftbacktest's order a window at a time."""

    def __init__(self, path: Path, window: int) -> None:
        import numpy

        self.path = path
        self.raised = self.ahead = 0
        self._numpy: Any = numpy
        self._dtype = numpy.dtype(FIELDS, align=True)
        self._window = window
        self._held: Any = numpy.zeros(
            0, self._dtype
        )  # in order of receipt; without EXCH where that row has been written
        self._new: list[tuple[int, int, int, float, float, int, int, float]] = []
        self._last_local = 0
        self._last_exch = 0  # of what has been written
        self._rows = 0
        self._raw = path.with_suffix(".rows")  # what has been written, until close

    def add(self, rows: list[tuple[int, float, float]], ts_event: int, ts_recv: int) -> None:
        if ts_recv < self._last_local:
            self.raised += len(rows)
            ts_recv = self._last_local
        self._last_local = ts_recv
        self.ahead += len(rows) if ts_event > ts_recv else 0
        exch = ts_event or ts_recv
        self._new += [(kind | EXCH | LOCAL, exch, ts_recv, px, qty, 0, 0, 0.0) for kind, px, qty in rows]
        if len(self._new) >= self._window:
            self._write(self._window)

    def close(self) -> None:
        self._write(0)
        header = self._numpy.lib.format
        with open(self._raw, "rb") as raw, zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as archive:
            entry = zipfile.ZipInfo("data.npy")  # without the time of today: equal events, equal files
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as out:
                described = {
                    "descr": header.dtype_to_descr(self._dtype),
                    "fortran_order": False,
                    "shape": (self._rows,),
                }
                header.write_array_header_1_0(out, described)
                while chunk := raw.read(1 << 20):
                    out.write(chunk)
        self._raw.unlink()

    def _write(self, keep: int) -> None:
        """Write all but the last `keep` events held, and what the exchange dates before them of those."""
        numpy = self._numpy
        held = numpy.concatenate([self._held, numpy.array(self._new, self._dtype)])
        self._new = []
        written = max(len(held) - keep, 0)
        has_exch = held["ev"] & EXCH != 0
        times = numpy.where(has_exch, held["exch_ts"], self._last_exch)
        newest = numpy.maximum.accumulate(numpy.concatenate([[self._last_exch], times]))[:-1]
        is_late = has_exch & (times < newest)
        late, numbers = held[is_late], numpy.flatnonzero(is_late)
        late["ev"] &= ~numpy.uint64(LOCAL)
        held["ev"][is_late] &= ~numpy.uint64(EXCH)
        self.raised += int((late["exch_ts"] < self._last_exch).sum())
        late["exch_ts"] = numpy.maximum(late["exch_ts"], self._last_exch)
        order = numpy.argsort(late["exch_ts"], kind="stable")
        late, numbers = late[order], numbers[order]
        # A late event belongs before the first that the exchange dates after it; never behind where it came.
        on_time = numpy.flatnonzero(has_exch & ~is_late)
        later = numpy.searchsorted(held["exch_ts"][on_time], late["exch_ts"], "right")
        places = numpy.minimum(numpy.append(on_time, len(held))[later], numbers)
        due = places < written
        held["ev"][numbers[~due]] |= numpy.uint64(EXCH)  # whose place is yet to come
        rows = numpy.insert(held[:written], places[due], late[due])
        exch = rows["exch_ts"][rows["ev"] & EXCH != 0]
        if len(exch):
            self._last_exch = int(exch[-1])
        self._rows += len(rows)
        with open(self._raw, "ab") as raw:
            raw.write(rows.tobytes())
        self._held = held[written:].copy()
