"""Ticks and lots as the text that goes on the wire."""

from collections.abc import Sequence
from datetime import datetime, timezone

from feeds.simulator.markets import Market

_MAX_CACHED = 50_000  # texts of prices, and of quantities


def decimal(mantissa: int, decimals: int, shown: int) -> str:
    """Write `mantissa / 10**decimals` with `shown` decimals, `shown >= decimals`."""
    whole, part = divmod(mantissa, 10**decimals)
    if not shown:
        return str(whole)
    return f"{whole}.{part * 10 ** (shown - decimals):0{shown}d}"


def shortest(text: str) -> str:
    """Leave the zeros at the end of a decimal out."""
    return text.rstrip("0").rstrip(".") if "." in text else text


class Numbers:
    """Prices and quantities of one market: with the market's decimals, with more, or as short as they can be."""

    __slots__ = (
        "_is_short",
        "_lot",
        "_price_decimals",
        "_prices",
        "_qty_decimals",
        "_qtys",
        "_shown_price",
        "_shown_qty",
        "_tick",
    )

    def __init__(
        self, market: Market, shown_price: int | None = None, shown_qty: int | None = None, *, is_short: bool = False
    ) -> None:
        self._tick, self._price_decimals = market.tick, market.price_decimals
        self._lot, self._qty_decimals = market.lot, market.qty_decimals
        self._shown_price = market.price_decimals if shown_price is None else shown_price
        self._shown_qty = market.qty_decimals if shown_qty is None else shown_qty
        self._is_short = is_short
        self._prices: dict[int, str] = {}
        self._qtys: dict[int, str] = {}

    def price(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) >= _MAX_CACHED:
                self._prices.clear()
            text = decimal(ticks * self._tick, self._price_decimals, self._shown_price)
            text = self._prices[ticks] = shortest(text) if self._is_short else text
        return text

    def qty(self, lots: int) -> str:
        text = self._qtys.get(lots)
        if text is None:
            if len(self._qtys) >= _MAX_CACHED:
                self._qtys.clear()
            text = decimal(lots * self._lot, self._qty_decimals, self._shown_qty)
            text = self._qtys[lots] = shortest(text) if self._is_short else text
        return text

    def levels(self, levels: Sequence[tuple[int, int]]) -> str:
        price, qty = self.price, self.qty
        return ",".join([f'["{price(ticks)}","{qty(lots)}"]' for ticks, lots in levels])


def iso(ts: int, digits: int = 6) -> str:
    """Write a time (ns since the epoch) as 2023-10-06T17:35:55.440295Z."""
    seconds, ns = divmod(ts, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{ns // 10 ** (9 - digits):0{digits}d}Z"
