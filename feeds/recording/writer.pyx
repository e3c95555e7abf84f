# cython: language_level=3
"""Writing recordings."""
import errno
import importlib.metadata
import os
import queue
import sys
import threading
import time
import warnings
from datetime import datetime, timezone

import orjson

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from feeds.recording.message cimport KIND_MASK, KIND_NOTE, KIND_SOURCE, RawMessage
from feeds.recording.record cimport (
    FRAME_SIZES_ITEM,
    KERNEL_TIME_ITEM,
    KERNEL_TIME_SIZE,
    MAX_RECORD_HEAD,
    MAX_SOURCE,
    MAX_TAG_SIZE,
    MAX_VARINT_SIZE,
    put_kernel_time,
    put_varint,
    zigzag,
)

from feeds.recording.blocks import BlockWriter, pack_metadata
from feeds.recording.config import RecordingConfig
from feeds.recording.errors import RecordingError
from feeds.recording.format import MAX_BLOCK_SIZE as _MAX_BLOCK_SIZE

__all__ = ["RecordingWriter"]

cdef Py_ssize_t MAX_BLOCK_SIZE = _MAX_BLOCK_SIZE
cdef int THE_RECORDING = 0          # the source of what no connection caused
SPACE_RETRY = 0.5                   # seconds until a full disk is tried again


@cython.final
cdef class _Block:
    """A job for the thread: bytes in [0, used) of `buffer` are `count` records. None of them, only to sync."""
    cdef:
        bytearray buffer
        Py_ssize_t used
        Py_ssize_t count
        int64_t first_ts
        int64_t last_ts
        bint declares
        bint new_file               # of a session of many: before anything else
        bint sync
        bint is_last


@cython.final
cdef class BlockFile:
    def __init__(self, new_part, *, Py_ssize_t buffer_size, Py_ssize_t max_pending, bint wait_for_space):
        self.new_part = new_part
        self.buffer_size = buffer_size
        self.max_pending = max_pending
        self.wait_for_space = wait_for_space
        self.jobs = queue.SimpleQueue()
        self.spare = []
        self.changed = threading.Condition()
        self.file = new_part(0)
        self.thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self.thread.start()

    @property
    def blocks(self):
        return self.blocks_before + self.file.blocks

    @property
    def bytes_written(self):
        return self.bytes_before + self.file.size

    @property
    def pending(self):
        """Jobs not done yet, the one in hand included."""
        return self.submitted - self.done

    def is_full(self):
        return self.submitted - self.done >= self.max_pending

    def submit(self, _Block block not None):
        """Queue a block, whose buffer is then the thread's. Whether there is room is for the caller to ask."""
        self.submitted += 1
        self.jobs.put(block)
        if block.is_last:
            with self.changed:      # the thread may be waiting for room on the disk
                self.closing = True
                self.changed.notify_all()

    def take_buffer(self):
        return self.spare.pop() if self.spare else bytearray(self.buffer_size)

    def wait_for_room(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.is_full())

    def wait_until_written(self):
        submitted = self.submitted
        with self.changed:
            self.changed.wait_for(lambda: self.done >= submitted)

    def finish(self):
        """Wait until everything queued is written and the file is closed. The last job must have been submitted."""
        self.thread.join()

    def _run(self):
        cdef _Block block
        cdef bint is_last = False
        while not is_last:
            block = self.jobs.get()
            is_last = block.is_last
            while self.failure is None:
                try:
                    self._do(block)
                    self.stalled = None
                    break
                except BaseException as error:      # whatever it is, the owner of the writer must hear of it
                    if not self._may_try_again(error):
                        self.failure = error
                        self.failed = True
            if is_last:
                try:
                    self.file.close()
                except OSError as error:
                    self.failure = self.failure or error
                    self.failed = True
            # An oversized one was for one message, and is let go.
            if block.buffer is not None and len(block.buffer) == self.buffer_size:
                self.spare.append(block.buffer)
            with self.changed:
                self.done += 1
                self.changed.notify_all()
            block = None

    def _do(self, _Block block):
        """Do a job. What has been done of it is taken out of it, so that the rest can be tried again."""
        if block.new_file:
            following = self.new_part(self.part + 1)
            try:
                self.file.finish()
                self.file.sync()
            except BaseException:
                following.discard()
                raise
            self.file.close()
            self.blocks_before += self.file.blocks
            self.bytes_before += self.file.size
            self.file = following
            self.part += 1
            block.new_file = False
        if block.count:
            with memoryview(block.buffer)[:block.used] as raw:
                self.file.write_messages(raw, block.count, block.first_ts, block.last_ts, declares=block.declares)
            block.count = 0
        if block.is_last:
            self.file.finish()
        if block.sync:
            self.file.sync()

    def _may_try_again(self, error):
        """Wait a while if the disk is full and may be emptied; False for any other error, and once we are closing."""
        if not (self.wait_for_space and isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            return False
        with self.changed:
            if self.closing:
                return False
            self.stalled = error
            self.changed.wait_for(lambda: self.closing, SPACE_RETRY)
        return True


cdef class RecordingWriter:
    """Write a recording in our own format."""

    def __cinit__(self):
        self.closed = True      # until there is something to close

    def __init__(self, path, *, metadata=None, **options):
        config = RecordingConfig(**options)
        is_file = hasattr(path, "write")
        self.path = str(getattr(path, "name", repr(path))) if is_file else os.fsdecode(path)
        self.is_rotating = config.rotate_bytes is not None or config.rotate_interval is not None
        if is_file and (self.is_rotating or config.append):
            raise ValueError("path: expected the name of a file or folder to append to or rotate in, found a file object")
        self.stop_when_full = config.on_full == "stop"
        self.flush_interval = <int64_t> (config.flush_interval * 1e9)
        self.rotate_bytes = config.rotate_bytes or 0
        self.rotate_interval = <int64_t> ((config.rotate_interval or 0) * 1e9)
        # The first message tells in which interval we are.
        self.rotate_at = INT64_MIN if self.rotate_interval else INT64_MAX
        self.next_source = 1
        self.declared[THE_RECORDING] = True
        created = time.time_ns()
        described = {
            "software": _software(),
            "created": created,
            "clock": "ts_recv is nanoseconds since 1970-01-01T00:00:00Z, from the system's real-time clock",
        } | (metadata or {})
        level = config.compression_level
        if self.is_rotating:
            self.declarations = {}
            os.makedirs(self.path, exist_ok=True)
            session = os.urandom(8).hex()
            folder = self.path          # not `self`, which the thread must not keep alive

            def new_part(part):
                packed = pack_metadata(described | {"session": session, "part": part})
                return BlockWriter(os.path.join(folder, _part_name(created, part)), packed, level=level)
        else:
            packed = pack_metadata(described)

            def new_part(part):
                return BlockWriter(path, packed, level=level, append=config.append)

        self.blocks = BlockFile(
            new_part, buffer_size=config.block_size, max_pending=config.max_pending_blocks,
            wait_for_space=not self.stop_when_full and not is_file,
        )
        self.buffer = self.blocks.take_buffer()
        self.closed = False

    @property
    def problem(self):
        if self.blocks.failure is not None:
            return f"writing failed: {self.blocks.failure}"
        if self.stopped is not None:
            return f"recording stopped: {self.stopped}"
        stalled = self.blocks.stalled
        return None if stalled is None else f"waiting for room on the disk: {stalled}"

    @property
    def pending_blocks(self):
        return self.blocks.pending

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
        self.write_message(self.newest_ts if ts_recv is None else ts_recv, source, KIND_SOURCE, payload)
        return source

    def declare_again(self, source, exchange, url, **more):
        if not 0 < source <= MAX_SOURCE or not self.declared[source]:
            raise ValueError(f"source: expected one that was declared, found {source}")
        self.write_message(self.newest_ts, source, KIND_SOURCE, orjson.dumps({"exchange": exchange, "url": url} | more))

    def note(self, str tag not None, obj, *, ts_recv=None):
        self.write_message(self.newest_ts if ts_recv is None else ts_recv, THE_RECORDING, KIND_NOTE, orjson.dumps(obj), tag)

    def write_message(self, int64_t ts_recv, int source, int flags, payload, str tag="", bytes extension not None=b""):
        cdef Py_buffer view
        cdef bytes tag_bytes = tag.encode("utf-8", "surrogateescape") if tag else None
        cdef bint is_recorded
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            is_recorded = self._write(
                ts_recv, source, flags, <const char*> view.buf, view.len, tag_bytes,
                PyBytes_AS_STRING(extension), PyBytes_GET_SIZE(extension),
            )
        finally:
            PyBuffer_Release(&view)
        if not is_recorded and (self.closed or self.blocks.failed):
            self._refuse()
        return is_recorded

    cpdef bint write(self, RawMessage message) except -1:
        return self.write_message(
            message.ts_recv, message.source, message.flags, message.payload, message.tag, message.extension
        )

    cdef int write_view(
        self, int64_t ts_recv, int source, int flags, const char* payload, Py_ssize_t size, bytes tag=None,
        int64_t ts_kernel=0, const uint64_t* frame_sizes=NULL, Py_ssize_t frames=0
    ) except -1:
        cdef uint8_t kernel_time[KERNEL_TIME_SIZE]
        cdef bytes extension
        if frames > 1:
            extension = _pack_extension(ts_kernel, frame_sizes, frames)
            return self._write(
                ts_recv, source, flags, payload, size, tag, PyBytes_AS_STRING(extension), PyBytes_GET_SIZE(extension)
            )
        if ts_kernel != 0:
            put_kernel_time(kernel_time, ts_kernel)
            return self._write(
                ts_recv, source, flags, payload, size, tag, <const char*> kernel_time, KERNEL_TIME_SIZE
            )
        return self._write(ts_recv, source, flags, payload, size, tag, NULL, 0)

    cdef int _write(
        self, int64_t ts_recv, int source, int flags, const char* payload, Py_ssize_t size, bytes tag,
        const char* extension, Py_ssize_t extension_size
    ) except -1:
        cdef Py_ssize_t need = MAX_RECORD_HEAD + size + extension_size
        cdef bint is_source = flags & KIND_MASK == KIND_SOURCE
        if self.closed or self.blocks.failed:
            return self._lose(size)
        if ts_recv >= self.rotate_at:
            self._rotate(ts_recv)
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
        self._append(ts_recv, source, flags, payload, size, tag, extension, extension_size)
        self.newest_ts = ts_recv
        self.unsynced = True
        if self.unsynced_since == 0:
            self.unsynced_since = ts_recv
        elif ts_recv != 0 and self._age(ts_recv) >= <uint64_t> self.flush_interval:
            self._seal(True)        # if the queue is full, the next message tries again
        return 1

    def flush_due(self, int64_t now):
        if self.closed or self.blocks.failed or not self.unsynced:
            return
        if self.unsynced_since == 0:        # only messages of unknown time: they are no older than this
            self.unsynced_since = now
        elif self._age(now) >= <uint64_t> self.flush_interval:
            self._seal(True)

    cdef inline uint64_t _age(self, int64_t now) noexcept:
        """How long the oldest message that is not on the disk has waited."""
        # Either way: a clock that was set back must not stop us from flushing. Unsigned, so that it cannot overflow.
        if now > self.unsynced_since:
            return <uint64_t> now - <uint64_t> self.unsynced_since
        return <uint64_t> self.unsynced_since - <uint64_t> now

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
        if (self.blocks.failed or self.stopped is not None) and not self.failure_told:
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
            return self._lose(size)
        elif not must:
            if self.gap_messages == 0:
                self.gap_first_ts = ts_recv
            self.gap_messages += 1
            self.gap_bytes += size
            self.gap_last_ts = ts_recv
            return self._lose(size)
        return True

    cdef bint _lose(self, Py_ssize_t size) except -1:
        """Count a message that is not recorded, because the disk does not take it."""
        if self.closed and self.stopped is None and not self.blocks.failed:
            self._refuse()
        self.dropped += 1
        self.dropped_bytes += size
        return False

    cdef int _rotate(self, int64_t ts_recv) except -1:
        """Begin the next file if its time has come, or the last one is large enough."""
        cdef _Block block
        now = ts_recv or self.newest_ts
        period = now // self.rotate_interval if self.rotate_interval else 0
        if self.is_file_full or (self.period is not None and period > self.period):
            self._seal(False, force=True)
            block = _Block.__new__(_Block)
            block.new_file = True
            self.blocks.submit(block)
            self.part += 1
            self.is_file_full = False
            for source, payload in self.declarations.items():
                self._append(
                    ts_recv, source, KIND_SOURCE, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), None, NULL, 0
                )
                self.declares = True
        if self.rotate_interval and now:
            self.period = period
            self.rotate_at = min((period + 1) * self.rotate_interval, INT64_MAX)
        else:
            self.rotate_at = INT64_MIN if self.rotate_interval else INT64_MAX
        return 0

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
            block.declares = self.declares
            self.buffer = self.blocks.take_buffer()
            self.used = self.count = 0
            self.declares = False
            self.previous_ts = 0
            self.first_ts = self.last_ts = 0
        self.blocks.submit(block)
        if sync:
            self.unsynced = False
            self.unsynced_since = 0
        if self.rotate_bytes and self.blocks.part == self.part and self.blocks.file.size >= self.rotate_bytes:
            self.is_file_full = True
            self.rotate_at = INT64_MIN          # with the next message
        return True

    cdef int _append(
        self, int64_t ts_recv, int source, int flags, const char* payload, Py_ssize_t size, bytes tag,
        const char* extension, Py_ssize_t extension_size
    ) except -1:
        cdef Py_ssize_t tag_size = 0 if tag is None else PyBytes_GET_SIZE(tag)
        cdef Py_ssize_t need = self.used + MAX_RECORD_HEAD + tag_size + extension_size + size
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
        p = put_varint(p, <uint64_t> extension_size)
        p = put_varint(p, <uint64_t> size)
        if tag_size:
            memcpy(p, PyBytes_AS_STRING(tag), tag_size)
            p += tag_size
        if extension_size:
            memcpy(p, extension, extension_size)
            p += extension_size
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
            ts_recv, THE_RECORDING, KIND_NOTE, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), tag.encode(),
            NULL, 0,
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
        self.declares = True
        if self.is_rotating:
            self.declarations[source] = text
        self.next_source = max(self.next_source, source + 1)
        return 0

    def _stop(self, ts_recv):
        """End the recording because the disk does not keep up, and say so in it."""
        reason = f"the disk did not keep up: {self.blocks.pending} blocks were waiting to be written"
        self._seal(False, force=True)       # the note may be what this block has no room for
        self._append_note("stopped", orjson.dumps({"reason": reason}), ts_recv)
        self.stopped = reason
        self._finish()

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
        if self.stopped is not None:
            when = " earlier" if self.failure_told else ""
            self.failure_told = True
            raise RecordingError(f"{self.path}: recording stopped{when}: {self.stopped}")
        raise RecordingError(f"{self.path}: the recording is closed")


cdef bytes _pack_extension(int64_t ts_kernel, const uint64_t* frame_sizes, Py_ssize_t frames):
    """Return the extension of a message that came in several frames."""
    cdef bytearray packed = bytearray(KERNEL_TIME_SIZE + (frames + 2) * MAX_VARINT_SIZE)
    cdef uint8_t* start = <uint8_t*> PyByteArray_AS_STRING(packed)
    cdef uint8_t* p = start
    cdef uint8_t* sizes = start + KERNEL_TIME_SIZE + 2 * MAX_VARINT_SIZE
    cdef uint8_t* end = sizes
    cdef Py_ssize_t i
    for i in range(frames):
        end = put_varint(end, frame_sizes[i])
    if ts_kernel != 0:
        p = put_kernel_time(p, ts_kernel)
    p = put_varint(p, FRAME_SIZES_ITEM)
    p = put_varint(p, <uint64_t> (end - sizes))
    return PyBytes_FromStringAndSize(<const char*> start, p - start) + PyBytes_FromStringAndSize(<const char*> sizes, end - sizes)


def _part_name(int64_t created, int part):
    """Return the name of a file of a session: in the order of names, runs follow one another and the files of a run too."""
    moment = datetime.fromtimestamp(created // 1_000_000_000, timezone.utc)
    return f"{moment:%Y%m%dT%H%M%S}.{created % 1_000_000_000:09d}Z-{part:06d}.feeds"


def _software():
    try:
        return f"picows-feeds {importlib.metadata.version('picows-feeds')}"
    except importlib.metadata.PackageNotFoundError:
        return "picows-feeds"
