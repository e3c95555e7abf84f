"""What Binance's messages look like: names of streams, numbers, shapes, and what spot and futures do differently.

Shapes, key order and number formats are those of recorded traffic of August 2024, for COIN-M of July 2021; limits and
the routes of the futures hosts are those of the documentation of 2026.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers, decimal
from feeds.simulator.order_flow import Book, Fill, Top

NS_PER_MS = 1_000_000

# Marks, inside the simulator, a stream whose times are microseconds.
MICROSECONDS = "?us"
_AGGREGATION_NS = 100 * NS_PER_MS  # of futures' aggTrade
_STREAM = re.compile(
    r"(?P<symbol>[^@!A-Z\s/]+)@(?P<kind>depth(?:5|10|20)?|bookTicker|trade|aggTrade)(?:@(?P<ms>\d+)ms)?"
)

# First and last update id of a book message, and the last one of the message before it.
Ids: TypeAlias = tuple[int, int, int]


class StreamName(msgspec.Struct, frozen=True):
    """`btcusdt@depth20@100ms`, taken apart."""

    symbol: str  # in upper case, as in payloads
    kind: Literal["depth", "partial", "bookTicker", "trade", "aggTrade"]
    levels: int  # of a partial book
    period_ns: int  # of a book stream; 0: with every change


def error(code: int, msg: str) -> bytes:
    """Write the body of a REST error."""
    return msgspec.json.encode({"code": code, "msg": msg})


class Dialect(ABC):
    """What differs between them: numbers, times, speeds, limits and the shape of each message."""

    exchange: str
    decimals: int | None  # every number has as many; None: those of the contract
    update_ids: Literal["symbol", "exchange"]
    # (price decimals, tick, quantity decimals, lot) of symbols whose real ones are well known
    precisions: Mapping[str, tuple[int, int, int, int]]
    diff_periods: Mapping[str | None, int]  # by the speed in the stream's name, ns
    partial_periods: Mapping[str | None, int]
    messages_per_second: int
    weight_limit: int  # per minute
    ping_interval: float
    pong_timeout: float
    rest_root: str
    depth_default: int
    times_in_microseconds: bool  # can be asked for
    ghost = "GHOSTUSDT"  # a symbol that is not listed

    def market(self, symbol: str) -> Market:
        """Make up the market of a symbol."""
        return plausible_market(symbol, precision=self.precisions.get(symbol))

    @abstractmethod
    def route(self, path: str) -> str | None:
        """Return the path behind the route: `/ws...` or `/stream`. None: no such route."""

    @abstractmethod
    def serves(self, path: str, name: StreamName) -> bool:
        """Whether a connection to this path gets data of this stream; if not it is acknowledged and stays silent."""

    @abstractmethod
    def depth_limit(self, text: str | None) -> int | bytes:
        """Return the levels that a snapshot request means, or the error that it gets."""

    @abstractmethod
    def depth_weight(self, limit: int) -> int: ...

    @abstractmethod
    def diff(
        self, symbol: str, n: Numbers, now: int, ts: int, ids: Ids, bids: dict[int, int], asks: dict[int, int]
    ) -> str:
        """Write a depthUpdate; `ids` are first, last and that of the previous message; times are in wire units."""

    @abstractmethod
    def partial(self, symbol: str, n: Numbers, now: int, ts: int, ids: Ids, book: Book) -> str: ...

    @abstractmethod
    def book_ticker(self, symbol: str, n: Numbers, now: int, ts: int, update_id: int, top: Top) -> str: ...

    @abstractmethod
    def trade(self, symbol: str, n: Numbers, now: int, ts: int, fill: Fill) -> str: ...

    @abstractmethod
    def agg_trade(
        self, symbol: str, n: Numbers, now: int, ts: int, agg_id: int, first: Fill, last_id: int, qty: int
    ) -> str: ...

    @abstractmethod
    def snapshot(self, n: Numbers, now_ms: int, book: Book, limit: int) -> str: ...

    @abstractmethod
    def exchange_info(self, markets: Sequence[Market], now_ms: int) -> dict[str, Any]: ...


def _levels(numbers: Numbers, levels: dict[int, int], *, reverse: bool = False) -> str:
    return numbers.levels(sorted(levels.items(), reverse=reverse)) if levels else ""


def _flag(value: bool) -> str:
    return "true" if value else "false"


_SPOT_PRECISIONS = {
    "BTCUSDT": (2, 1, 5, 1),
    "ETHUSDT": (2, 1, 4, 1),
    "SOLUSDT": (2, 1, 3, 1),
    "BNBUSDT": (2, 1, 3, 1),
    "XRPUSDT": (4, 1, 1, 1),
    "DOGEUSDT": (5, 1, 0, 1),
    "ADAUSDT": (4, 1, 1, 1),
    "ETHBTC": (5, 1, 4, 1),
}
_SPOT_PERIODS = {None: 1000 * NS_PER_MS, "1000": 1000 * NS_PER_MS, "100": 100 * NS_PER_MS}


class SpotDialect(Dialect):
    exchange = "binance"
    decimals = 8
    update_ids = "symbol"
    precisions = _SPOT_PRECISIONS
    diff_periods = _SPOT_PERIODS
    partial_periods = _SPOT_PERIODS
    messages_per_second = 5
    weight_limit = 6000
    ping_interval = 20.0
    pong_timeout = 60.0
    rest_root = "/api/v3"
    depth_default = 100
    times_in_microseconds = True

    def route(self, path: str) -> str | None:
        return path if path == "/stream" or path == "/ws" or path.startswith("/ws/") else None

    def serves(self, path: str, name: StreamName) -> bool:
        return True

    def depth_limit(self, text: str | None) -> int | bytes:
        if text is None:
            return self.depth_default
        if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) == 0:
            return error(-1100, "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.")
        return min(int(text), 5000)

    def depth_weight(self, limit: int) -> int:
        return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250

    def diff(
        self, symbol: str, n: Numbers, now: int, ts: int, ids: Ids, bids: dict[int, int], asks: dict[int, int]
    ) -> str:
        # Spot lists both sides best first.
        return (
            f'{{"e":"depthUpdate","E":{now},"s":"{symbol}","U":{ids[0]},"u":{ids[1]},'
            f'"b":[{_levels(n, bids, reverse=True)}],"a":[{_levels(n, asks)}]}}'
        )

    def partial(self, symbol: str, n: Numbers, now: int, ts: int, ids: Ids, book: Book) -> str:
        return self.snapshot(n, 0, book, len(book.bids))

    def book_ticker(self, symbol: str, n: Numbers, now: int, ts: int, update_id: int, top: Top) -> str:
        return (
            f'{{"u":{update_id},"s":"{symbol}","b":"{n.price(top.bid)}","B":"{n.qty(top.bid_qty)}",'
            f'"a":"{n.price(top.ask)}","A":"{n.qty(top.ask_qty)}"}}'
        )

    def trade(self, symbol: str, n: Numbers, now: int, ts: int, fill: Fill) -> str:
        return (
            f'{{"e":"trade","E":{now},"s":"{symbol}","t":{fill.trade_id},"p":"{n.price(fill.price)}",'
            f'"q":"{n.qty(fill.qty)}","T":{ts},"m":{_flag(fill.buyer_is_maker)},"M":true}}'
        )

    def agg_trade(
        self, symbol: str, n: Numbers, now: int, ts: int, agg_id: int, first: Fill, last_id: int, qty: int
    ) -> str:
        return (
            f'{{"e":"aggTrade","E":{now},"s":"{symbol}","a":{agg_id},"p":"{n.price(first.price)}","q":"{n.qty(qty)}",'
            f'"f":{first.trade_id},"l":{last_id},"T":{ts},"m":{_flag(first.buyer_is_maker)},"M":true}}'
        )

    def snapshot(self, n: Numbers, now_ms: int, book: Book, limit: int) -> str:
        return (
            f'{{"lastUpdateId":{book.update_id},"bids":[{n.levels(book.bids[:limit])}],'
            f'"asks":[{n.levels(book.asks[:limit])}]}}'
        )

    def exchange_info(self, markets: Sequence[Market], now_ms: int) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.weight_limit},
                {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
                {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200000},
                {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
            ],
            "exchangeFilters": [],
            "symbols": [self._symbol(market) for market in markets],
        }

    def _symbol(self, market: Market) -> dict[str, Any]:
        tick = decimal(market.tick, market.price_decimals, 8)
        lot = decimal(market.lot, market.qty_decimals, 8)
        return {
            "symbol": market.symbol,
            "status": "TRADING",
            "baseAsset": market.base,
            "baseAssetPrecision": 8,
            "quoteAsset": market.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
            "icebergAllowed": True,
            "ocoAllowed": True,
            "otoAllowed": True,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": True,
            "cancelReplaceAllowed": True,
            "amendAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": True,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
                {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000000.00000000", "stepSize": lot},
                {"filterType": "ICEBERG_PARTS", "limit": 10},
                {
                    "filterType": "MARKET_LOT_SIZE",
                    "minQty": "0.00000000",
                    "maxQty": "100000.00000000",
                    "stepSize": "0.00000000",
                },
                {
                    "filterType": "NOTIONAL",
                    "minNotional": "5.00000000",
                    "applyMinToMarket": True,
                    "maxNotional": "9000000.00000000",
                    "applyMaxToMarket": False,
                    "avgPriceMins": 5,
                },
                {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
                {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
            ],
            "permissions": [],
            "permissionSets": [["SPOT", "MARGIN"]],
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
            "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"],
        }


_FUTURES_PRECISIONS = {
    # BTC trades in steps of 0.10 and is written with two decimals.
    "BTCUSDT": (2, 10, 3, 1),
    "ETHUSDT": (2, 1, 3, 1),
    "SOLUSDT": (4, 100, 2, 1),
    "BNBUSDT": (3, 10, 2, 1),
    "XRPUSDT": (4, 1, 1, 1),
    "DOGEUSDT": (6, 10, 0, 1),
    "ADAUSDT": (5, 10, 0, 1),
}
_FUTURES_PERIODS = {None: 250 * NS_PER_MS, "250": 250 * NS_PER_MS, "500": 500 * NS_PER_MS, "100": 100 * NS_PER_MS}
_FUTURES_DIFF_PERIODS = _FUTURES_PERIODS | {"0": 0}


class FuturesDialect(Dialect):
    exchange = "binance-futures"
    decimals = None
    update_ids = "exchange"
    precisions = _FUTURES_PRECISIONS
    diff_periods = _FUTURES_DIFF_PERIODS
    partial_periods = _FUTURES_PERIODS
    messages_per_second = 10
    weight_limit = 2400
    ping_interval = 180.0
    pong_timeout = 600.0
    rest_root = "/fapi/v1"
    depth_default = 500
    times_in_microseconds = False

    def route(self, path: str) -> str | None:
        for route in ("/public", "/market"):
            if path.startswith(route + "/"):
                path = path[len(route) :]
                break
        return path if path == "/stream" or path == "/ws" or path.startswith("/ws/") else None

    def serves(self, path: str, name: StreamName) -> bool:
        # A connection without a route gets what /public gets.
        return (name.kind == "aggTrade") == path.startswith("/market/")

    def depth_limit(self, text: str | None) -> int | bytes:
        if text is None:
            return self.depth_default
        if not re.fullmatch(r"[0-9]{1,20}", text):
            return error(-1100, "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.")
        if int(text) not in (5, 10, 20, 50, 100, 500, 1000):
            return error(-4021, f"{text} is not valid depth limit.")
        return int(text)

    def depth_weight(self, limit: int) -> int:
        return 2 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20

    def diff(
        self, symbol: str, n: Numbers, now: int, ts: int, ids: Ids, bids: dict[int, int], asks: dict[int, int]
    ) -> str:
        # Futures list both sides by ascending price.
        return self._depth_update(symbol, now, ts, ids, _levels(n, bids), _levels(n, asks))

    def partial(self, symbol: str, n: Numbers, now: int, ts: int, ids: Ids, book: Book) -> str:
        return self._depth_update(symbol, now, ts, ids, n.levels(book.bids), n.levels(book.asks))

    @staticmethod
    def _depth_update(symbol: str, now: int, ts: int, ids: Ids, bids: str, asks: str) -> str:
        return (
            f'{{"e":"depthUpdate","E":{now},"T":{ts},"s":"{symbol}","U":{ids[0]},"u":{ids[1]},"pu":{ids[2]},'
            f'"b":[{bids}],"a":[{asks}]}}'
        )

    def book_ticker(self, symbol: str, n: Numbers, now: int, ts: int, update_id: int, top: Top) -> str:
        return (
            f'{{"e":"bookTicker","u":{update_id},"s":"{symbol}","b":"{n.price(top.bid)}","B":"{n.qty(top.bid_qty)}",'
            f'"a":"{n.price(top.ask)}","A":"{n.qty(top.ask_qty)}","T":{ts},"E":{now}}}'
        )

    def trade(self, symbol: str, n: Numbers, now: int, ts: int, fill: Fill) -> str:
        return (
            f'{{"e":"trade","E":{now},"T":{ts},"s":"{symbol}","t":{fill.trade_id},"p":"{n.price(fill.price)}",'
            f'"q":"{n.qty(fill.qty)}","X":"MARKET","m":{_flag(fill.buyer_is_maker)}}}'
        )

    def agg_trade(
        self, symbol: str, n: Numbers, now: int, ts: int, agg_id: int, first: Fill, last_id: int, qty: int
    ) -> str:
        return (
            f'{{"e":"aggTrade","E":{now},"a":{agg_id},"s":"{symbol}","p":"{n.price(first.price)}","q":"{n.qty(qty)}",'
            f'"f":{first.trade_id},"l":{last_id},"T":{ts},"m":{_flag(first.buyer_is_maker)}}}'
        )

    def snapshot(self, n: Numbers, now_ms: int, book: Book, limit: int) -> str:
        return (
            f'{{"lastUpdateId":{book.update_id},"E":{now_ms},"T":{book.ts_event // NS_PER_MS},'
            f'"bids":[{n.levels(book.bids[:limit])}],"asks":[{n.levels(book.asks[:limit])}]}}'
        )

    def exchange_info(self, markets: Sequence[Market], now_ms: int) -> dict[str, Any]:
        assets = sorted({asset for market in markets for asset in (market.quote, "BTC", "USDT")})
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "futuresType": "U_MARGINED",
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.weight_limit},
                {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
                {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
            ],
            "exchangeFilters": [],
            "assets": [{"asset": asset, "marginAvailable": True, "autoAssetExchange": "0"} for asset in assets],
            "symbols": [self._symbol(market) for market in markets],
        }

    def _symbol(self, market: Market) -> dict[str, Any]:
        tick = decimal(market.tick, market.price_decimals, market.price_decimals)
        lot = decimal(market.lot, market.qty_decimals, market.qty_decimals)
        pair, _, delivery = market.symbol.partition("_")
        return {
            "symbol": market.symbol,
            "pair": pair,
            "contractType": "CURRENT_QUARTER" if delivery else "PERPETUAL",
            "deliveryDate": 4133404800000,
            "onboardDate": 1569398400000,
            "status": "TRADING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": market.base,
            "quoteAsset": market.quote,
            "marginAsset": market.quote,
            "pricePrecision": market.price_decimals,
            "quantityPrecision": market.qty_decimals,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "settlePlan": 0,
            "triggerProtect": "0.0500",
            "liquidationFee": "0.012500",
            "marketTakeBound": "0.05",
            "maxMoveOrderLimit": 10000,
            "filters": [
                {"minPrice": tick, "maxPrice": "4529764", "filterType": "PRICE_FILTER", "tickSize": tick},
                {"stepSize": lot, "filterType": "LOT_SIZE", "maxQty": "1000000", "minQty": lot},
                {"stepSize": lot, "filterType": "MARKET_LOT_SIZE", "maxQty": "100000", "minQty": lot},
                {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
                {"limit": 10, "filterType": "MAX_NUM_ALGO_ORDERS"},
                {"notional": "5", "filterType": "MIN_NOTIONAL"},
                {
                    "multiplierDown": "0.9500",
                    "multiplierUp": "1.0500",
                    "multiplierDecimal": "4",
                    "filterType": "PERCENT_PRICE",
                },
            ],
            "orderTypes": [
                "LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET",
            ],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        }  # fmt: skip


# Price decimals, which are those of the tick, by the pair.
_DELIVERY_DECIMALS = {"BTCUSD": 1, "ETHUSD": 2, "BNBUSD": 3, "XRPUSD": 4, "DOGEUSD": 6, "ADAUSD": 5, "LINKUSD": 3}


class DeliveryDialect(FuturesDialect):
    """COIN-M: no routes, the pair beside the symbol, quantities in contracts of 100 USD (BTC) or 10 USD."""

    exchange = "binance-delivery"
    rest_root = "/dapi/v1"
    ghost = "GHOSTUSD_PERP"

    def market(self, symbol: str) -> Market:
        decimals = _DELIVERY_DECIMALS.get(_pair(symbol))
        priced = plausible_market(symbol, precision=None if decimals is None else (decimals, 1, 0, 1))
        return msgspec.structs.replace(priced, qty_decimals=0, lot=1, typical_qty=1500 // _contract_size(priced))

    def route(self, path: str) -> str | None:
        return path if path == "/stream" or path == "/ws" or path.startswith("/ws/") else None

    def serves(self, path: str, name: StreamName) -> bool:
        return True

    @staticmethod
    def _depth_update(symbol: str, now: int, ts: int, ids: Ids, bids: str, asks: str) -> str:
        return (
            f'{{"e":"depthUpdate","E":{now},"T":{ts},"s":"{symbol}","ps":"{_pair(symbol)}","U":{ids[0]},"u":{ids[1]},'
            f'"pu":{ids[2]},"b":[{bids}],"a":[{asks}]}}'
        )

    def book_ticker(self, symbol: str, n: Numbers, now: int, ts: int, update_id: int, top: Top) -> str:
        return (
            f'{{"u":{update_id},"e":"bookTicker","s":"{symbol}","ps":"{_pair(symbol)}","b":"{n.price(top.bid)}",'
            f'"B":"{n.qty(top.bid_qty)}","a":"{n.price(top.ask)}","A":"{n.qty(top.ask_qty)}","T":{ts},"E":{now}}}'
        )

    def snapshot(self, n: Numbers, now_ms: int, book: Book, limit: int) -> str:
        return (
            f'{{"lastUpdateId":{book.update_id},"E":{now_ms},"T":{book.ts_event // NS_PER_MS},'
            f'"symbol":"{book.symbol}","pair":"{_pair(book.symbol)}","bids":[{n.levels(book.bids[:limit])}],'
            f'"asks":[{n.levels(book.asks[:limit])}]}}'
        )

    def exchange_info(self, markets: Sequence[Market], now_ms: int) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.weight_limit},
                {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
            ],
            "exchangeFilters": [],
            "symbols": [self._symbol(market) for market in markets],
        }

    def _symbol(self, market: Market) -> dict[str, Any]:
        tick = decimal(market.tick, market.price_decimals, market.price_decimals)
        return {
            "symbol": market.symbol,
            "pair": _pair(market.symbol),
            "contractType": "PERPETUAL" if market.symbol.endswith("_PERP") else "CURRENT_QUARTER",
            "deliveryDate": 4133404800000,
            "onboardDate": 1597042800000,
            "contractStatus": "TRADING",
            "contractSize": _contract_size(market),
            "marginAsset": market.base,
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": market.base,
            "quoteAsset": market.quote,
            "pricePrecision": market.price_decimals,
            "quantityPrecision": 0,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "equalQtyPrecision": 4,
            "maxMoveOrderLimit": 10000,
            "triggerProtect": "0.0500",
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "filters": [
                {"minPrice": tick, "maxPrice": "1000000", "filterType": "PRICE_FILTER", "tickSize": tick},
                {"stepSize": "1", "filterType": "LOT_SIZE", "maxQty": "1000000", "minQty": "1"},
                {"stepSize": "1", "filterType": "MARKET_LOT_SIZE", "maxQty": "100000", "minQty": "1"},
                {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
                {"limit": 100, "filterType": "MAX_NUM_ALGO_ORDERS"},
                {
                    "multiplierDown": "0.8500",
                    "multiplierUp": "1.1500",
                    "multiplierDecimal": "4",
                    "filterType": "PERCENT_PRICE",
                },
            ],
            "orderTypes": [
                "LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET",
            ],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
            "liquidationFee": "0.006000",
            "marketTakeBound": "0.30",
        }  # fmt: skip


def _pair(symbol: str) -> str:
    return symbol.partition("_")[0]


def _contract_size(market: Market) -> int:
    """Return what a contract is, in USD."""
    return 100 if market.base == "BTC" else 10


def parse_stream(name: str, dialect: Dialect) -> StreamName | None:
    """Take a stream's name apart. None: no such stream, which Binance acknowledges all the same."""
    match = _STREAM.fullmatch(name)
    if match is None:
        return None
    symbol, kind, ms = match["symbol"].upper(), match["kind"], match["ms"]
    if not kind.startswith("depth"):
        if ms is not None:
            return None
        period_ns = _AGGREGATION_NS if kind == "aggTrade" and dialect.update_ids == "exchange" else 0
        return StreamName(symbol, kind, 0, period_ns)  # type: ignore[arg-type]  # the pattern lists the kinds
    levels = int(kind[5:] or 0)
    periods = dialect.partial_periods if levels else dialect.diff_periods
    period = periods.get(ms)
    if period is None:
        return None
    return StreamName(symbol, "partial" if levels else "depth", levels, period)
