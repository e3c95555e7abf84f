from libc.stdint cimport int64_t, uint8_t, uint64_t

from feeds.recording.message cimport RawMessage
from feeds.recording.record cimport MAX_SOURCE


# The far end: a bounded queue of whole blocks, and the thread that compresses, checksums, writes and syncs them.
# Knows nothing of messages. `failed` is the only field that the thread sets and the data path looks at per message.
cdef class BlockFile:
    cdef:
        # Set once, by the thread, with the GIL held; `failure` says why. What is queued then is thrown away.
        readonly bint failed
        readonly object failure
        readonly object stalled     # the error of a disk that is full, while we wait for room; else None
        bint wait_for_space         # until a full disk has room again, instead of failing
        bint closing                # the last job is in the queue

        # From the owner to the thread and back, without a lock that one could wait for: it is the data path that hands over.
        object jobs                 # a queue
        list spare                  # buffers to be used again
        int64_t submitted           # jobs, counted by the owner
        int64_t done                # counted by the thread
        object changed              # the condition of those who wait until more is done, and of the thread until `closing`

        readonly Py_ssize_t max_pending
        readonly Py_ssize_t buffer_size
        object new_part                     # part number -> the file, a BlockWriter
        object file                         # the current one
        int part
        int64_t blocks_before               # of messages, in the files before it
        int64_t bytes_before
        object thread


# Records messages. On the data path a message is one copy into the current block, no clock is read and nothing
# blocks; everything else happens on the thread of `BlockFile`. To be used from one thread.
cdef class RecordingWriter:
    cdef:
        readonly str path

        # Counts of messages and of their payload bytes. A dropped one is in `dropped` alone.
        readonly int64_t messages
        readonly int64_t payload_bytes
        readonly int64_t dropped
        readonly int64_t dropped_bytes

        BlockFile blocks
        bint closed
        bint failure_told           # an error of the thread has been raised: close() need not raise it again
        bint stop_when_full
        str stopped                 # why, under the policy "stop"; else None
        int64_t flush_interval      # ns

        # Rotation: the next message with this time or a later one looks whether a new file is due.
        bint is_rotating
        int64_t rotate_at
        int64_t rotate_interval     # ns; 0 = not by time
        int64_t rotate_bytes        # 0 = not by size
        object period               # number of the current interval since the epoch, None before the first message
        bint is_file_full
        int part                    # number of the file; the thread may be at an earlier one
        dict declarations           # source -> its declaration, which every file repeats

        # The current block. Bytes in [0, used) of `buffer` are encoded records, `count` of them.
        bytearray buffer
        Py_ssize_t used
        Py_ssize_t count
        uint64_t previous_ts        # ts_recv of the last record in it, modulo 2**64
        int64_t first_ts            # earliest and latest known ts_recv in it; 0 = none known
        int64_t last_ts
        bint declares               # there is a declaration in it

        bint unsynced               # something was recorded since the last sync
        int64_t unsynced_since      # ts_recv of the first of it; 0 = nothing, or unknown
        int64_t newest_ts           # ts_recv of the last message

        # The gap being made: messages dropped since the last one recorded.
        int64_t gap_messages
        int64_t gap_bytes
        int64_t gap_first_ts
        int64_t gap_last_ts

        int next_source
        uint8_t declared[MAX_SOURCE + 1]

    # Records `size` bytes at `payload`, which are copied. Returns 1; 0 if the message was dropped and counted: because the
    # queue is full, or because the recording has failed or stopped, which `problem` tells. A feed goes on either way.
    # `tag` is UTF-8, None for none. `ts_kernel` is when the kernel received the message, 0 = unknown. `frame_sizes` are the
    # sizes of the frames it came in, their payloads inflated; needed where there is more than one. Raises ValueError for
    # a source that was not declared, RecordingError for a closed recording and for a message that no block can hold.
    cdef int write_view(
        self, int64_t ts_recv, int source, int flags, const char* payload, Py_ssize_t size, bytes tag=*,
        int64_t ts_kernel=*, const uint64_t* frame_sizes=*, Py_ssize_t frames=*
    ) except -1
    cpdef bint write(self, RawMessage message) except -1

    cdef int _write(
        self, int64_t ts_recv, int source, int flags, const char* payload, Py_ssize_t size, bytes tag,
        const char* extension, Py_ssize_t extension_size
    ) except -1
    cdef uint64_t _age(self, int64_t now) noexcept
    cdef bint _lose(self, Py_ssize_t size) except -1
    cdef int _rotate(self, int64_t ts_recv) except -1
    cdef bint _seal(self, bint sync, bint force=*) except -1
    cdef bint _make_room(self, Py_ssize_t need, int64_t ts_recv, Py_ssize_t size, bint must) except -1
    cdef int _append(
        self, int64_t ts_recv, int source, int flags, const char* payload, Py_ssize_t size, bytes tag,
        const char* extension, Py_ssize_t extension_size
    ) except -1
    cdef int _append_note(self, str tag, bytes payload, int64_t ts_recv) except -1
    cdef int _append_gap(self) except -1
    cdef int _declare(self, int source, const char* payload, Py_ssize_t size) except -1
    cdef int _refuse(self) except -1
