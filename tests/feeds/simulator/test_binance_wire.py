"""Messages of the simulator and recorded ones must be told apart by their numbers only."""

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest

from feeds.simulator.binance import Binance, BinanceDelivery, BinanceFutures, BinanceSpot
from feeds.simulator.binance_wire import FuturesDialect, SpotDialect, parse_stream
from feeds.simulator.order_flow import NS_PER_SECOND, FlowConfig

START_NS = 1_723_161_255 * NS_PER_SECOND
Lines = Callable[[str], Iterator[str]]


def shape(value: Any) -> Any:
    """Keys in their order and kinds of values; a decimal string by the number of its decimals."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return shape(value[0]) if value else []
    if isinstance(value, str) and re.fullmatch(r"\d+\.\d+|\d+", value):
        return f"decimal with {len(value.partition('.')[2])}"
    return value if isinstance(value, str) else type(value).__name__


def add(fullest: dict[str, Any], message: dict[str, Any]) -> None:
    """Keep, per stream, the first filled value of every key; the keys must be the same every time."""
    stream = message.get("stream", "")
    data = message.get("data", message)
    kept = fullest.setdefault(stream, data)
    assert list(kept) == list(data)
    fullest[stream] = {key: kept[key] if kept[key] != [] else data[key] for key in data}


def simulated_shapes(cls: type[Binance], target: str, symbol: str = "BTCUSDT") -> dict[str, Any]:
    """By stream, the shape of a few seconds' messages."""
    exchange = cls([symbol], flow=FlowConfig(rate=500, levels=100, warm_up=10), start_ns=START_NS)
    session = exchange.connect(target)
    session.open(START_NS)
    fullest: dict[str, Any] = {}
    for batch in exchange.source.poll(START_NS + 5 * NS_PER_SECOND):
        for message in batch.messages:
            payload = session.encode(message)
            assert payload is not None
            add(fullest, json.loads(payload))
    return {stream: shape(data) for stream, data in fullest.items()}


def captured_shapes(lines: Iterator[str]) -> dict[str, Any]:
    """The same of recorded messages; a REST snapshot stands under ''."""
    fullest: dict[str, Any] = {}
    for line in islice(lines, 5_000):
        add(fullest, json.loads(line[line.index("{") :]))
    return {stream: shape(data) for stream, data in fullest.items()}


@pytest.mark.parametrize(
    ("cls", "capture", "depth", "rest"),
    [
        (BinanceSpot, "binance/spot-btcusdt_20240808.gz", "btcusdt@depth@100ms", "/api/v3/depth"),
        (BinanceFutures, "binance/usdm-btcusdt_20240808.gz", "btcusdt@depth@0ms", "/fapi/v1/depth"),
    ],
)
def test_shapes_are_those_of_recorded_traffic(
    cls: type[Binance], capture: str, depth: str, rest: str, capture_lines: Lines
) -> None:
    captured = captured_shapes(capture_lines(capture))
    assert captured.keys() == {"", depth, "btcusdt@bookTicker", "btcusdt@trade"}
    target = f"/stream?streams={depth}/btcusdt@bookTicker/btcusdt@trade"
    simulated = simulated_shapes(cls, target)
    exchange = cls(["BTCUSDT"])
    simulated[""] = shape(json.loads(exchange.rest(f"{rest}?symbol=BTCUSDT", START_NS).body))
    assert simulated == captured


def test_shapes_of_coin_margined_futures_are_the_recorded_ones(capture_lines: Lines) -> None:
    streams = [f"linkusd_perp@{kind}" for kind in ("aggTrade", "bookTicker", "depth@100ms")]
    lines = [line for line in capture_lines("exchanges/BINANCE_DELIVERY.ws.1.0.gz") if "linkusd_perp@" in line]
    captured = captured_shapes(line for line in lines if line.partition(": ")[2].startswith('{"stream"'))
    captured = {stream: captured[stream] for stream in streams}
    reply = next(
        line for line in capture_lines("exchanges/BINANCE_DELIVERY.http.0.0.gz") if "symbol=LINKUSD_PERP" in line
    )
    captured[""] = shape(json.JSONDecoder().raw_decode(reply[reply.index("{") :])[0])
    simulated = simulated_shapes(BinanceDelivery, f"/stream?streams={'/'.join(streams)}", "LINKUSD_PERP")
    snapshot = BinanceDelivery(["LINKUSD_PERP"]).rest("/dapi/v1/depth?symbol=LINKUSD_PERP", START_NS)
    simulated[""] = shape(json.loads(snapshot.body))
    assert simulated == captured


@pytest.mark.parametrize(
    ("cls", "capture", "bids_descend"),
    [
        (BinanceSpot, "binance/spot-btcusdt_20240808.gz", True),
        (BinanceFutures, "binance/usdm-btcusdt_20240808.gz", False),
    ],
)
def test_levels_of_a_diff_are_ordered_as_recorded(
    cls: type[Binance], capture: str, bids_descend: bool, capture_lines: Lines
) -> None:
    exchange = cls(["BTCUSDT"], flow=FlowConfig(levels=100, warm_up=10))
    session = exchange.connect("/ws/btcusdt@depth@100ms")
    session.open(0)
    simulated = [
        json.loads(payload)
        for batch in exchange.source.poll(5 * NS_PER_SECOND)
        for message in batch.messages
        if (payload := session.encode(message)) is not None
    ]
    recorded = [
        json.loads(line[line.index("{") :])["data"]
        for line in islice(capture_lines(capture), 2_000)
        if '"e":"depthUpdate"' in line
    ]
    for diffs in (simulated, recorded):
        assert max(len(diff["b"]) for diff in diffs) > 5
        for diff in diffs:
            bids, asks = ([Decimal(price) for price, _ in diff[side]] for side in "ba")
            assert bids == sorted(bids, reverse=bids_descend)
            assert asks == sorted(asks)


@pytest.mark.parametrize(
    ("cls", "capture", "target"),
    [
        (BinanceSpot, "exchanges/BINANCE.ws.1.0.gz", "/stream?streams=btcusdt@aggTrade"),
        (BinanceFutures, "exchanges/BINANCE_FUTURES.ws.1.0.gz", "/market/stream?streams=btcusdt@aggTrade"),
    ],
)
def test_aggregate_trades_have_the_recorded_keys(
    cls: type[Binance], capture: str, target: str, capture_lines: Lines
) -> None:
    recorded = next(
        json.loads(line[line.index("{") :])["data"] for line in capture_lines(capture) if '"e":"aggTrade"' in line
    )
    assert [key for key, _ in simulated_shapes(cls, target)["btcusdt@aggTrade"]] == list(recorded)


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(key in rest for key in part)


@pytest.mark.parametrize(
    ("cls", "symbol", "capture", "path"),
    [
        (BinanceSpot, "BTCUSDT", "exchanges/BINANCE.0.gz", "/api/v3/exchangeInfo"),
        (BinanceFutures, "BTCUSDT", "exchanges/BINANCE_FUTURES.0.gz", "/fapi/v1/exchangeInfo"),
        (BinanceDelivery, "BTCUSD_PERP", "exchanges/BINANCE_DELIVERY.0.gz", "/dapi/v1/exchangeInfo"),
    ],
)
def test_metadata_has_the_recorded_keys_and_filters(
    cls: type[Binance], symbol: str, capture: str, path: str, capture_lines: Lines
) -> None:
    line = next(line for line in capture_lines(capture) if "exchangeInfo" in line)
    recorded, _ = json.JSONDecoder().raw_decode(line[line.index("{") :])
    simulated = json.loads(cls([symbol]).rest(path, START_NS).body)
    assert list(simulated) == list(recorded)
    theirs = next(one for one in recorded["symbols"] if one["symbol"] == symbol)
    (ours,) = simulated["symbols"]
    assert is_subsequence(list(theirs), list(ours))
    for kind in ("PRICE_FILTER", "LOT_SIZE", "MARKET_LOT_SIZE", "MAX_NUM_ORDERS"):
        their_filter, our_filter = (
            next(f for f in one["filters"] if f["filterType"] == kind) for one in (theirs, ours)
        )
        assert list(our_filter) == list(their_filter)


def test_metadata_gives_the_steps_that_the_stream_keeps() -> None:
    futures = json.loads(BinanceFutures(["BTCUSDT"]).rest("/fapi/v1/exchangeInfo", 0).body)["symbols"][0]
    steps = {f["filterType"]: f for f in futures["filters"]}
    assert steps["PRICE_FILTER"]["tickSize"] == "0.10"
    assert steps["LOT_SIZE"]["stepSize"] == "0.001"
    assert futures["contractType"] == "PERPETUAL"
    spot = json.loads(BinanceSpot(["BTCUSDT"]).rest("/api/v3/exchangeInfo", 0).body)["symbols"][0]
    steps = {f["filterType"]: f for f in spot["filters"]}
    assert steps["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert steps["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert spot["status"] == "TRADING"
    inverse = json.loads(BinanceDelivery(["BTCUSD_PERP", "ETHUSD_PERP"]).rest("/dapi/v1/exchangeInfo", 0).body)
    steps = {f["filterType"]: f for f in inverse["symbols"][0]["filters"]}
    assert (steps["PRICE_FILTER"]["tickSize"], steps["LOT_SIZE"]["stepSize"]) == ("0.1", "1")
    assert [(one["contractSize"], one["marginAsset"]) for one in inverse["symbols"]] == [(100, "BTC"), (10, "ETH")]


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        (SpotDialect(), "btcusdt@depth"),
        (SpotDialect(), "btcusdt@depth@100ms"),
        (SpotDialect(), "btcusdt@depth10@100ms"),
        (FuturesDialect(), "btcusdt_260925@depth@0ms"),
        (FuturesDialect(), "btcusdt@depth@500ms"),
        (FuturesDialect(), "btcusdt@depth20@250ms"),
        (SpotDialect(), "币安人生usdt@trade"),
    ],
)
def test_stream_names_that_have_data(dialect: SpotDialect | FuturesDialect, name: str) -> None:
    stream = parse_stream(name, dialect)
    assert stream is not None
    assert stream.symbol == name.partition("@")[0].upper()


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        (SpotDialect(), "BTCUSDT@depth"),
        (SpotDialect(), "btcusdt@depth@0ms"),
        (SpotDialect(), "btcusdt@depth7"),
        (SpotDialect(), "btcusdt@bookTicker@100ms"),
        (SpotDialect(), "btcusdt@bookticker"),
        (SpotDialect(), "btcusdt"),
        (SpotDialect(), "@trade"),
        (FuturesDialect(), "btcusdt@depth5@0ms"),
    ],
)
def test_stream_names_that_stay_silent(dialect: SpotDialect | FuturesDialect, name: str) -> None:
    assert parse_stream(name, dialect) is None
