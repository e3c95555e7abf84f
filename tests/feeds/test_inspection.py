"""What an inspection finds in a small recording whose every number is known."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from feeds.inspection import Inspection, duration, when
from feeds.recording import LAST_IN_BATCH, Kind, RawMessage, RecordingWriter

MS = 1_000_000
S = 1_000_000_000
T0 = 1_700_000_000 * S
DEPTH = '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":%d,"u":%d,"b":[],"a":[]}}'
SNAPSHOT = '{"lastUpdateId":%d,"bids":[["100.00","2"]],"asks":[["100.50","3.00"]]}'
TRADE = (
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":%d,"s":"BTCUSDT","t":7,"p":"100.20","q":"0.25","T":%d,"m":false,'
    '"M":true}}'
)
QUOTE = '{"stream":"%s@bookTicker","data":{"u":12,"s":"%s","b":"100.10","B":"1.5","a":"100.20","A":"3"}}'


def trade(event: int) -> str:
    return TRADE % (event // MS, event // MS)


def record(path: Path) -> Path:
    """Two connections in 20 s: a burst, a lost message, a silence, a lost connection."""
    with RecordingWriter(path) as writer:
        one = writer.add_source("binance", "wss://one.example/ws", ts_recv=T0)
        two = writer.add_source("binance", "wss://two.example/ws", ts_recv=T0)

        def write(
            ts: int, source: int, payload: str, *, last: bool = True, kind: int = Kind.TEXT, tag: str = ""
        ) -> None:
            flags = kind | (LAST_IN_BATCH if last and kind == Kind.TEXT else 0)
            writer.write(RawMessage(ts, source, flags, tag, payload.encode()))

        write(T0, one, "", kind=Kind.CONNECTED)
        write(T0 + 1 * MS, one, DEPTH % ((T0 - 9 * MS) // MS, 11, 12), last=False)
        write(T0 + 1 * MS, one, QUOTE % ("btcusdt", "BTCUSDT"))
        write(T0 + 2 * MS, one, SNAPSHOT % 10, kind=Kind.REPLY, tag="BTCUSDT")
        for n in range(3):
            write(T0 + 3 * MS + n * 400_000, one, trade(T0 - 2 * MS), last=n == 2)
        write(T0 + 13 * MS, two, QUOTE % ("ethusdt", "ETHUSDT"))
        write(T0 + 10 * S, one, DEPTH % (T0 // MS + 9_990, 14, 14))
        write(T0 + 11 * S, one, SNAPSHOT % 20, kind=Kind.REPLY, tag="BTCUSDT")
        write(T0 + 11 * S, one, '{"stream":"btcusdt@avgPrice","data":{"e":"avgPrice"}}')
        write(T0 + 12 * S, one, "reset by peer", kind=Kind.DISCONNECTED)
        write(T0 + 20 * S, two, QUOTE % ("ethusdt", "ETHUSDT"))
    return path


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    inspection = Inspection.of(str(record(tmp_path / "a.feeds")))
    return json.loads(json.dumps(inspection.as_dict()))  # type: ignore[no-any-return]


def counts(**known: int) -> dict[str, int]:
    names = (
        "book", "snapshots", "quote", "trade", "ticker", "funding", "open_interest", "liquidation", "candle", "gaps",
        "checksum_failures",
    )  # fmt: skip
    return {name: known.get(name, 0) for name in names}


def rates(**known: float) -> dict[str, float]:
    names = ("book", "quote", "trade", "ticker", "funding", "open_interest", "liquidation", "candle")
    return {name: known.get(name, 0.0) for name in names}


def test_the_span_and_what_is_in_it(found: dict[str, Any]) -> None:
    assert (found["format"], found["first"], found["last"]) == ("native", T0, T0 + 20 * S)
    assert (found["records"], found["messages"]) == (15, 9)
    assert (found["statuses"], found["problems"]) == (
        {"connected": 1, "problem": 1, "disconnected": 1},
        {"unknown_event": 1},
    )
    assert (found["damages"], found["damage_count"], found["lost_bytes"]) == ([], 0, 0)


def test_connections(found: dict[str, Any]) -> None:
    one, two = found["connections"]
    size = one.pop("bytes")
    assert size == sum(map(len, (DEPTH % (1700000000000, 11, 12), QUOTE % ("btcusdt", "BTCUSDT"), *[trade(T0)] * 3,
                                 DEPTH % (1700000000000, 14, 14),
                                 '{"stream":"btcusdt@avgPrice","data":{"e":"avgPrice"}}')))  # fmt: skip
    assert one == {
        "source": 1, "exchange": "binance", "url": "wss://one.example/ws", "messages": 7, "per_second": 0.35,
        "bursts": 4, "largest_batch": 3, "checksum_failures": 0, "disconnects": 1, "reasons": {"reset by peer": 1},
    }  # fmt: skip
    assert (two["url"], two["messages"], two["disconnects"], two["reasons"]) == ("wss://two.example/ws", 2, 0, {})
    assert found["disconnects"] == {
        "count": 1,
        "listed": [{"ts_recv": T0 + 12 * S, "source": 1, "exchange": "binance", "reason": "reset by peer"}],
    }


def test_events_by_symbol_and_channel(found: dict[str, Any]) -> None:
    btc, eth = found["channels"]
    assert btc == {
        "exchange": "binance", "symbol": None, "raw_symbol": "BTCUSDT",
        **counts(book=4, snapshots=2, quote=1, trade=3, gaps=1),
        "per_second": rates(book=0.2, quote=0.05, trade=0.15),
        "first_live": T0 + 2 * MS, "not_live_ns": 9 * S,
    }  # fmt: skip
    assert eth == {
        "exchange": "binance", "symbol": None, "raw_symbol": "ETHUSDT", **counts(quote=2),
        "per_second": rates(quote=0.1), "first_live": 0, "not_live_ns": 0,
    }  # fmt: skip
    assert found["unlisted_symbols"] == {"count": 0, **counts()}


def test_gaps_and_silences(found: dict[str, Any]) -> None:
    gap, stale = found["book_gaps"]["listed"]
    assert (found["book_gaps"]["count"], found["book_gaps"]["total_ns"]) == (2, 9 * S)
    assert (gap["start"], gap["end"], gap["state"], gap["is_open"]) == (T0 + 10 * S, T0 + 11 * S, "GAP", False)
    assert (stale["start"], stale["end"], stale["state"], stale["is_open"]) == (T0 + 12 * S, T0 + 20 * S, "STALE", True)
    assert gap["raw_symbol"] == stale["raw_symbol"] == "BTCUSDT"
    assert found["silences"] == {
        "longer_than_ns": 5 * S,
        "count": 3,
        "total_ns": 20 * S - 13 * MS + 10 * S - 3_800_000 + 9 * S,
        "listed": [
            {"start": T0 + 3_800_000, "end": T0 + 10 * S, "source": 1, "exchange": "binance"},
            {"start": T0 + 13 * MS, "end": T0 + 20 * S, "source": 2, "exchange": "binance"},
            {"start": T0 + 11 * S, "end": T0 + 20 * S, "source": 1, "exchange": "binance"},
        ],
    }


def test_bursts_and_batches(found: dict[str, Any]) -> None:
    assert found["bursts"] == [
        {"window_ns": 1 * MS, "messages": 3, "ts_recv": T0 + 3_800_000},
        {"window_ns": 10 * MS, "messages": 5, "ts_recv": T0 + 3_800_000},
        {"window_ns": 100 * MS, "messages": 6, "ts_recv": T0 + 13 * MS},
    ]
    assert found["batches"] == {
        "count": 6, "largest": 3, "largest_ts_recv": T0 + 3_800_000,
        "sizes": [
            {"least": 1, "most": 1, "batches": 4},
            {"least": 2, "most": 2, "batches": 1},
            {"least": 3, "most": 4, "batches": 1},
        ],
    }  # fmt: skip
    assert found["steps_back"] == {"count": 0, "largest_ns": 0}


def test_clock_skew_is_of_events_that_have_a_time_and_are_no_snapshots(found: dict[str, Any]) -> None:
    (skew,) = found["clock_skew"]
    assert (skew["exchange"], skew["events"], skew["min"], skew["max"]) == ("binance", 5, 5 * MS, 10 * MS)
    assert skew["p50"] == pytest.approx(5.8 * MS, rel=0.03)
    assert skew["p99"] == 10 * MS


def test_the_keys_are_those_of_the_documentation_in_its_order(found: dict[str, Any]) -> None:
    documented = []
    for line in (Path(__file__).parents[2] / "docs/inspection.md").read_text().splitlines():
        if line.startswith("| `"):
            documented.append(line.split("`")[1])
    assert documented == list(found)


def test_what_is_printed_names_what_happened(tmp_path: Path) -> None:
    out = io.StringIO()
    Inspection.of(str(record(tmp_path / "[a].feeds"))).print(Console(file=out, width=200))
    text = out.getvalue()
    assert "[a].feeds  native" in text
    for words in ("reset by peer", "Books that were not in sync", "8.00 s, to the end", "10.000 ms", "unknown_event 1"):
        assert words in text


def test_damage_is_counted(tmp_path: Path) -> None:
    path = record(tmp_path / "a.feeds")
    data = bytearray(path.read_bytes())
    data[-80] ^= 1
    path.write_bytes(data)
    found = Inspection.of(str(path))
    assert found.damage_count == len(found.damages) > 0
    assert any(remark.startswith("damaged: offset ") for remark in found.remarks())


def test_a_recording_without_messages(tmp_path: Path) -> None:
    RecordingWriter(tmp_path / "a.feeds").close()
    found = Inspection.of(str(tmp_path / "a.feeds"))
    assert (found.first, found.last, found.messages, found.channels, found.clock_skew) == (0, 0, 0, [], [])
    assert [row["messages"] for row in found.bursts] == [0, 0, 0]


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1.00 us"),
        (12_345, "12.3 us"),
        (9_996, "10.0 us"),
        (-1_500_000, "-1.50 ms"),
        (90 * S, "90.0 s"),
    ],
)
def test_durations_have_three_digits(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_times_are_shown_to_the_ns() -> None:
    assert when(-(2**63)) == "1677-09-21 00:12:43.145224192Z"
    assert when(2**63 - 1) == "2262-04-11 23:47:16.854775807Z"
    assert when(1) == "1970-01-01 00:00:00.000000001Z"
    assert when(0) == "-"
