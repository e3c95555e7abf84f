"""What can go wrong in `feeds`, as one small tree.

Market conditions (a gap, a disconnect, a stale book) are events, not exceptions. These are broken promises: of the
caller or of an exchange; those of a file are in `feeds.recording.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from feeds.instrument import Instrument

__all__ = [
    "ConfigError",
    "DecodeError",
    "FeedsError",
    "FetchError",
    "SubscriptionRefused",
    "UnknownExchange",
    "UnknownSymbol",
]

EXCERPT_SIZE = 120  # bytes of a payload that an error message may show
MAX_TEXT = 500  # characters before that


def excerpt(payload: bytes, size: int = EXCERPT_SIZE) -> str:
    """Return the start of `payload` as printable text, with its length when it was cut."""
    text = bytes(payload[:size]).decode("utf-8", "backslashreplace")
    return text if len(payload) <= size else f"{text}... ({len(payload)} bytes)"


def keys_text(payload: bytes) -> str:
    """Return the keys of a JSON object for an error message, which a damaged payload must not prevent."""
    try:
        return str(sorted(msgspec.json.decode(payload, type=dict[str, msgspec.Raw])))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "none that can be read"


class FeedsError(Exception):
    """The root of every exception that `feeds` raises on purpose."""


class ConfigError(FeedsError, ValueError):
    """The caller asked for something that cannot be: an unknown channel, two books of one instrument, a bad value."""


class UnknownExchange(ConfigError):
    """No module in `feeds.exchanges` serves an exchange of that id."""


class UnknownSymbol(ConfigError):
    """The exchange has no such instrument; the message names near matches."""


class SubscriptionRefused(FeedsError):
    """The exchange answered a subscription with an error."""


class FetchError(FeedsError):
    """A REST request failed for good: it was refused, or every retry failed."""


class DecodeError(FeedsError):
    """A message is not what the exchange's protocol promises.

    `kind` is a short stable word ("not_json", "missing_field", "unknown_symbol", "unknown_event", ...) under which the
    pipeline counts it; `payload` is the whole message, of which the text shows an excerpt. `lost` are the instruments
    of which it held a change of the book, as far as it could be read.
    """

    lost: tuple[Instrument, ...] = ()

    def __init__(self, message: str, *, kind: str, payload: bytes = b"") -> None:
        super().__init__(
            message if len(message) <= MAX_TEXT else message[:MAX_TEXT] + "..."
        )  # names come from the peer
        self.kind = kind
        self.payload = payload

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}: {excerpt(self.payload)}" if self.payload else text
