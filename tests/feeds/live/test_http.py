"""The REST client against a server that answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest

from feeds.errors import FetchError
from feeds.exchange import RateLimit
from feeds.live.http import RestClient, RestConfig, address
from feeds.live.limits import Budget
from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener, ws_create_server

Answer = tuple[int, bytes, dict[str, str]]
OK: Answer = (200, b'{"ok":1}', {})
QUICK = RestConfig(retry_wait=0.01, timeout=5.0)


class Paths(list[str]):
    """What a server was asked for; `asked` is set with the first."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()


@asynccontextmanager
async def serving(
    *answers: Answer, config: RestConfig = QUICK, **options: Any
) -> AsyncIterator[tuple[RestClient, Paths]]:
    """A client of a server that gives these answers in order, the last one for ever; the paths it was asked for."""
    paths = Paths()

    def answer(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        status, body, headers = answers[min(len(paths), len(answers) - 1)]
        paths.append(request.path.decode())
        paths.asked.set()
        if status == 200:
            response = WSUpgradeResponse.create_ok_response(body, headers)
        else:
            response = WSUpgradeResponse.create_error_response(HTTPStatus(status), body, headers)
        return WSUpgradeResponseWithListener(response, None)

    server = await ws_create_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with RestClient(f"http://127.0.0.1:{port}/", config, **options) as client:
            yield client, paths
    finally:
        server.close()


@pytest.mark.parametrize(
    ("base", "path", "found"),
    [
        ("https://own.example", "/list?a=1", "https://own.example/list?a=1"),
        ("https://own.example", "https://other.example/list", "https://other.example/list"),
        ("http://127.0.0.1:7/", "/list?a=1", "http://127.0.0.1:7/list?a=1"),
        ("http://127.0.0.1:7", "https://other.example/list?a=1", "http://127.0.0.1:7/other.example/list?a=1"),
        ("http://127.0.0.1:7", "http://127.0.0.1:7/list", "http://127.0.0.1:7/list"),
    ],
)
def test_an_address_that_is_not_the_exchanges_stands_for_all_of_its_hosts(base: str, path: str, found: str) -> None:
    assert address(base, "https://own.example", path) == found


async def test_it_returns_the_body() -> None:
    async with serving(OK) as (client, paths):
        assert await client.get("/api/v3/depth?symbol=BTCUSDT&limit=1000") == b'{"ok":1}'
    assert paths == ["/api/v3/depth?symbol=BTCUSDT&limit=1000"]


async def test_server_errors_are_tried_again() -> None:
    async with serving((503, b"", {}), (500, b"", {}), OK) as (client, paths):
        assert await client.get("/x") == b'{"ok":1}'
    assert len(paths) == 3


async def test_a_refusal_is_final_and_says_what_was_found() -> None:
    async with serving((400, b'{"code":-1121,"msg":"Invalid symbol."}', {})) as (client, paths):
        with pytest.raises(FetchError, match=r"expected status 200, found status 400: .*Invalid symbol"):
            await client.get("/x")
    assert len(paths) == 1


async def test_it_gives_up_after_so_many_attempts() -> None:
    async with serving((502, b"", {}), config=RestConfig(attempts=3, retry_wait=0.01)) as (client, paths):
        with pytest.raises(FetchError, match=r"3 attempts failed, the last with status 502"):
            await client.get("/x")
    assert len(paths) == 3


async def test_retry_after_is_obeyed_by_every_request() -> None:
    loop = asyncio.get_running_loop()
    async with serving((429, b"", {"Retry-After": "0.3"}), OK) as (client, paths):
        began = loop.time()
        first = asyncio.ensure_future(client.get("/first"))
        await paths.asked.wait()
        await client.get("/second")
        await first
        assert loop.time() - began >= 0.29
    assert sorted(paths) == ["/first", "/first", "/second"]


async def test_a_ban_longer_than_we_wait_is_a_failure() -> None:
    async with serving((418, b"", {"Retry-After": "3600"})) as (client, _):
        with pytest.raises(FetchError, match=r"told to wait 3600 s"):
            await client.get("/x")


async def test_a_body_has_a_limit() -> None:
    async with serving((200, b"x" * 1001, {}), config=RestConfig(max_body_size=1000)) as (client, _):
        with pytest.raises(FetchError, match=r"expected at most 1000 bytes, found more"):
            await client.get("/x")
    async with serving((200, b"x" * 1000, {}), config=RestConfig(max_body_size=1000)) as (client, _):
        assert len(await client.get("/x")) == 1000


async def test_nobody_there_is_a_failure_with_the_reason(unused_tcp_port_factory: Callable[[], int]) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port_factory()}"
    async with RestClient(url, RestConfig(attempts=2, retry_wait=0.01)) as client:
        with pytest.raises(FetchError, match=r"2 attempts failed, the last with ClientConnectorError"):
            await client.get("/x")


@pytest.mark.parametrize("options", [{"attempts": 0}, {"timeout": 0}, {"max_concurrent": 0}])
def test_values_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected attempts"):
        RestConfig(**options)


async def test_a_client_says_how_long_it_has_to_wait_and_counts_retries() -> None:
    budget = Budget([RateLimit(4, 3600.0)])
    weight = {"/a": 1.0, "/b": 2.0}.__getitem__
    async with serving((503, b"", {}), OK, budget=budget, weight=weight) as (client, paths):
        assert (client.delay("/a"), client.delay("/b")) == (0, 0)
        await client.get("/a")
        assert paths == ["/a", "/a"]
        assert client.delay("/b") == 0
        await client.get("/b")
        assert client.delay("/a") > 3000


async def test_a_ban_is_known_before_asking() -> None:
    async with serving((418, b"", {"Retry-After": "3600"}), config=RestConfig(max_wait=1e6)) as (client, paths):
        asking = asyncio.ensure_future(client.get("/a"))
        await asyncio.wait_for(paths.asked.wait(), 10)
        while client.delay("/b") == 0:  # noqa: ASYNC110 - the answer is on its way
            await asyncio.sleep(0)
        assert client.delay("/b") > 3000
        asking.cancel()
