from functools import partial

import pytest

from feeds.events import BookDelta
from feeds.instrument import Instruments
from feeds.sequencing import (
    ContiguousSequence,
    GrowingSequence,
    LinkedSequence,
    NonDecreasingSequence,
    OverlappingSequence,
    ReorderedCounter,
    RestartSequence,
    Sequence,
    Verdict,
)

X = Instruments(infer=True).find("x", "X")
APPLY, OLD, MISSED = Verdict.APPLY, Verdict.OLD, Verdict.MISSED


def joined(rule, last_id):
    sequence = rule()
    assert sequence.last_id == -1
    sequence.joined(BookDelta(X, is_snapshot=True, last_id=last_id))
    assert (sequence.last_id, sequence.awaiting_first) == (last_id, True)
    return sequence


def judge(sequence, first, last, previous=-1):
    before = sequence.last_id
    verdict = sequence.judge(BookDelta(X, first_id=first, last_id=last, previous_id=previous))
    assert sequence.last_id == (last if verdict is APPLY else before)
    return verdict


def test_without_a_rule_every_delta_is_next():
    sequence = joined(Sequence, 10)
    assert [judge(sequence, 50, 60), judge(sequence, 1, 2)] == [APPLY, APPLY]


# ContiguousSequence; L = 100


@pytest.mark.parametrize(
    ("first", "last", "verdict"),
    [
        (90, 99, OLD),  # step 1: u < L
        (90, 100, OLD),  # step 1: u == L
        (90, 101, APPLY),  # step 2: U <= L + 1 <= u
        (101, 101, APPLY),
        (101, 150, APPLY),
        (102, 150, MISSED),  # step 2: the snapshot is too old
    ],
)
def test_contiguous_steps_1_and_2_the_first_after_a_snapshot(first, last, verdict):
    sequence = joined(ContiguousSequence, 100)
    assert judge(sequence, first, last) is verdict
    assert sequence.awaiting_first is (verdict is not APPLY)


def test_contiguous_step_2_waits_on_after_an_old_one():
    sequence = joined(ContiguousSequence, 100)
    assert [judge(sequence, 95, 99), judge(sequence, 100, 105), judge(sequence, 106, 107)] == [OLD, APPLY, APPLY]


@pytest.mark.parametrize(
    ("first", "last", "verdict"),
    [
        (106, 106, APPLY),  # step 3
        (107, 110, MISSED),  # step 3
        (103, 110, MISSED),  # step 3: overlaps
        (101, 105, OLD),  # step 4: sent twice
        (90, 95, OLD),  # step 4
    ],
)
def test_contiguous_steps_3_and_4_every_further_one(first, last, verdict):
    sequence = joined(ContiguousSequence, 100)
    judge(sequence, 101, 105)
    assert judge(sequence, first, last) is verdict


def test_contiguous_step_5_anything_joins_a_symbol_without_trades():
    sequence = joined(ContiguousSequence, -1)
    assert [judge(sequence, 700, 710), judge(sequence, 712, 712)] == [APPLY, MISSED]


# LinkedSequence; L = 100


@pytest.mark.parametrize(
    ("first", "last", "previous", "verdict"),
    [
        (90, 99, 80, OLD),  # step 1: u < L
        (90, 100, 80, APPLY),  # step 2: u == L is not dropped
        (100, 120, 80, APPLY),  # step 2: U <= L <= u
        (130, 140, 100, APPLY),  # step 2: pu == L continues exactly
        (130, 140, 101, MISSED),  # step 2: the snapshot is too old
        (101, 140, 99, MISSED),
    ],
)
def test_linked_steps_1_and_2_the_first_after_a_snapshot(first, last, previous, verdict):
    sequence = joined(LinkedSequence, 100)
    assert judge(sequence, first, last, previous) is verdict
    assert sequence.awaiting_first is (verdict is not APPLY)


@pytest.mark.parametrize(
    ("first", "last", "previous", "verdict"),
    [
        (150, 160, 120, APPLY),  # step 3: ids have holes
        (121, 160, 119, MISSED),  # step 3
        (90, 120, 80, OLD),  # step 4: sent twice
        (80, 85, 70, OLD),  # step 4
    ],
)
def test_linked_steps_3_and_4_every_further_one(first, last, previous, verdict):
    sequence = joined(LinkedSequence, 100)
    judge(sequence, 90, 120, 80)
    assert judge(sequence, first, last, previous) is verdict


def test_a_delta_is_needed():
    with pytest.raises(TypeError):
        Sequence().judge(None)
    with pytest.raises(TypeError):
        Sequence().joined(None)


# --- RestartSequence: the rule of Bitget; S = 100 --------------------------------------------------


@pytest.mark.parametrize(
    ("last", "previous", "verdict"),
    [
        (105, 100, APPLY),  # step 3: continues the snapshot
        (105, 90, APPLY),  # step 3: S is inside
        (100, 90, OLD),  # step 3
        (105, 101, MISSED),  # step 3
        (105, 0, MISSED),  # step 2
        (5, 0, MISSED),  # step 2
        (-1, -1, APPLY),  # step 5
    ],
)
def test_restart_the_first_after_a_snapshot(last, previous, verdict):
    assert judge(joined(RestartSequence, 100), last, last, previous) is verdict


@pytest.mark.parametrize(
    ("last", "previous", "verdict"),
    # Steps 4, 4, 2, 4; sent twice, as it was and with another past.
    [
        (110, 105, APPLY),
        (110, 104, MISSED),
        (110, 0, MISSED),
        (7, 105, APPLY),
        (105, 100, OLD),
        (105, 90, OLD),
    ],
)
def test_restart_every_further_one(last, previous, verdict):
    sequence = joined(RestartSequence, 100)
    judge(sequence, 105, 105, 100)
    assert judge(sequence, last, last, previous) is verdict


# ReorderedCounter


@pytest.mark.parametrize(
    ("numbers", "slack", "follows", "missed", "repeated"),
    [
        ([0, 1, 2], 0, [True] * 3, 0, 0),
        ([5, 6], 0, [True] * 2, 0, 0),  # the first may have any number
        ([0, 1, 4, 5], 0, [True, True, False, True], 2, 0),
        ([0, 3, 1, 2, 4], 2, [True] * 5, 0, 0),  # steps 1 and 2
        ([0, 3, 1, 1, 2, 3], 2, [True] * 6, 0, 2),
        ([0, 3, 2, 4, 5], 2, [True, True, True, False, True], 1, 0),  # step 3: 1 is more than 2 below 4
        ([0, 100, 101], 2, [True, False, True], 99, 0),  # step 4
        ([0, 4, 6, 7], 3, [True, True, False, True], 4, 0),
        ([0, 10**12], 64, [True, False], 10**12 - 1, 0),
    ],
)
def test_a_counter_that_waits_for_messages_that_were_overtaken(numbers, slack, follows, missed, repeated):
    counter = ReorderedCounter()
    assert [counter.follows(number, slack) for number in numbers] == follows
    assert (counter.missed, counter.repeated) == (missed, repeated)
    assert len(counter.awaited) <= slack


def test_what_is_awaited_is_missing_when_the_slack_ends():
    counter = ReorderedCounter()
    assert [counter.follows(0, 9), counter.follows(2, 9), counter.follows(3), counter.follows(4)] == [
        True, True, False, True
    ]  # fmt: skip
    assert (counter.missed, counter.last, counter.awaited) == (1, 4, set())


# NonDecreasingSequence


def test_ids_that_do_not_decrease_tell_what_is_old_and_what_came_too_late():
    sequence = joined(NonDecreasingSequence, 100)
    verdicts = [judge(sequence, -1, last) for last in (99, 100, 101, 101, 500, 499)]
    assert verdicts == [OLD, APPLY, APPLY, APPLY, APPLY, MISSED]


# GrowingSequence; T = 100


def test_growing_what_is_not_above_the_last_is_old_and_nothing_is_missed():
    sequence = joined(GrowingSequence, 100)
    verdicts = [judge(sequence, -1, number) for number in (99, 100, 101, 101, 5000, 4999)]
    assert verdicts == [OLD, OLD, APPLY, OLD, APPLY, OLD]


def test_growing_what_is_far_below_the_last_is_of_a_clock_that_was_set_back():
    sequence = joined(partial(GrowingSequence, 10), 100)
    assert judge(sequence, -1, 50) is OLD  # held while the snapshot was on its way
    assert [judge(sequence, -1, number) for number in (101, 91, 90)] == [APPLY, OLD, MISSED]


# --- OverlappingSequence: the rule of Gemini; the snapshot has u = 100 -----------------------------


@pytest.mark.parametrize(
    ("previous", "last", "verdict"),
    [
        (90, 99, OLD),  # step 1
        (90, 100, OLD),  # step 1
        (100, 100, OLD),  # step 1
        (100, 105, APPLY),  # step 2: begins where the snapshot ends, not one above
        (90, 105, APPLY),  # step 2: has more than is new
        (101, 105, MISSED),  # step 3: one above is a gap
        (200, 300, MISSED),  # step 3
    ],
)
def test_overlapping_the_first_after_a_snapshot(previous, last, verdict):
    sequence = joined(OverlappingSequence, 100)
    assert judge(sequence, -1, last, previous) is verdict
    assert sequence.awaiting_first is (verdict is not APPLY)


@pytest.mark.parametrize(
    ("previous", "last", "verdict"),
    [(105, 110, APPLY), (104, 110, APPLY), (106, 110, MISSED), (100, 105, OLD), (90, 104, OLD)],
)
def test_overlapping_every_further_one(previous, last, verdict):
    sequence = joined(OverlappingSequence, 100)
    judge(sequence, -1, 105, 100)
    assert judge(sequence, -1, last, previous) is verdict
