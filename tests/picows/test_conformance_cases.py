"""Cases of the Autobahn suite as bytes: an echo server on our core, and a client by hand.

Numbered as there. What is not here needs time, size or counting, and runs with `make conformance`.
"""

from __future__ import annotations

import random

import pytest

from picows import WSDeflateConfig, ws_create_server
from picows.deflate import Deflater, Inflater
from tests.conformance.testee import Echo
from tests.picows.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, raw_client, request, slow_frames

MASK = b"\x37\xfa\x21\x3d"
GREETING = "Hello-µ@ßöäüàá-UTF-8!!".encode()
CLOSE_OK = (CLOSE, b"\x03\xe8")


def sent(opcode, payload=b"", **kwargs):
    return frame(opcode, payload, mask=MASK, **kwargs)


def closing(code):
    """A CLOSE with this code, whatever its reason."""
    return (CLOSE, code.to_bytes(2, "big"))


END = sent(CLOSE, b"\x03\xe8")


async def exchange(stream, *, reads=None, **options):
    """`(opcode, payload)` of all that the server sends for `stream`, up to the end; a CLOSE without its reason."""
    server = await ws_create_server(lambda _: Echo(), "127.0.0.1", 0, max_frame_size=1 << 20, **options)
    async with raw_client(server.sockets[0].getsockname()[1]) as peer:
        peer.send(request())
        await peer.reader.readuntil(b"\r\n\r\n")
        for part in reads or [stream]:
            peer.send(part)
            await peer.writer.drain()
        received = await peer.read_to_end()
    server.close()
    return [(f.opcode, f.payload[:2] if f.opcode == CLOSE else f.payload) for f in slow_frames(received)]


def fragments(opcode, *payloads):
    last = len(payloads) - 1
    return b"".join(sent(CONTINUATION if i else opcode, p, fin=i == last) for i, p in enumerate(payloads))


CASES = [
    # 1: framing
    *((f"1.1.{n}", sent(TEXT, b"*" * size) + END, [(TEXT, b"*" * size), CLOSE_OK])
      for n, size in enumerate([0, 125, 126, 127, 128, 65535, 65536], 1)),
    *((f"1.2.{n}", sent(BINARY, b"\xfe" * size) + END, [(BINARY, b"\xfe" * size), CLOSE_OK])
      for n, size in enumerate([0, 125, 126, 127, 128, 65535, 65536], 1)),
    # 2: pings and pongs
    ("2.1", sent(PING) + END, [(PONG, b""), CLOSE_OK]),
    ("2.2", sent(PING, b"Hello, world!") + END, [(PONG, b"Hello, world!"), CLOSE_OK]),
    ("2.3", sent(PING, b"\x00\xff\xfe\xfd\x00\xff") + END, [(PONG, b"\x00\xff\xfe\xfd\x00\xff"), CLOSE_OK]),
    ("2.4", sent(PING, b"\xfe" * 125) + END, [(PONG, b"\xfe" * 125), CLOSE_OK]),
    ("2.5", sent(PING, b"\xfe" * 126), [closing(1002)]),
    ("2.7", sent(PONG) + END, [CLOSE_OK]),
    ("2.8", sent(PONG, b"unsolicited") + END, [CLOSE_OK]),
    ("2.9", sent(PONG, b"unsolicited") + sent(PING, b"ping") + END, [(PONG, b"ping"), CLOSE_OK]),
    ("2.10", b"".join(sent(PING, b"%d" % i) for i in range(10)) + END,
     [*((PONG, b"%d" % i) for i in range(10)), CLOSE_OK]),
    # 3: reserved bits
    ("3.1", sent(TEXT, b"x", rsv=1), [closing(1002)]),
    ("3.2", sent(TEXT, b"small") + sent(TEXT, b"x", rsv=2) + sent(PING), [(TEXT, b"small"), closing(1002)]),
    ("3.3", sent(TEXT, b"small") + sent(TEXT, b"x", rsv=3) + sent(PING), [(TEXT, b"small"), closing(1002)]),
    ("3.4", sent(TEXT, b"small") + sent(TEXT, b"x", rsv=4) + sent(PING), [(TEXT, b"small"), closing(1002)]),
    ("3.5", sent(BINARY, b"\x00\xff", rsv=5), [closing(1002)]),
    ("3.6", sent(PING, b"x", rsv=6), [closing(1002)]),
    ("3.7", sent(CLOSE, b"\x03\xe8", rsv=7), [closing(1002)]),
    # 4: opcodes
    *((f"4.{opcode}", sent(TEXT, b"small") + sent(opcode, b"x") + sent(PING), [(TEXT, b"small"), closing(1002)])
      for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    # 5: fragmentation
    ("5.1", sent(PING, b"a", fin=False) + sent(CONTINUATION, b"b"), [closing(1002)]),
    ("5.2", sent(PONG, b"a", fin=False) + sent(CONTINUATION, b"b"), [closing(1002)]),
    ("5.3", fragments(TEXT, b"fragment1", b"fragment2") + END, [(TEXT, b"fragment1fragment2"), CLOSE_OK]),
    ("5.6", sent(TEXT, b"fragment1", fin=False) + sent(PING, b"ping") + sent(CONTINUATION, b"fragment2") + END,
     [(PONG, b"ping"), (TEXT, b"fragment1fragment2"), CLOSE_OK]),
    ("5.9", sent(CONTINUATION, b"non-continuation") + sent(TEXT, b"Hello, world!"), [closing(1002)]),
    ("5.12", sent(CONTINUATION, b"non-continuation", fin=False) + sent(TEXT, b"Hello"), [closing(1002)]),
    ("5.15", fragments(TEXT, b"fragment1", b"fragment2") + sent(CONTINUATION, b"fragment3", fin=False)
     + sent(TEXT, b"fragment4"), [(TEXT, b"fragment1fragment2"), closing(1002)]),
    ("5.16", sent(CONTINUATION, b"fragment1", fin=False) + fragments(TEXT, b"2", b"3"), [closing(1002)]),
    ("5.18", sent(TEXT, b"fragment1", fin=False) + sent(TEXT, b"fragment2"), [closing(1002)]),
    ("5.19", sent(TEXT, b"1", fin=False) + sent(CONTINUATION, b"2", fin=False) + sent(PING, b"x")
     + sent(CONTINUATION, b"3", fin=False) + sent(PING, b"y") + sent(CONTINUATION, b"4") + END,
     [(PONG, b"x"), (PONG, b"y"), (TEXT, b"1234"), CLOSE_OK]),
    # 6: UTF-8
    ("6.1.1", sent(TEXT) + END, [(TEXT, b""), CLOSE_OK]),
    ("6.1.2", fragments(TEXT, b"", b"", b"") + END, [(TEXT, b""), CLOSE_OK]),
    ("6.1.3", fragments(TEXT, b"", b"middle", b"") + END, [(TEXT, b"middle"), CLOSE_OK]),
    ("6.2.1", sent(TEXT, GREETING) + END, [(TEXT, GREETING), CLOSE_OK]),
    ("6.2.3", fragments(TEXT, *(bytes([b]) for b in GREETING)) + END, [(TEXT, GREETING), CLOSE_OK]),
    *((f"6.x {bad.hex()}", sent(TEXT, b"\xce\xba" + bad + b"edited"), [closing(1007)])
      for bad in (
          b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\x80", b"\xbf",
          b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf",
          b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80", b"\xfe", b"\xff", b"\xce", b"\xe1\xbd",
      )),
    *((f"6.x cut {bad.hex()}", sent(TEXT, bad), [closing(1007)]) for bad in (b"\xce", b"\xe1\xbd", b"\xf0\x9f\x98")),
    *((f"6.x {good.hex()}", sent(TEXT, good) + END, [(TEXT, good), CLOSE_OK])
      for good in (
          b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80", b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf",
          b"\xf4\x8f\xbf\xbf", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xef\xbf\xbe",
      )),
    # 6.4: invalid text is found in the frame that shows it, not at the end of the message
    ("6.4.1", sent(TEXT, b"\xce\xba\xe1\xbd\xb9", fin=False) + sent(CONTINUATION, b"\xf4\x90\x80\x80", fin=False),
     [closing(1007)]),
    # 7: closing
    ("7.1.1", sent(TEXT, b"Hello World!") + END, [(TEXT, b"Hello World!"), CLOSE_OK]),
    ("7.1.2", END + END, [CLOSE_OK]),
    ("7.1.3", END + sent(PING), [CLOSE_OK]),
    ("7.1.4", END + sent(TEXT, b"Hello World!"), [CLOSE_OK]),
    ("7.1.5", sent(TEXT, b"fragment1", fin=False) + END + sent(CONTINUATION, b"fragment2"), [CLOSE_OK]),
    ("7.3.1", sent(CLOSE), [(CLOSE, b"")]),
    ("7.3.2", sent(CLOSE, b"a"), [closing(1002)]),
    ("7.3.3", sent(CLOSE, b"\x03\xe8"), [CLOSE_OK]),
    ("7.3.4", sent(CLOSE, b"\x03\xe8Hello World!"), [CLOSE_OK]),
    ("7.3.5", sent(CLOSE, b"\x03\xe8" + b"*" * 123), [CLOSE_OK]),
    ("7.3.6", sent(CLOSE, b"\x03\xe8" + b"*" * 124), [closing(1002)]),
    ("7.5.1", sent(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80"), [closing(1007)]),
    *((f"7.7 {code}", sent(CLOSE, code.to_bytes(2, "big")), [closing(code)])
      for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)),
    *((f"7.9 {code}", sent(CLOSE, code.to_bytes(2, "big")), [closing(1002)])
      for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)),
]  # fmt: skip


@pytest.mark.parametrize(("stream", "expected"), [pytest.param(s, e, id=name) for name, s, e in CASES])
async def test_a_case(stream, expected):
    assert await exchange(stream) == expected


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(sent(TEXT, b"*" * 300) + END, id="1.1.8"),
        pytest.param(sent(PING, b"\xfe" * 125) + END, id="2.6"),
        pytest.param(fragments(TEXT, b"fragment1", b"fragment2") + END, id="5.5"),
        pytest.param(fragments(TEXT, *(bytes([b]) for b in GREETING)) + END, id="6.2.4"),
    ],
)
async def test_a_case_in_chops_of_one_byte(stream):
    assert await exchange(stream, reads=[bytes([b]) for b in stream]) == await exchange(stream)


# ---- 12 and 13: the same messages under every set of parameters ---------------------------------------

OFFERS = {
    "13.1": "permessage-deflate",
    "13.2": "permessage-deflate; server_no_context_takeover",
    "13.3": "permessage-deflate; server_max_window_bits=9",
    "13.4": "permessage-deflate; server_max_window_bits=15",
    "13.5": "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
    "13.6": "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
    "13.7": "permessage-deflate; server_no_context_takeover; server_max_window_bits=9, "
    "permessage-deflate; server_no_context_takeover, permessage-deflate",
}


@pytest.mark.parametrize("offer", [pytest.param(offer, id=case) for case, offer in OFFERS.items()])
@pytest.mark.parametrize("size", [16, 4096])
@pytest.mark.parametrize("fragment_size", [0, 512])
async def test_compressed_messages_are_echoed_as_agreed(offer, size, fragment_size):
    """Unlike the suite, this checks that what the offer asks of the server is kept: another inflater would fail."""
    server = await ws_create_server(lambda _: Echo(), "127.0.0.1", 0, permessage_deflate=WSDeflateConfig(threshold=0))
    rng = random.Random(size)
    messages = [bytes(rng.choices(b"0123456789,:{}", k=size)) for _ in range(4)] * 2
    deflater = Deflater()
    parameters = offer.split(", ")[0]
    inflater = Inflater(9 if "window_bits=9" in offer else 15, "server_no_context_takeover" not in offer)
    async with raw_client(server.sockets[0].getsockname()[1]) as peer:
        peer.send(request(Sec_WebSocket_Extensions=offer.encode()))
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert f"\r\nSec-WebSocket-Extensions: {parameters}\r\n".encode() in head
        for message in messages:
            step = fragment_size or size
            parts = [message[at : at + step] for at in range(0, size, step)]
            for i, part in enumerate(parts):
                fin = i == len(parts) - 1
                payload = deflater.deflate(part, i == 0, fin)
                peer.send(sent(CONTINUATION if i else TEXT, payload, fin=fin, rsv=0 if i else 4))
            echoed = await peer.read_frame()
            assert (echoed.opcode, echoed.fin) == (TEXT, True)
            assert (inflater.inflate(echoed.payload) if echoed.rsv else echoed.payload) == message
        peer.send(END)
        assert (await peer.read_frame()).payload == b"\x03\xe8"
    server.close()
