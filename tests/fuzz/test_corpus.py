"""Every input that the fuzzer has found worth keeping, as an ordinary test."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_holds(name):
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        try:
            TARGETS[name](path.read_bytes())
        except Exception as exc:
            raise AssertionError(f"corpus/{name}/{path.name}") from exc


@pytest.mark.parametrize("name", TARGETS)
@given(st.binary(max_size=300))
def test_any_input_holds(name, data):
    TARGETS[name](data)


def test_there_is_no_corpus_without_a_target():
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
