"""Agreeing on permessage-deflate in the opening handshake (RFC 7692 section 7.1): header values in, parameters out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from picows.deflate import Deflater, Inflater

__all__ = ["AgreedDeflate", "WSDeflateConfig", "accept_offer", "check_response", "deflate_config", "offer"]

NAME = "permessage-deflate"

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_EXTENSION = re.compile(rf"[ \t]*({_TOKEN})[ \t]*")
_PARAMETER = re.compile(rf';[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*)?')
_PARAMETERS = frozenset(
    ("server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits", "client_max_window_bits")
)
# Section 7.1.2: no leading zeros.
_WINDOW_BITS: dict[str | None, int] = {str(bits): bits for bits in range(8, 16)}

Parameters = Sequence[tuple[str, str | None]]


@dataclass(frozen=True, kw_only=True)
class WSDeflateConfig:
    """How to compress messages where the peer agrees (RFC 7692).

    threshold -- bytes; a shorter message is sent as it is. A message that is sent in fragments is always compressed.
    max_message_size -- bytes; a compressed message that inflates to more closes the connection with MESSAGE_TOO_BIG.
    level -- 0 (none) to 9 (smallest), -1: the default of zlib.
    memory_level -- 1 to 9; a compressor takes 2 ** (window bits + 2) + 2 ** (memory_level + 9) bytes.
    server_max_window_bits, client_max_window_bits -- 9 to 15; how much that side looks back at when it compresses is at
        most 2 ** bits bytes. The peer is asked for its limit: a server that cannot meet it declines, and nothing is
        compressed; a client that leaves no choice is accepted with 15.
    server_no_context_takeover, client_no_context_takeover -- True: that side begins each message anew: larger messages,
        no memory between them. For the client's side, a client announces it and a server demands it.
    """

    threshold: int = 128
    max_message_size: int = 10 * 1024 * 1024
    level: int = 6
    memory_level: int = 8
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ("threshold", 0, None),
            ("max_message_size", 1, None),
            ("level", -1, 9),
            ("memory_level", 1, 9),
            ("server_max_window_bits", 9, 15),
            ("client_max_window_bits", 9, 15),
        ):
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                limits = f"of at least {low}" if high is None else f"from {low} to {high}"
                raise ValueError(f"expected a {name} {limits}, found {value}")


@dataclass(frozen=True, kw_only=True)
class AgreedDeflate:
    """The parameters that hold for one connection, seen from our side."""

    config: WSDeflateConfig
    is_client_side: bool
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False

    def machines(self) -> tuple[Deflater, Inflater]:
        """What compresses our messages and inflates the peer's."""
        server = (self.server_max_window_bits, not self.server_no_context_takeover)
        client = (self.client_max_window_bits, not self.client_no_context_takeover)
        (our_bits, we_keep), (peer_bits, peer_keeps) = (client, server) if self.is_client_side else (server, client)
        config = self.config
        return (
            Deflater(our_bits, we_keep, config.threshold, config.level, config.memory_level),
            Inflater(peer_bits, peer_keeps, config.max_message_size),
        )


def deflate_config(option: WSDeflateConfig | bool | None) -> WSDeflateConfig | None:
    """The argument `permessage_deflate` of ws_connect() and ws_create_server(): True stands for the defaults."""
    if option is None or option is False:
        return None
    if option is True:
        return WSDeflateConfig()
    if not isinstance(option, WSDeflateConfig):
        raise TypeError(f"expected permessage_deflate to be a bool, None or WSDeflateConfig, found {option!r}")
    return option


def parse_extensions(values: Iterable[str]) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """The extensions of a Sec-WebSocket-Extensions field with their parameters, in order, names in lower case.

    ValueError for what the grammar of RFC 6455 section 9.1 does not allow.
    """
    found: list[tuple[str, list[tuple[str, str | None]]]] = []
    for value in values:
        pos = 0
        while pos < len(value):
            if value[pos] in ", \t":  # a list may have empty elements (RFC 7230 section 7)
                pos += 1
                continue
            match = _EXTENSION.match(value, pos)
            if match is None:
                raise ValueError(f"expected the name of an extension at {value[pos : pos + 40]!r}")
            parameters: list[tuple[str, str | None]] = []
            found.append((match[1].lower(), parameters))
            pos = match.end()
            while (match := _PARAMETER.match(value, pos)) is not None:
                quoted = None if match[3] is None else re.sub(r"\\(.)", r"\1", match[3])
                if quoted is not None and not re.fullmatch(_TOKEN, quoted):
                    raise ValueError(f"expected a token between quotes, found {quoted[:40]!r}")
                parameters.append((match[1].lower(), match[2] if quoted is None else quoted))
                pos = match.end()
            if pos < len(value) and value[pos] != ",":
                raise ValueError(f"expected a parameter or the next extension at {value[pos : pos + 40]!r}")
    return found


def offer(config: WSDeflateConfig) -> str:
    """The Sec-WebSocket-Extensions of a client's request."""
    bits = config.client_max_window_bits
    parts = [NAME]
    if config.server_no_context_takeover:
        parts.append("server_no_context_takeover")
    if config.client_no_context_takeover:
        parts.append("client_no_context_takeover")
    if config.server_max_window_bits < 15:
        parts.append(f"server_max_window_bits={config.server_max_window_bits}")
    # Without a value it says that the server may choose.
    parts.append("client_max_window_bits" if bits == 15 else f"client_max_window_bits={bits}")
    return "; ".join(parts)


def check_response(values: Iterable[str], config: WSDeflateConfig) -> AgreedDeflate | None:
    """What the server's response to our offer() means; None: it declines.

    ValueError for a response that section 7.1 does not allow, on which the client has to fail the connection.
    """
    responses = [parameters for name, parameters in parse_extensions(values) if name == NAME]
    if not responses:
        return None
    if len(responses) > 1:
        raise ValueError(f"expected {NAME} once, found it {len(responses)} times")
    found = _read(responses[0], value_optional=False)
    server_bits = found.server_max_window_bits or 15
    client_bits = found.client_max_window_bits or 15
    if config.server_no_context_takeover and not found.server_no_context_takeover:
        raise ValueError(f"expected {NAME} with server_no_context_takeover, as offered")
    if server_bits > config.server_max_window_bits:
        raise ValueError(f"expected server_max_window_bits up to {config.server_max_window_bits}, found {server_bits}")
    if found.client_max_window_bits is not None and client_bits > config.client_max_window_bits:
        raise ValueError(f"expected client_max_window_bits up to {config.client_max_window_bits}, found {client_bits}")
    return AgreedDeflate(
        config=config,
        is_client_side=True,
        server_max_window_bits=server_bits,
        client_max_window_bits=min(client_bits, config.client_max_window_bits),
        server_no_context_takeover=found.server_no_context_takeover,
        client_no_context_takeover=found.client_no_context_takeover or config.client_no_context_takeover,
    )


def accept_offer(values: Iterable[str], config: WSDeflateConfig) -> tuple[AgreedDeflate, str] | None:
    """Accept the first acceptable offer in a request; also returns the Sec-WebSocket-Extensions of the response.

    None: there is no such offer. One with an unknown, repeated or invalid parameter is declined, as section 7 asks.
    ValueError for a malformed field.
    """
    for name, parameters in parse_extensions(values):
        if name == NAME:
            try:
                offered = _read(parameters, value_optional=True)
            except ValueError:
                continue
            return _accept(offered, config)
    return None


@dataclass(frozen=True)
class _Read:
    """An offer or a response. Bits are None if absent; `lets_server_choose`: it has a client_max_window_bits."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int | None
    client_max_window_bits: int | None
    lets_server_choose: bool


def _read(parameters: Parameters, *, value_optional: bool) -> _Read:
    """ValueError for what section 7.1 does not define; `value_optional`: of client_max_window_bits, in an offer."""
    found: dict[str, str | None] = {}
    for name, value in parameters:
        if name not in _PARAMETERS:
            raise ValueError(f"unknown parameter {name[:40]!r} of {NAME}")
        if name in found:
            raise ValueError(f"expected {name} once, found it again")
        if name.endswith("_takeover"):
            if value is not None:
                raise ValueError(f"expected {name} without a value, found {value[:40]!r}")
        elif value is None and value_optional and name == "client_max_window_bits":
            pass
        elif value not in _WINDOW_BITS:
            raise ValueError(f"expected {name} from 8 to 15, found {None if value is None else value[:40]!r}")
        found[name] = value
    return _Read(
        server_no_context_takeover="server_no_context_takeover" in found,
        client_no_context_takeover="client_no_context_takeover" in found,
        server_max_window_bits=_WINDOW_BITS.get(found.get("server_max_window_bits")),
        client_max_window_bits=_WINDOW_BITS.get(found.get("client_max_window_bits")),
        lets_server_choose="client_max_window_bits" in found,
    )


def _accept(offered: _Read, config: WSDeflateConfig) -> tuple[AgreedDeflate, str]:
    agreed = AgreedDeflate(
        config=config,
        is_client_side=False,
        server_max_window_bits=min(offered.server_max_window_bits or 15, config.server_max_window_bits),
        # Section 7.1.2.2: only a client that has offered it may be told a window.
        client_max_window_bits=(
            min(offered.client_max_window_bits or 15, config.client_max_window_bits)
            if offered.lets_server_choose
            else 15
        ),
        server_no_context_takeover=offered.server_no_context_takeover or config.server_no_context_takeover,
        client_no_context_takeover=offered.client_no_context_takeover or config.client_no_context_takeover,
    )
    parts = [NAME]
    if agreed.server_no_context_takeover:
        parts.append("server_no_context_takeover")
    if agreed.client_no_context_takeover:
        parts.append("client_no_context_takeover")
    if offered.server_max_window_bits is not None or agreed.server_max_window_bits < 15:
        parts.append(f"server_max_window_bits={agreed.server_max_window_bits}")
    if agreed.client_max_window_bits < 15:
        parts.append(f"client_max_window_bits={agreed.client_max_window_bits}")
    return agreed, "; ".join(parts)
