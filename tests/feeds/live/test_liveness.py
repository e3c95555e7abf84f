"""Whether the peer is there, whether data come, and what is done about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feeds import session
from feeds.errors import ConfigError
from feeds.events import EventHandler, Quote
from feeds.exchange import ConnectionPlan, Endpoints, exchange
from feeds.instrument import Instruments
from feeds.live.feed import FeedConfig, LiveFeed
from feeds.live.handler import load_config
from feeds.live.liveness import Liveness, LivenessConfig, new_activity, renewal
from feeds.pipeline import Pipeline
from feeds.recording import Kind, RecordingWriter, open_session
from feeds.simulator.faults import Mute
from feeds.simulator.server import SimulatedExchange
from feeds.subscription import Subscription
from feeds.testing import EventLog

from .conftest import QUICK, Watcher

BTC = "BTCUSDT"


# --- decisions, second by second ------------------------------------------------------------------


class Peer:
    """A connection whose every second is written down, and what stands for the line that it belongs to."""

    def __init__(self, **options: Any) -> None:
        self.exchange = exchange("binance")
        self.instruments = Instruments()
        self.btc = self.instruments.add("binance", BTC, symbol="BTC-USDT", kind="spot")
        self.pipeline = Pipeline(self.exchange, self.instruments, EventHandler())
        self.plan = ConnectionPlan("", (), [], serves=[(BTC, "quote")])
        self.receiver: Any = self
        self.frames = 0
        self.told: list[tuple[float, str, str]] = []
        self.closed = ""
        self.time = 0.0
        self.pings: list[float] = []
        self.pong: asyncio.Future[None] | None = None
        self.seconds: list[str] = []
        silence_timeout = options.pop("silence_timeout", None)
        self.is_primary = True
        config = LivenessConfig(**{"floor": 15.0, "ceiling": 100.0, **options})
        self.liveness = Liveness(
            self,
            config,
            new_activity(config, self.pipeline.books),
            silence_timeout=silence_timeout,
            first_frame=30.0,
            send=self.send,
            now=lambda: self.time,
            sleep=self.sleep,
        )

    async def run(self, *seconds: str) -> list[tuple[float, str, str]]:
        """Connect, and live through seconds of "d" (data), "h" (heartbeat), "p" (pong if pinged), "." (nothing)."""
        self.seconds = list("".join(seconds))
        with_end = asyncio.ensure_future(self.liveness.watch(self))
        await asyncio.wait([with_end])
        if not with_end.cancelled():
            with_end.result()
        return self.told

    async def sleep(self, duration: float) -> None:
        if not self.seconds:
            raise asyncio.CancelledError
        second = self.seconds.pop(0)
        self.time += 600.0 if second == "H" else duration  # held up
        if second in "dh":
            self.frames += 1
        if second == "d":
            Quote(self.btc, bid_price="1", bid_qty="1").dispatch(self.pipeline.books)
        if second == "p" and self.pong is not None:
            self.pong.set_result(None)
            self.pong = None

    def ping_once(self) -> asyncio.Future[None]:
        self.pings.append(self.time)
        self.pong = asyncio.get_running_loop().create_future()
        return self.pong

    def tell(self, status: str, reason: str) -> None:
        self.told.append((self.time, status, reason))

    def disconnect(self, reason: str) -> None:
        self.closed = reason

    async def send(self, messages: Any) -> None:
        raise AssertionError(f"expected nothing to be subscribed anew, found {messages}")


async def test_a_peer_that_does_not_answer_is_dead() -> None:
    peer = Peer()
    assert await peer.run("d" * 5, "." * 60) == [(25.0, "dead", "no pong for 10.0 s")]
    assert peer.closed == "no pong for 10.0 s"
    assert peer.pings == [15.0]


async def test_anything_that_comes_proves_the_peer() -> None:
    peer = Peer()
    assert await peer.run("h", "." * 15, "h", "." * 15, "p", "." * 15, "h") == []
    assert peer.pings == [11.0, 27.0, 43.0]


async def test_a_market_that_nothing_is_known_of_may_be_quiet_for_ever() -> None:
    peer = Peer()
    assert await peer.run("d", "p" * 1000) == [
        (102.0, "quiet", "no data for 101.0 s, which may be the market: the peer is there")
    ]
    assert not peer.closed


async def test_a_market_that_is_quiet_by_nature_is_told_once_a_silence_and_left_alone() -> None:
    peer = Peer()
    told = await peer.run(*["d" + "p" * 59] * 20, "p" * 60, "d", "p" * 110)
    assert [(time, status) for time, status, _ in told] == [(1242.0, "quiet"), (1362.0, "quiet")]
    assert not peer.closed


async def test_a_busy_connection_that_falls_mute_is_made_anew() -> None:
    peer = Peer()
    assert await peer.run("d" * 20, "p" * 60) == [(36.0, "silent", "no data for 16.0 s")]
    assert peer.closed == "no data for 16.0 s"


async def test_what_was_learned_outlives_the_connection_and_a_market_that_sleeps_is_left_alone() -> None:
    peer = Peer()
    times = [(await peer.run("d" * 20, "p" * 500))[-1]]
    for _ in range(2):
        times.append((await peer.run("d", "p" * 500))[-1])  # a snapshot, and silence
    assert [(status, reason) for _, status, reason in times] == [
        ("silent", "no data for 16.0 s"),
        ("silent", "no data for 61.0 s"),
        ("quiet", "no data for 101.0 s, which may be the market: the peer is there"),
    ]


async def test_a_connection_that_brings_nothing_at_all_is_made_anew() -> None:
    peer = Peer()
    assert await peer.run("p" * 60) == [(30.0, "silent", "no message for 30.0 s, since it was connected")]


async def test_a_timeout_that_is_set_is_kept() -> None:
    peer = Peer(silence_timeout=3.0)
    assert await peer.run("d", "h" * 60) == [(4.5, "silent", "no data for 3.8 s")]


async def test_a_timeout_that_is_set_is_the_only_rule() -> None:
    peer = Peer(silence_timeout=3600.0)
    assert await peer.run("p" * 1000) == []


async def test_time_for_which_the_loop_was_held_up_is_no_silence() -> None:
    peer = Peer()
    assert await peer.run("d" * 20, "HH", "d", "HHHH", "d") == []


# --- renewals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channel", "expected"),
    [
        ("binance", "trade", ["UNSUBSCRIBE", "SUBSCRIBE"]),
        ("okx", "trade", ["unsubscribe", "subscribe"]),
        ("binance", "candle", []),  # is not subscribed
    ],
)
def test_a_renewal_ends_and_makes_one_subscription(name: str, channel: str, expected: list[str]) -> None:
    found = exchange(name)
    instruments = Instruments()
    raw_symbols = [BTC, "ETHUSDT"] if name == "binance" else ["BTC-USDT", "ETH-USDT"]
    added = [instruments.add(name, raw, symbol=raw, kind="spot") for raw in raw_symbols]
    plans = found.plan([Subscription(raw) for raw in raw_symbols], instruments)
    plan = next((plan for plan in plans if (raw_symbols[0], channel) in plan.serves), plans[0])
    messages = renewal(found, plan, added[0], channel)
    texts = [msgspec.json.decode(message) for message in messages if isinstance(message, bytes)]
    assert [text.get("method") or text.get("op") for text in texts] == expected
    assert all(raw_symbols[0].lower() in str(text).lower() for text in texts)
    assert not any(raw_symbols[1].lower() in str(text).lower() for text in texts)


# --- against the simulated exchange ---------------------------------------------------------------


def quick(**liveness: Any) -> FeedConfig:
    learning = {"look_interval": 0.02, "floor": 0.2, "ceiling": 30.0, **liveness}
    return msgspec.structs.replace(QUICK, silence_timeout=None, liveness=LivenessConfig(**learning))


@asynccontextmanager
async def running(
    sim: SimulatedExchange, watcher: Watcher, config: FeedConfig, *symbols: str, **options: Any
) -> AsyncIterator[LiveFeed]:
    endpoints = options.pop("endpoints", Endpoints(ws=sim.ws_url, rest=sim.rest_url))
    subscriptions = [Subscription(symbol) for symbol in symbols]
    async with LiveFeed(
        exchange("binance"), subscriptions, watcher, config=config, endpoints=endpoints, **options
    ) as feed:
        task = asyncio.ensure_future(feed.run())
        try:
            yield feed
        finally:
            feed.stop()
            await task


async def test_mute_but_ponging_is_found_by_what_was_learned(watcher: Watcher) -> None:
    async with SimulatedExchange("binance", [BTC], seed=7, rate=3000.0) as sim:
        async with running(sim, watcher, quick(), "BTC-USDT") as feed:
            await watcher.until(lambda: feed.lines and feed.lines[0].activity.threshold < inf)
            sim.inject(Mute(seconds=0.5))
            await watcher.until(lambda: watcher.statuses().count("connected") == 2)
            assert feed.lines[0].activity.threshold < inf
    assert watcher.statuses()[:4] == ["connected", "silent", "disconnected", "connected"]


async def test_a_quiet_market_is_told_and_does_not_cause_a_reconnect(watcher: Watcher) -> None:
    async with SimulatedExchange("binance", [BTC], seed=7, real_time=False) as sim:
        async with running(sim, watcher, quick(ceiling=0.3), "BTC-USDT") as feed:
            await watcher.until(lambda: "quiet" in watcher.statuses())
            await flow(sim, watcher, lambda: watcher.trades)
            assert feed.lines[0].connects == 1
    assert watcher.statuses() == ["connected", "quiet"]


async def test_a_market_that_falls_asleep_is_left_alone_in_the_end(watcher: Watcher) -> None:
    async with SimulatedExchange("binance", [BTC], seed=7, real_time=False) as sim:
        async with running(sim, watcher, quick(ceiling=1.0), "BTC-USDT") as feed:
            await flow(sim, watcher, lambda: feed.lines[0].activity.threshold < inf)
            await watcher.until(lambda: "quiet" in watcher.statuses())
    reconnects = watcher.statuses().count("silent")  # two, or one where the machine is so slow that less is usual
    assert 1 <= reconnects <= 2
    assert watcher.statuses() == ["connected", *["silent", "disconnected", "connected"] * reconnects, "quiet"]


async def test_a_quiet_symbol_on_a_busy_connection_is_subscribed_anew_alone(watcher: Watcher, tmp_path: Path) -> None:
    path = tmp_path / "session.feeds"
    writer = RecordingWriter(path)
    async with SimulatedExchange("binance", [BTC, "ETHUSDT"], seed=7, real_time=False) as sim:
        config = quick(stall_timeouts={"trade": 0.3})
        async with running(sim, watcher, config, "BTC-USDT", "ETH-USDT", writer=writer) as feed:
            await flow(sim, watcher, lambda: "stalled" in watcher.statuses())
            await flow(sim, watcher, lambda: (writer.flush(), len(sent(path)) == 3)[1])
            assert feed.lines[0].connects == 1
    writer.close()
    assert set(watcher.statuses()) == {"connected", "stalled"}
    reason = next(status.reason for status in watcher.feed_statuses if status.status == "stalled")
    assert reason.startswith("ETHUSDT trade: no data for 0.3")
    assert reason.endswith(" s; subscribed anew")
    assert [message["method"] for message in sent(path)[:3]] == ["SUBSCRIBE", "UNSUBSCRIBE", "SUBSCRIBE"]
    assert [message["params"] for message in sent(path)[1:3]] == [["ethusdt@trade"]] * 2
    replayed = EventLog()
    session.replay(replayed, path, policy="none")
    assert [(status.status, status.reason) for status in replayed.feed_statuses] == [
        (status.status, status.reason) for status in watcher.feed_statuses
    ]


async def flow(sim: SimulatedExchange, watcher: Watcher, condition: Callable[[], Any]) -> None:
    """Have BTC traded, and nothing else, until something holds."""
    await sim.wait_subscribed("btcusdt@trade")
    while not condition():
        sent, seen = sim.sent_messages, len(watcher.trades) + len(watcher.quotes)
        while sim.sent_messages == sent:
            sim.burst(BTC, 5)
        await watcher.until(lambda seen=seen: len(watcher.trades) + len(watcher.quotes) > seen)


def sent(path: Path) -> list[Any]:
    """What the recording says that we have sent."""
    with open_session(path) as source:
        return [msgspec.json.decode(m.payload) for m in source if m.kind is Kind.SENT]


@asynccontextmanager
async def gate(sim: SimulatedExchange) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An address that leads to the exchange while the event is set; else all that is sent is lost, both ways."""
    opened = asyncio.Event()
    opened.set()
    port = int(sim.ws_url.rpartition(":")[2])

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if opened.is_set():
                    writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", opened


async def test_a_connection_whose_other_end_is_gone_is_dead(watcher: Watcher) -> None:
    async with SimulatedExchange("binance", [BTC], seed=7, rate=3000.0) as sim, gate(sim) as (address, opened):
        endpoints = Endpoints(ws=f"ws://{address}", rest=sim.rest_url)
        config = quick(ping_interval=0.1, pong_timeout=0.1, floor=20.0)
        async with running(sim, watcher, config, "BTC-USDT", endpoints=endpoints):
            await watcher.until(lambda: watcher.updates)
            opened.clear()
            await watcher.until(lambda: "dead" in watcher.statuses())
            opened.set()
            await watcher.until(lambda: watcher.statuses()[-1] == "connected" and watcher.states(BTC)[-1] == "LIVE")
    assert watcher.statuses() == ["connected", "dead", "disconnected", "connected"]
    assert watcher.feed_statuses[1].reason.startswith("no pong for 0.1")


# --- configuration --------------------------------------------------------------------------------


def test_a_file_sets_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "feeds.toml"
    text = '[[feeds]]\nexchange = "binance"\nsymbols = ["BTC-USDT"]\nconfig.liveness.stall_timeouts.book = 5\n'
    path.write_text(text)
    assert load_config(path).feeds[0].config.liveness == LivenessConfig(stall_timeouts={"book": 5.0})
    path.write_text(text.replace(".book", ".boook"))
    with pytest.raises(ConfigError, match="found boook = 5"):
        load_config(path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"floor": 0}, "expected floor above 0, found 0"),
        ({"factor": 1.0}, "expected factor above 1, found 1.0"),
        ({"stall_timeouts": {"nope": 1.0}}, "found nope = 1.0"),
        ({"stall_timeouts": {"book": 0.0}}, "expected stall_timeouts above 0 of book, .*, found book = 0.0"),
    ],
)
def test_a_config_names_what_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LivenessConfig(**wrong)
