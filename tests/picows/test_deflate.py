"""Compressing and inflating: RFC 7692 section 7.2."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from picows import WSProtocolError
from picows.deflate import Deflater, Inflater
from tests.picows.slow_deflate import slow_inflate

TAIL = b"\x00\x00\xff\xff"

# The examples of section 7.2.3 for the message "Hello".
ONE_BLOCK = bytes.fromhex("f248cdc9c90700")
SHARED_WINDOW = bytes.fromhex("f200110000")
NO_COMPRESSION = bytes.fromhex("000500faff48656c6c6f00")
FINAL_BLOCK = bytes.fromhex("f348cdc9c9070000")
TWO_BLOCKS = bytes.fromhex("f248050000 00ffff cac9c90700".replace(" ", ""))


def raw_deflate(data: bytes, *, final: bool = False, zdict: bytes = b"") -> bytes:
    """What a peer may send for the message `data`."""
    made = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=zdict)
    if final:
        return made.compress(data) + made.flush() + b"\x00"
    return (made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH))[:-4]


def market_data(size: int, seed: int = 1) -> bytes:
    """Bytes that repeat at all distances, like messages of a feed."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randrange(1, 40)) for _ in range(60)]
    out = b""
    while len(out) < size:
        out += rng.choice(words)
    return out[:size]


# ---- inflating ------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [ONE_BLOCK, NO_COMPRESSION, FINAL_BLOCK, TWO_BLOCKS])
@pytest.mark.parametrize("keeps_context", [True, False])
def test_the_examples_of_the_rfc(payload, keeps_context):
    inflater = Inflater(keeps_context=keeps_context)
    for _ in range(3):
        assert inflater.inflate(payload) == b"Hello"


def test_a_message_may_refer_to_the_one_before():
    inflater = Inflater()
    assert inflater.inflate(ONE_BLOCK) == b"Hello"
    assert [inflater.inflate(SHARED_WINDOW) for _ in range(3)] == [b"Hello"] * 3


def test_without_context_a_message_may_not_refer_to_the_one_before():
    inflater = Inflater(keeps_context=False)
    assert inflater.inflate(ONE_BLOCK) == b"Hello"
    with pytest.raises(WSProtocolError, match="distance too far back") as info:
        inflater.inflate(SHARED_WINDOW)
    assert info.value.code == 1007


@pytest.mark.parametrize("cut", range(len(FINAL_BLOCK) + 1))
@pytest.mark.parametrize("payload", [ONE_BLOCK, FINAL_BLOCK, NO_COMPRESSION, TWO_BLOCKS])
def test_fragments_may_end_anywhere(payload, cut):
    inflater = Inflater()
    for _ in range(2):
        assert inflater.inflate(payload[:cut], False) + inflater.inflate(payload[cut:], True) == b"Hello"


@pytest.mark.parametrize("keeps_context", [True, False])
def test_empty_messages(keeps_context):
    inflater = Inflater(keeps_context=keeps_context)
    for empty in (b"\x00", b"\x02\x00", b"", raw_deflate(b"", final=True), b"\x03\x00"):
        assert inflater.inflate(empty) == b""
        assert inflater.inflate(b"", False) + inflater.inflate(empty, True) == b""
        assert inflater.inflate(ONE_BLOCK) == b"Hello"


@given(st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=12), st.booleans())
def test_a_stream_goes_on_behind_its_final_block(messages, keeps_context):
    """RFC 7692 section 7.2.3.4, with the window of section 7.2.2 across the end of the stream."""
    inflater = Inflater(keeps_context=keeps_context)
    sent = b""
    for message, final in messages:
        payload = raw_deflate(message, final=final, zdict=sent[-32768:] if keeps_context else b"")
        assert inflater.inflate(payload) == message
        sent += message


def test_the_window_survives_a_final_block_however_large_the_messages():
    inflater = Inflater()
    first, second = market_data(100_000), random.Random(2).randbytes(20_000)
    assert inflater.inflate(raw_deflate(first)) == first
    for _ in range(5):
        assert inflater.inflate(raw_deflate(second, final=True)) == second
    referring = raw_deflate(second, zdict=second)
    assert len(referring) < 1000
    assert inflater.inflate(referring) == second


def test_a_final_block_ends_the_payload_of_a_careless_peer():
    inflater = Inflater()
    assert inflater.inflate(FINAL_BLOCK[:-1]) == b"Hello"
    assert inflater.inflate(SHARED_WINDOW) == b"Hello"


@pytest.mark.parametrize("keeps_context", [True, False])
@pytest.mark.parametrize("payload", [b"\x07", b"\xff" * 10, b"\x00\x05\x00\x00\x00Hello", b"not deflate data"])
def test_what_is_not_deflate_data(payload, keeps_context):
    with pytest.raises(WSProtocolError, match="is not DEFLATE data") as info:
        Inflater(keeps_context=keeps_context).inflate(payload)
    assert info.value.code == 1007


@pytest.mark.parametrize("size", range(2, len(NO_COMPRESSION) - 1))
def test_without_context_a_message_must_end_where_a_block_does(size):
    with pytest.raises(WSProtocolError, match="DEFLATE") as info:
        Inflater(keeps_context=False).inflate(NO_COMPRESSION[:size])
    assert info.value.code == 1007


@pytest.mark.parametrize("keeps_context", [True, False])
def test_the_tail_never_passes_for_data(keeps_context):
    for payload in (b"\x00\x04\x00\xfb\xff", b"\x00\x05\x00\xfa\xffH", FINAL_BLOCK[:-1] + b"\x00\x00\xff\xff\x00"):
        with pytest.raises(WSProtocolError, match="ends inside a DEFLATE block") as info:
            Inflater(keeps_context=keeps_context).inflate(payload)
        assert info.value.code == 1007


def test_endless_final_blocks_are_refused():
    with pytest.raises(WSProtocolError, match="more than 16 final DEFLATE blocks in a frame") as info:
        Inflater().inflate(b"\x03\x00" * 1_000_000)
    assert info.value.code == 1007
    assert Inflater().inflate(b"\x03\x00" * 16 + b"\x00") == b""


# ---- the limit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("keeps_context", [True, False])
def test_the_limit_is_exact(keeps_context, final):
    data = market_data(5000)
    inflater = Inflater(15, keeps_context, 5000)
    payload = raw_deflate(data, final=final)
    assert inflater.inflate(payload) == data
    with pytest.raises(WSProtocolError, match="message inflates to more than 4999 bytes") as info:
        Inflater(15, keeps_context, 4999).inflate(payload)
    assert info.value.code == 1009


def test_the_limit_is_for_a_message_not_for_a_frame():
    payload = raw_deflate(bytes(1000))
    for cut in range(1, len(payload)):
        inflater = Inflater(15, True, 999)
        with pytest.raises(WSProtocolError) as info:
            inflater.inflate(payload[:cut], False)
            inflater.inflate(payload[cut:], True)
        assert info.value.code == 1009
    inflater = Inflater(15, True, 1000)
    for _ in range(3):
        assert inflater.inflate(payload) == bytes(1000)


@pytest.mark.parametrize("final", [True, False])
def test_a_bomb_does_not_pass(final):
    bomb = raw_deflate(bytes(64 * 1024 * 1024), final=final)
    assert len(bomb) < 100_000
    inflater = Inflater(max_message_size=1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(WSProtocolError) as info:
            inflater.inflate(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert info.value.code == 1009
    assert peak < 4 * 1024 * 1024


# ---- compressing ----------------------------------------------------------------------------------


def test_what_a_message_becomes():
    deflater = Deflater()
    assert deflater.deflate(b"Hello") == ONE_BLOCK
    assert deflater.deflate(b"Hello") == SHARED_WINDOW
    assert Deflater(keeps_context=False).deflate(b"Hello" * 100) == raw_deflate(b"Hello" * 100)


def test_short_and_empty_messages_stay_as_they_are():
    deflater = Deflater(threshold=5)
    assert deflater.deflate(b"") is None
    assert deflater.deflate(b"Hell") is None
    assert deflater.deflate(b"Hello") == ONE_BLOCK
    assert Deflater(threshold=0).deflate(b"") is None


def test_what_compression_makes_larger_is_sent_as_it_is_unless_the_context_needs_it():
    noise = random.Random(3).randbytes(1000)
    assert Deflater(keeps_context=False).deflate(noise) is None
    deflater, inflater = Deflater(), Inflater()
    assert inflater.inflate(deflater.deflate(noise)) == noise
    assert len(deflater.deflate(noise)) < 100


def test_fragments_of_an_uncompressed_message_do_not_exist():
    """How long a fragmented message will be, nobody knows when it begins: it is compressed."""
    deflater, inflater = Deflater(threshold=1000), Inflater()
    assert inflater.inflate(deflater.deflate(b"a", True, False), False) == b"a"
    assert inflater.inflate(deflater.deflate(b"b", False, True), True) == b"b"
    assert deflater.deflate(b"c") is None


@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("keeps_context", [True, False])
def test_no_reference_goes_beyond_the_agreed_window(bits, keeps_context):
    deflater = Deflater(bits, keeps_context)
    sent = b""
    farthest = 0
    for size in (300, 5000, 10, 700, 9000):
        message = market_data(size, seed=4)
        payload = deflater.deflate(message)
        if payload is not None:
            inflated, distance = slow_inflate(payload + TAIL, sent if keeps_context else b"")
            assert inflated == message
            farthest = max(farthest, distance)
        sent += message
    assert 100 < farthest <= 1 << bits


# ---- both -----------------------------------------------------------------------------------------

MESSAGES = st.lists(
    st.lists(st.one_of(st.binary(max_size=100), st.integers(0, 3000).map(market_data)), min_size=1, max_size=4),
    max_size=6,
)


@given(MESSAGES, st.integers(8, 15), st.booleans(), st.sampled_from([0, 1, 50]), st.integers(-1, 9))
@example([[b""], [b"", b""], [b"a", b""], [b"", b"a", b""]], 15, True, 0, 6)
@example([[b""], [b"", b""], [b"a", b""], [b"", b"a", b""]], 15, False, 0, 6)
def test_what_is_compressed_inflates_to_itself(messages, bits, keeps_context, threshold, level):
    deflater = Deflater(bits, keeps_context, threshold, level, 1)
    inflater = Inflater(bits, keeps_context)
    for fragments in messages:
        last = len(fragments) - 1
        payloads = [deflater.deflate(part, i == 0, i == last) for i, part in enumerate(fragments)]
        if payloads[0] is None:
            assert payloads == [None]
            continue
        # Each fragment comes out whole: it was flushed.
        assert [inflater.inflate(payload, i == last) for i, payload in enumerate(payloads)] == fragments


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=8), st.booleans())
def test_any_bytes_are_inflated_or_refused(frames, keeps_context):
    inflater = Inflater(9, keeps_context, 1000)
    size = 0
    for payload, fin in frames:
        try:
            size += len(inflater.inflate(payload, fin))
        except WSProtocolError as exc:
            assert exc.code in (1007, 1009)
            return
        assert size <= 1000
        if fin:
            size = 0


@pytest.mark.parametrize("machine", [Deflater, Inflater])
@pytest.mark.parametrize("bits", [7, 16, -15])
def test_window_bits_that_do_not_exist(machine, bits):
    with pytest.raises(ValueError, match=f"expected window_bits from 8 to 15, found {bits}"):
        machine(bits)
