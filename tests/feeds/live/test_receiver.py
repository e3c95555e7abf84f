"""The receiver: whole messages whatever the frames, one time per read, everything recorded before it is decoded."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trustme

from feeds.conflation import conflated
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.latency import Latency, LatencyProbe
from feeds.live.receiver import Receiver
from feeds.pipeline import Pipeline
from feeds.recording import LAST_IN_BATCH, Kind, RawMessage, RecordingReader, RecordingWriter
from picows import WSFrame, WSListener, WSMsgType, WSTransport, serialize_frame, ws_connect, ws_create_server

from .conftest import Watcher

SO_TIMESTAMPNS = 35  # Linux; Python has no name for it
TEXT, BINARY, CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
Receive = Callable[..., Awaitable[list[RawMessage]]]


def trade(number: int) -> bytes:
    return (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"s":"BTCUSDT","t":%d,"p":"1.5","q":"2",'
        b'"T":1700000000000,"m":true,"M":true}}' % number
    )


@pytest.fixture
def receive(tmp_path: Path, watcher: Watcher) -> Receive:
    """Send segments to a receiver; what it recorded from CONNECTED to DISCONNECTED."""

    async def run(*segments: bytes, latency: Latency | None = None, skip_superseded: bool = False) -> list[RawMessage]:
        class Sender(WSListener):
            # Not at once: what comes with the answer to the handshake has no time of the kernel.
            def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
                if frame.msg_type != TEXT:
                    return
                for segment in segments:
                    transport.underlying_transport.write(segment)
                transport.send_close(1001, b"bye")
                transport.disconnect()

        path = tmp_path / "received.feeds"
        with RecordingWriter(path) as writer:
            source = writer.add_source("binance", "ws://test")
            instruments = Instruments(infer=True)
            handler = watcher if latency is None else LatencyProbe(watcher, latency)
            pipeline = Pipeline(
                exchange("binance"),
                instruments,
                conflated(handler),
                source=source,
                latency=latency,
                skip_superseded=skip_superseded,
            )
            receiver = Receiver(pipeline, None, writer=writer, max_message_size=1000)
            server = await ws_create_server(lambda request: Sender(), "127.0.0.1", 0)
            try:
                url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
                kernel_time = latency is not None and sys.platform == "linux"
                transport, _ = await ws_connect(lambda: receiver, url, kernel_time=kernel_time)
                transport.send(TEXT, b"begin")
                await transport.wait_disconnected()
            finally:
                server.close()
        with RecordingReader(path) as recording:
            return [message for message in recording if message.source == source][1:]

    return run


def ids(watcher: Watcher) -> list[str | None]:
    return [event.id for event in watcher.trades]


async def test_a_message_in_fragments_is_one_message(receive: Receive, watcher: Watcher) -> None:
    whole = trade(1)
    recorded = await receive(
        serialize_frame(TEXT, whole[:10], fin=False)
        + serialize_frame(CONTINUATION, b"", fin=False)
        + serialize_frame(CONTINUATION, whole[10:])
    )
    assert ids(watcher) == ["1"]
    assert [m.kind for m in recorded] == [Kind.CONNECTED, Kind.TEXT, Kind.TICK, Kind.DISCONNECTED]
    assert recorded[1].payload == whole


async def test_a_read_has_one_time_and_its_end_is_marked(receive: Receive, watcher: Watcher) -> None:
    recorded = await receive(b"".join(serialize_frame(TEXT, trade(number)) for number in range(3)))
    texts = [m for m in recorded if m.kind == Kind.TEXT]
    assert len({m.ts_recv for m in texts}) == 1
    # The CLOSE frame ends the read; where it arrives with the messages, an empty batch ends theirs.
    ends = [m for m in recorded if m.flags & LAST_IN_BATCH or m.kind == Kind.TICK]
    assert ends
    assert ids(watcher) == ["0", "1", "2"]
    assert all(event.ts_recv == texts[0].ts_recv for event in watcher.trades)


def quote(number: int) -> bytes:
    return b'{"stream":"btcusdt@bookTicker","data":{"u":%d,"s":"BTCUSDT","b":"%d.5","B":"1","a":"9999.5","A":"1"}}' % (
        number,
        number,
    )


def fragments(kind: WSMsgType, payload: bytes) -> bytes:
    return serialize_frame(kind, payload[:50], fin=False) + serialize_frame(CONTINUATION, payload[50:])


@pytest.mark.parametrize("last", [serialize_frame, fragments])
async def test_of_messages_in_one_read_the_newest_counts_however_they_are_framed(
    receive: Receive, watcher: Watcher, last: Callable[[WSMsgType, bytes], bytes]
) -> None:
    framings = [[serialize_frame, fragments][number // 3 % 2] for number in range(29)]
    frames = [framing(TEXT, quote(number)) for number, framing in enumerate([*framings, last])]
    # What cannot be read is held too: the one before it counts.
    frames.append(last(TEXT, quote(77).replace(b"77.5", b"77x5")))
    await receive(b"".join(frames), skip_superseded=True)
    assert sum(event.merged for event in watcher.quotes) == 30
    assert (watcher.quotes[-1].bid_price, watcher.quotes[-1].sequence) == (29.5, 29)


# --- drained, under TLS ---------------------------------------------------------------------------

READ_SIZE = 1024  # the least that is offered to a read of the client's


@pytest.fixture
def receive_tls(tmp_path: Path, watcher: Watcher) -> Receive:
    """Send segments over TLS, all of which have arrived before the receiver reads; what it recorded of messages."""

    async def run(*segments: bytes, drain_reads: int, drain_timeout: float = 60.0, ends: int) -> list[RawMessage]:
        class Sender(WSListener):
            def on_ws_connected(self, transport: WSTransport) -> None:
                self.transport = transport

        authority = trustme.CA()
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(serving)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        sender = Sender()
        path = tmp_path / f"received-{drain_reads}.feeds"
        with RecordingWriter(path) as writer:
            source = writer.add_source("binance", "ws://test")
            pipeline = Pipeline(exchange("binance"), Instruments(infer=True), conflated(watcher), source=source)
            receiver = Receiver(
                pipeline,
                None,
                writer=writer,
                max_message_size=100_000,
                drain_reads=drain_reads,
                drain_timeout=drain_timeout,
            )
            server = await ws_create_server(lambda request: sender, "localhost", 0, ssl=serving)
            url = f"wss://localhost:{server.sockets[0].getsockname()[1]}/"
            transport, _ = await ws_connect(
                lambda: receiver, url, ssl_context=trusting, read_buffer_init_size=READ_SIZE
            )
            # Nothing runs between these writes: whatever the client reads, the rest has arrived.
            for segment in segments:
                sender.transport.underlying_transport.write(segment)
            await watcher.until(lambda: pipeline.books.downstream.batches - 1 >= ends)
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()
            server.close()
        with RecordingReader(path) as recording:
            kinds = (Kind.TEXT, Kind.TICK)
            return [message for message in recording if message.source == source and message.kind in kinds]

    return run


SEGMENTS = [serialize_frame(TEXT, trade(number)) for number in range(40)]  # several reads of them


async def test_drained_a_batch_takes_in_all_that_has_arrived(receive_tls: Receive, watcher: Watcher) -> None:
    recorded = await receive_tls(*SEGMENTS, drain_reads=100, ends=1)
    assert [bool(m.flags & LAST_IN_BATCH) for m in recorded] == [False] * 39 + [True]
    assert len({m.ts_recv for m in recorded}) > 1  # of several reads, each with its time
    assert len(watcher.trades) == 40


async def test_drained_a_batch_is_of_so_many_reads_at_most(receive_tls: Receive, watcher: Watcher) -> None:
    whole = await receive_tls(*SEGMENTS, drain_reads=100, ends=1)
    reads = len({m.ts_recv for m in whole})
    recorded = await receive_tls(*SEGMENTS, drain_reads=1, ends=(reads + 1) // 2)
    batches = [m.flags & LAST_IN_BATCH != 0 for m in recorded if m.kind == Kind.TEXT]
    assert 1 < sum(batches) < reads


async def test_drained_a_batch_does_not_wait_for_what_does_not_come(receive_tls: Receive, watcher: Watcher) -> None:
    # A read that fills its memory to the last byte says that there may be more; there is not.
    message = trade(1)
    message = message[:-1] + b" " * (READ_SIZE - 4 - len(message)) + message[-1:]
    recorded = await receive_tls(serialize_frame(TEXT, message), drain_reads=100, drain_timeout=0.001, ends=1)
    assert [m.kind for m in recorded] == [Kind.TEXT, Kind.TICK]
    assert not recorded[0].flags & LAST_IN_BATCH
    assert ids(watcher) == ["1"]


async def test_reads_and_messages_are_measured(receive: Receive, watcher: Watcher) -> None:
    latency = Latency(is_live=True, every=1)
    await receive(b"".join(serialize_frame(TEXT, trade(number)) for number in range(50)), latency=latency)
    for stage in (latency.read_to_decode, latency.decode, latency.to_callback, latency.callback):
        assert stage.count == 50
    assert latency.to_callback.max >= latency.read_to_decode.quantile(0)


@pytest.mark.parametrize("frames", [1, 2, 3, 64, 65])
async def test_the_frames_of_a_message_are_recorded(receive: Receive, watcher: Watcher, frames: int) -> None:
    whole = trade(1)
    cuts = [whole[n : n + 1] for n in range(frames - 1)] + [whole[frames - 1 :]]
    wire = b"".join(
        serialize_frame(CONTINUATION if n else TEXT, part, fin=n == frames - 1) for n, part in enumerate(cuts)
    )
    recorded = await receive(wire + serialize_frame(TEXT, trade(2)))
    sizes = tuple(map(len, cuts))
    # There is room for 64; a message in more is recorded without them, one in a single frame needs none.
    assert [m.frame_sizes for m in recorded if m.kind == Kind.TEXT] == [sizes if 1 < frames <= 64 else None, None]
    assert ids(watcher) == ["1", "2"]


@pytest.fixture
def kernel_stamps() -> Iterator[None]:
    """Have the kernel note times by now: it begins a moment after the first socket has asked for it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver:
            receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            for _ in range(10_000):
                sender.send(b"x")
                if receiver.recvmsg(1, 64)[1]:
                    break
            yield


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when it received something")
@pytest.mark.parametrize("cut", [None, 20])
@pytest.mark.usefixtures("kernel_stamps")
async def test_the_time_of_the_kernel_is_recorded_where_it_was_asked_for(
    receive: Receive, watcher: Watcher, cut: int | None
) -> None:
    whole = trade(1)
    wire = serialize_frame(TEXT, whole)
    if cut is not None:
        wire = serialize_frame(TEXT, whole[:cut], fin=False) + serialize_frame(CONTINUATION, whole[cut:])
    recorded = await receive(wire, latency=Latency(is_live=True))
    text = recorded[1]
    assert (text.kind, text.payload) == (Kind.TEXT, whole)
    assert recorded[0].ts_recv - 60 * 1_000_000_000 < text.ts_kernel <= text.ts_recv
    assert text.frame_sizes == (None if cut is None else (cut, len(whole) - cut))
    assert [m.ts_kernel for m in recorded if m.kind != Kind.TEXT] == [0] * (len(recorded) - 1)


async def test_a_binary_message_is_decoded_and_recorded_as_binary(receive: Receive, watcher: Watcher) -> None:
    recorded = await receive(serialize_frame(BINARY, trade(1)))
    assert ids(watcher) == ["1"]
    assert recorded[1].kind == Kind.BINARY


async def test_a_message_beyond_the_limit_ends_the_connection(receive: Receive, watcher: Watcher) -> None:
    with pytest.raises(Exception, match="1000"):
        await receive(serialize_frame(TEXT, b"x" * 600, fin=False) + serialize_frame(CONTINUATION, b"x" * 600))
    assert ids(watcher) == []


async def test_the_reason_of_a_disconnect_is_the_peers(receive: Receive, watcher: Watcher) -> None:
    recorded = await receive()
    assert recorded[-1].payload == b"peer closed with 1001: bye"
    assert watcher.feed_statuses[-1].reason == "peer closed with 1001: bye"


async def test_nothing_is_passed_on_after_detach(receive: Receive, watcher: Watcher) -> None:
    pipeline = Pipeline(exchange("binance"), Instruments(infer=True), conflated(watcher))
    receiver = Receiver(pipeline, None, max_message_size=1000)
    receiver.detach()

    class Sender(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            transport.send(TEXT, trade(1))
            transport.send_close()
            transport.disconnect()

    server = await ws_create_server(lambda request: Sender(), "127.0.0.1", 0)
    transport, _ = await ws_connect(lambda: receiver, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    await asyncio.wait_for(transport.wait_disconnected(), 10)
    server.close()
    assert (watcher.trades, pipeline.messages) == ([], 0)
