"""Phemex: scaled integers for spot and coin-margined contracts, text for the `_p` family; whole books every minute."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from feeds.simulator.generated import (
    NS_PER_MS,
    BookStream,
    GeneratedExchange,
    GeneratedSession,
    Levels,
    QuoteStream,
    RecentTradeStream,
    Stream,
    TradeStream,
    decode_object,
)
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers, decimal
from feeds.simulator.order_flow import NS_PER_SECOND, Fill, Top
from feeds.simulator.protocol import Message

WHOLE = 0  # the depth that stands for all levels
DEPTHS = (WHOLE, 1, 5, 10, 30)
REPEATED_NS = 60 * NS_PER_SECOND  # after which a book comes whole again
MAX_SUBSCRIPTIONS = 20  # as documented; more were seen to be served
CONTRACT_SCALE, SPOT_SCALE = 4, 8
GATEWAY_NS = 250_000  # from the matching engine to the gateway, whose times `_p` books tell


class PhemexSession(GeneratedSession):
    """One symbol a request, in the methods of its family."""

    idle_timeout = 30.0
    messages_per_second = 20

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_error(None, 6001, "invalid argument")]
        request_id, method, params = request.get("id"), request.get("method"), request.get("params")
        if method == "server.ping":
            return [_result(request_id, "pong")]
        channel, _, action = str(method).rpartition(".")
        if channel not in ("orderbook", "orderbook_p", "trade", "trade_p") or not isinstance(params, list):
            return [_error(request_id, 6001, "invalid argument")]
        if action == "unsubscribe":
            for key in self.streams:
                if key.partition(":")[0].partition(".")[0] == channel:  # of all symbols, whatever is named
                    self.unsubscribe(*key.rsplit(":", 1))
            return [_result(request_id, {"status": "success"})]
        stream = _stream_of(channel, params) if action == "subscribe" else None
        if stream is None:
            return [_error(request_id, 6001, "invalid argument")]
        symbol = params[0]
        same = [key for key in self.streams if key.rpartition(":")[2] == symbol and key.startswith(f"{channel}.")]
        if len(self.streams) >= MAX_SUBSCRIPTIONS and not same and not self.has(stream, symbol):
            return [_error(request_id, 6015, "exceeded subscription limit")]
        first = self.subscribe(stream, symbol, now_ns)
        if first is None:
            return [_error(request_id, 6001, "invalid argument")]
        for key in same:  # of another depth
            if key != f"{stream}:{symbol}":
                self.unsubscribe(*key.rsplit(":", 1))
        return [_result(request_id, {"status": "success"}), *first]


class Phemex(GeneratedExchange):
    name = "phemex"
    update_ids = "exchange"  # `sequence` is of several symbols, too
    session = PhemexSession
    backlog_size = 1000
    written = re.compile(r"s[A-Z0-9]+USD[TC]|[cu]?[A-Z0-9]+USD[TC]?")
    default_symbols = ("BTCUSDT", "ETHUSDT", "BTCUSD", "sBTCUSDT")
    precisions: ClassVar = {
        "BTCUSDT": (1, 1, 3, 1),
        "ETHUSDT": (2, 1, 2, 1),
        "BTCUSD": (1, 5, 0, 1),
        "sBTCUSDT": (2, 1, 6, 1),
    }
    ghost = ("orderbook_p.0", "GHOSTUSDT")
    sequence_fields = ("sequence",)
    enum_front = r"\[\d+,"

    def market(self, symbol: str) -> Market:
        market = plausible_market(re.sub("^[scu](?=[A-Z0-9])", "", symbol), precision=self.precisions.get(symbol))
        if _scale(symbol) == CONTRACT_SCALE:  # contracts, of about a dollar
            market = msgspec.structs.replace(market, qty_decimals=0, lot=1, typical_qty=1500)
        return msgspec.structs.replace(market, symbol=symbol)

    def number_format(self, market: Market) -> Numbers:
        scale = _scale(market.symbol)
        return _Scaled(market, scale) if scale else Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        name, _, depth = channel.partition(".")
        if name.endswith("_p") == bool(_scale(symbol)):
            raise KeyError(channel)
        if name.startswith("trade"):
            return RecentTradeStream(self, key, symbol)
        if int(depth) == WHOLE:
            return _Books(self, key, symbol, period_ns=100 * NS_PER_MS)
        return _Books(self, key, symbol, levels=int(depth), period_ns=20 * NS_PER_MS)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n, depth = stream.numbers, stream.levels or WHOLE
        sides = f'{{"asks":[{n.levels(asks)}],"bids":[{n.levels(bids)}]}}'
        head = f'"book":{sides},"depth":{depth}'
        if stream.channel.startswith("orderbook_p"):
            mts = now_ns + GATEWAY_NS
            head = f'"depth":{depth},"dts":{mts + GATEWAY_NS},"mts":{mts},"orderbook_p":{sides}'
        kind = "snapshot" if is_snapshot else "incremental"
        return f'{{{head},"sequence":{stream.last_id},"symbol":"{stream.symbol}","timestamp":{now_ns},"type":"{kind}"}}'

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        raise NotImplementedError("the best prices are books of one level")

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        return [_trades(stream, self.source.flow.last_id(stream.symbol), [(ts_event, fill) for fill in fills])]

    def backlog(self, stream: TradeStream, now_ns: int, trades: Sequence[tuple[int, Fill]]) -> Sequence[str]:
        sequence = self.source.flow.last_id(stream.symbol)
        return [_trades(stream, sequence, trades, "snapshot")] if trades else []

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path != "/public/products":
            return None
        markets = self.markets.values()
        listed = [_product(market) for market in markets if _scale(market.symbol)]
        linear = [_linear(market) for market in markets if not _scale(market.symbol)]
        data = {"ratioScale": 8, "currencies": [], "products": listed, "perpProductsV2": linear}
        return {"code": 0, "msg": "OK", "data": data}

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"simulated":{"x":[1,"two",null]},"sequence":1,"timestamp":1}'
        return Message("simulated", "", "other", data, to_all=True)


class _Scaled(Numbers):
    """Prices in units of 10**-scale; so quantities of spot, while contracts are counted."""

    def __init__(self, market: Market, scale: int) -> None:
        super().__init__(market)
        self._price_unit = market.tick * 10 ** (scale - market.price_decimals)
        self._qty_unit = market.lot * 10 ** (scale - market.qty_decimals) if scale == SPOT_SCALE else market.lot

    def price(self, ticks: int) -> str:
        return str(ticks * self._price_unit)

    def qty(self, lots: int) -> str:
        return str(lots * self._qty_unit)

    def levels(
        self, levels: Levels, before: str = "[", between: str = ",", after: str = "]", separator: str = ","
    ) -> str:
        price, qty = self._price_unit, self._qty_unit
        return separator.join([f"{before}{ticks * price}{between}{lots * qty}{after}" for ticks, lots in levels])


class _Books(BookStream):
    """Changes, and again and again the whole book."""

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        super().on_tick(now_ns, out)
        if now_ns % REPEATED_NS == 0:
            out.extend(Message(self.key, self.symbol, "book", data) for data in self.first(now_ns))


def _scale(symbol: str) -> int:
    """Return the scale of a symbol's prices, 0 where they are text."""
    return SPOT_SCALE if symbol.startswith("s") else CONTRACT_SCALE if symbol.endswith("USD") else 0


def _stream_of(channel: str, params: Sequence[Any]) -> str | None:
    """Return the stream that parameters ask for; None where they are none."""
    if not params or not isinstance(params[0], str):
        return None
    if channel.startswith("trade"):
        return channel
    is_whole = params[1] if params[1:] else False
    depth = params[2] if params[2:] else 30
    if not isinstance(is_whole, bool) or depth not in DEPTHS:
        return None
    return f"{channel}.{WHOLE if is_whole else depth}"


def _trades(stream: TradeStream, sequence: int, trades: Sequence[tuple[int, Fill]], kind: str = "incremental") -> str:
    n, quote = stream.numbers, "" if _scale(stream.symbol) else '"'
    rows = ",".join(
        f'[{ts_event},"{"Sell" if fill.buyer_is_maker else "Buy"}",{quote}{n.price(fill.price)}{quote},'
        f"{quote}{n.qty(fill.qty)}{quote}]"
        for ts_event, fill in trades
    )
    key = stream.channel.replace("trade", "trades")
    return f'{{"sequence":{sequence},"symbol":"{stream.symbol}","{key}":[{rows}],"type":"{kind}"}}'


def _result(request_id: Any, result: object) -> bytes:
    return msgspec.json.encode({"error": None, "id": request_id, "result": result})


def _error(request_id: Any, code: int, message: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message}, "id": request_id, "result": None})


def _sizes(market: Market) -> tuple[str, str]:
    return (
        decimal(market.tick, market.price_decimals, market.price_decimals),
        decimal(market.lot, market.qty_decimals, market.qty_decimals),
    )


def _product(market: Market) -> dict[str, Any]:
    """Return spot or a coin-margined contract."""
    tick, lot = _sizes(market)
    product = {
        "symbol": market.symbol,
        "displaySymbol": f"{market.base} / {market.quote}",
        "quoteCurrency": market.quote,
        "pricePrecision": market.price_decimals,
        "status": "Listed",
    }
    if _scale(market.symbol) == SPOT_SCALE:
        return product | {
            "type": "Spot",
            "baseCurrency": market.base,
            "baseTickSize": f"{lot} {market.base}",
            "quoteTickSize": f"{tick} {market.quote}",
        }
    return product | {
        "type": "Perpetual",
        "settleCurrency": market.base,
        "contractSize": 1.0,
        "lotSize": 1,
        "tickSize": msgspec.Raw(tick.encode()),
        "priceScale": CONTRACT_SCALE,
        "ratioScale": 8,
    }


def _linear(market: Market) -> dict[str, Any]:
    """Return a contract of the `_p` family."""
    tick, lot = _sizes(market)
    return {
        "symbol": market.symbol,
        "displaySymbol": f"{market.base} / {market.quote}",
        "type": "PerpetualV2",
        "settleCurrency": market.quote,
        "quoteCurrency": market.quote,
        "contractSize": "1",
        "tickSize": tick,
        "qtyStepSize": lot,
        "status": "Listed",
    }


SIMULATOR = Phemex
