# One side of an order book: every level, exact, in two places.
#
#   window   quantities of consecutive ticks around the touch, a bit per tick that says whether there is a level: where
#            nearly all changes are, and where a change costs no search, no move and no branch
#   rest     every other level, in a sorted array: far from the touch, between two ticks, or in a book too small for a
#            window
#
# Where the window stands decides what a change costs, never what the ladder holds: readers merge the two by key. When too
# many changes have missed the window, tick, size and place are chosen anew from the levels there are (`_settle`).
#
# The key of a bid is its price, that of an ask its negated price: both sides share the code, and "better" is "greater".
from libc.stdint cimport int64_t, uint64_t

from feeds.levels cimport LevelVector, PriceLevel


# Ascending by key, best last, with room at both ends: what changes moves the shorter part.
cdef struct SortedLevels:
    PriceLevel* items        # those in [start, start + size); `price` holds the key
    Py_ssize_t start
    Py_ssize_t size
    Py_ssize_t capacity
    Py_ssize_t hint          # where the last change was, from `start`: messages list levels in price order


# Slot s is for the key base + s * tick.
cdef struct TickWindow:
    Py_ssize_t slots         # a power of two; 0 while there is no window
    int64_t base
    int64_t tick
    # How a key finds its slot without a division: see `_slot`.
    uint64_t inverse
    int twos
    # One allocation, at `words`. The qty of a slot means something where its bit is set.
    uint64_t* words          # a bit per slot
    uint64_t* summary        # a bit per word: is any of its bits set?
    int64_t* qtys


cdef struct Ladder:
    bint is_ask
    TickWindow window
    SortedLevels rest
    Py_ssize_t size          # levels in both
    Py_ssize_t misses        # changes outside the window since it was last settled
    # Bounds.
    Py_ssize_t max_levels    # beyond it the worst level is dropped
    Py_ssize_t max_window
    uint64_t evicted         # levels dropped so


cdef void ladder_init(Ladder* ladder, bint is_ask, Py_ssize_t max_levels, Py_ssize_t max_window) noexcept
cdef void ladder_free(Ladder* ladder) noexcept

# Set absolute quantities, 0 removes; removing what is not there is normal and ignored. MemoryError leaves a ladder that is
# whole, with the first of the levels applied and the others not.
cdef int ladder_apply(Ladder* ladder, const LevelVector* levels) except -1
cdef void ladder_clear(Ladder* ladder) noexcept nogil

# In two steps, because a book has two sides and must not stop half way: gather may raise and changes no level; then check
# and scale cannot fail.
cdef int ladder_gather(Ladder* ladder) except -1
cdef bint ladder_fits(const Ladder* ladder, int64_t price_by, int64_t qty_by) noexcept nogil
cdef void ladder_scale(Ladder* ladder, int64_t price_by, int64_t qty_by) noexcept nogil

# False where the ladder is empty.
cdef bint ladder_best(const Ladder* ladder, PriceLevel* level) noexcept nogil
# The `n` best levels, best first; returns how many there were.
cdef Py_ssize_t ladder_top(const Ladder* ladder, Py_ssize_t n, PriceLevel* levels) noexcept nogil
# Bytes allocated.
cdef Py_ssize_t ladder_bytes(const Ladder* ladder) noexcept nogil
