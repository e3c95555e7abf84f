"""Ending tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["cancel_all"]


async def cancel_all(tasks: Iterable[asyncio.Future[Any]], *, patience: float = 0.1) -> None:
    """Cancel tasks, and return when all have ended, however they did.

    A cancellation can be lost: up to Python 3.11 `asyncio.wait_for` drops one that comes together with its result. So
    who has not ended after `patience` seconds is cancelled once more; tasks that end others need more of it.
    """
    every = set(tasks)
    pending = {task for task in every if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=patience)
    for task in every:
        if not task.cancelled():
            task.exception()  # seen by whoever it concerns
