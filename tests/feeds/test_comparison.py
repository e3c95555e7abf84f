"""Where two replays part: the first event that differs, with what came before."""

from __future__ import annotations

import dataclasses
import gzip
from decimal import Decimal
from pathlib import Path

import pytest

from feeds.comparison import Comparison, Playing, SeenEvent, compare
from feeds.events import BookDelta
from feeds.recording import NotARecording, open_recording
from feeds.recording.copying import copy_recording
from tests.feeds.messages import book_ticker, depth, snapshot, trade
from tests.feeds.sinks.following import an_instrument, every_kind

USDM = "binance/usdm-btcusdt_20240808.gz"
PAYLOADS = [
    depth(9, 11, [("100.5", "1")]),
    snapshot(10, [("100", "1"), ("99", "1")], [("101", "1")]),
    trade("101", "0.25", t=1),
    depth(12, 12, [("99", "2"), ("98", "1")]),
    book_ticker("100.5", "101", u=12),
    trade("101", "0.5", t=2),
]


def collected(path: Path, payloads: list[bytes], *, late: int = 0) -> Path:
    path.write_bytes(b"".join(b"%d %s\n" % (1000 + number + late, text) for number, text in enumerate(payloads)))
    return path


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return collected(tmp_path / "ours", PAYLOADS)


def changed(tmp_path: Path, place: int, payload: bytes | None, *, late: int = 0) -> Path:
    payloads = list(PAYLOADS)
    payloads[place : place + 1] = [] if payload is None else [payload]
    return collected(tmp_path / "theirs", payloads, late=late)


def differences(found: Comparison) -> list[tuple[str, str, str]]:
    assert found.first is not None
    assert found.second is not None
    return found.first.differences(found.second)


def test_equal_recordings_are_equal_whatever_their_format(ours: Path, tmp_path: Path) -> None:
    with open_recording(ours) as source:
        copy_recording(source, tmp_path / "native.feeds")
    found = compare(Playing(ours), Playing(tmp_path / "native.feeds"))
    assert found.is_equal
    # first message, delta, snapshot, LIVE, update, trade, delta, update, quote, trade
    assert found.equal == 10
    assert [str(event).split()[0] for event in found.before] == ["BookUpdate", "Quote", "Trade"]


@pytest.mark.parametrize(
    ("place", "payload", "equal", "expected"),
    [
        (2, trade("101", "0.26", t=1), 5, [("qty", "0.25", "0.26")]),
        (2, trade("101", "0.25", t=1, m=True), 5, [("side", "BUY", "SELL")]),
        (3, depth(12, 12, [("99", "2"), ("97", "1")]), 6, [("bids[1]", "98.0 1.00", "97.0 1.00")]),
        (3, depth(12, 12, [("99", "2")]), 6, [("bids[1]", "98.0 1.00", "None")]),
        (4, book_ticker("100.5", "101", u=13), 8, [("sequence", "12", "13")]),
    ],
)
def test_a_changed_message_is_named_with_what_differs(
    place: int, payload: bytes, equal: int, expected: list[tuple[str, str, str]], ours: Path, tmp_path: Path
) -> None:
    found = compare(Playing(ours), Playing(changed(tmp_path, place, payload)))
    assert not found.is_equal
    assert found.equal == equal
    assert differences(found) == expected
    assert len(found.before) == 3
    assert found.first is not None
    assert (found.first.raw_symbol, found.first.ts_recv) == ("BTCUSDT", 1000 + place)


def test_equal_numbers_may_be_written_with_other_decimals(ours: Path, tmp_path: Path) -> None:
    assert compare(Playing(ours), Playing(changed(tmp_path, 2, trade("101.000", "0.2500", t=1)))).is_equal


@pytest.mark.parametrize("swapped", [False, True])
def test_a_message_missing_at_the_end_is_seen_from_either_side(swapped: bool, ours: Path, tmp_path: Path) -> None:
    theirs = changed(tmp_path, 5, None)
    first, second = (theirs, ours) if swapped else (ours, theirs)
    found = compare(Playing(first), Playing(second))
    more, none = (found.second, found.first) if swapped else (found.first, found.second)
    assert none is None
    assert more is not None
    assert (more.kind, more.values["id"]) == ("Trade", "2")
    assert found.equal == 9


def test_a_message_missing_in_the_middle_shows_what_stands_in_its_place(ours: Path, tmp_path: Path) -> None:
    found = compare(Playing(ours), Playing(changed(tmp_path, 2, None)))
    assert differences(found)[0] == ("kind", "Trade", "BookDelta")


def test_receive_times_are_compared_unless_told_otherwise(ours: Path, tmp_path: Path) -> None:
    theirs = changed(tmp_path, 5, PAYLOADS[5], late=7)
    found = compare(Playing(ours), Playing(theirs))
    assert (found.equal, differences(found)) == (0, [("ts_recv", "1000", "1007")])
    assert found.before == []
    assert compare(Playing(ours), Playing(theirs), ignore_ts_recv=True).is_equal


@pytest.mark.parametrize("context", [0, 1, 100])
def test_the_context_is_as_long_as_wanted(context: int, ours: Path, tmp_path: Path) -> None:
    found = compare(Playing(ours), Playing(changed(tmp_path, 5, None)), context=context)
    assert len(found.before) == min(context, 9)


def test_policies_are_those_of_each_side(ours: Path) -> None:
    assert compare(Playing(ours, "batch"), Playing(ours, "drained")).is_equal
    found = compare(Playing(ours, "none"), Playing(ours, "batch"))
    assert found.is_equal, "every message is a batch here"
    with pytest.raises(ValueError, match="expected a conflation policy"):
        compare(Playing(ours, "some"), Playing(ours))


def test_the_reference_engine_has_the_same_events_over_a_capture(captures: Path, tmp_path: Path) -> None:
    with gzip.open(captures / USDM) as file:
        (tmp_path / "beginning").write_bytes(b"".join(file.readline() for _ in range(30_000)))
    seen: list[int] = []
    found = compare(
        Playing(tmp_path / "beginning"),
        Playing(tmp_path / "beginning", reference=True),
        progress=lambda source: seen.append(source.bytes_read),
    )
    assert found.is_equal
    assert found.equal > 30_000
    assert len(seen) == 1


def test_damage_is_told(ours: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(ours.read_bytes() + b"nonsense\n")
    [damage] = compare(Playing(ours), Playing(damaged)).damages
    assert damage.startswith(f"{damaged}: line 7 ")
    assert "malformed line" in damage


def test_what_cannot_be_read_is_an_error(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing of ours")
    with pytest.raises(NotARecording):
        compare(Playing(ours), Playing(tmp_path / "text"))


def test_every_kind_of_event_is_compared_whole() -> None:
    for event in every_kind(an_instrument()):
        seen = SeenEvent.of(event)
        assert seen == SeenEvent.of(event)
        assert seen.differences(seen) == []
        assert type(event).__name__ in str(seen)
        for name in seen.values:
            other = dataclasses.replace(seen, values=seen.values | {name: [Decimal(7)]})
            assert [difference[0].partition("[")[0] for difference in other.differences(seen)] == [name]


def test_an_event_reads_as_numbers() -> None:
    delta = BookDelta(
        an_instrument(), bids=[("1.25", 1), (1, 0)], asks=[("2", "0.001")], last_id=7, ts_event=3, ts_recv=4
    )
    assert str(SeenEvent.of(delta)) == (
        "BookDelta binance BTCUSDT ts_event=3 ts_recv=4 is_snapshot=False depth=0 first_id=-1 last_id=7 previous_id=-1 "
        "starts_over=False window=0 checksum=-1 merged=1 bids=2 levels asks=2.00 0.001"
    )
