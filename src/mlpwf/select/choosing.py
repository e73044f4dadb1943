"""Choice of the frames to label: the candidates that differ most from what is labelled and from each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.campaign.verdicts import CANDIDATE, FAILED
from mlpwf.config import Select
from mlpwf.select.explored import Explored, by_walker
from mlpwf.select.selection import Choice, farthest_points, last_before_blow_up
from mlpwf.structures.frames import element_order, geometry_key

BEFORE_BLOW_UP = "the last candidate before its walker blew up"
CLOSEST = "of its walker's candidates the one whose molecules come closest"
REFILL = "more budget than candidates: the least doubtful of the failed"


@dataclass(frozen=True)
class Diversity:
    """Distances between frames in the space of a model's descriptors.

    Attributes
    ----------
    describe
        One vector for each frame, given the frames and the order of elements; shape (n_frames, n_features).
    labelled
        Frames that have labels: what is chosen keeps away from them.
    duplicate_distance
        Frames closer than this to a known one are not chosen.
    """

    describe: Callable[[Sequence[Atoms], Sequence[str]], NDArray[np.float64]]
    labelled: Sequence[Atoms]
    duplicate_distance: float

    def farthest(
        self, pool: Sequence[Explored], taken: Sequence[Atoms], budget: int, preferred: Mapping[str, str]
    ) -> list[Choice]:
        """Farthest points of a pool from the labelled frames, from what is taken, and from each other.

        `preferred` holds keys that are chosen first, and why.
        """
        if not pool:
            return []
        known = [*sorted(self.labelled, key=geometry_key), *sorted(taken, key=geometry_key)]
        fresh = [frame.atoms for frame in pool]
        vectors = self.describe([*fresh, *known], element_order([*fresh, *known]))
        return farthest_points(
            vectors[: len(fresh)],
            [frame.key for frame in pool],
            vectors[len(fresh) :],
            budget=budget,
            duplicate_distance=self.duplicate_distance,
            preferred=preferred,
        )


def chosen(frames: Sequence[Explored], diversity: Diversity, settings: Select) -> list[Explored]:
    """Frames with what became of the candidates, and of failed frames where candidates leave part of the budget."""
    found = list(frames)
    preferred = dict(filter(None, (_worth_most([frames[index] for index in members]) for members in by_walker(frames))))
    candidates = [index for index, frame in enumerate(frames) if frame.verdict == CANDIDATE]
    failed = [
        index
        for index, frame in enumerate(frames)
        if frame.verdict == FAILED and math.isfinite(frame.force_deviation) and not math.isinf(frame.virial_deviation)
    ]
    failed.sort(key=lambda index: (frames[index].force_deviation, frames[index].key))
    taken: list[int] = []
    for pool, why in ((candidates, preferred), (failed, None)):
        budget = settings.budget - len(taken)
        if budget <= 0:
            break
        pool = pool if why is not None else pool[:budget]
        first = why if why is not None else {frames[index].key: REFILL for index in pool}
        known = [frames[index].atoms for index in taken]
        choices = diversity.farthest([frames[index] for index in pool], known, budget, first)
        for index, choice in zip(pool, choices, strict=True):
            found[index] = dataclasses.replace(frames[index], choice=choice)
        taken += [index for index, choice in zip(pool, choices, strict=True) if choice.selected]
    return found


def _worth_most(walker: Sequence[Explored]) -> tuple[str, str] | None:
    """Key of the candidate of a walker that the models have to learn first, and why; None: no one before others.

    The last before it blew up; of a walker that came too close and parted again the closest, which moves the border.
    """
    place = last_before_blow_up([FAILED if frame.too_close else frame.verdict for frame in walker])
    if place is not None:
        return walker[place].key, BEFORE_BLOW_UP
    near = [frame for frame in walker if frame.verdict == CANDIDATE and frame.closer > 0]
    if not near or not any(frame.too_close for frame in walker):
        return None
    return max(near, key=lambda frame: (frame.closer, frame.key)).key, CLOSEST


def spared(frame: Explored, verdict: str) -> Explored:
    """The same frame, not selected since the cycles have ended."""
    if frame.choice is None or not frame.selected:
        return frame
    return dataclasses.replace(
        frame, choice=dataclasses.replace(frame.choice, selected=False, why=f"the cycles have ended: {verdict}")
    )
