"""Messages of simulated exchanges and recorded ones must be told apart by their numbers only."""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from feeds.simulator.doubles import double
from feeds.simulator.order_flow import NS_PER_SECOND, FlowConfig
from feeds.simulator.server import find_simulator

START_NS = 1_684_930_165 * NS_PER_SECOND
Lines = Callable[[str], Iterator[str]]
NUMBER = re.compile(r"[\[,:](-?\d[\d.]*(?:E-?\d+)?)(?=[,\]}])")


def recorded(lines: Iterator[str]) -> Iterator[str]:
    """Yield what a client got."""
    for line in lines:
        time, colon, payload = line.rstrip("\n").partition(": ")
        if colon and re.fullmatch(r"\d+\.\d+", time):
            yield gzip.decompress(ast.literal_eval(payload)).decode() if payload.startswith("b") else payload


def shape(value: Any) -> Any:
    """Keys in their order and the kinds of values; of arrays those of the first."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


def filled(message: Any) -> bool:
    """Whether no array of a message is empty."""
    if isinstance(message, dict):
        return all(map(filled, message.values()))
    return message != [] if isinstance(message, list) else True


def simulated(exchange: str, path: str, symbol: str, requests: list[Any]) -> Iterator[str]:
    """Yield what a client gets."""
    made = find_simulator(exchange)([symbol], flow=FlowConfig(levels=60, warm_up=100, seed=3), start_ns=START_NS)
    session = made.connect(path)
    answers = [answer for request in requests for answer in session.receive(json.dumps(request).encode(), START_NS)]
    pushed = (
        session.encode(message)
        for batch in made.source.poll(START_NS + 3 * NS_PER_SECOND)
        for message in batch.messages
    )
    for payload in [*answers, *pushed]:
        yield (gzip.decompress(payload) if payload.startswith(b"\x1f\x8b") else payload).decode()


def shapes(texts: Iterator[str], marks: tuple[str, ...]) -> dict[str, Any]:
    """Return the shape of the first filled message with each of the marks."""
    found: dict[str, Any] = {}
    for text in texts:
        for mark in marks:
            if mark in text and mark not in found and filled(message := json.loads(text)):
                found[mark] = shape(message)
    return found


@pytest.mark.parametrize(
    ("exchange", "path", "symbol", "capture"),
    [
        ("htx", "/ws", "omgbtc", "HUOBI.ws.44.0.gz"),
        ("htx-swap", "/swap-ws", "ATOM-USD", "HUOBI_SWAP.ws.1.0.gz"),
        ("htx-swap", "/linear-swap-ws", "GRT-USDT", "HUOBI_SWAP.ws.2.0.gz"),
    ],
)
def test_shapes_of_htx_are_the_recorded_ones(
    exchange: str, path: str, symbol: str, capture: str, capture_lines: Lines
) -> None:
    topics = [f"market.{symbol}.{channel}" for channel in ("depth.step0", "trade.detail")]
    marks = ('"subbed"', *(f'"ch":"{topic}"' for topic in topics))
    ours = shapes(simulated(exchange, path, symbol, [{"sub": topic, "id": "1"} for topic in topics]), marks)
    assert ours.keys() == set(marks)
    theirs = shapes(recorded(capture_lines(f"exchanges/{capture}")), marks)
    if exchange == "htx":  # the ids of those requests were numbers, and come back as they are
        theirs[marks[0]][0] = ("id", "str")
    assert ours == theirs


def test_shapes_of_gateio_futures_are_the_recorded_ones(capture_lines: Lines) -> None:
    payloads = {"order_book_update": ["PHB_USDT", "100ms"], "book_ticker": ["PHB_USDT"]}
    requests = [
        {"channel": f"futures.{channel}", "event": "subscribe", "payload": payload}
        for channel, payload in payloads.items()
    ]
    marks = tuple(f'"channel":"futures.{channel}","event":"update"' for channel in payloads)
    ours = shapes(simulated("gateio-futures", "/v4/ws/usdt", "PHB_USDT", requests), marks)
    assert ours.keys() == set(marks)
    assert ours == shapes(recorded(capture_lines("exchanges/GATEIO_FUTURES.ws.1.0.gz")), marks)


@pytest.mark.parametrize(
    ("plain", "written"),
    [
        ("0.0000009121", "9.121E-7"),
        ("0.001", "0.001"),
        ("0.00036", "3.6E-4"),
        ("188358", "188358.0"),
        ("13640078.0", "1.3640078E7"),
        ("20000000", "2.0E7"),
        ("0.00", "0.0"),
    ],
)
def test_doubles_are_written_as_java_does(plain: str, written: str) -> None:
    assert double(plain) == written


def test_doubles_are_written_as_recorded(capture_lines: Lines) -> None:
    for text in recorded(capture_lines("exchanges/HUOBI.ws.44.0.gz")):
        if ".depth.step0" in text and '"tick"' in text:
            book = text[text.index('"bids":') : text.index(',"version"')]
            for number in NUMBER.findall(book):
                if len(number.replace(".", "")) < 16:  # what a double has for sure
                    assert double(number) == number
