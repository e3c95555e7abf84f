"""What an exchange or a file of somebody else can bring to `feeds`, each as a function of bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable

import zstandard

from feeds.errors import DecodeError
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.recording import CollectorReader, CryptofeedReader, RawSource, RecordingReader, TardisReader
from feeds.recording.errors import RecordingError
from feeds.recording.format import (
    BLOCK_MESSAGES,
    BLOCK_SEGMENT,
    COMPRESSION_NONE,
    COMPRESSION_ZSTD,
    VERSION,
    BlockHeader,
    FileHeader,
    pack_block_header,
    pack_end,
    pack_file_header,
)
from feeds.testing import EventLog
from tests.feeds.exchanges.samples import NOW
from tests.fuzz.pieces import pieces

SESSION = b"session."
READERS = (CollectorReader, CryptofeedReader, TardisReader)
EXCHANGES = ("binance-futures", "okx", "kraken", "coinbase", "bitfinex", "htx", "deribit", "gemini")


def content(source: RawSource) -> list[tuple[object, ...]]:
    """What is in a recording, with what was said of its damage by then."""
    return [(message, source.damage_count) for message in source]


def read(make: Callable[[], RawSource]) -> tuple[object, ...]:
    """What a recording holds and what is wrong with it, or how it was refused."""
    try:
        with make() as source:
            return content(source), [str(damage) for damage in source.damages], source.lost_bytes
    except RecordingError as exc:
        return type(exc), str(exc)


def recording(data: bytes) -> None:
    """Whatever a writer has put into blocks whose checksums are right, or into none, reading ends, ahead as in turn."""
    metadata = b"{}"
    parts = [pack_file_header(FileHeader(VERSION, len(metadata), SESSION, zlib.crc32(metadata))), metadata]
    sequence = 0
    for flags, piece in pieces(data):
        raw = piece * (600 if flags & 0x40 else 1)
        stored = zstandard.compress(raw) if flags & 1 else raw
        if flags & 2:
            stored = piece  # no frame at all, or one whose size is not the one that is told
        if flags & 0x80:
            parts.append(piece)
            continue
        kind = BLOCK_SEGMENT if flags & 4 else BLOCK_MESSAGES
        compression = COMPRESSION_ZSTD if flags & 3 else COMPRESSION_NONE
        raw_size, count = max(len(raw), len(stored)), flags >> 3 & 3
        checksum = zlib.crc32(stored)
        header = BlockHeader(SESSION, sequence, kind, compression, len(stored), raw_size, count, 0, 0, checksum)
        parts += [pack_block_header(header), stored]
        sequence += flags >> 5 & 1 ^ 1
    file = b"".join(parts) + (pack_end(SESSION, sequence, 0) if len(data) % 2 else b"")
    in_turn = read(lambda: RecordingReader(io.BytesIO(file), read_ahead=False))
    assert read(lambda: RecordingReader(io.BytesIO(file), read_ahead=True)) == in_turn


def archive(data: bytes) -> None:
    """Lines of other software are messages or damage, compressed or not."""
    reader, text = READERS[data[0] % len(READERS) if data else 0], data[1:]

    def make(file: bytes) -> Callable[[], RawSource]:
        return lambda: reader(io.BytesIO(file), exchange="binance")

    plain, compressed = read(make(text)), read(make(gzip.compress(text)))
    assert compressed[0] == plain[0]  # the messages, or the kind of refusal


def messages(data: bytes) -> None:
    """A message is decoded or raises a DecodeError, and the fast engine makes of it what the reference does."""
    spoken = exchange(EXCHANGES[data[0] % len(EXCHANGES) if data else 0]).spoken("", NOW)
    found = []
    for reference in (False, True):
        log = EventLog()
        decoder = spoken.new_decoder(Instruments(infer=True), log, reference=reference)
        errors = []
        for message in data[1:].split(b"\n"):
            try:
                decoder.decode(message, NOW)
            except DecodeError as exc:
                errors.append(exc.kind)
        found.append((errors, [(repr(event), event.ts_event) for event in log.events], repr(decoder.take_requests())))
    assert found[0] == found[1]
