"""The command line, each command as a user calls it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from click.testing import CliRunner, Result

from feeds import cli, demo, session
from feeds.events import EventHandler
from feeds.exchange import exchange_ids
from feeds.recording import Kind, RecordingReader, RecordingWriter
from feeds.simulator.server import simulated_ids
from feeds.subscription import CHANNELS

CAPTURES = Path(__file__).parents[2] / os.environ.get("FEEDS_CAPTURES", "../shared/captures")
DEPTH = '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":%d,"u":%d,"b":%s,"a":%s}}'
COLLECTED = "".join(
    f"{1_000_000_000 + number} {text}\n"
    for number, text in enumerate(
        [
            DEPTH % (1700000000000, 11, 12, '[["100.10","1.5"]]', "[]"),
            '{"lastUpdateId":10,"bids":[["100.00","2"]],"asks":[["100.20","3.00"]]}',
            '{"stream":"btcusdt@bookTicker","data":{"u":12,"s":"BTCUSDT","b":"100.10","B":"1.5","a":"100.20","A":"3"}}',
            '{"stream":"btcusdt@trade","data":{"e":"trade","E":1700000000005,"s":"BTCUSDT","t":7,"p":"100.20","q":"0.25",'
            '"T":1700000000004,"m":false,"M":true}}',
            DEPTH % (1700000000100, 14, 14, "[]", '[["100.20","0"]]'),
            '{"stream":"btcusdt@avgPrice","data":{"e":"avgPrice"}}',
        ],
        1,
    )
).encode()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.commands, [str(argument) for argument in arguments], catch_exceptions=False)


def feeds(*arguments: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: exit status and messages as the shell sees them."""
    command = [sys.executable, "-m", "feeds", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture
def collected(tmp_path: Path) -> Path:
    path = tmp_path / "collected.txt"
    path.write_bytes(COLLECTED)
    return path


@pytest.fixture
def simulator() -> Iterator[dict[str, str]]:
    """A simulated exchange in a process of its own; its addresses."""
    with serving("binance", "--rate", "2000") as (address,):
        yield address


@contextlib.contextmanager
def serving(*arguments: str | Path) -> Iterator[list[dict[str, str]]]:
    """Run `feeds simulate` in a process of its own; the addresses of its exchanges."""
    command = [sys.executable, "-m", "feeds", "simulate", "--json", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        exchanges = [argument for argument in arguments if argument in simulated_ids()]
        yield [json.loads(process.stdout.readline()) for _ in exchanges or ["of the recording"]]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def recorded(simulator: dict[str, str], tmp_path: Path) -> Path:
    path = tmp_path / "session.feeds"
    result = run("record", "binance", "BTC-USDT", "ETHUSDT", "-o", path, "--duration", "1.5", *addresses(simulator))
    assert result.exit_code == 0, result.output
    return path


def addresses(simulator: dict[str, str]) -> tuple[str, ...]:
    return ("--ws-url", simulator["ws_url"], "--rest-url", simulator["rest_url"])


def test_every_command_teaches() -> None:
    assert set(cli.commands.commands) == {
        "convert", "decode", "demo", "diff", "exchanges", "inspect", "live", "record", "repair", "replay", "simulate"
    }  # fmt: skip
    for name in cli.commands.commands:
        result = run(name, "--help")
        assert result.exit_code == 0
        assert len(result.output) > 150
        assert "..." not in result.output.splitlines()[2], "the first sentence is cut"


def test_convert_writes_what_its_output_is_called(collected: Path, tmp_path: Path) -> None:
    result = run("convert", collected, "-o", tmp_path / "out.parquet")
    assert result.exit_code == 0, result.output
    assert {path.stem for path in (tmp_path / "out.parquet").iterdir()} == {
        "trades",
        "quotes",
        "book_deltas",
        "statuses",
    }
    assert "1 messages skipped, unknown" in result.stderr
    assert "messages to " in result.stdout
    assert "(parquet, " in result.stdout
    ours = tmp_path / "ours.feeds"
    assert run("convert", collected, "-o", ours).exit_code == 0
    assert run("decode", ours).stdout == run("decode", collected).stdout != ""


def test_convert_fails_with_a_sentence(collected: Path, tmp_path: Path) -> None:
    done = feeds("convert", collected, "-o", collected, "--to", "tardis-csv")
    assert done.returncode == 1
    assert done.stderr == f"error: {collected}: expected a new name, found that it is there already\n"


def test_convert_says_what_is_remarkable(collected: Path, tmp_path: Path) -> None:
    result = run("convert", collected, "-o", tmp_path / "out.npz")
    assert result.exit_code == 0, result.output
    assert "are dated after their receipt" in result.stderr


def test_diff_tells_by_its_status_whether_two_recordings_are_equal(collected: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours.feeds"
    run("convert", collected, "-o", ours)
    assert (run("diff", collected, ours).exit_code, run("diff", collected, ours).stdout) == (0, "equal: 10 events\n")
    assert run("diff", collected, "--reference").exit_code == 0

    changed = tmp_path / "changed"
    changed.write_bytes(COLLECTED.replace(b'"q":"0.25"', b'"q":"0.26"'))
    result = run("diff", collected, changed, "--context", "1")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "different: event 7, received 1970-01-01 00:00:01.000000004Z, binance BTCUSDT",
        "    Quote binance BTCUSDT ts_event=0 ts_recv=1000000003 bid=100.1 1.5 ask=100.2 3.0 sequence=12 merged=1 "
        "ts_event_first=0",
        "  A Trade binance BTCUSDT ts_event=1700000000004000000 ts_recv=1000000004 side=BUY price=100.2 qty=0.25 id=7 "
        "is_backlog=False",
        "  B Trade binance BTCUSDT ts_event=1700000000004000000 ts_recv=1000000004 side=BUY price=100.2 qty=0.26 id=7 "
        "is_backlog=False",
        "qty: 0.25 in A, 0.26 in B",
    ]
    changed.write_bytes(b"".join(COLLECTED.splitlines(keepends=True)[:-3]))
    result = run("diff", collected, changed)
    assert result.exit_code == 1
    assert "  B has no more events" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected B, --reference or two different --policy"),
        (["--policy", "batch", "--policy", "batch"], "expected B, --reference or two different --policy"),
        (["--policy", "batch"] * 3, "expected --policy at most twice, found 3"),
        ([Path(__file__)], "expected b"),
    ],
)
def test_diff_says_by_its_status_that_it_could_not_compare(arguments: list[str], message: str, collected: Path) -> None:
    done = feeds("diff", collected, *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_demo_proves_that_live_and_replay_agree(tmp_path: Path) -> None:
    kept = tmp_path / "demo.feeds"
    done = feeds("demo", "--duration", "5", "--keep", kept)
    assert done.returncode == 0, done.stderr
    assert "Live and replay made the same" in done.stdout
    for words in (
        "messages",
        "frames",
        "bursts",
        "callbacks",
        "updates merged",
        "gaps",
        "read to callback",
        "best bid",
    ):
        assert words in done.stdout
    assert "found, each repaired by a new snapshot" in done.stdout
    with RecordingReader(kept) as recording:
        assert recording.metadata["policy"] == "batch"


def test_demo_fails_when_live_and_replay_differ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = demo.session.replay

    def without_the_end(*arguments: Any, **options: Any) -> Any:
        return whole(*arguments, **options, policy="none")

    monkeypatch.setattr(demo.session, "replay", without_the_end)
    result = run("demo", "--duration", "1.5", "--keep", tmp_path / "demo.feeds")
    assert result.exit_code == 1
    assert "Live and replay differ" in result.output


def test_live_prints_books_and_a_report(simulator: dict[str, str]) -> None:
    result = run("live", "binance", "BTC-USDT", "--duration", "2", *addresses(simulator))
    assert result.exit_code == 0, result.output
    assert "BTC-USDT: book SYNCING -> LIVE (snapshot joined)" in result.output
    assert "book calls" in result.output
    assert "live session" in result.output


def test_live_runs_a_strategy(simulator: dict[str, str]) -> None:
    options = ("--strategy", "strategies.imbalance_cython:BookImbalance", "--duration", "1", "--latency")
    result = run("live", "binance", "BTC-USDT", *options, *addresses(simulator))
    assert result.exit_code == 0, result.output
    stages = ["kernel to read", "read to decode", "decode", "book", "read to callback", "callback"]
    # The first message is measured always; which of the others is chance.
    assert is_part_of(table_of(result.output, "latency, us"), stages, with_="read to decode")


def is_part_of(found: list[str], stages: list[str], *, with_: str) -> bool:
    """Whether what was found are some of the stages, in their order, this one among them."""
    return with_ in found and found == [stage for stage in stages if stage in found]


def table_of(output: str, heading: str) -> list[str]:
    """Return the names of the rows of the table with this heading; every other cell is a number."""
    lines = iter(output.splitlines())
    columns = next(line for line in lines if line.startswith(heading)).split()
    assert columns[-5:] == ["p50", "p99", "p99.9", "max", "measured"]
    names = []
    for line in lines:
        *words, p50, p99, p999, most, count = line.split()
        if not count.replace(",", "").isdigit() or not p50[-1].isdigit():
            break
        figures = [float(cell.replace(",", "")) for cell in (p50, p99, p999, most)]
        assert figures == sorted(figures)
        names.append(" ".join(words))
    return names


def test_a_busy_polling_recording_replays_the_same(simulator: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "session.feeds"
    options = ("-o", path, "--busy-poll", "--duration", "1")
    recorded = run("record", "binance", "BTC-USDT", *options, *addresses(simulator))
    assert recorded.exit_code == 0, recorded.output
    replayed = run("replay", path)
    assert replayed.exit_code == 0, replayed.output
    assert session.replay(EventHandler(), path).is_same


def test_a_file_of_feeds_is_shown_and_recorded(tmp_path: Path) -> None:
    recording = tmp_path / "session.feeds"
    config = tmp_path / "feeds.toml"
    with serving("binance", "binance-futures", "--rate", "500") as exchanges:
        feeds = [
            f'[[feeds]]\nexchange = "{name}"\nsymbols = ["BTCUSDT"]\n'
            f'endpoints = {{ ws = "{at["ws_url"]}", rest = "{at["rest_url"]}" }}\n'
            for name, at in zip(("binance", "binance-futures"), exchanges, strict=True)
        ]
        config.write_text(f'record_to = "{recording}"\n' + "".join(feeds))
        result = run("record", "--config", config, "--duration", "1", "--conflation", "none")
        assert result.exit_code == 0, result.output
        assert f"recorded to {recording}" in result.stdout
        config.write_text("".join(feeds))
        shown = run("live", "--config", config, "--duration", "1")
        missing = run("record", "--config", config)
    assert "BTC-USDT: book SYNCING" in shown.stdout
    assert "BTC-USDT-PERP: book SYNCING" in shown.stdout
    assert "expected --output, or record_to" in missing.stderr
    checked = run("replay", recording, "--conflation", "none", "--check")
    assert checked.exit_code == 0, checked.output
    assert "binance-futures" in run("inspect", recording).stdout


def test_sigint_ends_a_recording_in_good_order(simulator: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "session.feeds"
    command = [sys.executable, "-m", "feeds", "live", "binance", "BTC-USDT", *addresses(simulator)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "SYNCING -> LIVE" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "live session" in rest
    assert not path.exists()


def test_a_pipe_gets_lines_and_no_control_characters(simulator: dict[str, str]) -> None:
    shown = feeds("live", "binance", "BTC-USDT", "--duration", "2", *addresses(simulator))
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert lines[0] == "binance[0]: connected"
    assert re.fullmatch(r"BTC-USDT: book SYNCING -> LIVE \(.+\)", next(line for line in lines if "LIVE" in line))
    row = r"BTC-USDT +[\d.]+ @ [\d.]+ +\| +[\d.]+ @ [\d.]+ +\d+ book calls, \d+ updates merged, \d+ trades"
    assert any(re.fullmatch(row, line) for line in lines)
    assert "\x1b" not in shown.stdout


def test_a_terminal_gets_the_view_of_all_feeds_and_then_a_report(tmp_path: Path) -> None:
    config = tmp_path / "feeds.toml"
    with serving("binance", "binance-futures", "--rate", "500") as exchanges:
        config.write_text(
            "".join(
                f'[[feeds]]\nexchange = "{name}"\nsymbols = ["BTCUSDT"]\n'
                f'endpoints = {{ ws = "{at["ws_url"]}", rest = "{at["rest_url"]}" }}\n'
                for name, at in zip(("binance", "binance-futures"), exchanges, strict=True)
            )
        )
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        command = [sys.executable, "-m", "feeds", "live", "--config", str(config), "--redraws", "10"]
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, env={**os.environ, "TERM": "xterm"})
        os.close(theirs)
        try:
            shown = read_until(ours, rb"binance +BTC-USDT .+ LIVE.*binance-futures +BTC-USDT-PERP .+ LIVE")
            process.send_signal(signal.SIGINT)
            rest = read_until(ours, None)
        finally:
            process.kill()
            process.wait(10)
            os.close(ours)
    assert process.returncode == 0
    assert shown.startswith(b"\x1b[?1049h")
    assert b"feeds live 0:00:0" in shown
    assert b"latency, us  kernel to read" in shown
    view, _, report = rest.partition(b"\x1b[?1049l")
    assert b"live session" in report
    assert b"live session" not in view


def read_until(terminal: int, pattern: bytes | None) -> bytes:
    """Read what a terminal is sent, until it matches; None: until nobody has it open."""
    got = b""
    while pattern is None or not re.search(pattern, got, re.DOTALL):
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux: the other end is closed
            data = b""
        if not data:
            assert pattern is None, got
            break
        got += data
    return got


def test_a_replay_prints_its_stages_and_stays_the_same(recorded: Path) -> None:
    result = run("replay", recorded, "--latency", "--check")
    assert result.exit_code == 0, result.output
    stages = ["decode", "book", "decode to callback", "callback"]
    assert is_part_of(table_of(result.output, "latency, us"), stages, with_="decode")
    assert "latency, us" not in run("replay", recorded).output


def test_a_recording_that_was_appended_to_is_replayed_and_checked(simulator: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "session.feeds"
    for _ in range(2):
        result = run("record", "binance", "BTC-USDT", "-o", path, "--append", "--duration", "1", *addresses(simulator))
        assert result.exit_code == 0, result.output
    with RecordingReader(path, strict=True) as recording:
        connected = [recording.run for message in recording if message.kind is Kind.CONNECTED]
    assert connected == [0, 1]
    result = run("replay", path, "--check")
    assert result.exit_code == 0, result.output


def test_a_rotated_recording_replays_to_the_same_digest(simulator: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "session"
    options = ("--rotate-bytes", "1", "--rotate-interval", "3600", "--duration", "3")
    result = run("record", "binance", "BTC-USDT", "-o", folder, *options, *addresses(simulator))
    assert result.exit_code == 0, result.output
    files = list(folder.iterdir())
    assert len(files) > 1
    assert f"({sum(file.stat().st_size for file in files):,} bytes)" in result.output
    result = run("replay", folder, "--check")
    assert result.exit_code == 0, result.output
    assert "equal to that of the live run" in result.output


def test_a_warm_up_begins_reading_where_it_is_told(recorded: Path) -> None:
    def events(*options: str) -> str:
        result = run("replay", recorded, "--from", str(middle), *options)
        assert result.exit_code == 0, result.output
        return next(line for line in result.output.splitlines() if "callbacks" in line)

    with RecordingReader(recorded) as recording:
        times = [message.ts_recv for message in recording if message.kind is Kind.TEXT]
    middle = times[len(times) // 2]
    assert events("--warm-up", "1000") == events()


def test_decode_from_and_to_prints_the_lines_of_that_time(recorded: Path, collected: Path) -> None:
    for path in (recorded, collected):
        whole = [line for line in run("decode", path).output.splitlines() if is_data(line)]
        times = [json.loads(line)["ts_recv"] for line in whole]
        start, end = times[len(times) // 3], times[len(times) * 2 // 3]
        part = run("decode", path, "--from", str(start), "--to", str(end)).output.splitlines()
        wanted = [line for line, ts in zip(whole, times, strict=True) if start <= ts <= end]
        assert 0 < len(wanted) < len(whole)
        assert [line for line in part if is_data(line)] == wanted


def is_data(line: str) -> bool:
    return line.startswith("{") and "status" not in json.loads(line)["type"]


def test_a_recording_replays_to_the_same_digest(recorded: Path) -> None:
    result = run("replay", recorded, "--check")
    assert result.exit_code == 0, result.output
    assert "equal to that of the live run" in result.output


def test_check_fails_when_the_digest_differs(recorded: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.feeds"
    with RecordingReader(recorded) as source, RecordingWriter(changed) as writer:
        for message in source:
            if message.tag != "digest":
                writer.write(message)
        writer.note("digest", {"policy": "batch", "digest": "0" * 16, "callbacks": 1})
    done = feeds("replay", changed, "--check")
    assert done.returncode == 1
    assert "differs from 0000000000000000" in done.stdout


def test_a_truncated_recording_replays_to_its_last_whole_block_and_says_where(recorded: Path, tmp_path: Path) -> None:
    whole = recorded.read_bytes()
    cut = tmp_path / "cut.feeds"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    done = feeds("replay", cut)
    assert done.returncode == 0, done.stderr
    assert "damaged recording" in done.stderr
    assert "offset" in done.stderr
    assert "replay session" in done.stdout


def test_check_on_a_real_capture() -> None:
    path = CAPTURES / "binance" / "spot-btcusdt_20240808.gz"
    if not path.exists():
        pytest.skip(f"no capture {path}: set FEEDS_CAPTURES")
    result = run("replay", path, "--check")
    assert result.exit_code == 0, result.output
    assert "books equal to quotes: 3,449 of 3,449" in result.output
    assert "1,209/2,196" in result.output


def test_decode_prints_what_the_wire_says(collected: Path) -> None:
    done = feeds("decode", collected)
    common = '"exchange":"binance","symbol":null,"raw_symbol":"BTCUSDT","ts_event":{},"ts_recv":{}'

    def line(kind: str, ts_event: str, ts_recv: int, rest: str) -> str:
        return f'{{"type":"{kind}",{common.format(ts_event, ts_recv)},{rest}}}'

    assert done.stdout.splitlines() == [
        line(
            "book_status", "1700000000000000000", 1000000001, '"old":"SYNCING","new":"SYNCING","reason":"first message"'
        ),
        line("book", "1700000000000000000", 1000000001, '"is_snapshot":false,"bids":[["100.1","1.5"]],"asks":[]'),
        line("book", "null", 1000000002, '"is_snapshot":true,"bids":[["100.0","2.0"]],"asks":[["100.2","3.0"]]'),
        line("book_status", "null", 1000000002, '"old":"SYNCING","new":"LIVE","reason":"snapshot joined"'),
        line("quote", "null", 1000000003, '"bid_price":"100.1","bid_qty":"1.5","ask_price":"100.2","ask_qty":"3.0"'),
        line("trade", "1700000000004000000", 1000000004, '"id":"7","side":"buy","price":"100.2","qty":"0.25"'),
        line("book", "1700000000100000000", 1000000005, '"is_snapshot":false,"bids":[],"asks":[["100.2","0.00"]]'),
        line(
            "book_status",
            "1700000000100000000",
            1000000005,
            '"old":"LIVE","new":"GAP","reason":"expected a message after id 12, found ids 14..14"',
        ),
        next(text for text in done.stdout.splitlines() if '"feed_status"' in text),
    ]
    status = json.loads(done.stdout.splitlines()[-1])
    assert list(status) == [
        "type", "exchange", "symbol", "raw_symbol", "ts_event", "ts_recv", "status", "reason"
    ]  # fmt: skip
    assert status["status"] == "problem"
    assert "avgPrice" in status["reason"]
    assert "1 messages skipped, unknown_event" in done.stderr


def test_inspect_counts_what_is_there(collected: Path) -> None:
    result = run("inspect", collected, "--json")
    found = json.loads(result.output)
    assert (found["format"], found["messages"], found["first"], found["last"]) == (
        "collector",
        5,
        1000000001,
        1000000006,
    )
    assert found["connections"][0]["exchange"] == "binance"
    (row,) = found["channels"]
    assert (row["exchange"], row["symbol"], row["raw_symbol"]) == ("binance", None, "BTCUSDT")
    assert [row[kind] for kind in ("book", "snapshots", "quote", "trade", "gaps")] == [3, 1, 1, 1, 1]
    assert found["problems"] == {"unknown_event": 1}
    table = run("inspect", collected)
    assert "1970-01-01 00:00:01.000000001Z" in table.output


def test_from_and_to_bound_what_is_delivered(collected: Path) -> None:
    def callbacks(*options: str) -> str:
        return next(line for line in run("replay", collected, *options).output.splitlines() if "callbacks" in line)

    assert "1 trades, 1 quotes, 1 books" in callbacks()
    assert "1 trades, 0 quotes, 0 books" in callbacks("--from", "1000000004")
    assert "0 trades, 1 quotes, 1 books" in callbacks("--to", "1970-01-01T00:00:01.000000Z", "--to", "1000000003")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["live", "nope", "BTC-USDT"], "expected an exchange among binance, binance-delivery, binance-futures"),
        (["live", "binance", "BTC-USDT", "--channels", "nope"], "expected channels among book, book_top"),
        (["live", "binance", "B-U", "--channels", "book,book_top"], "expected one of book and book_top, found both"),
        (["live"], "expected EXCHANGE and SYMBOLS, or --config FILE"),
        (["live", "binance", "--config", "{file}"], "in the --config file alone"),
        (["live", "--config", "{file}"], "file: expected TOML: "),
        (["record", "binance", "BTC-USDT"], "expected --output, or record_to"),
        (["replay", "{file}"], "expected b'\\x89FEEDS"),
        (["replay", "{file}", "--strategy", "nope"], "expected MODULE:CLASS"),
        (["replay", "{file}", "--strategy", "nope:Nope"], "No module named 'nope'"),
        (["replay", "{file}", "--strategy", "decimal:Decimal"], "expected a Strategy or an EventHandler"),
        (["replay", "{file}", "--speed", "-1"], "expected 'max' or a factor above 0"),
        (["replay", "{file}", "--from", "noon"], "expected ns since the epoch or a time like"),
        (["record", "binance", "BTC-USDT", "-o", "{file}"], "exists"),
        (
            ["record", "binance", "B-U", "-o", "new", "--append", "--rotate-bytes", "9"],
            "--append or --rotate-*, found both",
        ),
        (["simulate", "mtgox"], "expected one of ['binance', 'binance-delivery', 'binance-futures', 'bitfinex'"),
        (["simulate", "kraken", "--symbols", "BTCUSDT"], "kraken: expected symbols such as 'BTC/USD', found 'BTCUSDT'"),
        (["simulate", "binance", "--fault", "Flood"], "Flood: Invalid value 'Flood'"),
        (["simulate", "binance", "--fault", "Gap"], "Gap: Object missing required field `symbol`"),
        (["simulate", "binance", "--fault", "Mute,seconds=x"], "Mute,seconds=x: Expected `float`, got `str`"),
        (["simulate", "binance", "--fault", "BadCertificate,kind=expired,seconds=1"], "expected certificates for"),
        (["simulate"], "expected exchanges to simulate, or --recording, found neither"),
        (["simulate", "--recording", "{file}"], "expected b'\\x89FEEDS"),
        (["simulate", "--recording", "{file}", "--instruments", "/list"], "expected URL=FILE, found '/list'"),
    ],
)
def test_a_mistake_gets_a_message_and_no_traceback(arguments: list[str], message: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("neither a recording nor a capture\n")
    done = feeds(*(argument.format(file=file) for argument in arguments))
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_strategy_that_raises_is_named_with_its_event(collected: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from strategies import Strategy\n"
        "class Broken(Strategy):\n"
        "    def on_trade(self, event):\n"
        "        raise KeyError('position')\n"
    )
    command = [sys.executable, "-m", "feeds", "replay", str(collected), "--strategy", "broken:Broken"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 1
    assert "strategy 'Broken' raised KeyError in on_trade at <Trade binance BTCUSDT BUY 0.25 @ 100.2" in done.stderr


def test_simulate_serves_several_exchanges_and_plays_a_recording(recorded: Path, tmp_path: Path) -> None:
    with serving("binance-futures", "binance") as (futures, spot):
        assert (futures["exchange"], spot["exchange"]) == ("binance-futures", "binance")
        result = run("live", "binance-futures", "BTC-USDT-PERP", "--duration", "1", *addresses(futures))
        assert "BTC-USDT-PERP: book SYNCING -> LIVE" in result.output
    first = json.loads(run("inspect", recorded, "--json").output)
    again = tmp_path / "again.feeds"
    with serving("binance", "--recording", recorded, "--speed", "max") as (playing,):
        run("record", "binance", "BTC-USDT", "ETH-USDT", "-o", again, "--duration", "1.5", *addresses(playing))
    second = json.loads(run("inspect", again, "--json").output)
    for before, after in zip(first["channels"], second["channels"], strict=True):
        assert (before["raw_symbol"], before["quote"], before["trade"]) == (
            after["raw_symbol"],
            after["quote"],
            after["trade"],
        )


def test_simulated_exchanges_are_lived_on_under_our_symbols() -> None:
    with serving("kraken", "kucoin") as (kraken, kucoin):
        for served, symbol in ((kraken, "BTC-USD"), (kucoin, "BTC-USDT")):
            result = run("live", served["exchange"], symbol, "--duration", "1", *addresses(served))
            assert f"{symbol}: book SYNCING -> LIVE" in result.output


def test_simulate_breaks_what_it_is_asked_to_over_tls_too(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    faults = ["--fault", "Gap,symbol=BTC-USDT,after=20", "--fault", "Fragments,largest=9"]
    with serving("kucoin", "--tls", authority, *faults) as (served,):
        assert (served["ws_url"][:6], served["rest_url"][:8]) == ("wss://", "https://")
        command = [sys.executable, "-m", "feeds", "live", "kucoin", "BTC-USDT", "--duration", "3", *addresses(served)]
        trusting = os.environ | {"SSL_CERT_FILE": str(authority)}
        result = subprocess.run(command, env=trusting, capture_output=True, text=True, timeout=60)
    assert "BTC-USDT: book LIVE -> GAP" in result.stdout
    assert "BTC-USDT: book GAP -> LIVE" in result.stdout


def test_simulate_serves_a_recording_as_it_was(recorded: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.feeds"
    with serving("--recording", recorded, "--speed", "max") as (playing,):
        assert playing["exchange"] == "binance"
        result = run("record", "binance", "BTC-USDT", "ETH-USDT", "-o", again, "--duration", "1.5", *addresses(playing))
    assert result.exit_code == 0, result.output
    first, second = (json.loads(run("inspect", path, "--json").output)["channels"] for path in (recorded, again))
    assert [(row["raw_symbol"], row["quote"], row["trade"]) for row in first] == [
        (row["raw_symbol"], row["quote"], row["trade"]) for row in second
    ]
    assert run("replay", again, "--check").exit_code == 0


def test_simulate_says_which_lists_a_recording_lacks_and_takes_them(collected: Path, tmp_path: Path) -> None:
    listed = tmp_path / "info.json"
    listed.write_text('{"symbols":[]}')
    command = [sys.executable, "-m", "feeds", "simulate", "--recording", str(collected)]
    for options, missing in (([], True), (["--instruments", f"/api/v3/exchangeInfo={listed}"], False)):
        with subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert "binance on ws://127.0.0.1:" in first
            rest = first.partition(" and ")[2].partition(";")[0]
            try:
                with urlopen(f"{rest}/api/v3/exchangeInfo") as found:
                    assert (missing, found.read()) == (False, b'{"symbols":[]}')
            except HTTPError as refused:
                assert (missing, refused.code) == (True, 404)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=20)
            assert ("--instruments /api/v3/exchangeInfo=FILE" in told) == missing


def test_exchanges_lists_channels() -> None:
    lines = run("exchanges").output.splitlines()
    assert lines[0].split() == ["exchange", *CHANNELS]
    assert [line.split()[0] for line in lines[1:]] == exchange_ids()


def test_speed_paces_by_the_receive_times(collected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from feeds import session

    clock = FakeClock()
    monkeypatch.setattr(session, "time", clock)
    spread = tmp_spread(collected)
    session.replay(cli.EventHandler(), spread, speed=2.0)
    assert 0.99 <= clock.now <= 1.02  # two seconds of receive times


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0
        self.sleep: Callable[[float], None] = self._sleep

    def monotonic(self) -> float:
        return self.now

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def tmp_spread(collected: Path) -> Path:
    """The capture with its last message two seconds after its first."""
    path = collected.with_name("spread.txt")
    path.write_bytes(COLLECTED.replace(b"1000000006 ", b"3000000001 "))
    return path
