import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from feeds.conflation import Conflator
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.pipeline import Pipeline
from feeds.testing import EventLog

# Shared, slow machines: no deadlines, and few enough examples that the whole suite stays quick.
settings.register_profile("feeds", deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("feeds")


@pytest.fixture(scope="session")
def captures():
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("FEEDS_CAPTURES", root.parent / "shared" / "captures"))
    if not folder.is_dir():
        pytest.skip(f"no captures in {folder}: set FEEDS_CAPTURES")
    return folder


@pytest.fixture
def instruments():
    return Instruments(infer=True)


@pytest.fixture
def log():
    return EventLog()


def pipeline_of(exchange_id, log, *, conflate=False, instruments=None, **options):
    instruments = Instruments(infer=True) if instruments is None else instruments
    return Pipeline(exchange(exchange_id), instruments, Conflator(log) if conflate else log, **options)


@pytest.fixture
def spot(log):
    return pipeline_of("binance", log)


@pytest.fixture
def futures(log):
    return pipeline_of("binance-futures", log)
