import asyncio
import base64
import gzip
import json
import math
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from feeds.simulator import (
    AnyFault,
    ClockSkew,
    Disconnect,
    FlowConfig,
    Gap,
    Mute,
    Playback,
    Refuse,
    RestLimit,
    SimulatedExchange,
    StaleSnapshot,
)
from picows import serialize_frame

SMALL = FlowConfig(seed=3, rate=1000, levels=50, warm_up=100)
DEPTH, QUOTES, TRADES = "btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@trade"
ALL = f"/stream?streams={DEPTH}/{QUOTES}/{TRADES}"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def simulate(exchange: str = "binance", *, real_time: bool = False, **options: Any) -> SimulatedExchange:
    return SimulatedExchange(exchange, ["BTCUSDT", "ETHUSDT"], flow=SMALL, real_time=real_time, **options)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def texts_until_quiet(ws: aiohttp.ClientWebSocketResponse) -> list[str]:
    """All texts that were sent before now: an answer to a request of ours comes behind them."""
    await ws.send_str('{"method":"GET_PROPERTY","params":["combined"],"id":"fence"}')
    texts = []
    while '"id":"fence"' not in (text := await ws.receive_str()):
        texts.append(text)
    return texts


class RawClient:
    """A WebSocket client that does nothing by itself: no answers to PINGs, no reading unless told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unread = b""

    @classmethod
    async def connect(cls, sim: SimulatedExchange, target: str, *, receive_buffer: int | None = None) -> "RawClient":
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        client = cls(sock)
        try:
            await client._shake_hands(sim, target)
        except BaseException:
            client.close()
            raise
        return client

    async def _shake_hands(self, sim: SimulatedExchange, target: str) -> None:
        host, port = sim.ws_url.removeprefix("ws://").split(":")
        await asyncio.get_running_loop().sock_connect(self.sock, (host, int(port)))
        key = base64.b64encode(os.urandom(16)).decode()
        await self.send(
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.unread:
            await self.read()
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20)
        if not data:
            raise EOFError
        self.unread += data

    def take_frames(self) -> list[tuple[int, bytes]]:
        """Complete frames among the bytes read so far."""
        frames = []
        while len(self.unread) >= 2:
            size, start = self.unread[1] & 0x7F, 2
            if size == 126:
                size, start = int.from_bytes(self.unread[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(self.unread[2:10], "big"), 10
            if len(self.unread) < start + size:
                break
            frames.append((self.unread[0] & 0x0F, self.unread[start : start + size]))
            self.unread = self.unread[start + size :]
        return frames

    async def frame(self, msg_type: int) -> bytes:
        """The payload of the next frame of a type; others are dropped."""
        while True:
            for found, payload in self.take_frames():
                if found == msg_type:
                    return payload
            await self.read()

    def segments_in(self) -> int:
        """Segments with data that arrived; 0 where the system does not tell."""
        if sys.platform != "linux":
            return 0
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
        return int(struct.unpack_from("I", info, 152)[0])

    def close(self) -> None:
        self.sock.close()


async def test_rest_and_websocket_share_one_port(http: aiohttp.ClientSession) -> None:
    async with simulate() as sim:
        async with http.get(f"{sim.rest_url}/api/v3/depth?symbol=BTCUSDT&limit=5") as reply:
            book = await reply.json()
            assert (reply.status, len(book["bids"])) == (200, 5)
            assert reply.headers["x-mbx-used-weight-1m"] == "5"
        async with http.get(f"{sim.rest_url}/api/v3/depth?symbol=NOPE") as reply:
            assert (reply.status, await reply.text()) == (400, '{"code":-1121,"msg":"Invalid symbol."}')
        async with http.ws_connect(f"{sim.ws_url}/ws/{TRADES}") as ws:
            await ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 1})
            assert await ws.receive_json() == {"result": [TRADES], "id": 1}
            assert sim.clients == 1


async def test_time_runs_by_itself(http: aiohttp.ClientSession) -> None:
    async with simulate(real_time=True) as sim, http.ws_connect(sim.ws_url + ALL) as ws:
        kinds: set[str] = set()
        last = 0
        while len(kinds) < 3:
            message = await ws.receive_json()
            kinds.add(message["stream"])
            now = message["data"].get("E", last)
            assert last <= now <= time.time_ns() // 1_000_000 + 1
            last = now
        with pytest.raises(RuntimeError, match="expected real_time=False"):
            await sim.advance(1)


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
async def test_a_clock_that_is_wrong_shifts_all_times_that_are_told(
    seconds: float, http: aiohttp.ClientSession
) -> None:
    async def times(*given: AnyFault) -> list[int]:
        async with simulate(faults=given) as sim, http.ws_connect(sim.ws_url + ALL) as ws:
            await sim.advance(0.3)
            messages = [json.loads(text)["data"] for text in await texts_until_quiet(ws)]
            told = [message["E"] for message in messages if "E" in message]
            async with http.get(f"{sim.rest_url}/api/v3/time") as reply:
                return [*told, (await reply.json())["serverTime"]]

    true = await times()
    assert len(true) > 5
    assert await times(ClockSkew(seconds=seconds)) == [ms + 1000 * seconds for ms in true]


async def test_small_messages_are_not_held_back(http: aiohttp.ClientSession) -> None:
    async with simulate() as sim, http.ws_connect(sim.ws_url + ALL):
        (client,) = sim._connected
        connection = client._transport.underlying_transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_each_rest_request_is_told(http: aiohttp.ClientSession) -> None:
    async with simulate() as sim:
        told: list[str] = []
        sim.on_request = told.append
        async with http.get(f"{sim.rest_url}/api/v3/ping"), http.ws_connect(sim.ws_url + ALL):
            assert told == ["/api/v3/ping"]


async def test_an_exchange_that_packs_its_messages_sends_them_as_binary(http: aiohttp.ClientSession) -> None:
    async with (
        SimulatedExchange("htx", ["btcusdt"], flow=SMALL, real_time=False) as sim,
        http.ws_connect(sim.ws_url + "/ws") as ws,
    ):
        await ws.send_str('{"sub":"market.btcusdt.bbo","id":"1"}')
        received = [json.loads(gzip.decompress(await ws.receive_bytes())) for _ in range(2)]
        await sim.advance(0.5)
        received.append(json.loads(gzip.decompress(await ws.receive_bytes())))
    assert [message.get("subbed", message.get("ch")) for message in received] == ["market.btcusdt.bbo"] * 3


@pytest.mark.parametrize("exchange", ["binance", "binance-futures"])
async def test_the_same_seed_and_calls_send_the_same_bytes(exchange: str, http: aiohttp.ClientSession) -> None:
    async def run() -> list[str]:
        async with simulate(exchange) as sim, http.ws_connect(sim.ws_url + ALL) as ws:
            await sim.advance(0.5)
            sim.burst("BTCUSDT", 20)
            await sim.advance(0.7)
            return await texts_until_quiet(ws)

    first = await run()
    assert len(first) > 200
    assert await run() == first


async def test_a_client_over_the_wire_arrives_at_the_true_book(http: aiohttp.ClientSession) -> None:
    async with simulate(rate=5_000) as sim, http.ws_connect(sim.ws_url + f"/stream?streams={DEPTH}") as ws:
        await sim.advance(0.25)
        async with http.get(f"{sim.rest_url}/api/v3/depth?symbol=BTCUSDT&limit=5000") as reply:
            snapshot = await reply.json()
        await sim.advance(3.0)
        sides = [dict(snapshot["bids"]), dict(snapshot["asks"])]
        last_id = snapshot["lastUpdateId"]
        for text in await texts_until_quiet(ws):
            diff = json.loads(text)["data"]
            if diff["u"] <= last_id:
                continue
            assert diff["U"] <= last_id + 1
            for side, levels in zip(sides, (diff["b"], diff["a"]), strict=True):
                side |= dict(levels)
            last_id = diff["u"]
        true = sim.flow.book_at("BTCUSDT", last_id)
        for side, levels in zip(sides, (true.bids, true.asks), strict=True):
            rebuilt = {round(float(price) * 100): qty for price, qty in side.items() if float(qty)}
            assert rebuilt == {ticks: f"{lots / 1e5:.8f}" for ticks, lots in levels}


async def test_a_burst_arrives_in_one_segment() -> None:
    async with simulate() as sim:
        client = await RawClient.connect(sim, f"/stream?streams={QUOTES}/{TRADES}")
        before = client.segments_in()
        sent = sim.sent_messages
        sim.burst("BTCUSDT", 100)
        await client.read()
        frames = client.take_frames()
        assert client.unread == b""
        assert len(frames) == sim.sent_messages - sent > 40
        if before:
            assert client.segments_in() - before == 1
        client.close()


async def test_a_client_that_does_not_read_is_dropped_at_the_bound(http: aiohttp.ClientSession) -> None:
    async with simulate(max_output=256 * 1024) as sim:
        slow = await RawClient.connect(sim, ALL, receive_buffer=4096)
        async with http.ws_connect(sim.ws_url + "/ws") as ws:
            for _ in range(2_000):
                sim.burst("BTCUSDT", 200)
                await asyncio.sleep(0)
                if sim.slow_clients:
                    break
            assert (sim.slow_clients, sim.clients) == (1, 1)
            # What the kernels hold between us comes on top of our bound.
            assert sim.sent_messages * 150 < 20 * 1024 * 1024
            sim.emit("still here")
            assert await ws.receive_str() == "still here"
        with pytest.raises((ConnectionResetError, EOFError)):
            await slow.frame(CLOSE)
        slow.close()


async def test_a_client_that_sends_too_much_is_closed_with_1008(http: aiohttp.ClientSession) -> None:
    async with simulate() as sim, http.ws_connect(sim.ws_url + "/ws") as ws:
        for i in range(6):
            await ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": i})
        for i in range(5):
            assert (await ws.receive_json())["id"] == i
        message = await ws.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)


async def test_a_request_may_come_in_fragments_and_not_too_long() -> None:
    async with simulate() as sim:
        client = await RawClient.connect(sim, "/ws")
        await client.send(serialize_frame(TEXT, b'{"method":"LIST_SUBSCR', fin=False, mask=b"abcd"))
        await client.send(serialize_frame(0, b'IPTIONS","id":9}', mask=b"efgh"))
        assert json.loads(await client.frame(TEXT)) == {"result": [], "id": 9}
        half = b"x" * 40_000
        await client.send(serialize_frame(TEXT, half, fin=False, mask=b"abcd") + serialize_frame(0, half, mask=b"efgh"))
        assert (await client.frame(CLOSE))[:2] == (1009).to_bytes(2, "big")
        client.close()


async def test_pings_are_answered_and_clients_that_do_not_answer_are_closed() -> None:
    async with simulate("binance-futures", ping_interval=0.15, pong_timeout=0.3) as sim:
        client = await RawClient.connect(sim, "/ws")
        await client.send(serialize_frame(PING, b"ours", mask=b"abcd"))
        assert await client.frame(PONG) == b"ours"
        for _ in range(4):
            payload = await client.frame(PING)
            await client.send(serialize_frame(PONG, payload, mask=b"abcd"))
        # Pongs with another payload do not count.
        reason = b""
        while not reason:
            await client.read()
            for msg_type, payload in client.take_frames():
                if msg_type == PING:
                    await client.send(serialize_frame(PONG, b"unsolicited", mask=b"abcd"))
                else:
                    assert msg_type == CLOSE
                    reason = payload[2:]
        assert reason == b"Pong timeout"
        client.close()


@pytest.mark.parametrize("target", ["/nowhere", "/stream?streams=" + "/".join(f"s{i}@trade" for i in range(1025))])
async def test_what_the_exchange_would_refuse_is_refused(target: str, http: aiohttp.ClientSession) -> None:
    async with simulate() as sim:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(sim.ws_url + target)
        assert caught.value.status in (400, 404)


async def test_a_target_that_is_no_url_is_refused() -> None:
    async with simulate() as sim:
        with pytest.raises(AssertionError, match="400 Bad Request"):
            await RawClient.connect(sim, "//[")


async def test_answers_that_a_client_does_not_read_are_bounded_too() -> None:
    async with simulate("binance-futures", max_output=64 * 1024) as sim:
        names = [f"{i:0128d}" for i in range(480)]
        client = await RawClient.connect(sim, "/ws", receive_buffer=4096)
        await client.send(serialize_frame(TEXT, json.dumps({"method": "SUBSCRIBE", "params": names}), mask=b"abcd"))
        (server_side,) = sim._connected
        stream = server_side._transport.underlying_transport
        stream.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        # Within the limit on messages; 63 kB an answer.
        request = serialize_frame(TEXT, b'{"method":"LIST_SUBSCRIPTIONS","id":1}', mask=b"abcd")
        for _ in range(9):
            await client.send(request)
        await sim.wait_clients(0)
        assert sim.slow_clients == 1
        client.close()


async def test_clients_are_limited(http: aiohttp.ClientSession) -> None:
    async with simulate(max_clients=1) as sim, http.ws_connect(sim.ws_url + "/ws"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(sim.ws_url + "/ws")
        assert caught.value.status == 503


async def test_texts_of_ones_own_go_to_all_or_to_a_streams_subscribers(http: aiohttp.ClientSession) -> None:
    async with (
        simulate() as sim,
        http.ws_connect(f"{sim.ws_url}/ws/{TRADES}") as one,
        http.ws_connect(f"{sim.ws_url}/ws") as other,
    ):
        sim.emit('{"e":"serverShutdown","E":1}')
        sim.emit(b"only for one", stream=TRADES)
        assert await texts_until_quiet(one) == ['{"e":"serverShutdown","E":1}', "only for one"]
        assert await texts_until_quiet(other) == ['{"e":"serverShutdown","E":1}']


async def test_a_subscription_can_be_waited_for(http: aiohttp.ClientSession) -> None:
    async with simulate() as sim, http.ws_connect(f"{sim.ws_url}/ws") as ws:
        waiter = asyncio.create_task(sim.wait_subscribed(TRADES))
        await ws.send_json({"method": "SUBSCRIBE", "params": [QUOTES], "id": 1})
        await ws.receive_json()
        assert not waiter.done()
        await ws.send_json({"method": "SUBSCRIBE", "params": [TRADES], "id": 2})
        await waiter


async def test_leaving_closes_clients_with_1001(http: aiohttp.ClientSession) -> None:
    async with simulate() as sim:
        ws = await http.ws_connect(sim.ws_url + ALL)
        task = asyncio.create_task(ws.receive())
        await asyncio.sleep(0)
    assert (await task).data == 1001
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(sim.rest_url)


async def test_a_gap_reaches_the_client(http: aiohttp.ClientSession) -> None:
    sim = simulate(faults=[Gap("BTCUSDT", at=0.5)])
    async with sim, http.ws_connect(f"{sim.ws_url}/stream?streams={DEPTH}") as ws:
        await sim.advance(2.0)
        diffs = [json.loads(text)["data"] for text in await texts_until_quiet(ws)]
        skips = [diff["U"] - last["u"] - 1 for last, diff in pairwise(diffs)]
        assert len([skip for skip in skips if skip > 0]) == 1


@pytest.mark.parametrize("fault", [Disconnect(code=1001, at=0.5), Disconnect(code=1001, after=30)])
async def test_a_disconnect_with_a_code(fault: AnyFault, http: aiohttp.ClientSession) -> None:
    async with simulate(faults=[fault]) as sim, http.ws_connect(sim.ws_url + ALL) as ws:
        await sim.advance(2.0)
        count = 0
        while (message := await ws.receive()).type == aiohttp.WSMsgType.TEXT:
            count += 1
        assert message.data == 1001
        assert count == 30 if fault.after else count > 30
        assert sim.clients == 0


async def test_a_reset_comes_without_a_goodbye() -> None:
    async with simulate() as sim:
        client = await RawClient.connect(sim, "/ws")
        sim.inject(Disconnect())
        with pytest.raises(ConnectionResetError):
            await client.read()
        client.close()


async def test_a_mute_exchange_answers_and_sends_nothing(http: aiohttp.ClientSession) -> None:
    async with simulate() as sim, http.ws_connect(sim.ws_url + ALL) as ws:
        sim.inject(Mute(5.0))
        await sim.advance(4.9)
        assert await texts_until_quiet(ws) == []
        await sim.advance(1.0)
        assert await texts_until_quiet(ws) != []


async def is_open(sim: SimulatedExchange, http: aiohttp.ClientSession) -> bool:
    try:
        async with http.get(f"{sim.rest_url}/api/v3/ping") as reply:
            return reply.status == 200
    except aiohttp.ClientConnectorError:
        return False


async def test_refused_connections_leave_those_that_stand(http: aiohttp.ClientSession) -> None:
    async with simulate(faults=[Refuse(2.0, at=1.0)]) as sim, http.ws_connect(sim.ws_url + ALL) as ws:
        url = sim.rest_url
        assert await is_open(sim, http)
        await sim.advance(1.0)
        assert not await is_open(sim, http)
        await sim.advance(1.9)
        assert not await is_open(sim, http)
        assert await texts_until_quiet(ws) != []
        await sim.advance(0.1)
        assert await is_open(sim, http)
        assert sim.rest_url == url


async def test_a_refusal_begins_and_ends_by_itself(http: aiohttp.ClientSession) -> None:
    async with simulate(real_time=True) as sim:
        sim.inject(Refuse(0.2))
        while await is_open(sim, http):
            pass
        while not await is_open(sim, http):
            pass


async def test_rest_faults_at_run_time(http: aiohttp.ClientSession) -> None:
    async with simulate() as sim:
        url = f"{sim.rest_url}/api/v3/depth?symbol=BTCUSDT"
        sim.inject(RestLimit(418, retry_after=120))
        async with http.get(url) as reply:
            assert (reply.status, reply.headers["Retry-After"]) == (418, "120")
        sim.inject(StaleSnapshot("BTCUSDT"))
        async with http.get(url) as reply:
            stale = (await reply.json())["lastUpdateId"]
        async with http.get(url) as reply:
            assert stale < (await reply.json())["lastUpdateId"] - 50
        with pytest.raises(ValueError, match="found 'NOPE'"):
            sim.inject(Gap("NOPE"))


async def test_exchange_time_slips_when_the_rate_is_out_of_reach(http: aiohttp.ClientSession) -> None:
    async with simulate(real_time=True, rate=3e6) as sim:
        while time.time_ns() - sim.now_ns < 500_000_000:
            async with http.get(f"{sim.rest_url}/api/v3/ping") as reply:
                assert reply.status == 200


@dataclass
class Entry:
    ts_recv: int
    payload: bytes
    flags: int = 1
    tag: str = ""


def trade(millisecond: int, number: int) -> Entry:
    padding = b"x" * 500
    return Entry(
        1_723_161_253_000_000_000 + millisecond * 1_000_000,
        b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":%d,"x":"%b"}}' % (number, padding),
    )


async def test_a_recording_is_played_as_fast_as_the_client_reads() -> None:
    recording = [trade(i // 3, i) for i in range(30_000)]
    playback = Playback(recording, speed=math.inf)
    async with SimulatedExchange("binance", ["BTCUSDT"], playback=playback, max_output=1024 * 1024) as sim:
        client = await RawClient.connect(sim, f"/stream?streams={TRADES}", receive_buffer=64 * 1024)
        await client.read()
        # 15 MB do not fit between us: what we have not read has not been sent.
        assert sim.sent_messages < 20_000
        received = [payload for _, payload in client.take_frames()]
        while len(received) < len(recording):
            await client.read()
            received += [payload for _, payload in client.take_frames()]
        assert received == [entry.payload for entry in recording]
        assert sim.slow_clients == 0
        client.close()


async def test_a_recording_keeps_its_pace_in_time_moved_by_hand(http: aiohttp.ClientSession) -> None:
    playback = Playback([trade(0, 1), trade(100, 2), trade(100, 3), trade(250, 4)], speed=2.0)
    sim = SimulatedExchange("binance", ["BTCUSDT"], playback=playback, real_time=False)
    async with sim, http.ws_connect(f"{sim.ws_url}/ws/{TRADES}") as ws:

        async def numbers(seconds: float) -> list[int]:
            await sim.advance(seconds)
            return [json.loads(text)["t"] for text in await texts_until_quiet(ws)]

        assert await numbers(0.0) == [1]
        assert await numbers(0.049) == []
        assert await numbers(0.001) == [2, 3]
        assert await numbers(1.0) == [4]
        with pytest.raises(ValueError, match="found a recording"):
            sim.burst("BTCUSDT", 1)
        with pytest.raises(ValueError, match="found a recording"):
            _ = sim.flow


async def test_a_recording_begins_when_its_client_subscribes(http: aiohttp.ClientSession) -> None:
    sim = SimulatedExchange("binance", ["BTCUSDT"], playback=Playback([trade(0, 1)]))
    async with sim, http.ws_connect(f"{sim.ws_url}/ws") as ws:
        await ws.send_json({"method": "SUBSCRIBE", "params": [TRADES], "id": 1})
        assert (await ws.receive_json())["id"] == 1
        assert (await ws.receive_json())["t"] == 1


def test_an_exchange_that_is_not_simulated_is_refused() -> None:
    with pytest.raises(ValueError, match="found 'nasdaq'"):
        SimulatedExchange("nasdaq", ["X"])
