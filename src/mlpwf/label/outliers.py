"""Labels that are implausible against their ensemble and against the committee.

A flag is a question, not a verdict: the label is computed a second time, tighter,
and is trained on only if both calculations agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlpwf.potentials.committee import spread_of
from mlpwf.potentials.metrics import Array, committee_mean
from mlpwf.structures.properties import Properties

SPREADS = 8.0  # robust standard deviations from the median; a false flag costs one label
FEWEST = 8  # labels of one composition below which there is no ensemble to compare with
AGREEMENT_EV_ANGSTROM = 0.02
AGREEMENT_EV_ATOM = 1e-3
SPREAD_FLOORS = {"energy": 2e-3, "force": 0.1}  # eV/atom and ln(eV/Å): a narrower ensemble flags nothing finer


def robust_z(values: Array, floor: float) -> Array:
    """Distance of each value from the median, in robust standard deviations.

    z = (x − median)/s with s = 1.4826 median|x − median|, which is the standard
    deviation of normally distributed values (Rousseeuw and Croux,
    DOI 10.1080/01621459.1993.10476408), at least `floor`.

    Parameters
    ----------
    values
        Shape (n,), in any unit.
    floor
        Smallest spread, in the unit of the values.
    """
    centred = values - np.median(values)
    scores: Array = centred / max(1.4826 * float(np.median(np.abs(centred))), floor)
    return scores


def implausible(
    labels: Sequence[Properties],
    compositions: Sequence[str],
    committee: Sequence[Sequence[Properties]] = (),
) -> list[str]:
    """Why each label is implausible; an empty string for those that are not.

    Against the ensemble of labels of the same composition: the energy per atom and
    the logarithm of the largest force. Against the committee, where there is one:
    the mean's error of the energy per atom, the set's median error removed, and the
    logarithm of the largest force error over its deviation, so that a frame the
    committee knows to be new is not flagged for being new.

    Parameters
    ----------
    labels
        Energies, forces and virials of n frames.
    compositions
        Composition of each frame; frames of different ones are not compared.
    committee
        Predictions of each model for the same frames, shape (n_models, n); empty: no committee.
    """
    reasons: list[list[str]] = [[] for _ in labels]
    groups: dict[str, list[int]] = {}
    for index, composition in enumerate(compositions):
        groups.setdefault(composition, []).append(index)
    for members in groups.values():
        if len(members) < FEWEST:
            continue
        predicted = [[model[i] for i in members] for model in committee]
        for what, values, floor in _measures([labels[i] for i in members], predicted):
            for index, score in zip(members, robust_z(values, floor), strict=True):
                if not abs(score) <= SPREADS:
                    reasons[index].append(f"{what} is {score:+.1f} spreads from the median")
    return ["; ".join(found) for found in reasons]


def _measures(
    labels: Sequence[Properties], committee: Sequence[Sequence[Properties]]
) -> list[tuple[str, Array, float]]:
    atoms = np.array([len(label.forces) for label in labels])
    energies = np.array([label.energy for label in labels])
    largest = np.array([_largest(label.forces) for label in labels])
    measures = [
        ("the energy per atom", energies / atoms, SPREAD_FLOORS["energy"]),
        ("the largest force", np.log(largest), SPREAD_FLOORS["force"]),
    ]
    if committee:
        means = committee_mean(committee)
        apart = np.array([label.energy - mean.energy for label, mean in zip(labels, means, strict=True)])
        errors = np.array([_largest(label.forces - mean.forces) for label, mean in zip(labels, means, strict=True)])
        deviations = np.array([spread_of(frame).max_force for frame in zip(*committee, strict=True)])
        floor = float(np.median(deviations))
        measures += [
            ("the committee's energy error", apart / atoms, SPREAD_FLOORS["energy"]),
            ("the committee's force error", np.log(errors / (deviations + floor)), SPREAD_FLOORS["force"]),
        ]
    return measures


def _largest(forces: Array) -> float:
    return float(np.linalg.norm(forces, axis=-1).max()) + 1e-12


def disagreement(one: Properties, other: Properties) -> str:
    """How two labels of one frame differ by more than their thresholds explain; empty if they do not."""
    force = float(np.abs(one.forces - other.forces).max())
    energy = abs(one.energy - other.energy) / len(one.forces)
    if force <= AGREEMENT_EV_ANGSTROM and energy <= AGREEMENT_EV_ATOM:
        return ""
    return f"two calculations differ by {force:.3g} eV/Å and {energy:.3g} eV/atom"
