"""Bybit v5, spot: the protocol of linear contracts, with ten topics a request and decimal numbers as trade ids."""

import re
from typing import Any, ClassVar

from feeds.simulator.exchanges.bybit import Bybit, BybitSession
from feeds.simulator.markets import Market
from feeds.simulator.numbers import decimal
from feeds.simulator.order_flow import Fill


class BybitSpotSession(BybitSession):
    max_args = 10


class BybitSpot(Bybit):
    name = "bybit-spot"
    session = BybitSpotSession
    paths = ("/v5/public/spot",)
    written = re.compile(r"[A-Z0-9]+")
    precisions: ClassVar = {"BTCUSDT": (2, 1, 6, 1), "ETHUSDT": (2, 1, 5, 1), "SOLUSDT": (2, 1, 3, 1)}
    category = "spot"
    periods_ms: ClassVar = {1: 10, 50: 20, 200: 200, 1000: 200}

    def trade_id(self, fill: Fill) -> str:
        return f'"i":"{2290000000000000000 + fill.trade_id}"'

    def instrument(self, market: Market) -> dict[str, Any]:
        lot = decimal(market.lot, market.qty_decimals, market.qty_decimals)
        return {
            "symbol": market.symbol,
            "baseCoin": market.base,
            "quoteCoin": market.quote,
            "innovation": "0",
            "status": "Trading",
            "marginTrading": "utaOnly",
            "lotSizeFilter": {
                "basePrecision": lot,
                "quotePrecision": decimal(1, 7, 7),
                "minOrderQty": lot,
            },
            "priceFilter": {"tickSize": decimal(market.tick, market.price_decimals, market.price_decimals)},
        }


SIMULATOR = BybitSpot
