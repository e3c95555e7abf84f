"""Reading ahead: what is returned, and when damage is told, does not depend on it; threads end."""

from __future__ import annotations

import gc
import io
import os
import random
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence

import pytest
import zstandard

from feeds.recording import LAST_IN_BATCH, Kind, RawMessage, RecordingDamaged, RecordingReader, RecordingWriter
from feeds.recording.ahead import Block, ReadAhead, decompress
from feeds.recording.format import (
    BLOCK_HEADER_SIZE,
    BLOCK_MESSAGES,
    COMPRESSION_ZSTD,
    BlockHeader,
    pack_block_header,
    unpack_block_header,
)

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


def test_a_little_has_no_thread() -> None:
    before = threads()
    with RecordingReader(io.BytesIO(recorded(size=5_000)), read_ahead=True) as reader:
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

    def wrong(stored: bytes, raw: bytearray) -> str | None:
        return decompress(zstandard.ZstdDecompressor(), memoryview(stored), memoryview(raw))

    assert wrong(packed, bytearray(1001)) is None
    assert wrong(packed, bytearray(1000)) == "1000 bytes or more"
    assert wrong(packed, bytearray(1002)) == "1000 bytes or more"
    assert "nknown frame" in (wrong(b"nothing", bytearray(10)) or "")


def block(offset: int, content: bytes, raw_size: int) -> Block:
    header = BlockHeader(b"session.", 0, BLOCK_MESSAGES, COMPRESSION_ZSTD, len(content), raw_size, 1, 0, 0, 0)
    return Block(offset, header, memoryview(content))


X, Y = zstandard.compress(b"x" * 1000), zstandard.compress(b"y" * 1000)


@pytest.fixture
def ahead() -> Iterator[ReadAhead]:
    ahead = ReadAhead()
    yield ahead
    ahead.close()


def test_a_group_is_taken_once_and_in_its_order(ahead: ReadAhead) -> None:
    ahead.begin([block(5, X, 1000), block(90, Y, 1000)])
    taken = ahead.take(5)
    assert taken is not None
    assert [(b.offset, b.header.raw_size, bytes(b.content)) for b in taken] == [
        (5, 1000, b"x" * 1000),
        (90, 1000, b"y" * 1000),
    ]
    assert ahead.take(5) is None


def test_another_group_than_was_begun_is_not_taken(ahead: ReadAhead) -> None:
    ahead.begin([block(5, X, 1000)])
    assert ahead.take(6) is None
    assert ahead.take(5) is None
    ahead.begin([block(7, X, 1000)])
    ahead.begin([block(8, Y, 1000)])
    taken = ahead.take(8)
    assert taken is not None
    assert bytes(taken[0].content) == b"y" * 1000


@pytest.mark.parametrize("raw_size", [999, 1001])
def test_a_group_with_a_block_that_is_not_what_its_header_says_is_not_taken(ahead: ReadAhead, raw_size: int) -> None:
    ahead.begin([block(5, X, 1000), block(90, Y, raw_size)])
    assert ahead.take(5) == []
    ahead.begin([block(5, X, 1000), block(90, b"nothing", 1000)])
    assert ahead.take(5) == []
    ahead.begin([block(5, X, 1000)])
    assert ahead.take(5)


def test_what_fails_on_the_thread_is_raised_on_the_readers(ahead: ReadAhead) -> None:
    ahead.begin([block(5, X, 1000), block(90, Y, 1 << 62)])
    with pytest.raises(MemoryError):
        ahead.take(5)
    ahead.begin([block(5, X, 1000)])
    assert ahead.take(5)


def replaced(number: int, content: Callable[[bytes], bytes], raw_size: int = 0) -> bytes:
    """The recording with other content in one of its blocks, of which the header is right but for the raw size."""
    with RecordingReader(io.BytesIO(RECORDED)) as reader:
        at = reader.index[number].offset
    begins = at + BLOCK_HEADER_SIZE
    header = unpack_block_header(RECORDED[at:begins])
    assert header is not None
    ends = begins + header.stored_size
    new = content(zstandard.decompress(RECORDED[begins:ends]))
    raw_size += header.raw_size
    header = header._replace(stored_size=len(new), raw_size=raw_size, checksum=zlib.crc32(new))
    return RECORDED[:at] + pack_block_header(header) + new + RECORDED[ends:]


def with_a_large_window(raw: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(raw) + compressor.flush()


@pytest.mark.parametrize(
    ("content", "raw_size", "told"),
    [
        (zstandard.compress, 1, "or more"),
        (zstandard.compress, -1, "or more"),
        (lambda raw: zstandard.compress(raw)[:-5], 0, "bytes or more"),
        (lambda raw: b"nothing" * 100, 0, "nknown frame"),
        (with_a_large_window, 0, "too much memory"),
    ],
)
def test_what_is_wrong_with_one_block_of_a_group_is_told_in_its_turn(
    content: Callable[[bytes], bytes], raw_size: int, told: str
) -> None:
    data = replaced(7, content, raw_size)
    found, damages = read(data, read_ahead=True)
    assert (found, damages) == read(data, read_ahead=False)
    assert len(found) == 1 + 45 + 1  # three messages of the block are lost
    [damage] = damages
    assert told in damage


def test_groups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    begin = ReadAhead.begin

    def noted(self: ReadAhead, blocks: Sequence[Block]) -> None:
        sizes.append([block.header.raw_size for block in blocks])
        begin(self, blocks)

    monkeypatch.setattr(ReadAhead, "begin", noted)
    with RecordingReader(io.BytesIO(recorded(blocks=50)), read_ahead=True) as reader:
        assert sum(1 for _ in reader) == 201
        assert sum(map(len, sizes)) == len(reader.index) - 1  # the first is read before there is a group
    assert max(map(len, sizes)) > 10
    assert all(sum(group) <= 2 << 20 for group in sizes)
    sizes.clear()
    with RecordingReader(io.BytesIO(recorded(blocks=3, size=3 << 20)), read_ahead=True) as reader:
        assert sum(1 for _ in reader) == 13
    assert [len(group) for group in sizes] == [1, 1, 1]


class Counting(io.BytesIO):
    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        return super().read(size)


@pytest.mark.parametrize("messages", [100, 1000])
def test_small_blocks_are_not_looked_at_again_and_again(messages: int) -> None:
    file = io.BytesIO()
    with RecordingWriter(file, max_pending_blocks=10_000) as writer:
        source = writer.add_source("binance", "wss://x", ts_recv=1)
        for n in range(messages):
            writer.write(RawMessage(n + 1, source, Kind.TEXT | LAST_IN_BATCH, "", b"x" * 400))
            writer.flush()
    counting = Counting(file.getvalue())
    with RecordingReader(counting, read_ahead=True) as reader:
        opened = counting.reads
        assert sum(1 for _ in reader) == 1 + messages
        assert counting.reads - opened < 4 * messages


def test_with_a_library_that_cannot_blocks_are_read_in_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.recording.reader.CAN_READ_AHEAD", False)
    with RecordingReader(io.BytesIO(RECORDED), read_ahead=True) as reader:
        assert not reader.reads_ahead
        assert sum(1 for _ in reader) == 49


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
