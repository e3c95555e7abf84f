"""Price levels and decimal numbers from JSON text, exactly: every digit that fits int64 is kept."""

__all__ = ["parse_levels", "parse_number"]

DEFAULT_MAX_LEVELS: int

def parse_number(text: bytes, decimals: int) -> tuple[int, int]:
    """Return (mantissa, needed decimals) of `text`, quoted or bare: ('1.50', 1) -> (15, 1).

    Where more decimals are needed than given, the mantissa is meaningless. ValueError for anything that is not one
    whole number or does not fit.
    """

def parse_levels(text: bytes, price_decimals: int, qty_decimals: int) -> tuple[list[tuple[int, int]], int, int]:
    """Return ([(price mantissa, qty mantissa), ...], needed price decimals, needed qty decimals) of a level array."""
