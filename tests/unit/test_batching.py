"""One batch: which frames, how long, within which budget."""

import math

import pytest
from ase.build import molecule

from mlpwf.campaign.records import Attempt, Outcome
from mlpwf.label.batching import MARGIN, Pace, dealt, described, outcomes, over_budget


def outcome(key, reused=False, **changes):
    whole = {"accepted": True, "reason": None, "detail": None, "cpu_s": 2.0, "attempts": []}
    return Outcome(**{"key": key, "reused": reused, **whole, **changes})


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self):
        return self.now


class FakeLabeller:
    """Labels of a fixed cost; a frame's tag is its key."""

    def __init__(self, clock, seconds=10.0, known=()):
        self.clock, self.seconds, self.store = clock, seconds, set(known)

    def key(self, atoms):
        return atoms.info["state"]

    def knows(self, atoms):
        return self.key(atoms) in self.store

    def label(self, atoms):
        if self.knows(atoms):
            return outcome(self.key(atoms), reused=True)
        self.clock.now += self.seconds
        self.store.add(self.key(atoms))
        return outcome(self.key(atoms))


@pytest.fixture
def clock():
    return Clock()


def frames(count):
    made = []
    for index in range(count):
        atoms = molecule("H2O")
        atoms.info["state"] = f"state {index}"
        made.append(atoms)
    return dealt(made, 0, 1)


def run(clock, labeller, count, seconds=math.inf, budget=None, spent=lambda: 0.0):
    return list(outcomes(labeller, frames(count), Pace(seconds, clock), budget, spent))


def test_frames_are_dealt_like_cards():
    assert dealt("abcde", 1, 2) == [(1, "b"), (3, "d")]


def test_each_outcome_knows_its_frame_and_state(clock):
    found = run(clock, FakeLabeller(clock), 3)
    assert [(one.frame, one.state) for one in found] == [(0, "state 0"), (1, "state 1"), (2, "state 2")]


def test_a_label_is_not_begun_without_time_for_one_that_takes_half_as_long_again(clock):
    assert len(run(clock, FakeLabeller(clock, seconds=10), 5, seconds=20 + MARGIN * 10)) == 3
    assert len(run(clock, FakeLabeller(clock, seconds=10), 5, seconds=19 + MARGIN * 10)) == 2


def test_the_first_label_is_begun_in_any_case(clock):
    assert len(run(clock, FakeLabeller(clock), 3, seconds=0.1)) == 1


def test_known_labels_need_no_time(clock):
    labeller = FakeLabeller(clock, known=["state 1", "state 2"])
    assert [one.reused for one in run(clock, labeller, 4, seconds=0.1)] == [False, True, True]


def test_beyond_the_budget_known_labels_are_free_and_others_are_rejected(clock):
    labeller = FakeLabeller(clock, known=["state 2"])
    found = run(clock, labeller, 4, budget=1.0, spent=lambda: 0.9 + clock.now)
    assert [one.accepted for one in found] == [True, False, True, False]
    assert found[1].reason == "over budget"
    assert found[1].detail == "label.budget_core_hours = 1 is spent"
    assert (found[3].frame, found[3].state) == (3, "state 3")


def test_an_outcome_in_words():
    tried = [Attempt(attempt=name, reason=None, detail=None, cpu_s=1.0) for name in ("as asked", "other mixing")]
    assert described(outcome("k", attempts=tried)) == "accepted by other mixing, 2.0 CPU-s"
    assert described(outcome("k", reused=True, attempts=tried[:1])) == "accepted, reused from the store"
    assert described(over_budget("k", 2.5)) == (
        "rejected: over budget (label.budget_core_hours = 2.5 is spent), 0.0 CPU-s"
    )
