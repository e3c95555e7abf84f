"""A tiny run of `benchmarks/levels.py`: every shape is read, checked against `json`, timed and reported."""

from __future__ import annotations

import argparse
from pathlib import Path

import levels
import pytest
from measuring import default_capture

TINY = argparse.Namespace(rounds=1, passes=1)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = default_capture().parents[1]
    if not folder.is_dir():
        pytest.skip(f"no captures in {folder}: set FEEDS_CAPTURES")
    monkeypatch.setattr(levels, "MAX_LEVELS", 100)
    return folder


def test_every_shape_has_a_row(folder: Path) -> None:
    corpora = [levels.Corpus(shape, folder) for shape in levels.SHAPES]
    for corpus in corpora:
        corpus.check()
        assert 100 <= corpus.levels < 10_000
    figures = levels.run_rounds(corpora, "not built", TINY)
    instructions = {corpus.shape.title: 123.0 for corpus in corpora}
    lines = levels.report(figures, corpora, instructions, "not built", "not pinned").splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) == len(levels.SHAPES)
    for line in rows:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert float(cells[2].replace(",", "")) > 0
        assert float(cells[3].replace(",", "")) > 0
        assert cells[6] == "-"
        assert cells[-1] == "123"
    assert lines[-1] == "Not measured: C++: not built."


def test_a_wrong_reading_ends_the_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = levels.Corpus(levels.SHAPES[0], folder)
    monkeypatch.setattr(levels, "parse_levels", lambda *_: ([(1, 1)], 0, 0))
    with pytest.raises(SystemExit, match=r"found \[\(1, 1\)\]"):
        corpus.check()
