cimport cython
from libc.stdint cimport uint8_t

from picows.buffer cimport ReadBuffer
from picows.deflate cimport Inflater
from picows.frame cimport WSFrame


# Bytes committed to `buffer` in, frames out (RFC 6455 section 5). No I/O and no clock.
@cython.final
cdef class FrameParser:
    cdef:
        readonly ReadBuffer buffer

        # What next_frame() last returned; filled anew by each call.
        readonly WSFrame frame
        # What peek_ahead() last returned.
        readonly WSFrame ahead

        # True from the moment a CLOSE was returned: whatever follows it is discarded (RFC 6455 section 1.4).
        readonly bint is_closed

        # Limits and rules.
        readonly Py_ssize_t max_frame_size
        readonly bint expects_masked
        uint8_t reserved_bits       # which of 0x70 may be set

        # The next frame, complete and checked, at buffer.read_pos: valid while ahead_ready.
        bint ahead_ready
        uint8_t ahead_flags         # first byte of its header
        uint8_t ahead_header_size
        Py_ssize_t ahead_payload_size

        # A fragmented message has begun and not ended.
        bint in_message

        # permessage-deflate (RFC 7692); None without it. A frame is inflated when it is shown, not when it arrives: what
        # stands in front of it need not wait. Fragments stay fragments.
        Inflater inflater
        bint is_compressed          # the message that is being shown began with RSV1
        bint is_ahead_inflated      # `ahead` shows the frame ahead, inflated: that cannot be done twice
        # Where inflated payloads of `frame` and `ahead` are; they change places when the frame ahead becomes `frame`.
        ReadBuffer inflated
        ReadBuffer inflated_ahead

        # Bytes that the incomplete frame at the end lacks, as far as its header tells; at least 1.
        Py_ssize_t missing
        # The WSProtocolError that stands behind the frames returned so far.
        object error

    # Inflate compressed messages from now on. Before the first frame.
    cdef int inflate_with(self, Inflater inflater) except -1

    # Where to read into: room for the rest of the frame that is being received, at least `at_least` bytes. The caller
    # may fill `buffer.capacity - buffer.write_pos` of them and then says commit(). Kills the payload of `frame`.
    cdef char* reserve(self, Py_ssize_t at_least) except NULL
    cdef int commit(self, Py_ssize_t size) except -1

    # Nobody looks at `frame` any more, and it may be long until the next bytes come.
    cdef int rest(self) except -1

    # 1: `frame` is the next frame. 0: none is complete. WSProtocolError, then and ever after: the peer broke the rules.
    cdef int next_frame(self) except -1

    # The message type of the complete frame behind `frame`, -1 if there is none.
    cdef int ahead_msg_type(self) noexcept
    # Show that frame in `ahead`, or drop it, while `frame` stays valid. Only when ahead_msg_type() is not -1. The first
    # raises WSProtocolError, as next_frame() does then and ever after, if the frame cannot be inflated.
    cdef WSFrame peek_ahead(self)
    cdef int skip_ahead(self) except -1

    cdef int _look_ahead(self) except -1
    cdef int _reject(self, int code, str message) except -1
    cdef bint _may_reserve(self, uint8_t flags) noexcept
    cdef int _inflate(self, WSFrame frame, ReadBuffer buffer) except -1
    cdef int _show_inflated_ahead(self) noexcept
    cdef int _check_close(self, const uint8_t* payload, Py_ssize_t size) except -1
    cdef Py_ssize_t _ahead_size(self) noexcept
    cdef int _show(self, WSFrame frame) noexcept
    cdef int _step(self) noexcept
    cdef int _forget_frames(self) noexcept


cpdef bint is_close_code_allowed(int code) noexcept
