"""When the cycles end: all criteria met, nothing left to label, or nothing left to spend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlpwf.campaign.agreement import compare, mean_with_error, structure
from mlpwf.campaign.records import Criterion, LiquidSamples
from mlpwf.campaign.verdicts import ACCURATE, BROKEN, FAILED, VERDICTS
from mlpwf.errors import DataError

FLAT = 2.0
"""Standard errors that a change of the test error has to exceed to count."""
SIGNIFICANCE = 0.05
"""Probability by chance below which liquids of two models differ."""
MOST_ERROR = 0.3
"""Standard error, as a share of the quantity, above which two models cannot be told apart."""
QUANTITIES = {
    "density": ("g/cm³", "validate.npt_ps"),
    "g(r)": ("", "validate.nvt_ps"),
    "diffusion": ("Å²/ps", "validate.nvt_ps"),
}
"""What is compared of liquids: its unit where its value is told, and the length of the run it is measured in."""


def few_candidates(counts: Counter[str], most: float) -> Criterion:
    """Few explored frames are not accurate: at most the share `most`."""
    name, explored = "few candidates", sum(counts.values())
    if explored == 0:
        message = "there are no explored frames: every walker blew up before its first"
        return Criterion(name=name, met=False, message=message)
    share = (explored - counts[ACCURATE]) / explored
    relation = "at most" if share <= most else "more than"
    message = f"{share:.2%} of {explored} explored frames are not accurate, {relation} {most:.2%}"
    return Criterion(name=name, met=share <= most, message=message)


def small_error(name: str, what: str, error: float | None, most: float) -> Criterion:
    """The previous models' error on new labels, in eV/Å, is at most `most`.

    A committee alone can agree on what is wrong, so that few candidates are not enough.
    """
    if error is None:
        return _unknown(name, f"the previous models' {what} on new labels is not known yet")
    relation = "at most" if error <= most else "more than"
    message = f"the previous models' {what} on new labels is {error:.3f} eV/Å, {relation} {most:.3f}"
    return Criterion(name=name, met=error <= most, message=message)


def _unknown(name: str, message: str) -> Criterion:
    """A criterion of which it is not known yet whether it is met."""
    return Criterion(name=name, met=None, message=message)


def flat_test_error(before: Sequence[float] | None, now: Sequence[float]) -> Criterion:
    """The error on the same test frames fell or rose by no more than `FLAT` standard errors since the cycle before.

    A model that got worse is not what a campaign should end with.

    Parameters
    ----------
    before, now
        Mean square force error of each test frame in (eV/Å)², of two cycles; the standard error is that of
        the paired differences.
    """
    name = "test set flat"
    if before is None:
        return _unknown(name, "the test error has no earlier cycle to compare with")
    if len(before) != len(now):
        raise DataError(f"{len(now)} test frames, {len(before)} in the cycle before; expected the same test set")
    if len(now) < 2:
        return _unknown(name, f"{len(now)} test frame gives the test error no error bar")
    fall = np.asarray(before) - np.asarray(now)
    error = float(fall.std(ddof=1) / np.sqrt(len(fall)))
    flat = bool(abs(fall.mean()) <= FLAT * error)
    root = [1e3 * float(np.sqrt(np.mean(values))) for values in (before, now)]
    how = "no more" if flat else "more"
    way = "down" if fall.mean() >= 0 else "up"
    change = f"from {root[0]:.1f} to {root[1]:.1f} meV/Å, {how} than {FLAT:g} standard errors {way}"
    return Criterion(name=name, met=flat, message=f"the test error went {change}")


def same_liquid(liquids: Sequence[LiquidSamples], wanted: int) -> list[Criterion]:
    """Density, g(r) and diffusion of the last cycles' models agree within their errors: one criterion each.

    The test is `agreement.compare` at the level `SIGNIFICANCE`. A quantity whose error is above the share
    `MOST_ERROR` of it was not measured well enough to tell; a model that gave no liquid does not agree.

    Parameters
    ----------
    liquids
        Of the last cycles, oldest first.
    wanted
        Cycles to compare.
    """
    if len(liquids) < wanted:
        return [_unknown(name, f"the {name} has fewer than {wanted} cycles to compare") for name in QUANTITIES]
    conditions = dict.fromkeys(one.conditions for one in liquids)
    if len(conditions) > 1:
        differ = " and ".join(conditions)
        return [_unknown(name, f"the {name} of the cycles' models is not comparable: {differ}") for name in QUANTITIES]
    faulty = [one for one in liquids if one.fault]
    if faulty:
        why = f"by the model of cycle {faulty[-1].cycle} is none: {faulty[-1].fault}"
        return [Criterion(name=name, met=False, message=f"the {name} {why}") for name in QUANTITIES]
    samples: dict[str, list[ArrayLike]] = {
        "density": [one.density for one in liquids],
        "g(r)": [structure(one) for one in liquids],
        "diffusion": [one.diffusion for one in liquids],
    }
    cycles = ", ".join(str(one.cycle) for one in liquids)
    return [_agrees(name, cycles, samples[name]) for name in QUANTITIES]


def _agrees(name: str, cycles: str, groups: Sequence[ArrayLike]) -> Criterion:
    """One quantity of the liquids agrees, by the samples of each cycle's model."""
    unit, length = QUANTITIES[name]
    about, remedy = f"the {name} by the models of cycles {cycles}", f"run longer ({length})"
    if min(len(np.asarray(group)) for group in groups) < 2:
        return _unknown(name, f"{about} is not measured: {remedy}")
    values = [mean_with_error(group) for group in groups]
    if unit:
        about += f": {', '.join(f'{mean:.3g} ± {error:.2g}' for mean, error in values)} {unit}"
    if not all(error <= MOST_ERROR * abs(mean) for mean, error in values):
        return _unknown(name, f"{about}: an error above {MOST_ERROR:.0%} tells nothing, {remedy}")
    test = compare(groups)
    how = f"differs by {test.ratio:.2g} times what errors alone would give (p = {test.p_value:.2g})"
    message = f"{about}{',' if unit else ''} {how}"
    return Criterion(name=name, met=bool(test.p_value >= SIGNIFICANCE), message=message)


@dataclass(frozen=True)
class Extrapolation:
    """The test error now and after more labels, in eV/Å."""

    now: float
    then: float
    error: float
    """Standard error of `then`."""


def extrapolation(
    labels: Sequence[float], frame_errors: Sequence[Sequence[float]], more: float = 100, noise: float = 0.0
) -> Extrapolation | None:
    """Learning-curve extrapolation: the test error after `more` labels, by a power law through the cycles so far.

    log(error) is fitted by a straight line of log(labels). The standard error joins that
    from 400 bootstraps of the test frames (all cycles resampled alike) with the scatter of one
    cycle about the line: that of the cycles, where there are three or more, or `noise` if that is
    larger. None before two cycles, and where the error has not fallen with the labels.

    Parameters
    ----------
    labels
        Labels trained on in each cycle, increasing.
    frame_errors
        Mean square force error of each test frame in (eV/Å)², for each cycle.
    more
        Labels to come.
    noise
        Standard deviation of log(error) between models trained on the same labels.
    """
    if len(labels) < 2 or len({len(one) for one in frame_errors}) != 1 or len(frame_errors[0]) < 2:
        return None
    x, table = np.log(np.asarray(labels, float)), np.asarray(frame_errors, float)
    if np.ptp(x) == 0 or not np.all(table > 0):
        return None
    target = np.log(labels[-1] + more)
    design = np.column_stack([np.ones_like(x), x])
    ahead = np.array([1.0, target]) @ np.linalg.pinv(design)
    draws = np.random.default_rng(0).integers(table.shape[1], size=(400, table.shape[1]))
    logs = 0.5 * np.log(table[:, draws].mean(axis=2))
    y = 0.5 * np.log(table.mean(axis=1))
    line = np.linalg.pinv(design) @ y
    if line[1] >= 0:
        return None
    residual = y - design @ line
    variance = max(float(residual @ residual) / (len(x) - 2) if len(x) > 2 else 0.0, noise**2)
    scatter = variance * (1 + float(ahead @ ahead))
    then = float(np.exp(ahead @ y))
    return Extrapolation(float(np.exp(y[-1])), then, then * float(np.sqrt(np.var(ahead @ logs) + scatter)))


def root_with_error(frame_errors: Sequence[float]) -> tuple[float, float]:
    """Root-mean-square error over test frames and its standard error, in eV/Å, from mean squares in (eV/Å)².

    The error is that of the mean square over independent frames, propagated through the root; NaN for one frame.
    """
    values = np.asarray(frame_errors, float)
    root = float(np.sqrt(values.mean()))
    if len(values) < 2 or root == 0:
        return root, float("nan")
    return root, float(values.std(ddof=1) / np.sqrt(len(values)) / (2 * root))


def ahead(ours: Sequence[float], theirs: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Root-mean-square error of one run minus the mean of those of several, and its standard error, in eV/Å.

    The error joins that over test frames, which all runs share, with the scatter s of the S runs, s² (1 + 1/S):
    the one run is taken to scatter as they do. One run to compare with has no scatter.

    Parameters
    ----------
    ours, theirs
        Mean square force error of each test frame in (eV/Å)²; shapes (n_frames,) and (n_runs, n_frames).
    """
    mine, table = np.asarray(ours, float), np.asarray(theirs, float)
    root, roots = float(np.sqrt(mine.mean())), np.sqrt(table.mean(axis=1))
    influence = mine / (2 * root) - (table / (2 * roots[:, None])).mean(axis=0)
    variance = influence.var(ddof=1) / len(mine)
    if len(roots) > 1:
        variance += roots.var(ddof=1) * (1 + 1 / len(roots))
    return root - float(roots.mean()), float(np.sqrt(variance))


def judge(
    criteria: Sequence[Criterion],
    counts: Counter[str],
    selectable: int,
    cycle: int,
    maximum_cycles: int,
    affordable: int | None = None,
) -> tuple[str, str]:
    """Verdict on the campaign after `cycle`, and the reason in a sentence.

    Parameters
    ----------
    criteria
        All of them have to be met for convergence.
    counts
        Number of explored frames of each verdict.
    selectable
        Frames that are left to be labelled, duplicates removed.
    cycle
        Number of the cycle, from 0.
    maximum_cycles
        Cycles before the campaign ends unconverged.
    affordable
        Labels the budget of core-hours still buys; None: no budget.

    Returns
    -------
    verdict
        ``converged``, ``exhausted`` (not converged, and nothing to label), ``limit``
        (not converged, and no cycle left), ``budget`` (not converged, and no
        core-hours left) or ``continue``.
    reason
        Which criteria are met or not met, with numbers.
    """
    everything = "; ".join(criterion.message for criterion in criteria)
    if all(criterion.met for criterion in criteria):
        return "converged", f"converged: {everything}"
    if selectable == 0:
        nothing = f"not converged, but nothing is left to label ({_listed(counts)}, no candidate that is new)"
        remedy = "lower the target error or explore other states"
        if not sum(counts.values()) or counts[FAILED] + counts[BROKEN] > counts[ACCURATE]:
            remedy = "explore more gently, or start from more labels"
        return "exhausted", f"{nothing}: {everything}; {remedy}"
    if cycle >= maximum_cycles - 1:
        return "limit", f"not converged after {cycle + 1} cycles, the most allowed: {everything}"
    if affordable == 0:
        return "budget", f"not converged, but label.budget_core_hours is spent: {everything}"
    return "continue", f"not converged: {everything}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
