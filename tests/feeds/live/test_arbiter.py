"""The arbiter: what is delivered is the true stream, once and in order, whatever becomes of single connections."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feeds.live.arbiter import MAX_LEGS, Arbiter, Role

GRACE, QUIET = 100, 1000


def arbiter(**options: Any) -> Arbiter:
    given = {"memory": 64, "memory_age": 10_000, "grace": GRACE, "max_held_bytes": 1000}
    return Arbiter(**{**given, **options})


def joined(**options: Any) -> Arbiter:
    """Leg 0 is the primary, leg 1 has joined; it is 1000."""
    found = arbiter(**options)
    assert found.attach(0, 0)
    assert not found.attach(1, 0)
    found.watch(QUIET)
    assert found.is_in_step(1, QUIET, QUIET)
    assert found.join(1, QUIET) == []
    return found


def test_the_first_copy_is_delivered_and_the_second_is_not() -> None:
    found = joined()
    assert [found.take(leg, b"a", QUIET) for leg in (0, 1)] == [True, False]
    assert [found.take(leg, b"b", QUIET) for leg in (1, 0)] == [True, False]
    assert (found.delivered, found.copies) == (2, 2)


def test_messages_that_are_equal_are_told_from_copies_by_their_number() -> None:
    found = joined()
    taken = [found.take(leg, b"same", QUIET) for leg in (0, 0, 1, 1, 1, 0)]
    assert taken == [True, True, False, False, True, False]


def test_a_leg_that_joins_is_only_listened_to() -> None:
    found = arbiter()
    found.attach(0, 0)
    found.attach(1, 0)
    assert found.take(0, b"a", 1)
    assert not found.take(1, b"a", 2)  # a copy
    assert not found.take(1, b"b", 3)  # held
    assert found.take(0, b"b", 4)
    assert found.role(1) == Role.JOINING


def in_step(ahead: int) -> Arbiter:
    """Leg 1 joins, so many messages ahead of leg 0 (or behind it), which has brought 50; it is 490."""
    found = arbiter()
    found.attach(0, 0)
    found.attach(1, 0)
    for number in range(50):
        found.take(0, b"%d" % number, 10 * number)
        if number + ahead >= 0:
            assert not found.take(1, b"%d" % (number + ahead), 10 * number, kind=7)
        found.watch(10 * number)
        assert 10 * number >= 2 * GRACE or not found.is_in_step(1, 10 * number, QUIET)
    assert found.is_in_step(1, 490, QUIET)
    return found


def test_what_it_has_beyond_the_primary_is_delivered_when_it_is_joined() -> None:
    found = in_step(2)
    assert found.join(1, 490) == [(7, b"50"), (7, b"51")]
    assert not found.take(0, b"50", 491)
    assert found.take(1, b"52", 491)


def test_a_leg_that_is_behind_is_joined_too() -> None:
    found = in_step(-3)
    assert found.join(1, 490) == []
    assert not any(found.take(1, b"%d" % number, 491) for number in (47, 48, 49))
    assert found.take(1, b"50", 491)


def test_of_messages_that_are_equal_their_place_tells_when_a_leg_is_joined() -> None:
    found = arbiter()
    found.attach(0, 0)
    found.attach(1, 0)
    found.take(0, b"=", 1)  # was under way when the leg connected, which does not get it
    for number in range(50):
        found.take(0, b"%d" % number, 10 * number + 2)
        for payload in (b"%d" % number, b"="):
            found.take(1, payload, 10 * number + 3)
        found.take(0, b"=", 10 * number + 9)
        found.watch(10 * number + 9)
    for payload in (b"50", b"=", b"51"):
        found.take(1, payload, 501)
    found.take(0, b"50", 502)
    assert found.is_in_step(1, 502, QUIET)
    assert found.join(1, 502) == [(0, b"="), (0, b"51")]
    assert not found.take(0, b"=", 503)


def test_a_leg_without_a_message_that_has_no_equals_is_not_joined() -> None:
    found = arbiter()
    found.attach(0, 0)
    found.attach(1, 0)
    for now in range(0, 500, 10):
        found.take(0, b"=", now)
        found.take(1, b"=", now)
        found.watch(now)
    assert not found.is_in_step(1, 490, QUIET)


def test_on_a_quiet_market_a_leg_is_in_step_after_a_while() -> None:
    found = arbiter()
    found.attach(0, 0)
    found.attach(1, 10)
    assert not found.is_in_step(1, QUIET + 9, QUIET)
    assert found.is_in_step(1, QUIET + 10, QUIET)


def test_a_joined_leg_that_lacks_a_message_joins_anew() -> None:
    found = joined()
    assert found.take(0, b"a", QUIET)
    assert found.watch(QUIET + GRACE - 1) == []
    assert found.watch(QUIET + GRACE) == [1]
    assert found.role(1) == Role.JOINING
    assert "lacked a message" in found.reason(1)


def test_a_message_that_one_leg_alone_has_delays_joining_and_is_let_go() -> None:
    found = arbiter()
    found.attach(0, 0)
    found.attach(1, 0)
    found.take(1, b"backlog", 5)
    now = 5 + 2 * GRACE
    found.watch(now)
    assert "no other connection" in found.reason(1)
    assert not found.is_in_step(1, now + QUIET - 1, QUIET)
    assert found.is_in_step(1, now + QUIET, QUIET)
    assert found.join(1, now + QUIET) == []
    assert found.take(0, b"backlog", 2000)  # another one, that looks the same
    assert not found.take(1, b"backlog", 2001)


def test_what_the_primary_never_brings_is_not_brought_behind_what_it_brings_later() -> None:
    """As the changes between the end of a book's subscription on the primary and the snapshot of the new one."""
    found = in_step(0)
    assert not found.take(1, b"missed", 490)
    assert found.is_in_step(1, 490, QUIET)  # the primary may be about to bring it
    for leg in (0, 1):
        assert found.take(leg, b"later", 495) == (leg == 0)
    assert not found.is_in_step(1, 495, QUIET)
    for number in range(50, 100):
        for leg in (0, 1):
            assert found.take(leg, b"%d" % number, 10 * number) == (leg == 0)
        found.watch(10 * number)
        if found.is_in_step(1, 10 * number, QUIET):
            assert found.join(1, 10 * number) == []
            break
    assert found.role(1) == Role.JOINED


def test_what_the_primary_has_not_brought_within_the_grace_it_will_not_bring() -> None:
    found = in_step(0)
    assert not found.take(1, b"missed", 490)
    assert found.is_in_step(1, 490 + GRACE - 1, QUIET)
    assert not found.is_in_step(1, 490 + GRACE, QUIET)


def test_the_death_of_the_primary_is_nothing_to_the_stream() -> None:
    found = joined()
    assert found.take(0, b"a", QUIET)
    assert not found.detach(0)
    assert found.role(1) == Role.PRIMARY
    assert not found.take(1, b"a", QUIET + 1)
    assert found.take(1, b"b", QUIET + 2)
    assert not found.attach(0, QUIET + 3)  # back, to join


def test_without_a_joined_leg_all_begin_anew() -> None:
    found = arbiter()
    found.attach(0, 0)
    found.attach(1, 0)
    assert found.take(0, b"a", 1)
    assert found.detach(0)
    assert [found.role(leg) for leg in (0, 1)] == [Role.ABSENT, Role.ABSENT]
    assert not found.take(1, b"b", 2)  # on its way out
    assert not found.detach(1)
    assert found.attach(1, 3)
    assert found.take(1, b"a", 4)  # nothing is known of before


def test_the_death_of_another_leg_is_nothing_at_all() -> None:
    found = joined()
    assert not found.detach(1)
    assert found.take(0, b"a", QUIET)


def test_answers_come_from_the_primary_alone_and_nobody_lacks_them() -> None:
    found = joined(answers=[b'{"id":*', b"pong"])
    for _ in range(2):
        assert found.take(0, b'{"id":1}', QUIET)
        assert not found.take(1, b'{"id":1}', QUIET)
        assert not found.take(1, b"pong", QUIET)
    assert found.watch(QUIET + 5 * GRACE) == []
    assert found.take(1, b'{"x":"pong"}', QUIET + 5 * GRACE)  # it does not begin so


def test_a_joined_leg_that_brings_a_snapshot_joins_anew() -> None:
    found = joined(snapshots=[b'{"arg":*"action":"snapshot"'])
    snapshot = b'{"arg":{"instId":"A"},"action":"snapshot","data":[]}'
    assert not found.take(1, snapshot, QUIET)
    assert not found.take(1, b"delta behind it", QUIET)
    assert found.take(0, snapshot, QUIET + 1)
    assert found.take(0, b"delta behind it", QUIET + 1)
    assert found.reason(1) == "it brought a snapshot"
    assert found.take(0, b'{"arg":1,"action":"update"}', QUIET + 2)


def test_nothing_of_others_comes_after_parting_all() -> None:
    found = joined()
    found.part_all(QUIET, "a book is made anew")
    assert not found.take(1, b"a", QUIET)
    assert found.take(0, b"a", QUIET)
    assert found.reason(1) == "a book is made anew"


def test_the_primary_can_be_changed_on_purpose() -> None:
    found = joined()
    found.hand_over(1)
    assert [found.role(leg) for leg in (0, 1)] == [Role.JOINED, Role.PRIMARY]
    with pytest.raises(ValueError, match="leg 1 PRIMARY"):
        found.hand_over(1)


def test_a_primary_that_falls_behind_what_is_remembered_gives_way_to_a_joined_leg() -> None:
    found = joined(memory=4)
    for number in range(5):
        assert found.take(1, b"%d" % number, QUIET)
    assert found.role(1) == Role.PRIMARY
    assert found.role(0) == Role.JOINING
    assert not any(found.take(0, b"%d" % number, QUIET) for number in range(5))


def test_a_primary_that_falls_behind_alone_is_lost() -> None:
    found = joined()
    for number in range(5):
        assert found.take(1, b"%d" % number, QUIET)
    found.detach(1)
    found.watch(QUIET + 9_999)
    assert not found.is_lost
    found.watch(QUIET + 10_000)
    assert found.is_lost
    assert not any(found.take(0, b"%d" % number, QUIET + 10_001) for number in range(6))


def test_a_message_that_never_comes_on_the_primary_does_not_cost_it_its_place() -> None:
    found = joined()
    assert found.take(1, b"only there", QUIET)
    assert found.take(0, b"later", QUIET + 500)
    found.detach(1)
    found.watch(QUIET + 10_000)
    assert not found.is_lost
    assert found.role(0) == Role.PRIMARY


def test_what_is_held_has_a_bound() -> None:
    found = arbiter(max_held_bytes=10)
    found.attach(0, 0)
    found.attach(1, 0)
    found.take(1, b"12345678", 1)
    found.take(1, b"123", 2)
    assert "ahead by more than 10 bytes" in found.reason(1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"memory": 0}, "memory of 1 to"),
        ({"grace": 0}, "0 < grace"),
        ({"grace": 20_000}, "0 < grace"),
        ({"answers": [b"*x"]}, "the beginning of a message"),
    ],
)
def test_values_that_cannot_be_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        arbiter(**options)


@pytest.mark.parametrize("leg", [-1, MAX_LEGS])
def test_legs_have_numbers(leg: int) -> None:
    with pytest.raises(ValueError, match="leg of 0 to"):
        arbiter().attach(leg, 0)


def test_a_leg_has_to_be_what_is_asked_of_it() -> None:
    found = joined()
    with pytest.raises(ValueError, match="JOINING, found leg 1 JOINED"):
        found.join(1, 0)
    with pytest.raises(ValueError, match="absent, found leg 0 PRIMARY"):
        found.attach(0, 0)


# --- any course of events -------------------------------------------------------------------------

LEGS = 3


class World:
    """A true stream, connections that bring it with delays of their own, and what has been delivered of it."""

    def __init__(self, memory: int) -> None:
        self.arbiter = Arbiter(memory=memory, memory_age=1500, grace=GRACE, max_held_bytes=60)
        self.now = 0
        self.stream: list[bytes] = []
        self.under_way: list[deque[tuple[int, bytes]] | None] = [None] * LEGS  # (when sent, message)
        self.began = 0
        self.delivered: list[bytes] = []
        self.epochs = 0

    def connect(self, leg: int) -> None:
        if self.under_way[leg] is None:
            self.under_way[leg] = deque()
            if self.arbiter.attach(leg, self.now):
                self.began, self.delivered = len(self.stream), []
                self.epochs += 1

    def lose(self, leg: int) -> None:
        if self.under_way[leg] is not None:
            self.under_way[leg] = None
            if self.arbiter.detach(leg):
                for other in range(LEGS):
                    if self.under_way[other] is not None:
                        self.under_way[other] = None
                        assert not self.arbiter.detach(other)

    def send(self, payload: bytes) -> None:
        self.stream.append(payload)
        for queue in self.under_way:
            if queue is not None:
                queue.append((self.now, payload))

    def receive(self, leg: int, count: int) -> None:
        queue = self.under_way[leg]
        while queue and count:
            count -= 1
            payload = queue.popleft()[1]
            if self.arbiter.take(leg, payload, self.now):
                self.delivered.append(payload)
        self.check()

    def wait(self, time: int) -> None:
        for _ in range(time // 20):
            self.now += 20
            for leg, queue in enumerate(self.under_way):
                while queue and queue[0][0] + QUIET // 2 <= self.now:  # longer than that nothing is under way
                    self.receive(leg, 1)
            self.arbiter.watch(self.now)
            if self.arbiter.is_lost:
                self.lose(self.arbiter.primary)
            for leg in range(LEGS):
                if self.arbiter.is_in_step(leg, self.now, QUIET):
                    self.delivered += [payload for _, payload in self.arbiter.join(leg, self.now)]
                    self.check()

    def check(self) -> None:
        assert self.delivered == self.stream[self.began : self.began + len(self.delivered)]


LEG = st.integers(0, LEGS - 1)
STEP = st.one_of(
    st.tuples(st.just("connect"), LEG),
    st.tuples(st.just("lose"), LEG),
    st.tuples(st.just("send"), st.integers(0, 3)),  # few kinds: many are equal
    st.tuples(st.just("send_new"), st.integers(1, 5)),
    st.tuples(st.just("receive"), LEG, st.integers(1, 4)),
    st.tuples(st.just("receive_all")),
    st.tuples(st.just("wait"), st.sampled_from([20, 40, 200, 1000])),
    st.tuples(st.just("flow"), st.integers(5, 40), st.lists(st.integers(0, 4), min_size=LEGS, max_size=LEGS)),
)


@settings(max_examples=400, deadline=None)
@given(steps=st.lists(STEP, max_size=40), memory=st.sampled_from([3, 16, 1000]))
@example(
    steps=[("connect", 0), ("connect", 1), ("flow", 40, [0, 1, 2]), ("lose", 0), ("flow", 40, [0, 1, 2])], memory=1000
)
def test_the_true_stream_is_delivered_once_and_in_order(steps: list[Any], memory: int) -> None:
    world = World(memory)
    world.connect(0)
    for what, *values in steps:
        if what == "send":
            world.send(b"%d" % values[0])
        elif what == "send_new":
            for _ in range(values[0]):
                world.send(b"#%d" % len(world.stream))
        elif what == "receive_all":
            for leg in range(LEGS):
                world.receive(leg, 1000)
        elif what == "flow":  # steady traffic, each leg so many messages behind
            count, behind = values
            for number in range(count):
                world.send(b"#%d" % len(world.stream) if number % 3 else b"%d" % (number % 4))
                for leg, queue in enumerate(world.under_way):
                    if queue is not None:
                        world.receive(leg, max(0, len(queue) - behind[leg]))
                world.wait(20)
        else:
            getattr(world, what)(*values)
    # At the end of all delays nothing is missing either.
    world.wait(QUIET)
    if world.arbiter.primary >= 0:
        assert world.delivered == world.stream[world.began :]


@settings(max_examples=100, deadline=None)
@given(
    behind=st.lists(st.integers(0, 4), min_size=LEGS, max_size=LEGS),
    deaths=st.lists(LEG, min_size=1, max_size=6),
    equal=st.integers(2, 5),
)
def test_legs_that_die_in_turn_cost_nothing(behind: list[int], deaths: list[int], equal: int) -> None:
    world = World(1000)
    for leg in range(LEGS):
        world.connect(leg)

    def flow(count: int) -> None:
        for _ in range(count):
            number = len(world.stream)
            world.send(b"#%d" % number if number % equal else b"=")
            for leg, queue in enumerate(world.under_way):
                assert queue is not None
                world.receive(leg, max(0, len(queue) - behind[leg]))
            world.wait(20)

    flow(40)
    for leg in deaths:
        assert all(world.arbiter.role(leg) in (Role.JOINED, Role.PRIMARY) for leg in range(LEGS))
        world.lose(leg)
        world.connect(leg)
        flow(40)
    world.wait(QUIET)
    assert world.epochs == 1
    assert world.delivered == world.stream
