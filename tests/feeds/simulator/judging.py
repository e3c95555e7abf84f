"""What simulated exchanges are to the tests, and whether a feed's books are the true ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from feeds.book import BookState, OrderBook
from feeds.events import BookStatus, BookUpdate, EventHandler, Quote, Trade
from feeds.simulator.order_flow import OrderFlow

START_NS = 1_700_000_000_000_000_000
MS, US = 1_000_000, 1_000


class Case(msgspec.Struct, frozen=True):
    """One exchange, as the tests use it."""

    exchange: str
    symbols: tuple[str, str]  # the first is struck by faults
    books: str = ""  # the stream of the first symbol's book
    channels: tuple[str, ...] = ("book", "quote", "trade")
    resolution: int = MS  # of event times
    has_times: bool = True  # in messages of books
    field: str = ""  # without which a book message cannot be used
    has_rest_books: bool = False
    depth: int | None = None  # of the books; None: whole
    is_numbered_as_one: bool = False  # messages are numbered per connection, whatever they are about
    is_in_parts: bool = False  # one change of a book comes in several messages
    has_update_ids: bool = False  # those of the order flow, in books too
    unlisted: str = "unknown_symbol"  # what a message about a symbol that is not listed is counted as
    repeats: float = 0.0  # seconds after which books come whole again, where nothing shows that a message is missing
    wait: float = 0.0  # seconds that a book may have to wait for the next snapshot: none can be asked for
    checked: int | None = None  # levels of which the protocol shows that they are right; None: all

    def __str__(self) -> str:
        return self.exchange


CASES = [
    Case(
        "bitfinex",
        ("tBTCUSD", "tETHUSD"),
        "book-250.F0:tBTCUSD",
        field="seq",
        is_numbered_as_one=True,
        is_in_parts=True,
        unlisted="unknown_channel",
    ),
    Case("bitflyer", ("BTC_JPY", "FX_BTC_JPY"), "board:BTC_JPY", has_times=False, repeats=5.0, wait=5.0),
    Case("bitget", ("BTCUSDT", "ETHUSDT"), "books:BTCUSDT", field="ts"),
    Case("bithumb", ("KRW-BTC", "KRW-ETH"), "orderbook:KRW-BTC", ("book", "trade"), US, depth=14),  # and one of dust
    Case("bitmex", ("XBTUSD", "ETHUSD"), "orderBookL2:XBTUSD", is_in_parts=True),
    Case("bitstamp", ("btcusd", "ethusd"), "diff_order_book:btcusd", ("book", "trade"), US, has_rest_books=True),
    Case("bybit", ("BTCUSDT", "ETHUSDT"), "orderbook.1000:BTCUSDT", field="u"),
    Case("bybit-spot", ("BTCUSDT", "ETHUSDT"), "orderbook.1000:BTCUSDT", field="u"),
    Case("coinbase", ("BTC-USD", "ETH-USD"), "level2_batch:BTC-USD", resolution=US),
    Case("coinbase-advanced", ("BTC-USD", "ETH-USD"), "level2:BTC-USD", resolution=US, is_numbered_as_one=True),
    Case("crypto-com", ("BTC_USDT", "ETH_USDT"), "book.50:BTC_USDT", field="u"),
    Case("deribit", ("BTC-PERPETUAL", "ETH-PERPETUAL"), "book.100ms:BTC-PERPETUAL", field="change_id"),
    Case(
        "dydx",
        ("BTC-USD", "ETH-USD"),
        "v4_orderbook:BTC-USD",
        ("book", "trade"),
        has_times=False,
        is_numbered_as_one=True,
    ),
    Case("gateio", ("BTC_USDT", "ETH_USDT"), "obu.400:BTC_USDT", field="u"),
    Case("gateio-futures", ("BTC_USDT", "ETH_USDT"), "obu.400:BTC_USDT", field="u"),
    Case("gemini", ("btcusd", "ethusd"), "depth@100ms:btcusd", resolution=1, field="u"),
    Case("htx", ("btcusdt", "ethusdt"), "mbp.400:btcusdt", field="seqNum"),
    Case("htx-swap", ("BTC-USDT", "ETH-USD"), "depth.size_150.high_freq:BTC-USDT", field="version"),
    Case("hyperliquid", ("BTC", "ETH"), "l2Book.fast:BTC", ("book_top", "quote", "trade"), depth=5),
    Case("kraken", ("BTC/USD", "ETH/USD"), "book-1000:BTC/USD", resolution=US, checked=10),
    Case("kraken-futures", ("PF_XBTUSD", "PF_ETHUSD"), "book:PF_XBTUSD", field="seq", is_in_parts=True),
    Case("kucoin", ("BTC-USDT", "ETH-USDT"), "/market/level2:BTC-USDT", field="sequenceEnd", has_rest_books=True),
    Case(
        "mexc",
        ("BTCUSDT", "ETHUSDT"),
        "aggre.depth@10ms:BTCUSDT",
        field="toVersion",
        has_rest_books=True,
        has_update_ids=True,
    ),
    Case("okx", ("BTC-USDT", "ETH-USDT"), "books:BTC-USDT", field="bids"),
    Case("phemex", ("BTCUSD", "ETHUSDT"), "orderbook.0:BTCUSD", ("book", "trade"), 1, repeats=60.0),
    Case("upbit", ("KRW-BTC", "KRW-ETH"), "orderbook:KRW-BTC", ("book", "trade"), depth=30),
]


# Other markets of the same exchanges, with messages of their own.
MORE_CASES = [
    Case(
        "mexc",
        ("BTC_USDT", "ETH_USDT"),
        "depth:BTC_USDT",
        ("book", "trade"),
        field="version",
        has_rest_books=True,
        has_update_ids=True,
    ),
]


class Truth:
    """The true books of the past: an order flow like the simulator's, run beside it."""

    def __init__(self, flow: OrderFlow, resolution: int) -> None:
        self._real = flow
        self._flow = OrderFlow(flow.markets, flow.config, start_ns=START_NS)
        self._resolution = resolution
        self._markets = {market.symbol: market for market in flow.markets}
        self._past: dict[str, list[tuple[int, Any]]] = {}
        self._since = dict.fromkeys(self._markets, 0)  # of the past of a symbol, where `has_lately` last found a book
        for symbol in self._markets:
            self._remember(symbol, 0)

    def has(self, symbol: str, ts_event: int, bids: list[Any], asks: list[Any], levels: int | None = None) -> bool:
        """Whether a book was so at that time of the exchange, as exactly as it tells its times."""
        self._run(ts_event + self._resolution)
        if ts_event > self._real.next_ns:
            return False
        found = (bids, asks)
        for ts, book in reversed(self._past[symbol]):
            if ts < ts_event + self._resolution and self._decimals(symbol, book, levels) == found:
                return True
            if ts <= ts_event:
                return False
        return False

    def has_lately(self, symbol: str, bids: list[Any], asks: list[Any], levels: int | None = None) -> bool:
        """Whether a book was so between the one that was asked for before and now: for messages without times."""
        self._run(self._real.ts_event + 1)
        past = self._past[symbol]
        for index in range(self._since[symbol], len(past)):
            if self._decimals(symbol, past[index][1], levels) == (bids, asks):
                self._since[symbol] = index
                return True
        return False

    def has_at(self, symbol: str, update_id: int, bids: list[Any], asks: list[Any]) -> bool:
        """Whether a book was so after that change."""
        book = self._real.book_at(symbol, update_id)
        return bool(self._decimals(symbol, (book.bids, book.asks), None) == (bids, asks))

    def has_now(self, symbol: str, bids: list[Any], asks: list[Any], levels: int | None = None) -> bool:
        """Whether a book is so at this moment."""
        book = self._real.book(symbol)
        return bool(self._decimals(symbol, (book.bids, book.asks), levels) == (bids, asks))

    def _run(self, before_ns: int) -> None:
        while self._flow.next_ns < before_ns:
            for name in {update.symbol for update in self._flow.next_burst()}:
                self._remember(name, self._flow.ts_event)

    def _remember(self, symbol: str, ts: int) -> None:
        book = self._flow.book(symbol)
        self._past.setdefault(symbol, []).append((ts, (book.bids, book.asks)))

    def _decimals(self, symbol: str, book: Any, levels: int | None) -> Any:
        market = self._markets[symbol]

        def exact(side: Any) -> list[tuple[Decimal, Decimal]]:
            return [
                (
                    Decimal(price * market.tick).scaleb(-market.price_decimals),
                    Decimal(qty * market.lot).scaleb(-market.qty_decimals),
                )
                for price, qty in side[:levels]
            ]

        return exact(book[0]), exact(book[1])


class Judge(EventHandler):
    """Compares every LIVE book, at every callback, with the true book of its moment."""

    def __init__(self, truth: Truth, case: Case) -> None:
        self._truth = truth
        self._is_in_parts = case.is_in_parts
        self._has_update_ids = case.has_update_ids
        self._has_times = case.has_times
        self._doubtful: dict[str, int] = {}
        self.levels = case.depth  # that are compared
        self.skews_ns = [0]  # how far the exchange's clock has been ahead of its order flow
        self.books: dict[str, OrderBook] = {}
        self.updates: dict[str, int] = {}
        self.wrong: list[str] = []
        self.states: dict[str, list[str]] = {}
        self.quotes: list[Quote] = []
        self.trades: list[Trade] = []

    def on_book(self, event: BookUpdate) -> None:
        book, symbol = event.book, event.instrument.raw_symbol
        self.books[symbol] = book
        self.updates[symbol] = self.updates.get(symbol, 0) + 1
        doubtful = self._doubtful.pop(symbol, book.ts_event)
        if doubtful != book.ts_event:
            self.wrong.append(f"{symbol} at {doubtful}")
        if book.state == BookState.LIVE and not self.is_true(symbol):
            if self._is_in_parts:
                self._doubtful[symbol] = book.ts_event  # until the rest of this change has come
            else:
                self.wrong.append(f"{symbol} at {book.ts_event}")

    def is_true(self, symbol: str) -> bool:
        book = self.books[symbol]
        bids, asks = book.exact(0)[: self.levels], book.exact(1)[: self.levels]
        if self._has_update_ids:
            return self._truth.has_at(symbol, book.last_id, bids, asks)
        if not self._has_times:
            return self._truth.has_lately(symbol, bids, asks, self.levels)
        return any(
            self._truth.has(symbol, book.ts_event - skew, bids, asks, self.levels) for skew in reversed(self.skews_ns)
        )

    def is_current(self, symbol: str) -> bool:
        """Whether a symbol's book is as the exchange has it at this moment."""
        book = self.books[symbol]
        return self._truth.has_now(symbol, book.exact(0)[: self.levels], book.exact(1)[: self.levels], self.levels)

    def on_book_status(self, event: BookStatus) -> None:
        self.states.setdefault(event.instrument.raw_symbol, []).append(event.new.name)
        self._doubtful.pop(event.instrument.raw_symbol, None)

    def on_quote(self, event: Quote) -> None:
        self.quotes.append(event)

    def on_trade(self, event: Trade) -> None:
        self.trades.append(event)

    def is_live(self, symbol: str) -> bool:
        return symbol in self.books and self.books[symbol].state == BookState.LIVE
