"""A committee: the spread of its members' predictions tells where they have learnt too little."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import ConfigError
from mlpwf.potentials.base import Potential, Spread
from mlpwf.potentials.calibration import spread
from mlpwf.potentials.record import open_model
from mlpwf.structures.properties import Properties

Array = NDArray[np.float64]


def spread_of(members: Sequence[Properties]) -> Spread:
    """Spread of the members' predictions of one frame.

    The deviation of the force on atom i is sqrt(<|F_i - <F_i>|²>), of an element of the virial the standard deviation
    over the number of atoms, both over the members (Zhang, Lin, Wang, Car and E, DOI 10.1103/PhysRevMaterials.3.023804,
    and DeePMD-kit). The element with the largest deviation depends on the axes of the frame.

    Parameters
    ----------
    members
        Prediction of each member.
    """
    deviations = spread(np.array([one.forces for one in members]))
    virials = np.array([one.virial for one in members]) / len(deviations)
    return Spread(
        float(deviations.max()), float(deviations.min()), float(deviations.mean()), float(virials.std(axis=0).max())
    )


class Committee:
    """Potentials that differ by chance alone."""

    def __init__(self, members: Sequence[Potential]) -> None:
        if not members:
            raise ConfigError("a committee of no models; expected at least one")
        self.members = list(members)

    @classmethod
    def opened(cls, models: Sequence[Path], molecules: Sequence[Atoms] = ()) -> Committee:
        """The committee of these model files."""
        return cls([open_model(model, molecules) for model in models])

    def predict(self, frames: Sequence[Atoms]) -> list[list[Properties]]:
        """Predictions of each member, each a list over frames; EngineError where one is not finite."""
        return [member.predict(frames) for member in self.members]

    def forces(self, frames: Sequence[Atoms]) -> list[Array]:
        """Forces (eV/Å) of each frame, shape (n_members, n_atoms, 3); not finite where a member fails."""
        found = [member.evaluate(frames) for member in self.members]
        return [np.array([one.forces for one in frame]) for frame in zip(*found, strict=True)]

    def spread(self, frames: Sequence[Atoms]) -> list[Spread]:
        """Spread at each frame; not finite where a member fails."""
        found = [member.evaluate(frames) for member in self.members]
        return [spread_of(frame) for frame in zip(*found, strict=True)]
