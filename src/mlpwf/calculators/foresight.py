"""The boxes a campaign will label, and what a calculator foresees of them, before any label is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlpwf.campaign.pricing import Price
from mlpwf.campaign.records import Settings
from mlpwf.config import Campaign
from mlpwf.structures.species import geometry
from mlpwf.units import AMU_PER_A3_PER_G_CM3


@dataclass(frozen=True)
class Box:
    """A labelled box at the mean density: so many times the molecules of `system`, atoms, and its cube (3, 3) in Å."""

    multiple: int
    atoms: int
    cell: NDArray[np.float64]

    @property
    def volume(self) -> float:
        """Volume in Å³."""
        return float(np.linalg.det(self.cell))


def boxes(campaign: Campaign) -> list[Box]:
    """The sizes of labelled boxes, smallest first."""
    atoms, mass = 0, 0.0
    for name, molecule in campaign.system.molecules.items():
        one = geometry(name, molecule, campaign.seed)
        atoms += molecule.count * len(one)
        mass += molecule.count * float(one.get_masses().sum())
    volume = mass / (campaign.system.density_g_cm3 * AMU_PER_A3_PER_G_CM3)
    return [
        Box(multiple, atoms * multiple, np.eye(3) * float(np.cbrt(volume * multiple)))
        for multiple in sorted(set(campaign.build.box_multiples))
    ]


@dataclass(frozen=True)
class Known:
    """A label of the store, as far as its cost tells what others will take."""

    physics: Settings
    """What its numbers depend on beside the structure, by name (`Calculator.physics`)."""
    atoms: int
    volume: float
    """Of its cell in Å³."""
    attempts: int
    cpu_s: float
    """CPU time of all attempts; 0 where it was computed by others."""


@dataclass(frozen=True)
class Foresight:
    """What labels will be like.

    Attributes
    ----------
    label
        Price of one label by `Box.multiple`.
    converged
        Price of one frame labelled once more for the error of the labels, by `Box.multiple`.
    known
        Number of labels of the store that the prices are scaled from; 0: labels measured elsewhere.
    notes
        Lines for the plan.
    """

    label: Mapping[int, Price]
    converged: Mapping[int, Price] = field(default_factory=dict)
    known: int = 0
    notes: Sequence[str] = ()
