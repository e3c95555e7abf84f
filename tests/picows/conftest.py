from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import uvloop

from picows.buffer import limit_spare_memory


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test that talks to an event loop talks to both that we support."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def no_spares() -> Iterator[None]:
    """No large buffer of an earlier test is used again, which may be larger than what is asked for."""
    limit_spare_memory(0)
    limit_spare_memory(8 * 1024 * 1024)  # the default
    yield
    limit_spare_memory(8 * 1024 * 1024)
