"""Binance COIN-M futures: as `binance_futures`, without routes; quantities are contracts.

https://developers.binance.com/docs/derivatives/coin-margined-futures/websocket-market-streams
"""

from __future__ import annotations

import re
from typing import ClassVar

from feeds.events import Event, Ticker
from feeds.exchange import Endpoints
from feeds.exchanges.binance import Kline, Record
from feeds.exchanges.binance_futures import BinanceFutures, BinanceFuturesDecoder
from feeds.instrument import Instrument
from feeds.times import unix_ns


class _Kline(Kline, kw_only=True):
    """`<symbol>@kline_<interval>`: `v` counts contracts, `q` is in the base currency.

    {"e":"kline","E":1626916405054,"s":"ETHUSD_210924","k":{"t":1626916380000,"T":1626916439999,"s":"ETHUSD_210924",
     "i":"1m","o":"1992.70","c":"1992.17","h":"1993.71","l":"1992.17","v":"1893","n":41,"x":false,"q":"9.49653573"}}
    """

    @property
    def quote_volume(self) -> str | None:
        return None


class _IndexPrice(Record, kw_only=True):
    """`<pair>@indexPrice[@1s]`: of all contracts of a pair, told of its perpetual.

    {"e":"indexPriceUpdate","E":1591261236000,"i":"BTCUSD","p":"9636.57860000"}
    """

    E: int
    i: str
    p: str

    @property
    def raw_symbol(self) -> str:
        return f"{self.i}_PERP"

    def event(self, instrument: Instrument, ts_recv: int) -> Event:
        return Ticker(instrument, index_price=self.p, ts_event=unix_ns(self.E), ts_recv=ts_recv)


class BinanceDeliveryDecoder(BinanceFuturesDecoder):
    """Decodes what COIN-M sends; messages have the pair (`ps`) besides."""

    records: ClassVar[dict[str, type[Record]]] = BinanceFuturesDecoder.records | {
        "indexPriceUpdate": _IndexPrice,
        "kline": _Kline,
    }
    st = 2
    snapshot_url = "/dapi/v1/depth?symbol={symbol}&limit=1000"


class BinanceDelivery(BinanceFutures):
    """Binance COIN-M futures."""

    id = "binance-delivery"
    endpoints = Endpoints(ws="wss://dstream.binance.com", rest="https://dapi.binance.com")
    instruments_urls = ("/dapi/v1/exchangeInfo",)
    urls = re.compile(r"//(dstream|dapi)\.binance\.com\b")
    decoder = BinanceDeliveryDecoder
    path_of: ClassVar[dict[str, str]] = {}

    def streams(self, instrument: Instrument, channel: str) -> list[str]:
        pair, _, delivery = instrument.raw_symbol.lower().partition("_")
        index = [f"{pair}@indexPrice@1s"] if channel == "ticker" and delivery == "perp" else []
        return super().streams(instrument, channel) + index


EXCHANGE = BinanceDelivery()
