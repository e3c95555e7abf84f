from libc.stdint cimport uint8_t

from picows.deflate cimport Deflater
from picows.frame cimport WSFrame, WSMsgType


cpdef enum WSAutoPingStrategy:
    PING_WHEN_IDLE = 1          # only when nothing has arrived for the idle timeout
    PING_PERIODICALLY = 2       # every idle timeout, whatever arrives


# The sending side of one connection and its state. Every call must come from the thread of the event loop.
cdef class WSTransport:
    cdef:
        object __weakref__

        readonly object underlying_transport    # asyncio.Transport
        readonly object request                 # WSUpgradeRequest
        readonly object response                # WSUpgradeResponse
        readonly object close_handshake         # None, or what CLOSE frames were exchanged
        readonly bint is_client_side
        readonly bint is_secure
        readonly bint is_close_frame_sent
        # on_ws_disconnected has been, or is being, called.
        readonly bint is_disconnected

        # disconnect() was called, or the connection was lost: nothing is delivered any more.
        bint is_closing
        # A ping was sent whose pong counts: the protocol asks the listener about arriving frames.
        bint is_pong_awaited

        # Compresses what is sent (RFC 7692); None unless that was agreed.
        Deflater deflater
        # The last read filled the memory it was offered: the TLS layer, if there is one, may hold more.
        bint has_full_read
        int fd                          # of the socket; -1 where the underlying transport has none
        bint is_plain                   # what is sent goes to the socket as it is
        bint may_lend                   # write() of the underlying transport copies what it cannot send at once

        unsigned long thread_id
        object loop
        object listener
        object close_timeout            # seconds, or None
        object close_timer              # loop.call_later handle: aborts a connection that does not end
        object pong                     # asyncio.Future of the arrival time of the awaited pong
        object disconnected             # asyncio.Future
        object write                    # bound method underlying_transport.write
        object unsent_size              # bound method underlying_transport.get_write_buffer_size
        # The first exception that wait_disconnected() has to raise, by listener or parser.
        object failure

    # The message is copied (and masked) before send() returns.
    cpdef send(self, WSMsgType msg_type, message, bint fin=*, bint rsv1=*, bint rsv2=*, bint rsv3=*)
    # The 14 bytes in front of msg_ptr are overwritten with the header and, on a client, the message with its masked form.
    cdef send_reuse_external_buffer(
        self, WSMsgType msg_type, char* msg_ptr, Py_ssize_t msg_size,
        bint fin=*, bint rsv1=*, bint rsv2=*, bint rsv3=*
    )
    cpdef send_reuse_external_bytearray(
        self, WSMsgType msg_type, bytearray buffer, Py_ssize_t msg_offset,
        bint fin=*, bint rsv1=*, bint rsv2=*, bint rsv3=*
    )
    cpdef send_ping(self, message=*)
    cpdef send_pong(self, message=*)
    cpdef send_close(self, int close_code=*, close_message=*)
    cpdef disconnect(self, bint graceful=*)
    cpdef notify_user_specific_pong_received(self)

    # What has arrived and was not read. A system call each.
    cpdef Py_ssize_t unread_size(self) except -1
    cpdef bint is_drained(self) except? -1

    # For the protocol.
    # Close with the code and reason of what went wrong, and let wait_disconnected() raise it.
    cdef int fail(self, exc, int close_code, str reason) except -1
    cdef int record_received_close(self, WSFrame frame) except -1
    # Complete the closing handshake as RFC 6455 sections 5.5.1 and 7.1.1 ask: answer, and have the server disconnect.
    cdef int finish_close(self) except -1
    # The connection is gone, and on_ws_disconnected is called next: nothing can be sent, no pong will come.
    cdef int connection_lost(self) except -1
    # on_ws_disconnected has returned: release those who wait.
    cdef int finish(self) except -1
    # Send a ping whose pong ends the returned future with its arrival time.
    cpdef object ping_once(self)

    cdef int _check_thread(self, str method) except -1
    cdef int _check_message(self, WSMsgType msg_type, Py_ssize_t size, bint fin) except -1
    cdef int _send(self, uint8_t flags, const char* payload, Py_ssize_t size) except -1
    cdef int _write_frame(self, uint8_t flags, const char* payload, Py_ssize_t size) except -1
    # Hand over bytes whose memory is free for other use when this returns.
    cdef int _write_out(self, const char* data, Py_ssize_t size) except -1
    cdef bint _may_pass(self) except -1
    cdef int _hand_over(self, const char* data, Py_ssize_t size) except -1
    cdef int _send_deflated(self, uint8_t flags, const char* payload, Py_ssize_t size) except -1
    cdef int _send_close(self, code, bytes payload, reason) except -1
    cdef int _answer_close(self) except -1
    cdef int _limit_closing_time(self) except -1
