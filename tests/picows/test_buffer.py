from __future__ import annotations

import pytest

from picows.buffer import ReadBuffer


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
