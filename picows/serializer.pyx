# cython: language_level=3, boundscheck=False, wraparound=False
"""From payloads to bytes on the wire (RFC 6455 section 5.2)."""
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from picows.frame cimport WSMsgType
from picows.masking cimport apply_mask, next_mask


cdef Py_ssize_t frame_header_size(Py_ssize_t payload_size, bint masked) noexcept nogil:
    return (2 if payload_size < 126 else 4 if payload_size < 65536 else 10) + (4 if masked else 0)


cdef uint8_t frame_flags(WSMsgType msg_type, bint fin, bint rsv1, bint rsv2, bint rsv3) noexcept nogil:
    return <uint8_t> (fin << 7 | rsv1 << 6 | rsv2 << 5 | rsv3 << 4 | <int> msg_type)


cdef Py_ssize_t write_frame_header(
    uint8_t* out, uint8_t flags, Py_ssize_t payload_size, const uint8_t* mask
) noexcept nogil:
    cdef uint8_t* pos = out + 2
    cdef int shift
    out[0] = flags
    if payload_size < 126:
        out[1] = <uint8_t> payload_size
    elif payload_size < 65536:
        out[1] = 126
        pos[0] = <uint8_t> (payload_size >> 8)
        pos[1] = <uint8_t> payload_size
        pos += 2
    else:
        out[1] = 127
        for shift in range(8):
            pos[shift] = <uint8_t> (payload_size >> (56 - 8 * shift))
        pos += 8
    if mask != NULL:
        out[1] |= 0x80
        memcpy(pos, mask, 4)
        pos += 4
    return pos - out


cdef Py_ssize_t write_frame(
    uint8_t* out, uint8_t flags, const char* payload, Py_ssize_t payload_size, bint masked
) except -1:
    cdef:
        uint8_t mask[4]
        Py_ssize_t header_size
    if masked:
        next_mask(mask)
    header_size = write_frame_header(out, flags, payload_size, mask if masked else NULL)
    memcpy(out + header_size, payload, payload_size)
    if masked:
        apply_mask(out + header_size, payload_size, mask, 0)
    return header_size + payload_size


def serialize_frame(msg_type, payload, *, fin=True, rsv1=False, mask=None) -> bytes:
    """Return one frame as it goes on the wire.

    `payload` is bytes-like or str; `mask` None (a server's frame) or the four bytes to mask with (a client's). Nothing is
    checked against RFC 6455: tests need broken frames too.
    """
    cdef:
        bytes data = payload.encode() if isinstance(payload, str) else bytes(payload)
        bytearray frame
        uint8_t mask_bytes[4]
        bint is_masked = mask is not None
        Py_ssize_t header_size = frame_header_size(len(data), is_masked)
        uint8_t* out
    if is_masked:
        if len(mask) != 4:
            raise ValueError(f"a mask has 4 bytes, found {len(mask)}")
        mask_bytes[0], mask_bytes[1], mask_bytes[2], mask_bytes[3] = mask
    if not 0 <= msg_type <= 15:
        raise ValueError(f"an opcode is 0 to 15, found {msg_type}")
    frame = bytearray(header_size) + data
    out = <uint8_t*> PyByteArray_AS_STRING(frame)
    write_frame_header(
        out, <uint8_t> (bool(fin) << 7 | bool(rsv1) << 6 | <int> msg_type), len(data), mask_bytes if is_masked else NULL
    )
    if is_masked:
        apply_mask(out + header_size, len(data), mask_bytes, 0)
    return bytes(frame)


def serialize_frames(list frames not None) -> bytes:
    """Return frames as they go on the wire, one behind the other; each is (opcode, payload), of a server, and final."""
    cdef:
        Py_ssize_t size = 0
        bytes payload, wire
        uint8_t* out
        int msg_type
    for msg_type, payload in frames:
        if not 0 <= msg_type <= 15:
            raise ValueError(f"an opcode is 0 to 15, found {msg_type}")
        size += frame_header_size(len(payload), False) + len(payload)
    wire = PyBytes_FromStringAndSize(NULL, size)
    out = <uint8_t*> PyBytes_AS_STRING(wire)
    for msg_type, payload in frames:
        out += write_frame(out, <uint8_t> (0x80 | msg_type), PyBytes_AS_STRING(payload), len(payload), False)
    return wire
