"""Price levels and decimal numbers from JSON text, exactly: every digit that fits int64 is kept."""

__all__ = ["LevelShape", "parse_levels", "parse_number", "parse_sides"]

DEFAULT_MAX_LEVELS: int

class LevelShape:
    """Where price and quantity stand in one level of an array of levels, other than as [price, qty, ...].

    `price` and `qty` are positions in an array or names in an object; what else a level has is skipped. `side` is for
    levels of both sides in one array: where it stands, and the texts that mean `bid` and `ask`. A scale of N is for
    numbers that count units of 10**-N.
    """

    def __init__(
        self,
        *,
        price: int | str = 0,
        qty: int | str = 1,
        side: int | str | None = None,
        bid: str = "",
        ask: str = "",
        price_scale: int = 0,
        qty_scale: int = 0,
    ) -> None: ...
    @property
    def has_side(self) -> bool: ...

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
    """Return (bids, asks, needed price decimals, needed qty decimals) of an array whose levels name their side."""
