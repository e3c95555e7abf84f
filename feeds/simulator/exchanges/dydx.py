"""dYdX v4, its Indexer: one number counts a connection's messages, and books are crossed now and then."""

import re
import uuid
from collections import deque
from collections.abc import Sequence
from itertools import count
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
from feeds.simulator.markets import Market
from feeds.simulator.numbers import Numbers, decimal, iso, shortest
from feeds.simulator.order_flow import NS_PER_SECOND, Book, Fill, Top
from feeds.simulator.protocol import Message, PolicyViolation

CHANNELS = ("v4_orderbook", "v4_trades")
BATCHED = ".batched"  # behind a channel's name: what a period brings, in one message
BATCH_NS = 250 * NS_PER_MS
MAX_SUBSCRIPTIONS = 32  # of one channel


class DydxSession(GeneratedSession):
    """One channel a request; what is not valid is answered, and too much of it ends the connection."""

    per_second: ClassVar[int] = 2  # subscriptions to one stream, and messages that are not valid

    def __init__(self, exchange: GeneratedExchange, path: str) -> None:
        super().__init__(exchange, path)
        self._id = next(self.exchange.connections)
        self._number = -1  # of the newest message
        self._tries: dict[str, deque[int]] = {}  # when they were, of each stream

    def open(self, now_ns: int) -> list[bytes]:
        return [self._send("connected")]

    def encode(self, message: Message) -> bytes | None:
        data = super().encode(message)
        return None if data is None else self._numbered(data)

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        kind = request.get("type") if request is not None else None
        if request is None or kind not in ("subscribe", "unsubscribe", "ping"):
            problem = "Invalid message: could not parse" if request is None else f"Invalid message type: {kind}"
            return [self._limited("") or self._error(problem)]
        if kind == "ping":
            return [self._send("pong", id=request.get("id"))]
        channel, symbol = request.get("channel"), str(request.get("id"))
        if channel not in CHANNELS:
            return [self._limited("") or self._error(f"Invalid channel: {channel}")]
        named = {"channel": channel, "id": symbol}
        subscribed = next((name for name in (channel, channel + BATCHED) if self.has(name, symbol)), None)
        if kind == "unsubscribe":
            if subscribed is not None:
                self.unsubscribe(subscribed, symbol)
            return [self._send("unsubscribed", **named)]
        if symbol not in self.exchange.markets:
            return [self._error(f"Invalid subscription id for channel: ({channel}-{symbol})")]
        if sum(key.startswith(channel) for key in self._names) >= MAX_SUBSCRIPTIONS:
            limit = f"(limit={MAX_SUBSCRIPTIONS})"
            return [self._error(f"Per-connection subscription limit reached for {channel} {limit}.")]
        if limited := self._limited(f"{channel}-{symbol}"):
            return [limited]
        if subscribed is not None:
            problem = f"Invalid subscribe message: already subscribed ({channel}-{symbol})"
            return [self._error(problem, **named)]
        first = self.subscribe(channel + (BATCHED if request.get("batched") else ""), symbol, now_ns)
        if first is None:
            return [self._error(f"Invalid subscription id for channel: ({channel}-{symbol})")]
        return [self._numbered(data) for data in first]

    def _limited(self, stream: str) -> bytes | None:
        """Count a request of which there may be few in a second; return the error that ends the connection."""
        tries, now_ns = self._tries.setdefault(stream, deque(maxlen=self.per_second)), self._heard_ns or 0
        if len(tries) == tries.maxlen and now_ns - tries[0] < NS_PER_SECOND:
            self.ending = PolicyViolation(1008, '{"message":"Rate limited"}')
            what = f"subscribe attempts for channel {stream}" if stream else "invalid messages"
            return self._error(f"Too many {what}. Please reconnect and try again.")
        tries.append(now_ns)
        return None

    def _error(self, text: str, **fields: Any) -> bytes:
        return self._send("error", message=text, **fields)

    def _send(self, kind: str, **fields: Any) -> bytes:
        return self._numbered(msgspec.json.encode({"type": kind} | fields))

    def _numbered(self, data: bytes) -> bytes:
        """Put the message's number behind its type."""
        self._number += 1
        behind = data.find(b'"', len('{"type":"')) + 1
        numbers = b',"connection_id":"%b","message_id":%d' % (str(uuid.UUID(int=self._id)).encode(), self._number)
        return data[:behind] + numbers + data[behind:]


class _Books(BookStream):
    """Books as a validator's neighbours see them: what a newer order took is told with the message behind it."""

    def __init__(self, exchange: "Dydx", key: str, symbol: str) -> None:
        super().__init__(exchange, key, symbol, period_ns=BATCH_NS if BATCHED in key else 0)
        self._untold: tuple[set[int], set[int]] = (set(), set())  # prices of bids and asks that are gone

    def told(self, bids: Levels, asks: Levels) -> tuple[Levels, Levels]:
        """Return changes without levels that have been taken, with those that were before."""
        best_bid = max((price for price, qty in bids if qty), default=0)
        best_ask = min((price for price, qty in asks if qty), default=None)
        taken = (
            {price for price, qty in bids if not qty and best_ask is not None and price >= best_ask},
            {price for price, qty in asks if not qty and price <= best_bid},
        )
        before, self._untold = self._untold, taken
        bids, asks = (
            [(price, 0) for price in sorted(late - {price for price, _ in side})]
            + [level for level in side if level[1] or level[0] not in gone]
            for side, late, gone in zip((bids, asks), before, taken, strict=True)
        )
        return bids, asks


class Dydx(GeneratedExchange):
    name = "dydx"
    session = DydxSession
    ping_interval = 30.0
    pong_timeout = 10.0
    paths = ("/v4/ws",)
    written = re.compile(r"[A-Z0-9,]+-USD")
    default_symbols = ("BTC-USD", "ETH-USD", "SOL-USD")
    precisions: ClassVar = {"BTC-USD": (0, 1, 4, 1), "ETH-USD": (1, 1, 3, 1), "SOL-USD": (2, 1, 1, 1)}
    ghost = ("v4_orderbook", "GHOST-USD")
    enum_field = "side"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connections = count(1)  # their ids

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel.startswith("v4_trades"):
            return RecentTradeStream(self, key, symbol)
        return _Books(self, key, symbol)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        assert isinstance(stream, _Books)
        n = stream.numbers
        if is_snapshot:
            sides = f'{{"bids":[{_objects(n, bids)}],"asks":[{_objects(n, asks)}]}}'
            return f'{{"type":"subscribed","channel":"v4_orderbook","id":"{stream.symbol}","contents":{sides}}}'
        # Only the sides that have changed.
        changed = zip(("bids", "asks"), stream.told(bids, asks), strict=True)
        return _data(stream, "1.0.0", [f'"{name}":[{n.levels(levels)}]' for name, levels in changed if levels])

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        raise NotImplementedError("the best prices are those of books")

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        trades = ",".join(_trade(stream.numbers, ts_event, fill) for fill in fills)
        return [_data(stream, "1.1.0", [f'"trades":[{trades}]'])]

    def backlog(self, stream: TradeStream, now_ns: int, trades: Sequence[tuple[int, Fill]]) -> Sequence[str]:
        listed = ",".join(_trade(stream.numbers, ts_event, fill, has_height=True) for ts_event, fill in trades)
        return [
            f'{{"type":"subscribed","channel":"v4_trades","id":"{stream.symbol}","contents":{{"trades":[{listed}]}}}}'
        ]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path == "/v4/perpetualMarkets":
            listed = enumerate(self.markets.values())
            return {"markets": {market.symbol: _market(number, market) for number, market in listed}}
        symbol = path.removeprefix("/v4/orderbooks/perpetualMarket/")
        if symbol in self.markets:
            return msgspec.Raw(self._orderbook(self.source.current_book(symbol, None)).encode())
        return None

    def _orderbook(self, book: Book) -> str:
        n = self.numbers[book.symbol]
        return f'{{"bids":[{_objects(n, book.bids)}],"asks":[{_objects(n, book.asks)}]}}'

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"type":"simulated","id":"BTC-USD","channel":"v4_simulated","contents":{"x":[1,"two",null]}}'
        return Message("simulated", "", "other", data, to_all=True)


def _objects(numbers: Numbers, levels: Levels) -> str:
    return ",".join(f'{{"price":"{numbers.price(price)}","size":"{numbers.qty(qty)}"}}' for price, qty in levels)


def _data(stream: Stream, version: str, fields: Sequence[str]) -> str:
    """Write a message of fields of its contents; a batch has each in an object."""
    is_batch = stream.channel.endswith(BATCHED)
    contents = f"[{','.join(f'{{{field}}}' for field in fields)}]" if is_batch else f"{{{','.join(fields)}}}"
    return (
        f'{{"type":"channel_{"batch_" if is_batch else ""}data","id":"{stream.symbol}",'
        f'"channel":"{stream.channel.removesuffix(BATCHED)}","version":"{version}","contents":{contents}}}'
    )


def _trade(numbers: Numbers, ts_event: int, fill: Fill, *, has_height: bool = False) -> str:
    height = f',"createdAtHeight":"{ts_event // NS_PER_SECOND}"' if has_height else ""  # about a block a second
    return (
        f'{{"id":"{fill.trade_id:024x}","size":"{numbers.qty(fill.qty)}","price":"{numbers.price(fill.price)}",'
        f'"side":"{"SELL" if fill.buyer_is_maker else "BUY"}","createdAt":"{iso(ts_event, 3)}","type":"LIMIT"{height}}}'
    )


def _market(number: int, market: Market) -> dict[str, Any]:
    return {
        "clobPairId": str(number),
        "ticker": market.symbol,
        "status": "ACTIVE",
        "atomicResolution": -10,
        "quantumConversionExponent": -9,
        "tickSize": shortest(decimal(market.tick, market.price_decimals, market.price_decimals)),
        "stepSize": shortest(decimal(market.lot, market.qty_decimals, market.qty_decimals)),
        "stepBaseQuantums": 1_000_000,
        "subticksPerTick": 100_000,
        "marketType": "CROSS",
    }


SIMULATOR = Dydx
