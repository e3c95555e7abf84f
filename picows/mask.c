#include "mask.h"

#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define PICOWS_X86 1
#include <immintrin.h>
#elif defined(__aarch64__)
#define PICOWS_NEON 1
#include <arm_neon.h>
#endif

/* The four mask bytes, rotated so that the first one applies to the first byte of the data. */
static uint32_t rotated(const uint8_t mask[4], size_t phase)
{
    uint8_t bytes[4];
    uint32_t word;
    for (size_t i = 0; i < 4; i++)
        bytes[i] = mask[(phase + i) & 3];
    memcpy(&word, bytes, 4);
    return word;
}

/* Every vector step is a multiple of four bytes long, so the mask is in phase again wherever the tail begins. */
static inline void mask_words(uint8_t* data, size_t size, uint32_t word)
{
    const uint64_t wide = (uint64_t)word << 32 | word;
    uint64_t chunk;
    uint8_t bytes[4];

    while (size >= 8) {
        memcpy(&chunk, data, 8);
        chunk ^= wide;
        memcpy(data, &chunk, 8);
        data += 8;
        size -= 8;
    }
    memcpy(bytes, &word, 4);
    for (size_t i = 0; i < size; i++)
        data[i] ^= bytes[i & 3];
}

static void mask_portable(uint8_t* data, size_t size, const uint8_t mask[4], size_t phase)
{
    mask_words(data, size, rotated(mask, phase));
}

#if PICOWS_X86
/* Part of the x86-64 baseline: needs no check. */
static void mask_sse2(uint8_t* data, size_t size, const uint8_t mask[4], size_t phase)
{
    const uint32_t word = rotated(mask, phase);
    const __m128i wide = _mm_set1_epi32((int)word);

    while (size >= 16) {
        _mm_storeu_si128((__m128i*)data, _mm_xor_si128(_mm_loadu_si128((const __m128i*)data), wide));
        data += 16;
        size -= 16;
    }
    mask_words(data, size, word);
}

__attribute__((target("avx2")))
static void mask_avx2(uint8_t* data, size_t size, const uint8_t mask[4], size_t phase)
{
    const uint32_t word = rotated(mask, phase);
    const __m256i wide = _mm256_set1_epi32((int)word);

    while (size >= 64) {
        __m256i a = _mm256_xor_si256(_mm256_loadu_si256((const __m256i*)data), wide);
        __m256i b = _mm256_xor_si256(_mm256_loadu_si256((const __m256i*)(data + 32)), wide);
        _mm256_storeu_si256((__m256i*)data, a);
        _mm256_storeu_si256((__m256i*)(data + 32), b);
        data += 64;
        size -= 64;
    }
    if (size >= 32) {
        _mm256_storeu_si256((__m256i*)data, _mm256_xor_si256(_mm256_loadu_si256((const __m256i*)data), wide));
        data += 32;
        size -= 32;
    }
    mask_words(data, size, word);
}
#endif

#if PICOWS_NEON
static void mask_neon(uint8_t* data, size_t size, const uint8_t mask[4], size_t phase)
{
    const uint32_t word = rotated(mask, phase);
    const uint8x16_t wide = vreinterpretq_u8_u32(vdupq_n_u32(word));

    while (size >= 16) {
        vst1q_u8(data, veorq_u8(vld1q_u8(data), wide));
        data += 16;
        size -= 16;
    }
    mask_words(data, size, word);
}
#endif

picows_mask_fn picows_mask_implementation(int index, const char** name)
{
    struct { picows_mask_fn fn; const char* name; } found[3];
    int count = 0;

#if PICOWS_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
        found[count].fn = mask_avx2;
        found[count++].name = "avx2";
    }
    found[count].fn = mask_sse2;
    found[count++].name = "sse2";
#elif PICOWS_NEON
    found[count].fn = mask_neon;
    found[count++].name = "neon";
#endif
    found[count].fn = mask_portable;
    found[count++].name = "portable";

    if (index < 0 || index >= count)
        return NULL;
    if (name != NULL)
        *name = found[index].name;
    return found[index].fn;
}
