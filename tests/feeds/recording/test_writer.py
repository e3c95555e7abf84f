import errno
import gc
import io
import json
import os
import stat
import subprocess
import sys
import threading
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.recording import (
    LAST_IN_BATCH,
    CollectorReader,
    Kind,
    RawMessage,
    RecordingError,
    RecordingExists,
    RecordingReader,
    RecordingWriter,
)

SECOND = 1_000_000_000
PATIENCE = 30.0  # seconds until a test that hangs is a failed one


class GatedFile(io.BytesIO):
    """A disk that takes the file header at once and everything else when `gate` is opened."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.writing = threading.Event()
        self.is_header = 2  # writes: header, metadata

    def write(self, data):
        if self.is_header:
            self.is_header -= 1
        else:
            self.writing.set()
            assert self.gate.wait(PATIENCE)
        return super().write(data)


class FullDisk(io.BytesIO):
    """Has room for `room` bytes; then every write fails as it does on a full disk."""

    name = "/data/full.rec"

    def __init__(self, room):
        super().__init__()
        self.room = room
        self.failed = threading.Event()

    def write(self, data):
        if len(data) > self.room:
            self.failed.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return super().write(data)


def read(file, **options):
    data = file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()
    reader = RecordingReader(io.BytesIO(data), **options)
    return reader, list(reader)


def payloads(file):
    return [message.payload for message in read(file, strict=True)[1]]


def tick(n, size=0):
    return RawMessage(SECOND + n, 0, Kind.TICK, "", b"%d" % n + bytes(size))


TIMES = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(alphabet="aZ9-/@\0é日𝄞", max_size=20)
DECLARATIONS = st.builds(
    lambda ts_recv, source, url: RawMessage(ts_recv, source, Kind.SOURCE, "", json.dumps({"url": url}).encode()),
    TIMES,
    st.integers(1, 65_535),
    TEXT,
)
# Any kind but that of a declaration, and any bits.
FLAGS = st.integers(0, 2**23 - 1).flatmap(lambda bits: st.integers(1, 255).map(lambda kind: bits << 8 | kind))
OTHERS = st.builds(RawMessage, TIMES, st.integers(0, 65_535), FLAGS, TEXT, st.binary(max_size=400))


def declared_first(messages):
    """The same messages under sources that are declared before them."""
    declared = [0]
    for m in messages:
        if m.kind is Kind.SOURCE:
            declared.append(m.source)
            yield m
        else:
            yield RawMessage(m.ts_recv, declared[m.source % len(declared)], m.flags, m.tag, m.payload)


any_messages = st.lists(DECLARATIONS | OTHERS, max_size=40).map(lambda messages: list(declared_first(messages)))


@settings(deadline=None)
@given(any_messages, st.integers(1, 3000), st.sampled_from([1e-9, 1.0, 1e9]), st.integers(-5, 10))
def test_any_messages_come_back_as_they_were(messages, block_size, flush_interval, level):
    file = io.BytesIO()
    with RecordingWriter(
        file,
        block_size=block_size,
        flush_interval=flush_interval,
        compression_level=level,
        max_pending_blocks=1000,
        on_full="stop",
    ) as writer:
        for message in messages:
            assert writer.write(message)
    reader, back = read(file, strict=True)
    assert back == messages
    assert reader.complete
    assert (writer.messages, writer.dropped) == (len(messages), 0)
    assert writer.payload_bytes == sum(len(message.payload) for message in messages)
    assert writer.bytes_written == len(file.getvalue())
    # What has been read can be written again.
    again = io.BytesIO()
    with RecordingWriter(again, max_pending_blocks=1000) as copy:
        for message in back:
            copy.write(message)
    assert read(again, strict=True)[1] == messages


def test_sources_are_numbered_from_one_and_declared_in_band(tmp_path):
    path = tmp_path / "a.rec"
    with RecordingWriter(path) as writer:
        assert writer.add_source("okx", "wss://ws.okx.com", ts_recv=5, instruments=["BTC-USDT"]) == 1
        writer.write_message(7, 1, Kind.TEXT | LAST_IN_BATCH, b"{}")
        assert writer.add_source("okx", "https://okx.com") == 2
        writer.write_message(8, 2, Kind.REPLY, bytearray(b"[]"), "BTC-USDT")
        writer.note("digest", {"trades": 3})
        writer.write(RawMessage(9, 7, Kind.SOURCE, "", b"{}"))
        assert writer.add_source("bybit", "") == 8
    with RecordingReader(path) as reader:
        messages = list(reader)
    first = b'{"exchange":"okx","url":"wss://ws.okx.com","instruments":["BTC-USDT"]}'
    assert messages == [
        RawMessage(5, 1, Kind.SOURCE, "", first),
        RawMessage(7, 1, Kind.TEXT | LAST_IN_BATCH, "", b"{}"),
        RawMessage(7, 2, Kind.SOURCE, "", b'{"exchange":"okx","url":"https://okx.com"}'),
        RawMessage(8, 2, Kind.REPLY, "BTC-USDT", b"[]"),
        RawMessage(8, 0, Kind.NOTE, "digest", b'{"trades":3}'),
        RawMessage(9, 7, Kind.SOURCE, "", b"{}"),
        RawMessage(9, 8, Kind.SOURCE, "", b'{"exchange":"bybit","url":""}'),
    ]
    assert reader.sources[1] == {"exchange": "okx", "url": "wss://ws.okx.com", "instruments": ["BTC-USDT"]}
    assert reader.sources.keys() == {1, 2, 7, 8}


@pytest.mark.parametrize("source", [-1, 1, 65_535, 65_536, 2**31 - 1])
def test_a_source_that_was_not_declared_is_refused(source):
    with RecordingWriter(io.BytesIO()) as writer, pytest.raises(ValueError, match=f"declared, found {source}"):
        writer.write_message(1, source, Kind.TEXT, b"{}")


@pytest.mark.parametrize(
    ("source", "payload", "match"),
    [(0, b"{}", "1 to 65535"), (65_536, b"{}", "1 to 65535"), (1, b"[]", "JSON object"), (1, b"{", "JSON object")],
)
def test_a_malformed_declaration_is_refused(source, payload, match):
    file = io.BytesIO()
    with RecordingWriter(file) as writer, pytest.raises(ValueError, match=match):
        writer.write_message(1, source, Kind.SOURCE, payload)
    assert payloads(file) == []


def test_the_last_source_number_is_the_last():
    with RecordingWriter(io.BytesIO()) as writer:
        writer.write_message(1, 65_535, Kind.SOURCE, b"{}")
        with pytest.raises(RecordingError, match="at most 65535 sources"):
            writer.add_source("okx", "")


def test_values_that_the_format_has_no_room_for_are_refused():
    file = io.BytesIO()
    with RecordingWriter(file) as writer:
        with pytest.raises(ValueError, match="flags"):
            writer.write_message(1, 0, -1, b"")
        with pytest.raises(ValueError, match="tag: expected at most 65535 bytes, found 65536"):
            writer.write_message(1, 0, Kind.TICK, b"", "t" * 65_536)
        with pytest.raises(RecordingError, match=f"at most {(64 << 20) - 40} bytes, found {64 << 20}"):
            writer.write_message(1, 0, Kind.TICK, bytes(64 << 20))
        writer.write_message(1, 0, Kind.TICK, b"x", "t" * 65_535)
    [message] = read(file, strict=True)[1]
    assert (message.payload, len(message.tag)) == (b"x", 65_535)


def test_a_message_larger_than_a_block_has_its_own():
    file = io.BytesIO()
    with RecordingWriter(file, block_size=100) as writer:
        for n, size in enumerate([10, 100_000, 10]):
            writer.write(tick(n, size))
    assert [len(payload) for payload in payloads(file)] == [11, 100_001, 11]
    assert writer.blocks_written == 3


@pytest.mark.parametrize(
    "bad",
    [
        {"block_size": 0},
        {"block_size": (64 << 20) + 1},
        {"flush_interval": 0},
        {"flush_interval": float("nan")},
        {"flush_interval": float("inf")},
        {"max_pending_blocks": 0},
        {"on_full": "wait"},
        {"compression_level": 99},
        {"metadata": {"long": "x" * (1 << 20)}},
    ],
)
def test_bad_settings_are_refused_before_a_file_is_made(bad, tmp_path):
    path = tmp_path / "a.rec"
    with pytest.raises(ValueError, match=r"expected|level"):
        RecordingWriter(path, **bad)
    assert not path.exists()


def test_an_existing_file_is_never_overwritten(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(b"precious")
    with pytest.raises(RecordingExists, match=r"a\.rec: exists already") as error:
        RecordingWriter(path)
    assert isinstance(error.value, FileExistsError)
    assert path.read_bytes() == b"precious"


def test_a_file_that_cannot_be_made_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        RecordingWriter(tmp_path / "no such folder" / "a.rec")


def fill(writer, file):
    """Write until the thread hangs in a write and queue and block are full; return how many messages fitted."""
    n = 0
    while writer.dropped == 0:
        writer.write(tick(n))
        n += 1
        if writer.pending_blocks == 1:
            assert file.writing.wait(PATIENCE)
    return n - 1


def test_drop_counts_and_marks_the_gap():
    file = GatedFile()
    with RecordingWriter(file, block_size=500, max_pending_blocks=2, on_full="drop") as writer:
        fitted = fill(writer, file)
        assert writer.write(tick(fitted + 1)) is False
        assert writer.write_message(SECOND + fitted + 2, 0, Kind.TICK, b"") is False  # would fit, but not in order
        assert (writer.messages, writer.dropped, writer.pending_blocks) == (fitted, 3, 2)
        size_dropped = len(b"%d%d" % (fitted, fitted + 1))
        assert writer.dropped_bytes == size_dropped
        file.gate.set()
        writer.flush(wait=True)
        assert writer.write(tick(fitted + 3)) is True
    _, messages = read(file, strict=True)
    assert messages[:fitted] == [tick(n) for n in range(fitted)]
    marker, last = messages[fitted:]
    assert last == tick(fitted + 3)
    assert (marker.source, marker.kind, marker.tag, marker.ts_recv) == (0, Kind.NOTE, "dropped", SECOND + fitted + 2)
    assert json.loads(marker.payload) == {
        "messages": 3,
        "bytes": size_dropped,
        "first_ts_recv": SECOND + fitted,
        "last_ts_recv": SECOND + fitted + 2,
    }
    assert writer.messages == fitted + 2


def test_the_gap_is_marked_before_the_next_message_without_a_flush():
    file = GatedFile()
    with RecordingWriter(file, block_size=500, max_pending_blocks=1) as writer:
        fitted = fill(writer, file)
        file.gate.set()
        while not writer.write(tick(0)):  # until the thread has made room
            pass
    _, messages = read(file, strict=True)
    assert messages[fitted].tag == "dropped"
    assert json.loads(messages[fitted].payload)["messages"] == writer.dropped
    assert messages[fitted + 1 :] == [tick(0)]


def test_the_gap_is_marked_by_close_when_nothing_follows():
    file = GatedFile()
    with RecordingWriter(file, block_size=500, max_pending_blocks=1) as writer:
        fitted = fill(writer, file)
        file.gate.set()
    reader, messages = read(file, strict=True)
    assert [message.tag for message in messages[fitted:]] == ["dropped"]
    assert reader.complete


def test_a_declaration_is_never_dropped():
    file = GatedFile()
    with RecordingWriter(file, block_size=500, max_pending_blocks=1) as writer:
        fitted = fill(writer, file)
        assert writer.add_source("okx", "x" * 1000) == 1
        assert writer.write_message(1, 1, Kind.TEXT, b"") is False
        file.gate.set()
    reader, messages = read(file, strict=True)
    assert messages[fitted].kind is Kind.SOURCE
    assert reader.sources[1]["exchange"] == "okx"


def test_flush_does_not_block_while_the_queue_is_full():
    file = GatedFile()
    with RecordingWriter(file, block_size=500, max_pending_blocks=1) as writer:
        fitted = fill(writer, file)
        writer.flush()
        assert writer.messages == fitted
        file.gate.set()


def test_stop_ends_the_recording_and_says_so():
    file = GatedFile()
    writer = RecordingWriter(file, block_size=500, max_pending_blocks=2, on_full="stop")
    with pytest.raises(RecordingError, match="recording stopped: the disk did not keep up: 2 blocks"):
        all(map(writer.write, map(tick, count())))
    n = writer.messages - 1  # all but the note
    for again in (lambda: writer.write(tick(n)), writer.flush, lambda: writer.note("a", 1)):
        with pytest.raises(RecordingError, match="recording stopped earlier"):
            again()
    file.gate.set()
    writer.close()
    reader, messages = read(file, strict=True)
    assert messages[:-1] == [tick(i) for i in range(n)]
    assert (messages[-1].kind, messages[-1].tag) == (Kind.NOTE, "stopped")
    assert "did not keep up" in json.loads(messages[-1].payload)["reason"]
    assert reader.complete
    assert writer.dropped == 3  # what was refused


def failing_writer():
    file = FullDisk(room=400)
    writer = RecordingWriter(file, block_size=500)
    writer.write(RawMessage(1, 0, Kind.TICK, "", os.urandom(400)))
    return file, writer


@pytest.mark.parametrize("call", ["write", "flush", "close", "note", "add_source"])
def test_an_error_of_the_thread_is_raised_by_the_next_call_with_the_path(call):
    file, writer = failing_writer()
    if call == "close":
        with pytest.raises(RecordingError, match=r"/data/full\.rec: writing failed: .*No space left") as error:
            writer.close()
    else:
        with pytest.raises(RecordingError, match=r"/data/full\.rec: writing failed: .*No space left") as error:
            writer.flush(wait=True)
        assert file.failed.is_set()
        arguments = {"write": [tick(1)], "note": ["a", 1], "add_source": ["okx", ""]}.get(call, [])
        with pytest.raises(RecordingError, match="writing failed"):
            getattr(writer, call)(*arguments)
    assert isinstance(error.value.__cause__, OSError)
    writer.close()  # has been said
    writer.close()


def test_an_error_inside_a_with_statement_is_raised_once():
    file, writer = failing_writer()
    writer.flush()
    assert file.failed.wait(PATIENCE)
    with pytest.raises(RecordingError, match="writing failed") as error, writer:
        all(map(writer.write, map(tick, count())))
    assert not isinstance(error.value.__context__, RecordingError)


def test_whatever_the_file_raises_reaches_the_owner():
    class Broken(io.BytesIO):
        def flush(self):
            raise SystemExit("not an Exception")

    writer = RecordingWriter(Broken())
    writer.write(tick(1))
    with pytest.raises(RecordingError, match="not an Exception"):
        writer.close()


def test_a_file_that_takes_a_part_is_given_the_rest_and_one_that_takes_nothing_has_failed():
    class Hesitant(io.BytesIO):
        def write(self, data):
            return super().write(data[:7])

    file = Hesitant()
    with RecordingWriter(file) as writer:
        writer.write(tick(1))
    assert payloads(file) == [b"1"]

    class Stuck(io.BytesIO):
        def write(self, data):
            return 0

    with pytest.raises(OSError, match="the file took 0"):
        RecordingWriter(Stuck())


class WatchedFile(io.BytesIO):
    """Says when it was flushed, which for a file object is what a sync is."""

    def __init__(self):
        super().__init__()
        self.flushed = threading.Event()
        self.flushes = 0

    def flush(self):
        super().flush()
        self.flushes += 1
        self.flushed.set()


@pytest.mark.parametrize("then", [SECOND + 2 * SECOND, SECOND - 2 * SECOND, 2**63 - 1, -(2**63)])
def test_the_flush_interval_is_that_of_the_messages(then):
    file = WatchedFile()
    with RecordingWriter(file, flush_interval=2.0) as writer:
        writer.write_message(SECOND, 0, Kind.TICK, b"a")
        writer.write_message(SECOND + 2 * SECOND - 1, 0, Kind.TICK, b"b")
        writer.write_message(0, 0, Kind.TICK, b"an unknown time is no time")
        assert (writer.pending_blocks, writer.blocks_written) == (0, 0)
        writer.write_message(then, 0, Kind.TICK, b"c")
        assert file.flushed.wait(PATIENCE)
        assert payloads(file) == [b"a", b"b", b"an unknown time is no time", b"c"]
        writer.write_message(then, 0, Kind.TICK, b"d")  # begins the next interval
    assert payloads(file)[-1] == b"d"
    assert file.flushes == 2  # the one of the interval and that of close


def test_what_was_flushed_can_be_read_while_the_recording_goes_on(tmp_path):
    path = tmp_path / "a.rec"
    with RecordingWriter(path) as writer:
        writer.write(tick(1))
        writer.flush(wait=True)
        with RecordingReader(path, strict=True) as reader:
            assert list(reader) == [tick(1)]
            assert not reader.complete
        writer.write(tick(2))
    with RecordingReader(path, strict=True) as reader:
        assert list(reader) == [tick(1), tick(2)]
        assert reader.complete


def test_a_flush_syncs_the_file_and_the_first_one_its_folder(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def spy(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}") if os.path.exists("/proc/self/fd") else os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    path = tmp_path / "a.rec"
    file, folder = (str(path), str(tmp_path))
    with RecordingWriter(path, block_size=100) as writer:
        if not os.path.exists("/proc/self/fd"):
            file, folder = path.stat().st_ino, tmp_path.stat().st_ino
        for n in range(20):
            writer.write(tick(n))
        assert synced == []
        writer.flush(wait=True)
        assert synced == [file, folder]
        writer.flush(wait=True)  # nothing new
        assert synced == [file, folder]
        writer.write(tick(20))
    assert synced == [file, folder, file]


def test_a_closed_recording_takes_nothing_and_closes_again():
    file = io.BytesIO()
    writer = RecordingWriter(file)
    writer.close()
    size = len(file.getvalue())
    for call in (lambda: writer.write(tick(1)), writer.flush, lambda: writer.note("a", 1)):
        with pytest.raises(RecordingError, match="the recording is closed"):
            call()
    writer.close()
    assert not file.closed
    assert len(file.getvalue()) == size
    assert read(file, strict=True)[0].complete


def test_a_forgotten_recording_is_closed_with_a_warning(tmp_path):
    path = tmp_path / "a.rec"

    def forget():
        RecordingWriter(path).write(tick(1))
        gc.collect()

    with pytest.warns(ResourceWarning, match=r"a\.rec was not closed"):
        forget()
    with RecordingReader(path, strict=True) as reader:
        assert list(reader) == [tick(1)]
        assert reader.complete


def test_a_recording_forgotten_at_exit_does_not_hang_the_program(tmp_path):
    path = tmp_path / "a.rec"
    program = (
        "import sys; from feeds.recording import *\n"
        "writer = RecordingWriter(sys.argv[1])\n"
        "writer.note('kept', 1); writer.flush(wait=True); writer.note('not flushed', 2)\n"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=PATIENCE)
    with RecordingReader(path) as reader:
        assert next(reader).tag == "kept"
        assert reader.damage_count == 0


def test_a_folder_that_cannot_be_synced_does_not_stop_a_recording(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse_folders(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    path = tmp_path / "a.rec"
    with RecordingWriter(os.fsencode(path)) as writer:
        writer.write(tick(1))
        writer.flush(wait=True)
    with RecordingReader(os.fsencode(path), strict=True) as reader:
        assert list(reader) == [tick(1)]


def test_an_object_that_was_never_set_up_is_closed():
    writer = RecordingWriter.__new__(RecordingWriter)
    with pytest.raises(RecordingError, match="closed"):
        writer.write(tick(1))
    writer.close()
    for reader in (RecordingReader, CollectorReader):
        assert list(reader.__new__(reader)) == []


def test_the_thread_ends_with_the_recording():
    before = threading.active_count()
    writer = RecordingWriter(io.BytesIO())
    assert threading.active_count() == before + 1
    writer.close()
    assert threading.active_count() == before


def test_metadata_and_notes_must_be_json():
    with pytest.raises(TypeError):
        RecordingWriter(io.BytesIO(), metadata={"file": io})
    with RecordingWriter(io.BytesIO()) as writer, pytest.raises(TypeError):
        writer.note("a", io)
