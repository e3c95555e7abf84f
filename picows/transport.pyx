# cython: language_level=3, auto_pickle=False, boundscheck=False, wraparound=False
"""The sending side of a connection."""
import asyncio
import time

from cpython.buffer cimport PyBUF_READ, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uint8_t

from picows.buffer cimport Block
from picows.deflate cimport Deflater
from picows.frame cimport WSCloseCode, WSFrame, WSMsgType
from picows.parser cimport is_close_code_allowed
from picows.masking cimport apply_mask, next_mask
from picows.serializer cimport MAX_HEADER_SIZE, frame_flags, frame_header_size, write_frame, write_frame_header

from picows.close_handshake import WSCloseHandshake, close_info, close_payload, shortened_reason
from picows.network import copies_what_it_keeps

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    unsigned long PyThread_get_thread_ident() noexcept

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)
    const unsigned long FIONREAD

cdef extern from *:
    """
    #include <sys/socket.h>
    #include <sys/uio.h>
    #ifndef MSG_NOSIGNAL    /* macOS: Python ignores SIGPIPE */
    #define MSG_NOSIGNAL 0
    #endif

    /* Send a header and what follows it, as far as the kernel takes them at once; how many bytes, 0 for none. */
    static Py_ssize_t picows_send(int fd, const void* header, size_t header_size, const void* payload, size_t size)
    {
        struct iovec parts[2] = {{(void*) header, header_size}, {(void*) payload, size}};
        struct msghdr message = {0};
        ssize_t sent;
        if (size) {
            message.msg_iov = parts;
            message.msg_iovlen = 2;
            sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        } else {
            sent = send(fd, header, header_size, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        return sent < 0 ? 0 : sent;
    }
    """
    Py_ssize_t picows_send(int fd, const void* header, size_t header_size, const void* payload, size_t size) nogil

cdef enum:
    MAX_CONTROL_PAYLOAD = 125

    # Frames up to this size, with their header, are built on the stack.
    SMALL_FRAME = 2048

    # In the first byte of a frame.
    FIN = 0x80
    RSV1 = 0x40
    OPCODE = 0x0F
    CONTROL = 0x08


cdef class WSTransport:
    """Sends frames, closes, and says how the connection stands. picows makes it; users only call it.

    Every method must be called in the thread of the event loop; RuntimeError elsewhere. What is sent after a CLOSE frame,
    or after disconnect(), is dropped without a word, because the peer may no longer read it.
    """

    def __init__(
        self, loop, underlying_transport, listener, request, response, close_timeout, is_client_side, is_secure=None
    ):
        self.loop = loop
        self.underlying_transport = underlying_transport
        self.write = underlying_transport.write
        self.unsent_size = underlying_transport.get_write_buffer_size
        self.listener = listener
        self.request = request
        self.response = response
        self.close_timeout = close_timeout
        self.is_client_side = is_client_side
        if is_secure is None:
            is_secure = underlying_transport.get_extra_info("ssl_object") is not None
        self.is_secure = is_secure
        sock = underlying_transport.get_extra_info("socket")
        self.fd = -1 if sock is None else sock.fileno()
        self.is_plain = self.fd >= 0 and underlying_transport.get_extra_info("ssl_object") is None
        self.may_lend = copies_what_it_keeps(underlying_transport)
        self.thread_id = PyThread_get_thread_ident()
        self.disconnected = loop.create_future()

    cpdef send(
        self, WSMsgType msg_type, message,
        bint fin=True, bint rsv1=False, bint rsv2=False, bint rsv3=False
    ):
        """Send one frame. `message` is bytes-like, str (sent as UTF-8) or None (empty), and is copied.

        ValueError for CLOSE (that is send_close()), an unknown type, and a control frame that is fragmented or longer than
        125 bytes. Reserved bits belong to extensions: without a negotiated one the peer fails the connection. Where
        permessage-deflate was agreed, messages are compressed, and RSV1 is not the caller's to set: ValueError.
        """
        cdef:
            uint8_t flags = frame_flags(msg_type, fin, rsv1, rsv2, rsv3)
            const char* text
            Py_ssize_t size = 0
            Py_buffer buffer

        self._check_thread("send")
        if PyBytes_CheckExact(message):
            self._check_message(msg_type, PyBytes_GET_SIZE(message), fin)
            self._send(flags, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
        elif PyUnicode_Check(message):
            text = PyUnicode_AsUTF8AndSize(message, &size)
            self._check_message(msg_type, size, fin)
            self._send(flags, text, size)
        elif message is None:
            self._check_message(msg_type, 0, fin)
            self._send(flags, "", 0)
        else:
            PyObject_GetBuffer(message, &buffer, PyBUF_SIMPLE)
            try:
                self._check_message(msg_type, buffer.len, fin)
                self._send(flags, <const char*> buffer.buf, buffer.len)
            finally:
                PyBuffer_Release(&buffer)

    cdef send_reuse_external_buffer(
        self, WSMsgType msg_type, char* msg_ptr, Py_ssize_t msg_size,
        bint fin=True, bint rsv1=False, bint rsv2=False, bint rsv3=False
    ):
        cdef:
            Py_ssize_t header_size = frame_header_size(msg_size, self.is_client_side)
            uint8_t* header = <uint8_t*> msg_ptr - header_size
            uint8_t mask[4]

        self._check_thread("send_reuse_external_buffer")
        self._check_message(msg_type, msg_size, fin)
        if self.is_close_frame_sent or self.is_closing:
            return
        if self.deflater is not None:
            self._send(frame_flags(msg_type, fin, rsv1, rsv2, rsv3), msg_ptr, msg_size)
            return
        if self.is_client_side:
            next_mask(mask)
            apply_mask(<uint8_t*> msg_ptr, msg_size, mask, 0)
        write_frame_header(
            header, frame_flags(msg_type, fin, rsv1, rsv2, rsv3), msg_size, mask if self.is_client_side else NULL
        )
        self._write_out(<char*> header, header_size + msg_size)

    cpdef send_reuse_external_bytearray(
        self, WSMsgType msg_type, bytearray buffer, Py_ssize_t msg_offset,
        bint fin=True, bint rsv1=False, bint rsv2=False, bint rsv3=False
    ):
        """Send `buffer[msg_offset:]`, using the 14 bytes in front of it for the header.

        On a client the message is masked in place: its content is lost. ValueError if there is less room in front, or
        `msg_offset` lies behind the end.
        """
        if msg_offset < MAX_HEADER_SIZE:
            raise ValueError(f"expected {MAX_HEADER_SIZE} bytes or more in front of the message, found {msg_offset}")
        if msg_offset > PyByteArray_GET_SIZE(buffer):
            raise ValueError(
                f"expected a message within {PyByteArray_GET_SIZE(buffer)} bytes, found it at offset {msg_offset}"
            )
        self.send_reuse_external_buffer(
            msg_type, PyByteArray_AS_STRING(buffer) + msg_offset, PyByteArray_GET_SIZE(buffer) - msg_offset,
            fin, rsv1, rsv2, rsv3
        )

    cpdef send_ping(self, message=None):
        """Send a PING; `message` is None, str or bytes-like, at most 125 bytes."""
        self.send(WSMsgType.PING, message)

    cpdef send_pong(self, message=None):
        """Send a PONG; `message` is None, str or bytes-like, at most 125 bytes."""
        self.send(WSMsgType.PONG, message)

    cpdef send_close(self, int close_code=WSCloseCode.NO_INFO, close_message=None):
        """Send a CLOSE, once; later frames, and a second CLOSE, are dropped. Does not disconnect.

        A peer that answers nothing, or does not close, is disconnected after `websocket_close_timeout`. NO_INFO sends no
        code. ValueError for a code that may not be sent, a message without a code, more than 123 bytes, or no UTF-8.
        """
        self._check_thread("send_close")
        self._send_close(close_code, close_payload(close_code, close_message), close_message)

    cpdef disconnect(self, bint graceful=True):
        """Close the connection, after what is waiting to be sent if `graceful`, else at once.

        No frame is delivered any more. A CLOSE of the peer that nobody answered yet is answered first.
        """
        self._check_thread("disconnect")
        if self.is_disconnected:
            return
        if not graceful:
            self.is_closing = True
            self.underlying_transport.abort()
        elif not self.is_closing:
            if self.close_handshake is not None and self.close_handshake.recv is not None:
                self._answer_close()
            self.is_closing = True
            self._limit_closing_time()
            self.underlying_transport.close()

    async def wait_disconnected(self):
        """Return when the connection is closed and on_ws_disconnected has run.

        Raises what a method of the listener raised, or the WSProtocolError by which the peer was found out. A peer that
        merely disconnects raises nothing.
        """
        await asyncio.shield(self.disconnected)
        if self.failure is not None:
            raise self.failure

    async def measure_roundtrip_time(self, rounds: int) -> list:
        """Ping the peer `rounds` times and return how long each pong took, in seconds.

        Uses the listener's user-specific ping. ConnectionResetError if the connection ends before the last pong.
        """
        times = []
        for _ in range(rounds):
            while self.pong is not None:
                await asyncio.wait([self.pong])
            sent_at = time.perf_counter()
            times.append(await asyncio.shield(self.ping_once()) - sent_at)
        return times

    cpdef object ping_once(self):
        if self.is_disconnected:
            raise ConnectionResetError("the connection is closed")
        if self.pong is None:
            self.listener.send_user_specific_ping(self)
            self.pong = self.loop.create_future()
            self.is_pong_awaited = True
        return self.pong

    cpdef notify_user_specific_pong_received(self):
        """Say that the answer to the last user-specific ping has come, where no single frame says so."""
        pong, self.pong = self.pong, None
        self.is_pong_awaited = False
        if pong is not None and not pong.done():
            pong.set_result(time.perf_counter())

    cpdef Py_ssize_t unread_size(self) except -1:
        """Return how many bytes of this connection the kernel has received and nobody has read: FIONREAD.

        Under TLS they are encrypted and may turn out to be no frame. 0 on a closed connection.
        """
        cdef int size = 0
        # The event loop closes the socket after connection_lost(): the number may be another connection's from then on.
        if self.is_disconnected or self.fd < 0 or ioctl(self.fd, FIONREAD, &size) != 0:
            return 0
        return size

    cpdef bint is_drained(self) except? -1:
        """Say whether everything that has arrived has been read: by a frame that is last_in_buffer, acted on as well.

        To be asked in on_ws_frame, at the end of a read. What a TLS layer holds is concluded: it fills the memory that
        it is offered as long as it has complete records, so that a read which left room has left nothing behind. After
        a read that filled it to the last byte the answer is False, because there may be more.

        On Python 3.10 with use_aiofastnet=False on the loop of asyncio the answer is always False under TLS, which
        hands out records one by one there and does not tell when it is empty.
        """
        return not self.has_full_read and self.unread_size() == 0

    cdef int fail(self, exc, int close_code, str reason) except -1:
        if self.failure is None:
            self.failure = exc
        if not self.is_closing:
            reason = shortened_reason(reason)
            if not is_close_code_allowed(close_code):
                close_code = WSCloseCode.INTERNAL_ERROR
            self._send_close(close_code, close_payload(close_code, reason), reason)
            self.disconnect()
        return 0

    cdef int record_received_close(self, WSFrame frame) except -1:
        if self.close_handshake is None:
            self.close_handshake = WSCloseHandshake()
        self.close_handshake.recv = close_info(<int> frame.get_close_code(), frame.get_close_reason())
        return 0

    cdef int _answer_close(self) except -1:
        cdef object code
        if not self.is_close_frame_sent:
            # Section 5.5.1: typically the status code that was received.
            code = self.close_handshake.recv.code
            self._send_close(code, close_payload(code, None), None)
        return 0

    cdef int finish_close(self) except -1:
        if self.is_closing:
            return 0
        self._answer_close()
        if not self.is_client_side:
            # Section 7.1.1: the server closes first, so that it is not the client that waits in TIME_WAIT.
            self.disconnect()
        return 0

    cdef int connection_lost(self) except -1:
        # A TLS transport whose peer ended the connection takes itself for open until it is told.
        self.underlying_transport.close()
        self.is_closing = True
        self.is_disconnected = True
        self.is_pong_awaited = False
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = None
        pong, self.pong = self.pong, None
        if pong is not None and not pong.done():
            pong.set_exception(ConnectionResetError("disconnected before the pong arrived"))
            pong.exception()    # nobody need be waiting
        return 0

    cdef int finish(self) except -1:
        if not self.disconnected.done():
            self.disconnected.set_result(None)
        return 0

    cdef int _check_thread(self, str method) except -1:
        if PyThread_get_thread_ident() != self.thread_id:
            raise RuntimeError(f"WSTransport.{method}() was called outside the thread of the event loop")
        return 0

    cdef int _check_message(self, WSMsgType msg_type, Py_ssize_t size, bint fin) except -1:
        cdef int opcode = <int> msg_type
        if 0 <= opcode <= <int> WSMsgType.BINARY:
            return 0
        if opcode == WSMsgType.CLOSE:
            raise ValueError("a CLOSE frame is sent by send_close()")
        if opcode != WSMsgType.PING and opcode != WSMsgType.PONG:
            raise ValueError(f"expected a WSMsgType, found {opcode}")
        if not fin:
            raise ValueError("a control frame cannot be fragmented")
        if size > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"expected at most {MAX_CONTROL_PAYLOAD} bytes in a control frame, found {size}")
        return 0

    cdef int _send(self, uint8_t flags, const char* payload, Py_ssize_t size) except -1:
        if self.is_close_frame_sent or self.is_closing:
            return 0
        if self.deflater is not None and not flags & CONTROL:
            return self._send_deflated(flags, payload, size)
        return self._write_frame(flags, payload, size)

    cdef int _write_frame(self, uint8_t flags, const char* payload, Py_ssize_t size) except -1:
        cdef:
            Py_ssize_t header_size = frame_header_size(size, self.is_client_side)
            Py_ssize_t frame_size = header_size + size
            uint8_t small[SMALL_FRAME]
            uint8_t* frame = small
            Py_ssize_t sent = 0
            Block block

        if frame_size > SMALL_FRAME:
            if not self.is_client_side and self._may_pass():
                # Unmasked: the kernel takes it from where it is.
                write_frame_header(small, flags, size, NULL)
                sent = picows_send(self.fd, small, header_size, payload, size)
                if sent >= header_size:
                    return self._hand_over(payload + sent - header_size, frame_size - sent)
            block = Block(frame_size)
            frame = <uint8_t*> block.data
        write_frame(frame, flags, payload, size, self.is_client_side)
        if sent:
            return self._hand_over(<char*> frame + sent, frame_size - sent)
        return self._write_out(<char*> frame, frame_size)

    cdef int _write_out(self, const char* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t sent = picows_send(self.fd, data, size, NULL, 0) if self._may_pass() else 0
        return self._hand_over(data + sent, size - sent)

    cdef bint _may_pass(self) except -1:
        """Whether bytes may go past the transport: nothing waits in it. What goes wrong then is its to find out."""
        return self.is_plain and not self.unsent_size()

    cdef int _hand_over(self, const char* data, Py_ssize_t size) except -1:
        """Give the transport what the kernel did not take."""
        if size:
            if self.may_lend:
                self.write(PyMemoryView_FromMemory(<char*> data, size, PyBUF_READ))
            else:
                self.write(PyBytes_FromStringAndSize(data, size))
        return 0

    cdef int _send_deflated(self, uint8_t flags, const char* payload, Py_ssize_t size) except -1:
        cdef bint begins = flags & OPCODE != WSMsgType.CONTINUATION
        cdef bytes compressed
        if flags & RSV1:
            raise ValueError("expected rsv1 to be left to permessage-deflate, found it set")
        compressed = self.deflater.deflate_frame(payload, size, begins, flags & FIN != 0)
        if compressed is None:
            return self._write_frame(flags, payload, size)
        return self._write_frame(
            flags | RSV1 if begins else flags, PyBytes_AS_STRING(compressed), PyBytes_GET_SIZE(compressed)
        )

    cdef int _send_close(self, code, bytes payload, reason) except -1:
        if self.is_close_frame_sent or self.is_closing:
            return 0
        self._send(
            frame_flags(WSMsgType.CLOSE, True, False, False, False),
            PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)
        )
        self.is_close_frame_sent = True
        if self.close_handshake is None:
            self.close_handshake = WSCloseHandshake()
        self.close_handshake.sent = close_info(code, reason)
        self.close_handshake.recv_then_sent = self.close_handshake.recv is not None
        self._limit_closing_time()
        return 0

    cdef int _limit_closing_time(self) except -1:
        if self.close_timer is None and self.close_timeout is not None:
            self.close_timer = self.loop.call_later(self.close_timeout, self.underlying_transport.abort)
        return 0
