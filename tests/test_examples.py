"""Every example runs, and says what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A recording in the collector format, three seconds long."""
    path = tmp_path / "capture.txt"
    path.write_text(
        '1000000000 {"lastUpdateId":10,"bids":[["100.00","2"]],"asks":[["100.20","3.00"]]}\n'
        '1000000001 {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1700000000000,"s":"BTCUSDT",'
        '"U":11,"u":12,"b":[["100.10","1.5"]],"a":[]}}\n'
        '3000000004 {"stream":"btcusdt@trade","data":{"e":"trade","E":1700000000005,"s":"BTCUSDT","t":7,'
        '"p":"100.20","q":"0.25","T":1700000000004,"m":false,"M":true}}\n'
    )
    return path


def test_spread_strategy(capture: Path) -> None:
    out = example("spread_strategy.py", capture)
    assert "book calls for 2 updates" in out
    assert "traded 0.2500" in out


def test_trades_to_csv(capture: Path) -> None:
    assert example("trades_to_csv.py", capture).splitlines() == [
        "ts_event,symbol,side,price,qty",
        "1700000000004000000,BTCUSDT,BUY,100.2,0.25",
    ]


def test_live_on_simulator() -> None:
    out = example("live_on_simulator.py")
    assert "1 gaps" in out
    assert "same: True" in out


def test_websocket_echo() -> None:
    out = example("websocket_echo.py")
    assert [line.partition(" -")[0].strip() for line in out.splitlines()] == ["message 0", "message 1", "message 2"]
    assert "and that was all, for now" in out.splitlines()[-1]


def test_websocket_latency() -> None:
    lines = example("websocket_latency.py").splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"quote {number}" for number in range(5)]
    if sys.platform == "linux":
        assert lines[-1].endswith("us after the kernel had it")


def test_websocket_reconnect() -> None:
    out = example("websocket_reconnect.py")
    assert out.splitlines() == ["failed: WSInvalidStatusError", "received one message", "received one message"]


def test_websocket_broadcast() -> None:
    assert example("websocket_broadcast.py").splitlines() == [
        "dropping a client that does not read",
        "the client that reads has every message: True",
    ]


def test_websocket_fragments() -> None:
    assert example("websocket_fragments.py").splitlines() == [
        "7 frames, one message of 100000 bytes: True",
        "refused: MESSAGE_TOO_BIG",
    ]


def test_websocket_tls() -> None:
    refused, received = example("websocket_tls.py").splitlines()
    assert refused.startswith("refused: ")
    assert received == "for your eyes only"


def test_websocket_subprotocol() -> None:
    assert example("websocket_subprotocol.py").splitlines() == [
        "quotes.v3, quotes.v2, quotes.v1: quotes.v2",
        "quotes.v1: quotes.v1",
        "chat: no common subprotocol",
    ]


def test_websocket_health() -> None:
    assert example("websocket_health.py").splitlines() == ["/health 200 ok", "/metrics 200 feed_connections 1"]


def test_websocket_proxy() -> None:
    assert example("websocket_proxy.py").splitlines() == [
        "without credentials: 407",
        "proxy: tunnel to localhost",
        "connected; encrypted up to the server: True",
    ]
