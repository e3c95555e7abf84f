"""Strategies: what users subclass, and what it raises."""

from strategies.errors import StrategyError
from strategies.strategy import Strategy, StrategyHost

__all__ = ["Strategy", "StrategyError", "StrategyHost"]
