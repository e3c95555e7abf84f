"""What a test module of an exchange gives the contract suite, and helpers to decode messages and captures."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import dataclass, field
from pathlib import Path

from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.pipeline import Pipeline
from feeds.recording import open_recording
from feeds.replay import Replay
from feeds.testing import EventLog

NOW = 1_790_000_000_000_000_000  # ns: September 2026


@dataclass(frozen=True)
class Samples:
    """Messages of one exchange, as it speaks today, or with `url` and `ts` as it spoke there and then.

    `messages` are a session in order, by names that say what they are: after them no book has a gap. `replies` are
    (tag, payload) of REST. `instruments` are replies of `instruments_urls`, one that lists what the messages are about.
    `captures` are files of the captures whose messages must all be understood.
    """

    exchange: str
    messages: dict[str, bytes]
    replies: list[tuple[str, bytes]] = field(default_factory=list)
    instruments: list[bytes] = field(default_factory=list)
    captures: tuple[str, ...] = ()
    url: str = ""
    ts: int = NOW

    def pipeline(self, log: EventLog, instruments: Instruments | None = None) -> Pipeline:
        """Return a new pipeline for the messages."""
        instruments = Instruments(infer=True) if instruments is None else instruments
        return Pipeline(exchange(self.exchange).spoken(self.url, self.ts), instruments, log)

    def __str__(self) -> str:
        return f"{self.exchange}{' ' + self.url if self.url else ''}"


def also(reply: bytes, like: str, *renamings: dict[str, str]) -> bytes:
    """Return a list of instruments with copies of the entry that holds the text `like`, each with texts replaced."""
    entry = re.search(rb'("[^"]*": )?\{[^{}]*"%s"([^{}]|\{[^{}]*\})*\}' % re.escape(like.encode()), reply)
    assert entry is not None, f"no entry with {like!r}"
    copies = [entry[0]]
    for renaming in renamings:
        copy = entry[0]
        for old, new in renaming.items():
            copy = copy.replace(old.encode(), new.encode())
        copies.append(copy)
    return reply[: entry.start()] + b",".join(copies) + reply[entry.end() :]


def all_samples() -> list[Samples]:
    """Return the `SAMPLES` of all modules here."""
    import tests.feeds.exchanges as package

    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name.startswith("test_")]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names if name != "test_contract"]
    return [samples for module in modules for samples in getattr(module, "SAMPLES", [])]


def decoded(
    exchange_id: str, *messages: bytes, url: str = "", ts: int = NOW, instruments: Instruments | None = None
) -> EventLog:
    """Return what a decoder, without books, makes of messages that all are good."""
    log = EventLog()
    spoken = exchange(exchange_id).spoken(url, ts)
    decoder = spoken.new_decoder(Instruments(infer=True) if instruments is None else instruments, log)
    for message in messages:
        decoder.decode(message, ts)
    return log


def replayed(captures: Path, name: str, handler: EventLog | None = None) -> tuple[EventLog, Replay]:
    """Replay a file of the captures of exchanges; nothing in it may be malformed."""
    log = EventLog() if handler is None else handler
    with open_recording(captures / "exchanges" / f"{name}.gz") as source:
        replay = Replay(source, log)
        replay.run()
        assert source.damages == []
    return log, replay


def tops(replay: Replay) -> dict[str, tuple[str, str, str]]:
    """Return per raw symbol (best bid, best ask, levels) of the books at the end, as the reference writes them."""
    found = {}
    for pipeline in replay.pipelines:
        for book in pipeline.books.books:
            sides = [book.exact(side) for side in (0, 1)]
            best = [f"{side[0][0].normalize():f} x {side[0][1].normalize():f}" if side else "empty" for side in sides]
            found[book.instrument.raw_symbol] = (best[0], best[1], f"{len(sides[0])}/{len(sides[1])}")
    return found
