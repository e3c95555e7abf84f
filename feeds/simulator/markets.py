"""What a simulated exchange trades: a plausible tick, lot and price for any symbol that a user names."""

import zlib

import msgspec

# Round figures of 2024-2026 in US dollars. They only have to look right; nothing depends on them.
_USD = {
    "BTC": 61_800.0,
    "ETH": 2_640.0,
    "SOL": 152.0,
    "BNB": 512.0,
    "XRP": 0.58,
    "DOGE": 0.105,
    "ADA": 0.34,
    "AVAX": 24.6,
    "LINK": 10.4,
    "DOT": 4.6,
    "LTC": 61.0,
    "BCH": 345.0,
    "TRX": 0.132,
    "SUI": 0.92,
    "ARB": 0.55,
    "PEPE": 0.0000078,
    "SHIB": 0.0000138,
    "USDT": 1.0,
    "USDC": 1.0,
    "FDUSD": 1.0,
    "TUSD": 1.0,
    "BUSD": 1.0,
    "USD": 1.0,
    "EUR": 1.09,
    "GBP": 1.28,
    "TRY": 0.03,
    "JPY": 0.0067,
    "KRW": 0.00072,
}
# Longest first where one ends with another: BTCFDUSD is BTC/FDUSD and not BTCFD/USD.
_QUOTES = ("FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USD", "EUR", "GBP", "TRY", "BTC", "ETH", "BNB")
_TYPICAL_ORDER_USD = 1_500.0
_MAX_DECIMALS = 8


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """One tradable of a simulated exchange. Order flow counts in ticks and lots; the wire shows decimals."""

    symbol: str  # as the exchange writes it
    base: str
    quote: str
    price_decimals: int  # decimals that the exchange writes; a tick may be coarser than the last one
    tick: int  # smallest price step, in units of the last decimal
    qty_decimals: int
    lot: int  # smallest quantity step, in units of the last decimal
    start_price: int  # ticks
    typical_qty: int  # lots of an ordinary order


def plausible_market(
    symbol: str, *, precision: tuple[int, int, int, int] | None = None, separators: str = "-_/"
) -> Market:
    """Make up a market for a symbol: the same one every time, in every process.

    `precision` is (price decimals, tick, quantity decimals, lot) where the exchange's real ones are known; otherwise a
    start price has five digits in ticks and a lot is worth at most ten cents. ValueError for an empty symbol.
    """
    base, quote = _split(symbol, separators)
    quote_usd = _usd(quote)
    price = _usd(base) / quote_usd
    if precision is None:
        price_decimals = 0
        while price * 10**price_decimals < 10_000 and price_decimals < _MAX_DECIMALS:
            price_decimals += 1
        qty_decimals = 0
        while price * quote_usd / 10**qty_decimals > 0.1 and qty_decimals < _MAX_DECIMALS:
            qty_decimals += 1
        precision = (price_decimals, 1, qty_decimals, 1)
    price_decimals, tick, qty_decimals, lot = precision
    lot_usd = price * quote_usd * lot / 10**qty_decimals
    return Market(
        symbol=symbol,
        base=base,
        quote=quote,
        price_decimals=price_decimals,
        tick=tick,
        qty_decimals=qty_decimals,
        lot=lot,
        start_price=max(1_000, round(price * 10**price_decimals / tick)),
        typical_qty=max(8, round(_TYPICAL_ORDER_USD / lot_usd)),
    )


def _split(symbol: str, separators: str) -> tuple[str, str]:
    if not symbol:
        raise ValueError("expected a symbol, found an empty string")
    for separator in separators:
        head, found, tail = symbol.partition(separator)
        if found and tail in _USD:
            return head, tail
        symbol = head if found else symbol  # a delivery date or contract kind behind the pair
    for quote in _QUOTES:
        if symbol.endswith(quote) and symbol != quote:
            return symbol[: -len(quote)], quote
    return symbol, "USDT"


def _usd(asset: str) -> float:
    known = _USD.get(asset)
    if known is not None:
        return known
    # Unknown to us: somewhere between a tenth of a cent and a hundred dollars, always the same.
    digest = zlib.crc32(asset.encode())
    return float((1 + digest % 999) * 10 ** (digest // 999 % 5)) / 100_000
