from libc.stdint cimport int64_t


cdef extern from "receive.h" nogil:
    # recv(); with kernel_time_ns, also when the kernel received the last of the bytes that are returned (ns since the epoch), 0
    # if it cannot tell. The number of bytes, or -errno.
    Py_ssize_t picows_receive(int fd, void* data, size_t size, int flags, int64_t* kernel_time_ns)

    # Have the kernel note the times: 0, or -errno; -ENOTSUP where the system has none.
    int picows_ask_for_kernel_time(int fd)

    const int MSG_DONTWAIT
    const int MSG_PEEK
