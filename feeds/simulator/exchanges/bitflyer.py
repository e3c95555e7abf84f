"""bitFlyer: JSON-RPC, and books of two channels: changes, and a snapshot every five seconds."""

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
    Stream,
    TradeStream,
    json_reply,
)
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers, iso
from feeds.simulator.order_flow import NS_PER_SECOND, Fill, Top, Update
from feeds.simulator.protocol import Message

LEVELS = 300
BOARD_NS = 100 * NS_PER_MS
SNAPSHOT_NS = 5 * NS_PER_SECOND
TICKER_NS = 500 * NS_PER_MS
_CHANNEL = re.compile(r"lightning_(board_snapshot|board|executions|ticker)_(.+)")


class BitflyerSession(GeneratedSession):
    """Calls alone or in batches; one without an id is not answered, and a product that there is not stays silent."""

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        try:
            decoded = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return [msgspec.json.encode(_failure(None, -32700, "Parse error"))]
        if not isinstance(decoded, list):
            return [msgspec.json.encode(answer) for answer in self._call(decoded, now_ns)]
        answers = [answer for call in decoded for answer in self._call(call, now_ns)]
        return [msgspec.json.encode(answers)] if answers else []

    def _call(self, call: Any, now_ns: int) -> list[dict[str, Any]]:
        """Do what is asked; return the answer, none to a call without an id."""
        if not isinstance(call, dict):
            return [_failure(None, -32600, "Invalid Request")]
        call_id, method, params = call.get("id"), call.get("method"), call.get("params")
        found = _CHANNEL.fullmatch(str(params.get("channel"))) if isinstance(params, dict) else None
        answer = {"jsonrpc": "2.0", "id": call_id, "result": True}
        if method not in ("subscribe", "unsubscribe"):
            answer = _failure(call_id, -32601, "Method not found")
        elif found is None:
            answer = _failure(call_id, -32602, "invalid channel")
        elif method == "unsubscribe":
            self.unsubscribe(found[1], found[2])
        elif self.has(found[1], found[2]):
            answer = _failure(call_id, -32009, "already subscribed")
        else:
            self.subscribe(found[1], found[2], now_ns)
        return [answer] if "id" in call else []


class Bitflyer(GeneratedExchange):
    name = "bitflyer"
    refuses_subscriptions = False
    session = BitflyerSession
    ping_interval = 15.0
    paths = ("/json-rpc",)
    written = re.compile(r"(FX_)?[A-Z]+_[A-Z]+")
    default_symbols = ("BTC_JPY", "FX_BTC_JPY", "ETH_JPY")
    precisions: ClassVar = {"BTC_JPY": (0, 1, 8, 1), "FX_BTC_JPY": (0, 1, 8, 1), "ETH_JPY": (0, 1, 8, 1)}
    ghost = ("board", "GHOST_JPY")
    enum_field = "side"

    def market(self, symbol: str) -> Market:
        market = plausible_market(symbol.removeprefix("FX_"), precision=self.precisions.get(symbol))
        return msgspec.structs.replace(market, symbol=symbol)

    def number_format(self, market: Market) -> Numbers:
        return _Floats(market)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "board":
            return BookStream(self, key, symbol, levels=LEVELS, period_ns=BOARD_NS, has_snapshot=False)
        if channel == "board_snapshot":
            return _Snapshots(self, key, symbol)
        if channel == "ticker":
            return _Tickers(self, key, symbol)
        return TradeStream(self, key, symbol)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        return _message(stream, self.board(stream.symbol, bids, asks))

    def board(self, symbol: str, bids: Levels, asks: Levels) -> str:
        """Write levels, with the mid price that the book has with them."""
        top = self.flow_of(symbol).top(symbol)
        n = self.numbers[symbol]
        mid = n.price((top.bid + top.ask) // 2)  # cut off where there is half a tick
        return f'{{"mid_price":{mid},"bids":[{_levels(n, bids)}],"asks":[{_levels(n, asks)}]}}'

    def snapshot(self, symbol: str) -> str:
        """Write the best levels, the lowest price first."""
        book = self.flow_of(symbol).book(symbol, levels=LEVELS)
        return self.board(symbol, book.bids[::-1], book.asks)

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        assert isinstance(stream, _Tickers)
        n, flow = stream.numbers, self.flow_of(stream.symbol)
        book = flow.book(stream.symbol)
        bid_depth, ask_depth = (n.qty(sum(qty for _, qty in side)) for side in (book.bids, book.asks))
        last = n.price(stream.last_price or top.bid)
        volume = n.qty(stream.volume)
        return _message(
            stream,
            f'{{"product_code":"{stream.symbol}","state":"RUNNING","timestamp":"{iso(ts_event, 7)}",'
            f'"tick_id":{update_id},"best_bid":{n.price(top.bid)},"best_ask":{n.price(top.ask)},'
            f'"best_bid_size":{n.qty(top.bid_qty)},"best_ask_size":{n.qty(top.ask_qty)},'
            f'"total_bid_depth":{bid_depth},"total_ask_depth":{ask_depth},"market_bid_size":0.0,"market_ask_size":0.0,'
            f'"ltp":{last},"volume":{volume},"volume_by_product":{volume},"preopen_end":null,"circuit_break_end":null}}',
        )

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n, time = stream.numbers, iso(ts_event, 7)
        order = f"JRF{time[:10].replace('-', '')}-{time[11:19].replace(':', '')}"
        executions = ",".join(
            f'{{"id":{fill.trade_id},"side":"{"SELL" if fill.buyer_is_maker else "BUY"}","price":{n.price(fill.price)},'
            f'"size":{n.qty(fill.qty)},"exec_date":"{time}","buy_child_order_acceptance_id":"{order}-000001",'
            f'"sell_child_order_acceptance_id":"{order}-000002"}}'
            for fill in fills
        )
        return [_message(stream, f"[{executions}]")]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path in ("/v1/getmarkets", "/v1/getmarkets/usa", "/v1/getmarkets/eu"):  # the same here; there they overlap
            return [
                {"product_code": symbol, "market_type": "FX" if symbol.startswith("FX_") else "Spot"}
                for symbol in self.markets
            ]
        if path != "/v1/getboard":
            return None
        symbol = query.get("product_code", self.default_symbols[0])
        if symbol not in self.markets:
            return json_reply(404, {"status": -1, "error_message": "Invalid product", "data": None})
        return msgspec.Raw(self.snapshot(symbol).encode())

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"jsonrpc":"2.0","method":"simulated","params":{"x":[1,"two",null]}}'
        return Message("simulated", "", "other", data, to_all=True)


class _Floats(Numbers):
    """Numbers with a decimal at least: 13634496.0, 0.0160328."""

    def __init__(self, market: Market) -> None:
        super().__init__(market, is_short=True)

    def price(self, ticks: int) -> str:
        return _float(super().price(ticks))

    def qty(self, lots: int) -> str:
        return _float(super().qty(lots))


class _Snapshots(Stream):
    """The book of a moment, at the end of every period, whether something has changed or not."""

    def __init__(self, exchange: Bitflyer, key: str, symbol: str) -> None:
        super().__init__(key, symbol, SNAPSHOT_NS)
        self._exchange = exchange

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        text = _message(self, self._exchange.snapshot(self.symbol))
        out.append(Message(self.key, self.symbol, "book", text.encode()))


class _Tickers(QuoteStream):
    """Best prices, and what was traded since somebody subscribed, at most twice a second."""

    def __init__(self, exchange: Bitflyer, key: str, symbol: str) -> None:
        super().__init__(exchange, key, symbol)
        self.period_ns = TICKER_NS
        self.last_price = 0
        self.volume = 0
        self._is_told = True

    def on_update(self, update: Update, out: list[Message]) -> None:
        if update.top is not None or update.fills:
            self._is_told = False
        for fill in update.fills:
            self.last_price = fill.price
            self.volume += fill.qty

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        if not self._is_told:
            self._is_told = True
            out.extend(Message(self.key, self.symbol, self.kind, data) for data in super().first(now_ns))

    def first(self, now_ns: int) -> list[bytes]:
        return []


def _float(text: str) -> str:
    return text if "." in text else f"{text}.0"


def _levels(numbers: Numbers, levels: Levels) -> str:
    price, qty = numbers.price, numbers.qty
    return ",".join([f'{{"price":{price(ticks)},"size":{qty(lots)}}}' for ticks, lots in levels])


def _message(stream: Stream, message: str) -> str:
    channel = f"lightning_{stream.channel}_{stream.symbol}"
    return f'{{"jsonrpc":"2.0","method":"channelMessage","params":{{"channel":"{channel}","message":{message}}}}}'


def _failure(call_id: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": message}}


SIMULATOR = Bitflyer
