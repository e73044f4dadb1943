"""What labels of a campaign will be like, before any is computed: boxes, k-points and the error they leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpwf.calculators.espresso.kpoints import KPoints, expected_error
from mlpwf.calculators.espresso.pw import kpoints_of
from mlpwf.config import Campaign
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
    from mlpwf.structures.species import geometry

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
class Sampling:
    """k-points in a box, how far apart they keep images in Å, and the force error to be expected in eV/Å."""

    box: Box
    points: KPoints
    image_distance: float
    error: float

    def __str__(self) -> str:
        count = len(self.points.points)
        name = "Γ" if self.points.is_gamma else f"{count} k-point{'s' * (count > 1)}"
        return (
            f"{name} in {self.box.cell[0, 0]:.1f} Å: images {self.image_distance:.1f} Å apart, force error around "
            f"{1e3 * self.error:.1g} meV/Å"
        )


def samplings(campaign: Campaign) -> list[Sampling]:
    """The k-points of each size of box.

    Raises
    ------
    ConfigError
        If a box needs too many.
    """
    found = []
    for box in boxes(campaign):
        points = kpoints_of(campaign.label, box.cell)
        distance = points.image_distance(box.cell)
        found.append(Sampling(box, points, distance, expected_error(distance)))
    return found
