"""Numbers as Java writes a double: what HTX and Upbit send."""

from decimal import Decimal
from functools import lru_cache
from typing import ClassVar

from feeds.simulator.numbers import Numbers


def double(text: str, whole: str = ".0") -> str:
    """Write a decimal as Java writes a double: 9.121E-7, 0.5, 188358.0, 6.0E-8 (6E-8 for `whole` "")."""
    value = Decimal(text).normalize()
    exponent = value.adjusted()
    if not value or -3 <= exponent < 7:
        plain = f"{value:f}"
        return plain if "." in plain else f"{plain}.0"
    mantissa = f"{value.scaleb(-exponent):f}"
    return f"{mantissa}{'' if '.' in mantissa else whole}E{exponent}"


_double = lru_cache(maxsize=50_000)(double)


class Doubles(Numbers):
    """Prices and quantities that have been through doubles."""

    whole: ClassVar[str] = ".0"

    def price(self, ticks: int) -> str:
        return _double(super().price(ticks), self.whole)

    def qty(self, lots: int) -> str:
        return _double(super().qty(lots), self.whole)
