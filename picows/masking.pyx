# cython: language_level=3, boundscheck=False, wraparound=False
"""Masking of client frames (RFC 6455 section 5.3): the XOR, and where the masks come from."""
import os

from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cdef enum:
    POOL_SIZE = 4096

# Section 10.3 wants masks that a page author cannot predict, hence the system's generator and not rand().
cdef uint8_t _pool[POOL_SIZE]
cdef size_t _pool_pos = POOL_SIZE

apply_mask = picows_mask_implementation(0, NULL)


cdef int _refill() except -1:
    global _pool_pos
    cdef bytes fresh = os.urandom(POOL_SIZE)
    memcpy(_pool, <const char*> fresh, POOL_SIZE)
    _pool_pos = 0
    return 0


cdef int next_mask(uint8_t* mask) except -1:
    global _pool_pos
    if _pool_pos == POOL_SIZE:
        _refill()
    memcpy(mask, _pool + _pool_pos, 4)
    _pool_pos += 4
    return 0


def _discard_pool():
    global _pool_pos
    _pool_pos = POOL_SIZE


# A forked child must not use the masks that its parent is going to use.
os.register_at_fork(after_in_child=_discard_pool)


def mask_implementations() -> list:
    """Names of the implementations that this processor can run, the one in use first."""
    cdef:
        const char* name = NULL
        list names = []
        int index = 0
    while picows_mask_implementation(index, &name) != NULL:
        names.append(name.decode("ascii"))
        index += 1
    return names


def mask_bytes(data, mask, size_t phase=0, int implementation=0, size_t offset=0) -> bytes:
    """Return `data` XORed with the four bytes of `mask`, from mask byte `phase` on.

    `implementation` is an index into mask_implementations(); `offset` shifts the data in memory. For tests and tools:
    the frame path masks in place.
    """
    cdef:
        bytearray masked = bytearray(offset) + data
        picows_mask_fn fn = picows_mask_implementation(implementation, NULL)
        uint8_t mask_array[4]
    if len(mask) != 4:
        raise ValueError(f"a mask has 4 bytes, found {len(mask)}")
    if fn == NULL:
        raise ValueError(f"expected an implementation below {len(mask_implementations())}, found {implementation}")
    mask_array[0], mask_array[1], mask_array[2], mask_array[3] = mask
    fn(<uint8_t*> PyByteArray_AS_STRING(masked) + offset, len(masked) - offset, mask_array, phase)
    return bytes(masked[offset:])


def random_mask() -> bytes:
    """The next mask of the pool that all client connections of this process share."""
    cdef uint8_t mask[4]
    next_mask(mask)
    return (<char*> mask)[:4]
