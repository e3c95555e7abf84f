"""A recorder that is killed, files that are damaged, appended to, repaired, sought in and rotated."""

import io
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from feeds.recording import (
    DRAINED,
    LAST_IN_BATCH,
    Kind,
    NotARecording,
    RawMessage,
    RecordingError,
    RecordingExists,
    RecordingReader,
    RecordingWriter,
    open_session,
    repair,
    session_files,
)

KILLS = int(os.environ.get("RECORDING_KILLS", "20"))
VERSION_1 = Path(__file__).parent / "data" / "version-1.feeds"
PATIENCE = 30.0


def tick(n):
    return RawMessage(1000 + n, 0, Kind.TICK, "", b"message %d" % n)


def write(path, numbers, *, per_block=2, **options):
    with RecordingWriter(path, **options) as writer:
        for at, n in enumerate(numbers, 1):
            writer.write(tick(n))
            if at % per_block == 0:
                writer.flush(wait=True)


def read(path, **options):
    with RecordingReader(path, **options) as reader:
        return reader, list(reader)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_recorder_leaves_everything_it_had_flushed(seed, tmp_path):
    path = tmp_path / "a.feeds"
    command = [sys.executable, Path(__file__).with_name("recorder.py"), path, str(seed)]
    killed = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    assert killed.returncode == -signal.SIGKILL
    promised = max((int(line) for line in killed.stdout.split()), default=0)
    reader, messages = read(path)
    assert [int(m.payload.split()[0]) for m in messages] == list(range(len(messages)))
    assert len(messages) >= promised
    assert not reader.complete
    assert [damage.reason for damage in reader.damages] in ([], ["truncated"])
    size = path.stat().st_size
    kept = path.read_bytes()
    write(path, range(4), append=True)
    assert path.read_bytes()[:size] == kept
    reader, both = read(path)
    assert both == messages + [tick(n) for n in range(4)]
    assert reader.complete
    assert (reader.run, reader.damage_count) == (1, len(reader.damages))


def test_version_1_is_read_for_ever():
    start = 1_700_000_000_000_000_000
    binance = b'{"exchange":"binance","url":"wss://stream.binance.com:9443/stream","instruments":[]}'
    url = b"https://api.binance.com/api/v3/depth?symbol=BTCUSDT"
    reader, messages = read(VERSION_1, strict=True)
    assert messages == [
        RawMessage(start, 1, Kind.SOURCE, "", binance),
        RawMessage(start + 5, 1, Kind.CONNECTED),
        RawMessage(start + 6, 1, Kind.SENT, "", b'{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}'),
        RawMessage(start + 7, 1, Kind.REQUEST, "BTCUSDT", url),
        RawMessage(start + 100, 1, Kind.TEXT, "", b'{"n":1}'),
        RawMessage(start + 100, 1, Kind.TEXT | LAST_IN_BATCH, "", b'{"n":2}'),
        RawMessage(start + 90, 1, Kind.BINARY | LAST_IN_BATCH | DRAINED, "", bytes(range(256))),
        RawMessage(start + 200, 1, Kind.REPLY, "BTCUSDT", b'{"lastUpdateId":1}' * 40),
        RawMessage(0, 1, Kind.STATUS, "", b'{"status":"silent","reason":"30 s"}'),
        RawMessage(start + 300, 2, Kind.SOURCE, "", b'{"exchange":"okx","url":"wss://ws.okx.com"}'),
        RawMessage(start + 301, 2, Kind.TICK),
        RawMessage(start + 302, 2, 0x12345600 | 77, "é", b"later"),
        RawMessage(start + 303, 1, Kind.DISCONNECTED, "", b"peer closed with 1000"),
        RawMessage(start + 303, 0, Kind.NOTE, "digest", b'{"policy":"batch","digest":"00","callbacks":0}'),
    ]
    assert (reader.version, reader.complete, reader.metadata["venue"]) == (1, True, "version 1")


def test_appending_adds_a_segment_with_its_own_metadata_and_sources(tmp_path):
    path = tmp_path / "a.feeds"
    for number in range(3):
        with RecordingWriter(path, append=True, metadata={"number": number}) as writer:
            source = writer.add_source("okx", f"wss://{number}", ts_recv=number + 1)
            writer.write_message(number + 1, source, Kind.TEXT, b"{}")
    with RecordingReader(path, strict=True) as reader:
        seen = [
            (reader.run, reader.metadata["number"], reader.sources[1]["url"]) for m in reader if m.kind is Kind.TEXT
        ]
    assert seen == [(n, n, f"wss://{n}") for n in range(3)]
    with pytest.raises(RecordingExists):
        RecordingWriter(path)


def test_two_writers_of_one_file_are_refused(tmp_path):
    with RecordingWriter(tmp_path / "a.feeds"), pytest.raises(RecordingError, match="no other writer"):
        RecordingWriter(tmp_path / "a.feeds", append=True)


def test_nothing_is_appended_to_what_is_no_recording(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"precious")
    with pytest.raises(RecordingError, match="intact header"):
        RecordingWriter(tmp_path / "a.txt", append=True)
    assert (tmp_path / "a.txt").read_bytes() == b"precious"


@pytest.mark.parametrize("seed", range(60))
def test_repair_saves_what_is_outside_the_damage_and_names_it(seed, tmp_path):
    chance = random.Random(seed)
    path, output = tmp_path / "a.feeds", tmp_path / "b.feeds"
    write(path, range(40))
    write(path, range(40, 60), append=True)
    _, before = read(path)
    data = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data))
        if chance.random() < 0.5:
            data[at] ^= chance.randint(1, 255)
        else:
            del data[at : at + chance.randint(1, 200)]
    path.write_bytes(data)
    found = repair(path, output)
    reader, after = read(output, strict=True)
    with RecordingReader(path, salvage=True) as damaged:
        assert list(damaged) == after
        assert found.damages == damaged.damages
        assert found.lost_bytes == sum(damage.lost_bytes for damage in damaged.damages)
    remaining = iter(before)
    assert all(message in remaining for message in after)
    assert found.messages == len(after)
    assert all(0 <= damage.offset < len(data) for damage in found.damages)
    assert reader.complete
    with RecordingReader(output) as repaired:
        assert repaired.metadata["repaired"] == str(path)
        assert sum(entry.messages > 0 for entry in repaired.index) == found.blocks


def test_repair_saves_the_records_before_a_malformed_one_and_takes_a_file_without_its_magic(tmp_path):
    path = tmp_path / "a.feeds"
    write(path, range(6))
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    with pytest.raises(NotARecording):
        read(path)
    assert [d.offset for d in repair(path, tmp_path / "b.feeds").damages] == [0]
    assert read(tmp_path / "b.feeds", strict=True)[1] == [tick(n) for n in range(6)]
    with pytest.raises(RecordingExists):
        repair(path, tmp_path / "b.feeds")
    (tmp_path / "c").write_bytes(b"nothing of ours" * 10)
    with pytest.raises(NotARecording):
        repair(tmp_path / "c", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def session_of_two(path, *, closed):
    """Two segments, each with a declaration at its beginning and one later; times 0, 10, 20, ... 390."""
    for segment in range(2):
        with RecordingWriter(path, append=True) as writer:
            for n in range(segment * 20, segment * 20 + 20):
                if n % 10 == 0:
                    writer.add_source("okx", f"wss://{n}", ts_recv=10 * n + 1)
                writer.write_message(10 * n + 1, 1, Kind.TEXT, b"%d" % n)
                writer.flush(wait=True)
    if not closed:  # the end and a part of the index are gone
        path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("ts", [0, 1, 95, 101, 155, 201, 205, 350, 391, 1000])
def test_seek_goes_to_the_first_block_of_a_time_with_the_sources_declared(ts, closed, tmp_path):
    path = tmp_path / "a.feeds"
    session_of_two(path, closed=closed)
    with RecordingReader(path) as reader:
        whole = [(m, reader.run) for m in reader]
    with RecordingReader(path) as reader:
        assert len(reader.index) == 41
        assert reader.seek(ts)
        found = [(m, reader.run) for m in reader]
        wanted = [(m, run) for m, run in whole if m.kind is Kind.TEXT and m.ts_recv >= ts] or whole[-1:]
        assert [(m, run) for m, run in found if m.kind is Kind.TEXT] == wanted
        first_run = wanted[0][1]
        declared = [m for m, run in whole if m.kind is Kind.SOURCE and run >= first_run]
        assert [m for m, _ in found if m.kind is Kind.SOURCE] == declared
        reader.seek(0)  # and back
        assert [(m, reader.run) for m in reader] == whole


def test_the_index_in_the_file_is_what_reading_finds(tmp_path):
    path = tmp_path / "a.feeds"
    session_of_two(path, closed=True)
    with RecordingReader(path) as reader:
        stored = reader.index
    path.write_bytes(path.read_bytes()[:-1])
    with RecordingReader(path) as reader:
        assert reader.index == stored


def test_an_extension_comes_back(tmp_path):
    messages = [
        RawMessage(1, 0, Kind.TICK, "", b"a", b"\x01\x08" + (77).to_bytes(8, "little")),
        RawMessage(2, 0, Kind.TICK, "", b"b", b"\x63\x01x\x02\x03\x05\x80\x01"),
        RawMessage(3, 0, Kind.TICK, "", b"c", b"\x02\xff\xff"),
        RawMessage(4, 0, Kind.TICK),
    ]
    with RecordingWriter(tmp_path / "a") as writer:
        for message in messages:
            writer.write(message)
    _, found = read(tmp_path / "a", strict=True)
    assert found == messages
    assert [m.ts_kernel for m in found] == [77, 0, 0, 0]
    assert [m.frame_sizes for m in found] == [None, (5, 128), None, None]


@pytest.mark.parametrize("rotation", [{"rotate_bytes": 1}, {"rotate_interval": 1e-8}])
def test_a_session_of_many_files_is_read_as_one(rotation, tmp_path):
    folder = tmp_path / "session"
    with RecordingWriter(folder, **rotation) as writer:
        source = writer.add_source("okx", "wss://x", ts_recv=1)
        for n in range(50):
            writer.write_message(n + 1, source, Kind.TEXT, b"%d" % n)
            writer.flush(wait=True)
    files = session_files(folder)
    assert len(files) > 5
    parts = []
    for number, file in enumerate(files):
        reader, messages = read(file, strict=True)
        assert (reader.metadata["part"], messages[0].kind) == (number, Kind.SOURCE)
        parts += [int(m.payload) for m in messages if m.kind is Kind.TEXT]
    assert parts == list(range(50))
    with open_session(folder) as session:
        assert [(int(m.payload), m.source, session.run) for m in session if m.kind is Kind.TEXT] == [
            (n, 1, 0) for n in range(50)
        ]


def test_recordings_are_merged_by_time_with_sources_of_their_own(tmp_path):
    for name, times in {"a": (1, 4, 4, 9), "b": (2, 4, 20), "c": (30, 31)}.items():
        with RecordingWriter(tmp_path / name) as writer:
            writer.add_source("okx", name, ts_recv=times[0])
            for ts in times:
                writer.write_message(ts, 1, Kind.TEXT, name.encode())
    with open_session([tmp_path / "c", tmp_path / "b", tmp_path / "a"]) as session:
        found = [(m.ts_recv, m.payload, m.source, session.sources[m.source]["url"]) for m in session if m.kind == 1]
    assert found == [
        (1, b"a", 1, "a"), (2, b"b", 2, "b"), (4, b"a", 1, "a"), (4, b"a", 1, "a"), (4, b"b", 2, "b"),
        (9, b"a", 1, "a"), (20, b"b", 2, "b"), (30, b"c", 1, "c"), (31, b"c", 1, "c"),
    ]  # fmt: skip


class FullDisk(io.FileIO):
    is_full = False
    refusals = threading.Semaphore(0)

    def write(self, data):
        if FullDisk.is_full:
            FullDisk.refusals.release()
            super().write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_full_disk_costs_messages_until_there_is_room_and_says_how_many(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "FileIO", FullDisk)
    monkeypatch.setattr("feeds.recording.writer.SPACE_RETRY", 0.01)
    path = tmp_path / "a"
    with RecordingWriter(path, block_size=200, max_pending_blocks=2) as writer:
        writer.write(tick(0))
        writer.flush(wait=True)
        FullDisk.is_full = True
        n = 1
        while not writer.dropped:
            writer.write(tick(n))
            n += 1
        dropped = n - 1
        for _ in range(2):  # once it tries again, it has said why
            assert FullDisk.refusals.acquire(timeout=PATIENCE)
        assert "waiting for room" in writer.problem
        FullDisk.is_full = False
        writer.flush(wait=True)
        assert writer.problem is None
        writer.write(tick(n))
    monkeypatch.undo()
    _, messages = read(path, strict=True)
    payloads = [m.payload for m in messages if m.kind is Kind.TICK]
    assert payloads == [b"message %d" % i for i in range(n + 1) if i != dropped]
    assert [m.tag for m in messages if m.kind is Kind.NOTE] == ["dropped"]


def test_the_command_repairs_and_says_what_was_lost_and_where(tmp_path):
    path = tmp_path / "a.feeds"
    write(path, range(6))
    with RecordingReader(path) as reader:
        damaged = reader.index[1].offset
    data = bytearray(path.read_bytes())
    data[damaged + 60] ^= 1
    path.write_bytes(data)
    command = [sys.executable, "-m", "feeds", "repair", path, "-o", tmp_path / "b.feeds"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    assert f"offset {damaged}: block checksum" in said
    assert "saved 4 messages in 2 blocks" in said
    assert read(tmp_path / "b.feeds", strict=True)[1] == [tick(n) for n in (0, 1, 4, 5)]
