/* What nearly all values of market data look like, read eight characters at a time: short numbers without sign and exponent,
   plain text. Each function returns what is behind the value, and NULL for one that wants a closer look, by the scanners
   of levels.pyx, which know everything. */
#ifndef FEEDS_SCAN_H
#define FEEDS_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* For functions that have to know whether a number is bare: a branch for every character that may end it is much to them.
   What is rarely needed, and loops, are apart, which leaves the registers to each. */
#define FEEDS_INLINE static inline __attribute__((always_inline))
#define FEEDS_APART static __attribute__((noinline, unused))

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

/* Whether a short text is next: no call, as memcmp would be. */
static inline int feeds_same(const char* p, const char* text, ptrdiff_t size)
{
    ptrdiff_t i;
    if (size < 8) {
        for (i = 0; i < size; i++)
            if (p[i] != text[i])
                return 0;
        return 1;
    }
    for (i = 0; i < size - 16; i += 16)
        if ((feeds_load(p + i) ^ feeds_load(text + i)) | (feeds_load(p + i + 8) ^ feeds_load(text + i + 8)))
            return 0;
    if (i < size - 8 && feeds_load(p + i) != feeds_load(text + i))
        return 0;
    return feeds_load(p + size - 8) == feeds_load(text + size - 8);
}

/* What is behind `text` if it is next: of 1 byte or more, with 8 that can be read. NULL: it is not. */
static inline const char* feeds_literal(const char* p, const char* end, const char* text, ptrdiff_t size)
{
    if (end - p < size)
        return NULL;
    if (size < 8 && end - p >= 8)
        return (feeds_load(p) ^ feeds_load(text)) << (64 - 8 * size) ? NULL : p + size;
    return feeds_same(p, text, size) ? p + size : NULL;
}

/* The index of the first byte of which `marks` has the highest bit, 8 if there is none. */
static inline int feeds_first(uint64_t marks)
{
    return marks ? __builtin_ctzll(marks) >> 3 : 8;
}

/* Of eight characters less '0' each: the highest bit of every byte that is no digit. A carry spoils only what is behind the first
   byte that is not ASCII. */
static inline uint64_t feeds_no_digits(uint64_t digits)
{
    return ((digits + FEEDS_BYTES(0x76)) | digits) & FEEDS_BYTES(0x80);
}

/* How many of the eight characters are digits before the first that is none. */
static inline int feeds_digit_count(uint64_t chunk)
{
    return feeds_first(feeds_no_digits(chunk ^ FEEDS_BYTES('0')));
}

/* The number that eight digits are, the first one in the lowest byte. */
static inline uint64_t feeds_eight_digits(uint64_t digits)
{
    digits = digits * 2561 >> 8;
    digits = (digits & 0x00FF00FF00FF00FFULL) * 6553601 >> 16;
    return (digits & 0x0000FFFF0000FFFFULL) * 42949672960001ULL >> 32;
}

/* The number that the first `count` characters are, 1 to 8 digits. */
static inline uint64_t feeds_digits(uint64_t chunk, int count)
{
    return feeds_eight_digits((chunk ^ FEEDS_BYTES('0')) << (64 - 8 * count));
}

#define FEEDS_DECIMAL_REACH 17      /* bytes that feeds_decimal looks at, whatever they are: two chunks and what ends a number */
#define FEEDS_MAX_DECIMALS 10

/* Whether a number ends here: a quoted one by its quote, a bare one by what follows in an array or an object. */
FEEDS_INLINE int feeds_ends(char next, int bare)
{
    return bare ? next == ',' || next == ']' || next == '}' || next == ' ' : next == '"';
}

/* feeds_decimal for numbers that are not in one chunk; `whole` digits stand before the point. */
FEEDS_APART const char* feeds_long_decimal(const char* p, int whole, int bare, int decimals, int64_t* mantissa)
{
    uint64_t value = feeds_digits(feeds_load(p), whole);
    uint64_t chunk = feeds_load(p + whole + 1);
    int fraction = feeds_digit_count(chunk);
    p += whole + 1 + fraction;
    if (fraction == 0 || !feeds_ends(*p, bare))
        return NULL;
    if (fraction > decimals) {
        uint64_t tail = (chunk ^ FEEDS_BYTES('0')) << (64 - 8 * fraction);      /* its last bytes are the last digits */
        if (tail >> (64 - 8 * (fraction - decimals)))
            return NULL;
        fraction = decimals;
    }
    if (fraction)
        value = value * FEEDS_POW10[fraction] + feeds_digits(chunk, fraction);
    *mantissa = (int64_t) (value * FEEDS_POW10[decimals - fraction]);
    return p;
}

/* 12345.678" as a mantissa of so many decimals, at most FEEDS_MAX_DECIMALS, or a `bare` 12345.678 without leading zeros. Up to seven
   digits before the point and eight behind; those that the decimals have no room for must be zeros. Returns where the number ends. */
FEEDS_INLINE const char* feeds_decimal(const char* p, int bare, int decimals, int64_t* mantissa)
{
    uint64_t digits = feeds_load(p) ^ FEEDS_BYTES('0');
    uint64_t marks = feeds_no_digits(digits);
    uint64_t before;
    int point, size, spare;         /* in bits, eight for each character */
    if (marks == 0)
        return NULL;
    point = __builtin_ctzll(marks) & 0x38;
    if (point == 0 || (bare && point > 8 && *p == '0'))
        return NULL;
    if (p[point >> 3] != '.') {
        *mantissa = (int64_t) (feeds_eight_digits(digits << (64 - point)) * FEEDS_POW10[decimals]);
        p += point >> 3;
        return feeds_ends(*p, bare) ? p : NULL;
    }
    before = (marks ^ (marks - 1)) >> 8;                /* the bytes before the point */
    marks &= marks - 1;
    size = marks ? __builtin_ctzll(marks) & 0x38 : 64;
    if (!feeds_ends(p[size >> 3], bare))
        return feeds_long_decimal(p, point >> 3, bare, decimals, mantissa);
    if (size == point + 8)
        return NULL;
    /* Close the gap that the point leaves; the last digit goes to the highest byte. */
    digits = (digits >> 8 ^ ((digits ^ digits >> 8) & before)) << (72 - size);
    spare = size - point - 8 - 8 * decimals;            /* of what the decimals have no room for */
    if (spare > 0) {
        if (digits >> (64 - spare))
            return NULL;
        digits <<= spare;
        spare = 0;
    }
    *mantissa = (int64_t) (feeds_eight_digits(digits) * FEEDS_POW10[-spare >> 3]);
    return p + (size >> 3);
}

/* feeds_decimal near the end of the message: what is left of it is looked at in a copy, where spaces follow. */
FEEDS_APART const char* feeds_last_decimal(const char* p, const char* end, int bare, int decimals, int64_t* mantissa)
{
    char copy[FEEDS_DECIMAL_REACH];
    const char* behind;
    memset(copy, ' ', sizeof(copy));
    memcpy(copy, p, end - p);
    behind = bare ? feeds_decimal(copy, 1, decimals, mantissa) : feeds_decimal(copy, 0, decimals, mantissa);
    return behind == NULL ? NULL : p + (behind - copy);
}

/* feeds_decimal wherever the message ends. */
FEEDS_INLINE const char* feeds_decimal_within(const char* p, const char* end, int bare, int decimals, int64_t* mantissa)
{
    if (decimals > FEEDS_MAX_DECIMALS)
        return NULL;
    if (end - p < FEEDS_DECIMAL_REACH)
        return feeds_last_decimal(p, end, bare, decimals, mantissa);
    return feeds_decimal(p, bare, decimals, mantissa);
}

/* 12345.678": returns where the quote stands. */
FEEDS_INLINE const char* feeds_decimal_text(const char* p, const char* end, int decimals, int64_t* mantissa)
{
    return feeds_decimal_within(p, end, 0, decimals, mantissa);
}

/* The same with its quotes. */
FEEDS_INLINE const char* feeds_quoted_decimal(const char* p, const char* end, int decimals, int64_t* mantissa)
{
    if (end - p < 2 || *p != '"')
        return NULL;
    p = feeds_decimal_text(p + 1, end, decimals, mantissa);
    return p == NULL ? NULL : p + 1;
}

/* With its quotes, or bare as JSON has it. */
FEEDS_INLINE const char* feeds_number(const char* p, const char* end, int decimals, int64_t* mantissa)
{
    if (p != end && *p == '"')
        return feeds_quoted_decimal(p, end, decimals, mantissa);
    return feeds_decimal_within(p, end, 1, decimals, mantissa);
}

/* feeds_levels for numbers that are all quoted or all `bare`. */
FEEDS_INLINE const char* feeds_levels_alike(const char* p, const char* end, int bare, int price_decimals, int qty_decimals,
                                           int64_t** at, const int64_t* numbers_end)
{
    int quote = !bare;
    int64_t* number = *at;
    const char* next;
    while (end - p >= 2 + FEEDS_DECIMAL_REACH + 2 + FEEDS_DECIMAL_REACH + 3 && number < numbers_end) {
        if (memcmp(p, bare ? "[" : "[\"", 1 + quote) != 0)
            break;
        next = feeds_decimal(p + 1 + quote, bare, price_decimals, number);
        if (next == NULL || memcmp(next, bare ? "," : "\",\"", 1 + 2 * quote) != 0)
            break;
        next = feeds_decimal(next + 1 + 2 * quote, bare, qty_decimals, number + 1);
        if (next == NULL || memcmp(next, bare ? "],[" : "\"],[", 3 + quote) != 0)
            break;
        p = next + 2 + quote;
        number += 2;
    }
    *at = number;
    return p;
}

FEEDS_APART const char* feeds_quoted_levels(const char* p, const char* end, int price_decimals, int qty_decimals, int64_t** at,
                                            const int64_t* numbers_end)
{
    return feeds_levels_alike(p, end, 0, price_decimals, qty_decimals, at, numbers_end);
}

FEEDS_APART const char* feeds_bare_levels(const char* p, const char* end, int price_decimals, int qty_decimals, int64_t** at,
                                          const int64_t* numbers_end)
{
    return feeds_levels_alike(p, end, 1, price_decimals, qty_decimals, at, numbers_end);
}

/* Reads levels like ["61737.63","0.154"] or [61737.63,0.154], as long as another follows and there is room for them, price and
   quantity in turn. Returns where the next level begins; `*at` is behind the numbers then. */
static inline const char* feeds_levels(const char* p, const char* end, int price_decimals, int qty_decimals, int64_t** at,
                                       const int64_t* numbers_end)
{
    if (end - p < 2 || price_decimals > FEEDS_MAX_DECIMALS || qty_decimals > FEEDS_MAX_DECIMALS)
        return p;
    if (p[1] == '"')
        return feeds_quoted_levels(p, end, price_decimals, qty_decimals, at, numbers_end);
    return feeds_bare_levels(p, end, price_decimals, qty_decimals, at, numbers_end);
}

/* What is behind the digits of an integer, NULL where it is none. */
static inline const char* feeds_integer_end(const char* p, const char* end)
{
    return p == end || *p == '.' || (*p | 0x20) == 'e' ? NULL : p;
}

/* Up to 15 digits of which the first eight, which are there, are `number`. */
static inline const char* feeds_integer_rest(const char* p, const char* end, int64_t number, int64_t* value)
{
    /* A time is often the last value of a message: less than eight characters may be left. */
    uint64_t chunk = end - p >= 16 ? feeds_load(p + 8) : feeds_load(end - 8) >> (8 * (16 - (end - p)));
    int more = feeds_digit_count(chunk);
    if (more == 8)
        return NULL;
    if (more)
        number = number * (int64_t) FEEDS_POW10[more] + (int64_t) feeds_digits(chunk, more);
    *value = number;
    return feeds_integer_end(p + 8 + more, end);
}

/* Up to 15 digits, without leading zeros. */
static inline const char* feeds_integer(const char* p, const char* end, int64_t* value)
{
    uint64_t chunk;
    int count;
    if (end - p < 9)
        return NULL;
    chunk = feeds_load(p);
    count = feeds_digit_count(chunk);
    if (count == 0 || (*p == '0' && count > 1))
        return NULL;
    *value = (int64_t) feeds_digits(chunk, count);
    return count == 8 ? feeds_integer_rest(p, end, *value, value) : feeds_integer_end(p + count, end);
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

static inline const char* feeds_bool(const char* p, const char* end, int64_t* value)
{
    if (end - p < 5)
        return NULL;
    *value = memcmp(p, "true", 4) == 0;
    if (*value)
        return p + 4;
    return memcmp(p, "false", 5) == 0 ? p + 5 : NULL;
}

/* Plain text or an integer. */
static inline const char* feeds_any(const char* p, const char* end)
{
    int64_t value;
    return p != end && *p == '"' ? feeds_plain_text(p, end) : feeds_integer(p, end, &value);
}

/* The hash of all of a name, whose parts differ in the middle for dated contracts and options. Returns where the quote stands that
   ends it, NULL where none does before the last seven bytes. */
static inline const char* feeds_name(const char* p, const char* end, uint64_t* hash)
{
    uint64_t mixed = 0x9E3779B97F4A7C15ULL;
    for (; end - p >= 8; p += 8) {
        uint64_t chunk = feeds_load(p);
        uint64_t quote = chunk ^ FEEDS_BYTES('"');
        uint64_t marks = (quote - FEEDS_BYTES(1)) & ~quote & FEEDS_BYTES(0x80);
        if (marks) {
            mixed = (mixed ^ (chunk & (marks ^ (marks - 1)) >> 8)) * 0xD6E8FEB86659FD93ULL;
            *hash = mixed ^ mixed >> 32;
            return p + feeds_first(marks);
        }
        mixed = (mixed ^ chunk) * 0x9E3779B97F4A7C15ULL;
        mixed ^= mixed >> 32;
    }
    return NULL;
}

#endif
