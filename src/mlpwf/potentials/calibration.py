"""What a committee's deviation says of its error, learnt from labels it has not seen.

Atoms and molecules are the pairs, not frames: a frame is chosen because one of its
atoms is in doubt, and its other atoms tell what a small deviation is worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpwf.campaign import records
from mlpwf.errors import DataError
from mlpwf.structures.molecules import split_forces

Array = NDArray[np.float64]
Names = NDArray[np.str_]

INTER, INTRA = "inter", "intra"
MOLECULE = "molecule"
POOLED = "all"
COVERAGE = 0.9
GROUP_FRAMES = 20
"""Frames that an element, or an element at a state, needs for a map of its own."""
SPLIT_FRAMES = 4
TOO_SURE = 2.0
REACH = 2.0
"""Times the largest deviation a map was made from: farther away it says nothing of the error."""
BIN_PAIRS, MOST_BINS = 10, 20
SMALLEST = 1e-6  # eV/Å: below what any label is converged to
MEDIAN_TO_RMS = 1 / 0.8881  # of |v|/√3 for a Gaussian vector v: √3 over the median of χ with 3 degrees of freedom


@dataclass(frozen=True)
class Pairs:
    """Deviations and errors of many atoms or molecules; all arrays have shape (n_pairs,)."""

    frame: Names
    """What frame each belongs to; equal for equal geometries."""
    state: Names
    kind: Names
    """Element of an atom, or ``molecule``."""
    deviation: Array
    """Spread of the committee's forces in eV/Å."""
    error: Array
    """Root-mean-square error of a force component in eV/Å."""

    def __post_init__(self) -> None:
        shapes = {np.shape(a) for a in (self.frame, self.state, self.kind, self.deviation, self.error)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise DataError(f"pairs have shapes {sorted(shapes)}; expected (n_pairs,) five times")

    def where(self, mask: NDArray[np.bool_]) -> Pairs:
        """The pairs chosen by a mask of shape (n_pairs,)."""
        return Pairs(self.frame[mask], self.state[mask], self.kind[mask], self.deviation[mask], self.error[mask])

    @property
    def frames(self) -> int:
        """Number of different frames."""
        return len(np.unique(self.frame))


@dataclass(frozen=True)
class Deviations:
    """Spread of a committee's forces in one frame, in eV/Å."""

    inter: Array
    """Of the net force on each molecule, shape (n_molecules,)."""
    intra: Array
    """Of the rest inside molecules, shape (n_atoms,)."""


def spread(forces: Array) -> Array:
    """Deviation of force vectors within a committee, as DeePMD-kit defines it: sqrt(<|F_k - <F>|²>_k).

    Parameters
    ----------
    forces
        Shape (n_models, n, 3).

    Returns
    -------
    ndarray
        Shape (n,).
    """
    if forces.ndim != 3 or forces.shape[-1] != 3:
        raise DataError(f"forces of a committee have shape {forces.shape}; expected (n_models, n, 3)")
    squares: Array = np.square(forces - forces.mean(axis=0)).sum(axis=2).mean(axis=0)
    return np.sqrt(squares)


def committee_deviations(forces: Array, masses: Array, molecule: NDArray[np.integer]) -> Deviations:
    """Deviations between and inside molecules of one frame from forces of shape (n_models, n_atoms, 3)."""
    parts = [split_forces(one, masses, molecule) for one in forces]
    return Deviations(spread(np.array([p[0] for p in parts])), spread(np.array([p[1] for p in parts])))


def frame_pairs(
    forces: Array,
    label: Array,
    symbols: Sequence[str],
    masses: Array,
    molecule: NDArray[np.integer],
    frame: str,
    state: str,
) -> dict[str, Pairs]:
    """Pairs of one labelled frame, between (`INTER`) and inside (`INTRA`) molecules.

    The error is that of the first model, which moves the atoms. Molecules of one atom
    have no inside.

    Parameters
    ----------
    forces
        Forces by each model in eV/Å, shape (n_models, n_atoms, 3).
    label
        Labelled forces in eV/Å, shape (n_atoms, 3).
    """
    deviations = committee_deviations(forces, masses, molecule)
    net, rest = split_forces(forces[0] - label, masses, molecule)
    inside = np.bincount(molecule)[molecule] > 1
    kinds = {INTER: np.full(len(net), MOLECULE), INTRA: np.array(symbols)}
    found = {}
    for channel, spreads, errors in ((INTER, deviations.inter, net), (INTRA, deviations.intra, rest)):
        kept = inside if channel == INTRA else np.ones(len(spreads), bool)
        count = len(spreads)
        everything = Pairs(
            np.full(count, frame), np.full(count, state), kinds[channel],
            spreads, np.linalg.norm(errors, axis=1) / math.sqrt(3),
        )  # fmt: skip
        found[channel] = everything.where(kept)
    return found


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Several sets of pairs as one."""
    names = ("frame", "state", "kind", "deviation", "error")
    if not parts:
        empty: Any = np.array([], dtype=np.str_)
        return Pairs(empty, empty, empty, np.zeros(0), np.zeros(0))
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


# ---------------------------------------------------------------- one map


@dataclass(frozen=True)
class Map:
    """Error expected at a deviation: straight lines between knots in logarithms, proportional beyond them."""

    deviation: Array
    """Knots in eV/Å, increasing."""
    error: Array
    """Expected root-mean-square error of a force component at the knots in eV/Å, increasing."""
    quantile: float | None
    """`COVERAGE` of all errors are below this times the expected error; None: too few frames to say."""
    largest: float
    """Largest deviation among the pairs in eV/Å; beyond it the map is extrapolated."""
    pairs: int
    frames: int

    def expected(self, deviation: Array) -> Array:
        """Expected error in eV/Å; inf where the deviation is missing or infinite."""
        known = np.isfinite(deviation)
        safe = np.where(known, np.maximum(deviation, SMALLEST), 1.0)
        result: Array = np.where(known, _through(safe, self.deviation, self.error), np.inf)
        return result

    def level(self, error: float) -> float:
        """Deviation in eV/Å at which `error` is expected."""
        return float(_through(np.array([error]), self.error, self.deviation)[0])

    def bound(self, deviation: Array) -> Array:
        """Error in eV/Å that `COVERAGE` of all atoms with this deviation stay below; NaN if unknown."""
        return self.expected(deviation) * (np.nan if self.quantile is None else self.quantile)


def _through(x: Array, knots: Array, values: Array) -> Array:
    """Values at x by interpolation between logarithms; with slope 1 in logarithms beyond the knots."""
    place = np.log(x)
    low, high = np.log(knots[0]), np.log(knots[-1])
    inside = np.interp(place, np.log(knots), np.log(values))
    result: Array = np.exp(inside + np.minimum(place - low, 0.0) + np.maximum(place - high, 0.0))
    return result


def fit(pairs: Pairs) -> Map:
    """The map that pairs give: isotonic regression of the error on the deviation, and its conformal quantile.

    Pairs go into bins of equal size by deviation; the mean logarithm of the error in each
    is made increasing by isotonic regression (pool adjacent violators,
    `scipy.optimize.isotonic_regression`). Logarithms, and a scale from the median ratio of
    error to expectation (for a Gaussian error), keep a few absurd labels from moving it.
    Half of the frames fit the map; the others give the split-conformal quantile of
    error over expectation (Lei et al., DOI 10.1080/01621459.2017.1307116). Atoms of one
    frame are not independent, so that its coverage holds on average over frames only.

    Raises
    ------
    DataError
        If there is no pair of finite numbers.
    """
    sound = np.isfinite(pairs.deviation) & np.isfinite(pairs.error)
    pairs = pairs.where(sound)
    if len(pairs.deviation) == 0:
        raise DataError("no pair of deviation and error; expected at least one labelled frame the models have not seen")
    frames = np.unique(pairs.frame)
    split = len(frames) >= SPLIT_FRAMES
    learning = pairs.where(np.isin(pairs.frame, frames[::2])) if split else pairs
    knots = _isotonic(learning)
    quantile = None
    if split:
        fresh = pairs.where(np.isin(pairs.frame, frames[1::2]))
        plain = Map(*knots, None, 0.0, 0, 0)
        quantile = _conformal(fresh.error / plain.expected(fresh.deviation))
    return Map(*knots, quantile, float(pairs.deviation.max()), len(pairs.deviation), len(frames))


def _isotonic(pairs: Pairs) -> tuple[Array, Array]:
    """Knots: deviations and expected errors, both increasing."""
    from scipy.optimize import isotonic_regression

    order = np.lexsort((pairs.error, pairs.deviation))
    x = np.log(np.maximum(pairs.deviation[order], SMALLEST))
    y = np.log(np.maximum(pairs.error[order], SMALLEST))
    count = int(np.clip(len(x) // BIN_PAIRS, 1, MOST_BINS))
    bins = np.array_split(np.arange(len(x)), count)
    middle, level = np.array([x[b].mean() for b in bins]), np.array([y[b].mean() for b in bins])
    weights = np.array([len(b) for b in bins], float)
    result = isotonic_regression(level, weights=weights)
    edges = zip(result.blocks[:-1], result.blocks[1:], strict=True)
    knots = np.array([np.average(middle[a:b], weights=weights[a:b]) for a, b in edges])
    values = np.array([result.x[a] for a in result.blocks[:-1]])
    apart = np.concatenate([[True], np.diff(knots) > 1e-9])
    knots, values = np.exp(knots[apart]), np.exp(values[apart])
    scale = float(np.median(np.exp(y) / _through(np.exp(x), knots, values))) * MEDIAN_TO_RMS
    return knots, scale * values


def _conformal(scores: Array) -> float | None:
    """The smallest score that a new one stays below with probability `COVERAGE`; None: too few scores."""
    rank = math.ceil((len(scores) + 1) * COVERAGE)
    return None if rank > len(scores) else float(np.sort(scores)[rank - 1])


# ---------------------------------------------------------------- maps for kinds and states


def group_name(kind: str, state: str = "") -> str:
    """Name of a group of pairs: an element or ``molecule``, at one state or all."""
    return f"{kind} at {state}" if state else kind


def calibrate(pairs: Pairs) -> dict[str, Map]:
    """Maps by name: of all pairs, and of each kind, and each kind at each state, with `GROUP_FRAMES` frames."""
    maps = {POOLED: fit(pairs)}
    kinds = sorted(set(pairs.kind.tolist()))
    for kind in kinds:
        own = pairs.kind == kind
        groups = {group_name(kind): own} if len(kinds) > 1 else {}
        groups |= {group_name(kind, s): own & (pairs.state == s) for s in sorted(set(pairs.state.tolist()))}
        for name, mask in groups.items():
            part = pairs.where(mask)
            if part.frames >= GROUP_FRAMES:
                maps[name] = fit(part)
    return maps


def map_for(maps: Mapping[str, Map], kind: str, state: str) -> str:
    """Name of the narrowest map there is for a kind at a state."""
    names = (group_name(kind, state), group_name(kind), POOLED)
    return next(name for name in names if name in maps)


def _by_map(maps: Mapping[str, Map], kind: Names, state: Names) -> dict[str, NDArray[np.int64]]:
    """Indices of the pairs each map is for."""
    names = [map_for(maps, str(k), str(s)) for k, s in zip(kind, state, strict=True)]
    return {name: np.flatnonzero(np.array(names) == name) for name in sorted(set(names))}


def expected(maps: Mapping[str, Map], kind: Names, state: Names, deviation: Array) -> Array:
    """Expected error of each atom or molecule in eV/Å, by the narrowest map there is; shape (n,)."""
    result = np.full(len(deviation), np.inf)
    for name, members in _by_map(maps, kind, state).items():
        result[members] = maps[name].expected(deviation[members])
    return result


def within_reach(maps: Mapping[str, Map], kind: Names, state: Names, deviation: Array) -> NDArray[np.bool_]:
    """Whether each deviation is at most `REACH` times the largest that its map was made from; shape (n,)."""
    result = np.zeros(len(deviation), dtype=bool)
    for name, members in _by_map(maps, kind, state).items():
        result[members] = deviation[members] <= REACH * maps[name].largest
    return result


# ---------------------------------------------------------------- does it hold


@dataclass(frozen=True)
class Check:
    """How maps made before did on pairs that came after."""

    frames: int
    covered: float | None
    """Share of errors below their conformal bound; None: no bound known."""
    beyond: float
    """Share of deviations larger than any the maps were made from."""
    ratio: float
    """Root mean square of the errors over that of the expected ones."""
    holds: bool
    message: str


def check(maps: Mapping[str, Map], pairs: Pairs) -> Check:
    """Whether the maps hold for newer pairs: `COVERAGE` of their errors within the bounds.

    A map fails if the coverage falls short by more than two standard errors, more than half
    of the deviations are beyond its pairs, or the errors are more than `TOO_SURE` times those
    expected. The standard error is that of a share among n independent frames, and of the
    share that a bound from m frames has: c(1-c)(1/n + 1/(m+2)), the second being the variance
    of its beta distribution (Vovk, DOI 10.1007/s10994-013-5355-6).
    """
    if len(pairs.deviation) == 0:
        return Check(0, None, 0.0, 1.0, True, "no new pair")
    bounds, largest = np.full(len(pairs.error), np.nan), np.zeros(len(pairs.error))
    for name, members in _by_map(maps, pairs.kind, pairs.state).items():
        bounds[members] = maps[name].bound(pairs.deviation[members])
        largest[members] = maps[name].largest
    beyond = float(np.mean(~(pairs.deviation <= largest)))
    foreseen = expected(maps, pairs.kind, pairs.state, pairs.deviation)
    ratio = float(np.sqrt(np.mean(pairs.error**2) / np.mean(foreseen**2)))
    sure = f"errors {ratio:.1f} times those expected, {beyond:.0%} of deviations beyond those it was made from"
    near = beyond <= 0.5 and ratio <= TOO_SURE
    known = ~np.isnan(bounds)
    if not known.any():
        return Check(pairs.frames, None, beyond, ratio, near, f"no bound from so few frames, {sure}")
    covered = float(np.mean(pairs.error[known] <= bounds[known]))
    bounding = maps[POOLED].frames // 2  # the half that `fit` takes its quantile from
    slack = 2 * math.sqrt(COVERAGE * (1 - COVERAGE) * (1 / pairs.frames + 1 / (bounding + 2)))
    message = f"{covered:.0%} of errors within their bound (expected {COVERAGE:.0%} ± {slack:.0%}), {sure}"
    return Check(pairs.frames, covered, beyond, ratio, near and covered >= COVERAGE - slack, message)


def reliability(maps: Mapping[str, Map], pairs: Pairs, most: int = 8) -> list[tuple[float, float, int]]:
    """Bins of equal size by expected error: its root mean square, that of the true error (eV/Å), and the pairs."""
    if len(pairs.deviation) == 0:
        return []
    foreseen = expected(maps, pairs.kind, pairs.state, pairs.deviation)
    order = np.lexsort((pairs.error, foreseen))
    bins = np.array_split(order, int(np.clip(len(order) // BIN_PAIRS, 1, most)))
    return [
        (float(np.sqrt(np.mean(foreseen[b] ** 2))), float(np.sqrt(np.mean(pairs.error[b] ** 2))), len(b)) for b in bins
    ]


# ---------------------------------------------------------------- to and from records


def as_record(maps: Mapping[str, Map]) -> dict[str, records.Map]:
    """Maps as train/calibration.json holds them."""
    return {
        name: records.Map(
            deviation_ev_angstrom=one.deviation.tolist(),
            error_ev_angstrom=one.error.tolist(),
            quantile=one.quantile,
            largest_deviation_ev_angstrom=one.largest,
            pairs=one.pairs,
            frames=one.frames,
        )
        for name, one in maps.items()
    }


def from_record(maps: Mapping[str, records.Map]) -> dict[str, Map]:
    """Maps of train/calibration.json.

    Raises
    ------
    DataError
        If there is no map of all pairs.
    """
    if POOLED not in maps:
        raise DataError(f"a calibration has no map '{POOLED}'; expected one of all pairs: run mlpwf train test again")
    return {
        name: Map(
            np.array(one.deviation_ev_angstrom, float),
            np.array(one.error_ev_angstrom, float),
            one.quantile,
            one.largest_deviation_ev_angstrom,
            one.pairs,
            one.frames,
        )
        for name, one in maps.items()
    }


def as_document(maps: Mapping[str, Map]) -> dict[str, Any]:
    """Maps as JSON has them."""
    return {
        name: {
            "deviation_ev_angstrom": one.deviation.tolist(),
            "error_ev_angstrom": one.error.tolist(),
            "quantile": one.quantile,
            "largest_deviation_ev_angstrom": one.largest,
            "pairs": one.pairs,
            "frames": one.frames,
        }
        for name, one in maps.items()
    }


def from_document(document: Mapping[str, Any]) -> dict[str, Map]:
    """Maps from what `as_document` gave.

    Raises
    ------
    DataError
        If a key is missing or there is no map of all pairs.
    """
    try:
        maps = {
            str(name): Map(
                np.array(one["deviation_ev_angstrom"], float),
                np.array(one["error_ev_angstrom"], float),
                None if one["quantile"] is None else float(one["quantile"]),
                float(one["largest_deviation_ev_angstrom"]),
                int(one["pairs"]),
                int(one["frames"]),
            )
            for name, one in document.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"a calibration lacks {error}; expected the maps of mlpwf train test: run it again") from None
    if POOLED not in maps:
        raise DataError(f"a calibration has no map '{POOLED}'; expected one of all pairs: run mlpwf train test again")
    return maps
