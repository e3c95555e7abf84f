/* What nearly all values of market data look like, read eight characters at a time: short numbers without sign and exponent,
   plain text. Each function returns what is behind the value, and NULL for one that wants a closer look, by the scanners
   of levels.pyx, which know everything. */
#ifndef FEEDS_SCAN_H
#define FEEDS_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FEEDS_BYTES(byte) (0x0101010101010101ULL * (byte))

static const uint64_t FEEDS_POW10[17] = {
    1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL, 1000000000ULL, 10000000000ULL,
    100000000000ULL, 1000000000000ULL, 10000000000000ULL, 100000000000000ULL, 1000000000000000ULL, 10000000000000000ULL,
};

/* Eight characters; the first one is the lowest byte. */
static inline uint64_t feeds_load(const char* p)
{
    uint64_t chunk;
    memcpy(&chunk, p, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    chunk = __builtin_bswap64(chunk);
#endif
    return chunk;
}

/* The index of the first byte of which `marks` has the highest bit, 8 if there is none. */
static inline int feeds_first(uint64_t marks)
{
    return marks ? __builtin_ctzll(marks) >> 3 : 8;
}

/* How many of the eight characters are digits before the first that is none. A carry spoils only what is behind that one. */
static inline int feeds_digit_count(uint64_t chunk)
{
    uint64_t digits = chunk ^ FEEDS_BYTES('0');
    return feeds_first((digits + FEEDS_BYTES(0x76) | digits) & FEEDS_BYTES(0x80));
}

/* The number that the first `count` characters are, 1 to 8 digits. */
static inline uint64_t feeds_digits(uint64_t chunk, int count)
{
    uint64_t value = (chunk ^ FEEDS_BYTES('0')) << (64 - 8 * count);
    value = (value & 0x0F0F0F0F0F0F0F0FULL) * 2561 >> 8;
    value = (value & 0x00FF00FF00FF00FFULL) * 6553601 >> 16;
    return (value & 0x0000FFFF0000FFFFULL) * 42949672960001ULL >> 32;
}

/* 12345.678 as a mantissa of so many decimals. Up to seven digits before the point and eight behind; those that the decimals
   have no room for must be zeros. */
static inline const char* feeds_decimal(const char* p, const char* end, int decimals, int64_t* mantissa)
{
    uint64_t chunk, value;
    int whole, fraction;
    if (end - p < 20 || decimals > 10)
        return NULL;
    chunk = feeds_load(p);
    whole = feeds_digit_count(chunk);
    if (whole == 0 || whole == 8)
        return NULL;
    value = feeds_digits(chunk, whole);
    p += whole;
    if (*p == '.') {
        chunk = feeds_load(p + 1);
        fraction = feeds_digit_count(chunk);
        if (fraction == 0 || (fraction == 8 && (unsigned char) (p[9] - '0') < 10))
            return NULL;
        p += 1 + fraction;
        if (fraction > decimals) {
            uint64_t tail = (chunk ^ FEEDS_BYTES('0')) << (64 - 8 * fraction);  /* its last bytes are the last digits */
            if (tail >> (64 - 8 * (fraction - decimals)))
                return NULL;
            fraction = decimals;
        }
        if (fraction)
            value = value * FEEDS_POW10[fraction] + feeds_digits(chunk, fraction);
        value *= FEEDS_POW10[decimals - fraction];
    } else {
        value *= FEEDS_POW10[decimals];
    }
    if ((*p | 0x20) == 'e')
        return NULL;
    *mantissa = (int64_t) value;
    return p;
}

/* The same in quotes. */
static inline const char* feeds_quoted_decimal(const char* p, const char* end, int decimals, int64_t* mantissa)
{
    if (p == end || *p != '"')
        return NULL;
    p = feeds_decimal(p + 1, end, decimals, mantissa);
    return p != NULL && *p == '"' ? p + 1 : NULL;
}

/* Up to 15 digits, without leading zeros. */
static inline const char* feeds_integer(const char* p, const char* end, int64_t* value)
{
    uint64_t chunk, number;
    int count, more;
    if (end - p < 9)
        return NULL;
    chunk = feeds_load(p);
    count = feeds_digit_count(chunk);
    if (count == 0 || (*p == '0' && count > 1))
        return NULL;
    number = feeds_digits(chunk, count);
    if (count == 8) {
        /* A time is often the last value of a message: less than eight characters may be left. */
        chunk = end - p >= 16 ? feeds_load(p + 8) : feeds_load(end - 8) >> (8 * (16 - (end - p)));
        more = feeds_digit_count(chunk);
        if (more == 8)
            return NULL;
        if (more)
            number = number * FEEDS_POW10[more] + feeds_digits(chunk, more);
        count += more;
    }
    p += count;
    if (p == end || *p == '.' || (*p | 0x20) == 'e')
        return NULL;
    *value = (int64_t) number;
    return p;
}

/* "BTCUSDT": ASCII without control characters and escapes. */
static inline const char* feeds_plain_text(const char* p, const char* end)
{
    if (p == end || *p != '"')
        return NULL;
    for (p++; end - p >= 8; p += 8) {
        uint64_t chunk = feeds_load(p);
        uint64_t quote = chunk ^ FEEDS_BYTES('"');
        uint64_t backslash = chunk ^ FEEDS_BYTES('\\');
        /* A borrow spoils only what is behind the first mark. */
        uint64_t marks = (((quote - FEEDS_BYTES(1)) & ~quote) | ((backslash - FEEDS_BYTES(1)) & ~backslash)
                          | (chunk - FEEDS_BYTES(0x20)) | chunk) & FEEDS_BYTES(0x80);
        if (marks) {
            p += feeds_first(marks);
            return *p == '"' ? p + 1 : NULL;
        }
    }
    return NULL;
}

#endif
