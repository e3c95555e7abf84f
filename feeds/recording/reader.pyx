# cython: language_level=3
"""Reading recordings: the cursor that every reader is, and the reader of our own format."""
import io
import os

import orjson
import zstandard
from isal import isal_zlib

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp

from feeds.recording.message cimport KIND_MASK, KIND_SOURCE, RawMessage, kernel_time, make_message
from feeds.recording.record cimport MAX_SOURCE, MAX_TAG_SIZE, get_varint, unzigzag

from feeds.recording.ahead import CAN_READ_AHEAD, Block, ReadAhead, decompress
from feeds.recording.errors import Damage, NotARecording, RecordingDamaged, UnsupportedVersion
from feeds.recording.format import (
    BLOCK_END,
    BLOCK_HEADER_SIZE,
    BLOCK_INDEX,
    BLOCK_MAGIC,
    BLOCK_MESSAGES,
    BLOCK_SEGMENT,
    COMPRESSION_NONE,
    COMPRESSION_ZSTD,
    DECLARES_SOURCES,
    END_SIZE,
    FILE_HEADER_SIZE,
    FILE_MAGIC,
    MAX_BLOCK_SIZE,
    MAX_METADATA_SIZE,
    SEGMENT_BEGINS,
    VERSION,
    IndexEntry,
    unpack_block_header,
    unpack_end,
    unpack_file_header,
    unpack_index,
)

__all__ = ["RawSource", "RecordingReader"]

cdef Py_ssize_t MAX_DECLARED_SIZE = 64 << 20
cdef Py_ssize_t SCAN_SIZE = 1 << 20
# Of groups of blocks that are read ahead, decompressed: one that is smaller is read in the time that a thread takes to
# begin, one that is larger does not stay in the cache. The first is to be ready soon; each is twice the one before it. A
# block that is larger by itself is a group. Of small blocks there are not so many that what is known of each counts.
MIN_AHEAD_SIZE = 64 << 10
FIRST_AHEAD_SIZE = 512 << 10
MAX_AHEAD_SIZE = 2 << 20
MAX_AHEAD_BLOCKS = 256
cdef uint64_t MAX_FLAGS = 0x7fffffff


cdef class RawSource:
    """A cursor over recorded messages; in Python an iterator over `RawMessage`, and a context manager."""

    def __cinit__(self):
        self.tag = b""
        self._tag_seen = b""
        self._tag_text = ""
        self.path = ""
        self.metadata = {}
        self.sources = {}
        self._declared_sizes = {}
        self.damages = []
        self.max_damages = 1000

    cdef bint advance(self) except -1:
        raise NotImplementedError(f"{type(self).__name__}.advance")

    cpdef RawMessage message(self):
        if self.payload == NULL:
            raise ValueError("there is no current message: the source has not been advanced, or is at its end")
        if self.tag is not self._tag_seen:
            # A tag that is not UTF-8 comes back to the same bytes when it is written again.
            self._tag_text = self.tag.decode("utf-8", "surrogateescape")
            self._tag_seen = self.tag
        return make_message(
            self.ts_recv, self.source, self.flags, self._tag_text, PyBytes_FromStringAndSize(self.payload, self.size),
            PyBytes_FromStringAndSize(self.extension, self.extension_size) if self.extension_size else b"",
        )

    cpdef bint seek(self, int64_t ts) except -1:
        return False

    cdef int64_t ts_kernel(self):
        return kernel_time(self.extension, self.extension_size)

    cpdef close(self):
        self.payload = NULL
        file, self._file = self._file, None
        if file is not None and self._owns_file:
            file.close()

    def __iter__(self):
        return self

    def __next__(self):
        if not self.advance():
            raise StopIteration
        return self.message()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    cdef int _open(self, path) except -1:
        if hasattr(path, "read"):
            self.path = str(getattr(path, "name", repr(path)))
            self._file = path
            self.total_bytes = path.seek(0, os.SEEK_END)
            path.seek(0)
        else:
            self.path = os.fsdecode(path)
            self._file = io.FileIO(path)
            self._owns_file = True
            self.total_bytes = os.fstat(self._file.fileno()).st_size
        return 0

    cdef int _report(self, damage) except -1:
        self.damage_count += 1
        self.lost_bytes += damage.lost_bytes
        if self.strict:
            raise RecordingDamaged(self.path, damage)
        if self.damage_count <= self.max_damages:
            self.damages.append(damage)
        return 0

    cdef int _declare(self, int64_t offset) except -1:
        cdef bytes payload = PyBytes_FromStringAndSize(self.payload, self.size)
        try:
            declared = orjson.loads(payload)
        except orjson.JSONDecodeError:
            declared = None
        if not isinstance(declared, dict):
            self._report(Damage(offset, "source declaration", "a JSON object", repr(payload[:40]), 0))
            return 0
        size = self.declared_size - self._declared_sizes.get(self.source, 0) + self.size
        if size > MAX_DECLARED_SIZE:
            self._report(Damage(offset, "source declarations", f"at most {MAX_DECLARED_SIZE} bytes", f"{size}", 0))
            return 0
        self.declared_size = size
        self._declared_sizes[self.source] = self.size
        self.sources[self.source] = declared
        return 0


cdef class RecordingReader(RawSource):
    """Read a recording in our own format."""

    def __init__(
        self, path, *, bint strict=False, Py_ssize_t max_block_size=MAX_BLOCK_SIZE, Py_ssize_t max_damages=1000,
        bint salvage=False, read_ahead=None,
    ):
        if not 0 < max_block_size <= MAX_BLOCK_SIZE:
            raise ValueError(f"max_block_size: expected 1 to {MAX_BLOCK_SIZE}, found {max_block_size}")
        self.strict = strict
        self.max_block_size = max_block_size
        self.max_damages = max_damages
        self.raw = bytearray()
        self.stored = bytearray()
        self.declaring = []
        # A frame that needs more memory than the largest block is refused. Windows are powers of two from 1 KiB.
        self.max_window_size = max(1024, 1 << (max_block_size - 1).bit_length())
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=self.max_window_size)
        self.reads_ahead = CAN_READ_AHEAD and (_processors() > 1 if read_ahead is None else read_ahead)
        self._ready = []
        self.ahead_size = FIRST_AHEAD_SIZE
        self._open(path)
        self.rescan_budget = self.total_bytes + MAX_BLOCK_SIZE
        try:
            self._read_file_header(salvage)
        except BaseException:
            self.close()
            raise
        self.first_block = self.offset
        self.first_metadata = self.metadata

    @property
    def index(self):
        if self._index is None:
            self._index = self._stored_index()
        return list(self._index)

    cdef bint advance(self) except -1:
        cdef uint64_t ts, source, flags, tag_size, extension_size, payload_size
        cdef uint64_t left
        cdef const uint8_t* p = self.position
        cdef const uint8_t* end
        self.payload = NULL
        while True:
            if p == self.end:
                if not self._next_block():
                    return False
                p = self.position
                continue
            end = self.end
            p = get_varint(p, end, &ts)
            if p != NULL:
                p = get_varint(p, end, &source)
            if p != NULL:
                p = get_varint(p, end, &flags)
            if p != NULL:
                p = get_varint(p, end, &tag_size)
            if p != NULL:
                p = get_varint(p, end, &extension_size)
            if p != NULL:
                p = get_varint(p, end, &payload_size)
            if p != NULL:
                left = <uint64_t> (end - p)
                # Compared one by one: their sum could wrap.
                if (
                    source <= MAX_SOURCE and flags <= MAX_FLAGS and tag_size <= MAX_TAG_SIZE and self.remaining > 0
                    and tag_size <= left and extension_size <= left - tag_size
                    and payload_size <= left - tag_size - extension_size
                ):
                    if not self.only_declarations or flags & KIND_MASK == KIND_SOURCE:
                        break
                    self.previous_ts += unzigzag(ts)
                    self.remaining -= 1
                    p += tag_size + extension_size + payload_size
                    continue
            self._skip_damaged_record()
            p = self.position

        self.previous_ts += unzigzag(ts)
        self.ts_recv = <int64_t> self.previous_ts
        self.source = <int> source
        self.flags = <int> flags
        if (
            <uint64_t> PyBytes_GET_SIZE(self.tag) != tag_size
            or tag_size != 0 and memcmp(PyBytes_AS_STRING(self.tag), p, tag_size) != 0
        ):
            self.tag = PyBytes_FromStringAndSize(<const char*> p, <Py_ssize_t> tag_size)
        p += tag_size
        self.extension = <const char*> p
        self.extension_size = <Py_ssize_t> extension_size
        p += extension_size
        self.payload = <const char*> p
        self.size = <Py_ssize_t> payload_size
        self.position = p + payload_size
        self.remaining -= 1
        if flags & KIND_MASK == KIND_SOURCE:
            self._declare(self.block_offset)
        return True

    cpdef close(self):
        self.begin = self.position = self.end = NULL
        self.remaining = 0
        self.content = None
        self._ready.clear()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.close()
        RawSource.close(self)

    cdef int _skip_damaged_record(self) except -1:
        """The checksum was right and the content is not: a wrong writer, or a malicious one. Leave the block."""
        cdef Py_ssize_t lost = self.end - self.position
        cdef Py_ssize_t remaining = self.remaining
        self.position = self.end
        self.remaining = 0
        self._report(Damage(
            self.block_offset, "record", f"{remaining} more records in {lost} bytes of the block", "a malformed one", lost
        ))
        return 0

    cdef int _end_block(self) except -1:
        cdef Py_ssize_t missing = self.remaining
        self.remaining = 0
        if missing:
            self._report(Damage(
                self.block_offset, "message count", f"{missing} more messages in the block", "its end", 0
            ))
        return 0

    cdef bint _next_block(self) except -1:
        """Read on until there is a block of messages; False at the end of the file."""
        self._end_block()
        while self._file is not None:
            self.position = self.end = NULL
            if self.only_declarations:
                self._visit_next()
            self.block_offset = self.offset
            self.bytes_read = self.offset
            header = self._next_ahead()
            if header is None:
                data = self._read_at(self.offset, BLOCK_HEADER_SIZE)
                if not data:
                    return False
                header = self._check_header(data)
                if header is None or not self._load(header):
                    continue
            if not self._follows(header):
                continue
            self.complete = header.type == BLOCK_END
            if header.type == BLOCK_SEGMENT:
                self._begin_segment(header)
            if header.type != BLOCK_MESSAGES:
                continue
            self.position = self.begin
            self.end = self.begin + <Py_ssize_t> header.raw_size
            self.remaining = header.messages
            self.previous_ts = 0
            if header.raw_size:
                if not self._ready and not self.only_declarations:
                    self._begin_ahead(self.offset)
                return True
            self._end_block()
        return False

    def _check_header(self, bytes data):
        """Return the header of a block; None where it cannot be one: that is reported."""
        if len(data) < BLOCK_HEADER_SIZE:
            self._resume("truncated", f"a block header of {BLOCK_HEADER_SIZE} bytes", f"{len(data)} bytes")
            return None
        header = unpack_block_header(data)
        if header is None or (self.session is not None and header.session != self.session):
            self._resume("block header", "a block header of this file", _excerpt(data))
            return None
        self.session = header.session
        if header.raw_size > self.max_block_size or header.stored_size > header.raw_size:
            self._resume(
                "block size", f"at most {self.max_block_size} bytes, stored in no more",
                f"{header.raw_size} stored in {header.stored_size}",
            )
            return None
        return header

    def _begin_segment(self, header):
        """The writer reopened the file: its sources are declared anew."""
        self.run += 1
        self.segment_offset = self.block_offset
        self._forget_sources()
        self._set_metadata(bytes(memoryview(self.raw)[:header.raw_size]), self.block_offset)

    def _forget_sources(self):
        self.sources.clear()
        self._declared_sizes.clear()
        self.declared_size = 0

    # --- seeking ------------------------------------------------------------------------------------------------------

    cpdef bint seek(self, int64_t ts) except -1:
        """Where the index ends before `ts`, its last block is the place: a file that is being written goes on there."""
        if self._file is None:
            raise ValueError(f"{self.path}: the recording is closed")
        declaring = []
        destination = self.first_block
        run = 0
        for entry in self.index:
            destination = entry.offset
            if entry.flags & SEGMENT_BEGINS:
                declaring.clear()
                run += 1
            elif entry.last_ts_recv >= ts:
                break
            if entry.flags:
                declaring.append(destination)
        if destination in declaring:
            declaring.remove(destination)
        self.payload = NULL
        self.position = self.end = NULL
        self.remaining = 0
        self._ready.clear()
        self.ahead_from = 0
        self.declaring = declaring
        self.destination = destination
        self.only_declarations = True
        self.sequence = 0
        self.run = run - (run > 0)          # the block that begins a segment is read, and counts
        self._forget_sources()
        self.metadata = self.first_metadata
        return True

    cpdef int64_t skip_all(self) except -1:
        while self.advance():
            pass
        return self.sequence

    def _visit_next(self):
        """Go to the next block with declarations, and after the last of them to where seek() wanted to go."""
        if self.declaring:
            self.offset = self.declaring.pop(0)
        else:
            self.offset = self.destination
            self.only_declarations = False
        self.after_damage = True        # what is stepped over is not missing

    def _stored_index(self):
        """Return the index: what is in the file of it, and for the rest what reading tells."""
        entries = []
        stop = self.total_bytes
        while stop > self.first_block:
            found = self._index_before(stop)
            if found is None:
                return self._scan(stop) + entries
            stop = found[0]
            entries = found[1] + entries
        return entries

    def _index_before(self, int64_t stop):
        """Return the index that ends at `stop`, where it begins and its entries; None if there is no whole one."""
        if stop - <int64_t> END_SIZE < self.first_block:
            return None
        end = unpack_end(self._read_at(stop - <int64_t> END_SIZE, END_SIZE))
        if end is None or end[0].session != self.session or not self.first_block <= end[1] < stop:
            return None
        data = self._read_at(end[1], BLOCK_HEADER_SIZE)
        header = unpack_block_header(data) if len(data) == BLOCK_HEADER_SIZE else None
        if (
            header is None or header.session != self.session or header.type != BLOCK_INDEX
            or header.stored_size > header.raw_size or header.raw_size > self.max_block_size
            or end[1] + <int64_t> (BLOCK_HEADER_SIZE + header.stored_size + END_SIZE) != stop
        ):
            return None
        content = self._read_at(end[1] + <int64_t> BLOCK_HEADER_SIZE, header.stored_size)
        if len(content) != header.stored_size or isal_zlib.crc32(content) != header.checksum:
            return None
        if header.compression == COMPRESSION_ZSTD:
            try:
                with self.decompressor.stream_reader(content, read_size=max(1, len(content))) as stream:
                    content = stream.read(header.raw_size)
            except zstandard.ZstdError:
                return None
        found = unpack_index(content)
        if found is None or not self.first_block <= found[0] <= end[1] or (found[1] and found[1][-1].offset >= end[1]):
            return None
        return found

    def _scan(self, int64_t stop):
        """Return the index of what is before `stop` by reading it."""
        cdef RecordingReader other = RecordingReader(self.path if self._owns_file else self._file,
                                                     max_block_size=self.max_block_size)
        cdef int64_t offset = -1
        cdef int64_t run = 0
        cdef int64_t first = 0, last = 0
        cdef Py_ssize_t messages = 0
        cdef int flags = 0
        entries = []
        with other:
            while other.advance() and other.block_offset < stop:
                if other.block_offset != offset:
                    if messages:
                        entries.append(IndexEntry(offset, first, last, messages, flags))
                    if other.run != run:
                        entries.append(IndexEntry(other.segment_offset, 0, 0, 0, SEGMENT_BEGINS))
                        run = other.run
                    offset = other.block_offset
                    first = last = 0
                    messages = flags = 0
                messages += 1
                if other.ts_recv != 0:
                    first = min(first or other.ts_recv, other.ts_recv)
                    last = max(last or other.ts_recv, other.ts_recv)
                if other.flags & KIND_MASK == KIND_SOURCE:
                    flags |= DECLARES_SOURCES
        if messages:
            entries.append(IndexEntry(offset, first, last, messages, flags))
        return entries

    def whole_blocks(self):
        cdef int64_t offset = -1
        cdef int64_t first = 0, last = 0
        cdef Py_ssize_t messages = 0, good = 0
        cdef bint declares = False
        run = metadata = content = None
        while self.advance():
            if self.block_offset != offset:
                if messages:
                    yield run, metadata, content[:good], messages, first, last, declares
                run, metadata = self.run, self.metadata
                offset = self.block_offset
                content = PyBytes_FromStringAndSize(<const char*> self.begin, self.end - self.begin)
                first = last = 0
                messages = 0
                declares = False
            messages += 1
            good = self.position - self.begin
            if self.ts_recv != 0:
                first = min(first or self.ts_recv, self.ts_recv)
                last = max(last or self.ts_recv, self.ts_recv)
            declares = declares or self.flags & KIND_MASK == KIND_SOURCE
        if messages:
            yield run, metadata, content[:good], messages, first, last, declares

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _load(self, header):
        """Read and check the content of a block, and step over it. False if it is damaged: that is reported."""
        cdef Py_ssize_t stored_size = header.stored_size
        cdef Py_ssize_t raw_size = header.raw_size
        cdef int64_t after = self.offset + <int64_t> BLOCK_HEADER_SIZE + stored_size
        cdef bint is_stored_raw = header.compression == COMPRESSION_NONE
        if len(self.raw) < raw_size + 1:
            # One more than needed, so that a frame that is too long shows. Never shrunk, so never more than two blocks.
            self.raw = bytearray(max(raw_size + 1, min(2 * len(self.raw), self.max_block_size + 1)))
        if not is_stored_raw and len(self.stored) < stored_size:
            self.stored = bytearray(max(stored_size, min(2 * len(self.stored), self.max_block_size)))
        with memoryview(self.raw if is_stored_raw else self.stored)[:stored_size] as stored:
            found = self._read_into(stored)
            if found < stored_size:
                self._resume("truncated", f"{stored_size} bytes in the block", f"{found} bytes", stored_size)
                return False
            checksum = isal_zlib.crc32(stored)
            if checksum != header.checksum:
                self._resume("block checksum", f"{header.checksum:08x}", f"{checksum:08x}", stored_size)
                return False
            problem = None
            if is_stored_raw:
                if stored_size != raw_size:
                    problem = f"{stored_size} bytes"
            elif header.compression == COMPRESSION_ZSTD:
                with memoryview(self.raw)[:raw_size + 1] as raw:
                    problem = decompress(self.decompressor, stored, raw)
            elif header.type == BLOCK_MESSAGES:
                problem = f"compression {header.compression}"
        self.begin = <const uint8_t*> PyByteArray_AS_STRING(self.raw)
        self.offset = after
        self.bytes_read = after
        if problem is None:
            return True
        # The checksum was right, so this block ends where its header says.
        self.after_damage = True
        self._report(Damage(
            self.block_offset, "block content", f"{raw_size} bytes when decompressed", problem,
            after - self.block_offset,
        ))
        return False

    # --- reading ahead ------------------------------------------------------------------------------------------------

    def _next_ahead(self):
        """Step over the next block if it has been read ahead and is whole, and return its header; else None."""
        cdef const uint8_t[::1] content
        if not self._ready and self._ahead is not None:
            blocks = self._ahead.take(self.offset)
            if blocks:
                self._ready = blocks[::-1]
                self._begin_ahead(_end_of(blocks[-1]))
        if not self._ready:
            return None
        block = self._ready.pop()
        if block.offset != self.offset:
            self._ready.clear()
            return None
        self.content = content = block.content
        self.begin = &content[0]
        self.offset = self.bytes_read = _end_of(block)
        return block.header

    def _begin_ahead(self, int64_t offset):
        """Have the blocks from `offset` on decompressed meanwhile, where that is worth a thread; else they are read in their turn."""
        if not self.reads_ahead or offset < self.ahead_from:
            return
        try:
            blocks = self._blocks_ahead(offset)
            if not blocks:
                return
            # Neither looked at again when they are too few, nor begun again should something be wrong with one of them.
            self.ahead_from = _end_of(blocks[-1])
            if sum([block.header.raw_size for block in blocks]) < MIN_AHEAD_SIZE:
                return
            if self._ahead is None:
                # Allocators keep what is freed up to a threshold, which glibc raises when more than that is freed: a
                # group would else have its memory page by page anew, for a third of the time that it takes.
                PyMem_RawFree(PyMem_RawMalloc(4 * MAX_AHEAD_SIZE))
                self._ahead = ReadAhead()
            self._ahead.begin(blocks)
            self.ahead_size = min(2 * self.ahead_size, MAX_AHEAD_SIZE)
        except (OSError, RuntimeError):          # told in its turn; there is no other thread to be had
            self.reads_ahead = False

    def _blocks_ahead(self, int64_t offset):
        """Return the blocks from `offset` on, as they are stored, up to one that has to be looked at in its turn."""
        cdef Py_ssize_t size = 0
        blocks = []
        data = self._read_at(offset, BLOCK_HEADER_SIZE)
        while len(blocks) < MAX_AHEAD_BLOCKS:
            header = unpack_block_header(data) if len(data) == BLOCK_HEADER_SIZE else None
            if (
                header is None or header.session != self.session or header.type != BLOCK_MESSAGES
                or header.compression != COMPRESSION_ZSTD or not 0 < header.stored_size <= header.raw_size
                or header.raw_size > self.max_block_size or blocks and size + header.raw_size > self.ahead_size
            ):
                return blocks
            data = self._read_at(offset + <int64_t> BLOCK_HEADER_SIZE, header.stored_size + BLOCK_HEADER_SIZE)
            stored = memoryview(data)[:header.stored_size]
            if (
                len(stored) != header.stored_size or isal_zlib.crc32(stored) != header.checksum
                or not self._is_window_small(stored)
            ):
                return blocks
            blocks.append(Block(offset, header, stored))
            size += header.raw_size
            offset = _end_of(blocks[-1])
            data = data[header.stored_size:]
        return blocks

    cdef bint _is_window_small(self, stored) except -1:
        try:
            return zstandard.get_frame_parameters(stored).window_size <= self.max_window_size
        except zstandard.ZstdError:
            return False

    def _follows(self, header):
        """Count the block. False if it has been read before; missing ones are reported."""
        cdef int64_t expected = self.sequence
        cdef bint explained = self.after_damage
        self.after_damage = False
        if header.sequence < expected:
            self._report(Damage(
                self.block_offset, "repeated block", f"block {expected}", f"block {header.sequence}",
                self.offset - self.block_offset,
            ))
            return False
        self.sequence = <int64_t> header.sequence + 1
        if header.sequence > expected and not explained:
            self._report(Damage(
                self.block_offset, "missing blocks", f"block {expected}", f"block {header.sequence}", 0
            ))
        return True

    def _resume(self, reason, expected, found, Py_ssize_t content=0):
        """Go to the next block that is one, and report what lies between here and there."""
        cdef int64_t offset = self.offset
        cdef int64_t start = offset + 1
        if content:
            # Bytes may have been lost from the content, so that the next block begins inside. Searching there reads
            # them again; a file made of nested damaged blocks must not make that quadratic.
            if self.rescan_budget < content:
                start = offset + <int64_t> BLOCK_HEADER_SIZE + content
            self.rescan_budget -= content
        self.offset = self._find_block(start)
        self.after_damage = True
        self._report(Damage(offset, reason, expected, found, self.offset - offset))

    def _find_block(self, int64_t start):
        """Return the offset of the first block header at or after `start`; the end of the file if there is none."""
        cdef int64_t base = start
        sync = BLOCK_MAGIC if self.session is None else BLOCK_MAGIC + self.session
        window = b""
        while True:
            chunk = self._read_at(base + len(window), SCAN_SIZE)
            if not chunk:
                return min(base + len(window), self._file.seek(0, os.SEEK_END))
            window += chunk
            at = window.find(sync)
            while at >= 0:
                data = window[at : at + BLOCK_HEADER_SIZE]
                if len(data) < BLOCK_HEADER_SIZE:
                    data = self._read_at(base + at, BLOCK_HEADER_SIZE)
                if len(data) == BLOCK_HEADER_SIZE and unpack_block_header(data) is not None:
                    return base + at
                at = window.find(sync, at + 1)
            keep = len(sync) - 1
            base += max(0, len(window) - keep)
            window = window[-keep:]

    def _read_file_header(self, bint salvage):
        data = self._read_at(0, FILE_HEADER_SIZE)
        if not data:
            raise NotARecording(f"{self.path}: expected a recording, found an empty file")
        if data[: len(FILE_MAGIC)] != FILE_MAGIC:
            if salvage and self._find_block(0) < self.total_bytes:
                self.version = VERSION
                self._resume("file header", "its magic", _excerpt(data))
                return
            raise NotARecording(f"{self.path}: expected a recording that begins {FILE_MAGIC!r}, found {data[:16]!r}")
        self.version = VERSION
        if len(data) < FILE_HEADER_SIZE:
            self._resume("truncated", f"a file header of {FILE_HEADER_SIZE} bytes", f"{len(data)} bytes")
            return
        header = unpack_file_header(data)
        if header is None:
            self._resume("file header", "a valid checksum", _excerpt(data))
            return
        # Only now: a damaged version is no newer version.
        if header.version != VERSION:
            raise UnsupportedVersion(
                f"{self.path}: expected version {VERSION} of the recording format, found {header.version}"
            )
        self.session = header.session
        if header.metadata_size > MAX_METADATA_SIZE:
            self._resume("metadata size", f"at most {MAX_METADATA_SIZE} bytes", f"{header.metadata_size}")
            return
        self.offset = FILE_HEADER_SIZE
        text = self._read_at(FILE_HEADER_SIZE, header.metadata_size)
        checksum = isal_zlib.crc32(text)
        if len(text) < header.metadata_size:
            self._resume("truncated", f"{header.metadata_size} bytes of metadata", f"{len(text)} bytes")
        elif checksum != header.metadata_checksum:
            # Bytes may be missing, so that the first block begins inside.
            self._resume("metadata checksum", f"{header.metadata_checksum:08x}", f"{checksum:08x}")
        else:
            self.offset += len(text)
            self._set_metadata(text, FILE_HEADER_SIZE)
        self.bytes_read = self.offset

    def _set_metadata(self, text, offset):
        try:
            metadata = orjson.loads(text)
        except orjson.JSONDecodeError:
            metadata = None
        if isinstance(metadata, dict):
            self.metadata = metadata
        else:
            self._report(Damage(offset, "metadata", "a JSON object", _excerpt(text), len(text)))

    def _read_at(self, int64_t offset, Py_ssize_t size):
        """Return the bytes at `offset`: `size` of them, fewer only at the end of the file."""
        self._file.seek(offset)
        data = self._file.read(size)
        while 0 < len(data) < size:
            more = self._file.read(size - len(data))
            if not more:
                break
            data += more
        return data

    def _read_into(self, view):
        """Fill `view` from where the file stands; return how many bytes there were."""
        cdef Py_ssize_t done = 0
        while done < len(view):
            n = self._file.readinto(view[done:])
            if not n:
                break
            done += n
        return done


def _end_of(block):
    """Return the offset in the file behind a block."""
    return block.offset + BLOCK_HEADER_SIZE + block.header.stored_size


def _processors():
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _excerpt(data):
    return f"{data[:16].hex(' ')}{' ...' if len(data) > 16 else ''}"
