# cython: language_level=3, boundscheck=False, wraparound=False
"""The arbiter: of copies of a message on several connections the first is delivered, exactly once."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import os
from collections import deque

__all__ = ["MAX_LEGS", "Arbiter", "Role"]


cdef extern from "message_hash.h" nogil:
    uint64_t feeds_message_hash(const char* data, Py_ssize_t size, uint64_t seed)
    const char* feeds_find(const char* begin, const char* end, const char* text, Py_ssize_t size)


cdef enum:
    HEAD = 256               # bytes of a message in which it shows what it is


cdef class Arbiter:
    """Decides which messages of several connections ("legs", by number) with the same subscriptions are delivered.

    1. The first leg to connect is the primary: what it brings is delivered, unless another leg has brought a copy before.
       Copies are equal byte for byte. Messages that are equal without being copies are told from them by how often each
       leg has brought them.
    2. Any other leg joins: its messages are held, for twice the grace, and not delivered. It is in step when one has been
       delivered by others and nothing has shown since that it is not; or, on a quiet market, when nothing has come for
       a time that the caller knows. Out of step is a leg that lacks a message for longer than the grace, or has held one
       that nobody else has.
    3. In step, it can be joined: what it has beyond the others is delivered, and what it is first to bring from then on.
    4. A joined leg that is out of step joins anew. What it lacked until then it need not bring any more.
    5. When the primary is lost, a joined leg is the primary, and nothing else happens. Without one all legs have to begin
       anew: the pipeline is disconnected.
    6. `answers` are messages that concern their connection alone (acknowledgements, heartbeats): only the primary's are
       delivered, and nobody lacks them. So are `snapshots`, which begin a book in the stream: deltas behind one have to come
       from the same leg, so a joined leg that brings one joins anew. Whoever has the primary send a snapshot anew calls
       `part_all` before: what others have brought until then is older than it.

    Of deliveries the newest `memory` are remembered, and no longer than `memory_age`. A leg that falls further behind joins
    anew, if it was the primary, another is; without another, `is_lost` says that it has to be disconnected.

    `answers` and `snapshots` are beginnings of messages, of which * stands for anything. Times are ns of any one clock.
    """

    def __init__(self, *, Py_ssize_t memory, int64_t memory_age, int64_t grace, Py_ssize_t max_held_bytes,
                 answers=(), snapshots=()):
        if not 0 < memory <= 1 << 24:
            raise ValueError(f"expected a memory of 1 to {1 << 24} messages, found {memory}")
        if not 0 < grace <= memory_age:
            raise ValueError(f"expected 0 < grace <= memory_age, found {grace} and {memory_age} ns")
        self.memory = memory
        self.memory_age = memory_age
        self.grace = grace
        self.max_held_bytes = max_held_bytes
        self._answers = tuple([_parts(text) for text in answers])
        self._snapshots = tuple([_parts(text) for text in snapshots])
        self._seed = int.from_bytes(os.urandom(8), "little")
        self._bucket_mask = (1 << (2 * memory - 1).bit_length()) - 1
        self._slots = <Remembered*> malloc(2 * memory * sizeof(Remembered))          # half of it for messages that are held
        self._buckets = <int32_t*> malloc((self._bucket_mask + 1) * sizeof(int32_t))
        self._deliveries = <Delivery*> malloc(memory * sizeof(Delivery))
        if self._slots == NULL or self._buckets == NULL or self._deliveries == NULL:
            raise MemoryError(f"no room to remember {memory} messages")
        memset(self._buckets, 0xFF, (self._bucket_mask + 1) * sizeof(int32_t))        # -1 in each
        self._free = -1
        self._held = [deque() for _ in range(MAX_LEGS)]
        self._reasons = [""] * MAX_LEGS
        self.close()

    def __dealloc__(self):
        free(self._slots)
        free(self._buckets)
        free(self._deliveries)

    # --- legs -----------------------------------------------------------------------------------------

    def role(self, int leg):
        """Return the `Role` of a leg."""
        return Role(self._roles[_checked(leg)])

    def reason(self, int leg):
        """Return in words what has last shown that a leg is not in step; "" where nothing has."""
        return self._reasons[_checked(leg)]

    def attach(self, int leg, int64_t now):
        """A leg is connected. True: it is the primary, and the pipeline is connected with it."""
        if self._roles[_checked(leg)] != ABSENT:
            raise ValueError(f"expected a leg that is absent, found leg {leg} {Role(self._roles[leg]).name}")
        self._expect_nothing(leg)
        self._clean_since[leg] = self._reached[leg] = now
        self._has_matched[leg] = False
        self._reasons[leg] = ""
        if self.primary >= 0:
            self._roles[leg] = JOINING
            return False
        self._roles[leg] = PRIMARY
        self.primary = leg
        return True

    def _expect_nothing(self, int leg):
        """Of all that has been delivered by now a leg will not bring a copy any more."""
        cdef Remembered* found
        cdef uint64_t index
        cdef int32_t slot
        for index in range(self._oldest, self._newest):
            found = &self._slots[self._deliveries[index % self.memory].slot]
            found.seen[leg] = found.delivered
        for held in self._held:
            for slot, _, _, _, _ in held:
                self._slots[slot].seen[leg] = self._slots[slot].delivered

    def detach(self, int leg):
        """A leg has lost its connection. True: it was the last in step; all is forgotten, and the pipeline is disconnected."""
        cdef int other
        was_primary = self._roles[_checked(leg)] == PRIMARY
        self._drop_held(leg)
        self._roles[leg] = ABSENT
        if not was_primary:
            return False
        for other in range(MAX_LEGS):
            if self._roles[other] == JOINED:
                self._roles[other] = PRIMARY
                self.primary = other
                self.is_lost = False
                return False
        self.close()
        return True

    def close(self):
        """Forget all legs, which are absent from now on, and all messages."""
        cdef Py_ssize_t i
        for i in range(MAX_LEGS):
            self._drop_held(i)
            self._roles[i] = ABSENT
        while self._oldest < self._newest:
            self._release(self._deliveries[self._oldest % self.memory].slot)
            self._oldest += 1
        self._unexamined = self._newest
        self.primary = -1
        self.is_lost = False
        self._is_batch_open = False

    def hand_over(self, int leg):
        """Make a joined leg the primary; the one that was is a joined one."""
        if self._roles[_checked(leg)] != JOINED:
            raise ValueError(f"expected a leg that is JOINED, found leg {leg} {Role(self._roles[leg]).name}")
        self._roles[self.primary] = JOINED
        self._roles[leg] = PRIMARY
        self.primary = leg

    def part(self, int leg, int64_t now, str reason not None):
        """Have a leg join anew, unless it is the primary or absent."""
        if self._roles[_checked(leg)] == JOINING or self._roles[leg] == JOINED:
            self._disturb(leg, now, reason)

    def part_all(self, int64_t now, str reason not None):
        """Have all legs but the primary join anew."""
        for leg in range(MAX_LEGS):
            self.part(leg, now, reason)

    def is_in_step(self, int leg, int64_t now, int64_t quiet):
        """Whether a leg that joins can be joined. On a market where nothing comes: after `quiet` ns of that.

        What it has beyond the others must be what they are about to bring: not older than the grace, and not from before
        anything that they have brought. Else they may never bring it, as what was sent while a book was made anew on them.
        """
        cdef int32_t slot
        if self._roles[_checked(leg)] != JOINING:
            return False
        held = self._held[leg]
        if not self._has_matched[leg]:
            return now - self._clean_since[leg] >= quiet and not held
        anchor = self._anchor(leg)
        if held and anchor < 0:
            return False
        for at, (slot, _, ts, _, _) in enumerate(held):
            if not self._slots[slot].delivered and (at < anchor or ts + self.grace <= now):
                return False
        return True

    def _anchor(self, int leg):
        """Return where in what the leg holds the newest message stands that has been delivered and has no equals; -1: none."""
        cdef int32_t slot
        held = self._held[leg]
        for at in range(len(held) - 1, -1, -1):
            slot = held[at][0]
            if self._slots[slot].delivered == 1 and self._slots[slot].seen[leg] == 1:
                return at
        return -1

    def join(self, int leg, int64_t now):
        """Join a leg that is in step; return what it has beyond the others, as (kind, payload), to be delivered in this order.

        Of messages that are equal it shows by their place, before or behind one that has no equals, which they are.
        """
        cdef int32_t slot
        cdef Delivery* delivery
        cdef uint64_t index
        if self._roles[_checked(leg)] != JOINING:
            raise ValueError(f"expected a leg that is JOINING, found leg {leg} {Role(self._roles[leg]).name}")
        held = list(self._held[leg])
        anchor = self._anchor(leg)
        # Of what is delivered, the leg has had everything up to the anchor, or that for which it has had time enough.
        behind = self._unexamined if anchor < 0 else self._slots[<int32_t> held[anchor][0]].last + 1
        self._expect_nothing(leg)
        for index in range(self._newest, behind, -1):
            delivery = &self._deliveries[(index - 1) % self.memory]
            self._slots[delivery.slot].seen[leg] = delivery.ordinal - 1
        ahead = []
        for at, (slot, _, _, kind, payload) in enumerate(held):
            if at > anchor:
                self._slots[slot].seen[leg] += 1
                if self._slots[slot].seen[leg] > self._slots[slot].delivered:
                    self._deliver(slot, now)
                    ahead.append((kind, payload))
        self._drop_held(leg)
        self._roles[leg] = JOINED
        self._reached[leg] = now
        self._reasons[leg] = ""
        return ahead

    def watch(self, int64_t now):
        """Look for legs that are out of step: to be called every now and then. Return those that were joined and are not."""
        cdef int leg
        before = [leg for leg in range(MAX_LEGS) if self._roles[leg] == JOINED]
        self._examine(now)
        while self._oldest < self._newest and self._deliveries[self._oldest % self.memory].ts + self.memory_age <= now:
            self._forget_oldest(now)
        for leg in range(MAX_LEGS):
            if self._roles[leg] == JOINING:
                self._trim_held(leg, now)
        return [leg for leg in before if self._roles[leg] == JOINING]

    # --- messages -------------------------------------------------------------------------------------

    def take(self, int leg, bytes payload not None, int64_t ts, *, int kind=0):
        """Take a message of a leg; whether it is to be delivered: for tests. (`Receiver` calls what is behind it.)"""
        return self.admits(_checked(leg), kind, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), ts, True)

    cdef bint admits(self, int leg, int kind, const char* data, Py_ssize_t size, int64_t ts, bint last) except -1:
        cdef uint64_t hash
        cdef int32_t slot
        cdef Remembered* found
        if self._roles[leg] == ABSENT:
            return False
        hash = feeds_message_hash(data, size, self._seed)
        slot = self._find(hash)
        if slot >= 0 and self._slots[slot].seen[leg] < self._slots[slot].delivered:
            self.copies += 1
            found = &self._slots[slot]
            if self._roles[leg] == JOINING:
                self._hold(leg, kind, hash, slot, data, size, ts)
                return False
            found.seen[leg] += 1
            if found.seen[leg] == found.delivered and found.ts > self._reached[leg]:
                self._reached[leg] = found.ts
            return False
        if not self._admits_new(leg, kind, hash, slot, data, size, ts):
            return False
        self._is_batch_open = not last
        return True

    cdef bint _admits_new(self, int leg, int kind, uint64_t hash, int32_t slot, const char* data, Py_ssize_t size,
                          int64_t ts) except -1:
        cdef int role = self._roles[leg]
        if _begins_as_one_of(data, size, self._answers):
            return role == PRIMARY
        if _begins_as_one_of(data, size, self._snapshots):
            if role != PRIMARY:
                self._disturb(leg, ts, "it brought a snapshot")
            return role == PRIMARY
        if role == JOINING:
            self._hold(leg, kind, hash, slot, data, size, ts)
            return False
        if self.is_lost and role == PRIMARY:
            return False
        if slot < 0:
            slot = self._remember(hash)
        self._slots[slot].seen[leg] += 1
        self._reached[leg] = ts
        self._deliver(slot, ts)
        return True

    cdef bint ends_batch(self) noexcept:
        cdef bint was_open = self._is_batch_open
        self._is_batch_open = False
        return was_open

    cdef int _deliver(self, int32_t slot, int64_t ts) except -1:
        """Count a delivery and remember it; a leg that brought it has been counted."""
        cdef Delivery* delivery
        self._slots[slot].references += 1        # not to be forgotten meanwhile
        if self._newest - self._oldest == <uint64_t> self.memory:
            self._forget_oldest(ts)
        self._slots[slot].delivered += 1
        self._slots[slot].ts = ts
        delivery = &self._deliveries[self._newest % self.memory]
        delivery.ts = ts
        delivery.slot = slot
        delivery.ordinal = self._slots[slot].delivered
        self._slots[slot].last = self._newest
        self._newest += 1
        self.delivered += 1
        return 0

    cdef int _hold(self, int leg, int kind, uint64_t hash, int32_t slot, const char* data, Py_ssize_t size,
                   int64_t ts) except -1:
        if self._held_bytes[leg] + size > self.max_held_bytes or self._held_count >= self.memory - 1:
            self._disturb(leg, ts, f"it was ahead by more than {self.max_held_bytes} bytes or {self.memory} messages")
            return 0
        if slot < 0:
            slot = self._remember(hash)
        self._slots[slot].seen[leg] += 1
        self._slots[slot].references += 1
        self._held_count += 1
        self._held_bytes[leg] += size
        self._held[leg].append((slot, self._slots[slot].seen[leg], ts, kind, <bytes> data[:size]))
        return 0

    # --- what shows that a leg is out of step -----------------------------------------------------------

    cdef int _examine(self, int64_t now) except -1:
        """Look for legs that lack what was delivered longer than the grace ago."""
        cdef Delivery* delivery
        cdef int leg
        while self._unexamined < self._newest:
            delivery = &self._deliveries[self._unexamined % self.memory]
            if delivery.ts + self.grace > now:
                return 0
            self._unexamined += 1
            for leg in range(MAX_LEGS):
                if ((self._roles[leg] == JOINING or self._roles[leg] == JOINED)
                        and self._slots[delivery.slot].seen[leg] < delivery.ordinal):
                    self._slots[delivery.slot].seen[leg] = delivery.ordinal
                    self._disturb(leg, now, "it lacked a message that another connection brought")
        return 0

    cdef int _forget_oldest(self, int64_t now) except -1:
        cdef Delivery delivery = self._deliveries[self._oldest % self.memory]
        cdef int leg
        if self._unexamined == self._oldest:
            self._unexamined += 1
        self._oldest += 1
        for leg in range(MAX_LEGS):
            if self._roles[leg] == ABSENT or self._slots[delivery.slot].seen[leg] >= delivery.ordinal:
                continue
            self._slots[delivery.slot].seen[leg] = delivery.ordinal
            if self._reached[leg] > delivery.ts + self.grace:
                continue                         # it has brought what came later: this one it does not have
            if self._roles[leg] == PRIMARY:
                self._replace_primary(now)
            if self._roles[leg] != PRIMARY:
                self._disturb(leg, now, "it fell behind further than is remembered")
        self._release(delivery.slot)
        return 0

    def _replace_primary(self, int64_t now):
        cdef int other
        for other in range(MAX_LEGS):
            if self._roles[other] == JOINED:
                self.hand_over(other)
                return
        self.is_lost = True

    cdef int _trim_held(self, int leg, int64_t now) except -1:
        """Let go of what a leg has held for twice the grace: by now the primary has brought it too, or will not."""
        cdef object held = self._held[leg]
        cdef int32_t slot
        cdef uint64_t ordinal
        while held and held[0][2] + 2 * self.grace <= now:
            slot, ordinal, ts, _, payload = held.popleft()
            if self._slots[slot].delivered >= ordinal:
                if ts >= self._clean_since[leg]:
                    self._has_matched[leg] = True
            else:
                self._slots[slot].seen[leg] -= 1
                for at, other in enumerate(held):
                    if other[0] == slot:
                        held[at] = (slot, other[1] - 1, *other[2:])
                self._disturb(leg, now, "it brought a message that no other connection did")
            self._held_bytes[leg] -= len(payload)
            self._held_count -= 1
            self._release(slot)
        return 0

    cdef int _drop_held(self, int leg) except -1:
        cdef int32_t slot
        for slot, _, _, _, _ in self._held[leg]:
            self._release(slot)
        self._held_count -= len(self._held[leg])
        self._held_bytes[leg] = 0
        self._held[leg].clear()
        return 0

    cdef int _disturb(self, int leg, int64_t now, str reason) except -1:
        self._roles[leg] = JOINING
        self._clean_since[leg] = now
        self._has_matched[leg] = False
        self._reasons[leg] = reason
        return 0

    # --- memory -----------------------------------------------------------------------------------------

    cdef int32_t _find(self, uint64_t hash) noexcept:
        cdef int32_t slot = self._buckets[hash & self._bucket_mask]
        while slot >= 0 and self._slots[slot].hash != hash:
            slot = self._slots[slot].next
        return slot

    cdef int32_t _remember(self, uint64_t hash) noexcept:
        """Return a slot for a message that has none. There is one: deliveries and messages that are held are too few for all."""
        cdef int32_t slot = self._free
        cdef Remembered* found
        cdef int leg
        if slot >= 0:
            self._free = self._slots[slot].next
        else:
            slot = self._used
            self._used += 1
        found = &self._slots[slot]
        found.references = 0
        found.hash = hash
        found.delivered = 0
        for leg in range(MAX_LEGS):
            found.seen[leg] = 0
        found.next = self._buckets[hash & self._bucket_mask]
        self._buckets[hash & self._bucket_mask] = slot
        return slot

    cdef void _release(self, int32_t slot) noexcept:
        """Let go of one reference; without any the slot is free."""
        cdef Remembered* found = &self._slots[slot]
        cdef int32_t* at = &self._buckets[found.hash & self._bucket_mask]
        found.references -= 1
        if found.references:
            return
        while at[0] != slot:
            at = &self._slots[at[0]].next
        at[0] = found.next
        found.next = self._free
        self._free = slot


def _checked(int leg):
    if not 0 <= leg < MAX_LEGS:
        raise ValueError(f"expected a leg of 0 to {MAX_LEGS - 1}, found {leg}")
    return leg


def _parts(bytes text not None):
    first, *others = text.split(b"*")
    if not first:
        raise ValueError(f"expected the beginning of a message, found {text!r}")
    return first, *[part for part in others if part]


cdef bint _begins_as_one_of(const char* data, Py_ssize_t size, tuple beginnings) except -1:
    cdef const char* end = data + min(size, HEAD)
    cdef const char* at
    cdef tuple parts
    cdef bytes part
    cdef Py_ssize_t i
    for parts in beginnings:
        part = <bytes> parts[0]
        at = feeds_find(data, data + min(size, PyBytes_GET_SIZE(part)), PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
        for i in range(1, len(parts)):
            if at == NULL:
                break
            part = <bytes> parts[i]
            at = feeds_find(at, end, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
        if at != NULL:
            return True
    return False
