from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picows import WSMsgType, WSProtocolError
from picows.assembler import MessageAssembler
from picows.picows import _make_test_ws_frame
from tests.picows.wire import BINARY, CONTINUATION, PING, TEXT


def add(assembler, msg_type, payload, fin=True, rsv1=False):
    return assembler.add_frame(_make_test_ws_frame(msg_type, payload, fin, rsv1))


def add_all(assembler, msg_type, fragments):
    """The results of adding `fragments` as one message."""
    return [
        add(assembler, CONTINUATION if i else msg_type, fragment, i == len(fragments) - 1)
        for i, fragment in enumerate(fragments)
    ]


def test_a_message_of_one_frame():
    assembler = MessageAssembler()
    assert add(assembler, TEXT, b"whole") == (WSMsgType.TEXT, b"whole")
    assert add(assembler, BINARY, b"") == (WSMsgType.BINARY, b"")


@given(st.lists(st.lists(st.binary(max_size=3000), min_size=1, max_size=5), max_size=4))
def test_fragments_become_their_messages(messages):
    assembler = MessageAssembler()
    for fragments in messages:
        *open_ones, last = add_all(assembler, BINARY, fragments)
        assert open_ones == [None] * len(open_ones)
        assert last == (WSMsgType.BINARY, b"".join(fragments))


@given(st.text(max_size=30), st.lists(st.integers(0, 120), max_size=6))
def test_text_may_be_cut_inside_a_character(text, cuts):
    data = text.encode()
    cuts = sorted(min(cut, len(data)) for cut in cuts)
    fragments = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert add_all(MessageAssembler(), TEXT, fragments)[-1] == (WSMsgType.TEXT, data)


@given(st.binary(max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_text_is_utf8_exactly_when_python_says_so(data, cuts):
    cuts = sorted(min(cut, len(data)) for cut in cuts)
    fragments = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    try:
        data.decode()
    except UnicodeDecodeError:
        with pytest.raises(WSProtocolError) as info:
            add_all(MessageAssembler(), TEXT, fragments)
        assert info.value.code == 1007
    else:
        assert add_all(MessageAssembler(), TEXT, fragments)[-1] == (WSMsgType.TEXT, data)


def test_every_two_byte_and_boundary_sequence_like_python():
    lead = [0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5]
    inner = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
    for first in [*lead, 0xFF]:
        for second in inner:
            for tail in (b"", b"\x80", b"\xbf", b"\x80\x80", b"\xbf\xbf", b"\x80\x7f"):
                data = b"0123456789" + bytes([first, second]) + tail
                try:
                    data.decode()
                    is_text = True
                except UnicodeDecodeError:
                    is_text = False
                try:
                    assert add(MessageAssembler(), TEXT, data) == (WSMsgType.TEXT, data)
                    assert is_text, data
                except WSProtocolError:
                    assert not is_text, data


def test_broken_text_is_rejected_at_the_first_fragment_that_shows_it():
    assembler = MessageAssembler()
    assert add(assembler, TEXT, b"a\xc3", fin=False) is None
    with pytest.raises(WSProtocolError, match="text that is not UTF-8") as info:
        add(assembler, CONTINUATION, b"(", fin=False)
    assert info.value.code == 1007


def test_text_that_ends_inside_a_character():
    with pytest.raises(WSProtocolError, match="not UTF-8"):
        add(MessageAssembler(), TEXT, b"a\xe2\x82")


def test_binary_and_compressed_messages_need_not_be_text():
    assembler = MessageAssembler()
    assert add(assembler, BINARY, b"\xff") == (WSMsgType.BINARY, b"\xff")
    assert add(assembler, TEXT, b"\xff", rsv1=True) == (WSMsgType.TEXT, b"\xff")
    assert assembler.rsv1
    assert add(MessageAssembler(check_utf8=False), TEXT, b"\xff") == (WSMsgType.TEXT, b"\xff")


def test_a_continuation_of_nothing():
    with pytest.raises(WSProtocolError, match="continuation of no message") as info:
        add(MessageAssembler(), CONTINUATION, b"a")
    assert info.value.code == 1002


def test_a_message_inside_a_message():
    assembler = MessageAssembler()
    add(assembler, TEXT, b"a", fin=False)
    with pytest.raises(WSProtocolError, match="new message inside a fragmented one") as info:
        add(assembler, BINARY, b"b")
    assert info.value.code == 1002
    with pytest.raises(WSProtocolError) as again:
        add(assembler, CONTINUATION, b"c")
    assert again.value is info.value


@pytest.mark.parametrize("fragments", [[b"12345678901"], [b"1234567890", b"1"], [b"12345", b"12345", b"", b"1"]])
def test_a_message_over_the_limit(fragments):
    with pytest.raises(WSProtocolError, match="message of 11 bytes or more, at most 10 allowed") as info:
        add_all(MessageAssembler(max_message_size=10), TEXT, fragments)
    assert info.value.code == 1009


def test_a_message_of_exactly_the_limit():
    assert add_all(MessageAssembler(max_message_size=10), TEXT, [b"12345", b"67890"])[-1] == (1, b"1234567890")


def test_control_frames_are_not_for_it():
    with pytest.raises(ValueError, match=r"expected a data frame, found WSFrame\(PING"):
        add(MessageAssembler(), PING, b"")


def test_a_limit_that_makes_no_sense():
    with pytest.raises(ValueError, match="found 0"):
        MessageAssembler(max_message_size=0)
