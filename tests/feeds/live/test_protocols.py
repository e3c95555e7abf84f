"""The live feed against exchanges that want more than subscriptions: pings, tickets, pages, POST, requests, gzip."""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from feeds import session
from feeds.decoder import Fetch, Resubscribe, Send
from feeds.events import Fanout
from feeds.exchange import ConnectionPlan, Endpoints, Exchange, Heartbeat, Topic, exchange
from feeds.instrument import Instrument, Instruments
from feeds.live.backoff import BackoffConfig
from feeds.live.feed import FeedConfig, LiveFeed
from feeds.live.limits import ConnectionPacer
from feeds.message_decoder import MessageDecoder
from feeds.recording import Kind, RecordingReader, RecordingWriter
from feeds.subscription import Subscription
from feeds.testing import EventLog
from tests.feeds.exchanges import test_bitstamp as bitstamp

from .conftest import Watcher

LOST = '{"s":"A","bids":[],"lost":true}'
START = '{"s":"A","full":true,"bids":[["1","1"]],"n":1}'


class _Message(msgspec.Struct):
    s: str = ""
    full: bool = False
    bids: msgspec.Raw = msgspec.Raw(b"[]")
    hello: bool = False
    pong: bool = False
    lost: bool = False


class Decoder(MessageDecoder):
    silent_kinds = {"pong": "the answer to our ping", "hello": "the greeting"}  # noqa: RUF012

    def decode_message(self, payload: bytes) -> None:
        message = msgspec.json.decode(payload, type=_Message)
        if message.hello or message.pong:
            self.nothing("hello" if message.hello else "pong")
        elif (instrument := self.find(message.s)) is not None:
            self.book(instrument, message.bids, None, is_snapshot=message.full)
        if message.lost:
            self.lost("a message is missing")

    def request_snapshot(self, instrument: Instrument) -> None:
        self.request(Resubscribe((b"unsubscribe", b"subscribe"), instrument.raw_symbol))


class Market(Exchange):
    id = "market"
    endpoints = Endpoints("wss://x", "https://x")
    channels = ("book",)
    decoder = Decoder
    message_interval = 0.001
    heartbeat = Heartbeat(0.01, lambda ts: b"ping %d" % ts)
    instruments_urls = ("/list?page=1", Fetch("/more", "", b'{"type":"all"}'))

    def list_instruments(self, payload: bytes) -> list[str]:
        return list(msgspec.json.decode(payload, type=list[str]))

    def next_page(self, url: str, payload: bytes) -> str | None:
        return "/list?page=2" if url == "/list?page=1" else None

    def add_instrument(self, entry: str, instruments: Instruments) -> None:
        instruments.add(self.id, entry, symbol=entry.lower(), kind="spot")

    def topics(self, instrument: Instrument, channel: str) -> list[Topic]:
        return [Topic("/ws", instrument.raw_symbol)]

    def subscribe_messages(self, path: str, args: Any) -> list[bytes]:
        return [b"subscribe"]


class Server:
    """Lists instruments on two pages and by POST; `script` says what happens on a WebSocket."""

    def __init__(self, script: Any) -> None:
        self.script = script
        self.received: list[str] = []
        self.paths: list[str] = []
        self.sockets: list[web.WebSocketResponse] = []

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Endpoints]:
        app = web.Application()
        app.router.add_get("/list", self.list)
        app.router.add_post("/more", self.more)
        app.router.add_post("/ticket", self.ticket)
        app.router.add_get("/{path:.*}", self.socket)
        async with TestServer(app) as server:
            yield Endpoints(f"ws://127.0.0.1:{server.port}", f"http://127.0.0.1:{server.port}")

    async def list(self, request: web.Request) -> web.Response:
        return web.json_response(["A"] if request.query["page"] == "1" else ["B"])

    async def more(self, request: web.Request) -> web.Response:
        assert await request.json() == {"type": "all"}
        return web.json_response(["C"])

    async def ticket(self, request: web.Request) -> web.Response:
        return web.json_response({"token": "secret"})

    async def socket(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs + request.headers.get("X-Own", ""))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        await self.script(self, socket, None)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                self.received.append(message.data)
                await self.script(self, socket, message.data)
        return socket


@asynccontextmanager
async def feeding(
    server: Server,
    watcher: Watcher,
    market: Exchange,
    symbols: Sequence[str] = ("a", "b"),
    writer: RecordingWriter | None = None,
    **config: Any,
) -> AsyncIterator[LiveFeed]:
    async with server.run() as endpoints:
        subscriptions = [Subscription(symbol, ("book",)) for symbol in symbols]
        options = FeedConfig(snapshot_interval=0.001, **config)
        async with LiveFeed(market, subscriptions, watcher, config=options, endpoints=endpoints, writer=writer) as feed:
            running = asyncio.ensure_future(feed.run())
            try:
                yield feed
            finally:
                feed.stop()
                await running


async def answers(server: Server, socket: web.WebSocketResponse, message: str | None) -> None:
    if message == "subscribe":
        await socket.send_str(START)
    elif message is not None and message.startswith("ping"):
        await socket.send_str('{"pong":true}')


async def test_pings_are_sent_and_lists_are_read_to_their_end(watcher: Watcher) -> None:
    server = Server(answers)
    async with feeding(server, watcher, Market()) as feed:
        await watcher.until(lambda: watcher.states("A") == ["SYNCING", "LIVE"])
        decoder = feed.lines[0].pipeline.decoder
        assert isinstance(decoder, Decoder)
        await watcher.until(lambda: decoder.silent.get("pong", 0) >= 3)
    pings = [message for message in server.received if message.startswith("ping")]
    assert len(pings) >= 3
    assert len(set(pings)) == len(pings)  # each of its own time
    assert server.paths == ["/ws"]


async def test_what_a_message_behind_the_upgrade_asks_for_is_sent(watcher: Watcher) -> None:
    """The first message comes in the read that completes the handshake: before ws_connect() returns."""
    answer = asyncio.get_running_loop().create_future()

    class Greeted(Decoder):
        def decode_message(self, payload: bytes) -> None:
            self.request(Send(b"pong"))
            super().decode_message(payload)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        accept = b64encode(sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        reply = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        reply += f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
        writer.write(reply.encode() + b'\x81\x0e{"hello":true}')
        _, size = await reader.readexactly(2)
        mask, payload = await reader.readexactly(4), await reader.readexactly(size & 127)
        answer.set_result(bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))
        writer.close()

    market = Market()
    market.decoder = Greeted
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with Server(answers).run() as rest, server:
        endpoints = Endpoints(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", rest.rest)
        async with LiveFeed(market, [Subscription("a", ("book",))], watcher, endpoints=endpoints) as feed:
            running = asyncio.ensure_future(feed.run())
            assert await asyncio.wait_for(answer, 10) == b"pong"
            feed.stop()
            await running


async def test_a_gap_is_repaired_by_subscribing_anew(watcher: Watcher) -> None:
    server = Server(answers)
    async with feeding(server, watcher, Market()):
        await watcher.until(lambda: watcher.states("A") == ["SYNCING", "LIVE"])
        await server.sockets[0].send_str(LOST)
        await watcher.until(lambda: watcher.states("A")[-2:] == ["GAP", "LIVE"])
    assert [message for message in server.received if not message.startswith("ping")][:3] == [
        "subscribe",
        "unsubscribe",
        "subscribe",
    ]


async def test_a_subscription_that_brings_no_snapshot_is_repeated(watcher: Watcher) -> None:
    async def deaf_once(server: Server, socket: web.WebSocketResponse, message: str | None) -> None:
        if message == "subscribe" and server.received.count("subscribe") != 2:
            await socket.send_str(START)
        elif message is not None and message.startswith("ping"):
            await socket.send_str('{"s":"A","bids":[]}')  # deltas go on

    server = Server(deaf_once)
    async with feeding(server, watcher, Market(), snapshot_timeout=0.05):
        await watcher.until(lambda: watcher.states("A") == ["SYNCING", "LIVE"])
        await server.sockets[0].send_str(LOST)
        await watcher.until(lambda: watcher.states("A")[-2:] == ["GAP", "LIVE"])
    assert server.received.count("subscribe") >= 3
    assert any(status.status == "fetch_failed" for status in watcher.feed_statuses)


class Ticketed(Market):
    heartbeat = None

    def connection(self, path: str, args: Any) -> ConnectionPlan:
        return ConnectionPlan(
            path,
            [b"subscribe"],
            list(args),
            headers={"X-Own": "header"},
            ticket=Fetch("/ticket", "", b"{}"),
            awaits_greeting=True,
            subscribe_after=0.01,
        )

    def ticket_url(self, plan: ConnectionPlan, reply: bytes) -> str:
        return f"{self.address}/there?token={json.loads(reply)['token']}"


async def test_a_ticket_is_fetched_for_every_connection_and_the_greeting_awaited(watcher: Watcher) -> None:
    async def greets(server: Server, socket: web.WebSocketResponse, message: str | None) -> None:
        if message is None:
            assert server.received.count("subscribe") == len(server.sockets) - 1
            await socket.send_str('{"hello":true}')
        else:
            await answers(server, socket, message)

    server = Server(greets)
    market = Ticketed()
    async with feeding(server, watcher, market) as feed:
        market.address = feed.endpoints.ws
        await watcher.until(lambda: watcher.states("A") == ["SYNCING", "LIVE"])
        await server.sockets[0].close()
        await watcher.until(lambda: watcher.states("A")[-1] == "LIVE" and len(server.sockets) == 2)
    assert server.paths == ["/there?token=secretheader"] * 2


async def test_what_it_took_to_connect_is_recorded_whole(watcher: Watcher, tmp_path: Path) -> None:
    async def greets(server: Server, socket: web.WebSocketResponse, message: str | None) -> None:
        if message is None:
            await socket.send_str('{"hello":true}')
        else:
            await answers(server, socket, message)

    market, path = Ticketed(), tmp_path / "session.feeds"
    with RecordingWriter(path) as writer:
        async with feeding(Server(greets), watcher, market, writer=writer) as feed:
            market.address = feed.endpoints.ws
            await watcher.until(lambda: watcher.states("A") == ["SYNCING", "LIVE"])
    with RecordingReader(path) as reader:
        found = [(one.kind, one.tag, one.payload) for one in reader if one.tag.startswith(":")]
    assert found == [
        (Kind.REQUEST, ":instruments", b"/list?page=1"),
        (Kind.REPLY, ":instruments", b'["A"]'),
        (Kind.REQUEST, ":instruments", b"/list?page=2"),
        (Kind.REPLY, ":instruments", b'["B"]'),
        (Kind.REQUEST, ":instruments", b'/more\n{"type":"all"}'),
        (Kind.REPLY, ":instruments", b'["C"]'),
        (Kind.REQUEST, ":ticket", b"/ticket\n{}"),
        (Kind.REPLY, ":ticket", b'{"token": "secret"}'),
    ]


class HtxServer(Server):
    """Speaks the protocol of HTX spot: gzip in binary frames, pings that want an answer, books that are asked for."""

    async def socket(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/v1/common/symbols":
            return await super().socket(request)
        symbol = {"symbol": "btcusdt", "base-currency": "btc", "quote-currency": "usdt"}
        return web.json_response({"data": [symbol | {"price-precision": 2, "amount-precision": 6}]})


async def test_a_book_of_htx_is_asked_for_until_it_is_there(watcher: Watcher) -> None:
    topic = "market.btcusdt.mbp.400"

    async def speaks(server: Server, socket: web.WebSocketResponse, message: str | None) -> None:
        request = json.loads(message or "{}")
        answers: list[dict[str, Any]] = []
        if "sub" in request:
            tick = {"seqNum": 11, "prevSeqNum": 10, "bids": [[4.5, 1]], "asks": []}
            answers = [{"subbed": topic, "status": "ok"}, {"ping": 7}, {"ch": topic, "ts": 1618678073643, "tick": tick}]
        elif "req" in request:
            is_there = sum('"req"' in one for one in server.received) > 1
            data = {"seqNum": 10, "bids": [[4.0, 1]], "asks": [[5.0, 2]]} if is_there else None
            answers = [{"rep": topic, "id": request["id"], "status": "ok", "ts": 1618678073643, "data": data}]
        for answer in answers:
            await socket.send_bytes(gzip.compress(json.dumps(answer).encode()))

    server = HtxServer(speaks)
    async with feeding(server, watcher, exchange("htx"), ["BTC-USDT"]) as feed:
        await watcher.until(lambda: watcher.states("btcusdt") == ["SYNCING", "LIVE"])
        assert [level.price for level in feed.lines[0].pipeline.books.books[0].bids()] == [4.5, 4.0]
        assert feed.lines[0].pipeline.problems == {}
    assert server.paths == ["/feed"]
    request = f'{{"req":"{topic}","id":"snapshot btcusdt"}}'
    assert sorted(server.received) == sorted([f'{{"sub":"{topic}","id":"1"}}', '{"pong":7}', request, request])


class Unnumbered(Market):
    """Its messages have nothing that shows a loss."""

    resnapshot_interval = 0.05


async def test_books_without_numbers_are_made_anew_in_turn_and_stay_live(watcher: Watcher) -> None:
    class Named(Decoder):
        def request_snapshot(self, instrument: Instrument) -> None:
            self.request(Resubscribe((f"again {instrument.raw_symbol}".encode(),), instrument.raw_symbol))

    async def drifts(server: Server, socket: web.WebSocketResponse, message: str | None) -> None:
        name = message.removeprefix("again ") if message is not None and message.startswith("again ") else None
        if message == "subscribe":
            for name in "AB":
                await socket.send_str(START.replace('"A"', f'"{name}"'))
        elif name is not None:
            await socket.send_str(f'{{"s":"{name}","full":true,"bids":[["2","1"],["1.5","1"]]}}')

    market, server = Unnumbered(), Server(drifts)
    market.decoder = Named
    async with feeding(server, watcher, market) as feed:
        await watcher.until(lambda: sum(one.startswith("again") for one in server.received) >= 6)
        pipeline = feed.lines[0].pipeline
        await watcher.until(lambda: all(book.bid_count == 2 for book in pipeline.books.books))
    asked = [one for one in server.received if one.startswith("again")]
    assert asked[:6] == ["again A", "again B"] * 3
    assert watcher.states("A") == watcher.states("B") == ["SYNCING", "LIVE"]
    assert set(watcher.statuses()) == {"connected", "resnapshot"}


@pytest.mark.parametrize(
    ("market", "interval", "expected"), [(Unnumbered, None, 0.05), (Unnumbered, 0.0, 0.0), (Market, 0.05, 0.0)]
)
async def test_only_books_without_numbers_are_made_anew(
    market: type[Market], interval: float | None, expected: float, watcher: Watcher
) -> None:
    server = Server(answers)
    async with feeding(server, watcher, market(), resnapshot_interval=interval) as feed:
        await watcher.until(lambda: feed.lines)
        assert feed.lines[0].resnapshot_interval == expected


async def test_a_book_that_is_not_sent_again_costs_the_connection(watcher: Watcher) -> None:
    """It may be that it is subscribed no more: a book that nothing changes must not stay LIVE."""
    server = Server(lambda server, socket, message: answers(server, socket, message if first(server) else None))

    def first(server: Server) -> bool:
        return server.received.count("subscribe") == 1 or len(server.sockets) == 2

    async with feeding(server, watcher, Unnumbered(), symbols=["a"], snapshot_timeout=0.05):
        await watcher.until(lambda: watcher.states("A") == ["SYNCING", "LIVE", "STALE", "LIVE"])
    reasons = [status.reason for status in watcher.feed_statuses if status.status == "disconnected"]
    assert reasons[0] == "A: no snapshot came within 0.05 s of subscribing anew"


async def test_a_session_in_which_books_were_made_anew_is_replayed(watcher: Watcher, tmp_path: Path) -> None:
    """Of Bitstamp, whose snapshots come by REST and are brought up to the changes that came meanwhile."""

    class Bitstamp(type(exchange("bitstamp"))):  # type: ignore[misc]
        resnapshot_interval = 0.02

    class Listed(Server):
        number = 0

        async def socket(self, request: web.Request) -> web.StreamResponse:
            if request.path == "/api/v2/markets/":
                market = {"name": "BTC/USD", "market_symbol": "btcusd", "base_decimals": 8, "counter_decimals": 2}
                return web.json_response([market])
            if request.path == "/api/v2/order_book/btcusd/":
                return web.Response(body=bitstamp.snapshot(self.number, bids=[["5.00", str(self.number)]]))
            return await super().socket(request)

    async def changes(server: Server, socket: web.WebSocketResponse, message: str | None) -> None:
        if message is not None and "subscribe" in message:
            sending.append(asyncio.ensure_future(send(server, socket)))

    async def send(server: Any, socket: web.WebSocketResponse) -> None:
        while not socket.closed:
            server.number += 1
            await socket.send_str(bitstamp.diff(server.number, [["4.50", str(server.number)]]).decode())
            await asyncio.sleep(0.001)

    sending: list[asyncio.Future[None]] = []
    path = tmp_path / "session.feeds"
    server = Listed(changes)
    log = EventLog()
    writer = RecordingWriter(path)
    async with server.run() as endpoints:
        fanout = Fanout([log, watcher])
        subscriptions = [Subscription("BTC-USD", ("book",))]
        async with LiveFeed(Bitstamp(), subscriptions, fanout, endpoints=endpoints, writer=writer) as feed:
            running = asyncio.ensure_future(feed.run())
            await watcher.until(lambda: watcher.statuses().count("resnapshot") >= 4)
            feed.stop()
            await running
    for task in sending:
        task.cancel()
    writer.close()
    assert watcher.states("btcusd") == ["SYNCING", "LIVE"]
    again = EventLog()
    session.replay(again, path, policy="none")
    assert [repr(event) for event in again.events] == [repr(event) for event in log.events]
    assert again.tops == log.tops
    assert len({update.ts_event for update in log.updates}) > 10


class Full(Server):
    """Wants no connection for an hour."""

    async def socket(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "3600"})


async def test_a_connection_that_is_refused_for_an_hour_keeps_all_others_away(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    again = asyncio.Event()
    reserve = ConnectionPacer.reserve

    def noted(pacer: ConnectionPacer, now: float) -> float:
        waits.append(reserve(pacer, now))
        if len(waits) > 1:
            again.set()
        return waits[-1]

    monkeypatch.setattr(ConnectionPacer, "reserve", noted)
    async with feeding(Full(answers), watcher, Market(), backoff=BackoffConfig(initial=0.001)):
        await asyncio.wait_for(again.wait(), 10)
    assert watcher.statuses() == ["connect_failed"]
    assert "429" in watcher.feed_statuses[0].reason
    assert waits[0] == 0
    assert waits[1] > 3000
