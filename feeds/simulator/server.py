"""A simulated exchange on a loopback socket: the one file of the simulator that knows sockets, timers and clocks."""

import asyncio
import contextlib
import importlib
import math
import pkgutil
import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from feeds.simulator import exchanges
from feeds.simulator.binance import BinanceDelivery, BinanceFutures, BinanceSpot
from feeds.simulator.faults import AnyFault, Disconnect, FaultPlan, Refuse
from feeds.simulator.order_flow import NS_PER_SECOND, FlowConfig, OrderFlow
from feeds.simulator.playback import Playback
from feeds.simulator.protocol import (
    Batch,
    Ending,
    ExchangeProtocol,
    HttpReply,
    Message,
    PolicyViolation,
    Refused,
    Session,
)
from feeds.simulator.recorded import RecordedExchange
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)
from picows.serializer import serialize_frames

_BINANCE: dict[str, type[ExchangeProtocol]] = {
    "binance": BinanceSpot,
    "binance-delivery": BinanceDelivery,
    "binance-futures": BinanceFutures,
}

_MANUAL_START_NS = 1_700_000_000 * NS_PER_SECOND  # where exchange time begins when nobody's clock moves it
_TEXT, _BINARY = WSMsgType.TEXT.value, WSMsgType.BINARY.value
_MAX_REQUEST = 64 * 1024  # bytes of a client's message, fragments together
_BATCHES_PER_TURN = 256  # then sockets are served before more is produced
# Exchange time slips rather than run after the wall clock for ever, when this machine cannot produce what was asked.
_MAX_LAG_NS = NS_PER_SECOND // 4
_MIN_WAIT = 0.001
_GOODBYE_TIMEOUT = 1.0


def simulated_ids() -> list[str]:
    """Return the ids of the exchanges that are simulated from order flow, sorted."""
    found = [module.name.replace("_", "-") for module in pkgutil.iter_modules(exchanges.__path__)]
    return sorted([*_BINANCE, *found])


def find_simulator(exchange: str) -> Any:
    """Return the ExchangeProtocol of an exchange id; ValueError names those that there are."""
    if exchange not in simulated_ids():
        raise ValueError(f"expected one of {simulated_ids()}, found {exchange!r}")
    if exchange in _BINANCE:
        return _BINANCE[exchange]
    return importlib.import_module(f"{exchanges.__name__}.{exchange.replace('-', '_')}").SIMULATOR


class _Client(WSListener):
    """One connected client."""

    def __init__(self, exchange: "SimulatedExchange", session: Session) -> None:
        super().__init__()
        self.session = session
        self._exchange = exchange
        self._transport: WSTransport
        self._fragments = bytearray()
        self._pings: dict[bytes, float] = {}  # unanswered: payload -> when it was sent
        self._ping_timer: asyncio.TimerHandle | None = None
        self._beat_timer: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._exchange._on_connected(self)
        self._schedule_ping()
        self._schedule_beat()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        for timer in (self._ping_timer, self._beat_timer):
            if timer is not None:
                timer.cancel()
        self._exchange._on_disconnected(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            return  # the transport answers it
        try:
            self.session.count_frame(_monotonic_ns())
            if frame.msg_type == WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            elif frame.msg_type == WSMsgType.PONG:
                self._pings.pop(frame.get_payload_as_bytes(), None)
            else:
                self._receive(frame)
        except PolicyViolation as violation:
            self._expel(violation)
        self._exchange._limit_output(self)

    def pause_writing(self) -> None:
        self._exchange._on_paused(self)

    def resume_writing(self) -> None:
        self._exchange._on_resumed(self)

    @property
    def unread(self) -> int:
        """Bytes that were sent and that the client left with us."""
        return int(self._transport.underlying_transport.get_write_buffer_size())

    def send(self, frames: list[tuple[int, bytes]]) -> None:
        """Write frames, (opcode, payload) each, as one segment."""
        self._transport.underlying_transport.write(serialize_frames(frames))

    def answer(self, texts: Sequence[bytes]) -> None:
        """Write texts of the session's own, as one segment."""
        if texts:
            kind = _BINARY if self.session.sends_binary else _TEXT
            self.send([(kind, text) for text in texts])

    def end(self, ending: Ending) -> None:
        """End the connection behind what was sent."""
        if ending.code is not None:
            self.close(ending.code, ending.reason)
        else:
            self._exchange._on_leaving(self)
            self._transport.underlying_transport.close()

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye and disconnect."""
        self._exchange._on_leaving(self)
        self._transport.send_close(code, reason or None)
        self._transport.disconnect()

    def reset(self) -> None:
        """Disappear without a goodbye: the peer sees a reset and not an end of file."""
        self._exchange._on_leaving(self)
        underlying = self._transport.underlying_transport
        connection = underlying.get_extra_info("socket")
        # Linger on, for zero seconds: close() discards what is unsent and resets.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        underlying.abort()

    def _receive(self, frame: WSFrame) -> None:
        if len(self._fragments) + frame.payload_size > _MAX_REQUEST:
            raise PolicyViolation(WSCloseCode.MESSAGE_TOO_BIG, "Payload too long")
        self._fragments += frame.get_payload_as_bytes()
        if not frame.fin:
            return
        text = bytes(self._fragments)
        self._fragments.clear()
        self.answer(self.session.receive(text, self._exchange.told_ns))
        self._exchange._on_request()

    def _expel(self, violation: PolicyViolation) -> None:
        if violation.code == WSCloseCode.ABNORMAL_CLOSURE:
            self.reset()
        else:
            self.close(violation.code, violation.reason)

    def _schedule_beat(self) -> None:
        if self.session.beat_interval:
            self._beat_timer = asyncio.get_running_loop().call_later(self.session.beat_interval, self._beat)

    def _beat(self) -> None:
        try:
            self.answer(self.session.beat(_monotonic_ns(), self._exchange.told_ns))
        except PolicyViolation as violation:
            self._expel(violation)
            return
        self._exchange._limit_output(self)
        self._schedule_beat()

    def _schedule_ping(self) -> None:
        if self._exchange.ping_interval != math.inf:
            loop = asyncio.get_running_loop()
            self._ping_timer = loop.call_later(self._exchange.ping_interval, self._ping)

    def _ping(self) -> None:
        now = asyncio.get_running_loop().time()
        if any(now - sent >= self._exchange.pong_timeout for sent in self._pings.values()):
            self.close(WSCloseCode.POLICY_VIOLATION, "Pong timeout")
            return
        payload = str(time.time_ns() // 1_000_000).encode()
        self._pings[payload] = now
        self._transport.send_ping(payload)
        self._schedule_ping()


class SimulatedExchange:
    """An exchange that speaks its real protocol on loopback: WebSocket and REST on one port.

    Use as `async with SimulatedExchange("binance", ["BTCUSDT"]) as sim:` and point a client at `sim.ws_url` and
    `sim.rest_url`. Market data is generated, or played from a recording. `SimulatedExchange(RecordedExchange(path))` is
    whichever exchange was recorded, as it was; its REST has a port of its own. Time runs by itself; with
    `real_time=False` it moves only by `advance`, and the same seed and calls send the same bytes.

    Heartbeat and limits on client messages go by the event loop's clock in either case.
    """

    def __init__(
        self,
        exchange: str | RecordedExchange,
        symbols: Sequence[str] = (),
        *,
        seed: int | None = None,
        rate: float | None = None,
        flow: FlowConfig | None = None,
        playback: Playback | None = None,
        faults: Sequence[AnyFault] = (),
        real_time: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        max_clients: int = 100,
        max_output: int = 8 * 1024 * 1024,
        ping_interval: float | None = None,
        pong_timeout: float | None = None,
    ) -> None:
        """Configure; nothing is opened before `async with`.

        `exchange` is an exchange id, `symbols` are written as the exchange writes them (by default a few well-known
        ones), `rate` is in orders per second;
        these, `seed`, `flow` and `playback` are not for an exchange that was recorded. `port` is that of the
        WebSockets; REST has the same, or the next one where it has its own.
        `seed` and `rate` replace those of `flow`. `max_output` bounds the bytes that a client leaves unread before it
        is disconnected. `ping_interval` and `pong_timeout` (seconds) replace the exchange's.
        ValueError for an exchange that is not simulated.
        """
        self._make_protocol: Callable[..., ExchangeProtocol]
        if isinstance(exchange, RecordedExchange):
            if symbols or playback is not None or (seed, rate, flow) != (None, None, None):
                raise ValueError("expected a recorded exchange alone, found symbols, playback or order flow beside it")
            self._make_protocol = exchange.protocol
        else:
            simulator = find_simulator(exchange)
            symbols = symbols or simulator.default_symbols
            flow = flow or FlowConfig()
            if seed is not None:
                flow = msgspec.structs.replace(flow, seed=seed)
            if rate is not None:
                flow = msgspec.structs.replace(flow, rate=rate)
            self._make_protocol = partial(simulator, symbols, flow=flow, playback=playback)
        self._is_generated = isinstance(exchange, str) and playback is None
        self._faults = faults
        self._real_time = real_time
        self._host = host
        self._port = self._asked_port = port
        self._max_clients = max_clients
        self._max_output = max_output
        self._ping_interval = ping_interval
        self._pong_timeout = pong_timeout

        self.sent_messages = 0  # market data, answers not counted
        self.slow_clients = 0  # disconnected because they did not read
        self.on_request: Callable[[str], object] | None = None  # told the target of each REST request
        self._clients: dict[Session, _Client] = {}  # those that get messages
        self._connected: set[_Client] = set()  # besides those that are on their way out
        self._changed = asyncio.Event()  # set, and replaced, when clients or their subscriptions change
        self._wake = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._rest: RestServer | None = None  # where it has a port of its own
        self._reserved: socket.socket | None = None  # keeps the port while connections are refused
        self._refused_until = 0
        self._task: asyncio.Task[None] | None = None
        self._protocol: ExchangeProtocol
        self._plan: FaultPlan
        self._now_ns = 0  # exchange time of what is being done
        self._offset_ns = 0  # from the monotonic clock to exchange time

    async def __aenter__(self) -> "SimulatedExchange":
        self._now_ns = time.time_ns() if self._real_time else _MANUAL_START_NS
        self._offset_ns = self._now_ns - time.monotonic_ns()
        self._protocol = self._make_protocol(start_ns=self._now_ns)
        self._plan = FaultPlan(self._protocol, self._faults, self._now_ns)
        await self._listen()
        if self._protocol.answers_posts:
            self._rest = RestServer(self._answer)
            await self._rest.listen(self._host, self._port + 1 if self._asked_port else 0)
        self.lead_clients_to(self.ws_url)
        if self._real_time:
            self._task = asyncio.create_task(self._run(), name=f"simulated {self._protocol.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._server is not None:
            self._server.close()
        if self._reserved is not None:
            self._reserved.close()
        for client in list(self._clients.values()):
            client.close(WSCloseCode.GOING_AWAY)
        try:
            await asyncio.wait_for(self._wait_until(lambda: not self._connected), _GOODBYE_TIMEOUT)
        except asyncio.TimeoutError:
            for client in self._connected:
                client.reset()
            await self._wait_until(lambda: not self._connected)
        if self._rest is not None:
            await self._rest.close()
        if self._task is not None:
            # What stopped the exchange before its time is the caller's to see.
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def lead_clients_to(self, ws_url: str) -> None:
        """Have replies that say where the WebSockets are (KuCoin's tickets) name this address, of a proxy in front."""
        self._protocol.ws_url = ws_url

    @property
    def ws_url(self) -> str:
        """Root of the WebSocket URLs; the exchange's own path and query come behind it."""
        return f"ws://{self._authority(self._port)}"

    @property
    def rest_url(self) -> str:
        return f"http://{self._authority(self._port if self._rest is None else self._rest.port)}"

    def _authority(self, port: int) -> str:
        return f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"

    @property
    def symbols(self) -> list[str]:
        """What is listed, as the exchange writes it."""
        return list(self._protocol.markets)

    @property
    def ping_interval(self) -> float:
        return self._protocol.ping_interval if self._ping_interval is None else self._ping_interval

    @property
    def pong_timeout(self) -> float:
        return self._protocol.pong_timeout if self._pong_timeout is None else self._pong_timeout

    @property
    def now_ns(self) -> int:
        """Exchange time, ns since the epoch."""
        if self._real_time:
            self._now_ns = max(self._now_ns, time.monotonic_ns() + self._offset_ns)
        return self._now_ns

    @property
    def told_ns(self) -> int:
        """Exchange time as its messages tell it, which a ClockSkew puts ahead or behind."""
        return self.now_ns + self._protocol.source.skew_ns

    @property
    def flow(self) -> OrderFlow:
        """The order flow with its true books. ValueError for a playback."""
        return self._protocol.source.flow

    @property
    def strikes(self) -> int:
        """How often a fault has struck."""
        return self._plan.strikes

    @property
    def clients(self) -> int:
        """How many clients are connected by WebSocket."""
        return len(self._clients)

    @property
    def streams(self) -> set[str]:
        """What clients are subscribed to, by the exchange's names."""
        return {stream for session in self._clients for stream in session.streams}

    def inject(self, fault: AnyFault) -> None:
        """Arm a fault; its `at` counts from now. ValueError for a symbol that is not listed.

        Where time is moved by hand, connections are refused from the next `advance` on.
        """
        self._plan.inject(fault, self.now_ns)
        if not self._real_time:
            self._pump(self._now_ns)
        self._wake.set()

    def burst(self, symbol: str, orders: int) -> None:
        """Make `orders` orders of one symbol at this instant and send what they cause, one write per client.

        KeyError for a symbol that is not listed, ValueError for a playback.
        """
        now_ns = self.now_ns
        self._pump(now_ns)
        self._deliver(self._protocol.source.burst(symbol, orders, now_ns))

    def emit(self, payload: str | bytes, *, stream: str | None = None) -> None:
        """Send a text of your own, as it is, to every client or to the subscribers of a stream."""
        data = payload.encode() if isinstance(payload, str) else payload
        for client in list(self._clients.values()):
            if stream is None or stream in client.session.streams:
                self._send(client, [(_TEXT, data)])

    async def advance(self, seconds: float) -> None:
        """Move exchange time on and send what falls due. RuntimeError while time runs by itself."""
        if self._real_time:
            raise RuntimeError("expected real_time=False: this exchange's time runs by itself")
        until_ns = self._now_ns + round(seconds * NS_PER_SECOND)
        more = True
        while more:
            more = self._pump(until_ns, _BATCHES_PER_TURN)
            await asyncio.sleep(0)
        self._now_ns = until_ns
        await self._open_or_close_doors()

    async def wait_subscribed(self, stream: str) -> None:
        """Return once a client is subscribed to the stream, by the exchange's name for it."""
        await self._wait_until(lambda: stream in self.streams)

    async def wait_unsubscribed(self, stream: str) -> None:
        """Return once no client is subscribed to the stream any more."""
        await self._wait_until(lambda: stream not in self.streams)

    async def wait_clients(self, count: int) -> None:
        """Return once so many clients are connected, no more and no fewer."""
        await self._wait_until(lambda: len(self._clients) == count)

    # --- time ---------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Send what falls due, for as long as the exchange is open."""
        loop = asyncio.get_running_loop()
        while True:
            now_ns = self.now_ns
            due_ns = self._due_ns()
            # An unhurried recording is due at once all the time: that is not lag.
            if self._is_generated and due_ns is not None and now_ns - due_ns > _MAX_LAG_NS:
                self._offset_ns -= now_ns - due_ns - _MAX_LAG_NS
                now_ns = self._now_ns = due_ns + _MAX_LAG_NS
            if self._pump(now_ns, _BATCHES_PER_TURN):
                await asyncio.sleep(0)
                continue
            await self._open_or_close_doors()
            due_ns = self._due_ns()
            self._wake.clear()
            timer = None
            if due_ns is not None:
                timer = loop.call_later(max(_MIN_WAIT, (due_ns - now_ns) / NS_PER_SECOND), self._wake.set)
            await self._wake.wait()
            if timer is not None:
                timer.cancel()

    def _due_ns(self) -> int | None:
        times = [self._protocol.source.next_ns, self._plan.next_ns, self._refused_until or None]
        return min((due_ns for due_ns in times if due_ns is not None), default=None)

    def _pump(self, until_ns: int, budget: int | None = None) -> bool:
        """Send what is due up to `until_ns`, faults in between. True: the budget of batches ended first."""
        source = self._protocol.source
        while True:
            fault_ns = self._plan.next_ns
            is_last = fault_ns is None or fault_ns > until_ns
            step_ns = until_ns if is_last or fault_ns is None else fault_ns
            for batch in source.poll(step_ns):
                self._deliver(batch)
                if budget is not None:
                    budget -= 1
                    if not budget:
                        return True
            if is_last:
                return False
            for fault in self._plan.take_due(step_ns):
                if isinstance(fault, Disconnect):
                    self._disconnect_all(fault)
                elif isinstance(fault, Refuse):
                    until = step_ns + round(fault.seconds * NS_PER_SECOND)
                    self._refused_until = max(self._refused_until, until)
                else:
                    source.skew_ns = round(fault.seconds * NS_PER_SECOND)

    # --- clients ------------------------------------------------------------------------------------------------------

    def _deliver(self, batch: Batch) -> None:
        self._now_ns = max(self._now_ns, batch.ts_event)
        if batch.messages:
            self._deliver_messages(batch)
        if batch.ending is not None and batch.session in self._clients:
            self._clients[batch.session].end(batch.ending)

    def _deliver_messages(self, batch: Batch) -> None:
        outcome = self._plan.apply(batch.messages, batch.ts_event)
        if batch.session is None:
            for client in list(self._clients.values()):
                self._send_messages(client, outcome.messages)
        elif batch.session in self._clients:
            self._send_messages(self._clients[batch.session], outcome.messages)
        if outcome.disconnect is not None:
            self._disconnect_all(outcome.disconnect)

    def _send_messages(self, client: _Client, messages: list[Message]) -> None:
        encode, all_binary = client.session.encode, client.session.sends_binary
        frames = [
            (_BINARY if all_binary or message.is_binary else _TEXT, payload)
            for message in messages
            if (payload := encode(message)) is not None and not message.is_lost
        ]
        if frames:
            self._send(client, frames)

    def _send(self, client: _Client, frames: list[tuple[int, bytes]]) -> None:
        self.sent_messages += len(frames)
        client.send(frames)
        self._limit_output(client)

    def _limit_output(self, client: _Client) -> None:
        if client.unread > self._max_output and client.session in self._clients:
            self.slow_clients += 1
            client.reset()

    def _disconnect_all(self, fault: Disconnect) -> None:
        for client in list(self._clients.values()):
            if fault.code is None:
                client.reset()
            else:
                client.close(fault.code)

    def _on_connected(self, client: _Client) -> None:
        self._connected.add(client)
        self._clients[client.session] = client
        client.answer(client.session.open(self.told_ns))
        self._on_request()

    def _on_leaving(self, client: _Client) -> None:
        """No more messages for this client."""
        if self._clients.pop(client.session, None) is not None:
            client.session.close()
            self._notify()

    def _on_disconnected(self, client: _Client) -> None:
        self._on_leaving(client)
        self._connected.discard(client)
        self._notify()

    def _on_request(self) -> None:
        self._notify()
        self._wake.set()

    def _on_paused(self, client: _Client) -> None:
        self._protocol.source.pause(client.session)

    def _on_resumed(self, client: _Client) -> None:
        self._protocol.source.resume(client.session)
        if self._real_time:
            self._wake.set()
        else:
            self._pump(self._now_ns)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    # --- doors --------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._reserved is not None:
            listener, self._reserved = self._reserved, None
        else:
            listener = self._bind()
        self._server = await ws_create_server(
            self._admit,
            sock=listener,
            enable_auto_pong=False,
            max_frame_size=_MAX_REQUEST,
            disconnect_on_exception=True,
        )

    def _bind(self) -> socket.socket:
        """Bind the port, for ever the same once it is known."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # Named TCP, or asyncio leaves Nagle's algorithm on, which holds small messages back for 40 ms.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self._host, self._port))
        except OSError:
            bound.close()
            raise
        self._port = bound.getsockname()[1]
        return bound

    async def _open_or_close_doors(self) -> None:
        if self._server is not None and self._now_ns < self._refused_until:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)
            # Bound and not listening: connections are refused, and nobody else gets the port.
            self._reserved = self._bind()
        elif self._server is None and self._now_ns >= self._refused_until:
            self._refused_until = 0
            await self._listen()

    def _answer(self, target: str, body: bytes) -> HttpReply | None:
        """Answer a request to the REST port; None: refused, without an answer."""
        now_ns = self.now_ns
        if now_ns < self._refused_until:
            return None
        if self.on_request is not None:
            self.on_request(target)
        return self._plan.rest(target, now_ns, body)

    def _admit(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        """Answer a request: a client for a WebSocket upgrade, a body for REST."""
        target = request.path.decode("latin-1")
        try:
            urlsplit(target)
        except ValueError as problem:
            return _response(HttpReply(400, str(problem).encode()))
        if request.headers.get("upgrade", "").lower() != "websocket":
            if self.on_request is not None:
                self.on_request(target)
            return _response(self._plan.rest(target, self.now_ns))
        if len(self._connected) >= self._max_clients:
            return _response(HttpReply(503, b"too many connections"))
        try:
            return _Client(self, self._protocol.connect(target))
        except Refused as refused:
            return _response(refused.reply)


class RestServer:
    """A port of its own for REST, where clients have to POST: what picows serves are upgrades, so GET."""

    def __init__(self, answer: Callable[[str, bytes], HttpReply | None]) -> None:
        self.port = 0
        self._answer = answer
        self._runner: web.AppRunner

    async def listen(self, host: str, port: int) -> None:
        """Serve on this port, or on any that is free for 0."""
        app = web.Application(client_max_size=_MAX_REQUEST)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GOODBYE_TIMEOUT)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        reply = self._answer(request.raw_path, await request.read())
        if reply is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


def _monotonic_ns() -> int:
    """The clock of the event loop, for heartbeats and limits."""
    return round(asyncio.get_running_loop().time() * NS_PER_SECOND)


def _response(reply: HttpReply) -> WSUpgradeResponseWithListener:
    if reply.status == HTTPStatus.OK:
        response = WSUpgradeResponse.create_ok_response(reply.body, reply.headers)
    else:
        response = WSUpgradeResponse.create_error_response(HTTPStatus(reply.status), reply.body, reply.headers)
    return WSUpgradeResponseWithListener(response, None)
