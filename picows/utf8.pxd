from libc.stdint cimport uint8_t

cdef extern from "utf8.h":
    # How far a UTF-8 check has come: valid and complete when `missing` is 0. Begins as a copy of PICOWS_UTF8_START.
    ctypedef struct picows_utf8_state:
        uint8_t missing
    const picows_utf8_state PICOWS_UTF8_START

    # 1: `data` continues valid UTF-8. 0: it does not, and the state is spent.
    int picows_utf8_feed(picows_utf8_state* state, const uint8_t* data, size_t size) noexcept nogil
