"""Which explored frames are worth a label: trust levels, walkers cut where they blow up, then farthest points.

Every result is independent of the order of the frames: they are put in the order
of their keys first, and ties are broken by the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpwf.campaign.verdicts import ACCURATE, BROKEN, CANDIDATE, FAILED
from mlpwf.errors import DataError

Array = NDArray[np.float64]
Levels = tuple[float | None, float | None]


# ---------------------------------------------------------------- trust


def classify(
    force_deviation: Array,
    virial_deviation: Array,
    intact: NDArray[np.bool_],
    *,
    force_levels: tuple[float, float],
    virial_levels: Levels = (None, None),
) -> list[str]:
    """Verdict on each explored frame.

    ``broken``: the frame has a fault of its own. ``failed``: a deviation is above its
    upper level or infinite, or the force deviation is missing. ``candidate``: a deviation
    is above its lower level. ``accurate``: none of these. A virial level that is None,
    and a virial deviation that is missing, do not count.

    Parameters
    ----------
    force_deviation
        Largest force deviation, or what it stands for, in the levels' units, shape (n_frames,); NaN: missing.
    virial_deviation
        Largest virial deviation per atom in eV, shape (n_frames,); NaN: missing.
    intact
        Whether all molecules of the frame are whole, shape (n_frames,).
    force_levels, virial_levels
        Lower and upper level, in the deviations' units.
    """
    shapes = {np.shape(force_deviation), np.shape(virial_deviation), np.shape(intact)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise DataError(f"deviations have shapes {sorted(shapes)}; expected (n_frames,) three times")
    low, high = (np.inf if level is None else level for level in virial_levels)
    with np.errstate(invalid="ignore"):
        doubtful = (force_deviation > force_levels[0]) | (virial_deviation > low)
        failed = ~(force_deviation <= force_levels[1]) | (virial_deviation > high) | np.isinf(virial_deviation)
    verdicts = np.where(failed, FAILED, np.where(doubtful, CANDIDATE, ACCURATE))
    return [str(verdict) for verdict in np.where(intact, verdicts, BROKEN)]


# ---------------------------------------------------------------- walkers


def blow_up(verdicts: Sequence[str]) -> int:
    """Place of the frame at which a walker blows up; the number of frames if it does not.

    That is its first broken frame, or the first of the failed ones it ends with.

    Parameters
    ----------
    verdicts
        Of the walker's frames in the order of time.
    """
    end = len(verdicts)
    while end and verdicts[end - 1] in (FAILED, BROKEN):
        end -= 1
    return verdicts.index(BROKEN, 0, end) if BROKEN in verdicts[:end] else end


def last_before_blow_up(verdicts: Sequence[str]) -> int | None:
    """Place of the last candidate before a walker blows up, which the models have to learn first; None: none."""
    end = blow_up(verdicts)
    if end == len(verdicts):
        return None
    places = [place for place in range(end) if verdicts[place] == CANDIDATE]
    return places[-1] if places else None


# ---------------------------------------------------------------- diversity


@dataclass(frozen=True)
class Choice:
    """What became of one candidate."""

    selected: bool
    why: str
    distance: float
    """Distance to the nearest known frame when it was judged; inf if nothing was known."""


def standardised(pool: Array) -> Array:
    """Columns with zero mean and unit spread, divided by the square root of their number.

    Distances of two rows, shape (n_features,), are then root-mean-square differences in
    units of the spread. Columns that do not vary are left out.
    """
    centred = pool - pool.mean(axis=0)
    spread = centred.std(axis=0)
    varied = spread > 1e-12 * np.maximum(1.0, np.abs(pool).max(axis=0))
    if not varied.any():
        return np.zeros((len(pool), 1))
    scaled: Array = centred[:, varied] / spread[varied] / np.sqrt(np.count_nonzero(varied))
    return scaled


def farthest_points(
    candidates: Array,
    keys: Sequence[str],
    known: Array,
    *,
    budget: int,
    duplicate_distance: float,
    preferred: Mapping[str, str] | None = None,
) -> list[Choice]:
    """Choose candidates one by one, always the farthest from all that is known or chosen.

    Greedy max-min ("farthest point") selection, Gonzalez, DOI 10.1016/0304-3975(85)90224-5,
    in standardised descriptor space; ties go to the smallest key. The first choice, when
    nothing is known, is the candidate with the smallest key.

    Parameters
    ----------
    candidates
        Descriptors, shape (n_candidates, n_features).
    keys
        One string for each candidate, no two alike; it fixes the order.
    known
        Descriptors of frames that have labels, shape (n_known, n_features).
    budget
        Candidates to choose at most.
    duplicate_distance
        A candidate not farther than this from what is known or chosen is a duplicate.
    preferred
        Keys of candidates to choose from first, up to half of the budget, and why.

    Returns
    -------
    list of Choice
        In the order of `candidates`.
    """
    if len(keys) != len(candidates) or len(set(keys)) != len(keys):
        raise DataError(f"{len(set(keys))} different keys for {len(candidates)} candidates; expected one each")
    if len(candidates) == 0:
        return []
    order = np.argsort(np.array(keys))
    known = np.reshape(known, (-1, candidates.shape[1]))
    known = known[np.lexsort(known.T[::-1])] if len(known) else known
    pool = standardised(np.concatenate([known, candidates[order]]))
    labelled, free = pool[: len(known)], pool[len(known) :]
    nearest = np.full(len(free), np.inf)
    for row in labelled:
        nearest = np.minimum(nearest, np.linalg.norm(free - row, axis=1))
    choices: dict[int, Choice] = {}
    source = "a training frame"
    preferred = preferred or {}
    names = [keys[index] for index in order]
    first = np.array([name in preferred for name in names])
    while len(choices) < len(free):
        for place in np.flatnonzero(nearest <= duplicate_distance):
            choices.setdefault(int(place), Choice(False, f"duplicate of {source}", float(nearest[place])))
        open_places = np.array([place for place in range(len(free)) if place not in choices], dtype=int)
        if len(open_places) == 0:
            break
        taken = sum(choice.selected for choice in choices.values())
        if taken >= budget:
            spent = {int(place): Choice(False, "budget spent", float(nearest[place])) for place in open_places}
            choices.update(spent)
            break
        if 2 * taken < budget and first[open_places].any():
            open_places = open_places[first[open_places]]
        best = int(open_places[np.argmax(nearest[open_places])])
        choices[best] = Choice(True, preferred.get(names[best], "farthest from what is known"), float(nearest[best]))
        nearest = np.minimum(nearest, np.linalg.norm(free - free[best], axis=1))
        source = "a selected frame"
    places = {int(original): place for place, original in enumerate(order)}
    return [choices[places[index]] for index in range(len(candidates))]
