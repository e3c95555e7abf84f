cimport cython
from libc.stdint cimport int64_t
from libc.string cimport memcpy


cdef struct HeldMessage:
    Py_ssize_t at            # in HeldMessages.data
    Py_ssize_t size
    int64_t ts_recv
    Py_ssize_t before        # the held message of the same stream before this one; -1: none
    int count                # this one and those before


# Copies of messages, in the order in which they came. Copied once, because the receive buffer that they lie in is used
# again before the batch ends where a batch has several reads, and in tests and replays whenever it pleases.
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

    # Returns the index in `messages`; -1 where the message would exceed `max_bytes`. May move `data` and `messages`.
    cdef inline Py_ssize_t add(self, const char* data, Py_ssize_t size, int64_t ts_recv, Py_ssize_t before) except -2:
        cdef Py_ssize_t index = self.count
        cdef HeldMessage* message
        if (size > self.capacity - self.used or index == self.message_capacity) and not self._make_room(size):
            return -1
        message = &self.messages[index]
        message.at = self.used
        message.size = size
        message.ts_recv = ts_recv
        message.before = before
        message.count = 1 if before < 0 else self.messages[before].count + 1
        memcpy(self.data + self.used, data, size)
        self.used += size
        self.count += 1
        return index

    cdef void clear(self) noexcept
    cdef bint _make_room(self, Py_ssize_t size) except -1
