"""Normalised events as JSON lines: what `feeds decode` prints."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, BinaryIO

import orjson

from feeds.events import (
    BookDelta,
    BookStatus,
    Candle,
    Event,
    EventHandler,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Side,
    Ticker,
    Trade,
)

__all__ = ["JsonLines"]

FLUSH_AT = 1 << 20  # bytes


class JsonLines(EventHandler):
    """Writes one JSON object a line to a binary file; numbers as exact decimal strings, times as int ns or null.

    Every object begins with type, exchange, symbol, raw_symbol, ts_event, ts_recv. A book line is a message as the
    exchange sent it, whether or not a book could use it. What an exchange does not send is null. A trade that is only
    repeated after a subscription says so with "is_backlog":true at its end. `flush` when done.
    """

    def __init__(self, out: BinaryIO) -> None:
        self.lines = 0
        self._out = out
        self._buffer = bytearray()

    def on_book_delta(self, event: BookDelta) -> None:
        self._write("book", event, is_snapshot=event.is_snapshot, bids=_levels(event.bids), asks=_levels(event.asks))

    def on_trade(self, event: Trade) -> None:
        backlog = {"is_backlog": True} if event.is_backlog else {}
        self._write(
            "trade",
            event,
            id=event.id,
            side=_side(event.side),
            price=_text(event.price_decimal),
            qty=_text(event.qty_decimal),
            **backlog,
        )

    def on_quote(self, event: Quote) -> None:
        bid_price, bid_qty = event.bid_decimal or (None, None)
        ask_price, ask_qty = event.ask_decimal or (None, None)
        self._write(
            "quote",
            event,
            bid_price=_text(bid_price),
            bid_qty=_text(bid_qty),
            ask_price=_text(ask_price),
            ask_qty=_text(ask_qty),
        )

    def on_ticker(self, event: Ticker) -> None:
        self._write(
            "ticker",
            event,
            last_price=_text(event.last_price_decimal),
            mark_price=_text(event.mark_price_decimal),
            index_price=_text(event.index_price_decimal),
            open_interest=_text(event.open_interest_decimal),
            funding_rate=_text(event.funding_rate_decimal),
            next_funding_time=event.next_funding_time or None,
        )

    def on_funding(self, event: Funding) -> None:
        self._write(
            "funding",
            event,
            funding_rate=_text(event.funding_rate_decimal),
            next_funding_rate=_text(event.next_funding_rate_decimal),
            next_funding_time=event.next_funding_time or None,
        )

    def on_open_interest(self, event: OpenInterest) -> None:
        self._write("open_interest", event, open_interest=_text(event.open_interest_decimal))

    def on_liquidation(self, event: Liquidation) -> None:
        self._write(
            "liquidation",
            event,
            id=event.id,
            side=_side(event.side),
            price=_text(event.price_decimal),
            qty=_text(event.qty_decimal),
        )

    def on_candle(self, event: Candle) -> None:
        self._write(
            "candle",
            event,
            ts_open=event.ts_open,
            interval=event.interval,
            open=_text(event.open_decimal),
            high=_text(event.high_decimal),
            low=_text(event.low_decimal),
            close=_text(event.close_decimal),
            volume=_text(event.volume_decimal),
            quote_volume=_text(event.quote_volume_decimal),
            is_closed=event.is_closed,
        )

    def on_book_status(self, event: BookStatus) -> None:
        self._write("book_status", event, old=event.old.name, new=event.new.name, reason=event.reason)

    def on_feed_status(self, event: FeedStatus) -> None:
        self._write("feed_status", event, status=event.status, reason=event.reason)

    def flush(self) -> None:
        """Write what is buffered."""
        self._out.write(self._buffer)
        self._out.flush()
        self._buffer.clear()

    def _write(self, kind: str, event: Event, **fields: Any) -> None:
        instrument = event.instrument
        self._buffer += orjson.dumps(
            {
                "type": kind,
                "exchange": event.exchange if isinstance(event, FeedStatus) else instrument.exchange,
                "symbol": instrument and instrument.symbol,
                "raw_symbol": instrument and instrument.raw_symbol,
                "ts_event": event.ts_event or None,
                "ts_recv": event.ts_recv or None,
                **fields,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        self.lines += 1
        if len(self._buffer) >= FLUSH_AT:
            self.flush()


def _text(number: Decimal | None) -> str | None:
    return None if number is None else format(number, "f")


def _side(side: Side) -> str | None:
    return None if side is Side.UNKNOWN else side.name.lower()


def _levels(levels: list[tuple[Decimal, Decimal]]) -> list[tuple[str, str]]:
    return [(format(price, "f"), format(qty, "f")) for price, qty in levels]
