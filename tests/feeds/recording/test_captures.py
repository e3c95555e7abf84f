"""Real traffic: what other software recorded is read completely, and survives our own format."""

import gzip
import os
from collections import Counter
from pathlib import Path

import pytest

from feeds.recording import LAST_IN_BATCH, Kind, RecordingReader, RecordingWriter, open_recording

ROOT = Path(__file__).parents[3]
CAPTURES = Path(os.environ.get("FEEDS_CAPTURES", ROOT / "../shared/captures")) / "binance"

pytestmark = pytest.mark.skipif(not CAPTURES.is_dir(), reason=f"no captures at {CAPTURES} (set FEEDS_CAPTURES)")


@pytest.mark.parametrize(
    ("name", "count", "exchange", "symbol"),
    [
        ("usdm-btcusdt_20240808.gz", 93_954, "binance-futures", "BTCUSDT"),
        ("spot-btcusdt_20240808.gz", 41_249, "binance", "BTCUSDT"),
        ("cm-btcusd_perp_20240808.gz", 48_270, "binance-delivery", "BTCUSD_PERP"),
    ],
)
def test_a_capture_is_read_completely_and_survives_conversion(name, count, exchange, symbol, tmp_path):
    with open_recording(CAPTURES / name, strict=True) as source:
        declaration, *messages = list(source)
        assert source.lines == count
        assert source.bytes_read == source.total_bytes
    assert declaration.kind is Kind.SOURCE
    assert source.sources == {1: {"exchange": exchange, "url": ""}}
    assert Counter(message.flags for message in messages) == {Kind.TEXT | LAST_IN_BATCH: count - 1, Kind.REPLY: 1}
    [reply] = [message for message in messages if message.kind is Kind.REPLY]
    assert reply.tag == symbol
    assert reply.payload.startswith(b'{"lastUpdateId":')

    with gzip.open(CAPTURES / name) as file:
        expected = [line.rstrip(b"\n").split(b" ", 1) for line in file]
    assert [(message.ts_recv, message.payload) for message in messages] == [
        (int(ts_recv), payload) for ts_recv, payload in expected
    ]

    path = tmp_path / "native.rec"
    with RecordingWriter(path, max_pending_blocks=1000, on_full="stop") as writer:
        for message in [declaration, *messages]:
            writer.write(message)
    with RecordingReader(path, strict=True) as reader:
        assert list(reader) == [declaration, *messages]
        assert reader.complete
        assert reader.sources == source.sources
