#ifndef PICOWS_UTF8_H
#define PICOWS_UTF8_H

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

static const picows_utf8_state PICOWS_UTF8_START = {0, 0x80, 0xBF};

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
