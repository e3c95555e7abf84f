"""The closing handshake: what was exchanged, and what may be sent (RFC 6455 sections 5.5.1 and 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from picows.frame import WSCloseCode
from picows.parser import is_close_code_allowed

__all__ = ["WSCloseHandshake", "WSCloseInfo", "close_payload"]

# A control frame carries 125 bytes, two of which are the code.
MAX_REASON_SIZE = 123


class WSCloseInfo(NamedTuple):
    """One CLOSE frame. `code` is NO_INFO when it carried none."""

    code: WSCloseCode
    reason: str | None


@dataclass
class WSCloseHandshake:
    """The CLOSE frames of a connection: None stands for one that was not received, or not sent."""

    recv: WSCloseInfo | None = None
    sent: WSCloseInfo | None = None
    recv_then_sent: bool = False
    """True if ours was an answer: the peer closed first."""


def close_info(code: int, reason: str | bytes | None) -> WSCloseInfo:
    """The record of one CLOSE frame."""
    text = reason if isinstance(reason, str) or reason is None else bytes(reason).decode()
    return WSCloseInfo(WSCloseCode(code), text or None)


def close_payload(code: int, reason: str | bytes | None) -> bytes:
    """Return the payload of a CLOSE frame.

    Without a code (NO_INFO) it is empty, as section 7.1.5 has it. ValueError for a code that may not be sent, a reason
    without a code, one of more than 123 bytes, or one that is not UTF-8.
    """
    encoded = reason.encode() if isinstance(reason, str) else b"" if reason is None else bytes(reason)
    if code == WSCloseCode.NO_INFO:
        if encoded:
            raise ValueError(f"a CLOSE frame without a code cannot carry the reason {reason!r}")
        return b""
    if not is_close_code_allowed(code):
        raise ValueError(f"expected a close code that RFC 6455 lets an endpoint send, found {int(code)}")
    if len(encoded) > MAX_REASON_SIZE:
        raise ValueError(f"expected a reason of at most {MAX_REASON_SIZE} bytes, found {len(encoded)}")
    encoded.decode()
    return int(code).to_bytes(2, "big") + encoded


def shortened_reason(reason: str) -> str:
    """`reason`, cut between two characters so that it fits into a CLOSE frame."""
    return reason.encode(errors="replace")[:MAX_REASON_SIZE].decode(errors="ignore")
