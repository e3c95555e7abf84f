from libc.stdint cimport int32_t, int64_t, uint64_t


cpdef enum:
    MAX_LEGS = 4                # connections of one line, the one that replaces another included


# Of the connections that bring the same messages one is the primary: it also brings what concerns a connection alone, and
# is asked for new snapshots. What the joined ones bring first is delivered too. Those that join only have theirs held.
cpdef enum Role:
    ABSENT = 0
    JOINING = 1
    JOINED = 2
    PRIMARY = 3


# What is known of messages that are equal byte for byte.
cdef struct Remembered:
    uint64_t hash
    uint64_t delivered          # how many were delivered, and
    uint64_t seen[MAX_LEGS]     # how many each leg has brought, those that are held too, or that it is not expected to bring any more
    uint64_t last               # the last delivery, as `Arbiter._newest` counts them
    int64_t ts                  # its time
    int32_t references          # deliveries that are remembered, and messages that are held; the slot is free when there are none
    int32_t next                # in its bucket, or among the free slots; -1: none


cdef struct Delivery:
    int64_t ts
    uint64_t ordinal            # the how-many-th of its kind it was
    int32_t slot


cdef class Arbiter:
    cdef:
        readonly Py_ssize_t memory           # deliveries that are remembered at most
        readonly int64_t memory_age          # ns
        readonly int64_t grace               # ns
        readonly Py_ssize_t max_held_bytes   # of each leg
        readonly uint64_t delivered
        readonly uint64_t copies
        readonly bint is_lost                # what the primary leg brings can no longer be told from copies
        readonly int primary                 # the leg, -1: none
        uint64_t _seed
        Remembered* _slots
        int32_t* _buckets
        Delivery* _deliveries                # a ring; [_oldest, _newest) are remembered, [_unexamined, _newest) may be under way
        uint64_t _oldest, _unexamined, _newest
        Py_ssize_t _bucket_mask
        int32_t _free                        # the first of the slots that are free again; -1: none
        int32_t _used                        # those behind have never been used
        Py_ssize_t _held_count               # of all legs
        bint _is_batch_open
        # By leg:
        int _roles[MAX_LEGS]
        int64_t _clean_since[MAX_LEGS]       # nothing has shown since then that the leg is out of step
        int64_t _reached[MAX_LEGS]           # how far it has come: when the newest message was delivered of which it brought its copy
        bint _has_matched[MAX_LEGS]          # of what was held since then something has been delivered
        Py_ssize_t _held_bytes[MAX_LEGS]
        list _held                           # deques of (slot, how many of its kind the leg had brought with it, ts, kind, payload)
        list _reasons                        # in words, why it is not in step
        tuple _answers, _snapshots           # the beginnings of messages, in parts

    # Whether the message goes to the pipeline; if not, it is a copy, is held, or concerns its connection alone.
    cdef bint admits(self, int leg, int kind, const char* data, Py_ssize_t size, int64_t ts, bint last) except -1
    # Whether what was admitted has to be told now that the batch has ended: asked for messages that were not admitted.
    cdef bint ends_batch(self) noexcept
    cdef int32_t _find(self, uint64_t hash) noexcept
    cdef int32_t _remember(self, uint64_t hash) noexcept
    cdef void _release(self, int32_t slot) noexcept
    cdef int _deliver(self, int32_t slot, int64_t ts) except -1
    cdef bint _admits_new(self, int leg, int kind, uint64_t hash, int32_t slot, const char* data, Py_ssize_t size,
                          int64_t ts) except -1
    cdef int _hold(self, int leg, int kind, uint64_t hash, int32_t slot, const char* data, Py_ssize_t size,
                   int64_t ts) except -1
    cdef int _examine(self, int64_t now) except -1
    cdef int _forget_oldest(self, int64_t now) except -1
    cdef int _trim_held(self, int leg, int64_t now) except -1
    cdef int _drop_held(self, int leg) except -1
    cdef int _disturb(self, int leg, int64_t now, str reason) except -1
