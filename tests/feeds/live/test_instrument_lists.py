"""Lists of instruments: kept on disk, ignored where they cannot be right, fetched again while feeds run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from click.testing import CliRunner

from feeds import cli, session
from feeds.errors import DecodeError, FetchError, UnknownSymbol
from feeds.events import EventHandler
from feeds.exchange import Endpoints, Exchange
from feeds.exchanges.binance import Binance, Symbol
from feeds.instrument import Instruments
from feeds.live.feed import LiveFeed
from feeds.live.handler import FeedHandlerConfig
from feeds.live.http import RestClient
from feeds.live.instrument_lists import InstrumentCache, InstrumentListsConfig, Reply, cache_folder
from feeds.recording import Kind, RecordingWriter, open_recording
from feeds.recording.format import INSTRUMENTS_TAG
from feeds.simulator.server import SimulatedExchange
from feeds.subscription import Subscription

from .conftest import QUICK, Watcher

REPLIES = [Reply("/api/v3/exchangeInfo", b"", b"{}"), Reply("/two", b"body", b"\x00" * 1000)]
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Market(Binance):
    """Binance as a simulator is it, at an address of its own, with some symbols not listed yet."""

    def __init__(self, *hidden: str) -> None:
        self.hidden = set(hidden)
        self.loads = 0

    def load_instruments(self, payload: bytes, instruments: Instruments) -> list[str]:
        self.loads += 1
        return super().load_instruments(payload, instruments)

    def _add(self, symbol: Symbol, instruments: Instruments) -> None:
        if symbol.symbol not in self.hidden:
            super()._add(symbol, instruments)


# --- the cache ------------------------------------------------------------------------------------


def test_what_is_kept_is_found_until_it_is_too_old(tmp_path: Path) -> None:
    clock = Clock()
    cache = InstrumentCache(tmp_path / "made" / "for it", max_age=DAY, now=clock)
    assert cache.load(Binance()) is None
    cache.save(Binance(), REPLIES)
    assert os.listdir(tmp_path / "made" / "for it") == ["binance.instruments"]  # and nothing unfinished
    clock.now += DAY - 1
    assert cache.load(Binance()) == REPLIES
    clock.now += 1
    assert cache.load(Binance()) is None
    clock.now -= 2 * DAY  # written in the future: one of the clocks was wrong
    assert cache.load(Binance()) is None


def test_lists_of_other_addresses_than_today_are_not_taken(tmp_path: Path) -> None:
    class Elsewhere(Binance):
        instruments_urls = ("/api/v4/exchangeInfo",)

    cache = InstrumentCache(tmp_path, max_age=DAY)
    cache.save(Binance(), REPLIES)
    assert cache.load(Elsewhere()) is None


def other_exchange(path: Path) -> bytes:
    class Other(Binance):
        id = "other"

    cache = InstrumentCache(path.parent, max_age=DAY)
    cache.save(Other(), REPLIES)
    return cache.path(Other()).read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.read_bytes()[:-1],
        lambda path: path.read_bytes()[:40] + bytes([path.read_bytes()[40] ^ 1]) + path.read_bytes()[41:],
        lambda path: b"",
        lambda path: b"{}",
        lambda path: zstandard.compress(b"{}"),
        lambda path: zstandard.compress(msgspec.msgpack.encode(["another program", "binance", 1.0, [], []])),
        lambda path: b"\x28\xb5\x2f\xfd\xe0" + (1 << 50).to_bytes(8, "little"),  # claims a petabyte
        other_exchange,
    ],
)
def test_a_damaged_or_foreign_file_is_refused(damage: Any, tmp_path: Path) -> None:
    cache = InstrumentCache(tmp_path, max_age=DAY)
    cache.save(Binance(), REPLIES)
    path = cache.path(Binance())
    path.write_bytes(damage(path))
    with pytest.raises(DecodeError, match="expected instruments of binance: ") as raised:
        cache.load(Binance())
    assert str(path) in str(raised.value)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = InstrumentCache(tmp_path, max_age=DAY)
    cache.save(Binance(), REPLIES)

    def full(number: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        cache.save(Binance(), [])
    assert os.listdir(tmp_path) == ["binance.instruments"]
    assert cache.load(Binance()) == REPLIES


def test_the_cache_folder_is_that_of_xdg(tmp_path: Path) -> None:
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "picows-feeds"
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == cache_folder({}) == Path.home() / ".cache" / "picows-feeds"


def test_a_config_names_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="expected max_age and refresh_interval above 0"):
        InstrumentListsConfig(max_age=0)


# --- feeds ----------------------------------------------------------------------------------------


@asynccontextmanager
async def simulated(market: Exchange) -> AsyncIterator[SimulatedExchange]:
    async with SimulatedExchange("binance", ["BTCUSDT", "ETHUSDT", "SOLUSDT"], seed=7, rate=500.0) as sim:
        market.endpoints = Endpoints(ws=sim.ws_url, rest=sim.rest_url)
        yield sim


@asynccontextmanager
async def feeding(
    market: Exchange, watcher: EventHandler, folder: Path | None, symbol: str = "BTC-USDT", **options: Any
) -> AsyncIterator[LiveFeed]:
    lists = InstrumentListsConfig(cache_folder=None if folder is None else str(folder))
    async with LiveFeed(market, [Subscription(symbol)], watcher, config=QUICK, lists=lists, **options) as feed:
        running = asyncio.ensure_future(feed.run())
        try:
            yield feed
        finally:
            feed.stop()
            await asyncio.wait_for(running, 10)


def requests(path: Path) -> list[tuple[str, bytes]]:
    """(URL, reply) of the lists in a recording."""
    found = []
    with open_recording(path) as source:
        messages = [m for m in source if m.tag == INSTRUMENTS_TAG]
    for request, reply in zip(messages[::2], messages[1::2], strict=True):
        assert (request.kind, reply.kind) == (Kind.REQUEST, Kind.REPLY)
        found.append((request.payload.decode(), reply.payload))
    return found


class Requests:
    """Notes the paths that are asked for; `refused` are answered with an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        self.refused = False
        get = RestClient.get

        async def noted(client: RestClient, path: str, body: bytes = b"") -> bytes:
            self.paths.append(path)
            if self.refused:
                raise FetchError(f"{path}: refused")
            return await get(client, path, body)

        monkeypatch.setattr(RestClient, "get", noted)


async def test_the_second_start_takes_the_list_from_the_cache_and_records_it_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market, asked = Market(), Requests(monkeypatch)
    async with simulated(market):
        for name in ("first", "second"):
            watcher = Watcher()
            with RecordingWriter(tmp_path / name) as writer:
                async with feeding(market, watcher, tmp_path / "cache", writer=writer):
                    await watcher.until(lambda w=watcher: w.states("BTCUSDT")[-1:] == ["LIVE"])
            assert watcher.statuses() == ["connected"]
    assert asked.paths.count("/api/v3/exchangeInfo") == 1
    assert requests(tmp_path / "first") == requests(tmp_path / "second") != []


async def test_a_damaged_cache_is_told_and_replaced(tmp_path: Path) -> None:
    market, watcher = Market(), Watcher()
    cache = InstrumentCache(tmp_path, max_age=DAY)
    cache.path(market).write_bytes(b"not ours")
    async with simulated(market), feeding(market, watcher, tmp_path):
        await watcher.until(lambda: watcher.states("BTCUSDT")[-1:] == ["LIVE"])
    assert watcher.statuses() == ["problem", "connected"]
    assert "cached instrument list ignored: " in watcher.feed_statuses[0].reason
    assert str(cache.path(market)) in watcher.feed_statuses[0].reason
    assert len(cache.load(market) or ()) == 1


async def test_a_folder_that_cannot_be_written_is_told_and_ends_nothing(tmp_path: Path) -> None:
    market, watcher = Market(), Watcher()
    (tmp_path / "file").write_text("in the way")
    async with simulated(market), feeding(market, watcher, tmp_path / "file"):
        await watcher.until(lambda: watcher.states("BTCUSDT")[-1:] == ["LIVE"])
    assert [s.status for s in watcher.feed_statuses] == ["problem", "problem", "connected"]
    assert "instrument list not cached: " in watcher.feed_statuses[1].reason


async def test_a_symbol_that_the_cache_lacks_is_looked_up_before_it_is_refused(tmp_path: Path) -> None:
    market, watcher = Market("SOLUSDT"), Watcher()
    async with simulated(market):
        async with feeding(market, watcher, tmp_path):
            await watcher.until(lambda: watcher.states("BTCUSDT")[-1:] == ["LIVE"])
        cached = market.loads

        # Kept is the exchange's reply, with SOLUSDT in it: what hides it is the reading, as if it was not in there.
        class Listing(Market):
            def load_instruments(self, payload: bytes, instruments: Instruments) -> list[str]:
                found = super().load_instruments(payload, instruments)
                self.hidden.clear()  # the next list has it
                return found

        later = Listing("SOLUSDT")
        later.endpoints = market.endpoints
        async with feeding(later, watcher, tmp_path, "SOL-USDT"):
            await watcher.until(lambda: watcher.states("SOLUSDT")[-1:] == ["LIVE"])
        assert (cached, later.loads) == (1, 2)
        with pytest.raises(UnknownSymbol, match="did you mean SOL-USDT"):
            lists = InstrumentListsConfig(cache_folder=str(tmp_path))
            async with LiveFeed(later, [Subscription("SOL-USDC")], watcher, config=QUICK, lists=lists) as feed:
                await feed.prepare()


async def test_lists_of_another_address_are_not_kept(tmp_path: Path) -> None:
    watcher = Watcher()
    async with simulated(Market()) as sim:
        endpoints = Endpoints(ws=sim.ws_url, rest=sim.rest_url)
        async with feeding(Binance(), watcher, tmp_path, endpoints=endpoints):
            await watcher.until(lambda: watcher.states("BTCUSDT")[-1:] == ["LIVE"])
    assert os.listdir(tmp_path) == []


async def test_a_refresh_tells_what_is_new_and_what_has_gone_and_is_replayed(tmp_path: Path) -> None:
    market, watcher = Market("ETHUSDT"), Watcher()
    path = tmp_path / "session.feeds"
    async with simulated(market):
        with RecordingWriter(path) as writer:
            async with feeding(market, watcher, None, writer=writer) as feed:
                await watcher.until(lambda: watcher.states("BTCUSDT")[-1:] == ["LIVE"])
                await feed.refresh_instruments()
                assert watcher.statuses() == ["connected"]  # nothing has changed
                market.hidden = {"BTCUSDT", "SOLUSDT"}
                await feed.refresh_instruments()
    changed, gone = watcher.feed_statuses[1:]
    assert (changed.status, changed.reason) == ("instruments_changed", "1 new: ETHUSDT; 2 gone: BTCUSDT, SOLUSDT")
    assert (gone.status, gone.reason) == ("instrument_gone", "BTCUSDT")
    again = Watcher()
    session.replay(again, path)
    assert [(s.status, s.reason) for s in again.feed_statuses] == [(s.status, s.reason) for s in watcher.feed_statuses]
    assert len(requests(path)) == 2  # at the start, and when it had changed


async def test_the_list_is_refreshed_on_a_schedule_whatever_one_refresh_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    market, watcher, asked = Market(), Watcher(), Requests(monkeypatch)
    waits: list[float] = []
    due: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await due.get()

    async with simulated(market):
        async with feeding(market, watcher, None, sleep=sleep):
            await watcher.until(lambda: watcher.states("BTCUSDT")[-1:] == ["LIVE"])
            asked.refused = True
            due.put_nowait(None)
            await watcher.until(lambda: "problem" in watcher.statuses())
            asked.refused = False
            market.hidden = {"ETHUSDT"}
            due.put_nowait(None)
            await watcher.until(lambda: "instruments_changed" in watcher.statuses())
    assert waits == [3600.0] * 3
    assert "instruments not refreshed: /api/v3/exchangeInfo: refused" in watcher.feed_statuses[1].reason
    assert watcher.statuses()[1:] == ["problem", "instruments_changed"]


def test_the_command_line_keeps_lists_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[FeedHandlerConfig] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def run_live(handler: EventHandler, *, config: FeedHandlerConfig, **options: Any) -> session.Report:
        configs.append(config)
        return session.Report("live", config.policy)

    monkeypatch.setattr(session, "run_live", run_live)
    file = tmp_path / "feeds.toml"
    file.write_text('feeds = [{ exchange = "binance", symbols = ["a"] }]\ninstruments.cache_folder = "/mine"\n')
    for arguments in (
        ["binance", "a"],
        ["binance", "a", "--no-cache"],
        ["--config", file],
        ["--config", file, "--no-cache"],
    ):
        CliRunner().invoke(cli.commands, ["live", *map(str, arguments)], catch_exceptions=False)
    folders = [config.instruments.cache_folder for config in configs]
    assert folders == [str(tmp_path / "picows-feeds"), None, "/mine", None]
