cimport cython
from libc.stdint cimport int64_t
from libc.string cimport memcpy


cdef struct HeldMessage:
    Py_ssize_t at            # in HeldMessages.data
    Py_ssize_t size
    int64_t ts_recv
    Py_ssize_t before        # the held message of the same stream before this one; -1: none


# Copies of messages, in the order in which they came. Copied, because a batch may outlive the memory that they lie in: it ends
# late where a large message is read apart, and never where the peer breaks the protocol behind them.
@cython.final
cdef class HeldMessages:
    cdef:
        # One allocation each, grown by doubling and kept. Bytes in [0, used) are of messages.
        char* data
        Py_ssize_t used
        Py_ssize_t capacity
        Py_ssize_t max_bytes
        HeldMessage* messages
        Py_ssize_t count
        Py_ssize_t message_capacity

    cdef inline bint has_room(self, Py_ssize_t size) noexcept:
        return size <= self.capacity - self.used and self.count < self.message_capacity

    # Becomes the last of `messages`; there has to be room for it.
    cdef inline void put(self, const char* data, Py_ssize_t size, int64_t ts_recv, Py_ssize_t before) noexcept:
        cdef HeldMessage* message = &self.messages[self.count]
        cdef char* at = self.data + self.used
        message.at = self.used
        message.size = size
        message.ts_recv = ts_recv
        message.before = before
        self.used += size
        self.count += 1
        memcpy(at, data, size)

    cdef void clear(self) noexcept
    # False where a message of this size would exceed `max_bytes`. May move `data` and `messages`.
    cdef bint make_room(self, Py_ssize_t size) except -1
