"""Bybit v5 spot: the protocol of `bybit` on a socket of its own, whose symbols read like those of linear contracts.

https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook

Known from the reference: the topics, the books, trades with decimal numbers as ids, tickers that are whole in every
message and have no best bid and offer, ten topics a request. Not checked, as no traffic of v5 was at hand: whether spot
serves the depth of 1000 wherever linear does.
"""

from __future__ import annotations

import re

from feeds.exchange import Exchange
from feeds.exchanges.bybit import Bybit, BybitDecoder
from feeds.instrument import Instrument


class BybitSpotDecoder(BybitDecoder):
    """Decodes v5 of spot."""

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return None, "spot"  # where the base ends and the quote begins only metadata tell


class BybitSpot(Bybit):
    """Bybit spot."""

    id = "bybit-spot"
    copies_differ = Exchange.copies_differ  # tickers are snapshots all the time
    channels = ("book", "quote", "trade", "ticker", "candle")
    decoder = BybitSpotDecoder
    instruments_urls = ("/v5/market/instruments-info?category=spot&limit=1000",)
    urls = re.compile(r"//stream\.bybit\.com/v5/public/spot\b")
    messages = None  # a message does not tell spot from linear

    def path(self, instrument: Instrument) -> str:
        return "/v5/public/spot"


EXCHANGE = BybitSpot()
