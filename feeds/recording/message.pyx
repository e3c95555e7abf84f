# cython: language_level=3
"""The unit of recording and replay: one message, as it came off the wire."""
import enum

cimport cython

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

    def __init__(self, int64_t ts_recv, int source, int flags, str tag not None="", bytes payload not None=b""):
        self.ts_recv = ts_recv
        self.source = source
        self.flags = flags
        self.tag = tag
        self.payload = payload

    @property
    def kind(self):
        cdef int kind = self.flags & KIND_MASK
        return Kind(kind) if kind <= KIND_NOTE else kind

    @property
    def last_in_batch(self):
        return self.flags & LAST_IN_BATCH != 0

    def __eq__(self, other):
        if not isinstance(other, RawMessage):
            return NotImplemented
        cdef RawMessage that = other
        return (
            self.ts_recv == that.ts_recv and self.source == that.source and self.flags == that.flags
            and self.tag == that.tag and self.payload == that.payload
        )

    def __hash__(self):
        return hash((self.ts_recv, self.source, self.flags, self.tag, self.payload))

    def __reduce__(self):
        return RawMessage, (self.ts_recv, self.source, self.flags, self.tag, self.payload)

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
        return f"<RawMessage {self.ts_recv} source={self.source} {flags}{tag} {payload}>"


cdef RawMessage make_message(int64_t ts_recv, int source, int flags, str tag, bytes payload):
    cdef RawMessage message = RawMessage.__new__(RawMessage)
    message.ts_recv = ts_recv
    message.source = source
    message.flags = flags
    message.tag = tag
    message.payload = payload
    return message
