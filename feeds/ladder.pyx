# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One side of an order book: a window of ticks around the touch, and a sorted array for everything else."""
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memmove, memset

from feeds.levels cimport POW10, LevelVector, PriceLevel

cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long word) noexcept nogil      # of a word that is not 0
    int trailing_zeros "__builtin_ctzll"(unsigned long long word) noexcept nogil

cdef enum:
    MIN_SLOTS = 512          # of a window
    MIN_LEVELS = 32          # of a ladder with a window: fewer are found as fast in the array
    SLOTS_PER_LEVEL = 64     # at most, so that a sparse book stays small: 512 B a level
    PATIENCE = 64            # misses, beside one for every other level, after which the window is settled anew
    MAX_TICK_LEVELS = 4096   # that the tick is found from
    MAX_STRAYS = 8           # levels at the best end that a window does not follow when they stand alone


cdef void ladder_init(Ladder* ladder, bint is_ask, Py_ssize_t max_levels, Py_ssize_t max_window) noexcept:
    memset(ladder, 0, sizeof(Ladder))
    ladder.is_ask = is_ask
    ladder.max_levels = max_levels
    ladder.max_window = max_window


cdef void ladder_free(Ladder* ladder) noexcept:
    free(ladder.window.words)
    free(ladder.rest.items)


cdef struct Placement:
    Py_ssize_t slots
    int64_t tick
    int64_t base


# --- changes --------------------------------------------------------------------------------------


cdef int ladder_apply(Ladder* ladder, const LevelVector* levels) except -1:
    cdef:
        const PriceLevel* level = levels.items
        const PriceLevel* end = levels.items + levels.size
    if ladder.size == 0 and levels.size >= MIN_LEVELS and _load(ladder, levels):
        return 0
    while True:
        level = _apply_to_window(ladder, level, end)
        if level == end:
            break
        _apply_to_rest(ladder, _key(ladder, level.price), level.qty)
        level += 1
    # After a snapshot, do not wait until half as many changes have been slow.
    if levels.size > ladder.size // 2 and ladder.misses >= PATIENCE + ladder.size // 8:
        _settle(ladder)
    return 0


cdef bint _load(Ladder* ladder, const LevelVector* levels) except -1:
    """Fill an empty ladder at once with levels that come best first, as nearly all snapshots have them. False: they do not."""
    cdef Placement place
    cdef Py_ssize_t i
    if levels.size > ladder.max_levels or levels.items[0].qty == 0:
        return False
    for i in range(1, levels.size):
        if (levels.items[i].qty == 0
                or _key(ladder, levels.items[i].price) >= _key(ladder, levels.items[i - 1].price)):
            return False
    ladder.size = levels.size
    try:
        if ladder.max_window < MIN_SLOTS or not _find_place(ladder, levels.items, &place):
            place = _place_of(&ladder.window)
        _rebuild(ladder, &place, levels.items)
    except MemoryError:
        ladder_clear(ladder)
        raise
    return True


cdef const PriceLevel* _apply_to_window(Ladder* ladder, const PriceLevel* level, const PriceLevel* end) noexcept nogil:
    """Apply levels up to the first that is not for the window; return it, or `end`."""
    cdef:
        TickWindow window = ladder.window               # in registers: the stores below could change a ladder
        bint is_ask = ladder.is_ask
        uint64_t slot
    while level < end:
        slot = _slot(&window, -level.price if is_ask else level.price)
        if slot >= <uint64_t> window.slots:
            break
        ladder.size += _put(&window, slot, level.qty)
        if ladder.size > ladder.max_levels:
            _evict(ladder)
        level += 1
    return level


cdef int _apply_to_rest(Ladder* ladder, int64_t key, int64_t qty) except -1:
    ladder.size += _sorted_set(&ladder.rest, key, qty)
    if ladder.size > ladder.max_levels:
        _evict(ladder)
    ladder.misses += 1
    if ladder.misses >= PATIENCE + ladder.size // 2:
        _settle(ladder)
    return 0


cdef void _evict(Ladder* ladder) noexcept nogil:
    """Drop the worst level."""
    cdef SortedLevels* rest = &ladder.rest
    cdef Py_ssize_t slot = _lowest(&ladder.window)
    if slot >= 0 and (rest.size == 0 or _key_of(&ladder.window, slot) < rest.items[rest.start].price):
        _put(&ladder.window, slot, 0)
    else:
        _sorted_remove(rest, 0)
    ladder.size -= 1
    ladder.evicted += 1


cdef void ladder_clear(Ladder* ladder) noexcept nogil:
    # The window stays where it is: what follows is most often a snapshot of the same market.
    _empty(&ladder.window)
    ladder.rest.size = ladder.rest.hint = 0
    ladder.rest.start = ladder.rest.capacity // 2
    ladder.size = ladder.misses = 0


cdef int ladder_gather(Ladder* ladder) except -1:
    """Give up the window: all levels are in the array then."""
    cdef Placement nowhere
    cdef PriceLevel* levels
    if ladder.window.slots == 0:
        return 0
    nowhere.slots = 0
    levels = _all_levels(ladder)
    try:
        _rebuild(ladder, &nowhere, levels)
    finally:
        free(levels)
    return 0


cdef bint ladder_fits(const Ladder* ladder, int64_t price_by, int64_t qty_by) noexcept nogil:
    """Whether every level of a gathered ladder fits int64 after `ladder_scale`."""
    cdef const PriceLevel* level = ladder.rest.items + ladder.rest.start
    cdef int64_t price_limit = INT64_MAX // price_by
    cdef int64_t qty_limit = INT64_MAX // qty_by
    cdef Py_ssize_t i
    for i in range(ladder.rest.size):
        if not -price_limit <= level[i].price <= price_limit or level[i].qty > qty_limit:
            return False
    return True


cdef void ladder_scale(Ladder* ladder, int64_t price_by, int64_t qty_by) noexcept nogil:
    """Multiply every price and quantity of a gathered ladder, which `ladder_fits`."""
    cdef PriceLevel* level = ladder.rest.items + ladder.rest.start
    cdef Py_ssize_t i
    for i in range(ladder.rest.size):
        level[i].price *= price_by
        level[i].qty *= qty_by
    ladder.misses = PATIENCE + ladder.size           # the next change finds a new place for the window


# --- readers --------------------------------------------------------------------------------------


cdef bint ladder_best(const Ladder* ladder, PriceLevel* level) noexcept nogil:
    cdef const TickWindow* window = &ladder.window
    cdef const PriceLevel* rest = ladder.rest.items + (ladder.rest.start + ladder.rest.size - 1)   # the best of it
    cdef Py_ssize_t slot = _highest(window)
    if slot >= 0 and (ladder.rest.size == 0 or rest.price < _key_of(window, slot)):
        level.price = _key(ladder, _key_of(window, slot))
        level.qty = window.qtys[slot]
        return True
    if ladder.rest.size == 0:
        return False
    level.price = _key(ladder, rest.price)
    level.qty = rest.qty
    return True


cdef Py_ssize_t ladder_top(const Ladder* ladder, Py_ssize_t n, PriceLevel* levels) noexcept nogil:
    cdef:
        const TickWindow* window = &ladder.window
        const PriceLevel* rest = ladder.rest.items + ladder.rest.start         # [left - 1] is the best of it
        Py_ssize_t left = ladder.rest.size
        Py_ssize_t slot = _highest(window)
        Py_ssize_t i
        int64_t key
    if n > ladder.size:
        n = ladder.size
    for i in range(n):
        if slot >= 0 and (left == 0 or rest[left - 1].price < _key_of(window, slot)):
            key = _key_of(window, slot)
            levels[i].qty = window.qtys[slot]
            slot = _next_lower(window, slot)
        else:
            left -= 1
            key = rest[left].price
            levels[i].qty = rest[left].qty
        levels[i].price = _key(ladder, key)
    return n


cdef Py_ssize_t ladder_bytes(const Ladder* ladder) noexcept nogil:
    return _window_bytes(ladder.window.slots) + ladder.rest.capacity * <Py_ssize_t> sizeof(PriceLevel)


cdef inline int64_t _key(const Ladder* ladder, int64_t price) noexcept nogil:
    """The key of a price, and the price of a key."""
    return -price if ladder.is_ask else price


# --- the window -----------------------------------------------------------------------------------


cdef inline uint64_t _slot(const TickWindow* window, int64_t key) noexcept nogil:
    """Return the slot of a key, or a number of at least `slots` where it has none: outside, or between two ticks.

    Division by multiplication with the inverse of the tick modulo 2**64, its factors of two rotated out afterwards: that
    is exact for a multiple of the tick, and gives more than (2**64 - 1) // tick for every other number.
    """
    cdef uint64_t product = (<uint64_t> key - <uint64_t> window.base) * window.inverse
    return product >> window.twos | product << (-window.twos & 63)


cdef inline int64_t _key_of(const TickWindow* window, Py_ssize_t slot) noexcept nogil:
    return window.base + slot * window.tick


cdef inline int _put(const TickWindow* window, uint64_t slot, int64_t qty) noexcept nogil:
    """Set a slot; return by how much that changes the number of levels.

    Without a branch: whether a level comes, goes or changes cannot be predicted.
    """
    cdef:
        uint64_t* word = &window.words[slot >> 6]
        uint64_t* summary = &window.summary[slot >> 12]
        int bit = slot & 63
        int summary_bit = (slot >> 6) & 63
        uint64_t is_there = qty != 0
        uint64_t was_there = word[0] >> bit & 1
    window.qtys[slot] = qty
    word[0] ^= (is_there ^ was_there) << bit
    summary[0] = summary[0] & ~(<uint64_t> 1 << summary_bit) | <uint64_t> (word[0] != 0) << summary_bit
    return <int> is_there - <int> was_there


cdef inline Py_ssize_t _highest_before(const TickWindow* window, Py_ssize_t summary) noexcept nogil:
    """Return the highest occupied slot of the summary words before that one, -1 where there is none."""
    cdef Py_ssize_t word
    while summary > 0:
        summary -= 1
        if window.summary[summary]:
            word = summary << 6 | 63 - leading_zeros(window.summary[summary])
            return word << 6 | 63 - leading_zeros(window.words[word])
    return -1


cdef inline Py_ssize_t _highest(const TickWindow* window) noexcept nogil:
    return _highest_before(window, _summary_size(window.slots))


cdef inline Py_ssize_t _next_lower(const TickWindow* window, Py_ssize_t slot) noexcept nogil:
    """Return the highest occupied slot below that one, -1 where there is none."""
    cdef Py_ssize_t word = slot >> 6
    cdef uint64_t below = window.words[word] & ((<uint64_t> 1 << (slot & 63)) - 1)
    if below:
        return word << 6 | 63 - leading_zeros(below)
    below = window.summary[word >> 6] & ((<uint64_t> 1 << (word & 63)) - 1)
    if below:
        word = word >> 6 << 6 | 63 - leading_zeros(below)
        return word << 6 | 63 - leading_zeros(window.words[word])
    return _highest_before(window, word >> 6)


cdef Py_ssize_t _lowest(const TickWindow* window) noexcept nogil:
    cdef Py_ssize_t i
    cdef Py_ssize_t word
    for i in range(_summary_size(window.slots)):
        if window.summary[i]:
            word = i << 6 | trailing_zeros(window.summary[i])
            return word << 6 | trailing_zeros(window.words[word])
    return -1


cdef inline Py_ssize_t _summary_size(Py_ssize_t slots) noexcept nogil:
    return (slots + 4095) >> 12


cdef Py_ssize_t _window_bytes(Py_ssize_t slots) noexcept nogil:
    return ((slots >> 6) + _summary_size(slots) + slots) * <Py_ssize_t> sizeof(uint64_t)


cdef void _empty(TickWindow* window) noexcept nogil:
    if window.slots:
        memset(window.words, 0, ((window.slots >> 6) + _summary_size(window.slots)) * sizeof(uint64_t))


# --- where the window stands -----------------------------------------------------------------------


cdef inline Placement _place_of(const TickWindow* window) noexcept nogil:
    cdef Placement place
    place.slots = window.slots
    place.tick = window.tick
    place.base = window.base
    return place


cdef int _settle(Ladder* ladder) except -1:
    """Move the window to where the levels are, in the size that they need, unless it stands well.

    Costs some ns a level; at least half as many changes have missed the window since the last time.
    """
    cdef Placement place
    cdef PriceLevel* levels
    ladder.misses = 0
    if ladder.max_window < MIN_SLOTS or ladder.size < MIN_LEVELS:
        return 0
    levels = _all_levels(ladder)
    try:
        if _find_place(ladder, levels, &place):
            _rebuild(ladder, &place, levels)
    finally:
        free(levels)
    return 0


cdef PriceLevel* _all_levels(const Ladder* ladder) except NULL:
    """Return a new array of the levels, best first. The caller frees it."""
    cdef PriceLevel* levels = <PriceLevel*> malloc((ladder.size + 1) * sizeof(PriceLevel))
    if levels == NULL:
        raise MemoryError(f"no room for {ladder.size} levels")
    ladder_top(ladder, ladder.size, levels)
    return levels


cdef bint _find_place(const Ladder* ladder, const PriceLevel* levels, Placement* place) noexcept nogil:
    """Find the place for the window, from all levels, best first. False: where it is will do, and `place` may be anything."""
    cdef:
        const TickWindow* window = &ladder.window
        Py_ssize_t n = ladder.size
        Py_ssize_t first = 0                         # the levels that the window is to cover
        Py_ssize_t last = n - 1 - n // 16
        int64_t tick = _tick(levels, n)
        int64_t best                                 # in ticks, and so is place.base until the end
        Py_ssize_t below                             # slots for worse prices than the best one
        uint64_t reach
        uint64_t slot
    place.tick = tick
    place.slots = 0
    if tick > INT64_MAX // (2 * MIN_SLOTS):          # int64 does not hold a window of such ticks
        return window.slots != 0
    while first < last and first < MAX_STRAYS and (
            _distance(levels, first, first + 1) // <uint64_t> tick > <uint64_t> (ladder.max_window // 8)):
        first += 1
    best = _key(ladder, levels[first].price) // tick
    reach = _distance(levels, first, last) // <uint64_t> tick + 1
    place.slots = MIN_SLOTS
    while (<uint64_t> (place.slots - place.slots // 8) < reach and place.slots * 2 <= ladder.max_window
           and place.slots < n * SLOTS_PER_LEVEL and tick <= INT64_MAX // (place.slots * 4)):
        place.slots *= 2
    if window.slots and window.tick == tick:
        if place.slots < window.slots <= place.slots * 2:
            place.slots = window.slots               # not worth shrinking
        slot = _slot(window, best * tick)
        if place.slots == window.slots and <uint64_t> (window.slots // 2) <= slot < <uint64_t> window.slots:
            return False
    # An eighth of the window is for better prices than the best one. No slot's key may overflow.
    below = place.slots - place.slots // 8 - 1
    place.base = best - below if best > below - INT64_MAX // tick else -(INT64_MAX // tick)
    if place.base > INT64_MAX // tick - place.slots:
        place.base = INT64_MAX // tick - place.slots
    place.base *= tick
    return True


cdef int64_t _tick(const PriceLevel* levels, Py_ssize_t n) noexcept nogil:
    """Return the greatest tick that prices are a multiple of, but for a sixteenth of them with more digits.

    Of many levels it looks at the best: where the window stands never decides what the ladder holds.
    """
    cdef:
        Py_ssize_t[19] with_zeros                    # levels by how many zeros their price ends in
        Py_ssize_t more                              # levels with more of them
        int zeros
        uint64_t price
        uint64_t tick = 0
        Py_ssize_t i
    if n > MAX_TICK_LEVELS:
        n = MAX_TICK_LEVELS
    more = n
    memset(with_zeros, 0, sizeof(with_zeros))
    for i in range(n):
        price = _magnitude(levels[i].price)
        zeros = 0
        while zeros < 18 and price % 10 == 0:
            price //= 10
            zeros += 1
        with_zeros[zeros] += 1
    for zeros in range(19):
        more -= with_zeros[zeros]
        if more < n - n // 16:
            break
    for i in range(n):
        price = _magnitude(levels[i].price)
        if price % <uint64_t> POW10[zeros] == 0:
            tick = _gcd(price, tick)
            if tick == <uint64_t> POW10[zeros]:
                break
    return <int64_t> tick if tick else POW10[zeros]


cdef inline uint64_t _magnitude(int64_t price) noexcept nogil:
    return 0 - <uint64_t> price if price < 0 else <uint64_t> price


cdef inline uint64_t _gcd(uint64_t a, uint64_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef inline uint64_t _distance(const PriceLevel* levels, Py_ssize_t better, Py_ssize_t worse) noexcept nogil:
    cdef uint64_t distance = <uint64_t> levels[better].price - <uint64_t> levels[worse].price
    return distance if levels[better].price > levels[worse].price else 0 - distance


cdef int _rebuild(Ladder* ladder, const Placement* place, const PriceLevel* levels) except -1:
    """Put all levels, best first, where they belong after a move of the window. MemoryError leaves everything as it was."""
    cdef:
        TickWindow window = ladder.window
        SortedLevels rest
        Py_ssize_t outside = 0
        bint is_resized
        Py_ssize_t i
        uint64_t slot
        int64_t key
    _aim(&window, place)
    for i in range(ladder.size):
        outside += _slot(&window, _key(ladder, levels[i].price)) >= <uint64_t> window.slots
    memset(&rest, 0, sizeof(rest))
    rest.capacity = outside + outside // 2 + 16
    rest.start = rest.capacity // 6
    rest.items = <PriceLevel*> malloc(rest.capacity * sizeof(PriceLevel))
    is_resized = window.slots != ladder.window.slots
    if is_resized:
        window.words = <uint64_t*> malloc(_window_bytes(window.slots)) if window.slots else NULL
    if rest.items == NULL or window.slots and window.words == NULL:
        free(rest.items)
        if is_resized:
            free(window.words)
        raise MemoryError(f"no room for {ladder.size} levels in a window of {place.slots} ticks and an array")
    free(ladder.rest.items)
    if is_resized:
        free(ladder.window.words)
    window.summary = window.words + (window.slots >> 6)
    window.qtys = <int64_t*> (window.summary + _summary_size(window.slots))
    _empty(&window)
    for i in range(ladder.size - 1, -1, -1):
        key = _key(ladder, levels[i].price)
        slot = _slot(&window, key)
        if slot < <uint64_t> window.slots:
            _put(&window, slot, levels[i].qty)
        else:
            rest.items[rest.start + rest.size].price = key
            rest.items[rest.start + rest.size].qty = levels[i].qty
            rest.size += 1
    rest.hint = rest.size
    ladder.window = window
    ladder.rest = rest
    return 0


cdef void _aim(TickWindow* window, const Placement* place) noexcept nogil:
    """Set what finds a slot."""
    cdef uint64_t odd
    cdef int i
    window.slots = place.slots
    if place.slots == 0:
        return
    window.base = place.base
    window.tick = place.tick
    window.twos = trailing_zeros(place.tick)
    odd = <uint64_t> place.tick >> window.twos
    window.inverse = odd                              # right in its lowest 3 bits; each step doubles them
    for i in range(5):
        window.inverse *= 2 - odd * window.inverse


# --- the sorted array -----------------------------------------------------------------------------


cdef int _sorted_set(SortedLevels* levels, int64_t key, int64_t qty) except -2:
    """Set one level; return by how much that changes the number of levels."""
    cdef Py_ssize_t at = _lower_bound(levels, key)
    cdef PriceLevel* level = levels.items + levels.start + at
    levels.hint = at
    if at < levels.size and level.price == key:
        if qty:
            level.qty = qty
            return 0
        _sorted_remove(levels, at)
        return -1
    if qty == 0:
        return 0
    level = _sorted_insert(levels, at)
    level.price = key
    level.qty = qty
    return 1


cdef PriceLevel* _sorted_insert(SortedLevels* levels, Py_ssize_t at) except NULL:
    """Make room for a level before the one at `at`; return where it is."""
    cdef bint at_front = at < levels.size - at
    cdef bint is_full = levels.start == 0 if at_front else levels.start + levels.size == levels.capacity
    cdef PriceLevel* first
    if is_full:
        _make_room(levels)
    first = levels.items + levels.start
    if at_front:
        memmove(first - 1, first, at * sizeof(PriceLevel))
        levels.start -= 1
        first -= 1
    else:
        memmove(first + at + 1, first + at, (levels.size - at) * sizeof(PriceLevel))
    levels.size += 1
    return first + at


cdef void _sorted_remove(SortedLevels* levels, Py_ssize_t at) noexcept nogil:
    cdef PriceLevel* first = levels.items + levels.start
    levels.size -= 1
    if at < levels.size - at:
        memmove(first + 1, first, at * sizeof(PriceLevel))
        levels.start += 1
    else:
        memmove(first + at, first + at + 1, (levels.size - at) * sizeof(PriceLevel))


cdef int _make_room(SortedLevels* levels) except -1:
    """Leave room at both ends, at least an eighth of the capacity, in twice the capacity if need be."""
    cdef Py_ssize_t capacity = levels.capacity
    cdef Py_ssize_t start
    cdef PriceLevel* items = levels.items
    if levels.size >= capacity - capacity // 4:
        capacity = capacity * 2 if capacity else 32
        items = <PriceLevel*> realloc(items, capacity * sizeof(PriceLevel))
        if items == NULL:
            raise MemoryError(f"no room for {capacity} levels")
        levels.items = items
        levels.capacity = capacity
    start = (capacity - levels.size) // 2
    memmove(items + start, items + levels.start, levels.size * sizeof(PriceLevel))
    levels.start = start
    return 0


cdef Py_ssize_t _lower_bound(const SortedLevels* levels, int64_t key) noexcept nogil:
    """Return the first index whose key is not below `key`: gallop away from the hint, then halve."""
    cdef:
        const PriceLevel* items = levels.items + levels.start
        Py_ssize_t size = levels.size
        Py_ssize_t low
        Py_ssize_t high
        Py_ssize_t middle
        Py_ssize_t step = 1
        Py_ssize_t hint = levels.hint if levels.hint < size else size
    if hint < size and items[hint].price < key:
        low = hint + 1
        while low + step < size and items[low + step].price < key:
            low += step + 1
            step *= 2
        high = low + step if low + step < size else size
    else:
        high = hint
        while high >= step and items[high - step].price >= key:
            high -= step
            step *= 2
        low = high - step + 1 if high >= step else 0
    while low < high:
        middle = (low + high) >> 1
        if items[middle].price < key:
            low = middle + 1
        else:
            high = middle
    return low
