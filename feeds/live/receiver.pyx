# cython: language_level=3, boundscheck=False, wraparound=False
"""The receiver: frames in, recorded, and through the pipeline; the one place on the data path that reads a clock."""
from libc.stdint cimport int64_t, uint64_t

from feeds.clock cimport wall_ns
from feeds.large cimport LargeMessage
from feeds.live.arbiter cimport Arbiter
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
import functools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from feeds.recording.format import MAX_BLOCK_SIZE

__all__ = ["Receiver"]

DEFAULT_LARGE_MESSAGE = 512 * 1024


@functools.cache
def _thread():
    """The one that reads the levels of large messages: one at a time, whatever comes."""
    return ThreadPoolExecutor(1, thread_name_prefix="feeds-large-messages")


cdef class Receiver(WSListener):
    """Listens to one connection after the other of a line, and gives its pipeline what happens, recording it first.

    `shell.on_requests()` is called when the decoder has asked for something. All methods are called inside the event loop.

    With an `arbiter` it is one of several that share the pipeline, with the number `leg`. Then only what the arbiter admits
    is recorded and passed on, and the pipeline is disconnected when the last leg in step is; `shell.on_leg_lost(leg, reason)`
    is called whenever a connection has ended. What holds for the line as a whole (replies, statuses, ticks) is given to the
    receiver of the primary leg.

    A batch is what one read brought. With `drain_reads` it goes on under TLS, whose layer alone may read the socket, while
    more has arrived: over so many reads more at most, and no longer than `drain_timeout` seconds, since what has arrived
    may be a part of a record that is long in coming. (Without TLS `ws_connect(read_until_drained=)` does this.)

    Of messages and replies of `large_message` bytes and more the levels are read in a thread, while other connections go on.
    What comes meanwhile on this one is put off (reading pauses, so that it is what one read has brought), and has as receive
    time that at which it is taken, as the large message has: the record is in the order of callbacks, and so is a replay.
    """

    def __init__(self, Pipeline pipeline not None, shell, *, RecordingWriter writer=None, Py_ssize_t max_message_size,
                 int drain_reads=0, double drain_timeout=0.001,
                 Py_ssize_t large_message=DEFAULT_LARGE_MESSAGE, Arbiter arbiter=None, int leg=0):
        self.pipeline = pipeline
        self.writer = writer
        self.source = pipeline.source
        self._disconnect_reason = ""
        self._shell = shell
        self.max_message_size = max_message_size
        self.drain_reads = drain_reads
        self.drain_timeout = drain_timeout
        self.large_message = self._put_off_from = large_message
        self._put_off = deque()
        self.arbiter = arbiter
        self.leg = leg

    cpdef on_ws_connected(self, WSTransport transport):
        # UTF-8 is left to the decoder, which refuses what it cannot read.
        self._assembler = MessageAssembler(self.max_message_size, check_utf8=False)
        self._transport = transport
        self._in_read = False
        self.is_connected = True
        self._disconnect_reason = ""
        self._in_turn(self._connected)

    def _connected(self):
        self.ts_recv = wall_ns()
        if self.arbiter is not None and not self.arbiter.attach(self.leg, self.ts_recv):
            return
        self._record(KIND_CONNECTED, b"", None)
        self.pipeline.on_connected("", self.ts_recv)

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self.is_detached:
            return
        try:
            self._receive(frame)
        except BaseException:
            self.is_detached = True      # whoever raised is not called again; the connection closes, the session ends
            if self.arbiter is not None:
                self.arbiter.close()     # nor by another connection
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
            if self._assembler.payload_size >= self._put_off_from:
                return self._put_off_message(kind, frame.kernel_time_ns)
            if self.arbiter is not None and not self.arbiter.admits(
                    self.leg, kind, self._assembler.payload_ptr, self._assembler.payload_size, self.ts_recv, last):
                return self._passed_over() if last else 0
            if self.writer is not None:
                self.writer.write_view(self.ts_recv, self.source, kind, self._assembler.payload_ptr,
                                       self._assembler.payload_size, None, frame.kernel_time_ns, self._frame_sizes,
                                       self._message_frames if self._message_frames <= MAX_FRAME_SIZES else 0)
            self.pipeline.on_view(self._assembler.payload_ptr, self._assembler.payload_size, self.ts_recv, last)
        elif last:
            if self.arbiter is not None:
                return self._passed_over()
            self._end_batch()
        if last and self.pipeline.decoder._requests:
            self._shell.on_requests()
        return 0

    cdef int _passed_over(self) except -1:
        """The last message of a batch was not admitted: it ends the batch where one before it was."""
        if self.arbiter.ends_batch():
            self._end_batch()
            if self.pipeline.decoder._requests:
                self._shell.on_requests()
        return 0

    def join(self):
        """Have the arbiter join this leg, and pass on what it has beyond the others. False: what was put off comes first."""
        if self._put_off:
            return False
        ahead = self.arbiter.join(self.leg, wall_ns())
        if ahead:
            for kind, payload in ahead:
                self._put_off.append((partial(self._pass_on, kind & ~LAST_IN_BATCH, payload, 0, ()), payload))
            self._go_on()
            self._end_batch()
        return True

    cdef bint _drains_on(self) except -1:
        if not self._transport.is_secure or self._more_reads == self.drain_reads or self._transport.is_drained():
            return False
        self._more_reads += 1
        if self._drain_timer is None:
            self._drain_timer = asyncio.get_running_loop().call_later(self.drain_timeout, self._drained_long_enough)
        return True

    def _drained_long_enough(self):
        try:
            self._batch_ended()
            if self.arbiter is not None:
                self._passed_over()
                return
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
        if not self.is_detached:
            self._in_turn(self._disconnected, self._disconnect_reason or _reason(transport))

    def _disconnected(self, str reason):
        self.ts_recv = wall_ns()
        if self.arbiter is None or self.arbiter.detach(self.leg):
            self._record(KIND_DISCONNECTED, reason.encode(), None)
            self.pipeline.on_disconnected(reason, self.ts_recv)
        if self.arbiter is not None:
            self._shell.on_leg_lost(self.leg, reason)

    def detach(self):
        """End the session: nothing is recorded or passed on any more, and the books stay as they are."""
        self.is_detached = True
        self._batch_ended()
        self._put_off.clear()

    def reply(self, str tag, bytes payload):
        """A REST reply has come."""
        if len(payload) < self._put_off_from:
            self._take_reply(tag, payload, None)
        else:
            self._put_off.append((partial(self._take_reply, tag, payload), payload))
            self._go_on()

    def _take_reply(self, str tag, bytes payload, LargeMessage large):
        self.ts_recv = wall_ns()
        self._record(KIND_REPLY, payload, tag)
        self.pipeline.on_reply(tag, payload, self.ts_recv, large)
        if self.pipeline.decoder._requests:
            self._shell.on_requests()

    def fetch_failed(self, str tag, str reason):
        """A REST request has failed for good."""
        self._in_turn(self._take_failure, tag, reason)

    def _take_failure(self, str tag, str reason):
        self._decide({"status": "fetch_failed", "tag": tag, "reason": reason})
        self.pipeline.on_fetch_failed(tag, self.ts_recv, reason)

    def status(self, str status, str reason):
        """The shell has found something out about the connection."""
        self._in_turn(self._take_status, status, reason)

    def _take_status(self, str status, str reason):
        self._decide({"status": status, "reason": reason})
        self.pipeline.on_status(status, reason, self.ts_recv)

    def subscribed(self, str symbol, str channels):
        """Channels of an instrument, by the exchange's symbol, are subscribed from now on."""
        self._in_turn(self._take_subscribed, symbol, channels)

    def _take_subscribed(self, str symbol, str channels):
        self._decide({"status": "subscribed", "tag": symbol, "reason": channels})
        self.pipeline.on_subscribed(symbol, channels, self.ts_recv)

    def unsubscribed(self, str symbol, str channels):
        """Channels of an instrument are not wanted any more."""
        self._in_turn(self._take_unsubscribed, symbol, channels)

    def _take_unsubscribed(self, str symbol, str channels):
        self._decide({"status": "unsubscribed", "tag": symbol, "reason": channels})
        self.pipeline.on_unsubscribed(symbol, channels, self.ts_recv)

    def resnapshot(self, str symbol):
        """A snapshot is due of a book that is LIVE, by the exchange's symbol."""
        self._in_turn(self._take_resnapshot, symbol)

    def _take_resnapshot(self, str symbol):
        self._decide({"status": "resnapshot", "tag": symbol, "reason": ""})
        self.pipeline.on_resnapshot(symbol, self.ts_recv)
        if self.pipeline.decoder._requests:
            self._shell.on_requests()

    def tick(self):
        """Nothing has arrived for a while: let timers see the time."""
        self.ts_recv = wall_ns()
        self._end_batch()

    def send(self, bytes payload):
        """Send a text message, and record it; dropped where there is no connection."""
        if self._transport is not None:
            if self.arbiter is None or self.arbiter.primary == self.leg:
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

    def exchanged(self, str tag, str url, bytes body, bytes reply):
        """A request has been answered that connecting needed: for the record alone, if it has room for one so large."""
        self.ts_recv = wall_ns()
        if len(reply) <= MAX_BLOCK_SIZE // 2:
            self._record(KIND_REQUEST, url.encode() + (b"\n" + body if body else b""), tag)
            self._record(KIND_REPLY, reply, tag)

    def _decide(self, decision):
        self.ts_recv = wall_ns()
        self._record(KIND_STATUS, msgspec.json.encode(decision), None)

    cdef int _end_batch(self) except -1:
        """End a batch without a message: its last frame completed none, or its last message did not know that it is the last."""
        self._batch_ended()
        if self._put_off:
            self._put_off.append((self._take_late_end, None))
        else:
            self._take_end()
        return 0

    def _take_late_end(self):
        self.ts_recv = wall_ns()
        self._take_end()

    cdef int _take_end(self) except -1:
        self._record(KIND_TICK, b"", None)
        self.pipeline.on_tick(self.ts_recv)
        return 0

    # --- large messages, and what has to wait for them ----------------------------------------------

    cdef int _put_off_message(self, int kind, int64_t ts_kernel) except -1:
        cdef bytes payload = self._assembler.payload_ptr[:self._assembler.payload_size]
        sizes = ()
        if self._message_frames <= MAX_FRAME_SIZES:
            sizes = tuple([self._frame_sizes[i] for i in range(<int> self._message_frames)])
        self._put_off.append((partial(self._take_message, kind, payload, ts_kernel, sizes), payload))
        self._go_on()
        return 0

    def _take_message(self, int kind, bytes payload, int64_t ts_kernel, tuple sizes, LargeMessage large):
        self.ts_recv = wall_ns()
        if self.arbiter is not None and not self.arbiter.admits(
                self.leg, kind, payload, len(payload), self.ts_recv, kind & LAST_IN_BATCH):
            if kind & LAST_IN_BATCH:
                self._passed_over()
        else:
            self._pass_on(kind, payload, ts_kernel, sizes, large)

    def _pass_on(self, int kind, bytes payload, int64_t ts_kernel, tuple sizes, LargeMessage large):
        cdef uint64_t frame_sizes[MAX_FRAME_SIZES]
        cdef bint last = kind & LAST_IN_BATCH
        for i, size in enumerate(sizes):
            frame_sizes[<int> i] = size
        self.ts_recv = wall_ns()
        if self.writer is not None:
            self.writer.write_view(self.ts_recv, self.source, kind, payload, len(payload), None, ts_kernel, frame_sizes, len(sizes))
        self.pipeline.on_message(payload, self.ts_recv, last, large)
        if last and self.pipeline.decoder._requests:
            self._shell.on_requests()

    def _in_turn(self, call, *arguments):
        """Call, or do so when what was put off before has had its turn."""
        if self._put_off:
            self._put_off.append((partial(call, *arguments), None))
        else:
            call(*arguments)

    def _go_on(self):
        """Take what was put off, up to the next large message, and give that to the thread."""
        cdef object decoder
        while self._put_off and not self._is_apart:
            decoder = self.pipeline.decoder
            call, payload = self._put_off[0]
            if payload is not None and len(payload) >= self.large_message and decoder.large_arrays:
                self._is_apart = True
                self._put_off_from = 0
                self._pause(True)
                taken = asyncio.get_running_loop().run_in_executor(_thread(), decoder.take_apart, payload)
                taken.add_done_callback(self._taken_apart)
                return
            self._take_first(None)
        if not self._put_off and self._put_off_from == 0:
            self._put_off_from = self.large_message
            self._pause(False)

    def _taken_apart(self, future):
        self._is_apart = False
        if self.is_detached:
            return
        try:
            self._take_first(future.result())
            self._go_on()
        except Exception as error:
            self._shell.on_failed(error)

    def _take_first(self, LargeMessage large):
        call, payload = self._put_off[0]
        try:
            if payload is None:
                call()
            else:
                call(large)
        finally:
            if self._put_off:                        # still the first, while it is called: what it brings about comes behind
                self._put_off.popleft()

    def _pause(self, bint paused):
        if self._transport is None:
            return
        transport = self._transport.underlying_transport
        try:
            if paused:
                transport.pause_reading()
            else:
                transport.resume_reading()
        except RuntimeError:                         # uvloop: it is closing
            pass


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
