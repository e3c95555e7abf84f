# cython: language_level=3
"""Sequencing rules, as types named after the rule. `BookBuilder` has one object per book."""

from libc.stdint cimport INT64_MAX

__all__ = [
    "ConnectionCounter", "ContiguousSequence", "GrowingSequence", "IdentitySequence", "LinkedSequence", "NonDecreasingSequence",
    "OverlappingSequence", "ReorderedCounter", "RestartSequence", "Sequence", "Verdict",
]


cdef class Sequence:
    """No rule at all: every delta is the next one. The base of the others."""

    def __init__(self):
        self.last_id = -1

    cdef int join(self, BookDelta snapshot) except -1:
        self.last_id = snapshot.last_id
        self.awaiting_first = True
        return 0

    cdef bint is_late(self, BookDelta snapshot) noexcept:
        return False

    cdef Verdict check(self, BookDelta delta) noexcept:
        self.last_id = delta.last_id
        self.awaiting_first = False
        return APPLY

    def joined(self, BookDelta snapshot not None):
        """Start from `snapshot`: for tests and for tools that keep their own books."""
        self.join(snapshot)

    def judge(self, BookDelta delta not None):
        """Return the `Verdict` on `delta` and, where it is APPLY, move on to it."""
        return Verdict(self.check(delta))


cdef class ContiguousSequence(Sequence):
    """Update ids without holes: each delta covers `first_id..last_id` and starts where the one before ended.

    Binance spot (`U`, `u`, and `lastUpdateId` = L of the snapshot):

    1. Deltas with u <= L are dropped.
    2. The first applied one must satisfy U <= L + 1 <= u; otherwise the snapshot is too old.
    3. Every further one must satisfy U == u of the one before + 1; otherwise a message was missed.
    4. One whose u is not above the last applied u is old and ignored.
    5. L = -1 (a symbol without trades yet): any first delta joins.
    """

    cdef bint is_late(self, BookDelta snapshot) noexcept:
        return snapshot.last_id < self.last_id

    cdef Verdict check(self, BookDelta delta) noexcept:
        if self.awaiting_first:
            if self.last_id >= 0:
                if delta.last_id <= self.last_id:                # step 1
                    return OLD
                if delta.first_id > self.last_id + 1:            # step 2
                    return MISSED
            self.awaiting_first = False
        elif delta.first_id != self.last_id + 1:                 # steps 3 and 4
            return OLD if delta.last_id <= self.last_id else MISSED
        self.last_id = delta.last_id
        return APPLY


cdef class LinkedSequence(Sequence):
    """Update ids with holes, where each delta names the one before it: `previous_id`.

    Binance USD-M and COIN-M futures (`U`, `u`, `pu`, and `lastUpdateId` = L of the snapshot):

    1. Deltas with u < L are dropped.
    2. The first applied one must satisfy U <= L <= u, or pu == L (it continues the snapshot exactly); otherwise the
       snapshot is too old.
    3. Every further one must satisfy pu == u of the one before; otherwise a message was missed.
    4. One whose u is not above the last applied u was sent twice and is ignored.
    """

    cdef bint is_late(self, BookDelta snapshot) noexcept:
        return snapshot.last_id < self.last_id

    cdef Verdict check(self, BookDelta delta) noexcept:
        if self.awaiting_first:
            if delta.last_id < self.last_id:                     # step 1
                return OLD
            if delta.first_id > self.last_id and delta.previous_id != self.last_id:      # step 2
                return MISSED
            self.awaiting_first = False
        elif delta.previous_id != self.last_id:                  # steps 3 and 4
            return OLD if delta.last_id <= self.last_id else MISSED
        self.last_id = delta.last_id
        return APPLY


cdef class IdentitySequence(Sequence):
    """Update ids that say nothing by their size: each delta names the one before it, and may be smaller than that.

    OKX (`seqId`, `prevSeqId`):

    1. A snapshot in the stream has prevSeqId = -1; the delta after it names it.
    2. A delta must satisfy prevSeqId == seqId of the message before; otherwise a message was missed. After maintenance
       seqId may be smaller than prevSeqId; without changes, a delta with seqId == prevSeqId says that the line lives.
    3. After a snapshot that was requested (seqId = S): deltas with seqId <= S are dropped; the first applied one must
       satisfy prevSeqId <= S < seqId.
    4. A delta whose seqId is that of the message before leads to where the book is: it was sent twice and is ignored.
    5. Deltas without ids (sent before there were any) have no rule.
    """

    cdef Verdict check(self, BookDelta delta) noexcept:
        if delta.last_id >= 0 and delta.previous_id != self.last_id and self.last_id >= 0:
            if not self.awaiting_first:                          # steps 4 and 2
                return OLD if delta.last_id == self.last_id else MISSED
            if delta.last_id <= self.last_id:                    # step 3
                return OLD
            if delta.previous_id > self.last_id:
                return MISSED
        self.awaiting_first = False
        self.last_id = delta.last_id
        return APPLY


cdef class OverlappingSequence(Sequence):
    """Update ids where each delta has all that changed after `previous_id`, perhaps more than is new.

    Gemini (`U`, `u`, and u of the snapshot; a delta begins with the id at which the one before ended, not one above it):

    1. Deltas with u at or below the last id are old and ignored.
    2. One with U <= last id < u is applied.
    3. One with U above the last id tells that a message was missed.
    """

    cdef Verdict check(self, BookDelta delta) noexcept:
        if delta.last_id <= self.last_id:                        # step 1
            return OLD
        if delta.previous_id > self.last_id:                     # step 3
            return MISSED
        self.awaiting_first = False                              # step 2
        self.last_id = delta.last_id
        return APPLY


cdef class GrowingSequence(Sequence):
    """Numbers that only grow, such as times, and do not say which was the one before.

    Bitstamp (`microtimestamp`, T of the snapshot):

    1. Deltas with a number that is not above T are in the snapshot and dropped; all others are applied.
    2. One whose number is not above that of the one before is old and ignored.
    3. Whether a message is missing between T and the next delta cannot be told by their numbers: T must not be below the
       first delta that was held for the snapshot.
    4. One that is below the one before by more than `most_back` tells that the clock was set back: what is old and what is
       new cannot be told any more, so messages count as missed, and the next snapshot has the new time.
    5. That a message was missed cannot be told otherwise.
    """

    cdef int64_t most_back

    def __init__(self, int64_t most_back=INT64_MAX):
        super().__init__()
        self.most_back = most_back
        self.needs_held = True

    cdef bint is_late(self, BookDelta snapshot) noexcept:
        return snapshot.last_id < self.last_id

    cdef Verdict check(self, BookDelta delta) noexcept:
        if delta.last_id <= self.last_id:
            # Before the first, what was held for the snapshot may be as old as the request took.
            return MISSED if not self.awaiting_first and self.last_id - delta.last_id > self.most_back else OLD
        self.awaiting_first = False
        self.last_id = delta.last_id
        return APPLY


class ConnectionCounter:
    """Counts every message of a connection, of all channels and instruments: one counter that grows by 1.

    A jump tells that a message was missed, not of which instrument: the decoder says so with `lost`. Bitfinex SEQ_ALL,
    Coinbase Advanced `sequence_num`, dYdX `message_id`. A decoder has its own, so a new connection starts anew.
    """

    __slots__ = ("last", "missed", "repeated")

    def __init__(self):
        self.last = -1           # -1 before the first
        self.missed = 0          # messages
        self.repeated = 0        # messages whose number is not above the last one

    def follows(self, number):
        """Move on to `number`; False where messages are missing between the last one and it."""
        last = self.last
        if last >= 0 and number <= last:
            self.repeated += 1
            return True
        self.last = number
        if last >= 0 and number != last + 1:
            self.missed += number - last - 1
            return False
        return True


cdef class RestartSequence(IdentitySequence):
    """Ids as `IdentitySequence` has them, and a delta that names 0 tells of a restart: the book must be fetched anew.

    Bitget (`seq`, `pseq`):

    1. A snapshot has pseq = 0; S is its seq.
    2. A delta with pseq = 0 says that the exchange has restarted: the book before it is void.
    3. The first delta must satisfy pseq <= S < seq (documented; pseq == S was seen); those with seq <= S are dropped.
    4. Every further one must satisfy pseq == seq of the message before; otherwise a message was missed. One with the seq
       of the message before was sent twice and is ignored.
    5. Deltas without ids (v1) have no rule.
    """

    cdef Verdict check(self, BookDelta delta) noexcept:
        if delta.last_id >= 0 and delta.previous_id == 0:        # step 2
            return MISSED
        return IdentitySequence.check(self, delta)


class ReorderedCounter:
    """Counts every message of a connection, as `ConnectionCounter`, where some overtake others: dYdX while subscribing.

    1. A number above the last one + 1 leaves the numbers between awaited.
    2. One that comes late is no longer awaited; any other that is not above the last one was sent twice.
    3. One that is still awaited when a number more than `slack` above it comes is missing. With a slack of 0 that is at once.
    4. With it all others that are awaited are given up: messages that are lost together are told together.
    """

    __slots__ = ("awaited", "last", "missed", "repeated")

    def __init__(self):
        self.awaited = set()     # numbers; never more than the slack
        self.last = -1           # the highest, -1 before the first
        self.missed = 0          # messages
        self.repeated = 0        # messages

    def follows(self, number, slack=0):
        """Move on to `number`; False where it shows that messages are missing."""
        last = self.last
        if 0 <= number <= last:
            if number in self.awaited:
                self.awaited.discard(number)
            else:
                self.repeated += 1
            return True
        missed = 0
        if last >= 0:
            first = max(last + 1, number - slack)
            missed = first - last - 1
            self.awaited.update(range(first, number))
        if missed or any(number - waiting > slack for waiting in self.awaited):
            missed += len(self.awaited)
            self.awaited.clear()
        self.last = number
        self.missed += missed
        return missed == 0


cdef class NonDecreasingSequence(Sequence):
    """Ids of a counter that instruments share: they never decrease, grow by any amount, and tell nothing of what was missed.

    Phemex (`sequence`):

    1. Deltas below the snapshot are older than the book and ignored. One with its id may be in it already, which changes
       nothing: quantities are absolute.
    2. One below the delta before it came behind a newer one, or the counter began anew: what it would have changed is missing.
    3. Every other is the next one.
    """

    cdef Verdict check(self, BookDelta delta) noexcept:
        if delta.last_id < self.last_id:
            return OLD if self.awaiting_first else MISSED        # steps 1 and 2
        self.awaiting_first = False
        self.last_id = delta.last_id
        return APPLY
