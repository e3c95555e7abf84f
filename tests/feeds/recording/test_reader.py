"""Damage: everything outside it comes back, and it is named."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.recording import (
    Kind,
    NotARecording,
    RawMessage,
    RawSource,
    RecordingDamaged,
    RecordingReader,
    RecordingWriter,
)

BLOCKS = 4


def tick(n):
    return RawMessage(1000 + n, 0, Kind.TICK, "", b"message %d" % n)


def record_blocks(blocks=BLOCKS):
    """A file of so many blocks, two messages each, index and end."""
    file = io.BytesIO()
    with RecordingWriter(file, metadata={"venue": "test"}) as writer:
        for n in range(blocks):
            writer.write(tick(2 * n))
            writer.write(tick(2 * n + 1))
            writer.flush(wait=True)
    return file.getvalue()


def offsets(data):
    """Where each block begins, and the end of the file."""
    found = [32 + struct.unpack_from("<I", data, 12)[0]]
    while found[-1] < len(data):
        found.append(found[-1] + 56 + struct.unpack_from("<I", data, found[-1] + 20)[0])
    return found


WHOLE = record_blocks()
STARTS = offsets(WHOLE)
HEADER_END = STARTS[0]


def in_blocks(*numbers):
    return [tick(2 * n + i) for n in numbers for i in (0, 1)]


def read(data, **options):
    reader = RecordingReader(io.BytesIO(data), **options)
    return reader, list(reader)


def test_a_whole_file_has_no_damage():
    reader, messages = read(WHOLE, strict=True)
    assert messages == in_blocks(0, 1, 2, 3)
    assert (reader.damages, reader.damage_count, reader.complete) == ([], 0, True)
    assert len(STARTS) == BLOCKS + 3


@pytest.mark.parametrize("cut", range(8, len(WHOLE)))
def test_a_file_cut_anywhere_yields_its_whole_blocks_and_says_where_it_was_cut(cut):
    reader, messages = read(WHOLE[:cut])
    whole = [n for n in range(BLOCKS) if STARTS[n + 1] <= cut]
    assert messages == in_blocks(*whole)
    assert not reader.complete
    if cut in STARTS:
        assert reader.damages == []
        return
    [damage] = reader.damages
    assert damage.reason == "truncated"
    assert damage.offset == max(start for start in [0, 32, *STARTS] if start <= cut)
    assert damage.lost_bytes == cut - damage.offset
    with pytest.raises(RecordingDamaged, match=f"offset {damage.offset}: truncated"):
        read(WHOLE[:cut], strict=True)


@pytest.mark.parametrize("flip", [0x01, 0xFF])
@pytest.mark.parametrize("at", range(8, len(WHOLE)))
def test_a_byte_changed_anywhere_costs_its_block_and_is_reported(at, flip):
    changed = bytearray(WHOLE)
    changed[at] ^= flip
    reader, messages = read(bytes(changed))
    damaged = max([n for n, start in enumerate(STARTS) if start <= at], default=None)
    assert messages == in_blocks(*(n for n in range(BLOCKS) if n != damaged))
    [damage] = reader.damages
    if damaged is None:
        assert damage.offset == (0 if at < 32 else 32)
        assert reader.metadata == {}
    else:
        assert (damage.offset, damage.lost_bytes) == (STARTS[damaged], STARTS[damaged + 1] - STARTS[damaged])
        assert reader.metadata["venue"] == "test"
    assert reader.complete == (damaged != BLOCKS + 1)
    with pytest.raises(RecordingDamaged) as error:
        read(bytes(changed), strict=True)
    assert error.value.damage == damage


@pytest.mark.parametrize("at", range(8))
def test_a_byte_changed_in_the_magic_makes_it_no_recording(at):
    changed = bytearray(WHOLE)
    changed[at] ^= 0xFF
    with pytest.raises(NotARecording):
        read(bytes(changed))


@pytest.mark.parametrize("at", range(8, len(WHOLE), 3))
@pytest.mark.parametrize("gone", [1, 40])
def test_bytes_taken_out_cost_the_blocks_they_were_in(at, gone):
    reader, messages = read(WHOLE[:at] + WHOLE[at + gone :])
    kept = [n for n in range(BLOCKS) if STARTS[n + 1] <= at or STARTS[n] >= at + gone]
    assert messages == in_blocks(*kept)
    assert reader.damages


@pytest.mark.parametrize("at", range(HEADER_END, len(WHOLE) + 1, 3))
@pytest.mark.parametrize("extra", [b"\0", b"garbage" * 20, WHOLE[:8] * 3, b"\xf5BLK" * 30])
def test_bytes_put_in_cost_the_block_they_are_in(at, extra):
    reader, messages = read(WHOLE[:at] + extra + WHOLE[at:])
    assert messages == in_blocks(*(n for n in range(BLOCKS) if not STARTS[n] < at < STARTS[n + 1]))
    assert reader.damage_count == 1


def test_a_block_of_another_recording_is_not_taken_for_one_of_this():
    other = record_blocks(2)
    stray = other[offsets(other)[1] : offsets(other)[2]]
    reader, messages = read(WHOLE[: STARTS[2]] + stray + WHOLE[STARTS[2] :])
    assert messages == in_blocks(0, 1, 2, 3)
    [damage] = reader.damages
    assert (damage.offset, damage.reason, damage.lost_bytes) == (STARTS[2], "block header", len(stray))


def test_missing_blocks_are_reported_where_they_are_missing():
    reader, messages = read(WHOLE[: STARTS[1]] + WHOLE[STARTS[3] :])
    assert messages == in_blocks(0, 3)
    [damage] = reader.damages
    assert (damage.offset, damage.reason) == (STARTS[1], "missing blocks")
    assert (damage.expected, damage.found, damage.lost_bytes) == ("block 1", "block 3", 0)


def test_a_repeated_block_is_read_once():
    reader, messages = read(WHOLE[: STARTS[2]] + WHOLE[STARTS[1] :])
    assert messages == in_blocks(0, 1, 2, 3)
    [damage] = reader.damages
    assert (damage.offset, damage.reason) == (STARTS[2], "repeated block")


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(8, len(WHOLE)), st.integers(0, 60), st.binary(max_size=60)), min_size=1, max_size=5)
)
def test_however_often_it_was_damaged_only_messages_that_were_written_come_back_in_order(edits):
    data = WHOLE
    for at, gone, extra in edits:
        data = data[:at] + extra + data[at + gone :]
    _, messages = read(data)
    remaining = iter(in_blocks(0, 1, 2, 3))
    assert all(message in remaining for message in messages)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_do_harm(data):
    reader, messages = read(WHOLE[: STARTS[1]] + data)
    assert messages[:2] == in_blocks(0)
    assert reader.damage_count == (1 if data else 0)


def test_damage_says_what_disagrees():
    changed = bytearray(WHOLE)
    changed[STARTS[1] + 60] ^= 1
    reader, _ = read(bytes(changed))
    [damage] = reader.damages
    lost = STARTS[2] - STARTS[1]
    assert str(damage) == (
        f"offset {STARTS[1]}: block checksum: expected {damage.expected}, found {damage.found}; {lost} bytes lost"
    )
    assert damage.expected != damage.found


def test_a_strict_reader_returns_what_stands_before_the_damage():
    changed = bytearray(WHOLE)
    changed[STARTS[2] + 60] ^= 1
    reader = RecordingReader(io.BytesIO(changed), strict=True)
    assert [next(reader) for _ in range(4)] == in_blocks(0, 1)
    with pytest.raises(RecordingDamaged, match="block checksum"):
        next(reader)


def test_a_block_larger_than_the_limit_is_skipped_and_reported():
    file = io.BytesIO()
    large = RawMessage(1, 0, Kind.TICK, "", bytes(1000))
    with RecordingWriter(file, block_size=500) as writer:
        for message in (tick(0), large, tick(1)):
            writer.write(message)
    assert read(file.getvalue(), max_block_size=1040)[1] == [tick(0), large, tick(1)]
    reader, messages = read(file.getvalue(), max_block_size=999)
    assert messages == [tick(0), tick(1)]
    [damage] = reader.damages
    assert damage.reason == "block size"
    assert "at most 999" in damage.expected


@pytest.mark.parametrize("size", [0, -1, (64 << 20) + 1])
def test_limits_out_of_range_are_refused(size):
    with pytest.raises(ValueError, match="max_block_size"):
        read(WHOLE, max_block_size=size)


def test_progress_ends_at_the_size_of_the_file(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(WHOLE)
    with RecordingReader(path) as reader:
        assert (reader.bytes_read, reader.total_bytes) == (HEADER_END, len(WHOLE))
        positions = [reader.bytes_read for _ in reader]
        assert positions == [end for end in STARTS[1:-2] for _ in (0, 1)]
        assert reader.bytes_read == len(WHOLE)


def test_there_is_no_message_before_the_first_after_the_last_or_after_close():
    reader = RecordingReader(io.BytesIO(WHOLE))
    with pytest.raises(ValueError, match="no current message"):
        reader.message()
    assert next(reader) == reader.message() == tick(0)
    assert list(reader) == in_blocks(0, 1, 2, 3)[1:]
    assert list(reader) == []
    with pytest.raises(ValueError, match="no current message"):
        reader.message()
    reader = RecordingReader(io.BytesIO(WHOLE))
    next(reader)
    reader.close()
    reader.close()
    assert list(reader) == []
    with pytest.raises(ValueError, match="no current message"):
        reader.message()


def test_a_file_object_stays_its_callers_and_need_not_be_at_its_start():
    file = io.BytesIO(WHOLE)
    file.seek(77)
    with RecordingReader(file) as reader:
        assert list(reader) == in_blocks(0, 1, 2, 3)
    assert not file.closed


def test_short_reads_are_made_whole():
    class Hesitant(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 5))

        def readinto(self, buffer):
            return super().readinto(memoryview(buffer)[:5])

    reader = RecordingReader(Hesitant(WHOLE), strict=True)
    assert list(reader) == in_blocks(0, 1, 2, 3)


def test_a_source_that_does_not_advance_says_whose_fault_it_is():
    with pytest.raises(NotImplementedError, match=r"RawSource\.advance"):
        next(RawSource())
