"""Generated order flow as an exchange's streams: all that a simulated exchange needs besides its own words.

A module of `feeds.simulator.exchanges` has a `GeneratedExchange`, which writes the messages, and a `GeneratedSession`,
which reads what clients send. Streams are named `channel:symbol` here, whatever the exchange calls them.
"""

import math
import re
from abc import abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import NS_PER_SECOND, Book, Fill, FlowConfig, OrderFlow, Top, Update
from feeds.simulator.playback import Playback
from feeds.simulator.protocol import (
    Batch,
    ExchangeProtocol,
    HttpReply,
    Kind,
    Message,
    PolicyViolation,
    Refused,
    Session,
    Source,
)

NS_PER_MS = 1_000_000
Levels: TypeAlias = Sequence[tuple[int, int]]  # (ticks, lots); no lots: the level is gone
_JSON = {"Content-Type": "application/json"}


# --- streams ------------------------------------------------------------------------------------------------------

_OnUpdate = TypeVar("_OnUpdate", bound=Callable[..., None])


def only_for(part: Literal["top", "fills"]) -> Callable[[_OnUpdate], _OnUpdate]:
    """Say of an `on_update` that updates without this part are nothing to it: it is not called for them."""

    def mark(on_update: _OnUpdate) -> _OnUpdate:
        on_update.only_for = part  # type: ignore[attr-defined]
        return on_update

    return mark


class Stream:
    """One stream that somebody subscribed to. The same messages go to every subscriber."""

    kind: Kind = "other"

    def __init__(self, key: str, symbol: str, period_ns: int = 0) -> None:
        self.key = key
        self.channel = key.partition(":")[0]
        self.symbol = symbol
        self.period_ns = period_ns
        self.subscribers = 0

    def on_update(self, update: Update, out: list[Message]) -> None:
        """Take in what an order did; append what is sent at once."""

    def on_burst_end(self, now_ns: int, out: list[Message]) -> None:
        """Append what is sent once for all orders of an instant."""

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        """Append what is sent at the end of a period."""

    def first(self, now_ns: int) -> list[bytes]:
        """Return what a new subscriber gets first."""
        return []


class BookStream(Stream):
    """A book: what has changed among its best levels, at the end of a period or of an instant."""

    kind: Kind = "delta"

    def __init__(
        self,
        exchange: "GeneratedExchange",
        key: str,
        symbol: str,
        *,
        levels: int | None = None,
        period_ns: int = 0,
        has_snapshot: bool = True,
        is_whole: bool = False,
        tells_dropped: bool = True,
    ) -> None:
        """`is_whole`: every message is a whole book. `tells_dropped`: a level that leaves the best ones is removed."""
        super().__init__(key, symbol, period_ns)
        self.numbers = exchange.numbers[symbol]
        self.levels = levels
        self._exchange = exchange
        self._flow = exchange.flow_of(symbol)
        self._has_snapshot = has_snapshot
        self._tells_dropped = tells_dropped
        self._is_whole = is_whole
        self._touched: set[tuple[bool, int]] = set()  # (is bid, price) of what orders have changed, there and back too
        book = self._flow.book(symbol, levels=levels)
        self._told = (dict(book.bids), dict(book.asks))  # what the subscribers have
        self._has_all = self._fits()  # they have every level that there is
        self._as_of_ns = book.ts_event + exchange.source.skew_ns  # of what they have, where something was touched since
        # The levels before the newest message, bids and asks, at least those at the prices that it has.
        self.before: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.last_id = self.previous_id = book.update_id
        self.number = book.update_id  # counts the messages
        if is_whole:
            self.kind = "book"

    def on_update(self, update: Update, out: list[Message]) -> None:
        for change in update.changes:
            self._touched.add((change.is_bid, change.price))

    def on_burst_end(self, now_ns: int, out: list[Message]) -> None:
        if not self.period_ns:
            self.on_tick(now_ns, out)

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        if not self._touched:
            return
        self._as_of_ns = now_ns
        had_all, self._has_all = self._has_all, self._fits()
        if had_all and self._has_all and not self._is_whole:
            bids, asks = self._changes_at_touched()
        else:
            bids, asks = self._changes_between_books()
        self._touched.clear()
        if (not bids and not asks) or (self._is_whole and self._told == self.before):
            return
        self.previous_id, self.last_id = self.last_id, self._flow.last_id(self.symbol)
        self.number += 1
        for data in self._write(now_ns, bids, asks, self._is_whole):
            out.append(Message(self.key, self.symbol, self.kind, data))

    def first(self, now_ns: int) -> list[bytes]:
        if not self._has_snapshot:
            return []
        if self._touched:  # it is of the end of the last period, as the deltas that follow continue it
            now_ns = self._as_of_ns
        return self._write(now_ns, *self.best(), True)

    def best(self, levels: int | None = None) -> tuple[Levels, Levels]:
        """Return the best bids and asks that the subscribers have when they have applied the newest message."""
        if not self._touched:
            limit = levels if self.levels is None or (levels is not None and levels < self.levels) else self.levels
            book = self._flow.book(self.symbol, levels=limit)
            return book.bids, book.asks
        bids, asks = self._told
        return sorted(bids.items(), reverse=True)[:levels], sorted(asks.items())[:levels]

    def delta(self, now_ns: int) -> bytes:
        """Return a delta that says what the best bid is."""
        return self._write(now_ns, self.best(1)[0], [], False)[0]

    def _fits(self) -> bool:
        return self.levels is None or self._flow.depth(self.symbol) <= self.levels

    def _changes_at_touched(self) -> tuple[Levels, Levels]:
        """Return what has changed in a book whose levels are all told: only where orders have touched it."""
        self.before = ({}, {})
        gone: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        changed: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        qty_at = self._flow.qty_at
        for is_bid, price in self._touched:
            side = not is_bid
            told = self._told[side]
            if price in told:
                self.before[side][price] = told[price]
            qty = told[price] = qty_at(self.symbol, is_bid, price)
            if qty:
                changed[side].append((price, qty))
            else:
                del told[price]
                gone[side].append((price, 0))
        return gone[0] + sorted(changed[0], reverse=True), gone[1] + sorted(changed[1])

    def _changes_between_books(self) -> tuple[Levels, Levels]:
        book = self._flow.book(self.symbol, levels=self.levels)
        self.before, self._told = self._told, (dict(book.bids), dict(book.asks))
        if self._is_whole:
            return book.bids, book.asks
        return (
            self._changes(self.before[0], book.bids, is_bid=True),
            self._changes(self.before[1], book.asks, is_bid=False),
        )

    def _changes(self, before: dict[int, int], now: Levels, *, is_bid: bool) -> Levels:
        """Return what makes `now` of the levels before, and of a snapshot of any moment between."""
        after = dict(now)
        touched = {price for side, price in self._touched if side == is_bid}
        gone = [price for price in before if price not in after]
        if len(now) == self.levels:
            worst = now[-1][0]
            if not self._tells_dropped:
                gone = [price for price in gone if (price > worst) == is_bid]
        else:
            gone += [price for price in touched if price not in after and price not in before]
        changed = [level for level in now if before.get(level[0]) != level[1] or level[0] in touched]
        return [(price, 0) for price in gone] + changed

    def _write(self, now_ns: int, bids: Levels, asks: Levels, is_snapshot: bool) -> list[bytes]:
        written = self._exchange.book(self, now_ns, bids, asks, is_snapshot=is_snapshot)
        return [text.encode() for text in ([written] if isinstance(written, str) else written)]


class QuoteStream(Stream):
    """Every change of the best bid and offer."""

    kind: Kind = "quote"

    def __init__(self, exchange: "GeneratedExchange", key: str, symbol: str) -> None:
        super().__init__(key, symbol)
        self.numbers = exchange.numbers[symbol]
        self._exchange = exchange
        self._flow = exchange.flow_of(symbol)
        self._number = self._flow.last_id(symbol)

    @only_for("top")
    def on_update(self, update: Update, out: list[Message]) -> None:
        if update.top is not None:
            text = self._exchange.quote(self, update.ts_event, update.top, update.last_id)
            out.append(Message(self.key, self.symbol, self.kind, text.encode()))

    def first(self, now_ns: int) -> list[bytes]:
        top, last_id = self._flow.top(self.symbol), self._flow.last_id(self.symbol)
        return [self._exchange.quote(self, now_ns, top, last_id).encode()]


class PeriodicQuoteStream(QuoteStream):
    """The best bid and offer, once in a period in which they have changed."""

    def __init__(self, exchange: "GeneratedExchange", key: str, symbol: str, period_ns: int) -> None:
        super().__init__(exchange, key, symbol)
        self.period_ns = period_ns
        self._has_changed = False

    def on_update(self, update: Update, out: list[Message]) -> None:
        self._has_changed |= update.top is not None

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        if self._has_changed:
            self._has_changed = False
            out.append(Message(self.key, self.symbol, self.kind, self.first(now_ns)[0]))


class TradeStream(Stream):
    """Every fill; those of one order in one message where the exchange writes them so."""

    kind: Kind = "trade"

    def __init__(self, exchange: "GeneratedExchange", key: str, symbol: str) -> None:
        super().__init__(key, symbol)
        self.numbers = exchange.numbers[symbol]
        self._exchange = exchange

    @only_for("fills")
    def on_update(self, update: Update, out: list[Message]) -> None:
        if update.fills:
            for text in self._exchange.trades(self, update.ts_event, update.fills):
                out.append(Message(self.key, self.symbol, self.kind, text.encode()))


class RecentTradeStream(TradeStream):
    """Every fill; a new subscriber gets those before it, newest first, that came while somebody was subscribed."""

    @only_for("fills")
    def on_update(self, update: Update, out: list[Message]) -> None:
        super().on_update(update, out)
        self._exchange.recent_trades[self.symbol].extend((update.ts_event, fill) for fill in update.fills)

    def first(self, now_ns: int) -> list[bytes]:
        recent = list(self._exchange.recent_trades[self.symbol])
        return [text.encode() for text in self._exchange.backlog(self, now_ns, recent[::-1])]


class GeneratedSource(Source):
    """Order flow as streams, which exist while they have subscribers and cost nothing otherwise."""

    def __init__(self, flow: OrderFlow, tick_ns: int) -> None:
        """Every period of a stream is a multiple of `tick_ns`."""
        self._flow = flow
        self._streams: dict[str, Stream] = {}
        self._by_symbol: defaultdict[str, list[Stream]] = defaultdict(list)
        # By symbol those that are told of an update with or without a new top (1), with or without fills (2).
        self._told: defaultdict[str, list[list[Stream]]] = defaultdict(lambda: [[], [], [], []])
        self._at_burst_end: defaultdict[str, list[Stream]] = defaultdict(list)  # those that do something then
        self._periodic: dict[str, Stream] = {}
        self._period_ns = tick_ns
        self._tick_ns = (flow.ts_event // tick_ns + 1) * tick_ns

    @abstractmethod
    def make_stream(self, key: str) -> Stream:
        """Make a stream. KeyError where there is none of this name."""

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
            is_burst = self._flow.next_ns <= self._tick_ns
            yield Batch(now_ns, self._publish(self._flow.next_burst()) if is_burst else self._tick())

    def burst(self, symbol: str, orders: int, now_ns: int) -> Batch:
        return Batch(now_ns, self._publish(self._flow.burst(symbol, orders, now_ns)))

    def subscribe(self, session: Session, stream: str, now_ns: int) -> None:
        active = self._streams.get(stream)
        if active is None:
            active = self._streams[stream] = self.make_stream(stream)
            self._by_symbol[active.symbol].append(active)
            self._find_told(active.symbol)
            if type(active).on_burst_end is not Stream.on_burst_end:
                self._at_burst_end[active.symbol].append(active)
            if active.period_ns:
                self._periodic[stream] = active
        active.subscribers += 1

    def unsubscribe(self, session: Session, stream: str) -> None:
        active = self._streams[stream]
        active.subscribers -= 1
        if not active.subscribers:
            del self._streams[stream]
            self._by_symbol[active.symbol].remove(active)
            self._find_told(active.symbol)
            if active in self._at_burst_end[active.symbol]:
                self._at_burst_end[active.symbol].remove(active)
            self._periodic.pop(stream, None)

    def detach(self, session: Session) -> None:
        pass

    def first(self, stream: str, now_ns: int) -> list[bytes]:
        """Return what a new subscriber of a stream gets first."""
        return self._streams[stream].first(now_ns)

    def _publish(self, updates: list[Update]) -> list[Message]:
        out: list[Message] = []
        told = self._told
        if self.skew_ns:
            updates = [msgspec.structs.replace(one, ts_event=one.ts_event + self.skew_ns) for one in updates]
        for update in updates:
            for stream in told[update.symbol][(update.top is not None) + 2 * bool(update.fills)]:
                stream.on_update(update, out)
        for symbol in dict.fromkeys([update.symbol for update in updates]):
            for stream in self._at_burst_end[symbol]:
                stream.on_burst_end(updates[0].ts_event, out)
        return out

    def current_book(self, symbol: str, levels: int | None) -> Book:
        """Return a book with the time, by the exchange's clock, until which it is known to be so."""
        book = self._flow.book(symbol, levels=levels)
        known_ns = max(book.ts_event, self._tick_ns - self._period_ns)
        return msgspec.structs.replace(book, ts_event=known_ns + self.skew_ns)

    def _find_told(self, symbol: str) -> None:
        parts: list[set[str | None]] = [{None}, {None, "top"}, {None, "fills"}, {None, "top", "fills"}]
        self._told[symbol] = [
            [one for one in self._by_symbol[symbol] if getattr(type(one).on_update, "only_for", None) in told]
            for told in parts
        ]

    def _tick(self) -> list[Message]:
        now_ns = self._tick_ns
        self._tick_ns += self._period_ns
        out: list[Message] = []
        told_ns = now_ns + self.skew_ns
        for stream in self._periodic.values():
            if now_ns % stream.period_ns == 0:
                stream.on_tick(told_ns, out)
        return out


class _ExchangeSource(GeneratedSource):
    """Streams as a `GeneratedExchange` makes them."""

    def __init__(self, exchange: "GeneratedExchange", flow: OrderFlow) -> None:
        super().__init__(flow, exchange.tick_ns)
        self._exchange = exchange

    def make_stream(self, key: str) -> Stream:
        channel, _, symbol = key.partition(":")
        return self._exchange.stream(key, channel, symbol)

    def snapshot(self, symbol: str, limit: int, now_ns: int, *, stale: bool = False) -> bytes | None:
        book = self.flow.first_book(symbol) if stale else self.current_book(symbol, limit)
        return self._exchange.rest_book(book, self._exchange.numbers[symbol], now_ns)


# --- clients ------------------------------------------------------------------------------------------------------


class GeneratedSession(Session):
    """One connection to a `GeneratedExchange`: streams that a client subscribed to, its silence and its rate."""

    beat_interval = 1.0
    # A client that sends nothing for so long is disconnected; None: never.
    idle_timeout: ClassVar[float | None] = None
    idle_ending: ClassVar[tuple[int, str]] = (1000, "")
    data_keeps_alive = False  # what is sent to the client counts, too
    messages_per_second: ClassVar[int | None] = None  # of the client
    exchange: Any  # the GeneratedExchange, by its own type where a session asks it more

    def __init__(self, exchange: "GeneratedExchange", path: str) -> None:
        self.exchange = exchange
        self.path = path
        self._names: dict[str, None] = {}
        self._heard_ns: int | None = None
        self._was_served = False
        self.ending: PolicyViolation | None = None  # the next beat ends the connection, behind what was answered
        self._received: deque[int] = deque(maxlen=self.messages_per_second)

    def open(self, now_ns: int) -> list[bytes]:
        return []

    @property
    def streams(self) -> list[str]:
        return list(self._names)

    def has(self, channel: str, symbol: str) -> bool:
        """Whether the client is subscribed."""
        return f"{channel}:{symbol}" in self._names

    def subscribe(self, channel: str, symbol: str, now_ns: int) -> list[bytes] | None:
        """Subscribe, and return what comes first; None where the exchange has no such stream, or refuses it."""
        key = f"{channel}:{symbol}"
        if symbol not in self.exchange.markets or self.exchange.refuses(symbol, now_ns):
            return None
        source = self.exchange.source
        if key not in self._names:
            try:
                source.subscribe(self, key, now_ns)
            except KeyError:
                return None
            self._names[key] = None
        first: list[bytes] = source.first(key, now_ns)
        return first

    def unsubscribe(self, channel: str, symbol: str) -> bool:
        """Return whether the client was subscribed."""
        key = f"{channel}:{symbol}"
        if key not in self._names:
            return False
        del self._names[key]
        self.exchange.source.unsubscribe(self, key)
        return True

    def encode(self, message: Message) -> bytes | None:
        if not message.to_all and message.stream not in self._names:
            return None
        self._was_served = True
        return message.data

    def count_frame(self, monotonic_ns: int) -> None:
        self._heard_ns = monotonic_ns
        received = self._received
        if not received.maxlen:
            return
        if len(received) == received.maxlen and monotonic_ns - received[0] < NS_PER_SECOND:
            raise PolicyViolation(1008, "Too many requests")
        received.append(monotonic_ns)

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        if self.ending is not None:
            raise self.ending
        if self._heard_ns is None or (self.data_keeps_alive and self._was_served):
            self._heard_ns = monotonic_ns
        self._was_served = False
        if self.idle_timeout is not None and monotonic_ns - self._heard_ns >= self.idle_timeout * NS_PER_SECOND:
            raise PolicyViolation(*self.idle_ending)
        return []

    def close(self) -> None:
        for key in self._names:
            self.exchange.source.unsubscribe(self, key)
        self._names.clear()
        self.exchange.source.detach(self)


def decode_object(text: bytes) -> dict[str, Any] | None:
    """Decode a JSON object; None where it is none."""
    try:
        decoded = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return decoded if isinstance(decoded, dict) else None


# --- exchange -----------------------------------------------------------------------------------------------------


class GeneratedExchange(ExchangeProtocol):
    """An exchange whose market data is generated. A subclass says how its messages look, and names its session."""

    refuses_subscriptions = True
    ping_interval = math.inf  # most leave pings to the client
    pong_timeout = math.inf
    tick_ns = 10 * NS_PER_MS
    update_ids: Literal["symbol", "exchange"] = "symbol"
    session: type[GeneratedSession]
    paths: Sequence[str] = ("/",)
    written: re.Pattern[str]  # a symbol as the exchange writes it
    default_symbols: Sequence[str]
    precisions: ClassVar[dict[str, tuple[int, int, int, int]]] = {}  # see `plausible_market`
    ghost: tuple[str, str]  # channel of a book, and a symbol that is not listed
    backlog_size = 100  # trades that a new subscriber gets, where there are any
    source: _ExchangeSource

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        flow: FlowConfig | None = None,
        playback: Playback | None = None,
        start_ns: int = 0,
    ) -> None:
        """List `symbols` as the exchange writes them; their data comes from order flow.

        ValueError for symbols that it would not write so, for a playback, and for what `OrderFlow` refuses.
        """
        if playback is not None:
            raise ValueError(f"{self.name}: expected no playback: RecordedExchange serves recordings of any exchange")
        for symbol in symbols:
            if not self.written.fullmatch(symbol):
                example = self.default_symbols[0]
                raise ValueError(f"{self.name}: expected symbols such as {example!r}, found {symbol!r}")
        markets = [self.market(symbol) for symbol in symbols]
        self.markets = {market.symbol: market for market in markets}
        self._ghosts = OrderFlow([self.market(self.ghost[1])], FlowConfig(levels=8, warm_up=0))
        self.recent_trades: defaultdict[str, deque[tuple[int, Fill]]] = defaultdict(
            lambda: deque(maxlen=self.backlog_size)
        )
        self.numbers = {market.symbol: self.number_format(market) for market in [*markets, *self._ghosts.markets]}
        config = msgspec.structs.replace(flow or FlowConfig(), update_ids=self.update_ids)
        self.source = _ExchangeSource(self, OrderFlow(markets, config, start_ns=start_ns))

    # --- what a subclass writes ---

    @abstractmethod
    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        """Make the stream of a channel. KeyError for a channel that does not exist."""

    @abstractmethod
    def book(
        self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool
    ) -> str | Sequence[str]:
        """Write a book message; several where the exchange tells one change in several."""

    @abstractmethod
    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        """Write the trades of one order."""

    @abstractmethod
    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        """Write a best bid and offer."""

    @abstractmethod
    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        """Return what a REST request is answered with, HttpReply or an object; None where there is no such path."""

    def backlog(self, stream: TradeStream, now_ns: int, trades: Sequence[tuple[int, Fill]]) -> Sequence[str]:
        """Write the newest trades before a subscription, each with its time, newest first."""
        raise NotImplementedError(f"{self.name} repeats no trades")

    def rest_book(self, book: Book, numbers: Numbers, now_ns: int) -> bytes:
        """Write the reply to the request for a book's snapshot."""
        raise NotImplementedError(f"{self.name} has no snapshots by REST")

    def market(self, symbol: str) -> Market:
        """Make up the market of a symbol."""
        return plausible_market(symbol, precision=self.precisions.get(symbol))

    def number_format(self, market: Market) -> Numbers:
        """Return how numbers of a market are written."""
        return Numbers(market)

    # --- protocol ---

    def flow_of(self, symbol: str) -> OrderFlow:
        """Return the order flow of a symbol, listed or not."""
        return self.source.flow if symbol in self.markets else self._ghosts

    def connect(self, target: str) -> GeneratedSession:
        path = urlsplit(target).path or "/"
        if path not in self.paths:
            raise Refused(HttpReply(404, b"Not Found"))
        return self.session(self, path)

    def rest(self, target: str, now_ns: int, *, stale: bool = False, body: bytes = b"") -> HttpReply:
        symbol = self.snapshot_symbol(target)
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if symbol in self.markets:
            book = self.source.snapshot(symbol, self.snapshot_levels(query), now_ns, stale=stale)
            return HttpReply(200, book or b"", _JSON)
        reply = self.get(parts.path, query, now_ns)
        if reply is None:
            return HttpReply(404, b"Not Found")
        return reply if isinstance(reply, HttpReply) else HttpReply(200, msgspec.json.encode(reply), _JSON)

    def snapshot_symbol(self, target: str) -> str | None:
        return None

    def snapshot_levels(self, query: dict[str, str]) -> int:
        """Return how many levels a request for a book asks for."""
        return 1_000_000

    def rest_limit_reply(self, status: int, retry_after: int, now_ns: int) -> HttpReply:
        body = msgspec.json.encode({"code": str(status), "msg": "Too Many Requests"})
        return HttpReply(status, body, {"Retry-After": str(retry_after)} | _JSON)

    def unknown_symbol(self, now_ns: int) -> Message:
        channel, symbol = self.ghost
        stream = self.stream(f"{channel}:{symbol}", channel, symbol)
        assert isinstance(stream, BookStream)
        return Message(stream.key, symbol, "delta", stream.delta(now_ns), to_all=True)


def json_reply(status: int, body: object) -> HttpReply:
    """Return a REST reply with a JSON body."""
    return HttpReply(status, msgspec.json.encode(body), _JSON)
