cimport cython


# Compresses the messages of one direction of one connection (RFC 7692 section 7.2.1).
@cython.final
cdef class Deflater:
    cdef:
        # What was agreed, and how hard to try.
        readonly int window_bits
        readonly bint keeps_context
        readonly Py_ssize_t threshold
        readonly int level
        readonly int memory_level

        # zlib's compressor; None until needed, and between messages that share no context.
        object compressor
        # The message that is being sent in fragments has begun compressed.
        bint is_compressing

    # The payload to send instead of `payload`, with RSV1 set if it `begins` a message; None: send the frame as it is.
    cdef bytes deflate_frame(self, const char* payload, Py_ssize_t size, bint begins, bint fin)


# Inflates what a Deflater of the peer has made (section 7.2.2): pieces in, pieces out, in order.
@cython.final
cdef class Inflater:
    cdef:
        # What was agreed.
        readonly int window_bits
        readonly bint keeps_context
        readonly Py_ssize_t max_message_size

        # zlib's decompressor; None until needed, and between messages that share no context.
        object decompressor
        # The end of what has come out, at least one window of it, for a DEFLATE stream that goes on after its final block.
        bytearray window
        # Of the message so far.
        Py_ssize_t compressed_size
        Py_ssize_t inflated_size

    # What the payload of one frame of a compressed message inflates to. WSProtocolError if the message becomes too large or
    # is not DEFLATE data; no more than one byte beyond the limit is ever inflated. Of no use after an error.
    cdef bytes inflate_frame(self, const char* payload, Py_ssize_t size, bint fin)

    cdef bytes _inflate(self, compressed)
    # Put back what the sender left off; it must not inflate to anything.
    cdef int _inflate_tail(self) except -1
    cdef int _continue_stream(self) except -1
    cdef int _remember(self, bytes inflated) except -1
    cdef int _end_message(self) except -1
