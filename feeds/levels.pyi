"""Price levels and decimal numbers from JSON text, exactly: every digit that fits int64 is kept."""

from typing import Any

__all__ = ["LevelShape", "parse_levels", "parse_number", "parse_sides"]

DEFAULT_MAX_LEVELS: int

class LevelShape:
    """How an exchange writes the levels of an array in JSON.

    `price` and `qty` are positions in an array or names in an object; what else a level has is skipped. `side` is for
    levels of both sides in one array: where it stands, and the JSON value, or tuple of values, that means `bid` or
    `ask`; `signed` is for such arrays too: a negative quantity is an ask. `removal=(place, value)` marks levels that
    are removed; with `qty=None` all are. A scale of n is for numbers that count units of 10**-n. `skip_zero_price`: a
    level at 0 is padding; `skip_qty`: so are levels with one of these JSON values as quantity; `negative_removes`: a
    quantity below 0 counts as 0; `padded`: zeros at the end of numbers count.
    """

    def __init__(
        self,
        price: int | str = 0,
        qty: int | str | None = 1,
        *,
        side: int | str | None = None,
        bid: Any = None,
        ask: Any = None,
        price_scale: int = 0,
        qty_scale: int = 0,
        removal: tuple[int | str, Any] | None = None,
        signed: bool = False,
        skip_zero_price: bool = False,
        skip_qty: tuple[Any, ...] = (),
        negative_removes: bool = False,
        padded: bool = False,
    ) -> None: ...
    @property
    def has_side(self) -> bool:
        """Levels say of which side they are, by `side` or by their sign."""

def parse_number(text: bytes, decimals: int) -> tuple[int, int]:
    """Return (mantissa, needed decimals) of `text`, quoted or bare: ('1.50', 1) -> (15, 1).

    Where more decimals are needed than given, the mantissa is meaningless. ValueError for anything that is not one
    whole number or does not fit.
    """

def parse_levels(
    text: bytes, price_decimals: int, qty_decimals: int, shape: LevelShape | None = None
) -> tuple[list[tuple[int, int]], int, int]:
    """Return ([(price mantissa, qty mantissa), ...], needed price decimals, needed qty decimals) of a level array."""

def parse_sides(
    text: bytes, price_decimals: int, qty_decimals: int, shape: LevelShape
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int, int]:
    """Return (bids, asks, needed price decimals, needed qty decimals) of an array whose levels say their side."""
