"""Requests that say the same of different things, made one: exchanges allow few messages and many topics in each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = ["merge_requests"]

_STAMPS = ("id", "req_id", "time")  # may differ: the first one's stands for all


def merge_requests(messages: Iterable[bytes], limit: int) -> list[bytes]:
    """Return requests that ask for all that `messages` ask for, in their order, in as few messages as can be seen.

    Neighbours become one where they are JSON objects that differ in a single list, whose entries are put together: at
    most `limit` of them. What differs in anything else, or is no object, stays as it is.
    """
    merged: list[bytes] = []
    last: Any = None  # the newest of `merged`, decoded
    for message in messages:
        request = _decode(message)
        together = None if last is None or request is None else _merge(last, request, limit)
        if together is None:
            merged.append(message)
            last = request
        else:
            merged[-1] = msgspec.json.encode(together)
            last = together
    return merged


def _decode(message: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(message, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _merge(one: dict[str, Any], other: dict[str, Any], limit: int) -> dict[str, Any] | None:
    """Return both as one request; None where they differ in more than a list, or in none."""
    if one.keys() != other.keys():
        return None
    differing = [key for key in one if one[key] != other[key] and not (key in _STAMPS and isinstance(one[key], int))]
    if len(differing) != 1:
        return None
    (key,) = differing
    mine, theirs = one[key], other[key]
    if isinstance(mine, dict) and isinstance(theirs, dict):
        inner = _merge(mine, theirs, limit)
        return None if inner is None else one | {key: inner}
    if not (isinstance(mine, list) and isinstance(theirs, list)):
        return None
    entries = mine + [entry for entry in theirs if entry not in mine]
    return one | {key: entries} if len(entries) <= limit else None
