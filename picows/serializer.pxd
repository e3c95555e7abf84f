from libc.stdint cimport uint8_t

from picows.frame cimport WSMsgType

cdef enum:
    # Longest frame header: two bytes, a length of eight, a mask of four (RFC 6455 section 5.2).
    MAX_HEADER_SIZE = 14

# Size of the header in front of `payload_size` bytes.
cdef Py_ssize_t frame_header_size(Py_ssize_t payload_size, bint masked) noexcept nogil

# The first byte of a header.
cdef uint8_t frame_flags(WSMsgType msg_type, bint fin, bint rsv1, bint rsv2, bint rsv3) noexcept nogil

# Write the header to `out`, which has room for frame_header_size() bytes. `mask` is NULL or the four mask bytes; masking
# the payload is the caller's. Returns how many bytes were written.
cdef Py_ssize_t write_frame_header(
    uint8_t* out, uint8_t flags, Py_ssize_t payload_size, const uint8_t* mask
) noexcept nogil

# A complete frame, header included, to `out`, which has room for it; with `masked`, under a fresh mask. Returns its size.
cdef Py_ssize_t write_frame(
    uint8_t* out, uint8_t flags, const char* payload, Py_ssize_t payload_size, bint masked
) except -1
