"""Exchanges that speak their real protocols on loopback, from generated order flow or from a recording."""

from feeds.simulator.faults import (
    AnyFault,
    Disconnect,
    Duplicate,
    Gap,
    Malformed,
    MissingField,
    Mute,
    NewField,
    Refuse,
    RefuseSubscription,
    Reorder,
    RestLimit,
    SequenceReset,
    StaleSnapshot,
    UnknownEnum,
    UnknownEvent,
    UnknownSymbol,
    WrongChecksum,
)
from feeds.simulator.order_flow import FlowConfig, OrderFlow
from feeds.simulator.playback import Playback, PlaybackError
from feeds.simulator.protocol import SimulatorError
from feeds.simulator.recorded import RecordedExchange
from feeds.simulator.server import SimulatedExchange

__all__ = [
    "AnyFault",
    "Disconnect",
    "Duplicate",
    "FlowConfig",
    "Gap",
    "Malformed",
    "MissingField",
    "Mute",
    "NewField",
    "OrderFlow",
    "Playback",
    "PlaybackError",
    "RecordedExchange",
    "Refuse",
    "RefuseSubscription",
    "Reorder",
    "RestLimit",
    "SequenceReset",
    "SimulatedExchange",
    "SimulatorError",
    "StaleSnapshot",
    "UnknownEnum",
    "UnknownEvent",
    "UnknownSymbol",
    "WrongChecksum",
]
