"""Order flow as Binance's streams: what changed in the true book becomes diffs, partial books, quotes and trades."""

from collections.abc import Iterator

from feeds.simulator.binance_wire import MICROSECONDS, NS_PER_MS, Dialect, Numbers, StreamName, parse_stream
from feeds.simulator.order_flow import Fill, OrderFlow, Update
from feeds.simulator.protocol import Batch, Kind, Message, Session, Source

_TICK_NS = 50 * NS_PER_MS  # every stream speed is a multiple of it


class _Stream:
    """One stream that somebody subscribed to. The same messages go to every subscriber."""

    kind: Kind = "other"

    def __init__(self, key: str, symbol: str, dialect: Dialect, numbers: Numbers, period_ns: int) -> None:
        self.key = key
        self.symbol = symbol
        self.period_ns = period_ns
        self.subscribers = 0
        self._dialect = dialect
        self._numbers = numbers
        self._unit_ns = 1_000 if key.endswith(MICROSECONDS) else NS_PER_MS

    def on_update(self, update: Update, out: list[Message]) -> None:
        """Take in what an order did; append what is sent at once."""

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        """Append what is sent at the end of a period."""

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

    def on_update(self, update: Update, out: list[Message]) -> None:
        if update.top is not None:
            ts = update.ts_event // self._unit_ns
            self._send(self._dialect.book_ticker(self.symbol, self._numbers, ts, ts, update.last_id, update.top), out)


class _Trades(_Stream):
    """`@trade`: every fill."""

    kind = "trade"

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


class GeneratedSource(Source):
    """Order flow as Binance's streams. Streams exist while they have subscribers and cost nothing otherwise."""

    def __init__(self, dialect: Dialect, flow: OrderFlow, numbers: dict[str, Numbers]) -> None:
        self._flow = flow
        self._dialect = dialect
        self._numbers = numbers
        self._streams: dict[str, _Stream] = {}
        self._by_symbol: dict[str, list[_Stream]] = {symbol: [] for symbol in numbers}
        self._tick_ns = (flow.ts_event // _TICK_NS + 1) * _TICK_NS

    @property
    def flow(self) -> OrderFlow:
        return self._flow

    @property
    def next_ns(self) -> int:
        return min(self._flow.next_ns, self._tick_ns)

    def poll(self, until_ns: int) -> Iterator[Batch]:
        while True:
            now_ns = min(self._flow.next_ns, self._tick_ns)
            if now_ns > until_ns:
                return
            # A change at the very end of a period still belongs to it.
            messages = self._publish(self._flow.next_burst()) if self._flow.next_ns <= self._tick_ns else self._tick()
            yield Batch(now_ns, messages)

    def burst(self, symbol: str, orders: int, now_ns: int) -> Batch:
        return Batch(now_ns, self._publish(self._flow.burst(symbol, orders, now_ns)))

    def subscribe(self, session: Session, stream: str, now_ns: int) -> None:
        active = self._streams.get(stream)
        if active is None:
            name = parse_stream(stream.removesuffix(MICROSECONDS), self._dialect)
            if name is None or name.symbol not in self._numbers:
                raise KeyError(stream)
            active = self._streams[stream] = self._open(stream, name)
            self._by_symbol[name.symbol].append(active)
        active.subscribers += 1

    def unsubscribe(self, session: Session, stream: str) -> None:
        active = self._streams[stream]
        active.subscribers -= 1
        if not active.subscribers:
            del self._streams[stream]
            self._by_symbol[active.symbol].remove(active)

    def detach(self, session: Session) -> None:
        pass

    def snapshot(self, symbol: str, limit: int, now_ns: int, *, stale: bool = False) -> bytes | None:
        if symbol not in self._numbers:
            return None
        book = self._flow.first_book(symbol) if stale else self._flow.book(symbol, levels=limit)
        return self._dialect.snapshot(self._numbers[symbol], now_ns // NS_PER_MS, book, limit).encode()

    def _open(self, key: str, name: StreamName) -> _Stream:
        numbers = self._numbers[name.symbol]
        if name.kind == "depth":
            last_id = self._flow.last_id(name.symbol)
            return _Diffs(key, name.symbol, self._dialect, numbers, name.period_ns, last_id)
        if name.kind == "partial":
            return _PartialBook(key, name.symbol, self._dialect, numbers, name.period_ns, name.levels, self._flow)
        if name.kind == "bookTicker":
            return _BookTicker(key, name.symbol, self._dialect, numbers, 0)
        if name.kind == "trade":
            return _Trades(key, name.symbol, self._dialect, numbers, 0)
        return _AggTrades(key, name.symbol, self._dialect, numbers, name.period_ns)

    def _publish(self, updates: list[Update]) -> list[Message]:
        out: list[Message] = []
        by_symbol = self._by_symbol
        for update in updates:
            for stream in by_symbol[update.symbol]:
                stream.on_update(update, out)
        return out

    def _tick(self) -> list[Message]:
        now_ns = self._tick_ns
        self._tick_ns += _TICK_NS
        out: list[Message] = []
        for stream in self._streams.values():
            if stream.period_ns and now_ns % stream.period_ns == 0:
                stream.on_tick(now_ns, out)
        return out
