"""One batch of a set: which frames it has, when it stops, and what is said of each label."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
from ase import Atoms

from mlpwf.calculators.base import Reason
from mlpwf.campaign.records import Outcome
from mlpwf.label.labeller import Labeller

MARGIN = 1.5  # the next label may take this much longer than the longest so far


def dealt(frames: Sequence[Atoms], batch: int, batches: int) -> list[tuple[int, Atoms]]:
    """The frames of one batch with their indices in the set: every `batches`-th, so that each batch costs the same."""
    return list(enumerate(frames))[batch::batches]


class Pace:
    """Whether one more label fits into the wall time of a job.

    The next label may take `MARGIN` times as long as the longest so far. The first is begun in any case.

    Parameters
    ----------
    seconds
        Wall time left; infinite where nothing limits it.
    clock
        Seconds since any instant.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.end, self.longest = clock, clock() + seconds, 0.0

    def has_room(self) -> bool:
        """Whether the job has time for the next label."""
        return self.longest == 0.0 or self.clock() + MARGIN * self.longest <= self.end

    def note(self, began: float) -> None:
        """Note that a label which began at `began` is done."""
        self.longest = max(self.longest, self.clock() - began)


def outcomes(
    labeller: Labeller,
    frames: Sequence[tuple[int, Atoms]],
    pace: Pace,
    budget_core_hours: float | None,
    spent_core_hours: Callable[[], float],
) -> Iterator[Outcome]:
    """What becomes of each frame; ends before a frame that the job has no time for.

    What the store knows costs neither time nor budget.

    Parameters
    ----------
    labeller
        Computes what the store does not know.
    frames
        Frames with their indices in the set.
    pace
        The wall time of the job.
    budget_core_hours
        The campaign's budget; None: there is none.
    spent_core_hours
        What the campaign's labels have cost so far.
    """
    for index, atoms in frames:
        began = pace.clock()
        if not pace.has_room() and not labeller.knows(atoms):
            return
        if budget_core_hours is None or spent_core_hours() < budget_core_hours or labeller.knows(atoms):
            outcome = labeller.label(atoms)
        else:
            outcome = over_budget(labeller.key(atoms), budget_core_hours)
        if not outcome.reused:
            pace.note(began)
        yield msgspec.structs.replace(outcome, frame=index, state=str(atoms.info.get("state", "")))


def over_budget(key: str, budget_core_hours: float) -> Outcome:
    """The outcome of a frame that is not bought; the store keeps nothing of it."""
    return Outcome(
        key=key,
        reused=False,
        accepted=False,
        reason=str(Reason.OVER_BUDGET),
        detail=f"label.budget_core_hours = {budget_core_hours:g} is spent",
        cpu_s=0.0,
        attempts=[],
    )


def described(outcome: Outcome) -> str:
    """An outcome in a few words: accepted or why not, by which retry, at what cost."""
    what = "accepted" if outcome.accepted else f"rejected: {outcome.reason} ({outcome.detail})"
    by = f" by {outcome.retry}" if outcome.retry else ""
    cost = "reused from the store" if outcome.reused else f"{outcome.cpu_s:.1f} CPU-s"
    return f"{what}{by}, {cost}"
