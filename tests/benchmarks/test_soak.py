"""A tiny run of `benchmarks/soak.py`."""

from __future__ import annotations

import argparse

import soak

OPTIONS = argparse.Namespace(
    minutes=0.05,
    symbols=16,
    rate=400.0,
    fault_every=0.5,
    sample_every=0.5,
    slack=0.05,
    stall=50.0,
    seed=1,
    lines=2,
)


async def test_every_book_is_right_after_faults() -> None:
    report, failures = await soak.soak(OPTIONS)
    assert not [failure for failure in failures if "book" in failure]  # the others are figures of this machine
    rows = [line.strip("| ").split(" | ") for line in report.splitlines()]
    for exchange in soak.EXCHANGES:
        (found,) = [cells for cells in rows if cells[0] == exchange]
        assert found[1] == found[-1] == "2"
    (faults,) = [index for index, cells in enumerate(rows) if cells[0] == "fault"]
    assert sum(int(cells[1]) for cells in rows[faults + 2 :]) >= 3


def test_symbols_are_as_the_exchanges_write_them() -> None:
    for exchange in soak.EXCHANGES:
        names = soak.symbols_of(exchange, 200)
        assert len(set(names)) == 200
        assert list(soak.find_simulator(exchange)(names[-2:]).markets) == names[-2:]
