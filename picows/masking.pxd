from libc.stdint cimport uint8_t

cdef extern from "mask.h":
    # (data, size, mask, phase): see mask.h.
    ctypedef void (*picows_mask_fn)(uint8_t*, size_t, const uint8_t*, size_t) noexcept nogil
    picows_mask_fn picows_mask_implementation(int index, const char** name) noexcept nogil

# The fastest implementation that this processor runs; chosen when the module is imported, never NULL.
cdef picows_mask_fn apply_mask

# Write four unpredictable bytes to `mask`. They come from a pool that one system call fills for 1024 frames.
cdef int next_mask(uint8_t* mask) except -1
