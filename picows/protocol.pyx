# cython: language_level=3, auto_pickle=False, boundscheck=False, wraparound=False
"""The receiving side of a connection: between the event loop and the listener."""
import asyncio
import sys
import types

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from picows.buffer cimport ReadBuffer
from picows.frame cimport WSCloseCode, WSFrame, WSMsgType
from picows.listener cimport WSListener
from picows.parser cimport FrameParser
from picows.receive cimport MSG_DONTWAIT, picows_receive
from picows.transport cimport WSTransport

from picows.errors import WSProtocolError

cdef extern from "Python.h":
    object PyObject_VectorcallMethod(object name, PyObject** args, size_t nargsf, PyObject* kwnames)
    const size_t PY_VECTORCALL_ARGUMENTS_OFFSET


cdef str ON_WS_FRAME = "on_ws_frame"


cdef int64_t monotonic_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t> t.tv_sec * 1_000_000_000 + t.tv_nsec


cdef class FrameProtocol:
    """Reads frames of one connection once its handshake is done, and ends it by the rules.

    make_keepalive -- None, or called with this object when the connection opens; returns what has `stop()`.
    read_until_drained -- see ws_connect().
    """

    def __init__(
        self, *, bint is_client_side, bint disconnect_on_exception, bint enable_auto_pong, Py_ssize_t max_frame_size,
        Py_ssize_t read_buffer_init_size, logger, make_keepalive=None, int read_until_drained=0
    ):
        if read_until_drained < 0:
            raise ValueError(f"expected read_until_drained of 0 or more, found {read_until_drained}")
        self.parser = FrameParser(not is_client_side, max_frame_size, read_buffer_init_size)
        self.disconnect_on_exception = disconnect_on_exception
        self.enable_auto_pong = enable_auto_pong
        self.logger = logger
        self.make_keepalive = make_keepalive
        self.read_until_drained = read_until_drained

    def open(self, WSTransport transport not None, WSListener listener not None, int reserved_bits, bytes received,
             deflate=None):
        """The handshake is done. Frames in `received`, which came in behind it, are delivered before this returns.

        `deflate` is the AgreedDeflate of the connection, or None.
        """
        self.transport = transport
        self.listener = listener
        # Cython's dispatch to a method in Python makes a bound method for each call.
        self.is_listener_python = isinstance(getattr(type(listener), ON_WS_FRAME), types.FunctionType)
        self.parser.reserved_bits = reserved_bits & 0x70
        if deflate is not None:
            transport.deflater, inflater = deflate.machines()
            self.parser.inflate_with(inflater)
        self.is_layered = transport.underlying_transport.get_extra_info("ssl_object") is not None
        # asyncio's own TLS before Python 3.11.
        self.is_layer_opaque = (
            self.is_layered and sys.version_info < (3, 11)
            and type(transport.underlying_transport).__module__ == "asyncio.sslproto"
        )
        if self.is_layered:
            self.read_until_drained = 0     # what the socket holds is the TLS layer's
        # Of the read in which the handshake ended.
        transport.has_full_read = self.is_layered and (self.is_read_full or self.is_layer_opaque)
        if self.make_keepalive is not None:
            self.last_read_ns = monotonic_ns()
            self.keepalive = self.make_keepalive(self)
        try:
            listener.on_ws_connected(transport)
        except Exception as exc:
            self.logger.exception("on_ws_connected raised; disconnecting")
            transport.fail(exc, WSCloseCode.INTERNAL_ERROR, "")
        if received:
            self.parser.buffer.append(received)
        self._deliver()

    def get_buffer(self, sizehint):
        """Return where the event loop reads into."""
        cdef Py_ssize_t size = 0
        cdef char* free = self.begin_read(&size)
        return PyMemoryView_FromMemory(free, size, PyBUF_WRITE)

    def buffer_updated(self, Py_ssize_t nbytes):
        """`nbytes` were read."""
        self.end_read(nbytes)

    cdef char* begin_read(self, Py_ssize_t* size) except NULL:
        # Under TLS a byte more than the frame lacks: a read that leaves it free has emptied the TLS layer.
        cdef Py_ssize_t at_least = self.parser.missing + 1 if self.is_layered and self.parser.missing < 262144 else 1
        cdef char* free = self.parser.reserve(at_least)
        cdef ReadBuffer buffer = self.parser.buffer
        size[0] = self.offered = buffer.capacity - buffer.write_pos
        return free

    cdef int end_read(self, Py_ssize_t nbytes) except -1:
        cdef FrameParser parser = self.parser
        parser.commit(nbytes)
        self.is_read_full = nbytes == self.offered
        if self.transport is None:
            self.handshake_received(parser.buffer.take())
            return 0
        if self.keepalive is not None:
            self.last_read_ns = monotonic_ns()
        self.transport.has_full_read = self.is_layered and (self.is_read_full or self.is_layer_opaque)
        if self.read_until_drained:
            self._read_on()
        self._deliver()
        parser.rest()
        return 0

    def connection_lost(self, exc):
        """The connection is gone; `exc` is None after an orderly end."""
        if self.transport is None:
            self.handshake_lost(exc)
            return
        if self.keepalive is not None:
            self.keepalive.stop()
        self.transport.connection_lost()
        try:
            self.listener.on_ws_disconnected(self.transport)
        except Exception as raised:
            self.logger.exception("on_ws_disconnected raised")
            if self.transport.failure is None:
                self.transport.failure = raised
        self.logger.info("disconnected (%s)", "in order" if exc is None else repr(exc))
        self.transport.finish()

    def pause_writing(self):
        self.is_writing_paused = True
        if self.listener is not None:
            try:
                self.listener.pause_writing()
            except Exception as exc:
                self._failed(exc)

    def resume_writing(self):
        self.is_writing_paused = False
        if self.listener is not None:
            try:
                self.listener.resume_writing()
            except Exception as exc:
                self._failed(exc)

    def idle_seconds(self) -> float:
        """Seconds since the last read, on a connection with a keepalive."""
        return (monotonic_ns() - self.last_read_ns) / 1e9

    def listener_failed(self, exc):
        """A method of the listener that others call raised `exc`."""
        self._failed(exc)

    def give_up(self, reason):
        """Close a connection whose peer is silent. Not an error that wait_disconnected() raises."""
        self.transport.fail(None, WSCloseCode.GOING_AWAY, reason)

    cdef int _read_on(self) except -1:
        cdef:
            ReadBuffer buffer = self.parser.buffer
            Py_ssize_t budget = self.read_until_drained * buffer.initial_capacity
            Py_ssize_t size
            int reads = 0

        while reads < self.read_until_drained and budget > 0:
            # Nothing is read where nothing waits: the end of the stream, and errors, are for the event loop to find.
            size = self.transport.unread_size()
            if size > budget:
                size = budget
            if size == 0:
                break
            size = picows_receive(
                self.transport.fd, self.parser.reserve(size), size, MSG_DONTWAIT,
                &self.kernel_time_ns if self.has_kernel_time else NULL
            )
            if size <= 0:
                break
            self.parser.commit(size)
            budget -= size
            reads += 1
        return 0

    cdef int _deliver(self) except -1:
        while not self.transport.is_closing:
            try:
                self._deliver_frames()
                break
            except Exception as exc:
                self._failed(exc)
        return 0

    cdef int _deliver_frames(self) except -1:
        cdef:
            FrameParser parser = self.parser
            WSFrame frame = parser.frame
            WSTransport transport = self.transport
            WSListener listener = self.listener
            bint was_asked = False
            PyObject* call[4]       # the first is the callee's to use

        frame.kernel_time_ns = parser.ahead.kernel_time_ns = self.kernel_time_ns
        call[1] = <PyObject*> listener
        call[2] = <PyObject*> transport
        call[3] = <PyObject*> frame

        while not transport.is_closing and parser.next_frame():
            if frame.msg_type > WSMsgType.BINARY or transport.is_pong_awaited:
                if not was_asked and self._consumes(frame):
                    continue
            was_asked = False
            if parser.ahead_ready and (parser.ahead_msg_type() > WSMsgType.BINARY or transport.is_pong_awaited):
                was_asked = self._consume_ahead()
            if frame.msg_type == WSMsgType.CLOSE:
                self._deliver_close(frame)
            elif self.is_listener_python:
                PyObject_VectorcallMethod(ON_WS_FRAME, &call[1], 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
            else:
                listener.on_ws_frame(transport, frame)
            if self.postponed is not None:
                exc, self.postponed = self.postponed, None
                raise exc
        return 0

    cdef int _deliver_close(self, WSFrame frame) except -1:
        self.transport.record_received_close(frame)
        try:
            self.listener.on_ws_frame(self.transport, frame)
        except Exception as exc:
            self._failed(exc)
        self.transport.finish_close()
        return 0

    cdef bint _consumes(self, WSFrame frame) except -1:
        if frame.msg_type == WSMsgType.PING and self.enable_auto_pong:
            # A peer that pings and does not read would have us store its pongs without end. RFC 6455 section 5.5.3
            # lets the answer to a later ping stand for the ones before.
            if not self.is_writing_paused:
                self.transport.send_pong(frame.get_payload_as_bytes())
            return True
        if self.transport.is_pong_awaited and self.listener.is_user_specific_pong(frame):
            self.transport.notify_user_specific_pong_received()
            return True
        return False

    cdef bint _consume_ahead(self) except -1:
        cdef FrameParser parser = self.parser
        try:
            while parser.ahead_ready:
                if not self._consumes(parser.peek_ahead()):
                    return True
                parser.skip_ahead()
        except Exception as exc:
            self.postponed = exc
        return parser.ahead_ready

    cdef int _failed(self, exc) except -1:
        """A rule was broken by the peer, or a method of the listener raised `exc`."""
        if exc is self.parser.error:
            self.logger.warning("closing: peer broke RFC 6455: %s", exc.message)
            self.transport.fail(exc, exc.code, str(exc.message))
        elif isinstance(exc, WSProtocolError):
            self.logger.warning("closing: listener raised %r", exc)
            self.transport.fail(exc, exc.code, str(exc.message))
        elif self.disconnect_on_exception:
            self.logger.error("listener raised; disconnecting", exc_info=exc)
            self.transport.fail(exc, WSCloseCode.INTERNAL_ERROR, "")
        else:
            self.logger.error("listener raised", exc_info=exc)
        return 0


class WSProtocol(FrameProtocol, asyncio.BufferedProtocol):
    """A FrameProtocol that event loops recognise. Subclasses add `handshake_received` and `handshake_lost`."""

    __slots__ = ()
