"""Everything that picows raises of its own: one tree under WSError."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picows.frame import WSCloseCode

if TYPE_CHECKING:
    from picows.handshake import WSUpgradeResponse

__all__ = [
    "WSError",
    "WSHandshakeError",
    "WSInvalidHeaderError",
    "WSInvalidMessageError",
    "WSInvalidStatusError",
    "WSInvalidURL",
    "WSInvalidUpgradeError",
    "WSProtocolError",
    "WSProxyError",
]


class WSError(Exception):
    """Root of what picows raises of its own accord; errors of the operating system are not wrapped in it."""


class WSInvalidURL(WSError):
    """A URL cannot name a WebSocket endpoint (RFC 6455 section 3)."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"{url!r}: {problem}")
        self.url = url


class WSHandshakeError(WSError):
    """The opening handshake failed.

    `raw_header` is the response's header block as received, `raw_body` what followed it (cut at a limit), `response`
    the parsed response. Each is None when the handshake failed before there was one.
    """

    def __init__(
        self,
        description: str,
        raw_header: bytes | None = None,
        raw_body: bytes | None = None,
        response: WSUpgradeResponse | None = None,
    ) -> None:
        super().__init__(description)
        self.raw_header = raw_header
        self.raw_body = raw_body
        self.response = response


class WSInvalidMessageError(WSHandshakeError):
    """The peer did not send well-formed HTTP/1.1, or more of it than allowed."""


class WSInvalidStatusError(WSHandshakeError):
    """The server answered with a status other than 101."""


class WSInvalidHeaderError(WSHandshakeError):
    """The header field `name` is missing (`value` is None) or has a value that RFC 6455 section 4 forbids."""

    def __init__(
        self,
        description: str,
        name: str,
        value: str | None = None,
        raw_header: bytes | None = None,
        raw_body: bytes | None = None,
        response: WSUpgradeResponse | None = None,
    ) -> None:
        super().__init__(description, raw_header, raw_body, response)
        self.name = name
        self.value = value


class WSInvalidUpgradeError(WSInvalidHeaderError):
    """The Upgrade or the Connection header does not switch to WebSocket."""


class WSProxyError(WSError):
    """A proxy refused the way to the server, or does not speak its protocol.

    `code` is what it answered, None if that was nothing of the kind: a status of HTTP, a reply code of SOCKS.
    """

    def __init__(self, description: str, code: int | None = None) -> None:
        super().__init__(description)
        self.code = code


class WSProtocolError(WSError):
    """The peer broke RFC 6455; also raised by a listener to choose the code of the CLOSE frame.

    `args` is `(code, message)`: both go into the CLOSE frame that is sent before the connection is closed.
    """

    def __init__(self, code: WSCloseCode | int, message: str) -> None:
        super().__init__(WSCloseCode(code), message)
        self.code = WSCloseCode(code)
        self.message = message

    def __str__(self) -> str:
        return self.message
