from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from feeds.exchange import Endpoints
from feeds.live.feed import FeedConfig
from feeds.recording import LAST_IN_BATCH, Kind, RecordingReader, RecordingWriter
from feeds.session import live, replay
from feeds.simulator import (
    Disconnect,
    FlowConfig,
    Gap,
    PlaybackError,
    RecordedExchange,
    Refuse,
    RestLimit,
    SimulatedExchange,
    UnknownSymbol,
)
from feeds.simulator import recorded as recorded_module
from feeds.simulator.faults import FaultPlan
from feeds.simulator.order_flow import NS_PER_SECOND
from feeds.simulator.protocol import Batch, Ending
from feeds.simulator.recorded import RecordedProtocol, RecordedSession
from feeds.testing import EventLog
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

FIRST = 1_790_000_000 * NS_PER_SECOND
START_NS = 5_000 * NS_PER_SECOND
WS = "wss://stream.example"

# What a recording is made of: (seconds, kind, payload), and behind them, where they matter, source and tag.
CONNECTED = (0.0, Kind.CONNECTED, b"")
ASKED = (0.0, Kind.SENT, b"subscribe")
GONE = (9.0, Kind.DISCONNECTED, b"peer closed with 1001: maintenance")


def text(second: float, payload: bytes, source: int = 1, flags: int = LAST_IN_BATCH) -> tuple[Any, ...]:
    return (second, Kind.TEXT | flags, payload, source)


def reply(payload: bytes, tag: str, url: bytes | None = None, source: int = 1) -> list[tuple[Any, ...]]:
    request = [] if url is None else [(0, Kind.REQUEST, url, source, tag)]
    return [*request, (0, Kind.REPLY, payload, source, tag)]


def write(path: Path, *entries: tuple[Any, ...], urls: tuple[str, ...] = ("/ws",), **options: Any) -> Path:
    with RecordingWriter(path, **options) as writer:
        for url in urls:
            streams = [f"stream {url}"]
            writer.add_source("binance", url if "://" in url else WS + url, ts_recv=FIRST, streams=streams)
        for second, kind, payload, *more in entries:
            source, tag = (*more, *(1, "")[len(more) :])
            writer.write_message(FIRST + round(second * NS_PER_SECOND), source, kind, payload, tag)
            if options.get("block_size") == 1:
                writer.flush(wait=True)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.feeds"


def serve(path: Path, *entries: tuple[Any, ...], urls: tuple[str, ...] = ("/ws",), **options: Any) -> RecordedProtocol:
    return RecordedExchange(write(path, *entries, urls=urls), **options).protocol()


def connect(exchange: RecordedProtocol, target: str = "/ws", now_ns: int = START_NS) -> RecordedSession:
    session = exchange.connect(target)
    session.open(now_ns)
    return session


def batches(exchange: RecordedProtocol, session: RecordedSession, seconds: float = 60) -> list[Batch]:
    """What is due up to so many seconds after the start."""
    until_ns = START_NS + round(seconds * NS_PER_SECOND)
    return [batch for batch in exchange.source.poll(until_ns) if batch.session is session]


def payloads(exchange: RecordedProtocol, session: RecordedSession, seconds: float = 60) -> list[bytes]:
    return [message.data for batch in batches(exchange, session, seconds) for message in batch.messages]


# --- connections ----------------------------------------------------------------------------------


def test_messages_of_one_read_come_together_verbatim_text_as_text_and_binary_as_binary(path: Path) -> None:
    binary = (2, Kind.BINARY | LAST_IN_BATCH, b"\x1f\x8b\xff")
    exchange = serve(path, CONNECTED, text(1, b"a"), text(2, b"b", flags=0), binary, text(2, b"c"))
    found = batches(exchange, connect(exchange))
    assert [[(one.data, one.is_binary) for one in batch.messages] for batch in found] == [
        [(b"a", False)],
        [(b"b", False), (b"\x1f\x8b\xff", True)],
        [(b"c", False)],
    ]


def test_a_batch_that_ended_without_a_message_ends_where_the_time_does(path: Path) -> None:
    exchange = serve(path, CONNECTED, text(1, b"a", flags=0), (1, Kind.TICK, b""), text(2, b"b"))
    assert [len(batch.messages) for batch in batches(exchange, connect(exchange))] == [1, 1]


def test_playing_begins_with_the_clients_first_message(path: Path) -> None:
    exchange = serve(path, CONNECTED, ASKED, text(1, b"ack"), text(3, b"a"))
    session = connect(exchange)
    assert (payloads(exchange, session), session.streams, exchange.source.next_ns) == ([], [], None)
    assert session.receive(b"anything", START_NS + 7 * NS_PER_SECOND) == []
    assert session.streams == ["stream /ws"]
    assert [batch.ts_event - START_NS for batch in batches(exchange, session)] == [
        8 * NS_PER_SECOND,
        10 * NS_PER_SECOND,
    ]


def test_a_greeting_comes_at_once_and_the_rest_with_the_clients_first_message(path: Path) -> None:
    exchange = serve(path, CONNECTED, text(0.1, b"welcome"), (0.2, Kind.SENT, b"subscribe"), text(0.3, b"ack"))
    session = connect(exchange)
    assert payloads(exchange, session) == [b"welcome"]
    session.receive(b"subscribe", START_NS)
    assert payloads(exchange, session) == [b"ack"]


def test_a_greeting_in_the_read_of_the_first_answer_ends_where_the_recorder_spoke(path: Path) -> None:
    exchange = serve(path, CONNECTED, text(0, b"welcome", flags=0), ASKED, text(0, b"ack"))
    session = connect(exchange)
    assert payloads(exchange, session) == [b"welcome"]


def test_a_client_that_speaks_before_the_greeting_is_not_waited_for(path: Path) -> None:
    exchange = serve(path, CONNECTED, text(0.1, b"welcome"), (0.2, Kind.SENT, b"subscribe"), text(0.3, b"ack"))
    session = connect(exchange)
    session.receive(b"subscribe", START_NS)
    assert payloads(exchange, session) == [b"welcome", b"ack"]


@pytest.mark.parametrize("sent", [[], [(20, Kind.SENT, b"ping")]])
def test_where_nothing_is_subscribed_by_message_everything_comes_at_once(path: Path, sent: list[Any]) -> None:
    exchange = serve(path, CONNECTED, text(1, b"a"), *sent, text(21, b"b"))
    assert payloads(exchange, connect(exchange)) == [b"a", b"b"]


def test_each_client_gets_the_first_connection_to_its_path_that_nobody_has_had(path: Path) -> None:
    exchange = serve(
        path,
        *((0, Kind.CONNECTED, b"", source) for source in (1, 2, 3)),
        *(text(source, b"%d" % source, source) for source in (1, 2, 3)),
        urls=("/a?x=1&y=2", "/b", "/a?x=3"),
        speed=math.inf,
    )
    targets = ["/b", "/a?x=3", "/a?y=2&x=1", "/a?x=3", "/a", "/a", "/elsewhere"]
    assert [payloads(exchange, connect(exchange, target))[-1] for target in targets] == [
        b"2", b"3", b"1", b"3", b"1", b"3", b"1",
    ]  # fmt: skip


def test_the_host_in_front_of_a_path_says_which_of_two_is_meant(path: Path) -> None:
    exchange = serve(
        path,
        *((0, Kind.CONNECTED, b"", source) for source in (1, 2)),
        *(text(source, b"%d" % source, source) for source in (1, 2)),
        urls=("wss://one.example/ws", "wss://two.example/ws"),
        speed=math.inf,
    )
    assert [payloads(exchange, connect(exchange, f"/{host}.example/ws")) for host in ("two", "one")] == [[b"2"], [b"1"]]


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        (b"peer closed with 1001: maintenance", Ending(1001, "maintenance")),
        (b"we closed with 1000", Ending(1000)),
        (b"peer closed with 1005", Ending(1000)),
        (b"connection lost without a close frame", Ending()),
        (b"", Ending()),
        (b"no message for 30.0 s", Ending(1001)),
    ],
)
def test_a_recorded_disconnect_ends_the_connection_as_it_ended(path: Path, reason: bytes, ending: Ending) -> None:
    exchange = serve(path, CONNECTED, text(1, b"a"), (9, Kind.DISCONNECTED, reason), speed=2.0)
    first, last = batches(exchange, connect(exchange))
    assert (first.ending, last.messages, last.ending) == (None, [], ending)
    assert last.ts_event == START_NS + 4.5 * NS_PER_SECOND


def test_who_reconnects_gets_what_followed_and_then_the_beginning_again(path: Path) -> None:
    again = ((10, Kind.CONNECTED, b""), text(11, b"b"), (12, Kind.CONNECTED, b""), text(13, b"c"))
    exchange = serve(path, CONNECTED, text(1, b"a"), GONE, *again, speed=math.inf)
    assert [payloads(exchange, connect(exchange)) for _ in range(4)] == [[b"a"], [b"b"], [b"c"], [b"a"]]


def test_a_connection_far_into_a_recording_is_found_by_its_index(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [CONNECTED, *(text(1, b"%d" % n) for n in range(50)), GONE, (9.5, Kind.CONNECTED, b""), text(10, b"b")]
    write(path, *entries, block_size=1)
    monkeypatch.setattr(recorded_module, "_SEEK_FROM", 20)
    exchange = RecordedExchange(path, speed=math.inf).protocol()
    assert len(payloads(exchange, connect(exchange))) == 50
    assert payloads(exchange, connect(exchange)) == [b"b"]


def test_another_run_in_the_same_file_is_another_connection(path: Path) -> None:
    write(path, CONNECTED, text(1, b"a"))
    write(path, text(2, b"b"), text(3, b"c"), append=True)
    exchange = RecordedExchange(path, speed=math.inf).protocol()
    assert [payloads(exchange, connect(exchange)) for _ in range(3)] == [[b"a"], [b"b", b"c"], [b"a"]]


def test_a_recording_that_was_cut_off_is_served_to_its_last_whole_block(path: Path) -> None:
    write(path, CONNECTED, text(1, b"a"), text(2, b"b"), text(3, b"c"), block_size=1)
    with RecordingReader(path) as reader:
        last = reader.index[-1].offset
    path.write_bytes(path.read_bytes()[: last + 60])
    exchange = RecordedExchange(path, speed=math.inf).protocol()
    session = connect(exchange)
    assert payloads(exchange, session) == [b"a", b"b"]
    assert exchange.source.next_ns is None


@pytest.mark.parametrize(
    ("speed", "seconds", "count"), [(1.0, 2.9, 2), (1.0, 3, 3), (2.0, 1.5, 3), (0.5, 5.9, 2), (math.inf, 0, 3)]
)
def test_the_pace_is_the_recorded_one_or_a_factor_of_it(path: Path, speed: float, seconds: float, count: int) -> None:
    exchange = serve(path, CONNECTED, text(1, b"a"), text(2, b"b"), text(3, b"c"), speed=speed)
    assert len(payloads(exchange, connect(exchange), seconds)) == count


def test_a_client_that_does_not_read_is_waited_for(path: Path) -> None:
    exchange = serve(path, CONNECTED, text(1, b"a"), speed=math.inf)
    session = connect(exchange)
    exchange.source.pause(session)
    assert payloads(exchange, session) == []
    exchange.source.resume(session)
    assert payloads(exchange, session) == [b"a"]


def test_a_recording_without_a_connection_cannot_be_served(path: Path) -> None:
    with pytest.raises(PlaybackError, match="expected a connection in the recording, found none"):
        serve(path)


def test_the_speed_is_above_zero() -> None:
    with pytest.raises(ValueError, match="expected a speed above 0, found 0"):
        RecordedExchange("x", speed=0)


# --- REST -----------------------------------------------------------------------------------------


def test_replies_come_in_their_order_and_the_last_one_again_anew_for_each_start(path: Path) -> None:
    url = b"/depth?symbol=A&limit=5"
    entries = [CONNECTED, *reply(b"1", "A", url), *reply(b"other", "B", b"/depth?symbol=B"), *reply(b"2", "A", url)]
    exchange = serve(path, *entries)

    def body(target: str) -> bytes:
        return exchange.rest(target, 0).body

    for _ in range(2):
        connect(exchange)
        assert [body("/depth?limit=5&symbol=A") for _ in range(3)] == [b"1", b"2", b"2"]
        assert body("/depth?symbol=B") == b"other"


def test_a_reply_is_found_by_its_tag_where_the_request_was_another_or_is_not_recorded(path: Path) -> None:
    exchange = serve(path, CONNECTED, *reply(b"1", "BTCUSDT"), *reply(b"2", "btc", b"/order_book/btc?group=1"))
    assert exchange.rest("/api/v3/depth?symbol=BTCUSDT&limit=10", 0).body == b"1"
    assert exchange.rest("/order_book/btc/", 0).body == b"2"


def test_requests_are_told_apart_by_what_is_posted_and_by_their_host(path: Path) -> None:
    exchange = serve(
        path,
        CONNECTED,
        *reply(b"perps", ":instruments", b'/info\n{"type":"perps"}'),
        *reply(b"spot", ":instruments", b'/info\n{"type":"spot"}'),
        *reply(b"futures", ":instruments", b"https://futures.example/list"),
        *reply(b"list", ":instruments", b"/list"),
    )
    assert exchange.rest("/info", 0, body=b'{"type":"spot"}').body == b"spot"
    assert exchange.rest("/info", 0, body=b'{"type":"perps"}').body == b"perps"
    assert exchange.rest("/futures.example/list", 0).body == b"futures"
    assert exchange.rest("/list?of=some", 0).body == b"list"


def test_lists_begin_anew_for_the_next_client(path: Path) -> None:
    pages = [*reply(b"1", ":instruments", b"/list"), *reply(b"2", ":instruments", b"/list")]
    exchange = serve(path, CONNECTED, *pages)
    assert [exchange.rest("/list", 0).body for _ in range(4)] == [b"1", b"2", b"1", b"2"]


@pytest.mark.parametrize("slashes", [b"//", b"\\/\\/"])
def test_a_ticket_leads_back_to_the_path_of_its_connection(path: Path, slashes: bytes) -> None:
    ticket = b'{"token":"t","endpoint":"wss:%bpush.example/endpoint"}' % slashes
    url = b"https://futures.example/ticket\n{}"
    exchange = serve(path, (0, Kind.CONNECTED, b"", 2), *reply(ticket, ":ticket", url, 2), urls=("/spot", "/futures"))
    exchange.ws_url = "ws://127.0.0.1:7"
    found = exchange.rest("/ticket", 0, body=b"{}").body
    assert found == b'{"token":"t","endpoint":"ws://127.0.0.1:7/futures"}'


def test_what_was_not_recorded_is_named_with_what_was(path: Path) -> None:
    exchange = serve(path, CONNECTED, *reply(b"1", "BTCUSDT", b"/depth?symbol=BTCUSDT"))
    found = exchange.rest("/api/v3/exchangeInfo", 0)
    assert found.status == 404
    assert b"expected a recorded reply to /api/v3/exchangeInfo, found those to /depth?symbol=BTCUSDT" in found.body


def test_lists_that_are_missing_are_named_and_can_be_given(path: Path) -> None:
    write(path, CONNECTED)
    assert RecordedExchange(path).contents.missing_lists() == {"binance": ["/api/v3/exchangeInfo"]}
    given = RecordedExchange(path, replies=[("/api/v3/exchangeInfo", b"{}")])
    assert given.contents.missing_lists() == {}
    assert given.protocol().rest("/api/v3/exchangeInfo", 0).body == b"{}"


def test_the_replies_held_are_limited(path: Path) -> None:
    with pytest.raises(PlaybackError, match="max_reply_bytes=3 of REST replies, found more"):
        serve(path, CONNECTED, *reply(b"12", "A"), *reply(b"34", "A"), max_reply_bytes=3)


# --- faults ---------------------------------------------------------------------------------------


def test_faults_that_need_generated_data_are_refused(path: Path) -> None:
    exchange = serve(path, CONNECTED)
    for fault in (Gap("BTCUSDT"), UnknownSymbol()):
        with pytest.raises(ValueError, match=r"expected .* found"):
            FaultPlan(exchange, [fault])
    plan = FaultPlan(exchange, [RestLimit(retry_after=3)])
    assert (plan.rest("/x", 0).headers, plan.rest("/x", 0).status) == ({"Retry-After": "3"}, 404)


# --- served ---------------------------------------------------------------------------------------


class Client(WSListener):
    """A plain client of picows."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[list[tuple[int, bytes]]] = [[]]
        self.changed = asyncio.Event()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self.reads[-1].append((int(frame.msg_type), frame.get_payload_as_bytes()))
            if frame.last_in_buffer:
                self.reads.append([])
        self.changed.set()

    async def until(self, count: int) -> list[list[tuple[int, bytes]]]:
        """Return the reads so far, once there were so many messages."""
        while sum(map(len, self.reads)) < count:
            self.changed.clear()
            await self.changed.wait()
        return [read for read in self.reads if read]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_plain_client_gets_frames_reads_and_the_close_as_they_were(path: Path) -> None:
    both = (text(2, b"b", flags=0), (2, Kind.BINARY | LAST_IN_BATCH, b"c"))
    write(path, CONNECTED, ASKED, text(1, b"a"), *both, GONE)
    async with SimulatedExchange(RecordedExchange(path), real_time=False) as sim:
        transport, client = await ws_connect(Client, f"{sim.ws_url}/ws")
        await sim.wait_clients(1)
        await sim.advance(5)
        assert client.reads == [[]]
        transport.send(WSMsgType.TEXT, b"subscribe")
        await sim.wait_subscribed("stream /ws")
        await sim.advance(1)
        assert await client.until(1) == [[(1, b"a")]]
        await sim.advance(1)
        assert await client.until(3) == [[(1, b"a")], [(1, b"b"), (2, b"c")]]
        await sim.advance(7)
        await transport.wait_disconnected()
        assert transport.close_handshake is not None
        assert transport.close_handshake.recv == (1001, "maintenance")


async def test_a_connection_that_was_lost_is_lost_behind_its_last_message(path: Path) -> None:
    write(path, CONNECTED, text(1, b"a"), (2, Kind.DISCONNECTED, b"connection lost without a close frame"))
    async with SimulatedExchange(RecordedExchange(path, speed=math.inf)) as sim:
        transport, client = await ws_connect(Client, f"{sim.ws_url}/ws")
        await transport.wait_disconnected()
        assert await client.until(1) == [[(1, b"a")]]
        assert transport.close_handshake is None


async def test_rest_answers_posts_on_a_port_of_its_own(path: Path, http: aiohttp.ClientSession) -> None:
    write(path, CONNECTED, *reply(b"1", ":instruments", b"/info\n{}"))
    async with SimulatedExchange(RecordedExchange(path)) as sim:
        async with http.post(f"{sim.rest_url}/info", data=b"{}") as found:
            assert (found.status, found.content_type, await found.read()) == (200, "application/json", b"1")
        async with http.get(f"{sim.rest_url}/other") as found:
            assert found.status == 404
        sim.inject(Refuse(60))
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"{sim.rest_url}/other")


async def test_connections_can_be_dropped_on_request(path: Path) -> None:
    write(path, CONNECTED, text(1, b"a"))
    async with SimulatedExchange(RecordedExchange(path), faults=[Disconnect(1012, after=0, at=3600)]) as sim:
        transport, _ = await ws_connect(Client, f"{sim.ws_url}/ws")
        await sim.wait_clients(1)
        sim.inject(Disconnect(1012))
        await transport.wait_disconnected()


def test_what_belongs_to_generated_data_is_refused_beside_a_recording(path: Path) -> None:
    for options in ({"seed": 1}, {"rate": 5.0}, {"flow": FlowConfig()}, {"symbols": ["BTCUSDT"]}):
        with pytest.raises(ValueError, match="expected a recorded exchange alone"):
            SimulatedExchange(RecordedExchange(path), **options)  # type: ignore[arg-type]


# --- what a live feed recorded --------------------------------------------------------------------


class Counting(EventLog):
    """Keeps what it is told; stops the session behind so many trades."""

    def __init__(self, trades: int) -> None:
        super().__init__()
        self.enough = asyncio.Event()
        self._trades = trades

    def on_batch_end(self, ts_recv: int) -> None:
        if len(self.trades) >= self._trades:
            self.enough.set()


async def record_live(sim: SimulatedExchange, path: Path, trades: int) -> Counting:
    log = Counting(trades)
    report = await asyncio.wait_for(
        live(
            log,
            "binance",
            ["BTC-USDT"],
            policy="none",
            record_to=path,
            stop=log.enough,
            endpoints=Endpoints(sim.ws_url, sim.rest_url),
            config=FeedConfig(silence_timeout=60),
        ),
        60,
    )
    assert report.recording_error is None
    return log


async def test_what_a_live_feed_recorded_can_be_served_and_recorded_again(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{n}.feeds" for n in range(3))
    async with SimulatedExchange("binance", ["BTCUSDT"], seed=1, rate=2000) as sim:
        await record_live(sim, first, 50)
    original = EventLog()
    replay(original, first, policy="none")
    trades = len(original.trades)
    for source, target in ((first, second), (second, third)):
        async with SimulatedExchange(RecordedExchange(source, speed=math.inf)) as sim:
            log = await record_live(sim, target, trades)
        assert [repr(trade) for trade in log.trades] == [repr(trade) for trade in original.trades]
        assert replay(EventLog(), target, policy="none").is_same
    with RecordingReader(third) as reader:
        found = [(message.kind, message.payload[:20]) for message in reader if message.tag == ":instruments"]
    assert found == [(Kind.REQUEST, b"/api/v3/exchangeInfo"), (Kind.REPLY, b'{"timezone":"UTC","s')]
