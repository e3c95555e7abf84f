"""Sessions on recordings: cut, rotated, appended to and begun in the middle; and the flush of a live one."""

import asyncio
import io
import threading

import pytest

from feeds.events import EventHandler, FeedStatus
from feeds.recording import (
    Kind,
    RecordingReader,
    RecordingWriter,
    open_recording,
    open_session,
    session_files,
)
from feeds.session import _flush, replay
from feeds.testing import EventLog

SECOND = 1_000_000_000
PATIENCE = 30.0  # seconds until a test that hangs is a failed one


@pytest.fixture(scope="module")
def capture(captures):
    return captures / "binance" / "spot-btcusdt_20240808.gz"


def copy(source, path, *, digest=None, **options):
    """Write what is in `source` as a recording of ours."""
    with open_recording(source) as messages, RecordingWriter(path, block_size=8192, **options) as writer:
        for message in messages:
            assert writer.write(message)
            if writer.pending_blocks > 8:
                writer.flush(wait=True)
        if digest is not None:
            writer.note("digest", {"policy": "batch", "digest": digest, "callbacks": 0})
    return path


@pytest.fixture(scope="module")
def whole(capture, tmp_path_factory):
    """The capture as one file of ours, with the digest of a run."""
    return copy(capture, tmp_path_factory.mktemp("whole") / "a.feeds", digest=replay(EventHandler(), capture).digest)


@pytest.fixture(scope="module")
def times(whole):
    with RecordingReader(whole) as reader:
        return [message.ts_recv for message in reader if message.kind is Kind.TEXT]


@pytest.mark.parametrize("rotation", [{"rotate_bytes": 20_000}, {"rotate_interval": 5.0}])
def test_a_rotated_session_replays_like_one_file(rotation, whole, tmp_path):
    folder = copy(whole, tmp_path / "session", **rotation)
    assert len(session_files(folder)) > 3
    one, many = replay(EventHandler(), whole), replay(EventHandler(), folder)
    assert one.is_same
    assert many.is_same
    assert (many.digest, many.messages, many.callbacks) == (one.digest, one.messages, one.callbacks)


def test_a_rotated_session_is_sought_in_without_the_files_before(whole, times, tmp_path):
    folder = copy(whole, tmp_path / "session", rotate_bytes=20_000)
    ts = times[len(times) * 3 // 4]
    with open_session(folder) as source:
        assert source.seek(ts)
        found = list(source)
        assert source.bytes_read == source.total_bytes
    with open_session(folder) as source:
        everything = list(source)
    received = [m for m in found if m.kind is not Kind.SOURCE]
    assert received == [m for m in everything if m.kind is not Kind.SOURCE][-len(received) :]
    assert sum(m.ts_recv >= ts for m in received) == sum(
        m.ts_recv >= ts for m in everything if m.kind is not Kind.SOURCE
    )
    assert len(received) < len(everything) / 2
    assert found[0].kind is Kind.SOURCE
    with open_session(folder) as source:
        next(source)
        with pytest.raises(ValueError, match="before the first message"):
            source.seek(ts)


def test_merged_recordings_are_sought_in_each(tmp_path):
    for name, first in (("a", 1), ("b", 2)):
        with RecordingWriter(tmp_path / name) as writer:
            writer.add_source("okx", name, ts_recv=first)
            for ts in range(first, 101, 2):
                writer.write_message(ts, 1, Kind.TEXT, name.encode())
                writer.flush(wait=True)
    with open_session([tmp_path / "a", tmp_path / "b"]) as source:
        source.seek(90)
        found = [(m.ts_recv, m.source, source.sources[m.source]["url"]) for m in source if m.kind is Kind.TEXT]
    assert [ts for ts, _, _ in found] == list(range(90, 101))
    assert {(ts % 2, url) for ts, _, url in found} == {(1, "a"), (0, "b")}
    assert len({source for _, source, _ in found}) == 2


def test_two_segments_are_replayed_and_checked_as_the_two_runs_that_they_are(whole, tmp_path):
    path = tmp_path / "twice.feeds"
    copy(whole, path)
    copy(whole, path, append=True)
    once, log = replay(EventHandler(), whole, check=True), EventLog()
    twice = replay(log, path, check=True)
    assert (twice.messages, twice.trades, twice.quotes) == (2 * once.messages, 2 * once.trades, 2 * once.quotes)
    assert twice.books == 2 * once.books
    assert [(c.compared, c.equal) for c in twice.checks] == [(c.compared, c.equal) for c in once.checks] * 2
    assert twice.is_same is None  # the digest in it is of one run
    ends = [event for event in log.events if isinstance(event, FeedStatus) and event.status == "disconnected"]
    assert [event.reason for event in ends] == ["its recording ended"]


def test_warming_up_from_the_beginning_is_the_whole_run(whole, times):
    start = times[len(times) // 2]
    logs = [EventLog() for _ in range(2)]
    plain = replay(logs[0], whole, start=start)
    warmed = replay(logs[1], whole, start=start, warm_up=1e6)
    assert (warmed.digest, warmed.messages) == (plain.digest, plain.messages)
    assert all(event.ts_recv >= start for event in logs[0].events if not type(event).__name__.endswith("Status"))


def test_a_short_warm_up_reads_less_and_delivers_what_needs_no_book(whole, times):
    start = times[len(times) // 2]
    long, short = EventLog(), EventLog()
    everything = replay(long, whole, start=start)
    found = replay(short, whole, start=start, warm_up=1.0)
    sought = sum(ts >= start - SECOND for ts in times)
    assert sought <= found.messages < everything.messages
    # Values: without metadata, decimals are those seen so far.
    assert [(t.id, t.price, t.qty) for t in short.trades] == [(t.id, t.price, t.qty) for t in long.trades]
    assert [(q.bid_price, q.ask_price) for q in short.quotes] == [(q.bid_price, q.ask_price) for q in long.quotes]
    assert everything.books > 0
    assert found.books == 0  # no snapshot came, and a book that is not live is not shown


class WatchedFile(io.BytesIO):
    """Says when it was flushed, which for a file object is what a sync is."""

    def __init__(self):
        super().__init__()
        self.flushed = threading.Event()

    def flush(self):
        super().flush()
        self.flushed.set()


@pytest.mark.parametrize("gap", [1, SECOND // 3, SECOND, 2 * SECOND, 7 * SECOND])
async def test_nothing_older_than_the_flush_interval_is_lost_when_nothing_follows(gap):
    interval = 2.0
    file = WatchedFile()
    now = 1_700_000_000 * SECOND
    arrivals = [now + 5 + n * gap for n in range(12)]
    received = []

    def saved():
        with RecordingReader(io.BytesIO(file.getvalue())) as reader:
            return {int(message.payload) for message in reader}

    def is_due():
        return {ts for ts in received if now - ts >= interval * SECOND} - saved()

    async def sleep(seconds):
        nonlocal now
        while is_due():  # it has been told to: what is late is on its way, and each step of it is a flush
            assert file.flushed.wait(PATIENCE), "what was received an interval ago is not on its way"
            file.flushed.clear()
        if now > arrivals[-1] + 3 * interval * SECOND:
            raise asyncio.CancelledError
        then = now + int(seconds * SECOND)
        for ts in arrivals:
            if now < ts <= then:
                writer.write_message(ts, 0, Kind.TICK, b"%d" % ts)
                received.append(ts)
        now = then

    with RecordingWriter(file, flush_interval=interval) as writer:
        with pytest.raises(asyncio.CancelledError):
            await _flush(writer, interval, now=lambda: now, sleep=sleep)
        assert saved() == set(arrivals)


def test_messages_of_unknown_time_are_flushed_an_interval_after_the_first_look():
    file = WatchedFile()
    with RecordingWriter(file, flush_interval=2.0) as writer:
        writer.write_message(0, 0, Kind.TICK, b"1")
        writer.flush_due(100 * SECOND)
        writer.flush_due(102 * SECOND - 1)
        assert writer.pending_blocks == writer.blocks_written == 0
        writer.flush_due(102 * SECOND)
        assert file.flushed.wait(PATIENCE)
        assert writer.blocks_written == 1
