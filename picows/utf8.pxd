from libc.stdint cimport uint8_t

# The C stands here and not in a header, so that whoever cimports what holds this state needs no include path.
cdef extern from *:
    """
    #ifndef PICOWS_UTF8
    #define PICOWS_UTF8
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>

    /* A UTF-8 check that can stop and go on between any two bytes (RFC 3629; RFC 6455 section 8.1).

       `state` packs what the next bytes have to be: the number of continuation bytes still missing, and the range of the
       first of them, which excludes overlong forms, surrogates and code points above U+10FFFF. */
    typedef struct {
        uint8_t missing;
        uint8_t low;
        uint8_t high;
    } picows_utf8_state;

    static inline picows_utf8_state picows_utf8_start(void)
    {
        picows_utf8_state state = {0, 0x80, 0xBF};
        return state;
    }

    /* Consume `size` bytes. 1: valid so far (complete if state->missing is 0). 0: invalid, and the state is spent. */
    static inline int picows_utf8_feed(picows_utf8_state* state, const uint8_t* data, size_t size)
    {
        const uint8_t* end = data + size;
        uint64_t chunk;

        while (data < end) {
            if (state->missing) {
                if (*data < state->low || *data > state->high)
                    return 0;
                state->low = 0x80;
                state->high = 0xBF;
                state->missing--;
                data++;
                continue;
            }
            while (end - data >= 8) {
                memcpy(&chunk, data, 8);
                if (chunk & 0x8080808080808080ULL)
                    break;
                data += 8;
            }
            while (data < end && *data < 0x80)
                data++;
            if (data == end)
                break;
            if (*data < 0xC2)
                return 0;
            else if (*data < 0xE0)
                state->missing = 1;
            else if (*data < 0xF0) {
                state->missing = 2;
                if (*data == 0xE0)
                    state->low = 0xA0;
                else if (*data == 0xED)
                    state->high = 0x9F;
            } else if (*data < 0xF5) {
                state->missing = 3;
                if (*data == 0xF0)
                    state->low = 0x90;
                else if (*data == 0xF4)
                    state->high = 0x8F;
            } else
                return 0;
            data++;
        }
        return 1;
    }
    #endif
    """
    # How far a check has come: valid and complete when `missing` is 0. Begins as picows_utf8_start().
    ctypedef struct picows_utf8_state:
        uint8_t missing

    picows_utf8_state picows_utf8_start() noexcept nogil
    # 1: `data` continues valid UTF-8. 0: it does not, and the state is spent.
    int picows_utf8_feed(picows_utf8_state* state, const uint8_t* data, size_t size) noexcept nogil
