# cython: language_level=3, boundscheck=False, wraparound=False
"""The receiver: frames in, recorded, and through the pipeline; the one place on the data path that reads a clock."""
from libc.stdint cimport int64_t

from feeds.clock cimport wall_ns
from feeds.pipeline cimport Pipeline
from feeds.recording.message cimport (
    KIND_BINARY,
    KIND_CONNECTED,
    KIND_DISCONNECTED,
    KIND_REPLY,
    KIND_REQUEST,
    KIND_SENT,
    KIND_STATUS,
    KIND_TEXT,
    KIND_TICK,
    LAST_IN_BATCH,
)
from feeds.recording.writer cimport RecordingWriter
from picows.assembler cimport MessageAssembler
from picows.frame cimport WSFrame, WSMsgType
from picows.transport cimport WSTransport

import msgspec

__all__ = ["Receiver"]


cdef class Receiver(WSListener):
    """Listens to one connection after the other of a line, and gives its pipeline what happens, recording it first.

    `shell.on_requests()` is called when the decoder has asked for something. All methods are called inside the event loop.
    """

    def __init__(self, Pipeline pipeline not None, shell, *, RecordingWriter writer=None, Py_ssize_t max_message_size):
        self.pipeline = pipeline
        self.writer = writer
        self.source = pipeline.source
        self.disconnect_reason = ""
        self._shell = shell
        self.max_message_size = max_message_size

    cpdef on_ws_connected(self, WSTransport transport):
        # UTF-8 is left to the decoder, which refuses what it cannot read.
        self._assembler = MessageAssembler(self.max_message_size, check_utf8=False)
        self._in_batch = False
        self.is_connected = True
        self.disconnect_reason = ""
        self.ts_recv = wall_ns()
        self._record(KIND_CONNECTED, b"", None)
        self.pipeline.on_connected("", self.ts_recv)

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self.is_detached:
            return
        try:
            self._receive(frame)
        except BaseException:
            self.is_detached = True      # whoever raised is not called again; the connection closes, the session ends
            raise

    cdef int _receive(self, WSFrame frame) except -1:
        cdef int kind
        cdef bint last = frame.last_in_buffer
        if not self._in_batch:
            self.ts_recv = wall_ns()
            self._in_batch = True
            if self.pipeline.latency is not None and frame.kernel_time_ns:
                self.pipeline.latency.kernel_to_read.add(self.ts_recv - frame.kernel_time_ns)
        self.frames += 1
        if frame.msg_type < WSMsgType.CLOSE and self._add(frame):
            kind = KIND_TEXT if self._assembler.msg_type == WSMsgType.TEXT else KIND_BINARY
            if last:
                self._in_batch = False
                kind |= LAST_IN_BATCH
            if self.writer is not None:
                self.writer.write_view(self.ts_recv, self.source, kind, self._assembler.payload_ptr,
                                       self._assembler.payload_size, None, frame.kernel_time_ns, self._frame_sizes,
                                       self._message_frames if self._message_frames <= MAX_FRAME_SIZES else 0)
            self.pipeline.on_view(self._assembler.payload_ptr, self._assembler.payload_size, self.ts_recv, last)
        elif last:
            self._end_batch()
        if last and self.pipeline.decoder._requests:
            self._shell.on_requests()
        return 0

    cdef inline bint _add(self, WSFrame frame) except -1:
        """Add a data frame to its message, and its size to the sizes; True if it completes the message."""
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._message_frames = 0
        if self._message_frames < MAX_FRAME_SIZES:
            self._frame_sizes[self._message_frames] = frame.payload_size
        self._message_frames += 1
        return self._assembler.add(frame)

    cpdef on_ws_disconnected(self, WSTransport transport):
        self.is_connected = False
        if self.is_detached:
            return
        self.ts_recv = wall_ns()
        reason = self.disconnect_reason or _reason(transport)
        self._record(KIND_DISCONNECTED, reason.encode(), None)
        self.pipeline.on_disconnected(reason, self.ts_recv)

    def detach(self):
        """End the session: nothing is recorded or passed on any more, and the books stay as they are."""
        self.is_detached = True

    def reply(self, str tag, bytes payload):
        """A REST reply has come."""
        self.ts_recv = wall_ns()
        self._record(KIND_REPLY, payload, tag)
        self.pipeline.on_reply(tag, payload, self.ts_recv)
        if self.pipeline.decoder._requests:
            self._shell.on_requests()

    def fetch_failed(self, str tag, str reason):
        """A REST request has failed for good."""
        self._decide({"status": "fetch_failed", "tag": tag, "reason": reason})
        self.pipeline.on_fetch_failed(tag, self.ts_recv, reason)

    def status(self, str status, str reason):
        """The shell has found something out about the connection."""
        self._decide({"status": status, "reason": reason})
        self.pipeline.on_status(status, reason, self.ts_recv)

    def tick(self):
        """Nothing has arrived for a while: let timers see the time."""
        self.ts_recv = wall_ns()
        self._end_batch()

    def sent(self, bytes payload):
        """We are about to send a message: it is recorded."""
        self._record(KIND_SENT, payload, None)

    def requested(self, str url, str tag):
        """We are about to make a REST request: it is recorded."""
        self._record(KIND_REQUEST, url.encode(), tag)

    def _decide(self, decision):
        self.ts_recv = wall_ns()
        self._record(KIND_STATUS, msgspec.json.encode(decision), None)

    cdef int _end_batch(self) except -1:
        """End a batch whose last frame completed no message."""
        self._in_batch = False
        self._record(KIND_TICK, b"", None)
        self.pipeline.on_tick(self.ts_recv)
        return 0

    cdef int _record(self, int flags, bytes payload, str tag) except -1:
        if self.writer is not None:
            self.writer.write_view(self.ts_recv, self.source, flags, payload, len(payload),
                                   None if tag is None else tag.encode())
        return 0


def _reason(transport):
    """Say who closed the connection, and how."""
    handshake = transport.close_handshake
    if handshake is None:
        return "connection lost without a close frame"
    code, reason = handshake.recv if handshake.recv is not None else handshake.sent
    who = "peer" if handshake.recv is not None else "we"
    return f"{who} closed with {int(code)}" + (f": {reason}" if reason else "")
