from libc.stdint cimport int64_t, uint8_t

from picows.buffer cimport ReadBuffer


# RFC 6455 section 5.2.
cpdef enum WSMsgType:
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


# RFC 6455 section 7.4.1 and the registry that it founds. NO_INFO is what a CLOSE without a code is reported as; 1006 is
# never on the wire.
cpdef enum WSCloseCode:
    NO_INFO = 0
    OK = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    ABNORMAL_CLOSURE = 1006
    INVALID_TEXT = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014


# A view of one frame in the receive buffer. There is one object per connection: it, and payload_ptr with it, is valid
# until on_ws_frame returns.
cdef class WSFrame:
    cdef:
        # Unmasked payload. May be changed in place by the listener; belongs to the receive buffer.
        char* payload_ptr
        readonly Py_ssize_t payload_size

        # Bytes in the receive buffer behind this frame, whether they make complete frames or not.
        readonly Py_ssize_t tail_size

        readonly WSMsgType msg_type
        readonly uint8_t fin
        readonly uint8_t rsv1
        readonly uint8_t rsv2
        readonly uint8_t rsv3

        # No further complete frame follows in the receive buffer: whoever waits for the newest state has it.
        readonly uint8_t last_in_buffer

        # When the kernel received the last byte of the read that completed this frame: ns since the epoch. 0 unless asked for.
        readonly int64_t kernel_time_ns

        ReadBuffer buffer

    cpdef bytes get_payload_as_bytes(self)
    cpdef str get_payload_as_utf8_text(self)
    cpdef str get_payload_as_ascii_text(self)
    cpdef object get_payload_as_memoryview(self)
    cpdef WSCloseCode get_close_code(self) except? WSCloseCode.NO_INFO
    cpdef bytes get_close_message(self)
    cpdef str get_close_reason(self)

    cdef int _expect_close(self) except -1
