from libc.stdint cimport int64_t

from picows.protocol cimport FrameProtocol


# Reads the socket of a connection in place of its transport, which goes on to write and to close. To the protocol above it
# (FrameProtocol, a TLS layer, or the tunnel through a proxy) it is the transport; to the transport it is the protocol.
cdef class SocketReader:
    cdef:
        object __weakref__

        readonly object transport           # plain: below any TLS
        object protocol                     # who gets the bytes
        object loop
        object poller                       # BusyPoller that asks for reads, or None: the event loop does

        # What of a transport is called for each frame.
        readonly object write
        readonly object get_write_buffer_size

        # Who gets the frames in the end: `protocol` itself, or behind a TLS layer.
        FrameProtocol frames
        bint is_direct                      # `protocol` is `frames`
        bint is_buffered                    # `protocol` says where to read into

        int fd
        bint has_kernel_time
        bint reads
        bint is_ended                       # nothing comes any more
        object error                        # the OSError that ended it, or None

    # Read what is there, up to MAX_BYTES_A_TURN; returns how many bytes.
    cdef Py_ssize_t read(self) except -1

    cdef Py_ssize_t _read_once(self, Py_ssize_t* room) except -2
    cdef Py_ssize_t _receive(self, void* data, Py_ssize_t size) except -2
    cdef Py_ssize_t _found(self, Py_ssize_t error) except -2
    cdef int _ended(self) except -1
    cdef int _stop(self) except -1
    cdef int _wait_for_bytes(self) except -1


# Asks the readers of one event loop for what has arrived, again and again: the loop never sleeps in the kernel.
cdef class BusyPoller:
    cdef:
        object __weakref__

        object loop
        list readers
        int64_t turn_ns
        readonly bint is_running
        object turn                         # bound method _turn

    cdef int _schedule(self) except -1
