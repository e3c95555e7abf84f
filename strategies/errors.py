"""What can go wrong in `strategies`."""

__all__ = ["StrategyError"]


class StrategyError(Exception):
    """A strategy raised: the message names it, the callback and the event; `__cause__` is what it raised."""
