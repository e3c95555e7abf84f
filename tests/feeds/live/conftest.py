"""A live session against a simulated exchange, with something to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from feeds import session
from feeds.book import OrderBook
from feeds.events import BookStatus, BookUpdate, EventHandler, FeedStatus, Quote, Trade
from feeds.exchange import Endpoints
from feeds.live.backoff import BackoffConfig
from feeds.live.feed import FeedConfig
from feeds.live.http import RestConfig
from feeds.session import Report
from feeds.simulator.server import SimulatedExchange

QUICK = FeedConfig(
    silence_timeout=0.4,
    tick_interval=0.05,
    snapshot_interval=0.02,
    backoff=BackoffConfig(initial=0.02, maximum=0.1),
    rest=RestConfig(retry_wait=0.02),
)


class Watcher(EventHandler):
    """Keeps what it is told, and wakes who waits for it."""

    def __init__(self) -> None:
        self.books: dict[str, OrderBook] = {}
        self.updates: list[BookUpdate] = []
        self.quotes: list[Quote] = []
        self.trades: list[Trade] = []
        self.book_statuses: list[BookStatus] = []
        self.feed_statuses: list[FeedStatus] = []
        self._changed = asyncio.Event()

    def on_book(self, event: BookUpdate) -> None:
        self.books[event.instrument.raw_symbol] = event.book
        self.updates.append(event)

    def on_quote(self, event: Quote) -> None:
        self.quotes.append(event)

    def on_trade(self, event: Trade) -> None:
        self.trades.append(event)

    def on_book_status(self, event: BookStatus) -> None:
        self.book_statuses.append(event)

    def on_feed_status(self, event: FeedStatus) -> None:
        self.feed_statuses.append(event)

    def on_batch_end(self, ts_recv: int) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], Any], timeout: float = 20.0) -> None:
        """Return at the end of the first batch after which `condition` holds."""

        async def wait() -> None:
            while not condition():
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(wait(), timeout)

    def states(self, raw_symbol: str) -> list[str]:
        """The states that a book went through."""
        return [status.new.name for status in self.book_statuses if status.instrument.raw_symbol == raw_symbol]

    def statuses(self) -> list[str]:
        """The words of all feed statuses, in order."""
        return [status.status for status in self.feed_statuses]

    def update_count(self, raw_symbol: str) -> int:
        return sum(update.instrument.raw_symbol == raw_symbol for update in self.updates)


class Session:
    """A running session: what it tells, and how it ended."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.report: Report | None = None


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def live_session(watcher: Watcher) -> Callable[..., Any]:
    """`async with live_session(sim, ["BTC-USDT"]) as s`: ends the session on leaving, and raises what it raised."""

    @asynccontextmanager
    async def run(
        simulated: SimulatedExchange,
        symbols: list[str],
        *,
        exchange: str = "binance",
        handler: EventHandler | None = None,
        config: FeedConfig = QUICK,
        record_to: Path | None = None,
        **options: Any,
    ) -> AsyncIterator[Session]:
        stop = asyncio.Event()
        running = Session(watcher)
        options.setdefault("endpoints", Endpoints(ws=simulated.ws_url, rest=simulated.rest_url))
        task = asyncio.ensure_future(
            session.live(
                handler or watcher, exchange, symbols, config=config, record_to=record_to, stop=stop, **options
            )
        )
        try:
            body = asyncio.current_task()
            assert body is not None
            task.add_done_callback(lambda done: None if stop.is_set() else body.cancel())
            yield running
        except asyncio.CancelledError:
            if not task.done():
                raise
        finally:
            stop.set()
            running.report = await asyncio.wait_for(task, 10)

    return run


@pytest.fixture
def tls_proxy() -> Callable[..., Any]:
    """`async with tls_proxy(sim) as (port, context)`: TLS in front of a simulated exchange; the context trusts it."""
    import ssl

    import trustme

    @asynccontextmanager
    async def run(simulated: SimulatedExchange) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
        authority = trustme.CA()
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(serving)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        target = int(simulated.ws_url.rpartition(":")[2])

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

        server = await asyncio.start_server(serve, "localhost", 0, ssl=serving)
        async with server:
            yield server.sockets[0].getsockname()[1], trusting

    return run
