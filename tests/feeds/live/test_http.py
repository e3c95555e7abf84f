"""The REST client against a server that answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.errors import FetchError
from feeds.exchange import RequestLimit
from feeds.live.http import RequestBudget, RestClient, RestConfig, address
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


# --- budgets --------------------------------------------------------------------------------------


def test_a_budget_waits_until_enough_of_its_window_has_passed() -> None:
    budget = RequestBudget([RequestLimit(10, 60.0)])
    for now, weight in ((0.0, 4.0), (20.0, 5.0)):
        assert budget.delay(weight, now) == 0
        budget.spend(weight, now)
    assert budget.delay(1, 30.0) == 0
    assert budget.delay(2, 30.0) == 30.0  # when the first has left the window
    assert budget.delay(6, 30.0) == 50.0  # when the second has
    assert budget.delay(100, 30.0) == 50.0  # more than there ever is: when nothing else counts
    assert budget.delay(6, 80.0) == 0
    assert RequestBudget([]).delay(1e9, 0.0) == 0


def test_every_limit_holds_and_a_share_is_less() -> None:
    budget = RequestBudget([RequestLimit(4, 1.0), RequestLimit(8, 60.0)], share=0.5)
    for now in (0.0, 0.0, 5.0, 5.0):
        assert budget.delay(1, now) == 0
        budget.spend(1, now)
    assert budget.delay(1, 5.0) == 55.0
    assert budget.delay(1, 60.0) == 0


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 30)), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 50)), min_size=1, max_size=3),
)
def test_no_window_ever_has_more_than_its_limit(requests: list[tuple[int, int]], limits: list[tuple[int, int]]) -> None:
    budget = RequestBudget([RequestLimit(most, window) for most, window in limits])
    now, spent = 0.0, []
    for weight, pause in requests:
        now += pause
        now += budget.delay(weight, now)
        assert budget.delay(weight, now) == 0
        budget.spend(weight, now)
        spent.append((now, weight))
    for most, window in limits:
        for end, last in spent:
            assert sum(w for when, w in spent if end - window < when <= end) <= max(most, last)


async def test_a_client_says_how_long_it_has_to_wait_and_counts_retries() -> None:
    budget = {"limits": (RequestLimit(4, 3600.0),), "weight": lambda url: 1.0 if url == "/a" else 2.0}
    async with serving((503, b"", {}), OK, config=RestConfig(retry_wait=0.01, share=1.0), **budget) as (client, paths):
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
