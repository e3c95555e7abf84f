# cython: language_level=3
"""The memory that a connection reads into."""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.string cimport memcpy, memmove


cdef class Block:
    """The memory of a ReadBuffer, kept alive by memoryviews on it."""

    def __cinit__(self, Py_ssize_t capacity):
        self.data = <char*> PyMem_RawMalloc(capacity)
        if self.data == NULL:
            raise MemoryError(f"no memory for a read buffer of {capacity} bytes")
        self.capacity = capacity

    def __dealloc__(self):
        PyMem_RawFree(self.data)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.view_ptr, self.view_size, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1


@cython.final
cdef class ReadBuffer:
    """Bytes between the socket and the parser: written at the end, parsed at the front.

    Grows for a frame that does not fit and shrinks to `initial_capacity` (bytes, at least 256) afterwards.
    """

    def __cinit__(self, Py_ssize_t initial_capacity):
        if initial_capacity < 256:
            raise ValueError(f"expected an initial capacity of at least 256 bytes, found {initial_capacity}")
        self.initial_capacity = initial_capacity
        self.read_pos = self.write_pos = 0
        self._use(Block(initial_capacity))

    cdef char* reserve(self, Py_ssize_t at_least) except NULL:
        cdef Py_ssize_t unparsed = self.write_pos - self.read_pos
        cdef Py_ssize_t needed = unparsed + at_least
        if needed < self.initial_capacity:
            needed = self.initial_capacity
        if (
            needed > self.capacity
            or self.block.exports
            or (self.capacity > self.initial_capacity and needed == self.initial_capacity)
        ):
            self._move_to(needed)
        elif self.read_pos:
            if unparsed:
                memmove(self.data, self.data + self.read_pos, unparsed)
            self.read_pos = 0
            self.write_pos = unparsed
        return self.data + self.write_pos

    cdef int commit(self, Py_ssize_t size) except -1:
        if not 0 <= size <= self.capacity - self.write_pos:
            raise ValueError(f"expected 0 to {self.capacity - self.write_pos} bytes, found {size}")
        self.write_pos += size
        return 0

    cdef object view(self, char* ptr, Py_ssize_t size):
        self.block.view_ptr = ptr
        self.block.view_size = size
        return PyMemoryView_FromObject(self.block)

    def append(self, const unsigned char[::1] data not None):
        """Copy `data` in, as if it had been read from the socket."""
        cdef Py_ssize_t size = data.shape[0]
        if size:
            memcpy(self.reserve(size), &data[0], size)
            self.commit(size)

    def take(self) -> bytes:
        """Return the unparsed bytes and drop them from the buffer."""
        cdef bytes unparsed = PyBytes_FromStringAndSize(self.data + self.read_pos, self.write_pos - self.read_pos)
        self.read_pos = self.write_pos = 0
        return unparsed

    cdef int _move_to(self, Py_ssize_t capacity) except -1:
        cdef Block block = Block(capacity)
        cdef Py_ssize_t unparsed = self.write_pos - self.read_pos
        memcpy(block.data, self.data + self.read_pos, unparsed)
        self.read_pos = 0
        self.write_pos = unparsed
        self._use(block)
        return 0

    cdef int _use(self, Block block) except -1:
        self.block = block
        self.data = block.data
        self.capacity = block.capacity
        return 0
