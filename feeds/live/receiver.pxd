from libc.stdint cimport int64_t, uint64_t

from feeds.live.arbiter cimport Arbiter
from feeds.pipeline cimport Pipeline
from feeds.recording.writer cimport RecordingWriter
from picows.assembler cimport MessageAssembler
from picows.frame cimport WSFrame
from picows.listener cimport WSListener
from picows.transport cimport WSTransport


cdef enum:
    MAX_FRAME_SIZES = 64        # a message in more frames is recorded without them


# Between socket and pipeline: the one place on the data path that reads a clock, once per socket read. Everything that
# reaches the pipeline passes here, and is recorded first.
cdef class Receiver(WSListener):
    cdef:
        readonly Pipeline pipeline
        readonly RecordingWriter writer      # None: not recorded
        readonly int source
        readonly uint64_t frames
        readonly int64_t ts_recv             # of the batch in progress, or of the last one
        readonly bint is_connected
        readonly bint is_detached            # the session has ended: what still happens is nobody's business
        str _disconnect_reason               # why we closed, for the record
        readonly Py_ssize_t max_message_size
        # Under TLS: how many reads a batch may take beyond the first, and seconds that it may wait for them.
        readonly int drain_reads
        readonly double drain_timeout
        object _shell                        # told of requests: see Receiver
        # Where several receivers, each with a connection of its own, share the pipeline; None: this is the only one.
        public Arbiter arbiter
        readonly int leg                     # which of them this is to the arbiter
        WSTransport _transport               # None: not connected
        MessageAssembler _assembler
        bint _in_read
        int _more_reads                      # of the batch in progress
        object _drain_timer                  # loop.call_later handle: ends a batch whose next read does not come
        # A large message, whose levels a thread reads, and all that has come since: (call, payload to be taken apart or None).
        readonly Py_ssize_t large_message    # bytes
        Py_ssize_t _put_off_from             # the same, or 0 while there are any
        object _put_off
        bint _is_apart                       # the first of them is with the thread

        # The data frames of the message in progress, for the record: their payload sizes, as far as there is room.
        uint64_t _frame_sizes[MAX_FRAME_SIZES]
        uint64_t _message_frames

    cdef int _receive(self, WSFrame frame) except -1
    cdef int _passed_over(self) except -1
    cdef int _put_off_message(self, int kind, int64_t ts_kernel) except -1
    cdef bint _add(self, WSFrame frame) except -1
    # Whether the batch takes the next read in.
    cdef bint _drains_on(self) except -1
    cdef int _batch_ended(self) except -1
    cdef int _record(self, int flags, bytes payload, str tag) except -1
    cdef int _end_batch(self) except -1
    cdef int _take_end(self) except -1
