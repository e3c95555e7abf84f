# cython: language_level=3, boundscheck=False, wraparound=False
"""permessage-deflate: compressing and inflating the messages of a connection (RFC 7692 section 7.2).

Through Python's zlib module: the headers of zlib itself are not everywhere where Python's are.
"""
import zlib

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory

from picows.frame cimport WSCloseCode

from picows.errors import WSProtocolError

cdef object _compressobj = zlib.compressobj
cdef object _decompressobj = zlib.decompressobj
cdef object _ZlibError = zlib.error
cdef int _DEFLATED = zlib.DEFLATED
cdef int _SYNC_FLUSH = zlib.Z_SYNC_FLUSH

cdef enum:
    # A flush ends with an empty stored block; the length fields of the last one stay off the wire (section 7.2.1).
    TAIL_SIZE = 4
    # Final blocks that one frame may hold. A sender that uses them needs one; each costs us a new decompressor.
    MAX_STREAMS_PER_FRAME = 16

cdef bytes _TAIL = b"\x00\x00\xff\xff"
# The same, and an empty final block: zlib then says whether the message ended where a block does.
cdef bytes _TAIL_AND_END = b"\x00\x00\xff\xff\x03\x00"


cdef int _zlib_bits(int window_bits) except -1:
    """The window that zlib is asked for.

    zlib cannot compress with 8. With 9 it looks back at most 2 ** 9 - 262 = 250 bytes (its MAX_DIST), which a receiver
    with a window of 256 can follow.
    """
    if not 8 <= window_bits <= 15:
        raise ValueError(f"expected window_bits from 8 to 15, found {window_bits}")
    return 9 if window_bits == 8 else window_bits


@cython.final
cdef class Deflater:
    """Compresses the messages of one direction of one connection.

    window_bits -- 8 to 15, as agreed.
    keeps_context -- False: each message begins anew ("no_context_takeover").
    threshold -- bytes; a message in one frame that is shorter goes uncompressed.
    level, memory_level -- those of zlib.
    """

    def __cinit__(
        self, int window_bits=15, bint keeps_context=True, Py_ssize_t threshold=0, int level=6, int memory_level=8
    ):
        _zlib_bits(window_bits)
        self.window_bits = window_bits
        self.keeps_context = keeps_context
        self.threshold = threshold
        self.level = level
        self.memory_level = memory_level

    cdef bytes deflate_frame(self, const char* payload, Py_ssize_t size, bint begins, bint fin):
        cdef bytes head, tail
        if begins:
            self.is_compressing = not fin or (size > 0 and size >= self.threshold)
        if not self.is_compressing:
            return None
        if self.compressor is None:
            self.compressor = _compressobj(self.level, _DEFLATED, -_zlib_bits(self.window_bits), self.memory_level)
        if size:
            try:
                head = self.compressor.compress(PyMemoryView_FromMemory(<char*> payload, size, PyBUF_READ))
                tail = self.compressor.flush(_SYNC_FLUSH)
            except MemoryError:
                # This one must not refer to what never went out; a new one refers to nothing.
                self.compressor = None
                raise
            if PyBytes_GET_SIZE(head):
                tail = head + tail
            if fin:
                tail = tail[:PyBytes_GET_SIZE(tail) - TAIL_SIZE]
        else:
            # zlib flushes nothing twice. What was sent before ends at a block: this is an empty one (section 7.2.3.6).
            tail = b"\x00" if fin else b""
        if fin and not self.keeps_context:
            self.compressor = None
            if begins and PyBytes_GET_SIZE(tail) >= size:
                return None
        return tail

    def deflate(self, const unsigned char[::1] payload not None, begins=True, fin=True):
        """The payload of one frame compressed, or None if the frame has to go as it is.

        `begins`, `fin` -- whether it is the first, the last frame of its message.
        """
        cdef Py_ssize_t size = payload.shape[0]
        return self.deflate_frame(<const char*> &payload[0] if size else NULL, size, begins, fin)


@cython.final
cdef class Inflater:
    """Inflates the compressed messages of one direction of one connection.

    window_bits -- 8 to 15, as agreed.
    keeps_context -- False: the peer begins each message anew ("no_context_takeover").
    max_message_size -- bytes; a message that inflates to more is rejected with MESSAGE_TOO_BIG before it is complete.
    """

    def __cinit__(
        self, int window_bits=15, bint keeps_context=True, Py_ssize_t max_message_size=10 * 1024 * 1024
    ):
        _zlib_bits(window_bits)
        if max_message_size < 1:
            raise ValueError(f"expected a max_message_size of at least 1, found {max_message_size}")
        self.window_bits = window_bits
        self.keeps_context = keeps_context
        self.max_message_size = max_message_size
        self.window = bytearray()

    cdef bytes inflate_frame(self, const char* payload, Py_ssize_t size, bint fin):
        cdef bytes inflated = b""
        self.compressed_size += size
        if size:
            inflated = self._inflate(PyMemoryView_FromMemory(<char*> payload, size, PyBUF_READ))
        if fin:
            # A message of no bytes at all lacks even the one that an empty message takes: zlib is not shown its tail.
            if self.compressed_size:
                self._inflate_tail()
            self._end_message()
        return inflated

    cdef bytes _inflate(self, compressed):
        cdef bytes inflated = None, piece
        cdef Py_ssize_t room
        cdef int streams
        for streams in range(MAX_STREAMS_PER_FRAME + 1):
            if self.decompressor is None:
                self._continue_stream()
            room = self.max_message_size - self.inflated_size
            try:
                piece = self.decompressor.decompress(compressed, room + 1)
            except _ZlibError as exc:
                raise WSProtocolError(WSCloseCode.INVALID_TEXT, f"compressed message is not DEFLATE data: {exc}")
            if PyBytes_GET_SIZE(piece) > room:
                raise WSProtocolError(
                    WSCloseCode.MESSAGE_TOO_BIG, f"message inflates to more than {self.max_message_size} bytes"
                )
            self.inflated_size += PyBytes_GET_SIZE(piece)
            self._remember(piece)
            inflated = piece if inflated is None else inflated + piece
            if not self.decompressor.eof:
                return inflated
            # A final block, behind which the sender may go on (section 7.2.3.4).
            compressed = self.decompressor.unused_data
            self.decompressor = None
            if not compressed:
                return inflated
        raise WSProtocolError(
            WSCloseCode.INVALID_TEXT, f"more than {MAX_STREAMS_PER_FRAME} final DEFLATE blocks in a frame"
        )

    cdef int _inflate_tail(self) except -1:
        cdef bytes inflated
        if self.decompressor is None:
            return 0    # the message ended with a final block
        try:
            inflated = self.decompressor.decompress(_TAIL if self.keeps_context else _TAIL_AND_END, 1)
        except _ZlibError as exc:
            raise WSProtocolError(WSCloseCode.INVALID_TEXT, f"compressed message is not DEFLATE data: {exc}")
        # Inside a block the tail passes for data, mostly.
        if PyBytes_GET_SIZE(inflated) or self.decompressor.eof == self.keeps_context:
            raise WSProtocolError(WSCloseCode.INVALID_TEXT, "compressed message ends inside a DEFLATE block")
        return 0

    cdef int _continue_stream(self) except -1:
        cdef int bits = _zlib_bits(self.window_bits)
        if self.window:
            self.decompressor = _decompressobj(-bits, bytes(self.window[-(1 << bits):]))
        else:
            self.decompressor = _decompressobj(-bits)
        return 0

    cdef int _remember(self, bytes inflated) except -1:
        cdef Py_ssize_t window_size = <Py_ssize_t> 1 << _zlib_bits(self.window_bits)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(inflated)
        if size >= window_size:
            self.window = bytearray(inflated[size - window_size:])
        else:
            self.window += inflated
            if len(self.window) >= 2 * window_size:
                del self.window[:len(self.window) - window_size]
        return 0

    cdef int _end_message(self) except -1:
        self.compressed_size = 0
        self.inflated_size = 0
        if not self.keeps_context:
            self.decompressor = None
            self.window = bytearray()
        return 0

    def inflate(self, const unsigned char[::1] payload not None, fin=True) -> bytes:
        """What the payload of one frame of a compressed message inflates to; `fin`: it is the last one.

        WSProtocolError, after which the Inflater is of no use: MESSAGE_TOO_BIG, or INVALID_TEXT for what is not DEFLATE
        data or ends inside a block. The last is certain to be noticed where no context is kept, else mostly.
        """
        cdef Py_ssize_t size = payload.shape[0]
        return self.inflate_frame(<const char*> &payload[0] if size else NULL, size, fin)
