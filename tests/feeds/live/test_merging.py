"""Requests put together: fewer messages that ask for the same."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.live.merging import merge_requests


def encode(*requests: object) -> list[bytes]:
    return [msgspec.json.encode(request) for request in requests]


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        # args of OKX and Bybit, of which objects are entries too
        (
            [{"op": "subscribe", "args": [{"channel": "books", "instId": name}]} for name in "AB"],
            [{"op": "subscribe", "args": [{"channel": "books", "instId": "A"}, {"channel": "books", "instId": "B"}]}],
        ),
        # a list one level down
        (
            [{"method": "subscribe", "params": {"channel": "book", "symbol": [name], "depth": 10}} for name in "AB"],
            [{"method": "subscribe", "params": {"channel": "book", "symbol": ["A", "B"], "depth": 10}}],
        ),
        # what only numbers the request, or says when it was made
        (
            [{"time": 1, "id": 1, "payload": ["a"]}, {"time": 2, "id": 2, "payload": ["b"]}],
            [{"time": 1, "id": 1, "payload": ["a", "b"]}],
        ),
        # the same once more
        ([{"args": ["a", "b"]}, {"args": ["b", "c"]}], [{"args": ["a", "b", "c"]}]),
    ],
)
def test_requests_that_differ_in_a_list_become_one(requests: list[object], expected: list[object]) -> None:
    assert [msgspec.json.decode(message) for message in merge_requests(encode(*requests), 100)] == expected


@pytest.mark.parametrize(
    "requests",
    [
        [{"op": "unsubscribe", "args": ["a"]}, {"op": "subscribe", "args": ["a"]}],
        [{"op": "unsubscribe", "args": ["a"]}, {"op": "subscribe", "args": ["b"]}],
        [{"pairs": ["a"], "channels": ["x"]}, {"pairs": ["b"], "channels": ["y"]}],
        [{"depth": 10, "symbol": ["a"]}, {"depth": 25, "symbol": ["b"]}],
        [{"topic": "a"}, {"topic": "b"}],
        [{"id": "a", "symbol": ["a"]}, {"id": "b", "symbol": ["b"]}],
        [{"args": ["a"]}, {"args": ["b"], "id": 1}],
        [{"args": ["a"]}, {"args": {"b": 1}}],
        [{"args": ["a"]}, ["b"]],
        [["a"], ["b"]],
    ],
)
def test_others_stay_as_they_are(requests: list[object]) -> None:
    assert merge_requests(encode(*requests), 100) == encode(*requests)


def test_what_is_no_json_stays_as_it_is() -> None:
    assert merge_requests([b"ping", b"ping", b"\xff"], 100) == [b"ping", b"ping", b"\xff"]


@given(st.lists(st.tuples(st.sampled_from("xy"), st.lists(st.integers(0, 20), max_size=3))), st.integers(3, 8))
def test_nothing_is_lost_and_no_list_is_longer_than_allowed(wanted: list[tuple[str, list[int]]], limit: int) -> None:
    merged = merge_requests(encode(*({"op": op, "args": args} for op, args in wanted)), limit)
    asked: list[tuple[str, int]] = []
    for message in merged:
        request = msgspec.json.decode(message)
        assert len(request["args"]) <= limit
        asked += [(request["op"], arg) for arg in request["args"]]
    # Each that was asked for is, in the order in which it first was.
    assert list(dict.fromkeys(asked)) == list(dict.fromkeys((op, arg) for op, args in wanted for arg in args))
