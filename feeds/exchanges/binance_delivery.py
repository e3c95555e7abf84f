"""Binance COIN-M futures: as `binance_futures`, without routes; quantities are contracts.

https://developers.binance.com/docs/derivatives/coin-margined-futures/websocket-market-streams
"""

from __future__ import annotations

import re
from typing import ClassVar

from feeds.exchange import Endpoints
from feeds.exchanges.binance_futures import BinanceFutures, BinanceFuturesDecoder


class BinanceDeliveryDecoder(BinanceFuturesDecoder):
    """Decodes what COIN-M sends; messages have the pair (`ps`) besides."""

    snapshot_url = "/dapi/v1/depth?symbol={symbol}&limit=1000"


class BinanceDelivery(BinanceFutures):
    """Binance COIN-M futures."""

    id = "binance-delivery"
    endpoints = Endpoints(ws="wss://dstream.binance.com", rest="https://dapi.binance.com")
    instruments_urls = ("/dapi/v1/exchangeInfo",)
    urls = re.compile(r"//(dstream|dapi)\.binance\.com\b")
    decoder = BinanceDeliveryDecoder
    path_of: ClassVar[dict[str, str]] = {}


EXCHANGE = BinanceDelivery()
