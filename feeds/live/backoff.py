"""How long to wait before trying again."""

from __future__ import annotations

import random

import msgspec

__all__ = ["Backoff", "BackoffConfig"]


class BackoffConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds: the first wait and the longest; each is `factor` times the one before, give or take a share `jitter`."""

    initial: float = 0.5
    maximum: float = 30.0
    factor: float = 2.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.initial <= self.maximum and self.factor >= 1 and 0 <= self.jitter < 1):
            raise ValueError(f"expected 0 < initial <= maximum, factor >= 1, 0 <= jitter < 1, found {self}")


class Backoff:
    """Exponential backoff with jitter, so that many clients of one exchange do not come back at the same instant."""

    def __init__(self, config: BackoffConfig, rng: random.Random | None = None) -> None:
        self._config = config
        self._rng = rng or random.Random()
        self.attempts = 0

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        config = self._config
        # The exponent is bounded: 2.0 ** 1024 does not exist, and the cap is reached long before.
        wait = min(config.initial * config.factor ** min(self.attempts, 64), config.maximum)
        self.attempts += 1
        return wait * (1 + config.jitter * self._rng.uniform(-1, 1))

    def reset(self) -> None:
        """The attempt was a success: the next wait is the first again."""
        self.attempts = 0
