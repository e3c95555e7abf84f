from __future__ import annotations

import os

import pytest

from picows.masking import mask_bytes, mask_implementations, random_mask

MASK = bytes([0x12, 0x9A, 0x00, 0xFF])


def obvious(data: bytes, mask: bytes, phase: int) -> bytes:
    return bytes(byte ^ mask[(phase + i) % 4] for i, byte in enumerate(data))


def test_the_portable_implementation_is_always_there_and_last():
    assert mask_implementations()[-1] == "portable"


@pytest.mark.parametrize("implementation", range(len(mask_implementations())))
@pytest.mark.parametrize("offset", range(33))
def test_masks_like_the_obvious_loop(implementation, offset):
    data = bytes(range(256)) + bytes(range(44))
    for size in range(301):
        for phase in range(4) if size < 80 else (offset % 4,):
            expected = obvious(data[:size], MASK, phase)
            found = mask_bytes(data[:size], MASK, phase, implementation, offset)
            assert found == expected, (size, phase)


def test_refuses_a_mask_of_another_size():
    with pytest.raises(ValueError, match="4 bytes, found 3"):
        mask_bytes(b"abc", b"123")


def test_refuses_an_implementation_that_does_not_exist():
    with pytest.raises(ValueError, match="found 9"):
        mask_bytes(b"abc", MASK, 0, 9)


def test_random_masks_differ_beyond_one_pool():
    masks = [random_mask() for _ in range(3000)]
    assert all(len(mask) == 4 for mask in masks)
    assert len(set(masks)) > 2990  # 3000 of 2**32: more than a few repetitions would be no chance


def test_a_forked_child_has_masks_of_its_own():
    random_mask()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"".join(random_mask() for _ in range(8)))
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    child = os.read(reader, 64)
    os.close(reader)
    assert len(child) == 32
    assert child != b"".join(random_mask() for _ in range(8))
