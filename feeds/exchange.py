"""What an exchange module provides, and how one is found by its id."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Sequence_
from itertools import chain
from typing import Any

import msgspec

from feeds.checksum import Checksum
from feeds.decoder import Decoder, Fetch
from feeds.errors import ConfigError, DecodeError, UnknownExchange, excerpt
from feeds.events import EventHandler
from feeds.instrument import Instrument, Instruments
from feeds.sequencing import Sequence
from feeds.subscription import Subscription

__all__ = [
    "ConnectionPlan",
    "Endpoints",
    "Exchange",
    "Heartbeat",
    "Older",
    "RateLimit",
    "Topic",
    "exchange",
    "exchange_ids",
]


class Endpoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an exchange is reached: the addresses to which paths are appended."""

    ws: str  # wss://host[:port]
    rest: str  # https://host[:port]


class Heartbeat(msgspec.Struct, frozen=True):
    """What we send on a connection every `interval` seconds, whether or not messages flow, so that it is kept.

    `payload` is bytes, or makes them of the time (ns since the epoch).
    """

    interval: float
    payload: bytes | Callable[[int], bytes]

    def message(self, ts: int) -> bytes:
        """Return what to send at this time."""
        return self.payload if isinstance(self.payload, bytes) else self.payload(ts)


class ConnectionPlan(msgspec.Struct, frozen=True):
    """One connection: the path to connect to and the messages that subscribe, in order.

    A `path` with a scheme goes where it says. Where connecting needs a `ticket`, it is fetched before each connection,
    and `Exchange.ticket_url` makes the address of the reply.
    """

    path: str
    subscribe: Sequence_[bytes | Callable[[int], bytes]]  # made of the time (ns) where they have to tell it
    streams: list[str]  # for logs and recordings
    message_interval: float = 0.25  # seconds between messages that we send
    heartbeat: Heartbeat | None = None
    headers: dict[str, str] = {}  # of the upgrade request
    ticket: Fetch | None = None
    awaits_greeting: bool = False  # subscribe when the exchange has sent something
    subscribe_after: float = 0.0  # seconds, after that
    serves: Sequence_[tuple[str, str]] = ()  # (raw symbol, channel), each that one of the streams is a part of
    args: Sequence_[Any] = ()  # of the topics that are subscribed
    topic_path: str = ""  # their path


class RateLimit(msgspec.Struct, frozen=True):
    """How much an exchange allows to one address: so much weight in any window of so many seconds."""

    weight: float
    window: float


class Topic(msgspec.Struct, frozen=True):
    """What is subscribed for one channel of one instrument: `arg` goes into a message, on a connection to `path`."""

    path: str
    arg: Any


class Older(msgspec.Struct, frozen=True):
    """A protocol that `exchange` describes and that was spoken before today's.

    It is meant where a connection's address matches `url`; where the address is not known, before `until` (ns).
    """

    exchange: Exchange
    until: int
    url: re.Pattern[str]

    def was_spoken(self, url: str, ts: int) -> bool:
        """Whether a connection to `url` ("" = unknown) at this time (ns, 0 = unknown) spoke it."""
        return bool(self.url.search(url)) if url else 0 < ts < self.until


class Exchange:
    """One exchange, as a module of `feeds.exchanges` describes it in an object named `EXCHANGE`.

    A subclass sets the attributes and implements `topics`, `subscribe_message`, `list_instruments` and
    `add_instrument`; what else differs it overrides. `feeds/exchanges/README.md` leads through it.
    """

    id: str
    endpoints: Endpoints
    channels: Sequence_[str]  # of feeds.subscription.CHANNELS
    decoder: type[Decoder]
    new_sequence: Callable[[], Sequence] = Sequence
    checksum: Checksum | None = None
    # Paths of the requests whose replies list the instruments, or Fetches (POST).
    instruments_urls: Sequence_[str | Fetch] = ()
    heartbeat: Heartbeat | None = None
    message_interval = 0.25  # seconds between messages that we send
    message_limits: Sequence_[RateLimit] = ()  # of a connection, of messages that subscribe and unsubscribe, weight 1
    # Seconds at least between subscriptions of one book anew, of which the first is made at once.
    resubscribe_interval = 0.0
    # Seconds between snapshots of one book that a live feed asks for though it is LIVE, where the exchange's messages
    # have nothing that shows a loss. None: they have, or the exchange repeats its snapshots itself.
    resnapshot_interval: float | None = None
    max_topics_per_connection = 100
    max_topics_per_message = 50
    max_connections: int | None = None  # at the same time, from one address; None: more than a feed needs
    request_limits: Sequence_[RateLimit] = ()  # of REST
    connection_limits: Sequence_[RateLimit] = ()  # of attempts to connect, each of weight 1
    max_connection_age: float | None = None  # seconds, after which the exchange ends a connection; None: it does not
    # Why copies of a message that come on two connections cannot be told: then there are no redundant lines, and a
    # connection that is too old is lost before another is made. None: they are equal byte for byte.
    copies_differ: str | None = "whether messages are the same on every connection has not been tested"
    # The beginnings of messages that concern one connection alone (* stands for anything): acknowledgements, refusals,
    # heartbeats; and of those with which a book begins in the stream. Needed where copies can be told.
    answers: Sequence_[bytes] = ()
    opening_snapshots: Sequence_[bytes] = ()
    subscriptions_replace = False  # a message that subscribes ends all subscriptions before it
    older: Sequence_[Older] = ()
    # What an address of the exchange, WebSocket or REST, looks like: for recordings that have addresses.
    urls: re.Pattern[str] | None = None
    # What a message of the exchange looks like, and of no other's: for recordings that have none.
    messages: re.Pattern[bytes] | None = None

    # --- decoding -------------------------------------------------------------------------------

    def new_decoder(self, instruments: Instruments, downstream: EventHandler, *, reference: bool = False) -> Decoder:
        """Return a decoder for one connection."""
        return self.decoder(instruments, downstream, exchange=self.id, reference=reference)

    def spoken(self, url: str, ts: int) -> Exchange:
        """Return the exchange as it spoke on a connection to `url` ("" = unknown) at a time (ns, 0 = now)."""
        return next((older.exchange for older in self.older if older.was_spoken(url, ts)), self)

    def reply_tag(self, url: str) -> str | None:
        """Return the tag under which the decoder takes the reply to a GET of this URL; None: it is no snapshot.

        For recordings that have replies with their addresses.
        """
        return None

    def request_weight(self, url: str) -> float:
        """Return how much of `request_limits` a request to this URL takes."""
        return 1.0

    # --- instruments ----------------------------------------------------------------------------

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        """Return the entries of a reply that lists instruments; msgspec.DecodeError where it is none."""
        raise NotImplementedError(f"{self.id}: instruments cannot be listed")

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        """Add one entry; ValueError where it is not as it should be. Entries without a market may be left out."""
        raise NotImplementedError(f"{self.id}: instruments cannot be listed")

    def next_page(self, url: str, payload: bytes) -> str | None:
        """Return the URL of the list's next page, None where the reply from `url` is the last."""
        return None

    def load_instruments(self, payload: bytes, instruments: Instruments) -> list[str]:
        """Add what a reply lists; return why entries were skipped. DecodeError where it is not such a reply."""
        skipped = []
        try:
            entries = self.list_instruments(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(
                f"{self.id}: expected a list of instruments: {error}", kind="wrong_type", payload=payload
            ) from None
        for entry in entries:
            try:
                self.add_instrument(entry, instruments)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                # a missing field, a size that is none, a name given twice
                text = bytes(entry) if isinstance(entry, msgspec.Raw) else str(entry).encode()
                skipped.append(f"{self.id} instruments: {error}: {excerpt(text)}")
        return skipped

    # --- subscribing ----------------------------------------------------------------------------

    def topics(self, instrument: Instrument, channel: str) -> Sequence_[Topic]:
        """Return what to subscribe for a channel of an instrument."""
        raise NotImplementedError(f"{self.id}: cannot be subscribed to")

    def subscribe_message(self, path: str, args: Sequence_[Any], number: int) -> bytes:
        """Return the message that subscribes to `args`; `number` counts from 1 on each connection."""
        raise NotImplementedError(f"{self.id}: cannot be subscribed to")

    def subscribe_messages(self, path: str, args: Sequence_[Any]) -> Sequence_[bytes | Callable[[int], bytes]]:
        """Return the messages that subscribe to `args` on one connection."""
        return [
            self.subscribe_message(path, part, number)
            for number, part in enumerate(_parts(args, self.max_topics_per_message), 1)
        ]

    def check_channels(self, subscription: Subscription) -> None:
        """ConfigError where the exchange does not offer a channel that is wanted."""
        for channel in subscription.channels:
            if channel not in self.channels:
                raise ConfigError(f"{self.id}: expected channels among {', '.join(self.channels)}, found {channel!r}")

    def plan(
        self,
        subscriptions: Sequence_[Subscription],
        instruments: Instruments,
        current: Sequence_[ConnectionPlan] = (),
    ) -> list[ConnectionPlan]:
        """Return connections that serve the subscriptions within the exchange's limits; UnknownSymbol, ConfigError.

        Those that there are stand first, in their order: the same object where nothing changes, without what is not
        wanted any more, with what is new as far as there is room. One that has nothing left has no `args`.
        """
        wanted = self._wanted_topics(subscriptions, instruments)
        keys = [[key for arg in plan.args if (key := (plan.topic_path, _key(arg))) in wanted] for plan in current]
        paths = [plan.topic_path for plan in current]
        planned = set(chain(*keys))
        for key in wanted:
            if key in planned:
                continue
            with_room = (
                number
                for number, path in enumerate(paths)
                if path == key[0] and len(keys[number]) < self.max_topics_per_connection
            )
            number = next(with_room, len(paths))
            if number == len(paths):
                paths.append(key[0])
                keys.append([])
            keys[number].append(key)
        if self.max_connections is not None and sum(map(bool, keys)) > self.max_connections:
            raise ConfigError(
                f"{self.id}: expected subscriptions for {self.max_connections} connections, which are as many as the "
                f"exchange allows, with {self.max_topics_per_connection} topics each, found {len(wanted)} topics"
            )
        plans = [self._planned(path, [wanted[key] for key in mine]) for path, mine in zip(paths, keys, strict=True)]
        for number, (plan, before) in enumerate(zip(plans, current, strict=False)):
            if (plan.args, plan.serves) == (before.args, before.serves):
                plans[number] = before
            elif not plan.args:
                plans[number] = msgspec.structs.replace(before, subscribe=(), streams=[], serves=[], args=[])
        return plans

    def _wanted_topics(
        self, subscriptions: Sequence_[Subscription], instruments: Instruments
    ) -> dict[tuple[str, bytes], tuple[Any, list[tuple[str, str]]]]:
        """Return, by path and name, the arg of each topic and what it serves."""
        wanted: dict[tuple[str, bytes], tuple[Any, list[tuple[str, str]]]] = {}
        for subscription in subscriptions:
            instrument = instruments.resolve(self.id, subscription.symbol)
            self.check_channels(subscription)
            for channel in subscription.channels:
                topics = self.topics(instrument, channel)
                if not topics:
                    raise ConfigError(f"{self.id}: {instrument.raw_symbol} has no {channel}")
                for topic in topics:
                    _, serves = wanted.setdefault((topic.path, _key(topic.arg)), (topic.arg, []))
                    serves.append((instrument.raw_symbol, channel))
        return wanted

    def _planned(self, path: str, topics: Sequence_[tuple[Any, list[tuple[str, str]]]]) -> ConnectionPlan:
        args = [arg for arg, _ in topics]
        if not args:
            return ConnectionPlan(path, (), [], topic_path=path, args=[], serves=[])
        serves = list(dict.fromkeys(chain(*(served for _, served in topics))))
        return msgspec.structs.replace(self.connection(path, args), serves=serves, args=args, topic_path=path)

    def unsubscribe_message(self, path: str, args: Sequence_[Any], number: int) -> bytes | None:
        """Return the message that ends the subscription to `args`, None where the exchange has none for them."""
        return None

    def unsubscribe_messages(self, path: str, args: Sequence_[Any]) -> Sequence_[bytes | Callable[[int], bytes]] | None:
        """Return the messages that end the subscriptions to `args`, None where the exchange has none for them."""
        messages = []
        for number, part in enumerate(_parts(args, self.max_topics_per_message), 1):
            message = self.unsubscribe_message(path, part, number)
            if message is None:
                return None
            messages.append(message)
        return messages

    def change_messages(
        self, before: ConnectionPlan, after: ConnectionPlan
    ) -> Sequence_[bytes | Callable[[int], bytes]] | None:
        """Return what to send on a connection that serves one plan so that it serves another.

        None where no message does that: the connection then has to be made anew.
        """
        path = after.topic_path
        if self.subscriptions_replace:
            return self.subscribe_messages(path, after.args)
        removed = [arg for arg in before.args if arg not in after.args]
        ending = self.unsubscribe_messages(path, removed) if removed else ()
        if ending is None:
            return None
        messages = list(ending)
        if added := [arg for arg in after.args if arg not in before.args]:
            # Without what sets up the connection, which has been sent.
            messages += [m for m in self.subscribe_messages(path, added) if m not in before.subscribe]
        return messages

    def connection(self, path: str, args: Sequence_[Any]) -> ConnectionPlan:
        """Return one connection that serves `args`."""
        names = [arg if isinstance(arg, str) else msgspec.json.encode(arg).decode() for arg in args]
        return ConnectionPlan(
            path, self.subscribe_messages(path, args), names, self.message_interval, heartbeat=self.heartbeat
        )

    def ticket_url(self, plan: ConnectionPlan, reply: bytes) -> str:
        """Return the address to connect to, made of the reply to the plan's ticket; DecodeError."""
        raise NotImplementedError(f"{self.id}: connects without a ticket")


def _key(arg: Any) -> bytes:
    return msgspec.json.encode(arg)


def _parts(items: Sequence_[Any], size: int) -> Iterable[list[Any]]:
    return (list(items[at : at + size]) for at in range(0, len(items), size))


def _module_name(exchange_id: str) -> str:
    return exchange_id.replace("-", "_")


def exchange_ids() -> list[str]:
    """Return the ids of the exchanges that are supported, sorted."""
    import feeds.exchanges as package

    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__))


def exchange(exchange_id: str) -> Exchange:
    """Return the exchange of this id; UnknownExchange names those that there are."""
    if exchange_id not in exchange_ids():
        near = difflib.get_close_matches(exchange_id.lower(), exchange_ids(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UnknownExchange(f"expected an exchange among {', '.join(exchange_ids())}, found {exchange_id!r}{hint}")
    found: Exchange = importlib.import_module(f"feeds.exchanges.{_module_name(exchange_id)}").EXCHANGE
    return found


def exchange_of_url(url: str) -> str | None:
    """Return the id of the exchange that an address is of, None where none or several say so."""
    return _only(name for name in exchange_ids() if (urls := exchange(name).urls) is not None and urls.search(url))


def exchange_of_messages(payloads: Iterable[bytes]) -> str | None:
    """Return the id of the exchange whose messages these are, None where none or several recognise one."""
    found = set()
    patterns = {name: pattern for name in exchange_ids() if (pattern := exchange(name).messages) is not None}
    for payload in payloads:
        found |= {name for name, pattern in patterns.items() if pattern.search(payload)}
    return _only(found)


def _only(names: Iterable[str]) -> str | None:
    found = list(names)
    return found[0] if len(found) == 1 else None
