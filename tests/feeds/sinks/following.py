"""What the tests of sinks share: a source of every kind of event, and books that follow what was exported."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from feeds.book import OrderBook
from feeds.events import (
    BookDelta,
    Candle,
    Event,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Side,
    Ticker,
    Trade,
)
from feeds.instrument import Instrument, Instruments

Levels = dict[Decimal, Decimal]
T = 1_700_000_000_000_000_001


def every_kind(instrument: Instrument) -> list[Event]:
    """One event of each kind that needs no book, two book messages, and some with nothing in them."""
    times = {"ts_event": T, "ts_recv": T + 999}
    return [
        Trade(instrument, price="100.25", qty="0.001", side=Side.BUY, id=7, **times),
        Trade(instrument, price="100.5", qty="3", ts_recv=T + 1, is_backlog=True),
        Quote(instrument, bid_price="100.25", bid_qty=None, ask_price="100.5", ask_qty="0.5", sequence=9, **times),
        Quote(instrument, ask_price="100.5", ask_qty="0.5"),
        BookDelta(instrument, bids=[("100.25", "1"), ("-0.25", "0")], asks=[("100.5", "0.125")], first_id=3, **times),
        BookDelta(instrument, is_snapshot=True, depth=5, last_id=4, previous_id=2, ts_recv=T),
        Ticker(instrument, last_price="100.25", mark_price="1e-18", funding_rate="-0.000125", next_funding_time=T,
        **times), Funding(instrument, funding_rate="0.0001", next_funding_rate="0.00011", next_funding_time=T, **times),
        Funding(instrument, funding_rate=None), OpenInterest(instrument, open_interest="9223372036854775807", **times),
        Liquidation(instrument, price="99.75", qty=None, side=Side.SELL, id="L-1", **times), Candle(instrument,
        ts_open=T, interval=60, open=1, high="2.5", low="0.1", close=2, is_closed=True, **times), Candle(instrument,
        ts_open=T, interval=60, open=None, high=None, low=None, close=None, volume="5"), FeedStatus("binance",
        "disconnected", "why, it said", source=3, ts_recv=T + 5),
    ]  # fmt: skip


def an_instrument(raw_symbol: str = "BTCUSDT", **known: object) -> Instrument:
    known = {"symbol": "BTC-USDT", "price_decimals": 2, "qty_decimals": 3} | known
    return Instruments().add("binance", raw_symbol, **known)  # type: ignore[arg-type]


def apply(book: tuple[Levels, Levels], side: int, levels: Iterable[tuple[Decimal, Decimal]]) -> None:
    """Set levels as a reader of book changes does."""
    for price, qty in levels:
        if qty:
            book[side][price] = qty
        else:
            book[side].pop(price, None)


def exact(book: OrderBook) -> tuple[Levels, Levels]:
    return dict(book.exact(0)), dict(book.exact(1))
