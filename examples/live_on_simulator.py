"""Live, recorded and replayed in one process, without a network: a simulated exchange stands in for the real one.

python examples/live_on_simulator.py
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from feeds import session
from feeds.exchange import Endpoints
from feeds.simulator.faults import Gap
from feeds.simulator.server import SimulatedExchange
from strategies.imbalance import BookImbalance


async def main(recording: Path) -> None:
    async with SimulatedExchange("binance", ["BTCUSDT"], seed=7, rate=2000) as exchange:
        exchange.inject(Gap(symbol="BTCUSDT", at=1.0))  # watch it being repaired
        live = await session.live(
            BookImbalance(),
            "binance",
            ["BTC-USDT"],
            endpoints=Endpoints(ws=exchange.ws_url, rest=exchange.rest_url),
            record_to=recording,
            duration=2.5,
        )
    print(f"live:   {live.messages} messages, {live.callbacks} callbacks, {live.gaps} gaps, digest {live.digest}")
    replayed = session.replay(BookImbalance(), recording)
    print(f"replay: {replayed.messages} messages, {replayed.callbacks} callbacks, same: {replayed.is_same}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder) / "session.feeds"))
