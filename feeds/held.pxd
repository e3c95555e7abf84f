cimport cython
from libc.stdint cimport int64_t
from libc.string cimport memcpy


cdef struct HeldMessage:
    const char* view         # where it lies; NULL: it was copied
    Py_ssize_t at            # of a copy, in HeldMessages.data
    Py_ssize_t size
    int64_t ts_recv
    Py_ssize_t before        # the held message of the same stream before this one; -1: none


# Messages, in the order in which they came: views of them where they stay until the batch ends, as in a receive buffer that was
# read once for it; else copies. Both count against `max_bytes`, so that what is held never depends on where it lay.
@cython.final
cdef class HeldMessages:
    cdef:
        # One allocation each, grown by doubling and kept. Copies lie in [0, used).
        char* data
        Py_ssize_t used
        Py_ssize_t capacity
        Py_ssize_t max_bytes
        HeldMessage* messages
        Py_ssize_t count
        Py_ssize_t message_capacity

    cdef inline bint has_room(self, Py_ssize_t size, bint stays) noexcept:
        return size <= (self.max_bytes if stays else self.capacity) - self.used and self.count < self.message_capacity

    # Becomes the last of `messages`; there has to be room for it.
    cdef inline void put(self, const char* data, Py_ssize_t size, int64_t ts_recv, Py_ssize_t before, bint stays) noexcept:
        cdef HeldMessage* message = &self.messages[self.count]
        cdef char* at = self.data + self.used
        message.size = size
        message.ts_recv = ts_recv
        message.before = before
        message.view = data
        message.at = self.used
        self.used += size
        self.count += 1
        if not stays:
            message.view = NULL
            memcpy(at, data, size)

    cdef inline const char* text(self, const HeldMessage* message) noexcept:
        return self.data + message.at if message.view == NULL else message.view

    cdef void clear(self) noexcept
    # False where a message of this size would exceed `max_bytes`. May move `data` and `messages`.
    cdef bint make_room(self, Py_ssize_t size, bint stays) except -1
