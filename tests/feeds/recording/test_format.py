"""The format as docs/recording-format.md specifies it: files built here with struct, zlib and zstandard alone."""

import io
import re
import struct
import zlib
from pathlib import Path

import pytest
import zstandard

from feeds.recording import (
    LAST_IN_BATCH,
    Kind,
    NotARecording,
    RawMessage,
    RecordingReader,
    RecordingWriter,
    UnsupportedVersion,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "recording-format.md"
SESSION = b"\x01\x02\x03\x04\x05\x06\x07\x08"
MESSAGES, INDEX, END, UNHEARD_OF = 1, 2, 3, 9


def with_checksum(data):
    return data + struct.pack("<I", zlib.crc32(data))


def file_header(metadata=b"{}", *, version=1):
    fields = (b"\x89FEEDS\r\n", version, 0, len(metadata), SESSION, zlib.crc32(metadata))
    return with_checksum(struct.pack("<8sHHI8sI", *fields)) + metadata


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def record(difference, source, flags, payload, *, tag=b"", extension=b""):
    zigzag = 2 * difference if difference >= 0 else -2 * difference - 1
    head = [zigzag, source, flags, len(tag), len(extension), len(payload)]
    return b"".join(map(varint, head)) + tag + extension + payload


def block(sequence, content=b"", *, messages=0, type=MESSAGES, compression=0, raw_size=None, session=SESSION):
    raw_size = len(content) if raw_size is None else raw_size
    fields = (b"\xf5BLK", session, sequence, type, compression, len(content), raw_size, messages, 0, 0)
    return with_checksum(struct.pack("<4s8sIHHIIIqqI", *fields, zlib.crc32(content))) + content


def read(data, **options):
    reader = RecordingReader(io.BytesIO(data), **options)
    return reader, list(reader)


def test_a_file_built_from_the_document_alone_is_read():
    declaration = b'{"exchange":"okx","url":"wss://ws.okx.com"}'
    first = b"".join(
        [
            record(1_700_000_000_000_000_000, 1, 0, declaration),
            record(5, 1, 6, b""),
            record(300, 1, 0x101, b'{"n":1}'),
            record(-20, 1, 5, b"[]" * 100, tag=b"BTC-USDT", extension=varint(1) + varint(8) + bytes(8)),
        ]
    )
    second = record(1_700_000_000_000_001_000, 0, 10, b"{}", tag=b"digest") + record(0, 1, 0x7FFFFF4D, b"\x00\xff")
    frame = zstandard.ZstdCompressor().compress(first)
    reader, messages = read(
        file_header(b'{"venue":"test"}')
        + block(0, frame, messages=4, compression=1, raw_size=len(first))
        + block(1, b"what a later version may put here", type=INDEX)
        + block(2, second, messages=2)
        + block(3, b"compressed in a later way", type=UNHEARD_OF, compression=7)
        + block(4, type=END)
    )
    start = 1_700_000_000_000_000_000
    assert messages == [
        RawMessage(start, 1, Kind.SOURCE, "", declaration),
        RawMessage(start + 5, 1, Kind.CONNECTED),
        RawMessage(start + 305, 1, Kind.TEXT | LAST_IN_BATCH, "", b'{"n":1}'),
        RawMessage(start + 285, 1, Kind.REPLY, "BTC-USDT", b"[]" * 100, varint(1) + varint(8) + bytes(8)),
        RawMessage(start + 1000, 0, Kind.NOTE, "digest", b"{}"),
        RawMessage(start + 1000, 1, 0x7FFFFF4D, "", b"\x00\xff"),
    ]
    assert reader.metadata == {"venue": "test"}
    assert reader.sources == {1: {"exchange": "okx", "url": "wss://ws.okx.com"}}
    assert (reader.version, reader.complete, reader.damages) == (1, True, [])


def test_the_example_of_the_document_is_what_it_says():
    rows = re.findall(r"^    ((?:[0-9a-f]{2} ?)+)$", DOCUMENT.read_text(), re.MULTILINE)
    reader, messages = read(bytes.fromhex("".join(rows)))
    assert messages == [RawMessage(1000, 0, Kind.NOTE, "hi", b"{}")]
    assert (reader.metadata, reader.complete, reader.damages) == ({}, True, [])


@pytest.mark.parametrize("compressible", [True, False])
def test_what_the_writer_writes_is_what_the_document_says(compressible):
    file = io.BytesIO()
    payload = b"a" * 500 if compressible else bytes((i * i * 31 + i * 7) % 251 for i in range(40))
    with RecordingWriter(file, metadata={"venue": "test"}) as writer:
        source = writer.add_source("okx", "wss://ws.okx.com", ts_recv=2000)
        writer.write_message(1500, source, Kind.TEXT | LAST_IN_BATCH, payload)
        writer.write_message(0, 0, Kind.TICK, b"")
    data = file.getvalue()
    magic, version, _, metadata_size, session, _ = struct.unpack_from("<8sHHI8sI", data)
    assert (magic, version) == (b"\x89FEEDS\r\n", 1)
    content = b"".join(
        [
            record(2000, 1, 0, b'{"exchange":"okx","url":"wss://ws.okx.com"}'),
            record(-500, 1, 0x101, payload),
            record(-1500, 0, 9, b""),
        ]
    )
    at = 32 + metadata_size
    fields = struct.unpack_from("<4s8sIHHIIIqqI", data, at)
    stored = data[at + 56 : at + 56 + fields[5]]
    assert fields[:4] == (b"\xf5BLK", session, 0, MESSAGES)
    assert fields[6:10] == (len(content), 3, 1500, 2000)
    assert fields[10] == zlib.crc32(stored)
    assert fields[4] == (1 if compressible else 0)
    assert (zstandard.ZstdDecompressor().decompress(stored) if compressible else stored) == content
    index_at = at + 56 + len(stored)
    index = struct.pack("<Q", at) + struct.pack("<QqqII", at, 1500, 2000, 3, 1)
    fields = struct.unpack_from("<4s8sIHHIIIqqI", data, index_at)
    stored = data[index_at + 56 : index_at + 56 + fields[5]]
    assert (fields[2], fields[3], fields[6:10]) == (1, INDEX, (len(index), 0, 1500, 2000))
    assert (zstandard.ZstdDecompressor().decompress(stored) if fields[4] else stored) == index
    end = block(2, struct.pack("<Q", index_at), type=END, session=session)
    assert data[index_at + 56 + len(stored) :] == end


def test_metadata_of_the_writer_can_be_read_without_tools(tmp_path):
    path = tmp_path / "a.rec"
    RecordingWriter(path, metadata={"venue": "test"}).close()
    assert b'"software":"picows-feeds' in path.read_bytes()[32:200]
    with RecordingReader(path) as reader:
        assert reader.metadata["venue"] == "test"
        assert {"software", "created", "clock"} < reader.metadata.keys()


def test_a_newer_version_is_refused_with_both_numbers():
    with pytest.raises(UnsupportedVersion, match="expected version 1 of the recording format, found 2"):
        RecordingReader(io.BytesIO(file_header(version=2)))


@pytest.mark.parametrize("content", [b"", b"\x89FEE", b"1723161253937085768 {}", b"\x1f\x8b" + bytes(50)])
def test_what_is_not_a_recording_is_refused_with_what_was_found(content, tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(content)
    with pytest.raises(NotARecording, match=r"a\.rec.*found") as error:
        RecordingReader(path)
    assert ("an empty file" if not content else repr(content[:16])) in str(error.value)


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        RecordingReader(tmp_path / "a.rec")


def hostile(content, *, messages=1, **changes):
    """A file whose checksums are right, with a good block on either side of the one in question."""
    good = record(1, 0, 9, b"good")
    return (
        file_header()
        + block(0, good, messages=1)
        + block(1, content, messages=messages, **changes)
        + block(2, good, messages=1)
        + block(3, type=END)
    )


GOOD = RawMessage(1, 0, Kind.TICK, "", b"good")
BAD_RECORDS = {
    "payload longer than the block": b"\x00\x01\x01\x00\x00\x05hi",
    "tag longer than the block": b"\x00\x01\x01\x7f\x00\x00",
    "extension longer than the block": b"\x00\x01\x01\x00\x7f\x00",
    "sizes whose sum wraps to what is left": b"\x00\x01\x01\x02" + varint(2**64 - 2) + b"\x02" + b"hi",
    "source out of range": record(0, 65_536, 1, b"hi"),
    "flags out of range": record(0, 1, 1 << 31, b"hi"),
    "tag too long": record(0, 1, 1, b"hi", tag=bytes(65_536)),
    "varint of 65 bits": b"\x80" * 9 + b"\x02" + b"\x01\x01\x00\x00\x00",
    "varint that does not end": b"\x80" * 30,
    "varint cut off": b"\x00\x01\x01\x00\x00\x80",
}


@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_a_malformed_record_ends_its_block_and_no_other(bad):
    before = record(3, 0, 9, b"before")
    reader, messages = read(hostile(before + bad, messages=3))
    assert messages == [GOOD, RawMessage(3, 0, Kind.TICK, "", b"before"), GOOD]
    [damage] = reader.damages
    assert (damage.offset, damage.reason) == (len(file_header() + block(0, record(1, 0, 9, b"good"))), "record")
    assert damage.lost_bytes == len(bad)


@pytest.mark.parametrize(("promised", "reason"), [(1, "record"), (3, "message count")])
def test_a_wrong_message_count_is_reported(promised, reason):
    reader, messages = read(hostile(record(2, 0, 9, b"a") + record(0, 0, 9, b"b"), messages=promised))
    assert [m.payload for m in messages] == [b"good", b"a", b"b", b"good"][: None if promised == 3 else 2] + (
        [b"good"] if promised == 1 else []
    )
    assert [damage.reason for damage in reader.damages] == [reason]


def compressed(content):
    return zstandard.ZstdCompressor().compress(content)


BAD_BLOCKS = {
    "decompresses to more": ({"compression": 1, "raw_size": 999}, compressed(bytes(1000)), "1000 bytes or more"),
    "decompresses to less": ({"compression": 1, "raw_size": 1001}, compressed(bytes(1000)), "1000 bytes"),
    "a bomb": ({"compression": 1, "raw_size": 5000}, compressed(bytes(50 << 20)), "too much memory"),
    "no frame": ({"compression": 1, "raw_size": 1000}, b"nothing like it", "Unknown frame descriptor"),
    "half a frame": ({"compression": 1, "raw_size": 1000}, compressed(bytes(1000))[:-3], "0 bytes"),
    "compressed in an unknown way": ({"compression": 7, "raw_size": 1000}, b"abc", "compression 7"),
    "two sizes without compression": ({"raw_size": 1000}, b"abc", "3 bytes"),
    "larger than it says": ({"raw_size": 2}, b"abc", "2 stored in 3"),
    "larger than we take": ({"compression": 1, "raw_size": 60 << 20}, b"abc", f"{60 << 20} stored in 3"),
}


@pytest.mark.parametrize(("changes", "content", "found"), BAD_BLOCKS.values(), ids=BAD_BLOCKS)
def test_a_block_that_lies_is_skipped_and_reported(changes, content, found):
    reader, messages = read(hostile(content, **changes), max_block_size=1 << 20)
    assert messages == [GOOD, GOOD]
    [damage] = reader.damages
    assert damage.reason in ("block content", "block size")
    assert found in damage.found
    assert damage.lost_bytes == 56 + len(content)
    assert reader.complete


def test_damaged_blocks_inside_one_another_do_not_make_reading_quadratic():
    class Counted(io.BytesIO):
        count = 0

        def readinto(self, buffer):
            n = super().readinto(buffer)
            self.count += n
            return n

    depth = 2000
    nested = b""
    for sequence in range(depth):
        # Each claims all the others as its content, under a checksum that is wrong.
        header = struct.pack(
            "<4s8sIHHIIIqqI", b"\xf5BLK", SESSION, depth - sequence, MESSAGES, 0, len(nested), len(nested), 1, 0, 0, 77
        )
        nested = with_checksum(header) + nested
    padding = bytes(20 << 20)
    header = struct.pack("<4s8sIHHIIIqqI", b"\xf5BLK", SESSION, 0, 1, 0, 20 << 20, 20 << 20, 1, 0, 0, 77)
    overlapping = with_checksum(header) * depth + padding
    file = Counted(file_header() + nested + overlapping)
    reader = RecordingReader(file)
    assert list(reader) == []
    assert reader.damage_count >= 2
    assert file.count < 2 * reader.total_bytes + (64 << 20) + (20 << 20)


def test_a_damaged_declaration_is_reported_and_its_messages_are_returned():
    reader, messages = read(hostile(record(2, 5, 0, b"[]") + record(0, 5, 1, b"hi"), messages=2))
    assert [m.payload for m in messages] == [b"good", b"[]", b"hi", b"good"]
    assert reader.sources == {}
    assert [damage.reason for damage in reader.damages] == ["source declaration"]


def test_the_list_of_damages_is_bounded_and_their_count_is_not():
    content = b"".join(record(0, 5, 0, b"[]") for _ in range(50))
    reader, messages = read(hostile(content, messages=50), max_damages=10)
    assert (len(messages), len(reader.damages), reader.damage_count) == (52, 10, 50)


def test_a_tag_that_is_not_utf8_survives():
    _, [message] = read(file_header() + block(0, record(1, 0, 9, b"", tag=b"\xff\x00"), messages=1))
    file = io.BytesIO()
    with RecordingWriter(file) as writer:
        writer.write(message)
    assert read(file.getvalue())[1] == [message]
