"""The file of a recording as a sequence of blocks: what the writer's thread and `repair` write."""

import contextlib
import io
import os
import zlib
from typing import Any

import orjson
import zstandard

from feeds.recording.errors import RecordingError, RecordingExists
from feeds.recording.format import (
    BLOCK_INDEX,
    BLOCK_MESSAGES,
    BLOCK_SEGMENT,
    COMPRESSION_NONE,
    COMPRESSION_ZSTD,
    DECLARES_SOURCES,
    END_SIZE,
    FILE_HEADER_SIZE,
    MAX_BLOCK_SIZE,
    MAX_METADATA_SIZE,
    SEGMENT_BEGINS,
    SESSION_SIZE,
    VERSION,
    BlockHeader,
    FileHeader,
    IndexEntry,
    pack_block_header,
    pack_end,
    pack_file_header,
    pack_index,
    unpack_end,
    unpack_file_header,
)
from feeds.recording.reader import RecordingReader

try:
    import fcntl
except ImportError:  # Windows: there, nothing keeps two writers from one file
    fcntl = None  # type: ignore[assignment]

__all__ = ["BlockWriter", "pack_metadata"]


def pack_metadata(metadata: dict[str, Any]) -> bytes:
    """Return metadata as it stands in a file; ValueError where it is too large, TypeError where it is not JSON."""
    packed = orjson.dumps(metadata)
    if len(packed) > MAX_METADATA_SIZE:
        raise ValueError(f"metadata: expected at most {MAX_METADATA_SIZE} bytes of JSON, found {len(packed)}")
    return packed


class BlockWriter:
    """Writes the header, the blocks, the index and the end of one file. A block that fails leaves nothing behind.

    `target` is a path, or a binary file object, which stays its caller's. With `append`, a file that is there gets a
    new segment behind its last byte, whatever that is; nothing of it is changed.
    """

    def __init__(
        self, target: str | os.PathLike[str] | Any, metadata: bytes, *, level: int = 3, append: bool = False
    ) -> None:
        self.size = 0  # of the file
        self.blocks = 0  # of messages, written here
        self._compressor = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
        self._entries: list[IndexEntry] = []
        self._sequence = 0
        self._session = os.urandom(SESSION_SIZE)
        self._directory: str | None = None  # to be synced once, so that a new file's name survives a power cut
        self.owns_file = not hasattr(target, "write")
        if not self.owns_file:
            self._file: Any = target
            self._begin(metadata)
            return
        path = os.fsdecode(target)
        self._directory = os.path.dirname(os.path.abspath(path))
        try:
            self._file = io.FileIO(path, "x+")
            exists = False
        except FileExistsError:
            if not append:
                raise RecordingExists(f"{path}: exists already; a recording never overwrites a file") from None
            self._file = io.FileIO(path, "r+")
            exists = self._file.seek(0, os.SEEK_END) > 0
        try:
            self._lock(path)
            if exists:
                self._reopen(path, metadata)
            else:
                self._begin(metadata)
        except BaseException:
            self._file.close()
            if not exists:
                os.unlink(path)
            raise

    def write_messages(
        self, raw: bytes | bytearray | memoryview, messages: int, first: int, last: int, *, declares: bool
    ) -> None:
        """Write a block of `messages` encoded messages, whose times are `first` to `last`."""
        at = self.size
        self._write_block(BLOCK_MESSAGES, raw, messages, first, last)
        self._entries.append(IndexEntry(at, first, last, messages, DECLARES_SOURCES if declares else 0))
        self.blocks += 1

    def write_segment(self, metadata: bytes) -> None:
        """Begin a segment: sources are declared anew in it."""
        at = self.size
        self._write_block(BLOCK_SEGMENT, metadata, 0, 0, 0)
        self._entries.append(IndexEntry(at, 0, 0, 0, SEGMENT_BEGINS))

    def finish(self) -> None:
        """Write the index and the end."""
        index = pack_index(self._start, self._entries)
        at = 0
        if len(index) <= MAX_BLOCK_SIZE:
            at = self.size
            times = [t for entry in self._entries for t in entry[1:3] if t]
            self._write_block(BLOCK_INDEX, index, 0, min(times, default=0), max(times, default=0))
        self._write(pack_end(self._session, self._sequence, at))
        self._sequence += 1

    def sync(self) -> None:
        """Have the system put everything on the disk; a file object is flushed."""
        if not self.owns_file:
            self._file.flush()
            return
        os.fsync(self._file.fileno())
        if self._directory is not None:
            # Where a folder cannot be opened or synced (its permissions, some network file systems), the data is as
            # safe as the system can make it: no reason to stop recording.
            with contextlib.suppress(OSError):
                directory = os.open(self._directory, os.O_RDONLY)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
            self._directory = None

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self.owns_file:
            self._file.close()

    def discard(self) -> None:
        """Remove the file, which nothing has been written to."""
        self._file.close()
        os.unlink(self._file.name)

    def _begin(self, metadata: bytes) -> None:
        header = FileHeader(VERSION, len(metadata), self._session, zlib.crc32(metadata))
        self._write(pack_file_header(header), metadata)
        self._start = self.size

    def _reopen(self, path: str, metadata: bytes) -> None:
        self._file.seek(0)
        header = unpack_file_header(self._file.read(FILE_HEADER_SIZE).ljust(FILE_HEADER_SIZE, b"\0"))
        if header is None or header.version != VERSION:
            raise RecordingError(
                f"{path}: expected a recording of version {VERSION} with an intact header to append to; "
                f"what can be read of a damaged one, `feeds repair` copies"
            )
        self._session = header.session
        self.size = self._start = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, self.size - END_SIZE))
        end = unpack_end(self._file.read(END_SIZE))
        if end is not None and end[0].session == header.session:
            self._sequence = end[0].sequence + 1
        else:  # its writer was killed: only reading it tells
            with RecordingReader(path) as reader:
                self._sequence = reader.skip_all()
        self._file.seek(self.size)
        self.write_segment(metadata)

    def _lock(self, path: str) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordingError(f"{path}: expected no other writer, found one that is recording to it") from None
        except OSError:
            pass  # a file system without locks

    def _write_block(
        self, type: int, raw: bytes | bytearray | memoryview, messages: int, first: int, last: int
    ) -> None:
        compression = COMPRESSION_ZSTD
        stored: bytes | bytearray | memoryview = self._compressor.compress(raw)
        if len(stored) >= len(raw):
            compression, stored = COMPRESSION_NONE, raw
        header = BlockHeader(
            self._session, self._sequence, type, compression, len(stored), len(raw), messages, first, last,
            zlib.crc32(stored),
        )  # fmt: skip
        self._write(pack_block_header(header), stored)
        self._sequence += 1

    def _write(self, *parts: bytes | bytearray | memoryview) -> None:
        written = 0
        try:
            for part in parts:
                with memoryview(part) as view:
                    done = 0
                    while done < len(view):
                        n = self._file.write(view[done:])
                        if not n:  # None: a file that does not block, and is full
                            raise OSError(f"expected to write {len(view) - done} bytes, the file took {n}")
                        done += n
                        written += n
        except BaseException:
            if self.owns_file:  # the beginning of what did not fit goes; where that cannot be, readers step over it
                with contextlib.suppress(OSError):
                    self._file.truncate(self.size)
                with contextlib.suppress(OSError):
                    self.size = self._file.seek(0, os.SEEK_END)
            raise
        self.size += written
