from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import uvloop


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test that talks to an event loop talks to both that we support."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
