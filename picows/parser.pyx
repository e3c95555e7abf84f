# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""From received bytes to frames: RFC 6455 section 5, without I/O."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from picows.buffer cimport ReadBuffer
from picows.deflate cimport Inflater
from picows.frame cimport WSCloseCode, WSFrame, WSMsgType
from picows.masking cimport apply_mask
from picows.utf8 cimport picows_utf8_feed, picows_utf8_start, picows_utf8_state

from picows.errors import WSProtocolError

cdef enum:
    FIN = 0x80
    RESERVED_BITS = 0x70
    RSV1 = 0x40
    OPCODE = 0x0F
    CONTROL = 0x08          # set in the opcode of every control frame
    MASKED = 0x80
    LENGTH = 0x7F
    MAX_CONTROL_PAYLOAD = 125

    # An announced length is believed up to here; beyond it memory only doubles what has really arrived.
    MAX_TRUSTED_GROWTH = 256 * 1024

    # Kept, twice, for inflated payloads.
    INFLATED_CAPACITY = 4096


@cython.final
cdef class FrameParser:
    """Cuts the byte stream of one direction of a connection into frames.

    expects_masked -- True for a server: RFC 6455 section 5.1 has clients mask every frame and servers none.
    max_frame_size -- a longer payload is rejected with MESSAGE_TOO_BIG, by its header alone.
    buffer_size -- what the read buffer holds while frames are small, in bytes.
    reserved_bits -- which of RSV1 (0x40), RSV2 (0x20) and RSV3 (0x10) a negotiated extension uses. RSV1 alone is
        permessage-deflate's, which sets it in the first frame of a message only.
    inflater -- inflates compressed messages, frame by frame: they look as if they had been sent uncompressed.
    """

    def __cinit__(
        self,
        bint expects_masked,
        Py_ssize_t max_frame_size=10 * 1024 * 1024,
        Py_ssize_t buffer_size=16 * 1024,
        uint8_t reserved_bits=0,
        Inflater inflater=None,
    ):
        if max_frame_size < MAX_CONTROL_PAYLOAD:
            raise ValueError(f"expected a max_frame_size of at least {MAX_CONTROL_PAYLOAD}, found {max_frame_size}")
        self.buffer = ReadBuffer(buffer_size)
        self.frame = WSFrame.__new__(WSFrame)
        self.frame.buffer = self.buffer
        self.ahead = WSFrame.__new__(WSFrame)
        self.ahead.buffer = self.buffer
        self.expects_masked = expects_masked
        self.max_frame_size = max_frame_size
        self.reserved_bits = reserved_bits & RESERVED_BITS
        self.missing = 2
        if inflater is not None:
            self.inflate_with(inflater)

    cdef int inflate_with(self, Inflater inflater) except -1:
        cdef Py_ssize_t capacity = min(self.buffer.initial_capacity, INFLATED_CAPACITY)
        self.inflated = ReadBuffer(capacity)
        self.inflated_ahead = ReadBuffer(capacity)
        self.inflater = inflater
        return 0

    cdef char* reserve(self, Py_ssize_t at_least) except NULL:
        cdef Py_ssize_t unparsed = self.buffer.write_pos - self.buffer.read_pos
        cdef Py_ssize_t trusted = MAX_TRUSTED_GROWTH if unparsed < MAX_TRUSTED_GROWTH else unparsed
        cdef Py_ssize_t wanted = self.missing if self.missing < trusted else trusted
        self._forget_frames()
        return self.buffer.reserve(wanted if wanted > at_least else at_least)

    cdef int commit(self, Py_ssize_t size) except -1:
        return self.buffer.commit(size)

    cdef int rest(self) except -1:
        self._forget_frames()
        return self.buffer.give_back()

    cdef int next_frame(self) except -1:
        cdef ReadBuffer buffer = self.buffer
        cdef WSFrame frame = self.frame
        if not self.ahead_ready and not self._look_ahead():
            self._forget_frames()
            if self.error is not None:
                raise self.error
            return 0
        self._show(frame)
        if self.reserved_bits and self.inflater is not None:
            if self.is_ahead_inflated:
                self._show_inflated_ahead()
            else:
                self._inflate(frame, self.inflated)
        self._step()
        frame.tail_size = buffer.write_pos - buffer.read_pos
        frame.last_in_buffer = not self._look_ahead()
        return 1

    cdef int ahead_msg_type(self) noexcept:
        return self.ahead_flags & OPCODE if self.ahead_ready else -1

    cdef WSFrame peek_ahead(self):
        cdef WSFrame frame = self.ahead
        if self.is_ahead_inflated:
            return frame
        self._show(frame)
        frame.tail_size = self.buffer.write_pos - self.buffer.read_pos - self._ahead_size()
        if self.inflater is not None:
            self.is_ahead_inflated = self._inflate(frame, self.inflated_ahead)
        return frame

    cdef int skip_ahead(self) except -1:
        if self.inflater is not None:
            self.peek_ahead()   # the next messages may refer to it
            self.is_ahead_inflated = False
        self._step()
        self.frame.last_in_buffer = not self._look_ahead()
        return 0

    cdef Py_ssize_t _ahead_size(self) noexcept:
        return self.ahead_header_size + self.ahead_payload_size

    cdef int _show(self, WSFrame frame) noexcept:
        """Fill `frame` from the frame ahead."""
        cdef uint8_t flags = self.ahead_flags
        frame.payload_ptr = self.buffer.data + self.buffer.read_pos + self.ahead_header_size
        frame.payload_size = self.ahead_payload_size
        frame.msg_type = <WSMsgType> (flags & OPCODE)
        frame.fin = flags >> 7
        frame.rsv1 = flags >> 6 & 1
        frame.rsv2 = flags >> 5 & 1
        frame.rsv3 = flags >> 4 & 1
        return 0

    cdef int _step(self) noexcept:
        """Leave the frame ahead behind."""
        self.buffer.read_pos += self._ahead_size()
        self.ahead_ready = False
        self.is_closed = self.ahead_flags & OPCODE == WSMsgType.CLOSE
        return 0

    cdef int _look_ahead(self) except -1:
        """Check the frame at buffer.read_pos as far as it has arrived; 1 if it is complete and right."""
        cdef:
            ReadBuffer buffer = self.buffer
            uint8_t* header = <uint8_t*> buffer.data + buffer.read_pos
            Py_ssize_t available = buffer.write_pos - buffer.read_pos
            Py_ssize_t header_size
            uint64_t size
            uint8_t flags, opcode

        if self.is_closed:
            buffer.read_pos = buffer.write_pos
            return 0
        if self.error is not None:
            return 0
        if available < 2:
            self.missing = 2 - available
            return 0

        flags = header[0]
        opcode = flags & OPCODE
        if flags & RESERVED_BITS and not self._may_reserve(flags):
            return self._reject(
                WSCloseCode.PROTOCOL_ERROR, f"reserved bits {flags & RESERVED_BITS:#04x} set where no extension uses them"
            )
        if opcode & CONTROL:
            if opcode > WSMsgType.PONG:
                return self._reject(WSCloseCode.PROTOCOL_ERROR, f"unknown opcode {opcode:#x}")
            if not flags & FIN:
                return self._reject(WSCloseCode.PROTOCOL_ERROR, "fragmented control frame")
            if header[1] & LENGTH > MAX_CONTROL_PAYLOAD:
                return self._reject(WSCloseCode.PROTOCOL_ERROR, "control frame with more than 125 bytes")
        elif opcode > WSMsgType.BINARY:
            return self._reject(WSCloseCode.PROTOCOL_ERROR, f"unknown opcode {opcode:#x}")
        elif (opcode == WSMsgType.CONTINUATION) != self.in_message:
            return self._reject(
                WSCloseCode.PROTOCOL_ERROR,
                "new message inside a fragmented one" if self.in_message else "continuation of no message",
            )
        if (header[1] & MASKED != 0) != self.expects_masked:
            return self._reject(
                WSCloseCode.PROTOCOL_ERROR,
                "client sent an unmasked frame" if self.expects_masked else "server sent a masked frame",
            )

        size = header[1] & LENGTH
        header_size = 2 + (2 if size == 126 else 8 if size == 127 else 0) + (4 if self.expects_masked else 0)
        if available < header_size:
            self.missing = header_size - available
            return 0
        # Section 5.2: the shortest encoding, and the most significant bit of the long one is 0.
        if size == 126:
            size = <uint64_t> header[2] << 8 | header[3]
            if size < 126:
                return self._reject(WSCloseCode.PROTOCOL_ERROR, f"length {size} in 16 bits")
        elif size == 127:
            size = (
                <uint64_t> header[2] << 56 | <uint64_t> header[3] << 48 | <uint64_t> header[4] << 40
                | <uint64_t> header[5] << 32 | <uint64_t> header[6] << 24 | <uint64_t> header[7] << 16
                | <uint64_t> header[8] << 8 | header[9]
            )
            if size >> 63:
                return self._reject(WSCloseCode.PROTOCOL_ERROR, f"length {size:#x} above 63 bits")
            if size < 65536:
                return self._reject(WSCloseCode.PROTOCOL_ERROR, f"length {size} in 64 bits")
        if size > <uint64_t> self.max_frame_size:
            return self._reject(
                WSCloseCode.MESSAGE_TOO_BIG, f"frame of {size} bytes, at most {self.max_frame_size} allowed"
            )
        if available - header_size < <Py_ssize_t> size:
            self.missing = header_size + <Py_ssize_t> size - available
            return 0

        self.missing = 2
        if self.expects_masked:
            apply_mask(header + header_size, size, header + header_size - 4, 0)
        if not opcode & CONTROL:
            self.in_message = not flags & FIN
        elif opcode == WSMsgType.CLOSE and not self._check_close(header + header_size, size):
            return 0
        self.ahead_flags = flags
        self.ahead_header_size = <uint8_t> header_size
        self.ahead_payload_size = <Py_ssize_t> size
        self.ahead_ready = True
        return 1

    cdef int _check_close(self, const uint8_t* payload, Py_ssize_t size) except -1:
        """Sections 5.5.1 and 7.4: nothing, or a code that may be on the wire and a reason in UTF-8. 0: rejected."""
        cdef picows_utf8_state utf8 = picows_utf8_start()
        cdef int code
        if size == 0:
            return 1
        if size == 1:
            return self._reject(WSCloseCode.PROTOCOL_ERROR, "CLOSE with half a code")
        code = payload[0] << 8 | payload[1]
        if not is_close_code_allowed(code):
            return self._reject(WSCloseCode.PROTOCOL_ERROR, f"CLOSE with code {code}")
        if not picows_utf8_feed(&utf8, payload + 2, size - 2) or utf8.missing:
            return self._reject(WSCloseCode.INVALID_TEXT, "CLOSE with a reason that is not UTF-8")
        return 1

    cdef int _reject(self, int code, str message) except -1:
        self.error = WSProtocolError(code, message)
        return 0

    cdef bint _may_reserve(self, uint8_t flags) noexcept:
        """Whether a negotiated extension lets the reserved bits of `flags` be set."""
        if flags & RESERVED_BITS & ~self.reserved_bits:
            return False
        if self.reserved_bits != RSV1:
            return True
        # RFC 7692 section 6: neither in a control frame nor in a continuation.
        return flags & OPCODE == WSMsgType.TEXT or flags & OPCODE == WSMsgType.BINARY

    cdef int _inflate(self, WSFrame frame, ReadBuffer buffer) except -1:
        """Have `frame` show, in `buffer`, what its payload inflates to; 0: it is not compressed."""
        cdef bytes payload
        cdef Py_ssize_t size
        frame.buffer = self.buffer
        if frame.msg_type & CONTROL:
            return 0
        if frame.msg_type != WSMsgType.CONTINUATION:
            self.is_compressed = frame.rsv1
        if not self.is_compressed:
            return 0
        try:
            payload = self.inflater.inflate_frame(frame.payload_ptr, frame.payload_size, frame.fin)
            size = PyBytes_GET_SIZE(payload)
            buffer.read_pos = buffer.write_pos = 0
            frame.payload_ptr = buffer.reserve(size)
        except Exception as exc:
            # What follows cannot be inflated either.
            self.error = exc if isinstance(exc, WSProtocolError) else WSProtocolError(
                WSCloseCode.INTERNAL_ERROR, f"inflating failed: {exc!r}"
            )
            self.ahead_ready = False
            self.frame.last_in_buffer = True
            raise self.error
        memcpy(frame.payload_ptr, PyBytes_AS_STRING(payload), size)
        buffer.write_pos = frame.payload_size = size
        frame.buffer = buffer
        frame.rsv1 = False
        return 1

    cdef int _show_inflated_ahead(self) noexcept:
        """Have `frame` show what peek_ahead() has inflated."""
        cdef ReadBuffer buffer = self.inflated_ahead
        self.inflated_ahead = self.inflated
        self.inflated = buffer
        self.frame.buffer = buffer
        self.frame.payload_ptr = buffer.data
        self.frame.payload_size = buffer.write_pos
        self.frame.rsv1 = False
        self.is_ahead_inflated = False
        return 0

    cdef int _forget_frames(self) noexcept:
        """Leave nothing in the frames that points to where other bytes will be."""
        self.frame.payload_ptr = self.ahead.payload_ptr = NULL
        self.frame.payload_size = self.ahead.payload_size = 0
        return 0

    def feed(self, data) -> None:
        """Commit `data`, as if it had been read from a socket. What next_frame_or_none() returned is dead after it."""
        self._forget_frames()
        self.buffer.append(data)

    def next_frame_or_none(self):
        """next_frame() for Python: the frame, which the next call reuses, or None."""
        return self.frame if self.next_frame() else None

    def read_size(self) -> int:
        """How many bytes may be read into the buffer now."""
        self.reserve(1)
        return self.buffer.capacity - self.buffer.write_pos


cpdef bint is_close_code_allowed(int code) noexcept:
    """True for a code that may stand in a CLOSE frame (RFC 6455 section 7.4, and the registry of close codes)."""
    return (
        1000 <= code <= 1003
        or 1007 <= code <= 1014
        or 3000 <= code <= 4999
    )
