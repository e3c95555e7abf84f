"""What a hostile peer's bytes can reach, each as a function of bytes. What it raises is a finding.

The machines in C are beyond a fuzzer that traces Python; so each is run beside an oracle in Python, which leads the
fuzzer to the inputs that matter and says what has to come out.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from picows import WSDeflateConfig, WSHandshakeError, WSListener, WSProtocolError
from picows.assembler import MessageAssembler
from picows.deflate import Inflater
from picows.frame import make_frame
from picows.handshake import ClientHandshake, ServerHandshake, WSUpgradeResponse, accept_key
from picows.negotiation import accept_offer, check_response, parse_extensions
from picows.parser import FrameParser
from picows.url import parse_url
from tests.fuzz.feeds_targets import archive, messages, recording
from tests.fuzz.pieces import pieces
from tests.picows.slow_deflate import slow_inflate
from tests.picows.wire import CONTINUATION, TEXT, slow_frames

MAX_SIZE = 2000


def _parse(parser: FrameParser, reads: list[bytes]) -> tuple[list[tuple[int, int, int, bytes]], int | None]:
    """All frames, and the code of the error behind them."""
    frames = []
    try:
        for read in reads:
            parser.feed(read)
            while (frame := parser.next_frame_or_none()) is not None:
                reserved = frame.rsv1 << 2 | frame.rsv2 << 1 | frame.rsv3
                frames.append((int(frame.msg_type), frame.fin, reserved, frame.get_payload_as_bytes()))
    except WSProtocolError as exc:
        return frames, exc.code
    return frames, None


def parser(data: bytes) -> None:
    """However the stream is cut, the frames are those of the slow parser, up to the first broken rule."""
    options, cut, stream = data[:1] or b"\0", data[1:2] or b"\0", data[2:]
    masked, inflates, reserved = options[0] & 1, options[0] & 2, options[0] & 0x70

    def make() -> FrameParser:
        inflater = Inflater(max_message_size=MAX_SIZE) if inflates else None
        return FrameParser(bool(masked), MAX_SIZE, 256, 0x40 if inflates else reserved, inflater)

    whole = _parse(make(), [stream])
    assert _parse(make(), [stream[: cut[0]], stream[cut[0] :]]) == whole
    expected = [(f.opcode, int(f.fin), f.rsv, f.payload) for f in slow_frames(stream)]
    if not inflates:
        assert whole[0] == expected[: len(whole[0])]
    for frame, original in zip(whole[0], expected, strict=False):
        assert frame[:2] == original[:2]
        assert len(frame[3]) <= MAX_SIZE


def assembler(data: bytes) -> None:
    """Messages are what their fragments make; text is UTF-8; no limit is passed."""
    machine = MessageAssembler(MAX_SIZE)
    kind, parts = -1, b""
    for flags, payload in pieces(data):
        opcode, fin = flags % 3, bool(flags & 0x80)
        if opcode != CONTINUATION:
            kind, parts = opcode, b""
        parts += payload
        try:
            message = machine.add_frame(make_frame(opcode, payload, fin))
        except WSProtocolError as exc:
            assert exc.code in (1002, 1007, 1009)
            if exc.code == 1007:
                assert kind == TEXT
                with pytest.raises(UnicodeDecodeError):
                    parts.decode()
            return
        assert (message is not None) == fin
        if message is not None:
            assert message == (kind, parts)
            if kind == TEXT:
                parts.decode()


def inflater(data: bytes) -> None:
    """What is inflated is what the slow inflater makes of it; no message passes the limit."""
    keeps_context = bool(data[:1] > b"\x7f")
    machine = Inflater(15, keeps_context, MAX_SIZE)
    before = compressed = inflated = b""
    for flags, payload in pieces(data[1:]):
        fin = bool(flags & 1)
        compressed += payload
        try:
            inflated += machine.inflate(payload, fin)
        except WSProtocolError as exc:
            assert exc.code in (1007, 1009)
            return
        assert len(inflated) <= MAX_SIZE
        if fin:
            try:
                expected, _ = slow_inflate(compressed + b"\x00\x00\xff\xff", before)
            except (AssertionError, IndexError):
                return  # without its last blocks, or ending in a final block: right or not, the oracle cannot tell
            assert inflated == expected
            before = (before + inflated)[-32768:] if keeps_context else b""
            compressed = inflated = b""


def client_handshake(data: bytes) -> None:
    """A server's answer ends in a response or a WSHandshakeError, however it is cut. KEY stands for the right key."""

    def answer(cut: int) -> tuple[object, ...]:
        handshake = ClientHandshake(
            parse_url("ws://host/"), max_header_size=MAX_SIZE, max_body_size=100, deflate=WSDeflateConfig()
        )
        handshake.request_bytes()
        key = accept_key(handshake.request.headers["Sec-WebSocket-Key"]).encode()
        stream = data[1:].replace(b"KEY", key)
        try:
            response = handshake.receive(stream[:cut])
            if response is None:
                response = handshake.receive(stream[cut:])
                trailing = handshake.trailing
            else:
                trailing = handshake.trailing + stream[cut:]
            if response is None:
                handshake.receive_eof()
        except WSHandshakeError as exc:
            return (type(exc),)
        assert response.status == 101
        return int(response.status), trailing.replace(key, b"KEY"), handshake.agreed_deflate

    cut = data[0] if data else 0
    whole = answer(len(data))
    # Of a refusal's body as much is taken as has come when the limit is passed: only the kind has to be the same.
    assert answer(cut) == whole


def server_handshake(data: bytes) -> None:
    """A request gets a response that HTTP allows; only one with all that RFC 6455 wants gets a 101."""

    def answer(cut: int) -> tuple[int, bytes] | None:
        handshake = ServerHandshake(max_header_size=MAX_SIZE, deflate=WSDeflateConfig())
        try:
            request = handshake.receive(data[1 : 1 + cut])
            if request is None:
                request = handshake.receive(data[1 + cut :])
            if request is None:
                return None
            response, listener = handshake.respond(request, WSListener())
        except WSHandshakeError as exc:
            assert exc.response is not None
            response, listener = exc.response, None
        assert isinstance(response, WSUpgradeResponse)
        assert (response.status == 101) == (listener is not None)
        return int(response.status), response.to_bytes()

    assert answer(data[0] if data else 0) == answer(len(data))


def negotiation(data: bytes) -> None:
    """A field of extensions is read or refused; what one side accepts, the other understands."""
    values = data.decode("latin-1").split("\n")
    try:
        parse_extensions(values)
        accepted = accept_offer(values, WSDeflateConfig())
        if accepted is not None:
            check_response([accepted[1]], WSDeflateConfig())
    except ValueError as exc:
        assert "expected" in str(exc)
    try:
        check_response(values, WSDeflateConfig())
    except ValueError as exc:
        assert "expected" in str(exc) or "unknown parameter" in str(exc)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        parser, assembler, inflater, client_handshake, server_handshake, negotiation, recording, archive, messages
    )
}  # fmt: skip
