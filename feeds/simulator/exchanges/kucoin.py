"""KuCoin spot, the classic sockets: a ticket by POST, books joined to a snapshot by REST."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
from feeds.simulator.numbers import Numbers, decimal
from feeds.simulator.order_flow import Book, Fill, Top
from feeds.simulator.protocol import HttpReply, Message, Refused

TOKEN = "2neAiuYvAU61ZDXANAGAsiL4-iAExhsBXZxftpOeh_55i3Ysy2q2LEsEWU64mdzUOPusi34M_wGoSf7iNyEWJ1UQy47YbpY4"
BOOK_PATH = "/api/v1/market/orderbook/level2_100"
FUTURES = "/api-futures.kucoin.com"
SNAPSHOT_LEVELS = 100
MAX_SYMBOLS = 100  # of one subscription
CHANNELS = {
    "/market/level2",
    "/market/match",
    "/spotMarket/level1",
    "/spotMarket/level2Depth5",
    "/spotMarket/level2Depth50",
}


class KucoinSession(GeneratedSession):
    """Greets; acknowledges unknown symbols, which stay silent; ends without pings though data flow."""

    idle_timeout = 60.0
    idle_ending = (1000, "Bye")
    messages_per_second = 10

    def open(self, now_ns: int) -> list[bytes]:
        return [msgspec.json.encode({"id": self.path, "type": "welcome"})]

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_error("", 500, "invalid request data")]
        request_id, kind = str(request.get("id", "")), request.get("type")
        if kind == "ping":
            return [msgspec.json.encode({"id": request_id, "type": "pong", "timestamp": now_ns // 1000})]
        topic = request.get("topic")
        if kind not in ("subscribe", "unsubscribe") or not isinstance(topic, str):
            return [_error(request_id, 400, f"type {kind} is not supported")]
        channel, _, names = topic.partition(":")
        symbols = names.split(",")
        if channel not in CHANNELS:
            return [_error(request_id, 404, f"topic {topic} is not found")]
        if len(symbols) > MAX_SYMBOLS:
            return [_error(request_id, 509, f"exceed max subscription count limitation of {MAX_SYMBOLS} per time")]
        first: list[bytes] = []
        for symbol in symbols:
            if kind == "unsubscribe":
                self.unsubscribe(channel, symbol)
                continue
            found = self.subscribe(channel, symbol, now_ns)
            if found is not None:
                first += found
            elif symbol in self.exchange.markets:
                return [_error(request_id, 404, f"topic {topic} is not found")]
        ack = [msgspec.json.encode({"id": request_id, "type": "ack"})] if request.get("response") else []
        return [*ack, *first]


class Kucoin(GeneratedExchange):
    name = "kucoin"
    session = KucoinSession
    answers_posts = True
    written = re.compile(r"[A-Z0-9]+-[A-Z0-9]+")
    default_symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
    ghost = ("/market/level2", "GHOST-USDT")
    sequence_fields = ("sequenceStart", "sequenceEnd")
    enum_field = "side"

    def connect(self, target: str) -> GeneratedSession:
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        if query.get("token") != [TOKEN]:
            raise Refused(HttpReply(401, b'{"code":401,"data":"token is invalid"}'))
        return KucoinSession(self, query.get("connectId", [""])[0])

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "/market/level2":
            return BookStream(self, key, symbol, has_snapshot=False)
        if channel.startswith("/spotMarket/level2Depth"):
            levels = int(channel.removeprefix("/spotMarket/level2Depth"))
            return BookStream(self, key, symbol, levels=levels, period_ns=100 * NS_PER_MS, is_whole=True)
        if channel == "/spotMarket/level1":
            return QuoteStream(self, key, symbol)
        if channel == "/market/match":
            return TradeStream(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n, ts = stream.numbers, now_ns // NS_PER_MS
        if stream.kind == "book":
            data = f'{{"asks":[{n.levels(asks)}],"bids":[{n.levels(bids)}],"timestamp":{ts}}}'
            return _push(stream, "level2", data)
        # Orders of an instant make one message: what an order undid within it has no change of its own.
        numbers = iter(range(stream.last_id - len(bids) - len(asks) + 1, stream.last_id + 1))
        sides = [
            ",".join(f'["{n.price(price)}","{n.qty(qty)}","{next(numbers)}"]' for price, qty in side)
            for side in (asks, bids)
        ]
        return _push(
            stream,
            "trade.l2update",
            f'{{"sequenceStart":{stream.previous_id + 1},"sequenceEnd":{stream.last_id},"symbol":"{stream.symbol}",'
            f'"time":{ts},"changes":{{"asks":[{sides[0]}],"bids":[{sides[1]}]}}}}',
        )

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        data = (
            f'{{"asks":["{n.price(top.ask)}","{n.qty(top.ask_qty)}"],'
            f'"bids":["{n.price(top.bid)}","{n.qty(top.bid_qty)}"],"timestamp":{ts_event // NS_PER_MS}}}'
        )
        return _push(stream, "level1", data)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        return [
            _push(
                stream,
                "trade.l3match",
                f'{{"symbol":"{stream.symbol}","sequence":"{fill.trade_id}",'
                f'"side":"{"sell" if fill.buyer_is_maker else "buy"}","size":"{n.qty(fill.qty)}",'
                f'"price":"{n.price(fill.price)}","takerOrderId":"6085c097","time":"{ts_event}","type":"match",'
                f'"makerOrderId":"6085c096","tradeId":"{fill.trade_id}"}}',
            )
            for fill in fills
        ]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        data: object = []
        if path.removeprefix(FUTURES) == "/api/v1/bullet-public":
            server = {"endpoint": f"{self.ws_url}/", "encrypt": False, "protocol": "websocket"}
            server |= {"pingInterval": 18000, "pingTimeout": 10000}
            data = {"token": TOKEN, "instanceServers": [server]}
        elif path == "/api/v2/symbols":
            data = [_symbol(market) for market in self.markets.values()]
        elif path == BOOK_PATH:
            return {"code": "400100", "msg": "symbol not exists"}
        elif path.removeprefix(FUTURES) != "/api/v1/contracts/active":
            return None
        return {"code": "200000", "data": data}

    def snapshot_symbol(self, target: str) -> str | None:
        parts = urlsplit(target)
        return parse_qs(parts.query).get("symbol", [None])[0] if parts.path == BOOK_PATH else None

    def snapshot_levels(self, query: dict[str, str]) -> int:
        return SNAPSHOT_LEVELS

    def rest_book(self, book: Book, numbers: Numbers, now_ns: int) -> bytes:
        return (
            f'{{"code":"200000","data":{{"time":{book.ts_event // NS_PER_MS},"sequence":"{book.update_id}",'
            f'"bids":[{numbers.levels(book.bids)}],"asks":[{numbers.levels(book.asks)}]}}}}'
        ).encode()

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"type":"message","topic":"/simulated:BTC-USDT","subject":"simulated","data":{"x":[1,"two",null]}}'
        return Message("simulated", "", "other", data, to_all=True)


def _push(stream: Stream, subject: str, data: str) -> str:
    return f'{{"type":"message","topic":"{stream.key}","subject":"{subject}","data":{data}}}'


def _error(request_id: str, code: int, data: str) -> bytes:
    return msgspec.json.encode({"id": request_id, "type": "error", "code": code, "data": data})


def _symbol(market: Market) -> dict[str, Any]:
    return {
        "symbol": market.symbol,
        "name": market.symbol,
        "baseCurrency": market.base,
        "quoteCurrency": market.quote,
        "priceIncrement": decimal(market.tick, market.price_decimals, market.price_decimals),
        "baseIncrement": decimal(market.lot, market.qty_decimals, market.qty_decimals),
        "enableTrading": True,
    }


SIMULATOR = Kucoin
