"""HTX swaps, linear and coin-margined: what spot speaks, with contracts, counted books and a socket for each family.

Funding rates and liquidations, on sockets of their own, are not simulated.
"""

import re
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any, ClassVar

import msgspec

from feeds.simulator.exchanges.htx import HtxExchange, HtxSession, HtxTrades, bare_levels, push
from feeds.simulator.generated import NS_PER_MS, BookStream, Levels, QuoteStream, Stream, TradeStream
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers, decimal
from feeds.simulator.order_flow import NS_PER_SECOND, Fill, Top

LINEAR, INVERSE = "/linear-swap-ws", "/swap-ws"
LISTS = {"/linear-swap-api/v1/swap_contract_info": LINEAR, "/swap-api/v1/swap_contract_info": INVERSE}
BOOKS = {"depth.size_20.high_freq": 20, "depth.size_150.high_freq": 150}  # levels
WHOLE = "+whole"  # behind the channel, inside the simulator: asked for without `"data_type":"incremental"`
SIZES = {"BTC-USDT": "0.001", "ETH-USDT": "0.01", "BTC-USD": "100"}  # coins; USD. Of others: 1 coin, 10 USD
QUANTITIES = Context(prec=38)


class HtxSwapSession(HtxSession):
    pong_timeout = 20.0

    def subscribe(self, channel: str, symbol: str, now_ns: int) -> list[bytes] | None:
        return super().subscribe(channel, symbol, now_ns) if family_of(symbol) == self.path else None

    def unsubscribe(self, channel: str, symbol: str) -> bool:
        channel = channel.removesuffix(WHOLE)
        had_changes = super().unsubscribe(channel, symbol)
        return super().unsubscribe(channel + WHOLE, symbol) or had_changes

    def confirmation(self, request_id: object, done: str, topic: str, ts: int) -> bytes:
        return msgspec.json.encode({"id": request_id, done: topic, "ts": ts, "status": "ok"})

    def stream_of(self, topic: str, request: dict[str, Any]) -> tuple[str, str]:
        channel, symbol = super().stream_of(topic, request)
        is_whole = channel in BOOKS and request.get("data_type") != "incremental"
        return channel + WHOLE if is_whole else channel, symbol


class HtxSwap(HtxExchange):
    name = "htx-swap"
    session = HtxSwapSession
    paths = (LINEAR, INVERSE)
    written = re.compile(r"[A-Z0-9]+-USDT?")
    default_symbols = ("BTC-USDT", "ETH-USDT", "BTC-USD")
    precisions: ClassVar = {
        "BTC-USDT": (1, 1, 0, 1),
        "ETH-USDT": (2, 1, 0, 1),
        "BTC-USD": (1, 1, 0, 1),
        "ETH-USD": (2, 1, 0, 1),
    }
    ghost = ("depth.size_150.high_freq", "GHOST-USDT")
    sequence_fields = ("version",)

    def market(self, symbol: str) -> Market:
        priced = plausible_market(symbol, precision=self.precisions.get(symbol))
        return msgspec.structs.replace(priced, qty_decimals=0, lot=1, typical_qty=200)

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        name = channel.removesuffix(WHOLE)
        if name in BOOKS:
            return BookStream(
                self, key, symbol, levels=BOOKS[name], period_ns=30 * NS_PER_MS, is_whole=channel.endswith(WHOLE)
            )
        if channel == "depth.step0":
            return BookStream(self, key, symbol, levels=150, period_ns=250 * NS_PER_MS, is_whole=True)
        if channel == "bbo":
            return QuoteStream(self, key, symbol)
        if channel == "trade.detail":
            return HtxTrades(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        ts, channel = now_ns // NS_PER_MS, stream.channel.removesuffix(WHOLE)
        bid_levels, ask_levels = bare_levels(stream.numbers, bids), bare_levels(stream.numbers, asks)
        topic = f"market.{stream.symbol}.{channel}"
        if channel == "depth.step0":
            seconds = now_ns // NS_PER_SECOND
            tick = (
                f'{{"mrid":{stream.last_id},"id":{seconds},"bids":[{bid_levels}],"asks":[{ask_levels}],"ts":{ts},'
                f'"version":{seconds},"ch":"{topic}"}}'
            )
            return push(topic, ts, tick)
        event = "snapshot" if is_snapshot else "update"
        tick = (
            f'{{"asks":[{ask_levels}],"bids":[{bid_levels}],"ch":"{topic}","event":"{event}","id":{stream.last_id},'
            f'"mrid":{stream.last_id},"ts":{ts},"version":{stream.number}}}'
        )
        return push(topic, ts, tick)

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n, ts = stream.numbers, ts_event // NS_PER_MS
        topic = f"market.{stream.symbol}.bbo"
        tick = (
            f'{{"mrid":{update_id},"id":{ts_event // NS_PER_SECOND},"bid":[{n.price(top.bid)},{n.qty(top.bid_qty)}],'
            f'"ask":[{n.price(top.ask)},{n.qty(top.ask_qty)}],"ts":{ts},"version":{update_id},"ch":"{topic}"}}'
        )
        return push(topic, ts, tick)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        ts = ts_event // NS_PER_MS
        tick_id = fills[0].trade_id
        data = ",".join(
            f'{{"amount":{stream.numbers.qty(fill.qty)},{self._worth(stream, fill)},"ts":{ts},'
            f'"id":{tick_id * 10_000 + number},"price":{stream.numbers.price(fill.price)},'
            f'"direction":"{"sell" if fill.buyer_is_maker else "buy"}"}}'
            for number, fill in enumerate(fills)
        )
        return [push(f"market.{stream.symbol}.trade.detail", ts, f'{{"id":{tick_id},"ts":{ts},"data":[{data}]}}')]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path not in LISTS:
            return None
        listed = [_contract(market) for market in self.markets.values() if family_of(market.symbol) == LISTS[path]]
        return {"status": "ok", "data": listed, "ts": now_ns // NS_PER_MS}

    @staticmethod
    def _worth(stream: TradeStream, fill: Fill) -> str:
        """Write what contracts are in coins, of linear ones in the quote currency too."""
        price, size = Decimal(stream.numbers.price(fill.price)), Decimal(size_of(stream.symbol)) * fill.qty
        if family_of(stream.symbol) == INVERSE:
            return f'"quantity":{QUANTITIES.divide(size, price):f}'
        return f'"quantity":{size.normalize():f},"trade_turnover":{(size * price).normalize():f}'


def family_of(symbol: str) -> str:
    """Return the socket of a contract."""
    return LINEAR if symbol.endswith("-USDT") else INVERSE


def size_of(symbol: str) -> str:
    """Return what a contract is: coins, or USD."""
    return SIZES.get(symbol, "1" if family_of(symbol) == LINEAR else "10")


def _contract(market: Market) -> dict[str, Any]:
    contract = {
        "symbol": market.base,
        "contract_code": market.symbol,
        "contract_size": msgspec.Raw(f"{Decimal(size_of(market.symbol)):.18f}".encode()),
        "price_tick": msgspec.Raw(decimal(market.tick, market.price_decimals, 18).encode()),
        "delivery_time": "",
        "create_date": "20201021",
        "contract_status": 1,
        "settlement_date": "1645315200000",
    }
    if family_of(market.symbol) == INVERSE:
        return contract
    return contract | {
        "support_margin_mode": "all",
        "business_type": "swap",
        "pair": market.symbol,
        "contract_type": "swap",
        "trade_partition": "USDT",
    }


SIMULATOR = HtxSwap
