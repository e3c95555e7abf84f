"""Foreign recordings as ours: the same events, whatever they came from."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
import zstandard

from feeds import session
from feeds.events import EventHandler
from feeds.recording import (
    Kind,
    RawMessage,
    RawSource,
    RecordingError,
    RecordingExists,
    RecordingReader,
    RecordingWriter,
    open_recording,
    open_session,
)
from feeds.recording.copying import copy_recording
from feeds.sinks.json_lines import JsonLines


def decoded(path: Path, exchange: str | None = None) -> bytes:
    out = io.BytesIO()
    lines = JsonLines(out)
    session.replay(lines, path, policy="none", exchange=exchange)
    lines.flush()
    return out.getvalue()


def collector(captures: Path) -> bytes:
    with gzip.open(captures / "binance/spot-btcusdt_20240808.gz") as file:
        return b"".join(file.readline() for _ in range(5000))


def cryptofeed(captures: Path) -> bytes:
    return gzip.decompress((captures / "exchanges/BITFLYER.ws.1.0.gz").read_bytes())


def tardis(captures: Path) -> bytes:
    """A capture as tardis.dev would have it; a line of the collector has the time in ns."""
    lines = []
    for line in collector(captures).splitlines():
        ts, payload = line.split(b" ", 1)
        if payload.startswith(b'{"lastUpdateId"'):
            payload = b'{"stream":"btcusdt@depthSnapshot","generated":true,"data":%b}' % payload
        if payload.startswith(b'{"stream"'):
            second = datetime.fromtimestamp(int(ts) // 10**9, timezone.utc)
            lines.append(f"{second:%Y-%m-%dT%H:%M:%S}.{int(ts) % 10**9 // 100:07d}Z ".encode() + payload)
        if len(lines) == 2000:
            lines.append(b"")  # disconnected here
    return b"\n".join(lines) + b"\n"


def tardis_machine(captures: Path) -> bytes:
    """The same as tardis-machine streams it."""
    lines = [line.split(b" ", 1) for line in tardis(captures).splitlines()]
    return b"".join(
        b'{"localTimestamp":"%b","message":%b}\n' % (line[0], line[1]) if line[0] else b"\n" for line in lines
    )


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("content", [collector, cryptofeed, tardis, tardis_machine])
def test_the_events_of_a_foreign_recording_are_those_of_our_copy(
    content: Callable[[Path], bytes], pack: Callable[[bytes], bytes], captures: Path, tmp_path: Path
) -> None:
    foreign, ours = tmp_path / "foreign", tmp_path / "ours.feeds"
    foreign.write_bytes(pack(content(captures)))
    exchange = (
        "binance" if content in (tardis, tardis_machine) else None
    )  # whose messages do not tell which of its markets they are of
    with open_recording(foreign, exchange=exchange) as source:
        messages = copy_recording(source, ours)
        declared = source.sources
    with RecordingReader(ours, strict=True) as reader:
        assert sum(1 for _ in reader) == messages > 1000
        assert reader.complete
        assert reader.sources == declared
        assert reader.metadata["converted"] == str(foreign)
    events = decoded(foreign, exchange)
    assert events.count(b"\n") > 1000
    assert decoded(ours) == events


def test_replies_beside_a_capture_are_copied_with_it(captures: Path, tmp_path: Path) -> None:
    foreign, ours = captures / "exchanges/BINANCE_FUTURES.ws.1.0.gz", tmp_path / "ours.feeds"
    with open_recording(foreign) as source:
        copy_recording(source, ours)
    with RecordingReader(ours) as reader:
        assert sum(message.kind is Kind.REPLY for message in reader) > 0
    assert decoded(ours) == decoded(foreign)


def a_run(path: Path, times: range, *, append: bool = False) -> Path:
    with RecordingWriter(path, metadata={"policy": "batch", "by": path.name}, append=append) as writer:
        source = writer.add_source("binance", "wss://x", ts_recv=times[0])
        for ts in times:
            writer.write(RawMessage(ts, source, Kind.TEXT, "", b"{}"))
        writer.note("digest", {"policy": "batch", "digest": "0"}, ts_recv=times[-1])
    return path


def messages(source: RawSource) -> list[RawMessage]:
    with source:
        return list(source)


def test_each_run_of_a_recording_becomes_a_segment(tmp_path: Path) -> None:
    path = a_run(a_run(tmp_path / "a.feeds", range(1, 5)), range(10, 15), append=True)
    ours = tmp_path / "ours.feeds"
    with open_recording(path) as source:
        copy_recording(source, ours)
    assert messages(RecordingReader(ours)) == messages(RecordingReader(path))
    with RecordingReader(ours) as reader:
        runs = {reader.run for _ in reader}
        assert (runs, reader.metadata["policy"], reader.metadata["by"]) == ({0, 1}, "batch", "a.feeds")


def test_files_that_follow_one_another_are_copied_into_one(tmp_path: Path) -> None:
    paths = [a_run(tmp_path / "b.feeds", range(20, 25)), a_run(tmp_path / "a.feeds", range(1, 5))]
    ours = tmp_path / "ours.feeds"
    with open_session(paths) as source:
        copy_recording(source, ours)
    assert messages(RecordingReader(ours)) == messages(open_session(paths))


def test_files_of_the_same_time_are_refused(tmp_path: Path) -> None:
    paths = [a_run(tmp_path / "a.feeds", range(1, 9, 2)), a_run(tmp_path / "b.feeds", range(2, 10, 2))]
    with open_session(paths) as source, pytest.raises(RecordingError, match="recordings that follow one another"):
        copy_recording(source, tmp_path / "ours.feeds")


def test_an_empty_recording_is_copied(tmp_path: Path) -> None:
    RecordingWriter(tmp_path / "a.feeds").close()
    with open_recording(tmp_path / "a.feeds") as source:
        assert copy_recording(source, tmp_path / "ours.feeds") == 0
    assert messages(RecordingReader(tmp_path / "ours.feeds")) == []


def test_more_is_copied_than_may_wait_for_the_disk(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a.feeds", max_pending_blocks=1000) as writer:
        source = writer.add_source("binance", "wss://x", ts_recv=1)
        for ts in range(1, 200):
            writer.write(RawMessage(ts, source, Kind.TEXT, "", bytes([ts]) * 300_000))
    with open_recording(tmp_path / "a.feeds") as recording:
        assert copy_recording(recording, tmp_path / "ours.feeds") == 200
    assert messages(RecordingReader(tmp_path / "ours.feeds")) == messages(RecordingReader(tmp_path / "a.feeds"))


def test_progress_is_told(captures: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    with open_recording(captures / "binance/spot-btcusdt_20240808.gz") as source:
        copy_recording(source, tmp_path / "ours.feeds", progress=lambda source: seen.append(source.bytes_read))
    assert len(seen) == 2
    assert 0 < seen[0] < seen[1]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = a_run(tmp_path / "a.feeds", range(1, 3))
    with open_recording(path) as source, pytest.raises(RecordingExists):
        copy_recording(source, path)
    assert session.replay(EventHandler(), path).messages == 2
