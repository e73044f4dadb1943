"""The loss that networks are trained with: the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ase import Atoms

from mlpwf.config.train import Train
from mlpwf.errors import DataError

FORCE_WEIGHT = 1000.0


class Weight(NamedTuple):
    """Weight of a part of the loss at the first learning rate and at none; between them it follows the rate."""

    first: float
    last: float


class Weights(NamedTuple):
    """Weights of all parts: energy, forces, virial, and molecules as rigid bodies."""

    energy: Weight
    force: Weight
    virial: Weight
    molecule: Weight


def weights(section: Train) -> Weights:
    """The weights that a section asks for; a part of no weight stays out to the end."""
    return Weights(
        Weight(section.energy_weight, 1.0),
        Weight(FORCE_WEIGHT, 1.0),
        *(Weight(first, 1.0 if first else 0.0) for first in (section.virial_weight, section.molecule_weight)),
    )


def check_molecules(section: Train, frames: Sequence[Atoms]) -> None:
    """DataError where the loss asks for the molecules of frames that number none."""
    if section.molecule_weight and any("molecule" not in atoms.arrays for atoms in frames):
        raise DataError(
            "a frame numbers no molecules; expected a column 'molecule', or train.molecule_weight: 0, "
            "which asks nothing of molecules"
        )
