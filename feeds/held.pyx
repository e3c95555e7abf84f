# cython: language_level=3, boundscheck=False, wraparound=False
"""Messages held back until it is known whether a newer one supersedes them."""
cimport cython
from libc.stdlib cimport free, realloc

__all__ = ["HeldMessages"]

cdef enum:
    FIRST_BYTES = 4096
    FIRST_MESSAGES = 32


@cython.final
cdef class HeldMessages:

    def __cinit__(self, Py_ssize_t max_bytes):
        self.max_bytes = max_bytes

    def __dealloc__(self):
        free(self.data)
        free(self.messages)

    cdef void clear(self) noexcept:
        self.used = self.count = 0

    cdef bint make_room(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t capacity = self.capacity
        cdef char* data
        cdef HeldMessage* messages
        if size > self.max_bytes - self.used:
            return False
        if size > capacity - self.used:
            capacity = min(max(capacity * 2, self.used + size, FIRST_BYTES), self.max_bytes)
            data = <char*> realloc(self.data, capacity)
            if data == NULL:
                raise MemoryError(f"no room to hold {capacity} bytes of messages")
            self.data = data
            self.capacity = capacity
        if self.count == self.message_capacity:
            capacity = max(self.message_capacity * 2, FIRST_MESSAGES)
            messages = <HeldMessage*> realloc(self.messages, capacity * sizeof(HeldMessage))
            if messages == NULL:
                raise MemoryError(f"no room to hold {capacity} messages")
            self.messages = messages
            self.message_capacity = capacity
        return True
