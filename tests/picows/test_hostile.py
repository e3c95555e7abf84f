"""Peers that vanish, stall, lie, flood and reset at every point of a connection: what we do, and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import ssl
import tracemalloc
from contextlib import asynccontextmanager

import pytest

from picows import (
    WSHandshakeError,
    WSInvalidMessageError,
    WSInvalidStatusError,
    WSMsgType,
    WSProtocolError,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)
from picows.assembler import MessageAssembler
from picows.close_handshake import WSCloseHandshake
from tests.hostile.peer import Victim, connect, connect_tls, listening, living, open_files
from tests.hostile.states import OPEN_STATES, REQUESTS, RESPONSES, TLS_HANDSHAKES, TLS_STATES, settle
from tests.picows.recorder import read_buffer_capacity
from tests.picows.test_tls import authority, trusting  # noqa: F401 - fixtures
from tests.picows.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, request, response_101

MIB = 1024 * 1024
SHORT = 0.05  # seconds, of timeouts that have to fire
fast_or_not = pytest.mark.parametrize("use_aiofastnet", [False, True])


class Logged(logging.Handler):
    """Formats every record, and keeps the text of errors."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.errors = []

    def emit(self, record):
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self.errors.append(text)


def unharmed(test):
    """`test` leaves nothing behind: no object of a connection, no task, no file, no report to the loop, no error.

    Our log records do not reach pytest, which would keep them, and with them exceptions and their frames.
    """

    @functools.wraps(test)
    async def checked(**kwargs):
        loop = asyncio.get_running_loop()
        reported = []
        loop.set_exception_handler(lambda _, context: reported.append(str(context)))
        logger, logged = logging.getLogger("picows"), Logged()
        logger.addHandler(logged)
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        tasks = asyncio.all_tasks()
        # uvloop opens files of its own with the first server and the first connection.
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        stream, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        stream.close()
        server.close()
        await server.wait_closed()
        await settle()
        files = open_files()
        gc.freeze()  # what there is by now is not looked at again
        try:
            await test(**kwargs)
            await until(lambda: not living() and open_files() == files, tries=20)
        finally:
            gc.unfreeze()
            logger.removeHandler(logged)
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
        assert (reported, logged.errors) == ([], [])
        assert asyncio.all_tasks() == tasks

    return checked


async def until(is_true, interval=0, tries=10_000):
    """Let the event loop go on until `is_true()`, which nobody tells of when it becomes so."""
    for _ in range(tries):
        if is_true():
            return
        await asyncio.sleep(interval)
    raise AssertionError(f"expected nothing of connections to be left, found {living()}, {open_files()} open files")


@asynccontextmanager
async def serving(victims, **kwargs):
    """The port of a server whose listeners come from the list `victims`, one for each connection."""
    remaining = iter(victims)
    server = await ws_create_server(lambda _: next(remaining), "127.0.0.1", 0, **kwargs)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def abandoned(victim):
    """The test is over for `victim`, however it went."""
    if victim.transport is not None:
        victim.transport.disconnect(graceful=False)
        with contextlib.suppress(WSProtocolError):
            await victim.transport.wait_disconnected()


@asynccontextmanager
async def attacked_server(victim=None, **kwargs):
    """`(victim, peer)` of an open connection to our server."""
    victim = Victim() if victim is None else victim
    async with serving([victim], **kwargs) as port:
        peer = await connect(port)
        try:
            await peer.upgrade()
            yield victim, peer
        finally:
            peer.close()
            await abandoned(victim)


@asynccontextmanager
async def attacked_client(victim=None, **kwargs):
    """`(victim, peer)` of an open connection of our client."""
    victim = Victim() if victim is None else victim
    async with listening() as place:
        connecting = asyncio.ensure_future(ws_connect(lambda: victim, f"ws://127.0.0.1:{place.port}/", **kwargs))
        peer = await place.accept()
        try:
            await peer.upgrade()
            await connecting
            yield victim, peer
        finally:
            peer.close()
            await abandoned(victim)


ROLES = {"server": attacked_server, "client": attacked_client}
either_role = pytest.mark.parametrize("attacked", ROLES.values(), ids=ROLES)


@contextlib.contextmanager
def memory_bound(limit):
    """No more than `limit` bytes are allocated at any time inside."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < limit


async def ended(victim):
    """The connection of `victim` ends as it has to; returns the code of the rule that the peer broke, or None."""
    code = None
    await asyncio.wait_for(victim.gone.wait(), 10)
    try:
        await asyncio.wait_for(victim.transport.wait_disconnected(), 10)
    except WSProtocolError as exc:
        code = exc.code
    assert (victim.connected, victim.disconnected) == (1, 1)
    assert victim.transport.is_disconnected
    return code


# ---- resets, in every state -----------------------------------------------------------------------

# What the CLOSE frames of the victim were, as (received, sent): where the RST may overtake them, nothing is promised.
CODES = {
    **dict.fromkeys(OPEN_STATES, (None, None)),
    "close_answered": (1001, 1001),
    "close_received": (None, 1000),
    "close_just_sent": ...,
    "close_exchanged": ...,
    "rule_broken": ...,
}


def close_codes(victim):
    handshake = victim.transport.close_handshake or WSCloseHandshake()
    return tuple(None if info is None else info.code for info in (handshake.recv, handshake.sent))


@either_role
@fast_or_not
@pytest.mark.parametrize("state", OPEN_STATES)
@unharmed
async def test_a_reset_in_any_state_of_an_open_connection(state, use_aiofastnet, attacked):
    async with attacked(use_aiofastnet=use_aiofastnet) as (victim, peer):
        await OPEN_STATES[state](peer, victim)
        peer.reset()
        victim.resume_reading()
        # Whether the victim sees the broken rule or the RST first is up to the kernel.
        assert await ended(victim) in ((1002, None) if state == "rule_broken" else (None,))
        if CODES[state] is not ...:
            handshake = victim.transport.close_handshake
            codes = (
                [None if info is None else info.code for info in (handshake.recv, handshake.sent)] if handshake else []
            )
            assert codes == [code for code in CODES[state] if handshake]
            assert (handshake is None) == (CODES[state] == (None, None))
        victim.transport.send(WSMsgType.TEXT, b"into the void")
        victim.transport.send_close(1000)
        victim.transport.disconnect()


@fast_or_not
@pytest.mark.parametrize("sent", REQUESTS)
@unharmed
async def test_a_reset_before_the_websocket_is_open_at_a_server(sent, use_aiofastnet):
    victims = [Victim(), Victim()]
    async with serving(victims, use_aiofastnet=use_aiofastnet) as port:
        hostile = await connect(port)
        await hostile.send(REQUESTS[sent])
        hostile.reset()
        # Whoever came before has been dealt with when the next one is served.
        peer = await connect(port)
        await peer.upgrade()
        await peer.command(b"echo")
        await peer.read_frame()
        peer.close()
        seen = [victim for victim in victims if victim.connected]
        for victim in seen:
            assert await ended(victim) is None
        assert len(seen) >= 1


@fast_or_not
@pytest.mark.parametrize("answer", RESPONSES)
@unharmed
async def test_a_reset_before_the_websocket_is_open_at_a_client(answer, use_aiofastnet):
    victim = Victim()
    async with listening() as place:
        connecting = asyncio.ensure_future(
            ws_connect(lambda: victim, f"ws://127.0.0.1:{place.port}/", use_aiofastnet=use_aiofastnet)
        )
        peer = await place.accept()
        make = RESPONSES[answer]
        if make is not None:
            await peer.send(make(await peer.read_until(b"\r\n\r\n")))
        peer.reset()
        try:
            await asyncio.wait_for(connecting, 10)
        except (WSHandshakeError, ConnectionError):
            assert victim.connected == 0
        else:
            assert answer.startswith("a response")
            assert await ended(victim) is None


@pytest.fixture
def server_context(authority):  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


# With use_aiofastnet=True a server reports a client that hangs up in the TLS handshake: network() says so.
@pytest.mark.parametrize(
    ("state", "use_aiofastnet"),
    [*((state, None) for state in TLS_HANDSHAKES), *((state, fast) for state in TLS_STATES for fast in (False, True))],
)
@unharmed
async def test_a_reset_in_any_state_of_tls_at_a_server(state, use_aiofastnet, server_context, trusting):  # noqa: F811
    victims = [Victim(), Victim()]
    async with serving(victims, use_aiofastnet=use_aiofastnet, ssl=server_context) as port:
        hostile = await connect_tls(port, trusting)
        await {**TLS_HANDSHAKES, **TLS_STATES}[state](hostile)
        hostile.reset()
        peer = await connect_tls(port, trusting)
        await peer.shake_hands()
        await peer.upgrade()
        await peer.command(b"echo")
        await peer.read_frame()
        peer.close()
        seen = [victim for victim in victims if victim.connected]
        for victim in seen:
            assert await ended(victim) is None
        assert len(seen) == 1 + (state in ("tls_open", "tls_half_a_record", "tls_bad_record"))


@fast_or_not
@pytest.mark.parametrize("state", [*TLS_HANDSHAKES, *TLS_STATES])
@unharmed
async def test_a_reset_in_any_state_of_tls_at_a_client(state, use_aiofastnet, server_context, trusting):  # noqa: F811
    victim = Victim()
    async with listening() as place:
        connecting = asyncio.ensure_future(
            ws_connect(
                lambda: victim,
                f"wss://127.0.0.1:{place.port}/",
                ssl_context=trusting,
                # uvloop does not tell aiofastnet of a reset in the middle of the TLS handshake: this ends it.
                websocket_handshake_timeout=0.5,
                use_aiofastnet=use_aiofastnet,
            )
        )
        peer = await place.accept_tls(server_context)
        await {**TLS_HANDSHAKES, **TLS_STATES}[state](peer)
        peer.reset()
        try:
            await asyncio.wait_for(connecting, 10)
        except (WSHandshakeError, OSError):  # ssl.SSLError is an OSError
            assert victim.connected == 0
        else:
            assert state in ("tls_open", "tls_half_a_record", "tls_bad_record")
            assert await ended(victim) is None


# ---- slow handshakes ------------------------------------------------------------------------------


@unharmed
async def test_a_request_that_comes_byte_by_byte_is_answered():
    victim = Victim()
    async with serving([victim]) as port:
        peer = await connect(port)
        for at in range(len(request())):
            await peer.send(request()[at : at + 1])
            await asyncio.sleep(0)
        assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        peer.close()
        assert await ended(victim) is None


@unharmed
async def test_a_response_that_comes_byte_by_byte_is_taken():
    victim = Victim()
    async with listening() as place:
        connecting = asyncio.ensure_future(ws_connect(lambda: victim, f"ws://127.0.0.1:{place.port}/"))
        peer = await place.accept()
        answer = response_101(await peer.read_until(b"\r\n\r\n"))
        for at in range(len(answer)):
            await peer.send(answer[at : at + 1])
            await asyncio.sleep(0)
        await connecting
        peer.close()
        assert await ended(victim) is None


async def drip(peer, head, forever):
    """Send `head`, then `forever` again and again, until the connection is ended for it."""
    with contextlib.suppress(ConnectionError):
        await peer.send(head)
        while True:
            await peer.send(forever)
            await asyncio.sleep(0.002)  # slowly: that is the attack


@fast_or_not
@unharmed
async def test_a_request_that_never_stalls_and_never_ends_runs_into_the_timeout(use_aiofastnet):
    async with serving([], websocket_handshake_timeout=SHORT, use_aiofastnet=use_aiofastnet) as port:
        peer = await connect(port)
        await asyncio.wait_for(drip(peer, b"GET / HTTP/1.1\r\n", b"x"), 10)
        peer.close()


@fast_or_not
@pytest.mark.parametrize(
    ("head", "forever"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\n", b"x"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", b"x"),
    ],
)
@unharmed
async def test_a_response_that_never_stalls_and_never_ends_runs_into_the_timeout(head, forever, use_aiofastnet):
    async with listening() as place:
        connecting = asyncio.ensure_future(
            ws_connect(
                Victim,
                f"ws://127.0.0.1:{place.port}/",
                websocket_handshake_timeout=SHORT,
                use_aiofastnet=use_aiofastnet,
            )
        )
        peer = await place.accept()
        await asyncio.wait_for(drip(peer, head, forever), 10)
        peer.close()
        with pytest.raises(TimeoutError, match=f"within {SHORT} seconds"):
            await connecting


@fast_or_not
@pytest.mark.parametrize("state", ["tls_half_a_flight", "tls_a_flight", "tls_shaken_hands"])
@unharmed
async def test_a_client_that_stalls_in_tls_is_disconnected(state, use_aiofastnet, server_context, trusting):  # noqa: F811
    arguments = {"ssl": server_context, "websocket_handshake_timeout": SHORT, "use_aiofastnet": use_aiofastnet}
    async with serving([], **arguments) as port:
        peer = await connect_tls(port, trusting)
        await {**TLS_HANDSHAKES, **TLS_STATES}[state](peer)
        with contextlib.suppress(ssl.SSLError):
            assert await asyncio.wait_for(peer.read_to_end(), 10) == b""
        peer.close()


@fast_or_not
@pytest.mark.parametrize("state", ["tls_half_a_flight", "tls_shaken_hands"])
@unharmed
async def test_a_server_that_stalls_in_tls_is_given_up(state, use_aiofastnet, server_context, trusting):  # noqa: F811
    async with listening() as place:
        connecting = asyncio.ensure_future(
            ws_connect(
                Victim,
                f"wss://127.0.0.1:{place.port}/",
                ssl_context=trusting,
                websocket_handshake_timeout=SHORT,
                use_aiofastnet=use_aiofastnet,
            )
        )
        peer = await place.accept_tls(server_context)
        await {**TLS_HANDSHAKES, **TLS_STATES}[state](peer)
        with pytest.raises((TimeoutError, ConnectionError)):
            await asyncio.wait_for(connecting, 10)
        peer.close()


@fast_or_not
@unharmed
async def test_a_client_that_does_not_read_its_refusal_is_disconnected(use_aiofastnet):
    answer = WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(bytes(20 * MIB)))
    arguments = {"websocket_handshake_timeout": SHORT, "use_aiofastnet": use_aiofastnet}
    async with serving([answer], **arguments) as port:
        peer = await connect(port)
        await peer.send(request())
    # The server waits for its connections (from Python 3.12 on); everywhere, the object is gone only when they are.
    await until(lambda: not living()["_ServerProtocol"], SHORT)
    assert len(await peer.read_to_end()) < 20 * MIB
    peer.close()


# ---- headers without end --------------------------------------------------------------------------

FLOODS = {
    "one line": (b"", b"x" * 50_000),
    "one header": (b"X-Endless: ", b"x" * 50_000),
    "many headers": (b"", b"A: b\r\n" * 8000),
    "line feeds": (b"", b"\n" * 50_000),
}


async def flood(peer, data, size):
    """Send `data` until it is `size` bytes, or until nobody takes any more."""
    with contextlib.suppress(ConnectionError):
        for _ in range(size // len(data)):
            await peer.send(data)


@pytest.mark.parametrize("kind", FLOODS)
@unharmed
async def test_a_request_without_end_is_refused_and_costs_no_memory(kind):
    head, endless = FLOODS[kind]
    async with serving([]) as port:
        peer = await connect(port)
        with memory_bound(MIB):
            await peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + head + endless)
            assert (await peer.read_until(b"\r\n")).startswith(b"HTTP/1.1 431 ")
            await flood(peer, endless, 16 * MIB)
        peer.close()


@pytest.mark.parametrize("kind", FLOODS)
@unharmed
async def test_a_response_without_end_is_refused_and_costs_no_memory(kind):
    head, endless = FLOODS[kind]
    async with listening() as place:
        connecting = asyncio.ensure_future(ws_connect(Victim, f"ws://127.0.0.1:{place.port}/"))
        peer = await place.accept()
        await peer.read_until(b"\r\n\r\n")
        with memory_bound(MIB):
            with contextlib.suppress(ConnectionError):
                await peer.send(b"HTTP/1.1 101 Switching Protocols\r\n" + head)
            await flood(peer, endless, 16 * MIB)
            with pytest.raises(WSInvalidMessageError, match="at most 16384 bytes of HTTP header"):
                await connecting
        peer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n7FFFFFFF\r\n",
        b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
)
@unharmed
async def test_a_body_without_end_is_cut_and_costs_no_memory(head):
    async with listening() as place:
        connecting = asyncio.ensure_future(ws_connect(Victim, f"ws://127.0.0.1:{place.port}/"))
        peer = await place.accept()
        await peer.read_until(b"\r\n\r\n")
        with memory_bound(MIB):
            with contextlib.suppress(ConnectionError):
                await peer.send(head)
            await flood(peer, b"x" * 50_000, 16 * MIB)
            with pytest.raises(WSInvalidStatusError) as info:
                await connecting
            assert len(info.value.raw_body) <= 65536
        peer.close()


@unharmed
async def test_as_many_headers_as_fit_are_read():
    victim = Victim()
    many = request()[:-2] + b"A:b\r\n" * 3000 + b"\r\n"
    async with serving([victim]) as port:
        peer = await connect(port)
        await peer.send(many)
        assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert len(victim.transport.request.headers.getall("A")) == 3000
        peer.close()
        assert await ended(victim) is None


# ---- frames without end ---------------------------------------------------------------------------


class Counter(Victim):
    """Counts frames, and has the last of a test say so."""

    def __init__(self):
        super().__init__()
        self.finished = asyncio.Event()
        self.capacity = 0

    def on_ws_frame(self, transport, frame):
        self.frames += 1
        if frame.payload_size == 3 and frame.get_payload_as_bytes() == b"end":
            self.finished.set()
        elif not self.frames % 64:
            self.capacity = max(self.capacity, read_buffer_capacity(transport))


@either_role
@pytest.mark.parametrize(
    ("opcode", "size", "count"),
    [(CONTINUATION, 65_536, 256), (CONTINUATION, 0, 100_000), (CONTINUATION, 1, 100_000)],
    ids=["large", "empty", "tiny"],
)
@unharmed
async def test_fragments_without_end_cost_a_listener_that_keeps_none_nothing(opcode, size, count, attacked):
    async with attacked(Counter()) as (victim, peer):
        fragment = peer.frame(opcode, bytes(size), fin=False)
        batch = fragment * max(1, 50_000 // len(fragment))
        rounds = count // (len(batch) // len(fragment))
        with memory_bound(MIB):
            await peer.send(peer.frame(BINARY, b"", fin=False))
            for _ in range(rounds):
                await peer.send(batch)
            await peer.send(peer.frame(CONTINUATION, b"end"))
            await victim.finished.wait()
        assert victim.frames == 2 + rounds * (len(batch) // len(fragment))
        assert victim.capacity <= MIB // 2  # which is what any flood is read into


@either_role
@pytest.mark.parametrize("size", [0, 1, 60_000])
@unharmed
async def test_fragments_without_end_run_into_the_limit_of_an_assembler(size, attacked):
    class Assembling(Victim):
        def __init__(self):
            super().__init__()
            self.assembler = MessageAssembler(max_message_size=MIB // 2)

        def on_ws_frame(self, transport, frame):
            self.frames += 1
            self.assembler.add_frame(frame)

    async with attacked(Assembling()) as (victim, peer):
        fragment = peer.frame(CONTINUATION, bytes(size), fin=False)
        batch = fragment * max(1, 50_000 // len(fragment))
        with memory_bound(3 * MIB):
            await peer.send(peer.frame(BINARY, b"", fin=False))
            if size == 0:  # nothing is too much of nothing; but nothing is kept of it either
                for _ in range(20):
                    await peer.send(batch)
                await peer.send(peer.frame(CONTINUATION, bytes(MIB // 2 + 1)))
            else:
                await flood(peer, batch, 16 * MIB)
            assert await ended(victim) == 1009
        assert victim.transport.close_handshake.sent.code == 1009


@either_role
@unharmed
async def test_tiny_frames_without_end_cost_nothing(attacked):
    async with attacked(Counter()) as (victim, peer):
        batch = (peer.frame(BINARY) + peer.frame(TEXT, b"x") + peer.frame(PONG)) * 4000
        with memory_bound(MIB):
            for _ in range(25):
                await peer.send(batch)
            await peer.send(peer.frame(TEXT, b"end"))
            await victim.finished.wait()
        assert victim.frames == 300_001


@either_role
@fast_or_not
@unharmed
async def test_pings_without_end_of_a_peer_that_reads_nothing(use_aiofastnet, attacked):
    async with attacked(Counter(), use_aiofastnet=use_aiofastnet) as (victim, peer):
        stream = victim.transport.underlying_transport
        with memory_bound(2 * MIB):
            pings = peer.frame(PING, bytes(125)) * 500
            for _ in range(200):
                await peer.send(pings)
            await peer.send(peer.frame(TEXT, b"end"))
            await victim.finished.wait()
            assert victim.writing_paused.is_set()
            assert stream.get_write_buffer_size() <= stream.get_write_buffer_limits()[1] + 127 + 4


@either_role
@unharmed
async def test_what_follows_a_close_is_read_and_dropped(attacked):
    async with attacked(websocket_close_timeout=SHORT) as (victim, peer):
        with memory_bound(MIB):
            await peer.send(peer.frame(CLOSE, b"\x03\xe8"))
            await flood(peer, peer.frame(BINARY, bytes(50_000)), 16 * MIB)
            assert await ended(victim) is None
        assert victim.frames == 1


# ---- lengths that are lies ------------------------------------------------------------------------


@either_role
@pytest.mark.parametrize(
    ("size", "code"), [(1 << 63, 1002), ((1 << 64) - 1, 1002), ((1 << 63) - 1, 1009), (1 << 40, 1009), (MIB + 1, 1009)]
)
@unharmed
async def test_a_length_beyond_the_limit_ends_the_connection_at_once(size, code, attacked):
    async with attacked(max_frame_size=MIB) as (victim, peer):
        with memory_bound(MIB // 4):
            await peer.send(peer.header(BINARY, size))
            assert (await peer.read_close()).payload[:2] == code.to_bytes(2, "big")
            peer.close()
            assert await ended(victim) == code


@either_role
@fast_or_not
@unharmed
async def test_a_length_within_the_limit_and_silence_costs_little_and_is_found_out(use_aiofastnet, attacked):
    arguments = {
        "max_frame_size": 1 << 40,
        "enable_auto_ping": True,
        "auto_ping_idle_timeout": SHORT,
        "auto_ping_reply_timeout": SHORT,
        "websocket_close_timeout": SHORT,
        "use_aiofastnet": use_aiofastnet,
    }
    async with attacked(**arguments) as (victim, peer):
        with memory_bound(MIB):
            await peer.send(peer.header(BINARY, 1 << 39))
            assert await ended(victim) is None
        assert victim.transport.close_handshake.sent.code == 1001
        assert victim.transport.close_handshake.recv is None


@either_role
@unharmed
async def test_memory_follows_what_came_and_not_what_was_promised(attacked):
    async with attacked(max_frame_size=1 << 40) as (victim, peer):
        with memory_bound(7 * MIB):  # while it grows, the old block and one of twice the size
            await peer.send(peer.header(BINARY, 1 << 39))
            for _ in range(32):
                await peer.send(bytes(65_536))
            await until(lambda: not victim.transport.unread_size())
            assert read_buffer_capacity(victim.transport) <= 5 * MIB


# ---- peers that fall silent -----------------------------------------------------------------------


@either_role
@fast_or_not
@unharmed
async def test_a_peer_that_never_answers_a_close(use_aiofastnet, attacked):
    async with attacked(websocket_close_timeout=SHORT, use_aiofastnet=use_aiofastnet) as (victim, _):
        victim.transport.send_close(1000)
        assert await ended(victim) is None
        assert victim.transport.close_handshake.sent.code == 1000
        assert victim.transport.close_handshake.recv is None


@either_role
@fast_or_not
@unharmed
async def test_a_peer_that_answers_a_close_and_stays(use_aiofastnet, attacked):
    async with attacked(websocket_close_timeout=SHORT, use_aiofastnet=use_aiofastnet) as (victim, peer):
        victim.transport.send_close(1000)
        await peer.read_close()
        await peer.send(peer.frame(CLOSE, b"\x03\xe8"))
        assert await ended(victim) is None
        assert victim.transport.close_handshake.recv.code == 1000
        assert not victim.transport.close_handshake.recv_then_sent


@either_role
@fast_or_not
@unharmed
async def test_a_peer_that_closes_and_stays(use_aiofastnet, attacked):
    async with attacked(websocket_close_timeout=SHORT, use_aiofastnet=use_aiofastnet) as (victim, peer):
        await peer.send(peer.frame(CLOSE, b"\x03\xe9"))
        assert (await peer.read_close()).payload == b"\x03\xe9"
        assert await ended(victim) is None
        assert victim.transport.close_handshake.recv_then_sent


@either_role
@fast_or_not
@unharmed
async def test_a_peer_that_ends_its_half_of_the_connection(use_aiofastnet, attacked):
    async with attacked(websocket_close_timeout=SHORT, use_aiofastnet=use_aiofastnet) as (victim, peer):
        peer.sock.shutdown(1)
        assert await ended(victim) is None
        assert await peer.read_to_end() == b""


@either_role
@fast_or_not
@unharmed
async def test_a_silent_peer_whose_window_is_full_is_found_out(use_aiofastnet, attacked):
    arguments = {
        "enable_auto_ping": True,
        "auto_ping_idle_timeout": SHORT,
        "auto_ping_reply_timeout": SHORT,
        "websocket_close_timeout": SHORT,
        "use_aiofastnet": use_aiofastnet,
    }
    async with attacked(**arguments) as (victim, peer):
        await peer.command(b"flood")
        await victim.writing_paused.wait()
        assert await ended(victim) is None
        assert victim.transport.close_handshake.sent.code == 1001


@either_role
@fast_or_not
@unharmed
async def test_a_peer_that_stops_reading_costs_what_the_sender_lets_it(use_aiofastnet, attacked):
    async with attacked(use_aiofastnet=use_aiofastnet) as (victim, peer):
        stream = victim.transport.underlying_transport
        await peer.command(b"flood")
        await victim.writing_paused.wait()
        assert stream.get_write_buffer_size() <= stream.get_write_buffer_limits()[1] + 100_014
        read = asyncio.ensure_future(peer.read_to_end())
        await until(lambda: not victim.writing_paused.is_set())
        victim.transport.disconnect()
        assert await ended(victim) is None
        assert len(await read) % 100_000 < 100_000


# ---- in the long run ------------------------------------------------------------------------------


@unharmed
async def test_thousands_of_bad_clients_leave_nothing_behind():
    victims = []

    def victim(_):
        victims.append(Victim())
        return victims[-1]

    starts = list(REQUESTS.values())

    async def attack(port, number):
        peer = await connect(port)
        await peer.send(starts[number % len(starts)])
        if number % 3:
            peer.reset()
        else:
            peer.close()

    server = await ws_create_server(victim, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def attacks(count):
        for number in range(count):
            await attack(port, number)
        peer = await connect(port)  # served last: the others are done with
        await peer.upgrade()
        peer.close()
        for one in victims:
            if one.connected:
                assert await ended(one) is None
        assert all(one.connected == one.disconnected for one in victims)
        victims.clear()
        await settle()

    await attacks(300)
    tracemalloc.start()
    await attacks(300)
    living()
    before, _ = tracemalloc.get_traced_memory()
    await attacks(2000)
    living()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 200_000
    server.close()
    await server.wait_closed()


@unharmed
async def test_hundreds_of_bad_servers_leave_nothing_behind():
    answers = list(RESPONSES.values())

    async def attack(place, number):
        connecting = asyncio.ensure_future(ws_connect(Victim, f"ws://127.0.0.1:{place.port}/"))
        peer = await place.accept()
        make = answers[number % len(answers)]
        if make is not None:
            await peer.send(make(await peer.read_until(b"\r\n\r\n")))
        if number % 3:
            peer.reset()
        else:
            peer.close()
        with contextlib.suppress(WSHandshakeError, ConnectionError):
            _, victim = await connecting
            assert await ended(victim) is None

    async with listening() as place:
        for number in range(30):
            await attack(place, number)
        tracemalloc.start()
        for number in range(30):
            await attack(place, number)
        living()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(400):
            await attack(place, number)
        living()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert after - before < 100_000
