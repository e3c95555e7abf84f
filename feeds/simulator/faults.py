"""What can go wrong, on request: at a time, after a number of messages, or right now."""

import re
from collections.abc import Sequence

import msgspec

from feeds.simulator.order_flow import NS_PER_SECOND
from feeds.simulator.protocol import ExchangeProtocol, HttpReply, Message


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """When a fault strikes. It concerns the exchange as a whole: all clients see the same."""

    at: float = 0.0  # seconds of exchange time after the start, or after `inject`
    after: int = 0  # so many messages that the fault could have struck pass first


class Gap(Fault, frozen=True):
    """Lose book deltas of a symbol: sequence numbers skip."""

    symbol: str
    count: int = 1


class Duplicate(Fault, frozen=True):
    """Send book deltas of a symbol twice."""

    symbol: str
    count: int = 1


class Malformed(Fault, frozen=True):
    """Cut messages of a symbol off in the middle: not JSON any more."""

    symbol: str
    count: int = 1


class MissingField(Fault, frozen=True):
    """Send book deltas of a symbol without one of their fields."""

    symbol: str
    field: str
    count: int = 1


class Reorder(Fault, frozen=True):
    """Send book deltas of a symbol behind the next one."""

    symbol: str
    count: int = 1


class WrongChecksum(Fault, frozen=True):
    """Send book deltas of a symbol with a checksum that is not the book's."""

    symbol: str
    count: int = 1


class SequenceReset(Fault, frozen=True):
    """Send book deltas of a symbol with numbers that begin anew, as if the exchange had been restarted."""

    symbol: str
    count: int = 1


class NewField(Fault, frozen=True):
    """Send messages of a symbol with a field more than there was."""

    symbol: str
    count: int = 1


class UnknownEnum(Fault, frozen=True):
    """Send trades of a symbol with a word that is not among those that there were."""

    symbol: str
    count: int = 1


class RefuseSubscription(Fault, frozen=True):
    """Refuse subscriptions to a symbol as if it were not listed. Counts subscriptions."""

    symbol: str
    times: int = 1


class UnknownEvent(Fault, frozen=True):
    """Send a well-formed message of a type that nobody knows, in front of the next message."""


class UnknownSymbol(Fault, frozen=True):
    """Send a book delta of a symbol that is not listed, in front of the next message."""


class Disconnect(Fault, frozen=True):
    """Drop every connection, with a close code or by a reset without any goodbye.

    At its time, whether or not there are messages; with `after`, in front of the message behind so many.
    """

    code: int | None = None


class Mute(Fault, frozen=True):
    """Send no data for a while; PINGs, PONGs and answers go on. What would have been sent is lost."""

    seconds: float


class Refuse(Fault, frozen=True):
    """Accept no new connections for a while, neither WebSocket nor REST. Those that stand are kept."""

    seconds: float


class ClockSkew(Fault, frozen=True):
    """Set the exchange's clock, which its messages tell, so far ahead of the true time, or behind it."""

    seconds: float


class StaleSnapshot(Fault, frozen=True):
    """Answer requests for a symbol's book with one that is too old to join any delta. Counts requests."""

    symbol: str
    times: int = 1


class RestLimit(Fault, frozen=True):
    """Answer REST requests with 429 (slow down) or 418 (banned). Counts requests."""

    status: int = 429
    retry_after: int = 1  # seconds, in the Retry-After header
    times: int = 1


AnyFault = (
    Gap
    | Duplicate
    | Malformed
    | MissingField
    | Reorder
    | WrongChecksum
    | SequenceReset
    | NewField
    | UnknownEnum
    | RefuseSubscription
    | UnknownEvent
    | UnknownSymbol
    | Disconnect
    | Mute
    | Refuse
    | ClockSkew
    | StaleSnapshot
    | RestLimit
)


class _Armed:
    """A fault that waits for its time, its messages and its count."""

    __slots__ = ("after", "fault", "from_ns", "held", "left")

    def __init__(self, fault: AnyFault, from_ns: int) -> None:
        self.fault = fault
        self.from_ns = from_ns
        self.after = fault.after
        self.left = int(getattr(fault, "count", getattr(fault, "times", 1)))
        self.held: Message | None = None  # to be sent behind the next one

    def strikes(self) -> bool:
        """Count one occasion; say whether the fault strikes at it."""
        if self.after:
            self.after -= 1
            return False
        self.left -= 1
        return True


class Outcome(msgspec.Struct, gc=False):
    """What is left of a batch."""

    messages: list[Message]
    disconnect: Disconnect | None = None  # after `messages`; the rest of the batch is lost


class FaultPlan:
    """The faults of one simulated exchange. Pure: it is shown messages and requests with their times."""

    def __init__(self, protocol: ExchangeProtocol, faults: Sequence[AnyFault] = (), start_ns: int = 0) -> None:
        """Arm `faults`, counting from `start_ns`.

        ValueError for a symbol that is not listed, a count below one, and what a recording does not have: a stale
        snapshot, another clock, and a message about an unknown symbol where the protocol is whatever was recorded.
        """
        self._protocol = protocol
        protocol.refuses = self.refuses
        self._armed: list[_Armed] = []
        self.strikes = 0  # how often a fault has struck
        self._muted_until = 0
        for fault in faults:
            self.inject(fault, start_ns)

    def inject(self, fault: AnyFault, now_ns: int) -> None:
        """Arm a fault, counting its `at` from `now_ns`. ValueError as in the constructor."""
        symbol = getattr(fault, "symbol", None)
        if symbol is not None and symbol not in self._protocol.markets:
            raise ValueError(f"expected one of {sorted(self._protocol.markets)}, found {symbol!r}")
        armed = _Armed(fault, now_ns + round(fault.at * NS_PER_SECOND))
        if armed.left < 1 or fault.after < 0 or fault.at < 0:
            raise ValueError(f"expected a count of at least 1, at and after not below 0, found {fault}")
        if isinstance(fault, Disconnect) and fault.code is not None and not may_be_sent(fault.code):
            raise ValueError(f"expected a close code that may be sent, such as 1001, found {fault.code}")
        if isinstance(fault, RestLimit) and fault.status not in (418, 429):
            raise ValueError(f"expected status 418 or 429, found {fault.status}")
        # ValueError here rather than when it strikes.
        for kind, field in (
            (WrongChecksum, self._protocol.checksum_field),
            (SequenceReset, self._protocol.sequence_fields),
            (UnknownEnum, self._protocol.enum_field or self._protocol.enum_front),
            (RefuseSubscription, self._protocol.refuses_subscriptions),
        ):
            if isinstance(fault, kind) and not field:
                raise ValueError(f"{self._protocol.name} has nothing that {kind.__name__} could break")
        if isinstance(fault, (StaleSnapshot, ClockSkew)):
            _ = self._protocol.source.flow
        if isinstance(fault, UnknownSymbol):
            self._protocol.unknown_symbol(now_ns)
        self._armed.append(armed)

    @property
    def next_ns(self) -> int | None:
        """When the next fault is due that needs no message to strike."""
        return min((armed.from_ns for armed in self._armed if _strikes_by_itself(armed.fault)), default=None)

    def take_due(self, now_ns: int) -> list[Disconnect | Refuse | ClockSkew]:
        """Remove and return, in the order of their times, the faults that are due and need no message."""
        due = [armed for armed in self._armed if armed.from_ns <= now_ns and _strikes_by_itself(armed.fault)]
        self._armed = [armed for armed in self._armed if armed not in due]
        due.sort(key=lambda armed: armed.from_ns)
        self.strikes += len(due)
        return [armed.fault for armed in due if isinstance(armed.fault, (Disconnect, Refuse, ClockSkew))]

    def apply(self, messages: list[Message], now_ns: int) -> Outcome:
        """Do to a batch what is due."""
        if not self._armed and now_ns >= self._muted_until:
            return Outcome(messages)
        out: list[Message] = []
        for message in messages:
            disconnect = self._strike(message, now_ns, out)
            if disconnect is not None:
                return Outcome(out, disconnect)
        return Outcome(out)

    def refuses(self, symbol: str, told_ns: int) -> bool:
        """Whether a subscription to the symbol is to be refused, at a time of the exchange's clock."""
        now_ns = told_ns - self._protocol.source.skew_ns
        for armed in self._armed:
            fault = armed.fault
            if isinstance(fault, RefuseSubscription) and fault.symbol == symbol and armed.from_ns <= now_ns:
                struck = armed.strikes()
                self.strikes += struck
                self._forget(armed)
                return struck
        return False

    def rest(self, target: str, now_ns: int, body: bytes = b"") -> HttpReply:
        """Answer a REST request, or have it refused or answered wrongly as is due."""
        symbol = self._protocol.snapshot_symbol(target)
        told_ns = now_ns + self._protocol.source.skew_ns
        for armed in self._armed:
            fault = armed.fault
            if armed.from_ns > now_ns:
                continue
            if isinstance(fault, RestLimit) and armed.strikes():
                self.strikes += 1
                self._forget(armed)
                return self._protocol.rest_limit_reply(fault.status, fault.retry_after, told_ns)
            if isinstance(fault, StaleSnapshot) and fault.symbol == symbol and armed.strikes():
                self.strikes += 1
                self._forget(armed)
                return self._protocol.rest(target, told_ns, stale=True)
        return self._protocol.rest(target, told_ns, body=body)

    def _strike(self, message: Message, now_ns: int, out: list[Message]) -> Disconnect | None:
        """Append to `out` what becomes of one message. A disconnect comes in its stead."""
        strange: list[Message] = []
        copies = [message]
        for armed in list(self._armed):
            fault = armed.fault
            if armed.from_ns > now_ns or not self._concerns(fault, message) or not armed.strikes():
                continue
            self.strikes += 1
            if isinstance(fault, Reorder):
                # Out of step with the others: it waits for a second message.
                if armed.held is None:
                    armed.held = message
                    armed.left += 1
                    return None
                copies.append(armed.held)
                armed.held = None
            self._forget(armed)
            if isinstance(fault, Disconnect):
                return fault
            if isinstance(fault, Mute):
                since_ns = now_ns if fault.after else armed.from_ns
                self._muted_until = max(self._muted_until, since_ns + round(fault.seconds * NS_PER_SECOND))
            elif isinstance(fault, Gap):
                copies = [msgspec.structs.replace(copy, is_lost=True) for copy in copies]
            elif isinstance(fault, Duplicate):
                copies *= 2
            elif isinstance(fault, Malformed):
                copies = [_with_data(copy, copy.data[: len(copy.data) * 2 // 3]) for copy in copies]
            elif isinstance(fault, MissingField):
                copies = [_with_data(copy, _without(copy.data, fault.field)) for copy in copies]
            elif isinstance(fault, WrongChecksum):
                copies = [_with_data(copy, self._with_wrong_checksum(copy.data)) for copy in copies]
            elif isinstance(fault, SequenceReset):
                copies = [_with_data(copy, self._with_first_numbers(copy.data)) for copy in copies]
            elif isinstance(fault, NewField):
                copies = [_with_data(copy, copy.data[:-1] + b',"simulated":{"new":[1,null]}}') for copy in copies]
            elif isinstance(fault, UnknownEnum):
                front = self._protocol.enum_front or f'"{self._protocol.enum_field}":'
                word = rf'({front})"[^"]*"'.encode()
                copies = [_with_data(copy, re.sub(word, rb'\1"simulated"', copy.data)) for copy in copies]
            elif isinstance(fault, UnknownEvent):
                strange.append(self._protocol.unknown_event(now_ns + self._protocol.source.skew_ns))
            elif isinstance(fault, UnknownSymbol):
                strange.append(self._protocol.unknown_symbol(now_ns + self._protocol.source.skew_ns))
        if now_ns < self._muted_until:
            copies = [msgspec.structs.replace(copy, is_lost=True) for copy in copies]
            strange.clear()
        out += strange + copies
        return None

    def _concerns(self, fault: AnyFault, message: Message) -> bool:
        """Whether the fault could strike at this message."""
        if isinstance(fault, (Gap, Duplicate, Reorder, SequenceReset)):
            return message.kind == "delta" and message.symbol == fault.symbol
        if isinstance(fault, UnknownEnum):
            return message.kind == "trade" and message.symbol == fault.symbol
        if isinstance(fault, (MissingField, WrongChecksum)):
            field = fault.field if isinstance(fault, MissingField) else self._protocol.checksum_field
            has_field = f'"{field}":'.encode() in message.data
            return message.kind == "delta" and message.symbol == fault.symbol and has_field
        if isinstance(fault, (Malformed, NewField)):
            return message.symbol == fault.symbol
        return isinstance(fault, (UnknownEvent, UnknownSymbol, Mute)) or (
            isinstance(fault, Disconnect) and fault.after > 0
        )

    def _with_wrong_checksum(self, data: bytes) -> bytes:
        field = rf'("{self._protocol.checksum_field}":)(-?\d+)'.encode()
        return re.sub(field, lambda found: b"%b%d" % (found[1], int(found[2]) ^ 1), data)

    def _with_first_numbers(self, data: bytes) -> bytes:
        """Replace the sequence numbers by 2, 3 and so on: 1 would be a restart that says so."""
        for number, name in enumerate(self._protocol.sequence_fields, 2):
            field = rf'("{name}":"?)-?\d+'.encode()
            data = re.sub(field, b"\\g<1>%d" % number, data)
        return data

    def _forget(self, armed: _Armed) -> None:
        if not armed.left:
            self._armed.remove(armed)


def may_be_sent(close_code: int) -> bool:
    """RFC 6455 section 7.4: 1004, 1005, 1006 and 1015 never stand in a CLOSE frame."""
    return 1000 <= close_code < 5000 and close_code not in (1004, 1005, 1006, 1015)


def _strikes_by_itself(fault: AnyFault) -> bool:
    return isinstance(fault, (Refuse, ClockSkew)) or (isinstance(fault, Disconnect) and not fault.after)


def _with_data(message: Message, data: bytes) -> Message:
    return msgspec.structs.replace(message, data=data)


def _without(data: bytes | msgspec.Raw, field: str) -> bytes:
    """Leave a field out wherever it stands; numbers stay as they are written."""
    kind = bytes(data)[:1]
    if kind == b"{":
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        fields.pop(field, None)
        return msgspec.json.encode({name: msgspec.Raw(_without(value, field)) for name, value in fields.items()})
    if kind == b"[":
        return msgspec.json.encode(
            [msgspec.Raw(_without(value, field)) for value in msgspec.json.decode(data, type=list[msgspec.Raw])]
        )
    return bytes(data)
