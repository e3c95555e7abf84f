"""Running strategies: live, and on recordings, through the same code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from feeds.subscription import Subscription
from strategies.strategy import Strategy

if TYPE_CHECKING:
    from feeds.session import Report

__all__ = ["run_live", "run_replay"]

# `feeds.session` is imported when something runs: it brings compression and, live, HTTP.


def run_live(
    strategy: Strategy, exchange: str | None = None, symbols: Sequence[str | Subscription] = (), **options: Any
) -> Report:
    """Run `strategy` on live data until interrupted; options as for `feeds.session.live`.

    run_live(MyStrategy(), "binance", ["BTC-USDT"], record_to="session.feeds")
    run_live(MyStrategy(), config=load_config("feeds.toml"))  # of feeds.live.handler: several exchanges
    """
    from feeds import session

    return session.run_live(strategy, exchange, symbols, **options)


def run_replay(
    strategy: Strategy, paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **options: Any
) -> Report:
    """Run `strategy` on recordings; options as for `feeds.session.replay`.

    run_replay(MyStrategy(), "session.feeds")
    """
    from feeds import session

    return session.replay(strategy, paths, **options)
