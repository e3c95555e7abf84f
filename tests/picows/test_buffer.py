from __future__ import annotations

import pytest

from picows.buffer import Block, ReadBuffer, limit_spare_memory, spare_memory

pytestmark = pytest.mark.usefixtures("no_spares")


def test_take_returns_what_was_appended_in_order():
    buffer = ReadBuffer(256)
    buffer.append(b"ab")
    buffer.append(b"")
    buffer.append(bytearray(b"cd"))
    assert buffer.take() == b"abcd"
    assert buffer.take() == b""


def test_grows_for_what_does_not_fit_and_shrinks_when_it_is_gone():
    buffer = ReadBuffer(256)
    buffer.append(bytes(1000))
    assert buffer.capacity == 1000
    assert buffer.take() == bytes(1000)
    buffer.append(b"x")
    assert buffer.capacity == 256
    assert buffer.take() == b"x"


def test_refuses_a_capacity_that_no_header_fits_in_twice():
    with pytest.raises(ValueError, match="at least 256 bytes, found 255"):
        ReadBuffer(255)


def fill(buffer: ReadBuffer) -> None:
    """What a read does that leaves no room."""
    buffer.append(bytes(buffer.capacity - buffer.write_pos))


def test_grows_while_reads_fill_it_and_not_without_end():
    buffer = ReadBuffer(16 * 1024)
    capacities = []
    for _ in range(7):
        fill(buffer)
        buffer.take()
        buffer.append(bytes(16 * 1024))  # a read that leaves room, and not much less than before
        buffer.take()
        capacities.append(buffer.capacity // 1024)
    assert capacities == [32, 64, 128, 256, 512, 512, 512]
    buffer.append(b"little")
    buffer.take()
    buffer.append(b"little")
    assert buffer.capacity == 16 * 1024


def receive_large(buffer: ReadBuffer, size: int) -> None:
    """A frame of `size` bytes that is read in two parts, the last one small."""
    buffer.append(bytes(300))
    buffer.append(bytes(size - 300))
    assert len(buffer.take()) == size


def test_stays_large_from_the_second_large_frame_on():
    buffer = ReadBuffer(256)
    receive_large(buffer, 5000)
    buffer.append(b"little")
    assert buffer.capacity == 256
    buffer.take()
    for _ in range(2):
        receive_large(buffer, 5000)
    buffer.append(bytes(1000))
    assert buffer.capacity == 5000
    buffer.take()
    buffer.append(b"little")
    buffer.take()
    buffer.append(b"little")
    assert buffer.capacity == 256


def test_does_not_keep_what_only_very_large_frames_need():
    buffer = ReadBuffer(256)
    for _ in range(3):
        receive_large(buffer, 4 * 1024 * 1024 + 1)
    buffer.append(bytes(256))
    assert buffer.capacity == 256


def test_a_large_initial_capacity_is_kept():
    buffer = ReadBuffer(1_000_000)
    fill(buffer)
    buffer.take()
    buffer.append(b"x")
    assert buffer.capacity == 1_000_000


def test_large_blocks_are_used_again_and_small_ones_are_not():
    del (block := [Block(1024 * 1024)])[0]
    assert block == []
    assert spare_memory() == 1024 * 1024
    again = Block(600_000)
    assert spare_memory() == 0
    del again
    assert spare_memory() == 1024 * 1024
    Block(64 * 1024)  # kept by a connection that is flooded, for which it would be too large
    assert spare_memory() == 1024 * 1024 + 64 * 1024
    Block(32 * 1024 - 1)
    assert spare_memory() == 1024 * 1024 + 64 * 1024


def test_the_smallest_spare_that_fits_is_taken():
    blocks = [Block(size) for size in (4_000_000, 1_000_000, 2_000_000)]
    blocks.clear()
    block = Block(1_500_000)
    assert spare_memory() == 5_000_000
    del block


def test_spare_memory_has_a_limit():
    limit_spare_memory(250_000)
    blocks = [Block(100_000) for _ in range(5)]
    blocks.clear()
    assert spare_memory() == 200_000
    limit_spare_memory(100_000)
    assert spare_memory() == 100_000
    limit_spare_memory(0)
    assert spare_memory() == 0
    Block(100_000)
    assert spare_memory() == 0
    with pytest.raises(ValueError, match="0 or more, found -1"):
        limit_spare_memory(-1)


def test_many_spares_are_not_kept():
    blocks = [Block(32 * 1024) for _ in range(40)]
    blocks.clear()
    assert spare_memory() == 16 * 32 * 1024
