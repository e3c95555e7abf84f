/* The cheapest steady clock of the machine, for measuring how long something took; what a tick is, feeds.latency finds out.

   The time-stamp counter of x86 where it runs at a constant rate (CPUID 0x80000007, EDX bit 8: "invariant TSC"), the virtual
   counter of arm64, CLOCK_MONOTONIC elsewhere. Not a barrier: a few instructions may be on the wrong side of a stamp. */
#ifndef FEEDS_TICKS_H
#define FEEDS_TICKS_H

#include <stdint.h>
#include <time.h>

static inline uint64_t feeds_monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>

static int feeds_tsc_is_steady;

__attribute__((constructor)) static void feeds_look_at_tsc(void)
{
    unsigned int a, b, c, d = 0;
    feeds_tsc_is_steady = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d >> 8 & 1);
}

static inline uint64_t feeds_ticks(void)
{
    return feeds_tsc_is_steady ? __rdtsc() : feeds_monotonic();
}

#elif defined(__aarch64__)

static inline uint64_t feeds_ticks(void)
{
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}

#else

static inline uint64_t feeds_ticks(void)
{
    return feeds_monotonic();
}

#endif

/* What both clocks say at one moment: of some pairs the one that took least, so that an interruption spoils none. */
static inline void feeds_clock_pair(uint64_t* ticks, uint64_t* ns)
{
    uint64_t shortest = UINT64_MAX;
    for (int i = 0; i < 8; i++) {
        uint64_t before = feeds_ticks(), now = feeds_monotonic(), after = feeds_ticks();
        if (after - before < shortest) {
            shortest = after - before;
            *ticks = before + (after - before) / 2;
            *ns = now;
        }
    }
}

#endif
