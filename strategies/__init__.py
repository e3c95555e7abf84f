"""Strategies: what users subclass, and what runs it, live and on recordings."""

from strategies.errors import StrategyError
from strategies.runner import run_live, run_replay
from strategies.strategy import Strategy, StrategyHost

__all__ = ["Strategy", "StrategyError", "StrategyHost", "run_live", "run_replay"]
