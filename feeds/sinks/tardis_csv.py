"""Normalised events as the CSV files of tardis.dev: https://docs.tardis.dev/downloadable-csv-files/data-types"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from isal import igzip

from feeds.book import OrderBook
from feeds.events import BookDelta, Event, Funding, Liquidation, OpenInterest, Quote, Side, Ticker, Trade
from feeds.instrument import Instrument
from feeds.sinks.applied_books import AppliedBooks

__all__ = ["TardisCsv"]

_EVERY_ROW = ("exchange", "symbol", "timestamp", "local_timestamp")
_TICKER = ("funding_timestamp", "funding_rate", "predicted_funding_rate", "open_interest", "last_price", "index_price",
           "mark_price")  # fmt: skip
_COLUMNS = {
    "incremental_book_L2": ("is_snapshot", "side", "price", "amount"),
    "trades": ("id", "side", "price", "amount"),
    "quotes": ("ask_amount", "ask_price", "bid_price", "bid_amount"),
    "derivative_ticker": _TICKER,
    "liquidations": ("id", "side", "price", "amount"),
}
_SIDES = {Side.UNKNOWN: "unknown", Side.BUY: "buy", Side.SELL: "sell"}
COMPRESSION_LEVEL = 2  # of isal's 0 to 3
_GzipFile: Any = igzip.IGzipFile  # which has no types


class TardisCsv(AppliedBooks):
    """Writes a gzip file per data type to `folder`: incremental_book_L2.csv.gz, trades.csv.gz, quotes.csv.gz, ...

    Times are in microseconds; where the exchange sends none, `timestamp` is the receive time. Symbols and exchanges are
    written as we have them, symbols in capitals. Numbers are exact. `derivative_ticker` has the last value of each
    column, a row whenever one changes. Trades that an exchange repeats after a subscription are left out, and so are
    candles and statuses, for which there is no data type. `close` when done.

    A book begins with a snapshot, and every row after it belongs to it; a snapshot that follows another directly is
    preceded by a removal, since that is how a reader tells where it begins.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._files = contextlib.ExitStack()
        self._out: dict[str, TextIO] = {}
        self._tickers: dict[Instrument, dict[str, str]] = {}
        self._after_snapshot: set[Instrument] = set()

    def on_trade(self, event: Trade) -> None:
        if not event.is_backlog:
            numbers = (
                _quoted(event.id or ""),
                _SIDES[event.side],
                _text(event.price_decimal),
                _text(event.qty_decimal),
            )
            self._write("trades", _begin(event), numbers)

    def on_liquidation(self, event: Liquidation) -> None:
        numbers = (_quoted(event.id or ""), _SIDES[event.side], _text(event.price_decimal), _text(event.qty_decimal))
        self._write("liquidations", _begin(event), numbers)

    def on_quote(self, event: Quote) -> None:
        bid_price, bid_qty = event.bid_decimal or (None, None)
        ask_price, ask_qty = event.ask_decimal or (None, None)
        self._write("quotes", _begin(event), map(_text, (ask_qty, ask_price, bid_price, bid_qty)))

    def on_ticker(self, event: Ticker) -> None:
        self._update(
            event,
            funding_timestamp=_micros(event.next_funding_time),
            funding_rate=_text(event.funding_rate_decimal),
            open_interest=_text(event.open_interest_decimal),
            last_price=_text(event.last_price_decimal),
            index_price=_text(event.index_price_decimal),
            mark_price=_text(event.mark_price_decimal),
        )

    def on_funding(self, event: Funding) -> None:
        self._update(
            event,
            funding_timestamp=_micros(event.next_funding_time),
            funding_rate=_text(event.funding_rate_decimal),
            predicted_funding_rate=_text(event.next_funding_rate_decimal),
        )

    def on_open_interest(self, event: OpenInterest) -> None:
        self._update(event, open_interest=_text(event.open_interest_decimal))

    def write_book(self, book: OrderBook, ts_event: int, ts_recv: int) -> None:
        begin = _row_begin(book.instrument, ts_event, ts_recv)
        self._write_levels(book.instrument, begin, True, book.exact(0), book.exact(1))

    def write_delta(self, event: BookDelta) -> None:
        self._write_levels(event.instrument, _begin(event), event.is_snapshot, event.bids, event.asks)

    def close(self) -> None:
        """Write the ends of the files."""
        self._files.close()

    def abandon(self) -> None:
        """Let go of the files, which nobody is to read."""
        self._files.close()

    def _write_levels(
        self,
        instrument: Instrument,
        begin: str,
        is_snapshot: bool,
        bids: list[tuple[Decimal, Decimal]],
        asks: list[tuple[Decimal, Decimal]],
    ) -> None:
        flag = "true" if is_snapshot else "false"
        rows = [f"{begin},{flag},bid,{price:f},{qty:f}\n" for price, qty in bids]
        rows += [f"{begin},{flag},ask,{price:f},{qty:f}\n" for price, qty in asks]
        if is_snapshot and rows and instrument in self._after_snapshot:
            side, levels = ("bid", bids) if bids else ("ask", asks)
            rows.insert(0, f"{begin},false,{side},{levels[0][0]:f},0\n")
        self._file("incremental_book_L2").writelines(rows)
        if is_snapshot:
            self._after_snapshot.add(instrument)
        elif bids or asks:
            self._after_snapshot.discard(instrument)

    def _update(self, event: Event, **values: str) -> None:
        known = self._tickers.setdefault(event.instrument, dict.fromkeys(_TICKER, ""))
        changed = {name: value for name, value in values.items() if value and value != known[name]}
        if changed:
            known |= changed
            self._write("derivative_ticker", _begin(event), known.values())

    def _write(self, name: str, begin: str, values: Iterable[str]) -> None:
        self._file(name).write(f"{begin},{','.join(values)}\n")

    def _file(self, name: str) -> TextIO:
        out = self._out.get(name)
        if out is None:
            path = self._folder / f"{name}.csv.gz"
            packed = self._files.enter_context(_GzipFile(path, "wb", COMPRESSION_LEVEL, mtime=0))
            out = self._files.enter_context(io.TextIOWrapper(packed, encoding="utf-8", newline=""))
            out.write(",".join((*_EVERY_ROW, *_COLUMNS[name])) + "\n")
            self._out[name] = out
        return out


def _begin(event: Event) -> str:
    return _row_begin(event.instrument, event.ts_event, event.ts_recv)


def _row_begin(instrument: Instrument, ts_event: int, ts_recv: int) -> str:
    symbol = _quoted(instrument.raw_symbol.upper())
    return f"{instrument.exchange},{symbol},{_micros(ts_event or ts_recv)},{_micros(ts_recv)}"


def _quoted(text: str) -> str:
    """Return a name as a field, whatever an exchange puts into names."""
    return '"' + text.replace('"', '""') + '"' if any(special in text for special in ',"\r\n') else text


def _micros(ts: int) -> str:
    return str(ts // 1000) if ts else ""


def _text(number: Decimal | None) -> str:
    return "" if number is None else format(number, "f")
