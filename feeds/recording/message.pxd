from libc.stdint cimport int64_t

# The low 8 bits of `flags` say what a message is. The same numbers as the Python enumeration `Kind`, which documents
# them. A number that is not here is kept as it is: a newer writer may know it.
cdef enum:
    KIND_MASK = 0xff
    KIND_SOURCE = 0
    KIND_TEXT = 1
    KIND_BINARY = 2
    KIND_SENT = 3
    KIND_REQUEST = 4
    KIND_REPLY = 5
    KIND_CONNECTED = 6
    KIND_DISCONNECTED = 7
    KIND_STATUS = 8
    KIND_TICK = 9
    KIND_NOTE = 10

# The other bits. Python has these two names as well.
cpdef enum:
    LAST_IN_BATCH = 0x100       # the last complete message in the receive buffer
    DRAINED = 0x200             # the socket had no more to read


# One thing that happened, and when. Immutable by convention: nothing here writes to it after it is made.
cdef class RawMessage:
    cdef:
        readonly int64_t ts_recv    # ns since the epoch; 0 = unknown
        readonly int source         # number of the connection inside its recording; 0 = the recording itself
        readonly int flags          # kind and bits, above
        readonly str tag            # what a reply, a note or a request is for; "" for most
        readonly bytes payload      # owned
        readonly bytes extension    # what else is known, encoded as in the file; b"" for most


# The constructor without its argument parsing.
cdef RawMessage make_message(int64_t ts_recv, int source, int flags, str tag, bytes payload, bytes extension=*)


# Returns the kernel's receive time that an extension has, 0 if it has none.
cdef int64_t kernel_time(const char* extension, Py_ssize_t size) noexcept
