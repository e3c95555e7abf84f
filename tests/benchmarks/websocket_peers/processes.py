"""Processes that speak JSON by the line."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any


class Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hear(self) -> Any:
        return json.loads(await self._process.stdout.readline())

    def tell(self, line: str) -> None:
        self._process.stdin.write(line.encode() + b"\n")

    async def ended(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and what stands on stderr."""
        self._process.stdin.close()  # communicate() does not, before Python 3.12
        _, errors = await self._process.communicate()
        return self._process.returncode, errors.decode()


@asynccontextmanager
async def started(*command):
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*map(str, command), stdin=pipe, stdout=pipe, stderr=pipe)
    started = Process(process)
    try:
        yield started
    finally:
        if process.returncode is None:
            await started.ended()  # it ends with its stdin


@asynccontextmanager
async def limit_server(wire, *flags):
    """`(process, url)` of the limit program as a server."""
    async with started(wire.limit, "serve", *wire.server_flags, *flags) as process:
        port = (await process.hear())["port"]
        yield process, f"{wire.scheme}://127.0.0.1:{port}"
