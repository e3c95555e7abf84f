"""The encoding of one message inside a block, shared by writer and reader (docs/recording-format.md, "Records").

Six varints, then three strings of bytes:

    ts_recv  zigzag of the difference to the record before, the first one's to 0; modulo 2**64
    source   flags   tag_size   extension_size   payload_size
    tag      extension          payload

The extension is items: two varints, what it is and its size, and so many bytes.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy


cdef enum:
    MAX_VARINT_SIZE = 10
    # ts_recv and payload_size at their longest; source, flags, tag_size and extension_size have 32 bits at most.
    MAX_RECORD_HEAD = 2 * MAX_VARINT_SIZE + 4 * 5
    MAX_SOURCE = 65535          # the highest number of a source
    MAX_TAG_SIZE = 65535
    KERNEL_TIME_ITEM = 1
    FRAME_SIZES_ITEM = 2
    KERNEL_TIME_SIZE = 10       # the whole item


# Writes at most MAX_VARINT_SIZE bytes at `p`; returns where the next byte goes.
cdef inline uint8_t* put_varint(uint8_t* p, uint64_t value) noexcept nogil:
    while value >= 0x80:
        p[0] = <uint8_t> (value | 0x80)
        p += 1
        value >>= 7
    p[0] = <uint8_t> value
    return p + 1


# Returns where the next byte is; NULL when the varint does not end before `end` or has more than 64 bits.
cdef inline const uint8_t* get_varint(const uint8_t* p, const uint8_t* end, uint64_t* value) noexcept nogil:
    cdef uint64_t result = 0
    cdef int shift = 0
    if end - p >= 2:                    # one byte or two: nearly always
        if p[0] < 0x80:
            value[0] = p[0]
            return p + 1
        if p[1] < 0x80:
            value[0] = <uint64_t> (p[0] & 0x7f) | <uint64_t> p[1] << 7
            return p + 2
    while p < end:
        if shift == 63 and p[0] > 1:
            return NULL
        result |= <uint64_t> (p[0] & 0x7f) << shift
        if p[0] < 0x80:
            value[0] = result
            return p + 1
        p += 1
        shift += 7
    return NULL


cdef inline uint64_t zigzag(uint64_t difference) noexcept nogil:
    return (difference << 1) ^ (0 - (difference >> 63))


cdef inline uint64_t unzigzag(uint64_t value) noexcept nogil:
    return (value >> 1) ^ (0 - (value & 1))


# Writes KERNEL_TIME_SIZE bytes. (Every system that we build for is little-endian, as the format is.)
cdef inline uint8_t* put_kernel_time(uint8_t* p, int64_t ts_kernel) noexcept nogil:
    p[0] = KERNEL_TIME_ITEM
    p[1] = 8
    memcpy(p + 2, &ts_kernel, 8)
    return p + KERNEL_TIME_SIZE


# Finds an item of an extension: returns where its content is and sets `size`; NULL if there is none, or only damage.
cdef inline const uint8_t* find_item(
    const uint8_t* p, const uint8_t* end, uint64_t wanted, uint64_t* size
) noexcept nogil:
    cdef uint64_t item
    while p < end:
        p = get_varint(p, end, &item)
        if p != NULL:
            p = get_varint(p, end, size)
        if p == NULL or size[0] > <uint64_t> (end - p):
            return NULL
        if item == wanted:
            return p
        p += size[0]
    return NULL
