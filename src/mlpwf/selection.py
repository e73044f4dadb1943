"""Which explored frames are worth a label: trust levels, then farthest points; and when to stop.

Every result is independent of the order of the frames: they are put in the order
of their keys first, and ties are broken by the key.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import DataError
from mlpwf.frames import RESOLUTION_ANGSTROM, quantised

Array = NDArray[np.float64]
Levels = tuple[float | None, float | None]

ACCURATE, CANDIDATE, FAILED, BROKEN = "accurate", "candidate", "failed", "broken"
VERDICTS = (ACCURATE, CANDIDATE, FAILED, BROKEN)


def geometry_key(atoms: Atoms) -> str:
    """SHA-256 of elements, cell and positions to 1e-6 Å: equal for equal geometries, wherever they come from."""
    whole = quantised(atoms)
    digest = hashlib.sha256(whole.numbers.astype("<i8").tobytes())
    with np.errstate(invalid="ignore"):
        for values in (whole.cell.array, whole.positions):
            digest.update(np.round(values / RESOLUTION_ANGSTROM).astype("<i8").tobytes())
    return digest.hexdigest()


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

    ``broken``: a molecule has come apart. ``failed``: a deviation is above its upper
    level, or the force deviation is missing. ``candidate``: a deviation is above
    its lower level. ``accurate``: none of these. A virial level that is None, and a
    virial deviation that is missing, do not count.

    Parameters
    ----------
    force_deviation
        Largest force deviation in eV/Å, shape (n_frames,); NaN: missing.
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
        failed = ~(force_deviation <= force_levels[1]) | (virial_deviation > high)
    verdicts = np.where(failed, FAILED, np.where(doubtful, CANDIDATE, ACCURATE))
    return [str(verdict) for verdict in np.where(intact, verdicts, BROKEN)]


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
    while len(choices) < len(free):
        for place in np.flatnonzero(nearest <= duplicate_distance):
            choices.setdefault(int(place), Choice(False, f"duplicate of {source}", float(nearest[place])))
        open_places = np.array([place for place in range(len(free)) if place not in choices], dtype=int)
        if len(open_places) == 0:
            break
        if sum(choice.selected for choice in choices.values()) >= budget:
            spent = {int(place): Choice(False, "budget spent", float(nearest[place])) for place in open_places}
            choices.update(spent)
            break
        best = int(open_places[np.argmax(nearest[open_places])])
        choices[best] = Choice(True, "farthest from what is known", float(nearest[best]))
        nearest = np.minimum(nearest, np.linalg.norm(free - free[best], axis=1))
        source = "a selected frame"
    places = {int(original): place for place, original in enumerate(order)}
    return [choices[places[index]] for index in range(len(candidates))]


# ---------------------------------------------------------------- convergence


@dataclass(frozen=True)
class Criteria:
    """When the cycles end."""

    candidate_fraction: float
    """Candidates, failures and broken frames among explored frames, at most."""
    force_error: float
    """Force RMSE of the previous models on the new labels in eV/Å, at most."""
    maximum_cycles: int


def judge(
    counts: Counter[str],
    selectable: int,
    new_label_error: float | None,
    cycle: int,
    criteria: Criteria,
    affordable: int | None = None,
) -> tuple[str, str]:
    """Verdict on the campaign after `cycle`, and the reason in a sentence.

    Converged: few explored frames are doubtful, and the previous models did well on
    the labels of this cycle, which they had not seen. A committee alone can agree on
    what is wrong, so neither is enough.

    Parameters
    ----------
    counts
        Number of explored frames of each verdict.
    selectable
        Candidates that are left to be labelled, duplicates removed.
    new_label_error
        Force RMSE of the previous models on this cycle's labels in eV/Å; None: unknown.
    cycle
        Number of the cycle, from 0.
    affordable
        Labels the budget of core-hours still buys; None: no budget.

    Returns
    -------
    verdict
        ``converged``, ``exhausted`` (not converged, and nothing to label), ``limit``
        (not converged, and no cycle left), ``budget`` (not converged, and no
        core-hours left) or ``continue``.
    reason
        Which criterion is met or not met, with numbers.
    """
    explored = sum(counts.values())
    if explored == 0:
        raise DataError("no explored frames; expected at least one: see the walkers of this cycle")
    fraction = (explored - counts[ACCURATE]) / explored
    few = fraction <= criteria.candidate_fraction
    good = cycle >= 1 and new_label_error is not None and new_label_error <= criteria.force_error
    relation = "at most" if few else "more than"
    limit = f"{relation} {criteria.candidate_fraction:.2%}"
    first = f"{fraction:.2%} of {explored} explored frames are not accurate, {limit}"
    if new_label_error is None:
        second = "the error of previous models on new labels is not known yet"
    else:
        limit = f"{'at most' if new_label_error <= criteria.force_error else 'more than'} {criteria.force_error:.3f}"
        second = f"the previous models' force error on new labels is {new_label_error:.3f} eV/Å, {limit}"
    both = f"{first}; {second}"
    if few and good:
        return "converged", f"converged: {both}"
    if selectable == 0:
        nothing = f"not converged, but nothing is left to label ({_listed(counts)}, no candidate that is new)"
        remedy = "lower the lower trust level or explore other states"
        if counts[FAILED] + counts[BROKEN] > counts[ACCURATE]:
            remedy = "raise the upper trust level or explore more gently"
        return "exhausted", f"{nothing}: {both}; {remedy}"
    if cycle >= criteria.maximum_cycles - 1:
        return "limit", f"not converged after {cycle + 1} cycles, the most allowed: {both}"
    if affordable == 0:
        return "budget", f"not converged, but label.budget_core_hours is spent: {both}"
    return "continue", f"not converged: {both}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
