"""Reading ahead: what is returned, and when damage is told, does not depend on it; threads end."""

from __future__ import annotations

import gc
import io
import os
import random
import threading

import pytest
import zstandard

from feeds.recording import LAST_IN_BATCH, Kind, RawMessage, RecordingDamaged, RecordingReader, RecordingWriter
from feeds.recording.ahead import ReadAhead, decompress

THREAD = "feeds-read-ahead"


def recorded(blocks: int = 12, size: int = 100_000) -> bytes:
    """A recording whose blocks are large enough to be read ahead; each has a few messages."""
    file = io.BytesIO()
    random_bytes = random.Random(1)
    with RecordingWriter(file, block_size=size, max_pending_blocks=1000) as writer:
        source = writer.add_source("binance", "wss://x", ts_recv=1)
        for n in range(blocks * 4):
            payload = random_bytes.randbytes(size // 40) * 10
            writer.write(RawMessage(n + 1, source, Kind.TEXT | LAST_IN_BATCH, "", payload))
    return file.getvalue()


RECORDED = recorded()


def read(data: bytes, *, read_ahead: bool, strict: bool = False) -> tuple[list[tuple[object, ...]], list[str]]:
    """Return what the reader returned, with what it said of itself by then, and the damages."""
    found: list[tuple[object, ...]] = []
    with RecordingReader(io.BytesIO(data), read_ahead=read_ahead, strict=strict) as reader:
        try:
            for message in reader:
                found.append((message, reader.damage_count, reader.bytes_read, reader.run))
        except RecordingDamaged as error:
            found.append((str(error.damage),))
        found.append((reader.complete, reader.bytes_read, reader.lost_bytes))
        return found, [str(damage) for damage in reader.damages]


def threads() -> int:
    return sum(thread.name == THREAD for thread in threading.enumerate())


def test_the_messages_are_the_same() -> None:
    found, damages = read(RECORDED, read_ahead=True)
    assert (found, damages) == read(RECORDED, read_ahead=False)
    assert len(found) == 1 + 48 + 1
    assert damages == []


def test_blocks_are_read_ahead_and_the_thread_ends_with_the_reader() -> None:
    before = threads()
    with RecordingReader(io.BytesIO(RECORDED), read_ahead=True) as reader:
        assert reader.reads_ahead
        next(reader)
        assert threads() == before + 1
    assert threads() == before
    with RecordingReader(io.BytesIO(RECORDED), read_ahead=False) as reader:
        next(reader)
        assert threads() == before


def test_the_thread_of_a_reader_that_nobody_closed_ends() -> None:
    reader = RecordingReader(io.BytesIO(RECORDED), read_ahead=True)
    next(reader)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == THREAD]
    del reader
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


def test_where_no_thread_can_be_had_blocks_are_read_in_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with RecordingReader(io.BytesIO(RECORDED), read_ahead=True) as reader:
        assert sum(1 for _ in reader) == 49
        assert not reader.reads_ahead


class Failing(io.BytesIO):
    """A disk that has a bad place."""

    def seek(self, at: int, whence: int = 0) -> int:
        if at > len(RECORDED) // 2 and whence == 0:
            raise OSError("input/output error")
        return super().seek(at, whence)


def test_a_disk_that_fails_does_so_after_the_messages_before() -> None:
    found = []
    for read_ahead in (True, False):
        messages = 0
        with RecordingReader(Failing(RECORDED), read_ahead=read_ahead) as reader, pytest.raises(OSError, match="input"):
            for _ in reader:
                messages += 1
        found.append(messages)
    assert found[0] == found[1] > 10


def test_small_blocks_have_no_thread() -> None:
    before = threads()
    with RecordingReader(io.BytesIO(recorded(size=8_000)), read_ahead=True) as reader:
        assert sum(1 for _ in reader) == 49
        assert threads() == before


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_damage_is_told_at_the_same_place(seed: int, strict: bool) -> None:
    chance = random.Random(seed)
    data = bytearray(RECORDED)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 5000)]
            case 2:
                data[at:at] = chance.randbytes(chance.randrange(1, 5000))
            case 3:
                del data[at:]
    try:
        expected = read(bytes(data), read_ahead=False, strict=strict)
    except Exception as error:
        with pytest.raises(type(error)):
            read(bytes(data), read_ahead=True, strict=strict)
    else:
        assert read(bytes(data), read_ahead=True, strict=strict) == expected


def test_seeking_gives_up_what_was_begun() -> None:
    with RecordingReader(io.BytesIO(RECORDED), read_ahead=True) as reader:
        expected = [message.payload for message in reader if message.kind is Kind.TEXT]
        for ts in (1, 20, 7, 48, 30):
            assert reader.seek(ts)
            first = next(message for message in reader if message.kind is Kind.TEXT)
            assert first.ts_recv <= ts
            assert first.payload == expected[first.ts_recv - 1]


def test_a_frame_that_is_too_long_or_none_is_damage() -> None:
    packed = zstandard.compress(b"x" * 1000)
    for reader in (lambda stored, raw: decompress(zstandard.ZstdDecompressor(), memoryview(stored), memoryview(raw)),
                   lambda stored, raw: ahead_of(stored, len(raw) - 1)):  # fmt: skip
        assert reader(packed, bytearray(1001)) is None
        assert reader(packed, bytearray(1000)) == "1000 bytes or more"
        assert reader(packed, bytearray(1002)) == "1000 bytes or more"
        assert "nknown frame" in (reader(b"nothing", bytearray(10)) or "")


def ahead_of(stored: bytes, raw_size: int) -> str | None:
    ahead = ReadAhead(1 << 20)
    try:
        ahead.begin(5, stored, raw_size)
        taken = ahead.take(5, bytearray())
        assert taken is not None
        return taken[1]
    finally:
        ahead.close()


def test_another_block_than_was_begun_is_not_taken() -> None:
    ahead = ReadAhead(1 << 20)
    packed = zstandard.compress(b"x" * 1000)
    ahead.begin(5, packed, 1000)
    assert ahead.take(6, bytearray()) is None
    assert ahead.take(5, bytearray()) is None
    ahead.begin(7, packed, 1000)
    ahead.begin(8, zstandard.compress(b"y" * 1000), 1000)
    taken = ahead.take(8, bytearray())
    assert taken is not None
    assert bytes(taken[0][:1000]) == b"y" * 1000
    ahead.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_reads_on_without_the_thread() -> None:
    with RecordingReader(io.BytesIO(RECORDED), read_ahead=True) as reader:
        next(reader)
        child = os.fork()
        if child == 0:
            os._exit(sum(1 for _ in reader))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 48
        assert sum(1 for _ in reader) == 48
