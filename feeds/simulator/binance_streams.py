"""Order flow as Binance's streams: what changed in the true book becomes diffs, partial books, quotes and trades."""

from feeds.simulator.binance_wire import MICROSECONDS, NS_PER_MS, Dialect, parse_stream
from feeds.simulator.generated import GeneratedSource, Stream, only_for
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import Fill, OrderFlow, Update
from feeds.simulator.protocol import Message

_TICK_NS = 50 * NS_PER_MS  # every stream speed is a multiple of it


class _Stream(Stream):
    def __init__(self, key: str, symbol: str, dialect: Dialect, numbers: Numbers, period_ns: int) -> None:
        super().__init__(key, symbol, period_ns)
        self._dialect = dialect
        self._numbers = numbers
        self._unit_ns = 1_000 if key.endswith(MICROSECONDS) else NS_PER_MS

    def _send(self, text: str, out: list[Message]) -> None:
        out.append(Message(self.key, self.symbol, self.kind, text.encode()))


class _Diffs(_Stream):
    """`@depth`: the levels that changed in a period, with their newest quantities."""

    kind = "delta"

    def __init__(self, key: str, symbol: str, dialect: Dialect, numbers: Numbers, period_ns: int, last_id: int) -> None:
        super().__init__(key, symbol, dialect, numbers, period_ns)
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._first_id = 0  # 0: nothing changed in this period
        self._last_id = last_id
        self._previous_id = last_id
        self._ts_event = 0

    def on_update(self, update: Update, out: list[Message]) -> None:
        changes = update.changes
        if not self._first_id:
            self._first_id = changes[0].update_id
        for change in changes:
            side = self._bids if change.is_bid else self._asks
            side[change.price] = change.qty
        self._last_id = changes[-1].update_id
        self._ts_event = update.ts_event
        if not self.period_ns:
            self.on_tick(update.ts_event, out)

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        if not self._first_id:
            return
        ids = (self._first_id, self._last_id, self._previous_id)
        now, ts = now_ns // self._unit_ns, self._ts_event // self._unit_ns
        self._send(self._dialect.diff(self.symbol, self._numbers, now, ts, ids, self._bids, self._asks), out)
        self._previous_id = self._last_id
        self._first_id = 0
        self._bids.clear()
        self._asks.clear()


class _PartialBook(_Stream):
    """`@depth5`, `10`, `20`: the best levels, when the book has changed in a period."""

    kind = "book"

    def __init__(
        self, key: str, symbol: str, dialect: Dialect, numbers: Numbers, period_ns: int, levels: int, flow: OrderFlow
    ) -> None:
        super().__init__(key, symbol, dialect, numbers, period_ns)
        self._levels = levels
        self._flow = flow
        self._first_id = 0
        self._last_id = self._previous_id = flow.last_id(symbol)
        self._ts_event = 0

    def on_update(self, update: Update, out: list[Message]) -> None:
        if not self._first_id:
            self._first_id = update.changes[0].update_id
        self._last_id = update.changes[-1].update_id
        self._ts_event = update.ts_event

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        if not self._first_id:
            return
        book = self._flow.book(self.symbol, levels=self._levels)
        ids = (self._first_id, self._last_id, self._previous_id)
        now, ts = now_ns // self._unit_ns, self._ts_event // self._unit_ns
        self._send(self._dialect.partial(self.symbol, self._numbers, now, ts, ids, book), out)
        self._previous_id = self._last_id
        self._first_id = 0


class _BookTicker(_Stream):
    """`@bookTicker`: every change of the best bid and offer."""

    kind = "quote"

    @only_for("top")
    def on_update(self, update: Update, out: list[Message]) -> None:
        if update.top is not None:
            ts = update.ts_event // self._unit_ns
            self._send(self._dialect.book_ticker(self.symbol, self._numbers, ts, ts, update.last_id, update.top), out)


class _Trades(_Stream):
    """`@trade`: every fill."""

    kind = "trade"

    @only_for("fills")
    def on_update(self, update: Update, out: list[Message]) -> None:
        ts = update.ts_event // self._unit_ns
        for fill in update.fills:
            self._send(self._dialect.trade(self.symbol, self._numbers, ts, ts, fill), out)


class _AggTrades(_Stream):
    """`@aggTrade`: fills of one price and side in one message: of one order (spot), of up to 100 ms (futures)."""

    kind = "trade"

    def __init__(self, key: str, symbol: str, dialect: Dialect, numbers: Numbers, period_ns: int) -> None:
        super().__init__(key, symbol, dialect, numbers, period_ns)
        self._agg_id = 0
        self._first: Fill | None = None
        self._last_id = 0
        self._qty = 0
        self._ts_event = 0

    @only_for("fills")
    def on_update(self, update: Update, out: list[Message]) -> None:
        for fill in update.fills:
            first = self._first
            if first is not None and first.price == fill.price and first.buyer_is_maker == fill.buyer_is_maker:
                self._last_id = fill.trade_id
                self._qty += fill.qty
                continue
            self.on_tick(update.ts_event, out)
            self._first, self._last_id, self._qty, self._ts_event = fill, fill.trade_id, fill.qty, update.ts_event
        if not self.period_ns:
            self.on_tick(update.ts_event, out)

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        first = self._first
        if first is None:
            return
        # Ids ascend by one as long as somebody listens. They start from the trade id: distinct after a pause, too.
        self._agg_id = self._agg_id + 1 if self._agg_id else first.trade_id // 2
        now, ts = now_ns // self._unit_ns, self._ts_event // self._unit_ns
        text = self._dialect.agg_trade(
            self.symbol, self._numbers, now, ts, self._agg_id, first, self._last_id, self._qty
        )
        self._send(text, out)
        self._first = None


class BinanceSource(GeneratedSource):
    """Order flow as Binance's streams."""

    def __init__(self, dialect: Dialect, flow: OrderFlow, numbers: dict[str, Numbers]) -> None:
        super().__init__(flow, _TICK_NS)
        self._dialect = dialect
        self._numbers = numbers

    def snapshot(self, symbol: str, limit: int, now_ns: int, *, stale: bool = False) -> bytes | None:
        if symbol not in self._numbers:
            return None
        book = self.flow.first_book(symbol) if stale else self.current_book(symbol, limit)
        return self._dialect.snapshot(self._numbers[symbol], now_ns // NS_PER_MS, book, limit).encode()

    def make_stream(self, key: str) -> Stream:
        name = parse_stream(key.removesuffix(MICROSECONDS), self._dialect)
        if name is None or name.symbol not in self._numbers:
            raise KeyError(key)
        numbers = self._numbers[name.symbol]
        if name.kind == "depth":
            last_id = self.flow.last_id(name.symbol)
            return _Diffs(key, name.symbol, self._dialect, numbers, name.period_ns, last_id)
        if name.kind == "partial":
            return _PartialBook(key, name.symbol, self._dialect, numbers, name.period_ns, name.levels, self.flow)
        if name.kind == "bookTicker":
            return _BookTicker(key, name.symbol, self._dialect, numbers, 0)
        if name.kind == "trade":
            return _Trades(key, name.symbol, self._dialect, numbers, 0)
        return _AggTrades(key, name.symbol, self._dialect, numbers, name.period_ns)
