"""What an exchange module provides, and how one is found by its id."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from collections.abc import Sequence as Sequence_
from typing import Protocol

import msgspec

from feeds.decoder import Decoder
from feeds.errors import UnknownExchange
from feeds.events import EventHandler
from feeds.instrument import Instruments
from feeds.sequencing import Sequence
from feeds.subscription import Subscription

__all__ = ["ConnectionPlan", "Endpoints", "Exchange", "exchange", "exchange_ids"]


class Endpoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an exchange is reached: the addresses to which paths are appended."""

    ws: str  # wss://host[:port]
    rest: str  # https://host[:port]


class ConnectionPlan(msgspec.Struct, frozen=True):
    """One connection: the path to connect to and the messages that subscribe, in order."""

    path: str
    subscribe: list[bytes]
    streams: list[str]  # for logs and recordings
    message_interval: float = 0.25  # seconds between messages that we send


class Exchange(Protocol):
    """One exchange as a module of `feeds.exchanges` describes it, in an object named `EXCHANGE`."""

    id: str
    endpoints: Endpoints
    channels: Sequence_[str]
    instruments_url: str
    new_sequence: Callable[[], Sequence]

    def new_decoder(self, instruments: Instruments, downstream: EventHandler, *, reference: bool = False) -> Decoder:
        """Return a decoder for one connection."""

    def load_instruments(self, payload: bytes, instruments: Instruments) -> list[str]:
        """Add what the reply from `instruments_url` lists; return why entries were skipped.

        DecodeError where it is not such a reply.
        """

    def plan(self, subscriptions: Sequence_[Subscription], instruments: Instruments) -> list[ConnectionPlan]:
        """Return connections that serve the subscriptions within the exchange's limits; UnknownSymbol, ConfigError."""


def _module_name(exchange_id: str) -> str:
    return exchange_id.replace("-", "_")


def exchange_ids() -> list[str]:
    """Return the ids of the exchanges that are supported, sorted."""
    import feeds.exchanges as package

    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__))


def exchange(exchange_id: str) -> Exchange:
    """Return the exchange of this id; UnknownExchange names those that there are."""
    if exchange_id not in exchange_ids():
        raise UnknownExchange(f"expected an exchange among {', '.join(exchange_ids())}, found {exchange_id!r}")
    found: Exchange = importlib.import_module(f"feeds.exchanges.{_module_name(exchange_id)}").EXCHANGE
    return found
