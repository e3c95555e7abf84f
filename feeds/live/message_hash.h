/* The hash by which messages are told apart: 64 bits, of all bytes and their number, eight at a time. Not for data of
   somebody who wants collisions, but seeded, so that nobody has them for long. */
#ifndef FEEDS_LIVE_MESSAGE_HASH_H
#define FEEDS_LIVE_MESSAGE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Both halves of the product of two numbers, one upon the other: each bit of either changes half of all. */
static inline uint64_t feeds_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128) a * b;
    return (uint64_t) product ^ (uint64_t) (product >> 64);
}

static inline uint64_t feeds_message_hash(const char* data, ptrdiff_t size, uint64_t seed)
{
    const uint64_t odd = 0x9E3779B97F4A7C15ULL, other = 0xD1B54A32D192ED03ULL;
    uint64_t hash = feeds_fold(seed ^ odd, (uint64_t) size ^ other);
    uint64_t first, second;
    for (; size >= 16; data += 16, size -= 16) {
        memcpy(&first, data, 8);
        memcpy(&second, data + 8, 8);
        hash = feeds_fold(first ^ odd ^ hash, second ^ other) + hash;
    }
    first = second = 0;
    memcpy(&first, data, size < 8 ? size : 8);
    if (size > 8)
        memcpy(&second, data + 8, size - 8);
    return feeds_fold(feeds_fold(first ^ odd ^ hash, second ^ other), hash ^ odd);
}

/* What is behind the first `text`, of a byte or more, in [begin, end); NULL where there is none. */
static inline const char* feeds_find(const char* begin, const char* end, const char* text, ptrdiff_t size)
{
    for (; end - begin >= size; begin++) {
        begin = (const char*) memchr(begin, text[0], end - begin - size + 1);
        if (begin == NULL)
            return NULL;
        if (memcmp(begin, text, size) == 0)
            return begin + size;
    }
    return NULL;
}

#endif
