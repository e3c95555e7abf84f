cimport cython


# One allocation of bytes that memoryviews may outlive their use by a ReadBuffer. Large ones are reused: limit_spare_memory().
cdef class Block:
    cdef:
        char* allocation
        char* data                  # in it
        Py_ssize_t capacity         # what was asked for, or more

        # Memoryviews alive on this block. While there are any, a ReadBuffer does not write into it again.
        Py_ssize_t exports

        # Which bytes the next memoryview shows.
        char* view_ptr
        Py_ssize_t view_size


@cython.final
cdef class ReadBuffer:
    cdef:
        # Bytes in [read_pos, write_pos) have arrived and are unparsed; `data` is block.data.
        Block block
        char* data
        readonly Py_ssize_t capacity
        readonly Py_ssize_t read_pos
        readonly Py_ssize_t write_pos

        # What `capacity` returns to when what is unparsed fits in.
        readonly Py_ssize_t initial_capacity
        # The same while a peer sends faster than it is read, or one large frame after the other.
        Py_ssize_t usual_capacity
        bint had_large_frame
        # What the block was asked for, which may be larger.
        Py_ssize_t needed

    # Make room for at least `at_least` bytes behind write_pos and return where they begin; the caller may fill
    # capacity - write_pos of them. Moves the unparsed bytes to the front, gives memory back that a large frame no longer
    # needs, and may move `data`: pointers taken before it are dead after it.
    cdef char* reserve(self, Py_ssize_t at_least) except NULL

    # `size` bytes were written where reserve() said. ValueError if there was no room for as many.
    cdef int commit(self, Py_ssize_t size) except -1

    # Return to the usual capacity now, if nothing is unparsed, rather than at the next reserve(): that may be hours away.
    cdef int give_back(self) except -1

    # A read-only view of bytes of this buffer. It stays valid for as long as it is referenced: the price is that the
    # next reserve() takes a new block.
    cdef object view(self, char* ptr, Py_ssize_t size)

    cdef int _move_to(self, Py_ssize_t capacity) except -1
    cdef int _use(self, Block block) except -1
