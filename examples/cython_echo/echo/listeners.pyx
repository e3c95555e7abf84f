# cython: language_level=3
"""Both sides of an echo."""
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport

__all__ = ["Echo", "Pinger"]

cdef enum:
    HEADROOM = 14                # send_reuse_external_buffer() writes the header in front of the message
    MAX_MESSAGE = 4096


cdef class Echo(WSListener):
    """The server: sends every message back. The core answers PING and CLOSE."""

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if frame.msg_type != WSMsgType.CLOSE:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin)


cdef class Pinger(WSListener):
    """The client: one message at a time, each with its number in front, until `rounds` of them have come back."""

    cdef:
        readonly uint32_t sent
        readonly uint32_t wrong          # answers that were not what had been sent
        uint32_t rounds
        Py_ssize_t size
        char message[MAX_MESSAGE]
        char buffer[HEADROOM + MAX_MESSAGE]

    def __init__(self, uint32_t rounds, Py_ssize_t size):
        if not 4 <= size <= MAX_MESSAGE:
            raise ValueError(f"expected a size of 4 to {MAX_MESSAGE} bytes, found {size}")
        self.rounds = rounds
        self.size = size

    cpdef on_ws_connected(self, WSTransport transport):
        self._send_next(transport)

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if frame.msg_type != WSMsgType.BINARY:
            return
        if frame.payload_size != self.size or memcmp(frame.payload_ptr, self.message, self.size) != 0:
            self.wrong += 1
        if self.sent < self.rounds:
            self._send_next(transport)
        else:
            transport.send_close()

    cdef int _send_next(self, WSTransport transport) except -1:
        self.sent += 1
        memcpy(self.message, &self.sent, sizeof(self.sent))
        # A client's message is masked where it lies, so the original stays aside.
        memcpy(self.buffer + HEADROOM, self.message, self.size)
        transport.send_reuse_external_buffer(WSMsgType.BINARY, self.buffer + HEADROOM, self.size)
        return 0
