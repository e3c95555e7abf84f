"""`feeds demo`: everything once, on loopback."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator

from rich.console import Console

from feeds import session
from feeds.errors import FeedsError
from feeds.events import EventHandler
from feeds.exchange import Endpoints

__all__ = ["EXCHANGE", "STRATEGY", "SYMBOLS", "run_demo"]

EXCHANGE = "binance-futures"
SYMBOLS = {"BTCUSDT": "BTC-USDT-PERP", "ETHUSDT": "ETH-USDT-PERP", "SOLUSDT": "SOL-USDT-PERP"}
STRATEGY = "strategies.imbalance:BookImbalance"
GAP_EVERY = 4.0  # seconds between lost book messages


def run_demo(console: Console, recording: str, *, duration: float, rate: float, seed: int) -> bool:
    """Run the demo, recording to a new file; whether live and replay made the same callbacks."""
    # The command line's tables; it imports us only when asked to.
    from feeds.cli import book_table, latency_table, report_table

    with _simulator(rate, seed) as endpoints:
        console.print(f"1. Simulated Binance futures are on {endpoints.ws}: {', '.join(SYMBOLS.values())}, in bursts,")
        console.print(f"   about {rate:,.0f} orders a second. Every {GAP_EVERY:g} s it loses a book message.")
        console.print(f"2. A live feed runs {STRATEGY} for {duration:g} s, and records...\n")
        live = session.run_live(
            _strategy(),
            EXCHANGE,
            list(SYMBOLS.values()),
            duration=duration,
            endpoints=endpoints,
            record_to=recording,
            latency=True,
        )
    assert live.latency is not None
    console.print(report_table(live))
    console.print(latency_table(live.latency))
    console.print(book_table(live))
    console.print("\n3. The recording is replayed through the same code...\n")
    replayed = session.replay(_strategy(), recording)
    console.print(report_table(replayed))
    if replayed.is_same and live.callbacks and live.digest == replayed.digest:
        console.print(
            f"\n[green]Live and replay made the same {live.callbacks:,} callbacks[/green] (digest {live.digest}).",
            markup=True,
        )
        return True
    console.print(
        f"\n[red]Live and replay differ[/red]: {live.callbacks:,} callbacks, digest {live.digest}; "
        f"{replayed.callbacks:,} callbacks, digest {replayed.digest}.",
        markup=True,
    )
    return False


def _strategy() -> EventHandler:
    """Return the example strategy. It is named, not imported: `feeds` does not depend on `strategies`."""
    module, _, name = STRATEGY.partition(":")
    handler: EventHandler = getattr(importlib.import_module(module), name)()
    return handler


@contextlib.contextmanager
def _simulator(rate: float, seed: int) -> Iterator[Endpoints]:
    """Run the simulated exchange in a process of its own, as an exchange is elsewhere."""
    command = [sys.executable, "-m", "feeds", "simulate", EXCHANGE, "--symbols", ",".join(SYMBOLS), "--json"]
    command += ["--rate", str(rate), "--seed", str(seed), "--gap-every", str(GAP_EVERY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _addresses(process)
        finally:
            process.terminate()


def _addresses(process: subprocess.Popen[str]) -> Endpoints:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise FeedsError(f"the simulated exchange ended with status {process.wait()} before it began")
    address = json.loads(line)
    return Endpoints(ws=address["ws_url"], rest=address["rest_url"])
