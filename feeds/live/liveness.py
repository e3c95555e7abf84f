"""Whether a connection is alive: its peer by what it answers, its data by what it brings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Protocol

import msgspec

from feeds.book_builder import BookBuilder
from feeds.exchange import ConnectionPlan, Exchange
from feeds.instrument import Instrument
from feeds.live.activity import Activity
from feeds.pipeline import Pipeline
from feeds.subscription import CHANNELS

__all__ = ["Liveness", "LivenessConfig", "new_activity"]

MAX_RENEWED = 20  # subscriptions, after one look


class LivenessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When silence of a connection, or of one of its subscriptions, means that something is wrong; seconds."""

    ping_interval: float = 10.0  # without anything from the peer before we send a WebSocket PING
    pong_timeout: float = 10.0  # then, without a pong or anything else, before we reconnect
    # What brings no data for `factor` times the longest silence of the last `window`, and at least `floor`, is wrong.
    # Where that would exceed `ceiling`, or too little has been seen, the market may be quiet.
    factor: float = 4.0
    window: float = 3600.0
    floor: float = 30.0
    ceiling: float = 300.0
    # Set instead of learned, of the subscriptions of a channel: {"book": 5.0}. Of a whole connection it is
    # `FeedConfig.silence_timeout`.
    stall_timeouts: dict[str, float] = {}
    look_interval: float = 1.0  # between two looks at what has come

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"expected {name} above 0, found {value}")
        if not self.factor > 1:
            raise ValueError(f"expected factor above 1, found {self.factor}")
        for channel, timeout in self.stall_timeouts.items():
            if channel not in CHANNELS or not timeout > 0:
                raise ValueError(
                    f"expected stall_timeouts above 0 of {', '.join(CHANNELS)}, found {channel} = {timeout}"
                )


class Transport(Protocol):
    """What is pinged: a `picows.WSTransport`."""

    def ping_once(self) -> asyncio.Future[Any]:
        """Ping, unless a pong is awaited already; the pong ends the future."""


class Frames(Protocol):
    """What counts frames: a `Receiver`."""

    @property
    def frames(self) -> int:
        """How many frames have come, pings and pongs not among them."""

    def disconnect(self, reason: str) -> None:
        """Close the connection."""


class Connected(Protocol):
    """What is watched: a `Leg` of a live feed's line."""

    @property
    def exchange(self) -> Exchange: ...
    @property
    def plan(self) -> ConnectionPlan: ...
    @property
    def pipeline(self) -> Pipeline: ...
    @property
    def receiver(self) -> Frames:
        """What its frames come to."""

    @property
    def is_primary(self) -> bool:
        """Whether the line's data are looked for on it: of several connections that bring the same, on one."""

    def tell(self, status: str, reason: str) -> None:
        """Have a status recorded and passed on."""


def new_activity(config: LivenessConfig, books: BookBuilder) -> Activity:
    """Return what learns the silences of all that passes through `books`, whichever connections bring it."""
    return Activity(
        books,
        factor=config.factor,
        window=config.window,
        floor=config.floor,
        ceiling=config.ceiling,
        timeouts=config.stall_timeouts,
    )


class Liveness:
    """Watches one connection after the other; what is learned, in `activity`, outlives them.

    Whether the peer is there: when it has sent nothing for `ping_interval` it gets a PING, and when then nothing comes
    for `pong_timeout`, FeedStatus("dead") is told and the connection is made anew.

    Whether data come, of all that is subscribed: a silence beyond what is usual is told as FeedStatus("silent"), and
    the connection is made anew. Where a quiet market would explain it, FeedStatus("quiet") is told once, at `ceiling`,
    and nothing is done. A connection that has brought no frame at all within `first_frame` seconds is made anew, too.
    `silence_timeout`, where it is given, is the only rule instead.

    Whether one subscription brings data, on a connection that does: FeedStatus("stalled") is told, and that one
    subscription is ended and made anew, where the exchange has messages for that.

    Time for which the event loop was held up is not silence: what had arrived then has not been read.
    """

    def __init__(
        self,
        leg: Connected,
        config: LivenessConfig,
        activity: Activity,
        *,
        silence_timeout: float | None,
        first_frame: float,
        send: Callable[[Sequence[bytes | Callable[[int], bytes]]], Awaitable[None]],
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._activity = activity
        self._leg = leg
        self._config = config
        self._silence_timeout = silence_timeout
        self._first_frame = first_frame
        self._send = send
        self._now = now or asyncio.get_running_loop().time
        self._sleep = sleep

    async def watch(self, transport: Transport) -> None:
        """Watch a connection until it is closed for what was found, or the task is cancelled."""
        leg, config, activity = self._leg, self._config, self._activity
        interval = min(config.look_interval, (self._silence_timeout or inf) / 4)
        plan: ConnectionPlan | None = None
        first = frames = leg.receiver.frames
        idle = age = 0.0  # since something came from the peer; since the connection was made
        pong: asyncio.Future[Any] | None = None
        is_quiet = False
        if leg.is_primary:
            activity.restart()
        while True:
            if plan is not leg.plan:
                plan = leg.plan
                activity.serve((self._known(raw_symbol), channel) for raw_symbol, channel in plan.serves)
            began = self._now()
            await self._sleep(interval)
            elapsed = min(self._now() - began, 2 * interval)
            age += elapsed
            idle += elapsed
            if leg.receiver.frames != frames or (pong is not None and pong.done()):
                frames, idle, pong = leg.receiver.frames, 0.0, None
            elif pong is None and idle >= config.ping_interval:
                pong = transport.ping_once()
            elif pong is not None and idle >= config.ping_interval + config.pong_timeout:
                return self._reconnect("dead", f"no pong for {idle - config.ping_interval:.1f} s")
            if self._silence_timeout is None and frames == first and age >= self._first_frame:
                return self._reconnect("silent", f"no message for {age:.1f} s, since it was connected")
            if not leg.is_primary:
                continue
            stalled = activity.look(elapsed, MAX_RENEWED)
            silence = activity.silence
            if silence > (self._silence_timeout or activity.threshold):
                activity.gave_up()
                return self._reconnect("silent", f"no data for {silence:.1f} s")
            if silence <= config.ceiling:
                is_quiet = False
            elif not is_quiet and self._silence_timeout is None:
                is_quiet = True
                leg.tell("quiet", f"no data for {silence:.1f} s, which may be the market: the peer is there")
            for instrument, channel, lasted in stalled:
                await self._renew(instrument, channel, lasted)

    def _reconnect(self, status: str, reason: str) -> None:
        self._leg.tell(status, reason)
        self._leg.receiver.disconnect(reason)

    async def _renew(self, instrument: Instrument, channel: str, lasted: float) -> None:
        """Tell that a subscription has stalled, and make it anew."""
        if (instrument.raw_symbol, channel) not in self._leg.plan.serves:  # while others were made anew
            return
        messages = renewal(self._leg.exchange, self._leg.plan, instrument, channel)
        what = "subscribed anew" if messages else "the exchange has no message to subscribe it anew"
        self._leg.tell("stalled", f"{instrument.raw_symbol} {channel}: no data for {lasted:.1f} s; {what}")
        if messages:
            self._activity.renewed((instrument, channel))
            await self._send(messages)

    def _known(self, raw_symbol: str) -> Instrument:
        instrument = self._leg.pipeline.decoder.instruments.known(self._leg.exchange.id, raw_symbol)
        assert instrument is not None  # what is subscribed is known to the decoder
        return instrument


def renewal(
    exchange: Exchange, plan: ConnectionPlan, instrument: Instrument, channel: str
) -> list[bytes | Callable[[int], bytes]]:
    """Return what ends the subscription to a channel of an instrument and makes it anew; nothing where nothing does.

    What shares a topic with it is subscribed anew, too.
    """
    topics = [topic.arg for topic in exchange.topics(instrument, channel)]
    without = msgspec.structs.replace(plan, args=[arg for arg in plan.args if arg not in topics])
    if len(without.args) == len(plan.args):  # not subscribed any more
        return []
    ending = exchange.change_messages(plan, without) if without.args or not exchange.subscriptions_replace else ()
    making = exchange.change_messages(without, plan)
    return [] if ending is None or making is None else [*ending, *making]
