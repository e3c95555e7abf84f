"""The worker drives our client and our server as the orchestrator asks it to."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
from websocket import SOURCES

from tests.benchmarks.websocket_peers.processes import limit_server, started


def worker(*arguments):
    return started(sys.executable, SOURCES / "worker.py", "picows", *arguments)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_our_client_answers_commands(wire, loop):
    async with limit_server(wire) as (server, url), worker("client", "--loop", loop, *wire.client_flags) as client:
        port = url.rpartition(":")[2]
        assert await client.hear() == {"ready": True}
        client.tell(f"echo python 64 0.001 {port}")
        result = await client.hear()
        assert 0 < result["n"] < (await server.hear())["n"]  # the warm-up is no part of it
        assert result["seconds"] > 0
        client.tell(f"burst python 128 0.001 {port}")
        result = await client.hear()
        assert result["n"] == (await server.hear())["n"] > 0
        assert result["cpu_ns"] > 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_our_server_answers_commands(wire, loop):
    async with worker("server", "--loop", loop, *wire.server_flags) as server:
        assert await server.hear() == {"ready": True}
        for command, does in (("echo python 0.001", "echo"), ("burst python 0.001", "flood")):
            server.tell(command)
            port = (await server.hear())["port"]
            async with started(wire.limit, "client", does, port, 128, "0.001", *wire.client_flags) as client:
                other = await client.hear()
            result = await server.hear()
            assert other["n"] > 0
            if does == "flood":
                assert result["n"] == other["n"]


@pytest.fixture(scope="session")
def compiled_listeners(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listeners")
    command = [sys.executable, "-W", "ignore", SOURCES / "worker.py", "picows", "client", "--compile", folder]
    subprocess.run(command, check=True, env=os.environ | {"CFLAGS": "-O0 -g0"}, stdout=subprocess.DEVNULL)
    return folder


@pytest.mark.parametrize("loop", ["uvloop", "busy"])
async def test_compiled_listeners_do_what_those_in_python_do(plain, compiled_listeners, loop):
    arguments = ["client", "--loop", loop, "--compiled", compiled_listeners]
    async with limit_server(plain) as (server, url), worker(*arguments) as client:
        port = url.rpartition(":")[2]
        assert await client.hear() == {"ready": True}
        client.tell(f"echo cython 64 0.001 {port}")
        assert 0 < (await client.hear())["n"] < (await server.hear())["n"]
        client.tell(f"burst cython 128 0.001 {port}")
        assert (await client.hear())["n"] == (await server.hear())["n"] > 0


async def test_what_goes_wrong_is_an_answer(plain):
    async with worker("client") as client:
        await client.hear()
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        client.tell(f"echo python 64 0.001 {port}")
        assert "error" in await client.hear()
