import json
from typing import Any

import pytest

from feeds.simulator.binance import Binance, BinanceDelivery, BinanceFutures, BinanceSession, BinanceSpot
from feeds.simulator.order_flow import NS_PER_SECOND, FlowConfig
from feeds.simulator.protocol import PolicyViolation, Refused


def make(cls: type[Binance] = BinanceSpot) -> Binance:
    return cls(["BTCUSDT", "ETHUSDT"], flow=FlowConfig(rate=500, levels=50, warm_up=20))


def connect(exchange: Binance, target: str) -> BinanceSession:
    session = exchange.connect(target)
    session.open(0)
    return session


def ask(session: BinanceSession, request: Any) -> Any:
    text = request if isinstance(request, bytes) else json.dumps(request).encode()
    (answer,) = session.receive(text, 0)
    return json.loads(answer)


def received(exchange: Binance, session: BinanceSession, seconds: float = 1.0) -> list[Any]:
    until_ns = exchange.source.flow.ts_event + round(seconds * NS_PER_SECOND)
    return [
        json.loads(payload)
        for batch in exchange.source.poll(until_ns)
        for message in batch.messages
        if (payload := session.encode(message)) is not None
    ]


def test_subscriptions_are_acknowledged_listed_and_given_up() -> None:
    exchange = make()
    session = connect(exchange, "/stream")
    assert received(exchange, session) == []
    assert ask(session, {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "nosuch@depth"], "id": 1}) == {
        "result": None,
        "id": 1,
    }
    assert ask(session, {"method": "LIST_SUBSCRIPTIONS", "id": "a1"}) == {
        "result": ["btcusdt@trade", "nosuch@depth"],
        "id": "a1",
    }
    assert {message["stream"] for message in received(exchange, session)} == {"btcusdt@trade"}
    assert ask(session, {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade", "never@there"], "id": None}) == {
        "result": None,
        "id": None,
    }
    assert received(exchange, session) == []


def test_subscribing_twice_delivers_once() -> None:
    exchange = make()
    session = connect(exchange, "/stream?streams=btcusdt@trade/btcusdt@trade")
    ask(session, {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})
    ids = [message["data"]["t"] for message in received(exchange, session)]
    assert ids
    assert len(ids) == len(set(ids))
    ask(session, {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 2})
    assert received(exchange, session) == []


def test_combined_and_raw_modes_by_path_and_by_property() -> None:
    exchange = make()
    combined, raw = connect(exchange, "/stream?streams=btcusdt@trade"), connect(exchange, "/ws/btcusdt@trade/x@y")
    assert raw.streams == ["btcusdt@trade", "x@y"]
    assert list(received(exchange, combined)[0]) == ["stream", "data"]
    assert received(exchange, raw)[0]["e"] == "trade"
    assert ask(raw, {"method": "GET_PROPERTY", "params": ["combined"], "id": 1})["result"] is False
    assert ask(raw, {"method": "SET_PROPERTY", "params": ["combined", True], "id": 2}) == {"result": None, "id": 2}
    assert list(received(exchange, raw)[0]) == ["stream", "data"]


@pytest.mark.parametrize(
    ("request_", "code", "msg", "id_"),
    [
        (b"{nonsense", 3, "Invalid JSON: ", None),
        (b"[1]", 2, "Invalid request: expected an object", None),
        ({"id": 1}, 2, "Invalid request: missing field `method`", 1),
        ({"method": "NO", "id": 1}, 2, "Invalid request: unknown variant `NO`, expected one of `SUBSCRIBE`", 1),
        ({"method": "SUBSCRIBE", "id": 1}, 2, "Invalid request: missing field `params`", 1),
        ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "Invalid request: params must be", 1),
        ({"method": "SUBSCRIBE", "params": ["x" * 129], "id": 1}, 2, "Invalid request: params must be", 1),
        ({"method": "SUBSCRIBE", "params": ["a@b"], "id": 1.5}, 2, "Invalid request: request ID", None),
        ({"method": "SUBSCRIBE", "params": ["a@b"], "id": "x" * 37}, 2, "Invalid request: request ID", None),
        ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "Invalid value type: expected Boolean", 1),
        ({"method": "SET_PROPERTY", "params": ["other", True], "id": 1}, 0, "Unknown property", 1),
        ({"method": "SET_PROPERTY", "params": [1, True], "id": 1}, 2, "Invalid request: property name must", 1),
        ({"method": "GET_PROPERTY", "params": ["combined", True], "id": 1}, 2, "Invalid request: too many", 1),
    ],
)
def test_bad_requests_are_answered_with_a_code(request_: Any, code: int, msg: str, id_: Any) -> None:
    answer = ask(connect(make(), "/ws"), request_)
    assert list(answer) == ["error", "id"]
    assert (answer["error"]["code"], answer["id"]) == (code, id_)
    assert answer["error"]["msg"].startswith(msg)


def test_no_more_streams_than_a_connection_may_have() -> None:
    session = connect(make(), "/stream")
    names = [f"s{i}usdt@trade" for i in range(1024)]
    assert "result" in ask(session, {"method": "SUBSCRIBE", "params": names, "id": 1})
    assert ask(session, {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 2})["error"]["code"] == 2
    assert session.streams == names
    with pytest.raises(Refused, match="at most 1024 streams, found 1025"):
        make().connect("/stream?streams=" + "/".join([*names, "btcusdt@trade"]))


@pytest.mark.parametrize(("cls", "limit"), [(BinanceSpot, 5), (BinanceFutures, 10), (BinanceDelivery, 10)])
def test_clients_that_send_too_much_are_disconnected(cls: type[Binance], limit: int) -> None:
    session = connect(make(cls), "/ws")
    for i in range(limit):
        session.count_frame(i)
    with pytest.raises(PolicyViolation) as caught:
        session.count_frame(NS_PER_SECOND - 1)
    assert caught.value.code == 1008
    session.count_frame(NS_PER_SECOND)


@pytest.mark.parametrize(
    ("target", "streams"),
    [
        ("/public/stream", {"btcusdt@depth@100ms", "btcusdt@trade"}),
        ("/stream", {"btcusdt@depth@100ms", "btcusdt@trade"}),
        ("/market/stream", {"btcusdt@aggTrade"}),
    ],
)
def test_futures_routes_acknowledge_everything_and_serve_their_own(target: str, streams: set[str]) -> None:
    exchange = make(BinanceFutures)
    session = connect(exchange, target)
    params = ["btcusdt@depth@100ms", "btcusdt@trade", "btcusdt@aggTrade"]
    assert ask(session, {"method": "SUBSCRIBE", "params": params, "id": 1}) == {"result": None, "id": 1}
    assert ask(session, {"method": "LIST_SUBSCRIPTIONS", "id": 2})["result"] == params
    assert {message["stream"] for message in received(exchange, session, 3)} == streams


def test_coin_margined_futures_have_no_routes() -> None:
    exchange = BinanceDelivery(["BTCUSD_PERP"], flow=FlowConfig(rate=500, levels=50, warm_up=20))
    streams = {f"btcusd_perp@{kind}" for kind in ("depth@100ms", "bookTicker", "aggTrade")}
    session = connect(exchange, f"/stream?streams={'/'.join(sorted(streams))}")
    assert {message["stream"] for message in received(exchange, session, 3)} == streams


@pytest.mark.parametrize(
    ("cls", "target"),
    [
        (BinanceSpot, "/public/stream"),
        (BinanceSpot, "/streams"),
        (BinanceFutures, "/private/ws"),
        (BinanceDelivery, "/public/stream"),
    ],
)
def test_unknown_paths_are_refused(cls: type[Binance], target: str) -> None:
    with pytest.raises(Refused, match="404"):
        make(cls).connect(target)


@pytest.mark.parametrize(
    ("cls", "target", "code", "msg"),
    [
        (BinanceSpot, "/api/v3/depth?symbol=NOPE", -1121, "Invalid symbol."),
        (
            BinanceSpot,
            "/api/v3/depth",
            -1102,
            "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
        ),
        (BinanceSpot, "/api/v3/depth?symbol=btcusdt", -1100, "Illegal characters found in parameter 'symbol'"),
        (BinanceSpot, "/api/v3/depth?symbol=BTCUSDT&limit=x", -1100, "Illegal characters found in parameter 'limit'"),
        (BinanceSpot, "/api/v3/exchangeInfo?symbol=NOPE", -1121, "Invalid symbol."),
        (BinanceFutures, "/fapi/v1/depth?symbol=NOPE&limit=5", -1121, "Invalid symbol."),
        (BinanceFutures, "/fapi/v1/depth?symbol=BTCUSDT&limit=7", -4021, "7 is not valid depth limit."),
        (BinanceDelivery, "/dapi/v1/depth?symbol=BTCUSD&limit=5", -1121, "Invalid symbol."),
    ],
)
def test_bad_rest_requests(cls: type[Binance], target: str, code: int, msg: str) -> None:
    reply = make(cls).rest(target, 0)
    assert reply.status == 400
    assert json.loads(reply.body)["code"] == code
    assert json.loads(reply.body)["msg"].startswith(msg)


def test_a_rest_path_that_does_not_exist() -> None:
    assert make().rest("/api/v3/nothing", 0).status == 404
    assert make().rest("/fapi/v1/depth?symbol=BTCUSDT", 0).status == 404


def test_snapshots_have_the_levels_asked_for() -> None:
    exchange = make()
    for limit in (1, 5, 20):
        book = json.loads(exchange.rest(f"/api/v3/depth?symbol=BTCUSDT&limit={limit}", 0).body)
        assert (len(book["bids"]), len(book["asks"])) == (limit, limit)
    prices = [float(price) for price, _ in json.loads(exchange.rest("/api/v3/depth?symbol=BTCUSDT", 0).body)["bids"]]
    assert prices == sorted(prices, reverse=True)


def test_ping_and_time() -> None:
    assert make().rest("/api/v3/ping", 0).body == b"{}"
    assert make(BinanceFutures).rest("/fapi/v1/time", 5_000_000).body == b'{"serverTime":5}'


def test_used_weight_is_told_and_limited_per_minute() -> None:
    exchange = make()
    target = "/api/v3/depth?symbol=BTCUSDT&limit=5000"
    assert exchange.rest(target, 0).headers["x-mbx-used-weight-1m"] == "250"
    for _ in range(23):
        last = exchange.rest(target, 0)
    assert (last.status, last.headers["x-mbx-used-weight-1m"]) == (200, "6000")
    refused = exchange.rest(target, 45 * NS_PER_SECOND)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "15")
    assert json.loads(refused.body)["code"] == -1003
    assert exchange.rest(target, 60 * NS_PER_SECOND).headers["x-mbx-used-weight-1m"] == "250"


@pytest.mark.parametrize("symbol", ["btcusdt", "BTC/USDT", 'A"B', ""])
def test_symbols_that_binance_would_not_write_so_are_refused(symbol: str) -> None:
    with pytest.raises(ValueError, match="such as 'BTCUSDT', found"):
        BinanceSpot([symbol])
