# cython: language_level=3
"""Writing recordings."""
import contextlib
import importlib.metadata
import io
import os
import sys
import threading
import time
import warnings
import zlib
from collections import deque

import orjson
import zstandard

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from feeds.recording.message cimport KIND_MASK, KIND_NOTE, KIND_SOURCE, RawMessage
from feeds.recording.record cimport MAX_RECORD_HEAD, MAX_SOURCE, MAX_TAG_SIZE, put_varint, zigzag

from feeds.recording.errors import RecordingError, RecordingExists
from feeds.recording.format import (
    BLOCK_END,
    BLOCK_HEADER_SIZE,
    BLOCK_MESSAGES,
    COMPRESSION_NONE,
    COMPRESSION_ZSTD,
    MAX_METADATA_SIZE,
    SESSION_SIZE,
    VERSION,
    BlockHeader,
    FileHeader,
    pack_block_header,
    pack_file_header,
)
from feeds.recording.format import MAX_BLOCK_SIZE as _MAX_BLOCK_SIZE

__all__ = ["RecordingWriter"]

cdef Py_ssize_t MAX_BLOCK_SIZE = _MAX_BLOCK_SIZE
cdef int THE_RECORDING = 0          # the source of what no connection caused


@cython.final
cdef class _Block:
    """A job for the thread: bytes in [0, used) of `buffer` are `count` records. None of them, only to sync."""
    cdef:
        bytearray buffer
        Py_ssize_t used
        Py_ssize_t count
        int64_t first_ts
        int64_t last_ts
        bint sync
        bint is_last


@cython.final
cdef class BlockFile:
    def __init__(self, path, bytes metadata not None, *, Py_ssize_t buffer_size, int level, Py_ssize_t max_pending):
        self.compressor = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
        self.session = os.urandom(SESSION_SIZE)
        self.buffer_size = buffer_size
        self.max_pending = max_pending
        self.jobs = deque()
        self.spare = []
        self.changed = threading.Condition()
        if hasattr(path, "write"):
            self.file = path
        else:
            try:
                self.file = io.FileIO(path, "x")
            except FileExistsError:
                raise RecordingExists(f"{os.fsdecode(path)}: exists already; a recording never overwrites a file") from None
            self.owns_file = True
            self.directory = os.path.dirname(os.path.abspath(os.fsdecode(path)))
        try:
            self._write(pack_file_header(FileHeader(VERSION, len(metadata), self.session, zlib.crc32(metadata))))
            self._write(metadata)
        except BaseException:
            if self.owns_file:
                self.file.close()
            raise
        self.thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self.thread.start()

    def is_full(self):
        return len(self.jobs) >= self.max_pending

    def submit(self, _Block block not None):
        """Queue a block, whose buffer is then the thread's. Whether there is room is for the caller to ask."""
        with self.changed:
            self.jobs.append(block)
            self.submitted += 1
            self.changed.notify_all()

    def take_buffer(self):
        with self.changed:
            if self.spare:
                return self.spare.pop()
        return bytearray(self.buffer_size)

    def wait_for_room(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.is_full())

    def wait_until_written(self):
        with self.changed:
            submitted = self.submitted
            self.changed.wait_for(lambda: self.done >= submitted)

    def finish(self):
        """Wait until everything queued is written and the file is closed. The last job must have been submitted."""
        self.thread.join()

    def _run(self):
        cdef _Block block
        cdef int64_t sequence = 0
        cdef bint is_last = False
        while not is_last:
            with self.changed:
                while not self.jobs:
                    self.changed.wait()
                block = self.jobs[0]
            is_last = block.is_last
            if self.failure is None:
                try:
                    if block.count:
                        self._write_block(block, sequence)
                        sequence += 1
                    if block.is_last:
                        self._write(pack_block_header(BlockHeader(
                            self.session, sequence, BLOCK_END, COMPRESSION_NONE, 0, 0, 0, 0, 0, zlib.crc32(b"")
                        )))
                    if block.sync:
                        self._sync()
                except BaseException as error:      # whatever it is, the owner of the writer must hear of it
                    self.failure = error
                    self.failed = True
            if is_last and self.owns_file:
                try:
                    self.file.close()
                except OSError as error:
                    self.failure = self.failure or error
                    self.failed = True
            with self.changed:
                self.jobs.popleft()
                self.done += 1
                # An oversized one was for one message, and is let go.
                if block.buffer is not None and len(block.buffer) == self.buffer_size:
                    self.spare.append(block.buffer)
                self.changed.notify_all()
            block = None

    def _write_block(self, _Block block, int64_t sequence):
        with memoryview(block.buffer)[:block.used] as raw:
            compression, stored = COMPRESSION_ZSTD, self.compressor.compress(raw)
            if len(stored) >= len(raw):
                compression, stored = COMPRESSION_NONE, raw
            self._write(pack_block_header(BlockHeader(
                self.session, sequence, BLOCK_MESSAGES, compression, len(stored), len(raw), block.count,
                block.first_ts, block.last_ts, zlib.crc32(stored),
            )))
            self._write(stored)
        self.blocks += 1

    def _write(self, data):
        cdef Py_ssize_t done = 0
        cdef Py_ssize_t size = len(data)
        with memoryview(data) as view:
            while done < size:
                n = self.file.write(view[done:])
                if not n:       # None: a file that does not block, and is full
                    raise OSError(f"expected to write {size - done} bytes, the file took {n}")
                done += n
                self.bytes_written += n

    def _sync(self):
        if not self.owns_file:
            self.file.flush()
            return
        os.fsync(self.file.fileno())
        if self.directory is not None:
            # Where a folder cannot be opened or synced (its permissions, some network file systems), the data is as
            # safe as the system can make it: no reason to stop recording.
            with contextlib.suppress(OSError):
                directory = os.open(self.directory, os.O_RDONLY)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
            self.directory = None


cdef class RecordingWriter:
    """Write a recording in our own format."""

    def __cinit__(self):
        self.closed = True      # until there is something to close

    def __init__(
        self, path, *, metadata=None, Py_ssize_t block_size=256 * 1024, double flush_interval=1.0,
        int compression_level=3, Py_ssize_t max_pending_blocks=64, str on_full not None="drop",
    ):
        if not 0 < block_size <= MAX_BLOCK_SIZE:
            raise ValueError(f"block_size: expected 1 to {MAX_BLOCK_SIZE}, found {block_size}")
        if not 0 < flush_interval <= 1e9:
            raise ValueError(f"flush_interval: expected seconds, more than 0 and at most 1e9, found {flush_interval}")
        if max_pending_blocks < 1:
            raise ValueError(f"max_pending_blocks: expected at least 1, found {max_pending_blocks}")
        if on_full not in ("drop", "stop"):
            raise ValueError(f"on_full: expected 'drop' or 'stop', found {on_full!r}")
        self.path = str(getattr(path, "name", repr(path))) if hasattr(path, "write") else os.fsdecode(path)
        self.stop_when_full = on_full == "stop"
        self.flush_interval = <int64_t> (flush_interval * 1e9)
        self.next_source = 1
        self.declared[THE_RECORDING] = True
        described = {
            "software": _software(),
            "created": time.time_ns(),
            "clock": "ts_recv is nanoseconds since 1970-01-01T00:00:00Z, from the system's real-time clock",
        } | (metadata or {})
        header = orjson.dumps(described)
        if len(header) > MAX_METADATA_SIZE:
            raise ValueError(f"metadata: expected at most {MAX_METADATA_SIZE} bytes of JSON, found {len(header)}")
        self.blocks = BlockFile(
            path, header, buffer_size=block_size, level=compression_level, max_pending=max_pending_blocks
        )
        self.buffer = self.blocks.take_buffer()
        self.closed = False

    @property
    def pending_blocks(self):
        return len(self.blocks.jobs)

    @property
    def blocks_written(self):
        return self.blocks.blocks

    @property
    def bytes_written(self):
        return self.blocks.bytes_written

    def add_source(self, exchange, url, *, ts_recv=None, **more):
        cdef int source = self.next_source
        if source > MAX_SOURCE:
            raise RecordingError(f"{self.path}: expected at most {MAX_SOURCE} sources, found one more")
        payload = orjson.dumps({"exchange": exchange, "url": url} | more)
        self.write_view(
            self.newest_ts if ts_recv is None else ts_recv, source, KIND_SOURCE,
            PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload),
        )
        return source

    def note(self, str tag not None, obj, *, ts_recv=None):
        cdef bytes payload = orjson.dumps(obj)
        self.write_view(
            self.newest_ts if ts_recv is None else ts_recv, THE_RECORDING, KIND_NOTE,
            PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), tag.encode("utf-8", "surrogateescape"),
        )

    def write_message(self, int64_t ts_recv, int source, int flags, payload, str tag=""):
        cdef Py_buffer view
        cdef bytes tag_bytes = tag.encode("utf-8", "surrogateescape") if tag else None
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            return self.write_view(ts_recv, source, flags, <const char*> view.buf, view.len, tag_bytes) == 1
        finally:
            PyBuffer_Release(&view)

    cpdef bint write(self, RawMessage message) except -1:
        cdef bytes tag = message.tag.encode("utf-8", "surrogateescape") if message.tag else None
        return self.write_view(
            message.ts_recv, message.source, message.flags,
            PyBytes_AS_STRING(message.payload), PyBytes_GET_SIZE(message.payload), tag,
        )

    cdef int write_view(
        self, int64_t ts_recv, int source, int flags, const char* payload, Py_ssize_t size, bytes tag=None
    ) except -1:
        cdef Py_ssize_t need = MAX_RECORD_HEAD + size
        cdef bint is_source = flags & KIND_MASK == KIND_SOURCE
        cdef uint64_t age
        if self.closed or self.blocks.failed:
            self._refuse()
        if is_source:
            self._declare(source, payload, size)
        elif source < 0 or source > MAX_SOURCE or not self.declared[source]:
            raise ValueError(f"source: expected one that was declared, found {source}")
        if flags < 0:
            raise ValueError(f"flags: expected 31 bits, found {flags}")
        if tag is not None:
            if PyBytes_GET_SIZE(tag) > MAX_TAG_SIZE:
                raise ValueError(f"tag: expected at most {MAX_TAG_SIZE} bytes, found {len(tag)}")
            need += PyBytes_GET_SIZE(tag)
        if (
            (self.used + need > PyByteArray_GET_SIZE(self.buffer) or self.gap_messages)
            and not self._make_room(need, ts_recv, size, is_source)
        ):
            return 0
        self._append(ts_recv, source, flags, payload, size, tag)
        self.newest_ts = ts_recv
        self.unsynced = True
        if self.unsynced_since == 0:
            self.unsynced_since = ts_recv
        elif ts_recv != 0:
            # Either way: a clock that was set back must not stop us from flushing. Unsigned, so that it cannot overflow.
            if ts_recv > self.unsynced_since:
                age = <uint64_t> ts_recv - <uint64_t> self.unsynced_since
            else:
                age = <uint64_t> self.unsynced_since - <uint64_t> ts_recv
            if age >= <uint64_t> self.flush_interval:
                self._seal(True)        # if the queue is full, the next message tries again
        return 1

    def flush(self, *, bint wait=False):
        if self.closed or self.blocks.failed:
            self._refuse()
        if wait:
            self.blocks.wait_for_room()
        if self._seal(False) and self.gap_messages:
            self._append_gap()
        if wait:
            self.blocks.wait_for_room()
        self._seal(True)
        if wait:
            self.blocks.wait_until_written()
            if self.blocks.failed:
                self._refuse()

    def close(self):
        if not self.closed:
            if self.gap_messages:
                self._seal(False, force=True)
                self._append_gap()
            self._finish()
        if self.blocks is None:
            return
        self.blocks.finish()
        if self.blocks.failed and not self.failure_told:
            self._refuse()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __del__(self):
        if not self.closed:
            warnings.warn(f"recording {self.path} was not closed", ResourceWarning, source=self, stacklevel=1)
            # When the interpreter goes, the thread is gone: waiting for it would be for ever.
            if not sys.is_finalizing():
                self.close()

    cdef bint _make_room(self, Py_ssize_t need, int64_t ts_recv, Py_ssize_t size, bint must) except -1:
        """Start a new block, or make this one larger. False if the message is dropped."""
        if need > MAX_BLOCK_SIZE:
            raise RecordingError(
                f"{self.path}: expected messages of at most {MAX_BLOCK_SIZE - MAX_RECORD_HEAD} bytes, found {size}"
            )
        if self._seal(False):
            if self.gap_messages:
                self._append_gap()
        elif self.stop_when_full:
            self._stop(ts_recv)
        elif not must:
            if self.gap_messages == 0:
                self.gap_first_ts = ts_recv
            self.gap_messages += 1
            self.gap_bytes += size
            self.gap_last_ts = ts_recv
            self.dropped += 1
            self.dropped_bytes += size
            return False
        return True

    cdef bint _seal(self, bint sync, bint force=False) except -1:
        """Hand the current block to the thread. False if the queue is full: it then stays the current one."""
        cdef _Block block
        if self.count == 0 and not (sync and self.unsynced):
            return True
        if not force and self.blocks.is_full():
            return False
        block = _Block.__new__(_Block)
        block.sync = sync
        if self.count:
            block.buffer = self.buffer
            block.used = self.used
            block.count = self.count
            block.first_ts = self.first_ts
            block.last_ts = self.last_ts
            self.buffer = self.blocks.take_buffer()
            self.used = self.count = 0
            self.previous_ts = 0
            self.first_ts = self.last_ts = 0
        self.blocks.submit(block)
        if sync:
            self.unsynced = False
            self.unsynced_since = 0
        return True

    cdef int _append(
        self, int64_t ts_recv, int source, int flags, const char* payload, Py_ssize_t size, bytes tag
    ) except -1:
        cdef Py_ssize_t tag_size = 0 if tag is None else PyBytes_GET_SIZE(tag)
        cdef Py_ssize_t need = self.used + MAX_RECORD_HEAD + tag_size + size
        cdef uint8_t* start
        cdef uint8_t* p
        if need > PyByteArray_GET_SIZE(self.buffer):
            # One message larger than a block, or a declaration that could not wait for room in the queue.
            if need > MAX_BLOCK_SIZE:
                raise RecordingError(f"{self.path}: expected blocks of at most {MAX_BLOCK_SIZE} bytes, found {need}")
            PyByteArray_Resize(self.buffer, need)
        start = <uint8_t*> PyByteArray_AS_STRING(self.buffer)
        p = start + self.used
        p = put_varint(p, zigzag(<uint64_t> ts_recv - self.previous_ts))
        p = put_varint(p, <uint64_t> source)
        p = put_varint(p, <uint64_t> flags)
        p = put_varint(p, <uint64_t> tag_size)
        p = put_varint(p, 0)                # no extension
        p = put_varint(p, <uint64_t> size)
        if tag_size:
            memcpy(p, PyBytes_AS_STRING(tag), tag_size)
            p += tag_size
        if size:
            memcpy(p, payload, size)
        self.used = p + size - start
        self.count += 1
        self.previous_ts = <uint64_t> ts_recv
        if ts_recv != 0:
            if self.first_ts == 0 or ts_recv < self.first_ts:
                self.first_ts = ts_recv
            if self.last_ts == 0 or ts_recv > self.last_ts:
                self.last_ts = ts_recv
        self.messages += 1
        self.payload_bytes += size
        return 0

    cdef int _append_note(self, str tag, bytes payload, int64_t ts_recv) except -1:
        self._append(
            ts_recv, THE_RECORDING, KIND_NOTE, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), tag.encode()
        )
        return 0

    cdef int _append_gap(self) except -1:
        """Say in the recording what is missing here."""
        payload = orjson.dumps({
            "messages": self.gap_messages,
            "bytes": self.gap_bytes,
            "first_ts_recv": self.gap_first_ts,
            "last_ts_recv": self.gap_last_ts,
        })
        self._append_note("dropped", payload, self.gap_last_ts)
        self.gap_messages = self.gap_bytes = 0
        return 0

    cdef int _declare(self, int source, const char* payload, Py_ssize_t size) except -1:
        if source < 1 or source > MAX_SOURCE:
            raise ValueError(f"source: expected a declaration of 1 to {MAX_SOURCE}, found {source}")
        cdef bytes text = PyBytes_FromStringAndSize(payload, size)
        try:
            declared = orjson.loads(text)
        except orjson.JSONDecodeError:
            declared = None
        if not isinstance(declared, dict):
            raise ValueError(f"source {source}: expected its declaration to be a JSON object, found {text[:40]!r}")
        self.declared[source] = True
        self.next_source = max(self.next_source, source + 1)
        return 0

    def _stop(self, ts_recv):
        """End the recording because the disk does not keep up, and say so in it and to the caller."""
        reason = f"the disk did not keep up: {len(self.blocks.jobs)} blocks were waiting to be written"
        self._seal(False, force=True)       # the note may be what this block has no room for
        self._append_note("stopped", orjson.dumps({"reason": reason}), ts_recv)
        self.stopped = True
        self._finish()
        raise RecordingError(f"{self.path}: recording stopped: {reason}")

    def _finish(self):
        cdef _Block last = _Block.__new__(_Block)
        self.closed = True
        self._seal(False, force=True)
        last.is_last = last.sync = True
        self.blocks.submit(last)

    cdef int _refuse(self) except -1:
        if self.blocks is not None and self.blocks.failed:
            self.failure_told = True
            raise RecordingError(f"{self.path}: writing failed: {self.blocks.failure}") from self.blocks.failure
        if self.stopped:
            raise RecordingError(f"{self.path}: recording stopped earlier: the disk did not keep up")
        raise RecordingError(f"{self.path}: the recording is closed")


def _software():
    try:
        return f"picows-feeds {importlib.metadata.version('picows-feeds')}"
    except importlib.metadata.PackageNotFoundError:
        return "picows-feeds"
