"""Ticks and lots as the text that goes on the wire."""

from collections.abc import Sequence

from feeds.simulator.markets import Market

__all__ = ["Numbers", "decimal", "iso", "shortest"]

def decimal(mantissa: int, decimals: int, shown: int) -> str:
    """Write `mantissa / 10**decimals` with `shown` decimals, `decimals <= shown <= 40`; ValueError for others."""

def shortest(text: str) -> str:
    """Leave the zeros at the end of a decimal out."""

class Numbers:
    """Prices and quantities of one market: with the market's decimals, with more, or as short as they can be."""

    def __init__(
        self, market: Market, shown_price: int | None = None, shown_qty: int | None = None, *, is_short: bool = False
    ) -> None: ...
    def price(self, ticks: int) -> str:
        """Write a price."""

    def qty(self, lots: int) -> str:
        """Write a quantity."""

    def levels(
        self,
        levels: Sequence[tuple[int, int]],
        before: str = '["',
        between: str = '","',
        after: str = '"]',
        separator: str = ",",
    ) -> str:
        """Write levels, (ticks, lots) each, with texts before, between and behind the two numbers of each.

        It does not call `price` and `qty`: a subclass that has its own writes its levels itself.
        """

def iso(ts: int, digits: int = 6) -> str:
    """Write a time (ns since the epoch) as 2023-10-06T17:35:55.440295Z."""
