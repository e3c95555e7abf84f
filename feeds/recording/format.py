"""Layout of version 1 of our recording format: file header, block header, index and end.

docs/recording-format.md is the specification, and explains the choices. The records inside a block are encoded and
decoded where that happens per message: `record.pxd`, `writer.pyx`, `reader.pyx`.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = [
    "BLOCK_END",
    "BLOCK_HEADER_SIZE",
    "BLOCK_INDEX",
    "BLOCK_MAGIC",
    "BLOCK_MESSAGES",
    "BLOCK_SEGMENT",
    "COMPRESSION_NONE",
    "COMPRESSION_ZSTD",
    "DECLARES_SOURCES",
    "END_SIZE",
    "FILE_HEADER_SIZE",
    "FILE_MAGIC",
    "INSTRUMENTS_TAG",
    "MAX_BLOCK_SIZE",
    "MAX_METADATA_SIZE",
    "SEGMENT_BEGINS",
    "SESSION_SIZE",
    "SETUP_TAG",
    "TICKET_TAG",
    "VERSION",
    "BlockHeader",
    "FileHeader",
    "IndexEntry",
    "pack_block_header",
    "pack_end",
    "pack_file_header",
    "pack_index",
    "unpack_block_header",
    "unpack_end",
    "unpack_file_header",
    "unpack_index",
]

VERSION: Final = 1

# As in PNG: a byte that is not ASCII, the name, and a line end that a transfer in text mode would change.
FILE_MAGIC: Final = b"\x89FEEDS\r\n"
BLOCK_MAGIC: Final = b"\xf5BLK"
SESSION_SIZE: Final = 8

BLOCK_MESSAGES: Final = 1
BLOCK_INDEX: Final = 2
BLOCK_END: Final = 3
BLOCK_SEGMENT: Final = 4

# What an index says of a block.
DECLARES_SOURCES: Final = 1
SEGMENT_BEGINS: Final = 2

COMPRESSION_NONE: Final = 0
COMPRESSION_ZSTD: Final = 1

MAX_METADATA_SIZE: Final = 1 << 20
MAX_BLOCK_SIZE: Final = 64 << 20  # raw bytes; a writer keeps to it, a reader may be told to accept less

# Tags of replies that it took to connect; all begin so. Replay passes over them.
SETUP_TAG: Final = ":"
INSTRUMENTS_TAG: Final = ":instruments"
TICKET_TAG: Final = ":ticket"

_FILE_HEADER: Final = struct.Struct("<8sHHI8sI")
_BLOCK_HEADER: Final = struct.Struct("<4s8sIHHIIIqqI")
_CHECKSUM: Final = struct.Struct("<I")
_OFFSET: Final = struct.Struct("<Q")
_INDEX_ENTRY: Final = struct.Struct("<QqqII")

FILE_HEADER_SIZE: Final = _FILE_HEADER.size + _CHECKSUM.size
BLOCK_HEADER_SIZE: Final = _BLOCK_HEADER.size + _CHECKSUM.size
END_SIZE: Final = (
    BLOCK_HEADER_SIZE + _OFFSET.size
)  # of the whole block, so that it can be found from the end of the file


class FileHeader(NamedTuple):
    """The first 32 bytes of a file, less magic and checksum. They mean the same in every version to come."""

    version: int
    metadata_size: int
    session: bytes
    metadata_checksum: int


class BlockHeader(NamedTuple):
    """The 56 bytes before the content of a block, less magic and checksum."""

    session: bytes
    """The file's own random id: a block of another file, or one left over on a reused disk, does not have it."""
    sequence: int
    """Number of the block in its file, from 0."""
    type: int
    compression: int
    stored_size: int
    """Bytes that follow the header."""
    raw_size: int
    """Bytes when decompressed; never less than `stored_size`."""
    messages: int
    """How many are inside."""
    first_ts_recv: int
    """The earliest known ts_recv inside, in ns; 0 when all are unknown."""
    last_ts_recv: int
    """The latest."""
    checksum: int
    """CRC-32 of the stored bytes."""


class IndexEntry(NamedTuple):
    """Where a block of messages is, or where a segment begins."""

    offset: int
    """From the start of the file."""
    first_ts_recv: int
    last_ts_recv: int
    messages: int
    flags: int
    """`DECLARES_SOURCES` | `SEGMENT_BEGINS`."""


def pack_file_header(header: FileHeader) -> bytes:
    packed = _FILE_HEADER.pack(
        FILE_MAGIC, header.version, 0, header.metadata_size, header.session, header.metadata_checksum
    )
    return packed + _CHECKSUM.pack(zlib.crc32(packed))


def unpack_file_header(data: bytes) -> FileHeader | None:
    """Return the header that `data` (32 bytes) is, or None if it is none or a damaged one."""
    magic, version, _, metadata_size, session, metadata_checksum = _FILE_HEADER.unpack_from(data)
    if magic != FILE_MAGIC or not _is_intact(data):
        return None
    return FileHeader(version, metadata_size, session, metadata_checksum)


def pack_block_header(header: BlockHeader) -> bytes:
    packed = _BLOCK_HEADER.pack(BLOCK_MAGIC, *header)
    return packed + _CHECKSUM.pack(zlib.crc32(packed))


def unpack_block_header(data: bytes) -> BlockHeader | None:
    """Return the header that `data` (56 bytes) is, or None if it is none or a damaged one."""
    magic, *fields = _BLOCK_HEADER.unpack_from(data)
    if magic != BLOCK_MAGIC or not _is_intact(data):
        return None
    return BlockHeader(*fields)


def pack_index(start: int, entries: Iterable[IndexEntry]) -> bytes:
    """Return the content of an index of everything from the offset `start` on."""
    return _OFFSET.pack(start) + b"".join(_INDEX_ENTRY.pack(*entry) for entry in entries)


def unpack_index(content: bytes | bytearray | memoryview) -> tuple[int, list[IndexEntry]] | None:
    """Return where an index begins and its entries; None if `content` is none."""
    if len(content) < _OFFSET.size or (len(content) - _OFFSET.size) % _INDEX_ENTRY.size:
        return None
    [start] = _OFFSET.unpack_from(content)
    entries = [IndexEntry(*fields) for fields in _INDEX_ENTRY.iter_unpack(content[_OFFSET.size :])]
    at = start
    for entry in entries:
        if entry.offset < at:
            return None
        at = entry.offset + BLOCK_HEADER_SIZE
    return start, entries


def pack_end(session: bytes, sequence: int, index_offset: int) -> bytes:
    """Return the block that closes a recording; `index_offset` 0 = there is no index."""
    content = _OFFSET.pack(index_offset)
    size = len(content)
    header = BlockHeader(session, sequence, BLOCK_END, COMPRESSION_NONE, size, size, 0, 0, 0, zlib.crc32(content))
    return pack_block_header(header) + content


def unpack_end(data: bytes) -> tuple[BlockHeader, int] | None:
    """Return the header and the offset of the index from an end block (64 bytes), None if it is none."""
    header = unpack_block_header(data) if len(data) == END_SIZE else None
    content = data[BLOCK_HEADER_SIZE:]
    if header is None or header.type != BLOCK_END or header.stored_size != len(content):
        return None
    return (header, *_OFFSET.unpack(content)) if zlib.crc32(content) == header.checksum else None


def _is_intact(header: bytes) -> bool:
    return header[-_CHECKSUM.size :] == _CHECKSUM.pack(zlib.crc32(header[: -_CHECKSUM.size]))
