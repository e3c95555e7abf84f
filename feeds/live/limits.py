"""Keeping within what an exchange allows: of requests, and of connections. Times are seconds of any one clock."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

from feeds.exchange import RateLimit

__all__ = ["Budget", "ConnectionPacer"]


class Budget:
    """Keeps what is spent within limits, each so much weight in any window of its length.

    `share` is how much of the limits may be used: other programs have the same address.
    """

    def __init__(self, limits: Sequence[RateLimit], share: float = 1.0) -> None:
        self._limits = [(limit.weight * share, limit.window) for limit in limits]
        self._spent: deque[tuple[float, float]] = deque()  # (when, weight), within the longest window
        self._longest = max((limit.window for limit in limits), default=0.0)

    def delay(self, weight: float, now: float) -> float:
        """Return the seconds until so much may be spent; what is more than a limit waits until nothing else counts."""
        while self._spent and self._spent[0][0] + self._longest <= now:
            self._spent.popleft()
        delay = 0.0
        for most, window in self._limits:
            total = min(weight, most)
            for when, spent in reversed(self._spent):
                total += spent
                if total > most:
                    delay = max(delay, when + window - now)
                    break
        return delay

    def spend(self, weight: float, now: float) -> None:
        """Count what is spent now."""
        if self._limits:
            self._spent.append((now, weight))


class ConnectionPacer:
    """Says when the next connection to an exchange may be made: within its limits, and never many at one instant.

    Connections that are lost together come back one after the other, `spread` seconds apart, give or take a half.
    """

    def __init__(
        self, limits: Sequence[RateLimit], *, share: float = 1.0, spread: float = 0.0, rng: random.Random | None = None
    ) -> None:
        self._budget = Budget(limits, share)
        self._spread = spread
        self._rng = rng or random.Random()
        self._last = -1e9  # when the last one that has a turn is made
        self._not_before = -1e9

    def reserve(self, now: float) -> float:
        """Take the next turn; return the seconds until it comes."""
        at = max(now, self._not_before, self._last + self._spread * self._rng.uniform(0.5, 1.5))
        at += self._budget.delay(1.0, at)
        self._budget.spend(1.0, at)
        self._last = at
        return at - now

    def hold(self, until: float) -> None:
        """The exchange wants no connection before then. Turns that are taken already stay."""
        self._not_before = max(self._not_before, until)
