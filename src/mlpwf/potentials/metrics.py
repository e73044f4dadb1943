"""How far predictions of frames are from their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.campaign.records import Errors, ErrorsByState, ErrorsOfLabels
from mlpwf.errors import DataError
from mlpwf.structures.molecules import split_forces, torques
from mlpwf.structures.properties import Properties, mean
from mlpwf.units import BAR_PER_EV_A3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Differences:
    """Largest differences of two models on the same frames."""

    energy_ev_atom: float
    force_ev_angstrom: float
    virial_ev_atom: float


def _differences(reference: Sequence[Properties], predicted: Sequence[Properties]) -> list[Properties]:
    """Predicted less reference, frame by frame."""
    if len(reference) != len(predicted):
        raise DataError(f"{len(predicted)} predictions for {len(reference)} labels; expected as many")
    found = []
    for frame, (label, model) in enumerate(zip(reference, predicted, strict=True)):
        try:
            found.append(model - label)
        except DataError as error:
            raise DataError(f"frame {frame}: {error}") from None
    return found


def rmse(values: Array) -> float:
    """Root of the mean square of all values."""
    return float(np.sqrt(np.mean(np.square(values))))


def committee_mean(models: Sequence[Sequence[Properties]]) -> list[Properties]:
    """Mean prediction for each frame over models, each a list over frames."""
    return [mean(frame) for frame in zip(*models, strict=True)]


def largest_differences(one: Sequence[Properties], other: Sequence[Properties]) -> Differences:
    """Largest absolute differences: energy per atom (eV), force component (eV/Å), virial per atom (eV)."""
    apart = _differences(one, other)
    return Differences(
        max(abs(frame.energy) / len(frame.forces) for frame in apart),
        max(float(np.abs(frame.forces).max()) for frame in apart),
        max(float(np.abs(frame.virial).max()) / len(frame.forces) for frame in apart),
    )


def error_measures(frames: Sequence[Atoms], reference: Sequence[Properties], predicted: Sequence[Properties]) -> Errors:
    """Root-mean-square errors over frames; components, atoms and molecules count equally.

    Parameters
    ----------
    frames
        Frames of whole molecules, with the array ``molecule``.
    reference, predicted
        Their labels and predictions.

    Returns
    -------
    Errors
        ``frames`` and ``atoms``, counts; ``energy_rmse_mev_atom``, of the total energy per
        atom with nothing subtracted, and its mean error ``energy_bias_mev_atom``;
        ``force_rmse_ev_angstrom``; ``force_inter_rmse_ev_angstrom``, of the net force on a
        molecule; ``torque_rmse_ev_angstrom``, of the torque on a molecule about its centre of
        mass, over the root mean square distance of its atoms from there, None where all
        molecules are single atoms; ``force_intra_rmse_ev_angstrom``, of the force on an atom
        less its mass share of the net force; ``virial_rmse_ev_atom``.

    Raises
    ------
    DataError
        If there are no frames, or predictions are not of these.
    """
    apart = _differences(reference, predicted)
    if not apart:
        raise DataError("no frames to rate a model on; expected at least one labelled frame")
    energies, virials, inter, intra, turning = [], [], [], [], []
    for atoms, error in zip(frames, apart, strict=True):
        molecule = atoms.arrays["molecule"]
        net, rest = split_forces(error.forces, atoms.get_masses(), molecule)
        energies.append(error.energy / len(atoms))
        virials.append(error.virial / len(atoms))
        inter.append(net)
        intra.append(rest)
        turning.append(torques(atoms, error.forces)[np.bincount(molecule) > 1])
    return Errors(
        frames=len(apart),
        atoms=sum(len(error.forces) for error in apart),
        energy_rmse_mev_atom=1e3 * rmse(np.array(energies)),
        energy_bias_mev_atom=1e3 * float(np.mean(energies)),
        force_rmse_ev_angstrom=rmse(np.concatenate([error.forces for error in apart])),
        force_inter_rmse_ev_angstrom=rmse(np.concatenate(inter)),
        torque_rmse_ev_angstrom=rmse(np.concatenate(turning)) if any(map(len, turning)) else None,
        force_intra_rmse_ev_angstrom=rmse(np.concatenate(intra)),
        virial_rmse_ev_atom=rmse(np.array(virials)),
    )


def errors_of_labels(
    frames: Sequence[Atoms], converged: Sequence[Properties], labels: Sequence[Properties]
) -> ErrorsOfLabels:
    """`error_measures` of labels against converged ones, and by how much their pressure is too high in the mean.

    Parameters
    ----------
    frames
        Frames of whole molecules, with the array ``molecule``.
    converged, labels
        Their converged labels, and those of the campaign.
    """
    pressures = [error.pressure for error in _differences(converged, labels)]
    return ErrorsOfLabels(
        **msgspec.structs.asdict(error_measures(frames, converged, labels)),
        pressure_bias_kbar=1e-3 * BAR_PER_EV_A3 * float(np.mean(pressures)),
    )


def frame_force_errors(reference: Sequence[Properties], predicted: Sequence[Properties]) -> list[float]:
    """Mean square error of a force component in each frame, in (eV/Å)²."""
    return [float(np.mean(error.forces**2)) for error in _differences(reference, predicted)]


def errors_by_state(
    frames: Sequence[Atoms], reference: Sequence[Properties], predicted: Sequence[Properties], states: Sequence[str]
) -> ErrorsByState:
    """`error_measures` over all frames, and for each state."""
    by_state = {}
    for state in sorted(set(states)):
        chosen = [index for index, name in enumerate(states) if name == state]
        by_state[state] = error_measures(
            [frames[index] for index in chosen],
            [reference[index] for index in chosen],
            [predicted[index] for index in chosen],
        )
    return ErrorsByState(overall=error_measures(frames, reference, predicted), states=by_state)


def parity_rows(
    reference: Sequence[Properties],
    predicted: Sequence[Properties],
    states: Sequence[str],
    limit: int = 6000,
) -> list[tuple[str, str, float, float]]:
    """Rows (quantity, state, label, prediction); forces are thinned evenly to keep to `limit`.

    Energies and virials are per atom, in eV; forces in eV/Å.
    """
    _differences(reference, predicted)  # refuses those of other frames
    kept: dict[str, list[tuple[str, str, float, float]]] = {"energy": [], "virial": [], "force": []}
    for label, model, state in zip(reference, predicted, states, strict=True):
        atoms = len(label.forces)
        pairs: dict[str, tuple[Any, Any]] = {
            "energy": ([label.energy / atoms], [model.energy / atoms]),
            "virial": (label.virial.ravel() / atoms, model.virial.ravel() / atoms),
            "force": (label.forces.ravel(), model.forces.ravel()),
        }
        for quantity, (known, guessed) in pairs.items():
            kept[quantity] += [(quantity, state, float(a), float(b)) for a, b in zip(known, guessed, strict=True)]
    rows: list[tuple[str, str, float, float]] = []
    for position, quantity in enumerate(kept):
        share = max(1, (limit - len(rows)) // (len(kept) - position))
        stride = -(-len(kept[quantity]) // share)
        rows += kept[quantity][:: max(1, stride)]
    return rows
