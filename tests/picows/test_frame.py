from __future__ import annotations

import pytest

from picows import WSCloseCode, WSFrame, WSMsgType
from picows.picows import _make_test_ws_frame


def test_payload_in_every_form():
    frame = _make_test_ws_frame(WSMsgType.TEXT, b"price", True, False)
    assert frame.get_payload_as_bytes() == b"price"
    assert frame.get_payload_as_utf8_text() == "price"
    assert frame.get_payload_as_ascii_text() == "price"
    assert frame.get_payload_as_memoryview() == b"price"
    assert frame.payload_size == 5


def test_header_fields():
    frame = _make_test_ws_frame(WSMsgType.BINARY, b"", False, True)
    assert (frame.msg_type, frame.fin, frame.rsv1, frame.rsv2, frame.rsv3) == (WSMsgType.BINARY, 0, 1, 0, 0)
    assert isinstance(frame.msg_type, WSMsgType)
    assert (frame.last_in_buffer, frame.tail_size) == (1, 0)


def test_str_says_what_it_is():
    assert str(_make_test_ws_frame(WSMsgType.TEXT, b"hello", True, False)) == (
        "WSFrame(TEXT, fin=True, rsv1=False, rsv2=False, rsv3=False, last_in_buffer=True, payload_size=5, tail_size=0)"
    )


def test_text_that_is_none():
    frame = _make_test_ws_frame(WSMsgType.TEXT, b"a\xff", True, False)
    with pytest.raises(UnicodeDecodeError):
        frame.get_payload_as_utf8_text()
    with pytest.raises(UnicodeDecodeError):
        frame.get_payload_as_ascii_text()


def test_a_memoryview_is_read_only_and_may_outlive_its_frame():
    view = _make_test_ws_frame(WSMsgType.TEXT, b"price", True, False).get_payload_as_memoryview()
    assert view.readonly
    assert bytes(view) == b"price"


@pytest.mark.parametrize(
    ("payload", "code", "message", "reason"),
    [
        (b"", WSCloseCode.NO_INFO, None, None),
        (b"\x03\xe8", WSCloseCode.OK, None, None),
        (b"\x03\xe8bye", WSCloseCode.OK, b"bye", "bye"),
        (b"\x0f\xa0\xc3\xbc", 4000, b"\xc3\xbc", "ü"),
    ],
)
def test_close_payload(payload, code, message, reason):
    frame = _make_test_ws_frame(WSMsgType.CLOSE, payload, True, False)
    assert frame.get_close_code() == code
    assert isinstance(frame.get_close_code(), WSCloseCode)
    assert frame.get_close_message() == message
    assert frame.get_close_reason() == reason


def test_a_frame_that_shows_nothing_is_empty():
    frame = WSFrame()
    assert (frame.get_payload_as_bytes(), frame.get_payload_as_utf8_text()) == (b"", "")
    assert bytes(frame.get_payload_as_memoryview()) == b""


@pytest.mark.parametrize("method", [WSFrame.get_close_code, WSFrame.get_close_message, WSFrame.get_close_reason])
def test_only_a_close_frame_has_a_close_code(method):
    with pytest.raises(ValueError, match=r"expected a CLOSE frame, found WSFrame\(TEXT"):
        method(_make_test_ws_frame(WSMsgType.TEXT, b"\x03\xe8", True, False))
