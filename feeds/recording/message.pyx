# cython: language_level=3
"""The unit of recording and replay: one message, as it came off the wire."""
import enum

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from feeds.recording.record cimport FRAME_SIZES_ITEM, KERNEL_TIME_ITEM, find_item, get_varint

__all__ = ["DRAINED", "LAST_IN_BATCH", "Kind", "RawMessage"]


class Kind(enum.IntEnum):
    """What a message is: the low 8 bits of `RawMessage.flags`."""

    SOURCE = KIND_SOURCE
    TEXT = KIND_TEXT
    BINARY = KIND_BINARY
    SENT = KIND_SENT
    REQUEST = KIND_REQUEST
    REPLY = KIND_REPLY
    CONNECTED = KIND_CONNECTED
    DISCONNECTED = KIND_DISCONNECTED
    STATUS = KIND_STATUS
    TICK = KIND_TICK
    NOTE = KIND_NOTE


cdef Py_ssize_t EXCERPT_SIZE = 40


@cython.final
@cython.freelist(64)
cdef class RawMessage:
    """One thing that happened, and when."""

    def __init__(
        self, int64_t ts_recv, int source, int flags, str tag not None="", bytes payload not None=b"",
        bytes extension not None=b"",
    ):
        self.ts_recv = ts_recv
        self.source = source
        self.flags = flags
        self.tag = tag
        self.payload = payload
        self.extension = extension

    @property
    def kind(self):
        cdef int kind = self.flags & KIND_MASK
        return Kind(kind) if kind <= KIND_NOTE else kind

    @property
    def last_in_batch(self):
        return self.flags & LAST_IN_BATCH != 0

    @property
    def drained(self):
        return self.flags & DRAINED != 0

    @property
    def ts_kernel(self):
        return kernel_time(PyBytes_AS_STRING(self.extension), PyBytes_GET_SIZE(self.extension))

    @property
    def frame_sizes(self):
        cdef const uint8_t* p = <const uint8_t*> PyBytes_AS_STRING(self.extension)
        cdef uint64_t size, value
        cdef const uint8_t* end
        p = find_item(p, p + PyBytes_GET_SIZE(self.extension), FRAME_SIZES_ITEM, &size)
        if p == NULL:
            return None
        sizes = []
        end = p + size
        while p < end:
            p = get_varint(p, end, &value)
            if p == NULL:
                return None
            sizes.append(value)
        return tuple(sizes)

    def __eq__(self, other):
        if not isinstance(other, RawMessage):
            return NotImplemented
        cdef RawMessage that = other
        return (
            self.ts_recv == that.ts_recv and self.source == that.source and self.flags == that.flags
            and self.tag == that.tag and self.payload == that.payload and self.extension == that.extension
        )

    def __hash__(self):
        return hash((self.ts_recv, self.source, self.flags, self.tag, self.payload, self.extension))

    def __reduce__(self):
        return RawMessage, (self.ts_recv, self.source, self.flags, self.tag, self.payload, self.extension)

    def __repr__(self):
        kind = self.kind
        flags = kind.name if isinstance(kind, Kind) else str(kind)
        if self.flags & LAST_IN_BATCH:
            flags += "|LAST_IN_BATCH"
        if self.flags & DRAINED:
            flags += "|DRAINED"
        rest = self.flags & ~(KIND_MASK | LAST_IN_BATCH | DRAINED)
        if rest:
            flags += f"|{rest:#x}"
        tag = f" tag={self.tag!r}" if self.tag else ""
        if len(self.payload) > EXCERPT_SIZE:
            payload = f"{self.payload[:EXCERPT_SIZE]!r}... {len(self.payload)} bytes"
        else:
            payload = repr(self.payload)
        extension = f" extension={self.extension!r}" if self.extension else ""
        return f"<RawMessage {self.ts_recv} source={self.source} {flags}{tag}{extension} {payload}>"


cdef RawMessage make_message(int64_t ts_recv, int source, int flags, str tag, bytes payload, bytes extension=b""):
    cdef RawMessage message = RawMessage.__new__(RawMessage)
    message.ts_recv = ts_recv
    message.source = source
    message.flags = flags
    message.tag = tag
    message.payload = payload
    message.extension = extension
    return message


cdef int64_t kernel_time(const char* extension, Py_ssize_t size) noexcept:
    cdef uint64_t item_size
    cdef int64_t ts = 0
    cdef const uint8_t* p = <const uint8_t*> extension
    p = find_item(p, p + size, KERNEL_TIME_ITEM, &item_size)
    if p != NULL and item_size == 8:
        memcpy(&ts, p, 8)
    return ts
