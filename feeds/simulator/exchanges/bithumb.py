"""Bithumb: Upbit's protocol with 15 levels, sizes of four decimals, and levels whose size is rounded to nothing."""

from datetime import timedelta, timezone
from typing import ClassVar

import msgspec

from feeds.simulator.exchanges.upbit import Upbit, UpbitSession, clock, day, totals, units
from feeds.simulator.generated import BookStream, Levels, TradeStream
from feeds.simulator.markets import Market
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import Fill

KOREA = timezone(timedelta(hours=9))
QTY_DECIMALS = 4


class BithumbSession(UpbitSession):
    """Options are spelt one way, and messages are not counted."""

    messages_per_second = None
    messages_per_minute = None
    options: ClassVar = {"snapshot": ("isOnlySnapshot",), "realtime": ("isOnlyRealtime",)}


class Bithumb(Upbit):
    name = "bithumb"
    session = BithumbSession
    precisions: ClassVar = {"KRW-BTC": (0, 1000, 4, 1), "KRW-ETH": (0, 1000, 4, 1), "KRW-SOL": (0, 100, 4, 1)}
    depths: ClassVar = {
        "orderbook": 15,
        "orderbook.1": 1,
        "orderbook.5": 5,
        "orderbook.15": 15,
        "orderbook.30": 15,
    }

    def market(self, symbol: str) -> Market:
        market = super().market(symbol)
        if market.qty_decimals > QTY_DECIMALS:
            typical = market.typical_qty * market.lot // 10 ** (market.qty_decimals - QTY_DECIMALS)
            market = msgspec.structs.replace(market, qty_decimals=QTY_DECIMALS, lot=1, typical_qty=max(8, typical))
        return market

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n = stream.numbers
        if bids and asks and bids[0][0] + 1 < asks[0][0]:  # an order that is too small to be seen
            bids = [(bids[0][0] + 1, 0), *bids][: stream.levels]
        return (
            f'{{"type":"orderbook","code":"{stream.symbol}",{totals(n, bids, asks)},'
            f'"orderbook_units":[{units(n, bids, asks)}],"level":1,"timestamp":{now_ns // 1000},'
            f'"stream_type":"REALTIME"}}'
        )

    def trade(self, stream: TradeStream, ts_event: int, fill: Fill, stream_type: str) -> str:
        n, ts_us = stream.numbers, ts_event // 1000
        return (
            f'{{"type":"trade","code":"{stream.symbol}","trade_price":{n.price(fill.price)},'
            f'"trade_volume":{n.qty(fill.qty)},"ask_bid":"{"ASK" if fill.buyer_is_maker else "BID"}",'
            f'{self.change(stream.symbol, fill.price)},"trade_date":"{day(ts_event, KOREA)}",'
            f'"trade_time":"{clock(ts_event, KOREA)}","trade_timestamp":{ts_us // 1000},'
            f'"sequential_id":{ts_us * 1000 + fill.trade_id % 1000},"timestamp":{ts_us // 1000},'
            f'"stream_type":"{stream_type}"}}'
        )


SIMULATOR = Bithumb
