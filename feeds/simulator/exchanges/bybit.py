"""Bybit v5, linear contracts."""

import re
import uuid
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
    Stream,
    TradeStream,
    decode_object,
)
from feeds.simulator.markets import Market
from feeds.simulator.numbers import decimal
from feeds.simulator.order_flow import Fill, Top
from feeds.simulator.protocol import Message

CONN_ID = "cejreaspqfh3sjdnldmg-p"
MAX_ARGS = 21_000  # characters of all topics of a connection


class BybitSession(GeneratedSession):
    """One answer for all topics of a request: a bad one refuses them all."""

    idle_timeout = 600.0
    max_args: ClassVar[int | None] = None  # of a request

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_answer(False, "error:request format invalid", {})]
        op, args = request.get("op"), request.get("args")
        if op == "ping":
            return [_answer(True, "pong", request)]
        if op not in ("subscribe", "unsubscribe"):
            return [_answer(False, f"error:unknown op,op:{op}", request)]
        if not isinstance(args, list) or not all(isinstance(topic, str) for topic in args):
            return [_answer(False, "error:params error,args", request)]
        if self.max_args is not None and len(args) > self.max_args:
            return [_answer(False, f"args size >{self.max_args}", request)]
        if op == "unsubscribe":
            for topic in args:
                channel, _, symbol = topic.rpartition(".")
                self.unsubscribe(channel, symbol)
            return [_answer(True, "", request)]
        if sum(map(len, (*self.streams, *args))) > MAX_ARGS:
            return [_answer(False, "error:args length exceeded", request)]
        before, first = set(self.streams), list[bytes]()
        for topic in args:
            channel, _, symbol = topic.rpartition(".")
            # It says so also of a topic that is subscribed already, and of all others that came with it.
            found = None if self.has(channel, symbol) else self.subscribe(channel, symbol, now_ns)
            if found is None:
                problem = "already subscribed" if self.has(channel, symbol) else "handler not found"
                for key in set(self.streams) - before:
                    self.unsubscribe(*key.rsplit(":", 1))
                return [_answer(False, f"error:{problem},topic:{topic}", request)]
            first += found
        return [_answer(True, "", request), *first]


class Bybit(GeneratedExchange):
    name = "bybit"
    session = BybitSession
    paths = ("/v5/public/linear",)
    written = re.compile(r"[A-Z0-9]+(USDT|PERP)(-\d{2}[A-Z]{3}\d{2})?")
    default_symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    precisions: ClassVar = {"BTCUSDT": (2, 10, 3, 1), "ETHUSDT": (2, 1, 2, 1), "SOLUSDT": (3, 10, 1, 1)}
    ghost = ("orderbook.50", "GHOSTUSDT")
    sequence_fields = ("u",)
    enum_field = "S"
    category = "linear"
    periods_ms: ClassVar = {1: 10, 50: 20, 200: 100, 1000: 200}  # of the depths that there are

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        name, _, depth = channel.partition(".")
        if channel == "publicTrade":
            return TradeStream(self, key, symbol)
        if name == "orderbook" and depth.isdecimal() and int(depth) in self.periods_ms:
            levels = int(depth)
            period_ns = self.periods_ms[levels] * NS_PER_MS
            return BookStream(self, key, symbol, levels=levels, period_ns=period_ns, is_whole=levels == 1)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n, ts = stream.numbers, now_ns // NS_PER_MS
        return (
            f'{{"topic":"orderbook.{stream.levels}.{stream.symbol}","type":"{"snapshot" if is_snapshot else "delta"}",'
            f'"ts":{ts},"data":{{"s":"{stream.symbol}","b":[{_levels(n, bids)}],"a":[{_levels(n, asks)}],'
            f'"u":{stream.number},"seq":{stream.last_id}}},"cts":{ts}}}'
        )

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        raise NotImplementedError("quotes are books of one level")

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n, ts = stream.numbers, ts_event // NS_PER_MS
        data = ",".join(
            f'{{"T":{ts},"s":"{stream.symbol}","S":"{"Sell" if fill.buyer_is_maker else "Buy"}",'
            f'"v":"{n.qty(fill.qty)}","p":"{n.price(fill.price)}",{self.trade_id(fill)},'
            f'"BT":false,"RPI":false,"seq":{fill.trade_id}}}'
            for fill in fills
        )
        return [f'{{"topic":"publicTrade.{stream.symbol}","type":"snapshot","ts":{ts},"data":[{data}]}}']

    def trade_id(self, fill: Fill) -> str:
        """Write the fields of a trade that differ between the categories."""
        return f'"L":"PlusTick","i":"{uuid.UUID(int=fill.trade_id)}"'

    def instrument(self, market: Market) -> dict[str, Any]:
        """Describe an instrument."""
        return {
            "symbol": market.symbol,
            "contractType": "LinearFutures" if "-" in market.symbol else "LinearPerpetual",
            "status": "Trading",
            "baseCoin": market.base,
            "quoteCoin": market.quote,
            "launchTime": "1584230400000",
            "deliveryTime": "0",
            "priceFilter": {"tickSize": decimal(market.tick, market.price_decimals, market.price_decimals)},
            "lotSizeFilter": {"qtyStep": decimal(market.lot, market.qty_decimals, market.qty_decimals)},
        }

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path != "/v5/market/instruments-info":
            return None
        category = query.get("category")
        listed = [self.instrument(market) for market in self.markets.values()] if category == self.category else []
        result = {"category": category, "list": listed, "nextPageCursor": ""}
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": now_ns // NS_PER_MS}

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"topic":"simulated.BTCUSDT","type":"delta","ts":1,"data":{"x":[1,"two",null]}}'
        return Message("simulated", "", "other", data, to_all=True)


def _levels(numbers: Any, levels: Levels) -> str:
    return ",".join([f'["{numbers.price(price)}","{numbers.qty(qty) if qty else 0}"]' for price, qty in levels])


def _answer(success: bool, ret_msg: str, request: dict[str, Any]) -> bytes:
    request_id, op = request.get("req_id", ""), request.get("op", "")
    return msgspec.json.encode(
        {"success": success, "ret_msg": ret_msg, "conn_id": CONN_ID, "req_id": request_id, "op": op}
    )


SIMULATOR = Bybit
