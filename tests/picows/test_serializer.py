from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picows import serialize_frame
from picows.parser import FrameParser
from picows.serializer import serialize_frames
from tests.picows import wire

MASK = b"\x01\x02\x03\x04"
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 70000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask", [None, MASK])
def test_bytes_are_those_of_the_rfc(size, mask):
    payload = bytes(i % 251 for i in range(size))
    assert serialize_frame(2, payload, mask=mask) == wire.frame(2, payload, mask=mask)


def test_several_frames_are_those_of_each():
    payloads = [bytes(i % 251 for i in range(size)) for size in SIZES]
    assert serialize_frames([(2, payload) for payload in payloads]) == b"".join(
        wire.frame(2, payload) for payload in payloads
    )
    assert serialize_frames([(1, b"a"), (2, b"b")]) == b"\x81\x01a\x82\x01b"
    assert serialize_frames([]) == b""
    with pytest.raises(ValueError, match="found 16"):
        serialize_frames([(1, b""), (16, b"")])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask", [None, MASK])
def test_round_trip(size, mask):
    payload = bytes(i % 251 for i in range(size))
    parser = FrameParser(mask is not None)
    parser.feed(serialize_frame(1, payload, mask=mask))
    assert parser.next_frame_or_none().get_payload_as_bytes() == payload


def test_flags():
    assert serialize_frame(1, "", fin=False, rsv1=True) == b"\x41\x00"
    assert serialize_frame(10, b"") == b"\x8a\x00"


@given(st.text())
def test_str_is_sent_as_utf8(text):
    assert serialize_frame(1, text) == wire.frame(1, text.encode())


def test_refuses_what_is_no_opcode_or_mask():
    with pytest.raises(ValueError, match="found 16"):
        serialize_frame(16, b"")
    with pytest.raises(ValueError, match="4 bytes, found 2"):
        serialize_frame(1, b"", mask=b"ab")
