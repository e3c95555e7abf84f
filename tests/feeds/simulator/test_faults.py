import json
from typing import Any

import msgspec
import pytest

from feeds.simulator.binance import BinanceSpot
from feeds.simulator.faults import (
    AnyFault,
    Disconnect,
    Duplicate,
    FaultPlan,
    Gap,
    Malformed,
    MissingField,
    Mute,
    NewField,
    Refuse,
    RefuseSubscription,
    Reorder,
    RestLimit,
    SequenceReset,
    StaleSnapshot,
    UnknownEnum,
    UnknownEvent,
    UnknownSymbol,
    WrongChecksum,
)
from feeds.simulator.order_flow import NS_PER_SECOND, FlowConfig
from feeds.simulator.protocol import Kind, Message

DEPTH = "/api/v3/depth?symbol=BTCUSDT"


def make(*faults: AnyFault) -> FaultPlan:
    exchange = BinanceSpot(["BTCUSDT", "ETHUSDT"], flow=FlowConfig(levels=20, warm_up=50))
    return FaultPlan(exchange, faults)


def message(number: int, kind: Kind = "delta", symbol: str = "BTCUSDT") -> Message:
    return Message(
        "a@b", symbol, kind, b'{"s":"%b","U":%d,"u":%d,"b":[["1.10","2"]]}' % (symbol.encode(), number, number)
    )


def numbers(messages: list[Message]) -> list[int]:
    return [json.loads(message.data)["u"] for message in messages if not message.is_lost]


def outcome(plan: FaultPlan, *messages: Message, now: float = 0.0) -> list[Message]:
    return plan.apply(list(messages), round(now * NS_PER_SECOND)).messages


def test_without_faults_a_batch_passes_as_it_is() -> None:
    messages = [message(1), message(2)]
    assert make().apply(messages, 0).messages is messages


def test_a_gap_loses_deltas_of_its_symbol_and_nothing_else() -> None:
    plan = make(Gap("BTCUSDT", count=2))
    batch = [message(1, "trade"), message(2, symbol="ETHUSDT"), message(3), message(4), message(5), message(6, "quote")]
    assert numbers(outcome(plan, *batch)) == [1, 2, 5, 6]
    assert numbers(outcome(plan, message(7))) == [7]


def test_a_fault_waits_for_its_messages_and_its_time() -> None:
    plan = make(Gap("BTCUSDT", after=2, at=10.0))
    assert numbers(outcome(plan, message(1), message(2), message(3), now=9.9)) == [1, 2, 3]
    assert numbers(outcome(plan, message(4), message(5), message(6), now=10.0)) == [4, 5]


def test_a_fault_of_later_counts_from_its_injection() -> None:
    plan = make()
    plan.inject(Gap("BTCUSDT", at=1.0), 5 * NS_PER_SECOND)
    assert numbers(outcome(plan, message(1), now=5.9)) == [1]
    assert numbers(outcome(plan, message(2), now=6.0)) == []


def test_duplicates() -> None:
    assert numbers(outcome(make(Duplicate("BTCUSDT")), message(1, "trade"), message(2), message(3))) == [1, 2, 2, 3]


def test_reordered_deltas_come_behind_the_next_one() -> None:
    plan = make(Reorder("BTCUSDT", count=2))
    batch = [
        message(1),
        message(2, "trade"),
        message(3, symbol="ETHUSDT"),
        message(4),
        message(5),
        message(6),
        message(7),
    ]
    assert numbers(outcome(plan, *batch)) == [2, 3, 4, 1, 6, 5, 7]


def test_numbers_that_begin_anew() -> None:
    (sent,) = outcome(make(SequenceReset("BTCUSDT")), message(90))
    assert sent.data == b'{"s":"BTCUSDT","U":2,"u":3,"b":[["1.10","2"]]}'


def test_a_field_more_and_the_rest_as_it_was() -> None:
    (sent,) = outcome(make(NewField("BTCUSDT")), message(1, "trade"))
    assert json.loads(sent.data) == json.loads(message(1).data) | {"simulated": {"new": [1, None]}}


def test_malformed_messages_are_no_json() -> None:
    (sent,) = outcome(make(Malformed("BTCUSDT")), message(1, "trade"))
    with pytest.raises(json.JSONDecodeError):
        json.loads(sent.data)


def test_a_missing_field_and_the_rest_as_it_was() -> None:
    batch = outcome(make(MissingField("BTCUSDT", "u")), message(1), message(2))
    assert [sent.data for sent in batch] == [
        b'{"s":"BTCUSDT","U":1,"b":[["1.10","2"]]}',
        message(2).data,
    ]


def test_a_field_that_no_message_has_is_waited_for() -> None:
    plan = make(MissingField("BTCUSDT", "pu"))
    assert outcome(plan, message(1)) == [message(1)]


@pytest.mark.parametrize(
    ("fault", "key", "value"), [(UnknownEvent(), "e", "simulatorEvent"), (UnknownSymbol(), "s", "GHOSTUSDT")]
)
def test_strange_messages_come_in_front_and_go_to_all(fault: AnyFault, key: str, value: str) -> None:
    strange, normal = outcome(make(fault), message(1, "trade"))
    assert json.loads(strange.data)[key] == value
    assert strange.to_all
    assert normal == message(1, "trade")


def test_a_disconnect_after_messages_ends_the_batch() -> None:
    fault = Disconnect(after=1, code=1001)
    result = make(fault).apply([message(1), message(2), message(3)], 0)
    assert numbers(result.messages) == [1]
    assert result.disconnect is fault


def test_timed_disconnects_and_refusals_need_no_message() -> None:
    late, early = Disconnect(at=3.0), Refuse(2.0, at=1.0)
    plan = make(late, early)
    assert plan.next_ns == NS_PER_SECOND
    assert plan.take_due(NS_PER_SECOND - 1) == []
    assert plan.take_due(5 * NS_PER_SECOND) == [early, late]
    assert plan.next_ns is None
    assert outcome(plan, message(1)) == [message(1)]


def test_a_mute_exchange_loses_what_it_would_have_sent() -> None:
    plan = make(Mute(2.0, at=1.0))
    assert numbers(outcome(plan, message(1), now=0.9)) == [1]
    assert numbers(outcome(plan, message(2), message(3), now=1.5)) == []
    assert numbers(outcome(plan, message(4), now=2.99)) == []
    assert numbers(outcome(plan, message(5), now=3.0)) == [5]


def test_what_is_lost_while_an_exchange_is_mute_was_numbered() -> None:
    plan = make(Mute(2.0))
    assert [lost.is_lost for lost in outcome(plan, message(1), message(2), now=1.0)] == [True, True]


def test_strikes_are_counted() -> None:
    plan = make(Gap("BTCUSDT", after=1), Disconnect(at=5.0), RestLimit())
    outcome(plan, message(1))
    assert plan.strikes == 0
    outcome(plan, message(2))
    plan.rest(DEPTH, 0)
    plan.take_due(5 * NS_PER_SECOND)
    assert plan.strikes == 3


def test_stale_snapshots_for_so_many_requests() -> None:
    plan = make(StaleSnapshot("BTCUSDT", times=2))
    ids = [json.loads(plan.rest(DEPTH, 0).body)["lastUpdateId"] for _ in range(3)]
    assert ids[0] == ids[1] < ids[2] - 40
    plan = make(StaleSnapshot("ETHUSDT"))
    assert json.loads(plan.rest(DEPTH, 0).body)["lastUpdateId"] == ids[2]


@pytest.mark.parametrize("status", [429, 418])
def test_rest_limits(status: int) -> None:
    plan = make(RestLimit(status, retry_after=7, after=1))
    replies = [plan.rest("/api/v3/ping", 0) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, status, 200]
    assert replies[1].headers["Retry-After"] == "7"
    assert json.loads(replies[1].body)["code"] == -1003


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Gap("NOPE"), r"expected one of \['BTCUSDT', 'ETHUSDT'\], found 'NOPE'"),
        (Gap("BTCUSDT", count=0), "expected a count of at least 1"),
        (Gap("BTCUSDT", after=-1), "at and after not below 0"),
        (Disconnect(code=1006), "expected a close code that may be sent, such as 1001, found 1006"),
        (WrongChecksum("BTCUSDT"), "binance has nothing that WrongChecksum could break"),
        (UnknownEnum("BTCUSDT"), "binance has nothing that UnknownEnum could break"),
        (RefuseSubscription("BTCUSDT"), "binance has nothing that RefuseSubscription could break"),
        (RestLimit(500), "expected status 418 or 429, found 500"),
    ],
)
def test_faults_that_cannot_be(fault: AnyFault, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make(fault)


def test_faults_can_be_written_in_a_file() -> None:
    text: Any = b'[{"type":"Gap","symbol":"BTCUSDT","at":1.5},{"type":"Disconnect","code":1001}]'
    assert msgspec.json.decode(text, type=list[AnyFault]) == [Gap("BTCUSDT", at=1.5), Disconnect(code=1001)]
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"type":"Gap","symbol":"X","cuont":2}', type=AnyFault)
