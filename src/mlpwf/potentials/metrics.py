"""Labels and predictions of frames, and how far they are from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import DataError
from mlpwf.structures.molecules import split_forces, torques

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Quantities:
    """What a label or a model says of one frame."""

    energy: float
    """Energy in eV."""
    forces: Array
    """Forces in eV/Å, shape (n_atoms, 3)."""
    virial: Array
    """Virial -stress * volume in eV, shape (3, 3)."""

    @property
    def finite(self) -> bool:
        """Whether all values are finite."""
        return all(bool(np.isfinite(values).all()) for values in (self.energy, self.forces, self.virial))


@dataclass(frozen=True)
class Differences:
    """Largest differences of two models on the same frames."""

    energy_ev_atom: float
    force_ev_angstrom: float
    virial_ev_atom: float


def labelled(atoms: Atoms) -> Quantities:
    """Energy (eV), forces (eV/Å) and virial (eV) of a labelled frame.

    Raises
    ------
    DataError
        If a label is missing or not finite, or the frame has no periodic cell.
    """
    if not atoms.pbc.all() or atoms.get_volume() <= 0:
        raise DataError("a labelled frame has no periodic cell; expected three cell vectors: label it again")
    try:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
        stress = atoms.get_stress(voigt=False)
    except Exception as error:
        raise DataError(
            f"a frame of {atoms.get_chemical_formula()} lacks a label ({error}); expected energy, forces and stress"
        ) from None
    if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all()):
        raise DataError(f"a label of {atoms.get_chemical_formula()} is not finite; remove it from the store")
    return Quantities(float(energy), np.array(forces, float), -np.array(stress, float) * atoms.get_volume())


def _checked(reference: Sequence[Quantities], predicted: Sequence[Quantities]) -> None:
    if len(reference) != len(predicted):
        raise DataError(f"{len(predicted)} predictions for {len(reference)} labels; expected as many")
    for frame, (label, model) in enumerate(zip(reference, predicted, strict=True)):
        if label.forces.shape != model.forces.shape or label.forces.ndim != 2:
            shapes = f"{model.forces.shape} and {label.forces.shape}"
            raise DataError(f"frame {frame}: forces have shapes {shapes}; expected (n_atoms, 3) twice")


def rmse(values: Array) -> float:
    """Root of the mean square of all values."""
    return float(np.sqrt(np.mean(np.square(values))))


def committee_mean(models: Sequence[Sequence[Quantities]]) -> list[Quantities]:
    """Mean prediction for each frame over models, each a list over frames."""
    return [
        Quantities(
            float(np.mean([one.energy for one in frame])),
            np.mean([one.forces for one in frame], axis=0),
            np.mean([one.virial for one in frame], axis=0),
        )
        for frame in zip(*models, strict=True)
    ]


def largest_differences(one: Sequence[Quantities], other: Sequence[Quantities]) -> Differences:
    """Largest absolute differences: energy per atom (eV), force component (eV/Å), virial per atom (eV)."""
    _checked(one, other)
    pairs = list(zip(one, other, strict=True))
    return Differences(
        max(abs(a.energy - b.energy) / len(a.forces) for a, b in pairs),
        max(float(np.abs(a.forces - b.forces).max()) for a, b in pairs),
        max(float(np.abs(a.virial - b.virial).max()) / len(a.forces) for a, b in pairs),
    )


def error_measures(
    frames: Sequence[Atoms], reference: Sequence[Quantities], predicted: Sequence[Quantities]
) -> dict[str, float | int | None]:
    """Root-mean-square errors over frames; components, atoms and molecules count equally.

    Parameters
    ----------
    frames
        Frames of whole molecules, with the array ``molecule``.
    reference, predicted
        Their labels and predictions.

    Returns
    -------
    dict
        ``frames`` and ``atoms``, counts; ``energy_rmse_mev_atom``, of the total energy per
        atom with nothing subtracted, and its mean error ``energy_bias_mev_atom``;
        ``force_rmse_ev_angstrom``; ``force_inter_rmse_ev_angstrom``, of the net force on a
        molecule; ``torque_rmse_ev_angstrom``, of the torque on a molecule about its centre of
        mass, over the root mean square distance of its atoms from there, None where all
        molecules are single atoms; ``force_intra_rmse_ev_angstrom``, of the force on an atom
        less its mass share of the net force; ``virial_rmse_ev_atom``.
    """
    _checked(reference, predicted)
    if not reference:
        raise DataError("no frames to rate a model on; expected at least one labelled frame")
    energies, virials, forces, inter, intra, turning = [], [], [], [], [], []
    for atoms, label, model in zip(frames, reference, predicted, strict=True):
        difference, molecule = model.forces - label.forces, atoms.arrays["molecule"]
        net, rest = split_forces(difference, atoms.get_masses(), molecule)
        energies.append((model.energy - label.energy) / len(difference))
        virials.append((model.virial - label.virial) / len(difference))
        forces.append(difference)
        inter.append(net)
        intra.append(rest)
        turning.append(torques(atoms, difference)[np.bincount(molecule) > 1])
    return {
        "frames": len(reference),
        "atoms": sum(len(one) for one in forces),
        "energy_rmse_mev_atom": 1e3 * rmse(np.array(energies)),
        "energy_bias_mev_atom": 1e3 * float(np.mean(energies)),
        "force_rmse_ev_angstrom": rmse(np.concatenate(forces)),
        "force_inter_rmse_ev_angstrom": rmse(np.concatenate(inter)),
        "torque_rmse_ev_angstrom": rmse(np.concatenate(turning)) if any(map(len, turning)) else None,
        "force_intra_rmse_ev_angstrom": rmse(np.concatenate(intra)),
        "virial_rmse_ev_atom": rmse(np.array(virials)),
    }


def frame_force_errors(reference: Sequence[Quantities], predicted: Sequence[Quantities]) -> list[float]:
    """Mean square error of a force component in each frame, in (eV/Å)²."""
    _checked(reference, predicted)
    return [float(np.mean((b.forces - a.forces) ** 2)) for a, b in zip(reference, predicted, strict=True)]


def errors_by_state(
    frames: Sequence[Atoms], reference: Sequence[Quantities], predicted: Sequence[Quantities], states: Sequence[str]
) -> dict[str, Any]:
    """`error_measures` over all frames (``overall``) and for each state (``states``)."""
    by_state = {}
    for state in sorted(set(states)):
        chosen = [index for index, name in enumerate(states) if name == state]
        by_state[state] = error_measures(
            [frames[index] for index in chosen],
            [reference[index] for index in chosen],
            [predicted[index] for index in chosen],
        )
    return {"overall": error_measures(frames, reference, predicted), "states": by_state}


def parity_rows(
    reference: Sequence[Quantities],
    predicted: Sequence[Quantities],
    states: Sequence[str],
    limit: int = 6000,
) -> list[tuple[str, str, float, float]]:
    """Rows (quantity, state, label, prediction); forces are thinned evenly to keep to `limit`.

    Energies and virials are per atom, in eV; forces in eV/Å.
    """
    _checked(reference, predicted)
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
