"""Large messages live: a thread reads their levels, what follows keeps its order, and a replay repeats it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from feeds.book import BookState
from feeds.events import EventHandler, FeedStatus
from feeds.exchange import exchange
from feeds.exchanges.coinbase import CoinbaseDecoder
from feeds.instrument import Instruments
from feeds.large import LargeMessage
from feeds.live.receiver import Receiver
from feeds.pipeline import Pipeline
from feeds.recording import Kind, RecordingReader, RecordingWriter
from feeds.replay import Replay
from feeds.testing import EventLog
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, serialize_frame, ws_connect, ws_create_server

LARGE = 128 * 1024


def level(number: int) -> list[str]:
    return [f"{1000 + number}.25", "2"]


def snapshot(product: str = "BTC-USD") -> bytes:
    message = {
        "type": "snapshot",
        "product_id": product,
        "asks": [level(number) for number in range(5_000, 9_000)],
        "bids": [level(number) for number in range(4_999, 0, -1)],
    }
    return json.dumps(message, separators=(",", ":")).encode()


def update(price: str, qty: str) -> bytes:
    return (
        b'{"type":"l2update","product_id":"BTC-USD","changes":[["buy","%b","%b"]],"time":"2026-09-21T10:13:20.000000Z"}'
        % (price.encode(), qty.encode())
    )


class Decoder(CoinbaseDecoder):
    """Lets a test hold the thread."""

    may_go_on = threading.Event()
    began: asyncio.Event
    loop: asyncio.AbstractEventLoop

    def take_apart(self, payload: bytes) -> LargeMessage | None:
        if threading.current_thread() is not threading.main_thread():
            self.loop.call_soon_threadsafe(self.began.set)
            assert self.may_go_on.wait(20)
        return super().take_apart(payload)


class Shell:
    def __init__(self) -> None:
        self.failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def on_requests(self) -> None: ...

    def on_failed(self, error: Exception) -> None:
        self.failed.set_result(error)


class Line:
    """A receiver connected to a server of the test's."""

    def __init__(self, path: Path, handler: EventHandler) -> None:
        self.path = path
        self.log = handler
        self.shell = Shell()
        self.transports: list[WSTransport] = []
        Decoder.may_go_on = threading.Event()
        Decoder.began = asyncio.Event()
        Decoder.loop = asyncio.get_running_loop()
        self.writer = RecordingWriter(path)
        source = self.writer.add_source("coinbase", "ws://test")
        described = exchange("coinbase")
        self.pipeline = Pipeline(described, Instruments(infer=True), handler, source=source)
        self.receiver = Receiver(
            self.pipeline, self.shell, writer=self.writer, max_message_size=10**7, large_message=LARGE
        )

    async def connect(self, port: int) -> None:
        url = f"ws://127.0.0.1:{port}/"
        transport, _ = await ws_connect(lambda: self.receiver, url, max_frame_size=10**7)
        self.transports.append(transport)

    async def until(self, condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not condition():  # noqa: ASYNC110 - a handler of the loop's own changes it
                await asyncio.sleep(0)

        await asyncio.wait_for(wait(), 20)

    def kinds(self) -> list[Kind]:
        """What was recorded, without ticks. Ends the recording."""
        self.receiver.detach()
        self.writer.close()
        with RecordingReader(self.path) as recording:
            found = [message.kind for message in recording]
        told = (Kind.CONNECTED, Kind.TEXT, Kind.REPLY, Kind.STATUS, Kind.DISCONNECTED)
        return [kind for kind in found if kind in told]

    def replayed(self) -> list[str]:
        log = EventLog()
        with RecordingReader(self.path) as recording:
            Replay(recording, log).run()
        return [repr(event) for event in log.events]

    def seen(self) -> list[str]:
        assert isinstance(self.log, EventLog)
        return [repr(event) for event in self.log.events]


class Server(WSListener):
    """Sends bytes as they are when it is told."""

    transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None: ...

    def send(self, *payloads: bytes) -> None:
        frames = [serialize_frame(WSMsgType.TEXT, payload) for payload in payloads]
        self.transport.underlying_transport.write(b"".join(frames))


@pytest.fixture
async def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Return (line, server listener), connected."""
    monkeypatch.setattr(type(exchange("coinbase")), "decoder", Decoder)
    made = Line(tmp_path / "large.feeds", getattr(request, "param", EventLog)())
    listener = Server()
    server = await ws_create_server(lambda _: listener, "127.0.0.1", 0)
    await made.connect(server.sockets[0].getsockname()[1])
    await made.until(lambda: hasattr(listener, "transport"))
    yield made, listener
    Decoder.may_go_on.set()
    for transport in (*made.transports, listener.transport):
        transport.disconnect(False)
        with contextlib.suppress(WSError, OSError):
            await transport.wait_disconnected()
    made.writer.close()
    server.close()


async def test_what_comes_behind_a_large_message_waits_for_it(line: tuple[Line, Server]) -> None:
    made, server = line
    server.send(snapshot(), update("6000.00", "7"), update("6000.00", "8"))
    await asyncio.wait_for(Decoder.began.wait(), 20)
    assert [type(event).__name__ for event in made.log.events] == ["FeedStatus"]  # connected; and the loop goes on
    made.receiver.tick()
    made.receiver.status("problem", "of the shell")
    made.receiver.reply("BTC-USD", b"[]")
    Decoder.may_go_on.set()
    await made.until(lambda: made.pipeline.messages == 3 and bool(made.pipeline.problems))
    (book,) = made.pipeline.books.books
    assert (book.state, book.best_bid, book.bid_count, book.ask_count) == (BookState.LIVE, (6000.0, 8.0), 5000, 4000)
    assert made.pipeline.problems["unknown_reply"].count == 1
    kinds = made.kinds()  # the updates may have come with the next read, behind what the shell did
    assert kinds[:2] == [Kind.CONNECTED, Kind.TEXT]
    assert sorted(kinds[2:]) == [Kind.TEXT, Kind.TEXT, Kind.REPLY, Kind.STATUS]
    times = [event.ts_recv for event in made.log.events]
    assert times == sorted(times)
    assert made.seen() == made.replayed()


async def test_reading_pauses_and_goes_on(line: tuple[Line, Server]) -> None:
    made, server = line
    for round_ in range(3):
        Decoder.began.clear()
        Decoder.may_go_on.clear()
        server.send(snapshot(), *[update("5000.00", str(number)) for number in range(1, 30_000)])
        await asyncio.wait_for(Decoder.began.wait(), 20)
        for _ in range(50):  # turns in which more would be read
            await asyncio.sleep(0)
        frames = made.receiver.frames
        assert frames < 30_000 * (round_ + 1)
        Decoder.may_go_on.set()
        await made.until(lambda expected=30_000 * (round_ + 1): made.receiver.frames == expected)
        await made.until(lambda expected=30_000 * (round_ + 1): made.pipeline.messages == expected)
    assert made.pipeline.problems == {}


async def test_large_messages_behind_one_another(line: tuple[Line, Server]) -> None:
    made, server = line
    Decoder.may_go_on.set()
    server.send(snapshot(), update("6000.00", "7"), snapshot("ETH-USD"), snapshot(), update("6000.01", "1"))
    await made.until(lambda: made.pipeline.messages == 5)
    books = {book.instrument.raw_symbol: book.best_bid for book in made.pipeline.books.books}
    assert books == {"BTC-USD": (6000.01, 1.0), "ETH-USD": (5999.25, 2.0)}
    made.kinds()
    assert made.seen() == made.replayed()


async def test_the_connection_ends_meanwhile_and_another_follows(line: tuple[Line, Server]) -> None:
    made, server = line
    port = server.transport.underlying_transport.get_extra_info("sockname")[1]
    server.send(snapshot(), update("6000.00", "7"))
    await asyncio.wait_for(Decoder.began.wait(), 20)
    server.transport.underlying_transport.abort()
    made.receiver.disconnect("test")
    await made.until(lambda: not made.receiver.is_connected)
    await made.connect(port)
    Decoder.may_go_on.set()
    await made.until(lambda: [e.status for e in made.log.events if isinstance(e, FeedStatus)].count("connected") == 2)
    kinds = made.kinds()
    assert kinds[:2] == [Kind.CONNECTED, Kind.TEXT]
    assert kinds[-2:] == [Kind.DISCONNECTED, Kind.CONNECTED]
    (book,) = made.pipeline.books.books
    assert book.state == BookState.STALE
    assert made.seen() == made.replayed()


async def test_nothing_is_taken_after_the_end(line: tuple[Line, Server]) -> None:
    made, server = line
    server.send(snapshot(), update("6000.00", "7"))
    await asyncio.wait_for(Decoder.began.wait(), 20)
    made.receiver.detach()
    Decoder.may_go_on.set()
    done = asyncio.get_running_loop().create_future()
    made.receiver.reply("x", b"")  # what still happens is nobody's business
    asyncio.get_running_loop().call_later(0.05, partial(done.set_result, None))
    await done
    assert made.pipeline.messages == 0


class Raises(EventHandler):
    def on_book(self, event: object) -> None:
        raise RuntimeError("of the strategy")


@pytest.mark.parametrize("line", [Raises], indirect=True)
async def test_what_a_handler_raises_ends_the_line(line: tuple[Line, Server]) -> None:
    made, server = line
    Decoder.may_go_on.set()
    server.send(snapshot())
    error = await asyncio.wait_for(made.shell.failed, 20)
    assert str(error) == "of the strategy"


async def test_a_large_reply_is_read_apart(line: tuple[Line, Server]) -> None:
    made, _ = line
    made.receiver.reply("BTC-USD", snapshot())
    await asyncio.wait_for(Decoder.began.wait(), 20)
    assert made.pipeline.problems == {}
    Decoder.may_go_on.set()
    await made.until(lambda: bool(made.pipeline.problems))  # Coinbase asks for none
    assert list(made.pipeline.problems) == ["unknown_reply"]
    assert made.kinds() == [Kind.CONNECTED, Kind.REPLY]
