from libc.stdint cimport int64_t

# Nanoseconds since the epoch. The live receiver calls this once per read; nothing else on the data path may.
cdef int64_t wall_ns() noexcept nogil
# Nanoseconds of a clock that never steps, for measuring how long something took.
cdef int64_t monotonic_ns() noexcept nogil
