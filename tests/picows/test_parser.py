from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picows import WSCloseCode, WSProtocolError
from picows.parser import FrameParser, is_close_code_allowed
from tests.picows.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, slow_frames

MASK = b"\xa1\x02\xfe\x37"


def all_frames(parser, stream=b""):
    """Everything that the parser makes of `stream` in one read, as comparable tuples."""
    parser.feed(stream)
    found = []
    while (f := parser.next_frame_or_none()) is not None:
        payload = f.get_payload_as_bytes()
        found.append((int(f.msg_type), f.fin, f.rsv1, f.rsv2, f.rsv3, payload, f.tail_size, f.last_in_buffer))
    return found


def rejection(stream, *, expects_masked=False, **kwargs):
    """The WSProtocolError that `stream` gets, and the number of frames in front of it."""
    parser = FrameParser(expects_masked, **kwargs)
    parser.feed(stream)
    frames = []
    with pytest.raises(WSProtocolError) as info:
        frames.extend(iter(parser.next_frame_or_none, None))
    with pytest.raises(WSProtocolError) as again:
        parser.next_frame_or_none()
    assert again.value is info.value
    return info.value, len(frames)


# ---- good streams ---------------------------------------------------------------------------------

PAYLOADS = st.one_of(st.binary(max_size=40), st.integers(120, 400).map(bytes), st.integers(65500, 65600).map(bytes))


@st.composite
def streams(draw):
    """`(bytes, masked)`: a stream that breaks no rule, with fragments and with control frames between them."""
    masked = draw(st.booleans())
    masks = st.binary(min_size=4, max_size=4) if masked else st.none()
    stream = b""
    for _ in range(draw(st.integers(0, 5))):
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        fragments = draw(st.lists(PAYLOADS, min_size=1, max_size=3))
        for i, payload in enumerate(fragments):
            if draw(st.booleans()):
                control = draw(st.sampled_from([PING, PONG]))
                stream += frame(control, draw(st.binary(max_size=125)), mask=draw(masks))
            stream += frame(opcode if i == 0 else CONTINUATION, payload, fin=i == len(fragments) - 1, mask=draw(masks))
    if draw(st.booleans()):
        stream += frame(CLOSE, draw(st.sampled_from([b"", b"\x03\xe8", b"\x0b\xb8bye"])), mask=draw(masks))
    return stream, masked


@given(streams(), st.data())
@settings(max_examples=150, deadline=None)
def test_any_cutting_gives_the_same_frames(stream_and_masked, data):
    stream, masked = stream_and_masked
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser = FrameParser(masked, buffer_size=256)
    expected = slow_frames(stream)
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        arrived = [f for f in expected if start < f.end <= end]
        for seen, f in zip(all_frames(parser, stream[start:end]), arrived, strict=True):
            msg_type, fin, rsv1, rsv2, rsv3, payload, tail_size, last_in_buffer = seen
            assert (msg_type, bool(fin), payload) == (f.opcode, f.fin, f.payload)
            assert (rsv1, rsv2, rsv3) == (0, 0, 0)
            assert tail_size == end - f.end
            assert bool(last_in_buffer) == (f is arrived[-1])
            found.append(f)
    assert found == expected


@pytest.mark.parametrize("masked", [False, True])
def test_every_single_cut_of_a_short_stream(masked):
    mask = MASK if masked else None
    stream = (
        frame(TEXT, b"one", mask=mask) + frame(BINARY, bytes(200), mask=mask) + frame(PING, b"", mask=mask)
        + frame(TEXT, b"two", fin=False, mask=mask) + frame(CONTINUATION, b"!", mask=mask)
    )  # fmt: skip
    whole = [seen[:6] for seen in all_frames(FrameParser(masked), stream)]
    assert len(whole) == 5
    for cut in range(len(stream) + 1):
        parser = FrameParser(masked)
        found = all_frames(parser, stream[:cut]) + all_frames(parser, stream[cut:])
        assert [seen[:6] for seen in found] == whole


def test_byte_by_byte_every_frame_is_last_and_nothing_follows():
    parser = FrameParser(False)
    stream = frame(TEXT, b"abc") + frame(BINARY, bytes(130))
    found = [seen for byte in stream for seen in all_frames(parser, bytes([byte]))]
    assert [seen[5:] for seen in found] == [(b"abc", 0, 1), (bytes(130), 0, 1)]


def test_an_incomplete_frame_behind_counts_as_tail_but_not_as_a_frame():
    parser = FrameParser(False)
    stream = frame(TEXT, b"a") + frame(TEXT, b"b") + frame(TEXT, b"cut off")[:-1]
    assert [seen[5:] for seen in all_frames(parser, stream)] == [(b"a", 11, 0), (b"b", 8, 1)]


def test_a_broken_frame_behind_does_not_keep_the_last_good_one_from_being_last():
    parser = FrameParser(False)
    parser.feed(frame(TEXT, b"good") + frame(3, b"broken"))
    assert parser.next_frame_or_none().last_in_buffer == 1
    with pytest.raises(WSProtocolError):
        parser.next_frame_or_none()


def test_what_follows_a_close_is_discarded():
    parser = FrameParser(False)
    assert [seen[0] for seen in all_frames(parser, frame(CLOSE, b"") + frame(TEXT, b"late"))] == [CLOSE]
    assert parser.is_closed
    assert all_frames(parser, frame(TEXT, b"later") + b"\xff\xff\xff") == []


def test_a_close_is_last_whatever_follows():
    parser = FrameParser(False)
    parser.feed(frame(CLOSE, b"") + frame(TEXT, b"late"))
    close = parser.next_frame_or_none()
    assert (close.last_in_buffer, close.tail_size) == (1, 6)


def test_a_frame_is_empty_once_the_buffer_moves_on():
    parser = FrameParser(False)
    parser.feed(frame(TEXT, b"abc"))
    kept = parser.next_frame_or_none()
    parser.feed(b"")
    assert kept.get_payload_as_bytes() == b""


def test_a_memoryview_that_is_kept_keeps_its_bytes():
    parser = FrameParser(False, buffer_size=256)
    views = []
    for i in range(20):
        parser.feed(frame(TEXT, b"%03d" % i * 60))
        views.append(parser.next_frame_or_none().get_payload_as_memoryview())
    assert [bytes(view) for view in views] == [b"%03d" % i * 60 for i in range(20)]


def test_reserved_bits_of_an_extension():
    parser = FrameParser(False, reserved_bits=0x40)
    assert all_frames(parser, frame(TEXT, b"z", rsv=4)) == [(TEXT, 1, 1, 0, 0, b"z", 0, 1)]
    parser = FrameParser(False, reserved_bits=0x70)
    assert all_frames(parser, frame(TEXT, b"z", rsv=3)) == [(TEXT, 1, 0, 1, 1, b"z", 0, 1)]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 4999])
def test_close_codes_of_the_registry(code):
    assert is_close_code_allowed(code)
    payload = struct.pack(">H", code) + "grüß".encode()
    assert all_frames(FrameParser(False), frame(CLOSE, payload))[0][5] == payload


# ---- memory ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_spares")
def test_an_announced_length_alone_does_not_take_memory():
    parser = FrameParser(False, max_frame_size=1 << 30)
    parser.feed(frame(BINARY, b"", form=64)[:2] + struct.pack(">Q", 1 << 30))
    assert parser.next_frame_or_none() is None
    assert parser.read_size() < 512 * 1024


def test_the_buffer_grows_for_a_large_frame_and_shrinks_behind_it():
    payload = bytes(3_000_000)
    parser = FrameParser(False)
    stream = frame(BINARY, payload) + frame(TEXT, b"x")
    pos = 0
    peak = 0
    found = []
    while pos < len(stream):
        size = min(parser.read_size(), 100_000)
        peak = max(peak, parser.buffer.capacity)
        parser.feed(stream[pos : pos + size])
        pos += size
        found += [f.get_payload_as_bytes() for f in iter(parser.next_frame_or_none, None)]
    assert found == [payload, b"x"]
    assert len(payload) < peak < 2 * len(payload)
    parser.read_size()
    assert parser.buffer.capacity == 16 * 1024


def test_there_is_always_room_to_read():
    parser = FrameParser(False, max_frame_size=5000, buffer_size=256)
    stream = frame(BINARY, bytes(5000)) * 3
    for byte in stream:
        assert parser.read_size() > 0
        parser.feed(bytes([byte]))
        while parser.next_frame_or_none() is not None:
            pass
    assert parser.buffer.capacity < 20_000


# ---- broken streams -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "code", "message"),
    [
        (frame(TEXT, b"a", rsv=4), 1002, "reserved bits 0x40"),
        (frame(TEXT, b"a", rsv=2), 1002, "reserved bits 0x20"),
        (frame(TEXT, b"a", rsv=1), 1002, "reserved bits 0x10"),
        (frame(PING, b"", rsv=7), 1002, "reserved bits 0x70"),
        *[(frame(opcode), 1002, f"unknown opcode {opcode:#x}") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        (frame(PING, b"", fin=False), 1002, "fragmented control frame"),
        (frame(CLOSE, b"", fin=False), 1002, "fragmented control frame"),
        (frame(PING, bytes(126)), 1002, "more than 125 bytes"),
        (frame(PONG, bytes(70000)), 1002, "more than 125 bytes"),
        (frame(CLOSE, b"\x03\xe8" + bytes(124)), 1002, "more than 125 bytes"),
        (frame(CONTINUATION, b"a"), 1002, "continuation of no message"),
        (frame(CONTINUATION, b"a", fin=False), 1002, "continuation of no message"),
        (frame(TEXT, b"a", form=16), 1002, "length 1 in 16 bits"),
        (frame(TEXT, bytes(125), form=16), 1002, "length 125 in 16 bits"),
        (frame(TEXT, b"", form=64), 1002, "length 0 in 64 bits"),
        (frame(TEXT, bytes(65535), form=64), 1002, "length 65535 in 64 bits"),
        (b"\x82\x7f\x80" + bytes(7), 1002, "above 63 bits"),
        (b"\x82\x7f" + b"\xff" * 8, 1002, "above 63 bits"),
        (b"\x82\x7f\x7f" + b"\xff" * 7, 1009, "at most 100000 allowed"),
        (frame(BINARY, bytes(100_001)), 1009, "frame of 100001 bytes, at most 100000 allowed"),
        (frame(CLOSE, b"\x03"), 1002, "half a code"),
        *[
            (frame(CLOSE, struct.pack(">H", code)), 1002, f"code {code}")
            for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
        ],
        (frame(CLOSE, b"\x03\xe8\xff"), 1007, "reason that is not UTF-8"),
        (frame(CLOSE, b"\x03\xe8\xc3"), 1007, "reason that is not UTF-8"),
        (frame(TEXT, b"a", mask=MASK), 1002, "server sent a masked frame"),
        (frame(PING, b"", mask=MASK), 1002, "server sent a masked frame"),
    ],
)
@pytest.mark.parametrize("before", [b"", frame(TEXT, b"good")])
def test_what_a_server_may_not_send(stream, code, message, before):
    error, frames = rejection(before + stream, max_frame_size=100_000)
    assert error.code == code
    assert message in error.message
    assert error.args == (WSCloseCode(code), error.message)
    assert frames == (1 if before else 0)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_may_not_begin_inside_another(opcode):
    error, frames = rejection(frame(TEXT, b"a", fin=False) + frame(PING) + frame(opcode, b"b"))
    assert (error.code, error.message, frames) == (1002, "new message inside a fragmented one", 2)


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_a_client_may_not_send_an_unmasked_frame(opcode):
    error, _ = rejection(frame(opcode), expects_masked=True)
    assert (error.code, error.message) == (1002, "client sent an unmasked frame")


def test_a_masked_close_is_checked_unmasked():
    error, _ = rejection(frame(CLOSE, b"\x03\xed", mask=MASK), expects_masked=True)
    assert (error.code, error.message) == (1002, "CLOSE with code 1005")


def test_a_long_frame_is_rejected_by_its_header_alone():
    error, _ = rejection(frame(BINARY, bytes(2000))[:4], max_frame_size=1000)
    assert error.code == WSCloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize("size", [999, 1000])
def test_a_frame_up_to_the_limit_passes(size):
    assert len(all_frames(FrameParser(False, max_frame_size=1000), frame(BINARY, bytes(size)))) == 1


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=300, deadline=None)
def test_garbage_ends_in_frames_or_in_a_protocol_error(garbage, masked):
    parser = FrameParser(masked, buffer_size=256)
    parser.feed(garbage)
    seen = []
    with suppress(WSProtocolError):
        while (f := parser.next_frame_or_none()) is not None:
            seen.append((f.msg_type, f.get_payload_as_bytes()))
    assert seen == [(f.opcode, f.payload) for f in slow_frames(garbage)[: len(seen)]]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"max_frame_size": 124}, "at least 125, found 124"), ({"buffer_size": 1}, "at least 256 bytes, found 1")],
)
def test_limits_that_make_no_sense(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FrameParser(False, **kwargs)
