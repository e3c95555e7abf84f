"""Binance spot, USD-M and COIN-M futures: what a client says and is told, over WebSocket and REST."""

import re
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from feeds.simulator.binance_streams import BinanceSource
from feeds.simulator.binance_wire import (
    MICROSECONDS,
    NS_PER_MS,
    DeliveryDialect,
    Dialect,
    FuturesDialect,
    SpotDialect,
    error,
    parse_stream,
)
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import NS_PER_SECOND, FlowConfig, OrderFlow
from feeds.simulator.playback import Playback, PlaybackSource
from feeds.simulator.protocol import (
    ExchangeProtocol,
    HttpReply,
    Kind,
    Message,
    PolicyViolation,
    Refused,
    Session,
    Source,
)

_SYMBOL = re.compile(r"[A-Z0-9-_.]{1,20}")
_LISTED = re.compile(r"[^\s\"\\/@!?&#%]+")  # symbols may be Chinese
_JSON = {"Content-Type": "application/json;charset=UTF-8"}
_RECORDED = re.compile(rb'\{"stream":"(?P<stream>[^"\\]+)","data":')
_ANSWER = re.compile(rb'\{"(?:result|error|code|id)":')
_SYMBOL_OF_BARE = re.compile(rb'"s":"([^"\\]+)"')
_KINDS: dict[str, Kind] = {
    "depth": "delta",
    "partial": "book",
    "bookTicker": "quote",
    "trade": "trade",
    "aggTrade": "trade",
}
_MAX_STREAMS = 1024
_MAX_STREAM_NAME = 128  # ours, so that unknown streams cost little
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


class _RequestError(Exception):
    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code = code


class BinanceSession(Session):
    """One WebSocket connection: streams by name, combined or raw, five or ten messages a second."""

    def __init__(
        self, protocol: "Binance", path: str, streams: Sequence[str], *, combined: bool, microseconds: bool
    ) -> None:
        self._protocol = protocol
        self._path = path
        self._combined = combined
        self._suffix = MICROSECONDS if microseconds else ""
        self._first_streams = streams
        self._names: dict[str, None] = {}  # subscribed, in order; unknown ones too
        self._delivered: dict[str, bytes] = {}  # those with data: the source's key -> how a combined message begins
        self._received: deque[int] = deque(maxlen=protocol.dialect.messages_per_second)

    def open(self, now_ns: int) -> list[bytes]:
        self._subscribe(self._first_streams, now_ns)
        return []

    @property
    def streams(self) -> list[str]:
        return list(self._names)

    def encode(self, message: Message) -> bytes | None:
        name = message.stream
        if name is None:
            return message.data
        opening = _combined_opening(name) if message.to_all else self._delivered.get(name)
        if opening is None:
            return None
        return b"%b%b}" % (opening, message.data) if self._combined else message.data

    def count_frame(self, monotonic_ns: int) -> None:
        received = self._received
        if len(received) == received.maxlen and monotonic_ns - received[0] < NS_PER_SECOND:
            raise PolicyViolation(1008, "Too many requests")
        received.append(monotonic_ns)

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request_id: object = None
        try:
            request = _decode_request(text)
            request_id = _request_id(request)
            result = self._execute(request, now_ns)
        except _RequestError as refusal:
            answer = {"error": {"code": refusal.code, "msg": str(refusal)}, "id": request_id}
        else:
            answer = {"result": result, "id": request_id}
        return [msgspec.json.encode(answer)]

    def close(self) -> None:
        self._unsubscribe(list(self._names))
        self._protocol.source.detach(self)

    def _execute(self, request: dict[str, Any], now_ns: int) -> object:
        method = request.get("method")
        if "method" not in request:
            raise _RequestError(2, "Invalid request: missing field `method` at line 1 column 1")
        if method not in _METHODS:
            expected = ", ".join(f"`{known}`" for known in _METHODS)
            raise _RequestError(2, f"Invalid request: unknown variant `{method}`, expected one of {expected}")
        if method == "LIST_SUBSCRIPTIONS":
            return list(self._names)
        params = request.get("params")
        if not isinstance(params, list):
            raise _RequestError(2, "Invalid request: missing field `params`")
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            if not params or not all(isinstance(name, str) and len(name) <= _MAX_STREAM_NAME for name in params):
                raise _RequestError(2, "Invalid request: params must be an array of stream names")
            if method == "UNSUBSCRIBE":
                self._unsubscribe(params)
            elif len(self._names.keys() | set(params)) > _MAX_STREAMS:
                raise _RequestError(2, f"Invalid request: more than {_MAX_STREAMS} streams on one connection")
            else:
                self._subscribe(params, now_ns)
            return None
        return self._property(method == "SET_PROPERTY", params)

    def _property(self, is_set: bool, params: list[Any]) -> object:
        if len(params) > 1 + is_set:
            raise _RequestError(2, "Invalid request: too many parameters")
        if not params or not isinstance(params[0], str):
            raise _RequestError(2, "Invalid request: property name must be a string")
        if params[0] != "combined":
            raise _RequestError(0, "Unknown property")
        if not is_set:
            return self._combined
        if len(params) < 2 or not isinstance(params[1], bool):
            raise _RequestError(1, "Invalid value type: expected Boolean")
        self._combined = params[1]
        return None

    def _subscribe(self, names: Sequence[str], now_ns: int) -> None:
        protocol = self._protocol
        for name in names:
            if name in self._names:
                continue
            self._names[name] = None
            stream = parse_stream(name, protocol.dialect)
            if stream and stream.symbol in protocol.markets and protocol.dialect.serves(self._path, stream):
                key = name + self._suffix
                self._delivered[key] = _combined_opening(name)
                protocol.source.subscribe(self, key, now_ns)

    def _unsubscribe(self, names: Sequence[str]) -> None:
        for name in names:
            self._names.pop(name, None)
            key = name + self._suffix
            if self._delivered.pop(key, None) is not None:
                self._protocol.source.unsubscribe(self, key)


def _combined_opening(name: str) -> bytes:
    return b'{"stream":"%b","data":' % name.encode()


def _decode_request(text: bytes) -> dict[str, Any]:
    try:
        request = msgspec.json.decode(text)
    except msgspec.DecodeError as problem:
        raise _RequestError(3, f"Invalid JSON: {problem}") from None
    if not isinstance(request, dict):
        raise _RequestError(2, "Invalid request: expected an object")
    return request


def _request_id(request: dict[str, Any]) -> object:
    """Return the id to answer with: a signed 64-bit integer, up to 36 letters and digits, or null."""
    request_id = request.get("id")
    if request_id is None:
        return None
    if isinstance(request_id, int) and not isinstance(request_id, bool) and -(2**63) <= request_id < 2**63:
        return request_id
    if isinstance(request_id, str) and re.fullmatch(r"[A-Za-z0-9-_]{1,36}", request_id):
        return request_id
    raise _RequestError(2, "Invalid request: request ID must be an unsigned integer")


class Binance(ExchangeProtocol):
    """What spot and futures have in common; take `BinanceSpot`, `BinanceFutures` or `BinanceDelivery`."""

    dialect: Dialect
    default_symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    sequence_fields = ("U", "u", "pu")

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        flow: FlowConfig | None = None,
        playback: Playback | None = None,
        start_ns: int = 0,
    ) -> None:
        """List `symbols` as Binance writes them. Their data comes from `playback`, or else from order flow.

        ValueError for symbols that Binance would not write so, and for what `OrderFlow` refuses.
        """
        for symbol in symbols:
            if not _LISTED.fullmatch(symbol) or symbol != symbol.upper():
                raise ValueError(f"expected symbols as Binance writes them, such as 'BTCUSDT', found {symbol!r}")
        dialect = self.dialect
        self.name = dialect.exchange
        self.ping_interval = dialect.ping_interval
        self.pong_timeout = dialect.pong_timeout
        markets = [dialect.market(symbol) for symbol in symbols]
        self.markets = {market.symbol: market for market in markets}
        numbers = {market.symbol: Numbers(market, dialect.decimals, dialect.decimals) for market in markets}
        self.source: Source
        if playback is not None:
            self.source = PlaybackSource(playback, self.recognise)
        else:
            config = msgspec.structs.replace(flow or FlowConfig(), update_ids=dialect.update_ids)
            self.source = BinanceSource(dialect, OrderFlow(markets, config, start_ns=start_ns), numbers)
        self._minute = 0
        self._used_weight = 0

    def connect(self, target: str) -> BinanceSession:
        parts = urlsplit(target)
        path = self.dialect.route(parts.path)
        if path is None:
            raise Refused(HttpReply(404, b"Not Found"))
        query = parse_qs(parts.query)
        combined = path == "/stream"
        listed = query.get("streams", [""])[0] if combined else unquote(path[len("/ws/") :])
        streams = [name for name in listed.split("/") if name]
        if len(set(streams)) > _MAX_STREAMS:
            raise Refused(
                HttpReply(400, f"expected at most {_MAX_STREAMS} streams, found {len(set(streams))}".encode())
            )
        unit = query.get("timeUnit", ["millisecond"])[0].lower()
        microseconds = unit == "microsecond" and self.dialect.times_in_microseconds
        return BinanceSession(self, parts.path, streams, combined=combined, microseconds=microseconds)

    def rest(self, target: str, now_ns: int, *, stale: bool = False, body: bytes = b"") -> HttpReply:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        root, now_ms = self.dialect.rest_root, now_ns // NS_PER_MS
        if parts.path == f"{root}/depth":
            return self._depth(query, now_ns, stale)
        if parts.path == f"{root}/exchangeInfo":
            markets = list(self.markets.values())
            symbol = query.get("symbol")
            if symbol is not None:
                if symbol not in self.markets:
                    return self._weighed(1, now_ns, 400, error(-1121, "Invalid symbol."))
                markets = [self.markets[symbol]]
            body = msgspec.json.encode(self.dialect.exchange_info(markets, now_ms))
            return self._weighed(20 if root == "/api/v3" else 1, now_ns, 200, body)
        if parts.path == f"{root}/ping":
            return self._weighed(1, now_ns, 200, b"{}")
        if parts.path == f"{root}/time":
            return self._weighed(1, now_ns, 200, b'{"serverTime":%d}' % now_ms)
        return HttpReply(404, b"Not Found")

    def snapshot_symbol(self, target: str) -> str | None:
        parts = urlsplit(target)
        if parts.path != f"{self.dialect.rest_root}/depth":
            return None
        return parse_qs(parts.query).get("symbol", [None])[0]

    def rest_limit_reply(self, status: int, retry_after: int, now_ns: int) -> HttpReply:
        if status == 418:
            until = now_ns // NS_PER_MS + retry_after * 1000
            msg = f"Way too much request weight used; IP banned until {until}. Please use WebSocket Streams."
        else:
            msg = (
                f"Too much request weight used; current limit is {self.dialect.weight_limit} per 1 MINUTE. "
                "Please use WebSocket Streams for live updates to avoid polling the API."
            )
        headers = {"Retry-After": str(retry_after), "x-mbx-used-weight-1m": str(self._used_weight)}
        return HttpReply(status, error(-1003, msg), headers | _JSON)

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"e":"simulatorEvent","E":%d,"x":[1,"two",null]}' % (now_ns // NS_PER_MS)
        return Message("!simulator", "", "other", data, to_all=True)

    def unknown_symbol(self, now_ns: int) -> Message:
        dialect, symbol, now = self.dialect, self.dialect.ghost, now_ns // NS_PER_MS
        numbers = Numbers(dialect.market(symbol), dialect.decimals, dialect.decimals)
        text = dialect.diff(symbol, numbers, now, now, (2, 2, 1), {1000: 1}, {})
        return Message(f"{symbol.lower()}@depth@100ms", symbol, "delta", text.encode(), to_all=True)

    def recognise(self, payload: bytes) -> Message | None:
        """Read a recorded message's stream and symbol off it. None: an answer to the recorder, not market data.

        A message that was recorded bare has no stream; every client gets it.
        """
        match = _RECORDED.match(payload)
        if match is not None:
            stream, data = match["stream"].decode(errors="replace"), payload[match.end() : -1]
            name = parse_stream(stream, self.dialect)
            if name is None:
                return Message(stream, "", "other", data)
            return Message(stream, name.symbol, _KINDS[name.kind], data)
        if _ANSWER.match(payload):
            return None
        symbol = _SYMBOL_OF_BARE.search(payload)
        is_delta = payload.startswith(b'{"e":"depthUpdate"')
        return Message(
            None, symbol[1].decode(errors="replace") if symbol else "", "delta" if is_delta else "other", payload
        )

    def _depth(self, query: dict[str, str], now_ns: int, stale: bool) -> HttpReply:
        symbol = query.get("symbol", "")
        if not symbol:
            msg = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            return self._weighed(1, now_ns, 400, error(-1102, msg))
        if symbol not in self.markets:
            if not _SYMBOL.fullmatch(symbol):
                msg = "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'."
                return self._weighed(1, now_ns, 400, error(-1100, msg))
            return self._weighed(1, now_ns, 400, error(-1121, "Invalid symbol."))
        limit = self.dialect.depth_limit(query.get("limit"))
        if isinstance(limit, bytes):
            return self._weighed(1, now_ns, 400, limit)
        body = self.source.snapshot(symbol, limit, now_ns, stale=stale)
        if body is None:
            return self._weighed(1, now_ns, 400, error(-1121, "Invalid symbol."))
        return self._weighed(self.dialect.depth_weight(limit), now_ns, 200, body)

    def _weighed(self, weight: int, now_ns: int, status: int, body: bytes) -> HttpReply:
        """Charge a request's weight to the running minute; over the limit it gets 429 whatever it asked."""
        minute = now_ns // (60 * NS_PER_SECOND)
        if minute != self._minute:
            self._minute, self._used_weight = minute, 0
        self._used_weight += weight
        if self._used_weight > self.dialect.weight_limit:
            retry_after = 60 - now_ns // NS_PER_SECOND % 60
            return self.rest_limit_reply(429, retry_after, now_ns)
        return HttpReply(status, body, {"x-mbx-used-weight-1m": str(self._used_weight)} | _JSON)


class BinanceSpot(Binance):
    dialect = SpotDialect()


class BinanceFutures(Binance):
    """USD-M."""

    dialect = FuturesDialect()


class BinanceDelivery(Binance):
    """COIN-M."""

    dialect = DeliveryDialect()
    default_symbols = ("BTCUSD_PERP", "ETHUSD_PERP", "BNBUSD_PERP")
