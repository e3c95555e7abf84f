import random

import pytest

from feeds.conflation import POLICIES, conflated
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.pipeline import Pipeline
from strategies.imbalance import BookImbalance
from strategies.imbalance_cython import BookImbalance as CythonBookImbalance
from tests.feeds.messages import book_ticker, depth, snapshot, trade


def run(strategy, policy, seed):
    """Play a random walk of two books with gaps, crossings and a disconnect."""
    rng = random.Random(seed)
    pipeline = Pipeline(exchange("binance"), Instruments(infer=True), conflated(strategy.hosted(), policy))
    last = dict.fromkeys(("BTCUSDT", "ETHUSDT"), 1)
    history = []
    for now in range(1, 1500):
        symbol = rng.choice(list(last))
        kind = rng.random()
        if kind < 0.6:
            first = last[symbol] + (2 if rng.random() < 0.01 else 1)
            last[symbol] = first
            bids = [
                (f"{rng.randint(90, 101)}.{rng.randint(0, 99)}", f"{rng.choice([0, 1, 2, 50])}.{rng.randint(0, 999)}")
            ]
            asks = [
                (f"{rng.randint(101, 112)}.{rng.randint(0, 99)}", f"{rng.choice([0, 1, 2, 50])}.{rng.randint(0, 999)}")
            ]
            pipeline.on_message(depth(first, first, bids, asks, symbol=symbol), now, rng.random() < 0.5)
        elif kind < 0.7:
            pipeline.on_message(trade(qty=f"0.{rng.randint(0, 99999)}", symbol=symbol, m=rng.random() < 0.5), now, True)
        elif kind < 0.8:
            pipeline.on_message(book_ticker(symbol=symbol), now, True)
        elif kind < 0.9:
            pipeline.on_reply(symbol, snapshot(last[symbol], [("99.5", "3")], [("111.5", "4.25")]), now)
        elif kind > 0.998:
            pipeline.on_disconnected("", now)
            pipeline.on_connected("", now)
        history.append((strategy.updates, strategy.merged, strategy.signals, strategy.traded,
                        {i.raw_symbol: position for i, position in strategy.positions.items()}))  # fmt: skip
    return history


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_both_strategies_see_the_same_calls_and_decide_the_same(policy, seed):
    python = run(BookImbalance(levels=3, threshold=0.5), policy, seed)
    cython = run(CythonBookImbalance(levels=3, threshold=0.5), policy, seed)
    assert python == cython
    updates, merged, signals, traded, _ = python[-1]
    assert updates > 100
    assert signals > 5
    assert merged >= updates
    assert traded != 0


@pytest.mark.parametrize("levels", [0, 33])
def test_the_c_level_strategy_has_room_for_32_levels(levels):
    with pytest.raises(ValueError, match=f"expected 1 to 32 levels, found {levels}"):
        CythonBookImbalance(levels=levels)
