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
from picows.frame cimport WSCloseCode, WSFrame, WSMsgType
from picows.transport cimport WSTransport

import asyncio

import msgspec

__all__ = ["Receiver"]


cdef class Receiver(WSListener):
    """Listens to one connection after the other of a line, and gives its pipeline what happens, recording it first.

    `shell.on_requests()` is called when the decoder has asked for something. All methods are called inside the event loop.

    A batch is what one read brought. With `drain_reads` it goes on under TLS, whose layer alone may read the socket, while
    more has arrived: over so many reads more at most, and no longer than `drain_timeout` seconds, since what has arrived
    may be a part of a record that is long in coming. (Without TLS `ws_connect(read_until_drained=)` does this.)
    """

    def __init__(self, Pipeline pipeline not None, shell, *, RecordingWriter writer=None, Py_ssize_t max_message_size,
                 int drain_reads=0, double drain_timeout=0.001):
        self.pipeline = pipeline
        self.writer = writer
        self.source = pipeline.source
        self._disconnect_reason = ""
        self._shell = shell
        self.max_message_size = max_message_size
        self.drain_reads = drain_reads
        self.drain_timeout = drain_timeout

    cpdef on_ws_connected(self, WSTransport transport):
        # UTF-8 is left to the decoder, which refuses what it cannot read.
        self._assembler = MessageAssembler(self.max_message_size, check_utf8=False)
        self._transport = transport
        self._in_read = False
        self.is_connected = True
        self._disconnect_reason = ""
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
        if not self._in_read:
            self.ts_recv = wall_ns()
            self._in_read = True
            if self.pipeline.latency is not None and frame.kernel_time_ns:
                self.pipeline.latency.kernel_to_read.add(self.ts_recv - frame.kernel_time_ns)
        if last:
            self._in_read = False
            if self.drain_reads and self._drains_on():
                last = False
            else:
                self._batch_ended()
        self.frames += 1
        if frame.msg_type < WSMsgType.CLOSE and self._add(frame):
            kind = KIND_TEXT if self._assembler.msg_type == WSMsgType.TEXT else KIND_BINARY
            if last:
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

    cdef bint _drains_on(self) except -1:
        if not self._transport.is_secure or self._more_reads == self.drain_reads or self._transport.is_drained():
            return False
        self._more_reads += 1
        if self._drain_timer is None:
            self._drain_timer = asyncio.get_running_loop().call_later(self.drain_timeout, self._drained_long_enough)
        return True

    def _drained_long_enough(self):
        try:
            self._end_batch()
            if self.pipeline.decoder._requests:
                self._shell.on_requests()
        except Exception as error:
            self.is_detached = True      # as where a frame brings it about
            self._transport.fail(error, WSCloseCode.INTERNAL_ERROR, "")

    cdef int _batch_ended(self) except -1:
        self._more_reads = 0
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
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
        self._batch_ended()
        self._transport = None
        self.is_connected = False
        if self.is_detached:
            return
        self.ts_recv = wall_ns()
        reason = self._disconnect_reason or _reason(transport)
        self._record(KIND_DISCONNECTED, reason.encode(), None)
        self.pipeline.on_disconnected(reason, self.ts_recv)

    def detach(self):
        """End the session: nothing is recorded or passed on any more, and the books stay as they are."""
        self.is_detached = True
        self._batch_ended()

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

    def send(self, bytes payload):
        """Send a text message, and record it; dropped where there is no connection."""
        if self._transport is not None:
            self._record(KIND_SENT, payload, None)
            self._transport.send(WSMsgType.TEXT, payload)

    def disconnect(self, str reason):
        """Close the connection, if there is one; `reason` is for the record."""
        self._disconnect_reason = reason
        if self._transport is not None:
            self._transport.disconnect()

    def requested(self, str url, str tag):
        """We are about to make a REST request: it is recorded."""
        self._record(KIND_REQUEST, url.encode(), tag)

    def _decide(self, decision):
        self.ts_recv = wall_ns()
        self._record(KIND_STATUS, msgspec.json.encode(decision), None)

    cdef int _end_batch(self) except -1:
        """End a batch without a message: its last frame completed none, or its last message did not know that it is the last."""
        self._batch_ended()
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
