"""k-points and boxes: for each size of box the fewest k-points that meet a target, and the cheapest box of all.

Errors of k-points and of cut-offs are two independent changes, which add (`label error` relies on it). So
k-points are scanned with the cheap cut-offs that `convergence.converge` has found at Γ, which costs a fraction of
a scan at converged cut-offs. That the choice meets the target is not inferred from this: it is
measured against labels converged in k-points and cut-offs at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.calculators.espresso import kpoints
from mlpwf.calculators.espresso.convergence import (
    REFERENCE_SHARE,
    REFERENCE_THRESHOLD_RY,
    Errors,
    Measurement,
    Row,
    Setting,
    errors,
    rate,
)
from mlpwf.errors import ConfigError

Floats = NDArray[np.float64]

KPOINT_SHARE = 0.5
"""Errors of k-points alone may be this share of the target: with 0.8 of cut-offs, in quadrature 0.94."""
STEP_ANGSTROM = 1.5
"""k-points are converged where they agree with all whose images are nearer by this or less, and with one nearer by
more: an error that falls by exp(-0.85 d/Å) is then an eighth of the target or less (docs/labels.md)."""
NOISELESS = 100
"""k-points are scanned with an SCF threshold so much tighter than the chosen one: a tenth of its noise, which may be a
third of the target, and in a large box more."""
SLACK = 0.97
"""The image distance asked for, as a share of the one measured: a cell smaller by 3% gets the same points."""


@dataclass
class Box:
    """Boxes of one size: what was tried in the order it was rated.

    agreement
        How far the last k-points differ from those nearer; None where there are no two.
    converged
        Whether that is within a third of the target.
    chosen
        The cheapest setting that meets the target against the reference, None if none does.
    configured
        The user's own setting against the same reference.
    """

    atoms: int
    rows: list[Row] = field(default_factory=list)
    agreement: Errors | None = None
    converged: bool = False
    chosen: Row | None = None
    configured: Row | None = None

    def best(self, target: Errors) -> Row | None:
        """The cheaper one of the chosen and, where it meets the target, the configured setting."""
        rows = [self.chosen, self.configured]
        met = [row for row in rows if row is not None and row.errors is not None and row.errors.within(target, 1.0)]
        return min(met, key=cost, default=None)

    @property
    def closest(self) -> Row | None:
        """Of what was rated against the reference, that with the smallest error of the forces."""
        rated = [row for row in self.rows if row.lever in ("box", "configured") and row.errors is not None]
        return min(rated, key=lambda row: row.errors.force if row.errors else math.inf, default=None)


def cost(row: Row) -> float:
    """CPU-s of a label by atom; infinite where it is not known."""
    return math.inf if row.cpu_s_atom is None else row.cpu_s_atom


def image_distances(cells: Sequence[Floats]) -> Iterator[float]:
    """Image distances to ask for, in Å, from Γ upward; each keeps the images of every cell farther apart.

    Ends where a cell would need more points than are searched for.

    Parameters
    ----------
    cells
        Lattice vectors in Å, each (3, 3).
    """
    asked = 0.0
    while True:
        try:
            reached = [kpoints.fewest(cell, asked).image_distance(cell) for cell in cells]
        except ConfigError:
            return
        yield max(asked, math.floor(10 * SLACK * min(reached)) / 10)
        asked = max(reached) + 2 * kpoints.SAME_LENGTH_ANGSTROM


def foreseen(cells: Sequence[Floats], cutoffs: Setting, reference: Setting, target: Errors) -> list[Setting]:
    """What `converge_box` is to measure in a box, by the error to be expected of k-points; for an estimate of its cost.

    Parameters
    ----------
    cells
        Lattice vectors of the frames in Å, each (3, 3).
    cutoffs, reference
        Cheap and converged cut-offs.
    target
        The errors allowed.
    """
    found: list[Setting] = []
    for distance in image_distances(cells):
        found.append(replace(_noiseless(cutoffs), image_distance_angstrom=distance))
        if kpoints.expected_error(distance - STEP_ANGSTROM) < REFERENCE_SHARE * target.force:
            break
    choice = replace(cutoffs, image_distance_angstrom=found[len(found) // 2].image_distance_angstrom)
    return [*found, choice, replace(reference, image_distance_angstrom=found[-1].image_distance_angstrom)]


def _noiseless(cutoffs: Setting) -> Setting:
    return replace(cutoffs, convergence_ry=max(cutoffs.convergence_ry / NOISELESS, REFERENCE_THRESHOLD_RY))


def converge_box(
    measure: Callable[[Setting], Measurement],
    frames: Sequence[Atoms],
    target: Errors,
    cutoffs: Setting,
    reference: Setting,
    configured: Setting | None = None,
    told: Callable[[Row], None] = lambda row: None,
) -> Box:
    """The cheapest k-points of boxes of one size that, with cheap cut-offs, meet the target.

    From Γ upward through image distances, with the cheap cut-offs and little SCF noise, until k-points agree
    within a third of the target with all those whose images are nearer by up to 1.5 Å and with one beyond: the
    last are the reference of this scan. The first whose error is half of the target or less are then measured
    against labels converged in both, reference cut-offs with the last k-points. Where both errors together miss
    the target, a tighter SCF threshold, whose noise grows with the box, and further k-points follow.

    Parameters
    ----------
    measure
        Labels of `frames` with a setting.
    frames
        The structures, of one size.
    target
        Errors allowed in force and virial.
    cutoffs
        Cut-offs, grid and threshold as `converge` has chosen them.
    reference
        Those of its reference.
    configured
        A setting to rate beside, as it is.
    told
        Called with each row as it is rated; rows of k-points have no errors yet.

    Returns
    -------
    Box
        With `chosen` None if k-points do not converge or nothing meets the target.
    """
    box = Box(len(frames[0]))
    levels = _climb(box, measure, frames, target, cutoffs, told)
    truth = None
    if box.converged:
        last = levels[-1][1]
        box.rows = [
            replace(row, errors=errors(found, last, frames)) if found is not None else row
            for row, found in zip(box.rows, _found(box.rows, levels), strict=True)
        ]
        best = replace(reference, image_distance_angstrom=levels[-1][0].setting.image_distance_angstrom)
        row, truth = rate("converged", best, measure, frames, None)
        box.rows.append(row)
        told(row)
    for setting in _candidates(box, cutoffs, target) if truth is not None else ():
        row, _ = rate("box", setting, measure, frames, truth)
        box.rows.append(row)
        told(row)
        if row.errors is not None and row.errors.within(target, 1.0):
            box.chosen = row
            break
    if configured is not None:
        box.configured, _ = rate("configured", configured, measure, frames, truth)
        box.rows.append(box.configured)
        told(box.configured)
    return box


def _climb(
    box: Box,
    measure: Callable[[Setting], Measurement],
    frames: Sequence[Atoms],
    target: Errors,
    cutoffs: Setting,
    told: Callable[[Row], None],
) -> list[tuple[Row, Measurement]]:
    """k-points from Γ upward until they are converged, or there are no more."""
    levels: list[tuple[Row, Measurement]] = []
    for distance in image_distances([atoms.cell.array for atoms in frames]):
        setting = replace(_noiseless(cutoffs), image_distance_angstrom=distance)
        row, found = rate("k-points", setting, measure, frames, None)
        box.rows.append(row)
        told(row)
        if found is None:
            continue
        compared = _nearer(levels, row)
        apart = [errors(found, other, frames) for _, other in compared]
        box.agreement = max(apart, key=lambda one: one.of(target), default=box.agreement)
        levels.append((row, found))
        if len(compared) > 0 and _distance(row) - _distance(compared[0][0]) >= STEP_ANGSTROM:
            box.converged = all(one.within(target, REFERENCE_SHARE) for one in apart)
        if box.converged:
            break
    return levels


def _nearer(levels: list[tuple[Row, Measurement]], row: Row) -> list[tuple[Row, Measurement]]:
    """The levels that k-points have to agree with: from the last one nearer by the step, or the first, on."""
    beyond = [k for k, (other, _) in enumerate(levels) if _distance(row) - _distance(other) >= STEP_ANGSTROM]
    return levels[beyond[-1] if beyond else 0 :]


def _distance(row: Row) -> float:
    return row.image_distance_angstrom or 0.0


def _found(rows: Sequence[Row], levels: list[tuple[Row, Measurement]]) -> list[Measurement | None]:
    """The measurement of each row, None where it failed."""
    known = {row.setting: found for row, found in levels}
    return [known.get(row.setting) for row in rows]


def _candidates(box: Box, cutoffs: Setting, target: Errors) -> Iterator[Setting]:
    """Settings to verify, from cheap upward: k-points good enough by themselves, the threshold as it is or tighter."""
    scanned = [row for row in box.rows if row.lever == "k-points" and row.errors is not None]
    enough = next(k for k, row in enumerate(scanned) if row.errors and row.errors.within(target, KPOINT_SHARE))
    thresholds = [cutoffs.convergence_ry / tighter for tighter in (1, 10, NOISELESS)]
    for row in scanned[enough:]:
        for threshold in thresholds:
            if threshold >= REFERENCE_THRESHOLD_RY * (1 - 1e-9):
                yield replace(row.setting, convergence_ry=threshold)


def cheapest(studied: Mapping[str, Sequence[Box]], target: Errors) -> tuple[str, Box, Row] | None:
    """Of all sets and boxes, the setting that meets the target at the lowest price by atom.

    Parameters
    ----------
    studied
        The boxes by name of the set.
    target
        The errors allowed.

    Returns
    -------
    tuple or None
        Name of the set, the box and its row; None if nothing meets the target.
    """
    met = [
        (name, box, best) for name, boxes in studied.items() for box in boxes if (best := box.best(target)) is not None
    ]
    return min(met, key=lambda one: cost(one[2]), default=None)
