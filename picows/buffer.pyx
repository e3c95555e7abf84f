# cython: language_level=3
"""The memory that a connection reads into, and that large frames are built in."""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memmove


cdef enum:
    # Smaller blocks are malloc()'s affair, which keeps them at hand. Larger ones it returns to the system, and asks for them
    # again: a connection that receives a frame of 1 MiB every millisecond would spend its time on page faults.
    SPARE_MIN_CAPACITY = 32 * 1024
    MAX_SPARES = 16
    # A spare may be so many times larger than what is asked for, unless that is what a buffer keeps.
    MAX_SPARE_EXCESS = 16

    # The kernel copies to and from its own pages, mostly from their first byte on. Where that is 1 to 31 bytes further in a
    # page than it was, Zen processors take six times as long ("rep movsb"); large blocks of malloc() are at 16.
    ALIGNMENT = 64

    # What a ReadBuffer reads at once while a peer sends more than it reads: fewer system calls, and still in the cache.
    FLOOD_CAPACITY = 512 * 1024
    # What it keeps for frames that do not fit into less, while they follow each other.
    MAX_KEPT_CAPACITY = 4 * 1024 * 1024

cdef char* _spares[MAX_SPARES]
cdef Py_ssize_t _spare_capacities[MAX_SPARES]
cdef int _spare_count = 0
cdef Py_ssize_t _spare_memory = 0
cdef Py_ssize_t _max_spare_memory = 8 * 1024 * 1024


cdef char* _take_spare(Py_ssize_t capacity, Py_ssize_t* found) noexcept:
    """The smallest spare that holds `capacity` bytes; NULL if there is none."""
    global _spare_count, _spare_memory
    cdef Py_ssize_t most = capacity * MAX_SPARE_EXCESS if capacity > FLOOD_CAPACITY else capacity
    cdef int i, best = -1
    cdef char* data
    for i in range(_spare_count):
        if capacity <= _spare_capacities[i] <= most and (
            best < 0 or _spare_capacities[i] < _spare_capacities[best]
        ):
            best = i
    if best < 0:
        return NULL
    data = _spares[best]
    found[0] = _spare_capacities[best]
    _spare_count -= 1
    _spare_memory -= found[0]
    _spares[best] = _spares[_spare_count]
    _spare_capacities[best] = _spare_capacities[_spare_count]
    return data


cdef bint _keep_spare(char* data, Py_ssize_t capacity) noexcept:
    global _spare_count, _spare_memory
    if (
        capacity < SPARE_MIN_CAPACITY
        or _spare_count == MAX_SPARES
        or _spare_memory + capacity > _max_spare_memory
    ):
        return False
    _spares[_spare_count] = data
    _spare_capacities[_spare_count] = capacity
    _spare_count += 1
    _spare_memory += capacity
    return True


def limit_spare_memory(Py_ssize_t size):
    """Let the process keep up to `size` bytes, 8 MiB by default, of large buffers that no connection uses now.

    They serve the next large frame. What exceeds the new limit is given back to the system at once.
    """
    global _spare_count, _spare_memory, _max_spare_memory
    if size < 0:
        raise ValueError(f"expected a size of 0 or more, found {size}")
    _max_spare_memory = size
    while _spare_memory > size:
        _spare_count -= 1
        _spare_memory -= _spare_capacities[_spare_count]
        PyMem_RawFree(_spares[_spare_count])


def spare_memory() -> int:
    """Bytes that limit_spare_memory() speaks of."""
    return _spare_memory


cdef class Block:
    """Memory of at least `capacity` bytes, kept alive by memoryviews on it."""

    def __cinit__(self, Py_ssize_t capacity):
        self.capacity = capacity
        if capacity >= SPARE_MIN_CAPACITY:
            self.allocation = _take_spare(capacity, &self.capacity)
        if self.allocation == NULL:
            self.allocation = <char*> PyMem_RawMalloc(capacity + ALIGNMENT)
        if self.allocation == NULL:
            raise MemoryError(f"no memory for a buffer of {capacity} bytes")
        self.data = <char*> ((<uintptr_t> self.allocation + ALIGNMENT) & ~<uintptr_t> (ALIGNMENT - 1))

    def __dealloc__(self):
        if self.allocation != NULL and not _keep_spare(self.allocation, self.capacity):
            PyMem_RawFree(self.allocation)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.view_ptr, self.view_size, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1


@cython.final
cdef class ReadBuffer:
    """Bytes between the socket and the parser: written at the end, parsed at the front.

    Grows for a frame that does not fit and shrinks to `initial_capacity` (bytes, at least 256) afterwards. It stays
    large, up to 512 KiB, while reads fill it, and up to 4 MiB from the second of several large frames on, until a
    read brings less than `initial_capacity`.
    """

    def __cinit__(self, Py_ssize_t initial_capacity):
        if initial_capacity < 256:
            raise ValueError(f"expected an initial capacity of at least 256 bytes, found {initial_capacity}")
        self.initial_capacity = self.usual_capacity = initial_capacity
        self.read_pos = self.write_pos = 0
        self._use(Block(initial_capacity))
        self.needed = initial_capacity

    cdef char* reserve(self, Py_ssize_t at_least) except NULL:
        cdef Py_ssize_t unparsed = self.write_pos - self.read_pos
        cdef Py_ssize_t needed = unparsed + at_least
        if needed < self.usual_capacity:
            needed = self.usual_capacity
        elif needed > self.usual_capacity >= self.needed:
            # One large frame says nothing about the next ones, two do.
            if self.had_large_frame and needed <= MAX_KEPT_CAPACITY:
                self.usual_capacity = needed
            self.had_large_frame = True
        if (
            needed > self.capacity
            or self.block.exports
            or (self.needed > self.usual_capacity and needed == self.usual_capacity)
        ):
            self._move_to(needed)
        elif self.read_pos:
            if unparsed:
                memmove(self.data, self.data + self.read_pos, unparsed)
            self.read_pos = 0
            self.write_pos = unparsed
        return self.data + self.write_pos

    cdef int commit(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t room = self.capacity - self.write_pos
        cdef bint begins = self.read_pos == self.write_pos
        if not 0 <= size <= room:
            raise ValueError(f"expected 0 to {room} bytes, found {size}")
        self.write_pos += size
        if size == room:
            # A buffer that was enlarged for a frame was filled by that.
            if self.capacity == self.usual_capacity < FLOOD_CAPACITY:
                self.usual_capacity = min(2 * self.usual_capacity, FLOOD_CAPACITY)
        elif begins and size < self.initial_capacity:
            self.usual_capacity = self.initial_capacity
            self.had_large_frame = False
        return 0

    cdef int give_back(self) except -1:
        if self.needed > self.usual_capacity and self.read_pos == self.write_pos:
            self._move_to(self.usual_capacity)
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
        self.needed = capacity
        return 0

    cdef int _use(self, Block block) except -1:
        self.block = block
        self.data = block.data
        self.capacity = block.capacity
        return 0
