# cython: language_level=3, boundscheck=False, wraparound=False
"""From frames to messages: RFC 6455 sections 5.4 and 8.1."""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from picows.frame cimport WSCloseCode, WSFrame, WSMsgType
from picows.utf8 cimport picows_utf8_feed, picows_utf8_start

from picows.errors import WSProtocolError

cdef enum:
    # Kept between messages: most fragmented messages fit, and an idle connection does not sit on a large one's memory.
    KEPT_CAPACITY = 64 * 1024


cdef class MessageAssembler:
    """Puts the fragments of messages together, for one direction of one connection.

    max_message_size -- bytes; a longer message is rejected with MESSAGE_TOO_BIG before it is complete.
    check_utf8 -- reject text that is not UTF-8 with INVALID_TEXT, at the first frame that shows it. Compressed text
        (RSV1 set) is left alone.
    """

    def __cinit__(self, Py_ssize_t max_message_size=10 * 1024 * 1024, bint check_utf8=True):
        if max_message_size < 1:
            raise ValueError(f"expected a max_message_size of at least 1, found {max_message_size}")
        self.max_message_size = max_message_size
        self.checks_utf8 = check_utf8

    def __dealloc__(self):
        PyMem_RawFree(self.data)

    cdef int add(self, WSFrame frame) except -1:
        if self.error is not None:
            raise self.error
        if frame.msg_type > WSMsgType.BINARY:
            raise ValueError(f"expected a data frame, found {frame}")
        if (frame.msg_type == WSMsgType.CONTINUATION) != self.in_message:
            self._reject(
                WSCloseCode.PROTOCOL_ERROR,
                "new message inside a fragmented one" if self.in_message else "continuation of no message",
            )
        if not self.in_message:
            self.msg_type = frame.msg_type
            self.rsv1 = frame.rsv1
            self.utf8 = picows_utf8_start()
            self.size = 0
        if frame.payload_size > self.max_message_size - self.size:
            self._reject(
                WSCloseCode.MESSAGE_TOO_BIG,
                f"message of {self.size + frame.payload_size} bytes or more, at most {self.max_message_size} allowed",
            )
        if self.checks_utf8 and self.msg_type == WSMsgType.TEXT and not self.rsv1:
            self._check_text(frame.payload_ptr, frame.payload_size, frame.fin)

        if frame.fin and not self.in_message:
            self.payload_ptr = frame.payload_ptr
            self.payload_size = frame.payload_size
            return 1
        self._append(frame.payload_ptr, frame.payload_size)
        self.in_message = not frame.fin
        self.payload_ptr = self.data
        self.payload_size = self.size if frame.fin else 0
        return frame.fin

    def add_frame(self, WSFrame frame not None):
        """Add a data frame; return the message as `(msg_type, payload)` if it is complete now, else None.

        ValueError for a control frame; WSProtocolError, with the close code, for one that breaks RFC 6455 or the limit.
        """
        if not self.add(frame):
            return None
        return self.msg_type, PyBytes_FromStringAndSize(self.payload_ptr, self.payload_size)

    cdef int _append(self, const char* payload, Py_ssize_t size) except -1:
        cdef Py_ssize_t capacity = self.capacity
        cdef char* data
        if self.size == 0 and capacity > KEPT_CAPACITY:
            capacity = KEPT_CAPACITY
        while capacity < self.size + size:
            capacity = 2 * capacity if capacity else 1024
        if capacity != self.capacity:
            data = <char*> PyMem_RawRealloc(self.data, capacity)
            if data == NULL:
                raise MemoryError(f"no memory for a message of {self.size + size} bytes")
            self.data = data
            self.capacity = capacity
        if size:
            memcpy(self.data + self.size, payload, size)
            self.size += size
        return 0

    cdef int _check_text(self, const char* payload, Py_ssize_t size, bint is_last) except -1:
        if not picows_utf8_feed(&self.utf8, <const uint8_t*> payload, size) or (is_last and self.utf8.missing):
            self._reject(WSCloseCode.INVALID_TEXT, "text that is not UTF-8")
        return 0

    cdef int _reject(self, int code, str message) except -1:
        self.error = WSProtocolError(code, message)
        raise self.error
