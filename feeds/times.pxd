from libc.stdint cimport int64_t


# What `iso_ns` returns, of text that is not a Python string; -1 for what is no time.
cdef int64_t iso_time(const char* p, Py_ssize_t size) noexcept nogil
