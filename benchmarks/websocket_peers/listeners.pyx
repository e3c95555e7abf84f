# cython: language_level=3
"""Compiled listeners, built once against our picows and once against the library of that name: the source is the same."""
from picows.picows cimport WSFrame, WSListener, WSTransport

__all__ = ["CountingListener", "PingListener"]


cdef class CountingListener(WSListener):
    """Counts frames, the CLOSE at the end with them; `ended` is called when the connection is gone."""

    cdef:
        readonly long count
        object ended

    def __init__(self, ended):
        self.ended = ended

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        self.count += 1

    cpdef on_ws_disconnected(self, WSTransport transport):
        self.ended()


cdef class PingListener(WSListener):
    """Sends `payload` for every frame until `remaining` is 0, then hands the last frame to `done`."""

    cdef:
        readonly bytes payload
        public long remaining
        public object done
        object msg_type

    def __init__(self, msg_type, bytes payload not None):
        self.msg_type = msg_type
        self.payload = payload

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        self.remaining -= 1
        if self.remaining > 0:
            transport.send(self.msg_type, self.payload)
        else:
            self.done(frame.get_payload_as_bytes())
