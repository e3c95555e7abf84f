"""What a user wants to receive."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from feeds.errors import ConfigError

__all__ = ["CHANNELS", "DEFAULT_CHANNELS", "Subscription", "subscriptions"]

CHANNELS = {
    "book": "order book, from changes",
    "book_top": "top levels of the order book, from partial snapshots; not together with `book`",
    "quote": "best bid and offer",
    "trade": "trades, one by one where the exchange offers that",
    "agg_trade": "trades, fills of one order at one price added up",
    "ticker": "last, mark and index price, open interest, funding, as far as one stream has them",
    "funding": "funding rates of perpetuals",
    "open_interest": "open interest",
    "liquidation": "liquidations",
    "candle": "candles of one minute",
}
DEFAULT_CHANNELS = ("book", "quote", "trade")


class Subscription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One instrument, by our symbol or the exchange's, and its channels."""

    symbol: str
    channels: tuple[str, ...] = DEFAULT_CHANNELS

    def __post_init__(self) -> None:
        unknown = [channel for channel in self.channels if channel not in CHANNELS]
        if unknown or not self.channels:
            raise ConfigError(
                f"{self.symbol}: expected channels among {', '.join(CHANNELS)}, found {unknown or 'none'}"
            )
        if "book" in self.channels and "book_top" in self.channels:
            raise ConfigError(f"{self.symbol}: expected one of book and book_top, found both")


def subscriptions(
    symbols: Sequence[str | Subscription], channels: Sequence[str] = DEFAULT_CHANNELS
) -> list[Subscription]:
    """Return one `Subscription` per symbol, each with `channels`, those given as subscriptions as they are."""
    return [s if isinstance(s, Subscription) else Subscription(s, tuple(channels)) for s in symbols]
