from libc.stdint cimport int64_t

from picows.frame cimport WSFrame
from picows.listener cimport WSListener
from picows.parser cimport FrameParser
from picows.transport cimport WSTransport


cdef int64_t monotonic_ns() noexcept nogil


# What the event loop calls: bytes of one connection into the parser, frames out to the listener. The opening handshake
# is a subclass's (client.py, server.py), which calls open() when it has succeeded.
cdef class FrameProtocol:
    cdef:
        object __weakref__

        readonly FrameParser parser
        readonly WSTransport transport      # None until open()
        readonly WSListener listener        # None until open()
        readonly object logger

        bint is_listener_python
        bint disconnect_on_exception
        bint enable_auto_pong
        # How many reads may follow one of the event loop before its frames are delivered; 0 under TLS.
        int read_until_drained
        # Bytes of memory that the event loop was offered for its read, and whether it filled them.
        Py_ssize_t offered
        bint is_read_full
        # A TLS layer stands between the socket and us, with memory of its own.
        bint is_layered
        # That layer hands out records one by one: no read says that it is empty.
        bint is_layer_opaque
        # The underlying transport's buffer is above its high-water mark.
        bint is_writing_paused

        # When the kernel received the last read, in ns since the epoch; 0 where nobody tells.
        int64_t kernel_time_ns
        bint has_kernel_time

        # Monotonic time of the last read; kept only with a keepalive, which alone asks.
        readonly int64_t last_read_ns
        object keepalive
        object make_keepalive

        # An exception that came out of asking about the frame ahead; raised when the frame before it was delivered.
        object postponed

    # What get_buffer() and buffer_updated() do: where to read into, and that so many bytes were read.
    cdef char* begin_read(self, Py_ssize_t* size) except NULL
    cdef int end_read(self, Py_ssize_t nbytes) except -1

    # Read what has arrived since, so that the last frame that is delivered is the newest there is.
    cdef int _read_on(self) except -1
    cdef int _deliver(self) except -1
    cdef int _deliver_frames(self) except -1
    cdef int _deliver_close(self, WSFrame frame) except -1
    # True for a frame that the listener does not see: a PING that is answered, the pong of our own ping.
    cdef bint _consumes(self, WSFrame frame) except -1
    # Drop such frames behind the current one, so that its last_in_buffer tells the listener the truth. True if the frame
    # that is ahead now has been asked about.
    cdef bint _consume_ahead(self) except -1
    cdef int _failed(self, exc) except -1
