"""One connection of a line: connects, subscribes, beats, watches for silence, and comes back when it is lost."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING

from feeds.errors import DecodeError, FetchError
from feeds.exchange import ConnectionPlan, Exchange, Heartbeat
from feeds.live.arbiter import Arbiter
from feeds.live.backoff import Backoff
from feeds.live.http import retry_after
from feeds.live.limits import Budget
from feeds.live.liveness import Liveness
from feeds.live.receiver import Receiver
from feeds.pipeline import Pipeline
from picows import WSError, WSHandshakeError, ws_connect

if TYPE_CHECKING:
    from feeds.live.feed import Line

__all__ = ["Leg"]

GREETING_POLL = 0.01  # seconds
PATIENCE = 5.0  # seconds for which a connection waits that has used up its messages; for more it is made anew


class Leg:
    """One of the connections of a line, with the same subscriptions as the others."""

    def __init__(self, line: Line, number: int, arbiter: Arbiter | None, ssl_context: ssl.SSLContext | None) -> None:
        config = line.config
        self.number = number  # to the arbiter
        self.receiver = Receiver(
            line.pipeline,
            line,
            writer=line.writer,
            max_message_size=config.max_message_size,
            drain_reads=line.drain_reads,
            drain_timeout=config.drain_timeout,
            large_message=config.large_message,
            arbiter=arbiter,
            leg=number,
        )
        self.subscribed: ConnectionPlan | None = None  # the last plan of which all messages have been sent
        self.connected_at = 0.0  # loop time, of the connection in progress or the last one
        self.out_of_step_since = 0.0  # loop time
        self.is_told_joined = False  # and not since that it is behind
        self.is_told_late = False  # that it does not join
        self.joined = asyncio.Event()
        self.is_leaving = False  # it ends for good, or is made again on purpose: nothing is lost by that
        self._is_retired = False
        self._line = line
        self._ssl = ssl_context
        self._replanned = asyncio.Event()
        self._sending = asyncio.Lock()
        self._may_send = 0.0  # loop time
        self._budget = Budget(())  # of the connection in progress
        self._backoff = Backoff(config.backoff)
        self._liveness = Liveness(
            self,
            config.liveness,
            line.activity,
            silence_timeout=config.silence_timeout,
            first_frame=config.first_data_timeout,
            send=self.send_all,
        )
        self._helpers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Connect, serve and reconnect until cancelled or retired, or a handler raises."""
        try:
            while not self._is_retired:
                if not self._line.plan.args:  # wait, without a connection, until there is something to subscribe to
                    await self._replanned.wait()
                    self._replanned.clear()
                    continue
                wait = await self._serve_once()
                if wait and not self._is_retired:
                    await asyncio.sleep(wait)
        finally:
            self._end_helpers()

    def replan(self) -> None:
        """The line has another plan."""
        self._replanned.set()

    def reconnect(self, reason: str) -> None:
        """Make the connection again, at once."""
        self.is_leaving = True
        self.receiver.disconnect(reason)

    def retire(self, task: asyncio.Task[None], reason: str) -> None:
        """End the connection, and `task`, which runs it, for good."""
        self.is_leaving = self._is_retired = True
        if self.receiver.is_connected:
            self.receiver.disconnect(reason)
        else:
            task.cancel()

    @property
    def exchange(self) -> Exchange:
        return self._line.exchange

    @property
    def plan(self) -> ConnectionPlan:
        return self._line.plan

    @property
    def pipeline(self) -> Pipeline:
        return self._line.pipeline

    def tell(self, status: str, reason: str) -> None:
        """Have a status of the line recorded and passed on."""
        self._line.tell(status, reason)

    @property
    def is_primary(self) -> bool:
        """Whether what concerns the line as a whole is this connection's: it is the only one, or the arbiter's."""
        arbiter = self.receiver.arbiter
        return arbiter is None or arbiter.primary == self.number

    async def _serve_once(self) -> float:
        """Connect and serve until the connection ends; return the seconds to wait before the next one."""
        line = self._line
        frames_before = self.receiver.frames
        loop = asyncio.get_running_loop()
        await asyncio.sleep(line.pacer.reserve(loop.time()))
        if not line.is_connected:
            line.watch_first_data(())  # before the first message can come
        self._may_send = 0.0
        self._budget = Budget(line.exchange.message_limits, line.config.limit_share)
        self.subscribed = None
        self.is_leaving = self.is_told_joined = self.is_told_late = False
        # A little early: the first message may come before we are told that the connection stands.
        self.connected_at = self.out_of_step_since = loop.time()
        try:
            transport, _ = await ws_connect(
                lambda: self.receiver,
                await line.address(),
                extra_headers=line.plan.headers or None,
                ssl_context=self._ssl,
                websocket_handshake_timeout=line.config.connect_timeout,
                max_frame_size=line.config.max_message_size,
                read_buffer_init_size=line.config.read_buffer_size,
                read_until_drained=self.receiver.drain_reads,
                kernel_time=line.pipeline.latency is not None and sys.platform == "linux",
                logger_name="feeds",
            )
        except (OSError, WSError, asyncio.TimeoutError, DecodeError, FetchError) as error:
            line.tell("connect_failed", f"{line.url}: {type(error).__name__}: {error}")
            wait = self._backoff.next()
            response = error.response if isinstance(error, WSHandshakeError) else None
            if response is not None and response.status in (418, 429):
                line.pacer.hold(loop.time() + max(wait, retry_after(response.headers)))
            return wait
        line.on_leg_connected(self)
        self._help(self._keep_subscribed(frames_before))
        self._help(self._liveness.watch(transport))
        if line.plan.heartbeat is not None:
            self._help(self._beat(line.plan.heartbeat))
        if line.exchange.max_connection_age is not None:
            self._help(line.replace_in_time(self))
        try:
            await transport.wait_disconnected()
        except (WSError, OSError):
            pass  # the peer broke the protocol or vanished: told as "disconnected", and we come back
        finally:
            self._end_helpers()
            transport.disconnect(False)
            line.on_leg_ended(self)
        if self.receiver.frames > frames_before:
            self._backoff.reset()
        return 0.0 if self.is_leaving else self._backoff.next()

    async def _keep_subscribed(self, frames_before: int) -> None:
        """Subscribe to what is planned, now and whenever the plan changes."""
        line = self._line
        if line.plan.awaits_greeting:
            # Looked for, rather than told by the receiver, which then has nothing more to do per frame. Where none
            # comes, silence ends the connection.
            while self.receiver.frames == frames_before:  # noqa: ASYNC110
                await asyncio.sleep(GREETING_POLL)
        await asyncio.sleep(line.plan.subscribe_after)
        plan = line.plan
        messages: Sequence[bytes | Callable[[int], bytes]] | None = plan.subscribe if plan.args else None
        while messages is not None:
            await self.send_all(messages)
            self.subscribed = plan
            if self.is_primary:
                line.await_first_data()
            while line.plan is plan:
                self._replanned.clear()
                await self._replanned.wait()
            before, plan = plan, line.plan
            messages = line.exchange.change_messages(before, plan) if plan.args else None
            if self.is_primary:
                line.watch_first_data(before.serves)
        what = "the exchange has no message to end subscriptions" if plan.args else "nothing is subscribed any more"
        self.receiver.disconnect(what)

    async def send_all(self, messages: Sequence[bytes | Callable[[int], bytes]]) -> None:
        """Send messages one after the other, with the exchange's interval between them and those before."""
        await self.send_in_turn(lambda: messages)

    async def send_in_turn(self, take: Callable[[], Sequence[bytes | Callable[[int], bytes]]]) -> None:
        """The same with messages that are asked for when all others have been sent.

        Where the exchange takes no more of them on this connection for long, it is made anew, and they are not sent.
        """
        loop = asyncio.get_running_loop()
        async with self._sending:
            for message in take():
                delay = self._budget.delay(1.0, loop.time())
                if delay > PATIENCE:
                    self.reconnect(f"the exchange takes no subscriptions on this connection for {delay:.0f} s")
                    return
                await asyncio.sleep(max(delay, self._may_send - loop.time(), 0.0))
                self._budget.spend(1.0, loop.time())
                self.receiver.send(message if isinstance(message, bytes) else message(time.time_ns()))
                self._may_send = loop.time() + self._line.plan.message_interval

    async def _beat(self, heartbeat: Heartbeat) -> None:
        while True:
            await asyncio.sleep(heartbeat.interval)
            self.receiver.send(heartbeat.message(time.time_ns()))

    def _help(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._helpers.add(task)
        task.add_done_callback(self._helped)

    def _helped(self, task: asyncio.Task[None]) -> None:
        self._helpers.discard(task)
        self._line.on_task_ended(task)

    def _end_helpers(self) -> None:
        for task in self._helpers:
            task.cancel()
