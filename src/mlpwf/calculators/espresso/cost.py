"""What a label by pw.x will cost, scaled from labels that are known by atoms, volume, cut-offs and k-points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpwf.calculators.espresso import pw
from mlpwf.calculators.foresight import Known
from mlpwf.campaign.pricing import UNMEASURED, Price
from mlpwf.config.label import Label

SIZE_POWER = 1.05  # of atoms times volume: FFTs over all bands, and their overlap in large boxes
CUTOFF_POWER, GRID_POWER = 1.2, 0.6
BESIDE_KPOINTS, KPOINT = (
    0.4,
    1.2,
)  # cost in units of Γ's: 1.6 for one point, 2.8 for two (toluene 1.8, 2.9; water 1.5, 2.6)
SCALING_ERROR = 0.25  # of the logarithm a price is scaled by
LOAD = 0.1  # the same label costs more or less by what else the machine does
NEAR = 0.3  # labels this near in logarithm of their scaled cost are as good as the nearest


@dataclass(frozen=True)
class Size:
    """What the cost of one label depends on: atoms, volume in Å³, cut-offs of wave functions and FFT grid in Ry.

    kpoints is the number of k-points; 0 stands for Γ alone, whose wave functions are real.
    """

    atoms: int
    volume: float
    cutoff: float
    grid_cutoff: float
    kpoints: int = 0

    def log_cost(self) -> float:
        """Logarithm of a cost in arbitrary units."""
        return (
            SIZE_POWER * math.log(self.atoms * self.volume)
            + CUTOFF_POWER * math.log(self.cutoff)
            + GRID_POWER * math.log(self.grid_cutoff)
            + math.log(BESIDE_KPOINTS + KPOINT * self.kpoints if self.kpoints else 1.0)
        )


# pw.x 6.7 with OpenBLAS, ultrasoft pseudopotentials, energy, forces, stress and two-body D3: CPU-s of one label.
ELSEWHERE = (
    (Size(12, 120.0, 45, 365), 0.95),
    (Size(24, 240.0, 45, 365), 2.5),
    (Size(30, 353.4, 40, 363), 3.8),
    (Size(60, 706.8, 40, 363), 13.1),
)


def size_of(label: Label, atoms: int, cell: NDArray[np.float64]) -> Size:
    """What the cost of a label of so many atoms in a cell, (3, 3) in Å, depends on."""
    points = pw.kpoints_of(label, cell)
    grid = label.fft_grid_ry or label.density_cutoff_ry
    count = 0 if points.is_gamma else len(points.points)
    return Size(atoms, abs(float(np.linalg.det(cell))), label.cutoff_ry, grid, count)


def known_labels(label: Label, labels: Iterable[Known]) -> Iterator[tuple[Size, float]]:
    """Size and CPU-s of the labels by pw.x, with the dispersion of `label`, that their first attempts gave.

    Parameters
    ----------
    label
        The section to price labels of.
    labels
        Those of the store, of any engine.
    """
    dispersion = pw.physics(label, {})["dispersion"]
    for known in labels:
        physics: dict[str, Any] = dict(known.physics)
        if physics.get("engine") != label.engine or physics["dispersion"] != dispersion:
            continue
        if known.attempts > 1 or not known.cpu_s:
            continue
        grid = physics.get("fft_grid_ry", physics["density_cutoff_ry"])
        points = physics["kpoints"]
        number = 0 if points == "gamma" else len(points) if isinstance(points[0], list) else math.prod(points) // 2 + 1
        yield Size(known.atoms, known.volume, physics["cutoff_ry"], grid, number), known.cpu_s


def label_price(wanted: Size, known: Sequence[tuple[Size, float]]) -> Price:
    """Mean price of one label.

    cost ∝ (atoms × volume)^1.05 cutoff^1.2 grid_cutoff^0.6 from the known labels
    nearest in scaled cost; the error is that of their mean, and a quarter of the
    logarithm they were scaled by.

    Parameters
    ----------
    wanted
        The label to price.
    known
        Labels computed before and their CPU-s; none: labels measured elsewhere.
    """
    measured = known or ELSEWHERE
    distances = np.array([wanted.log_cost() - size.log_cost() for size, _ in measured])
    near = np.abs(distances) <= np.abs(distances).min() + NEAR
    costs = np.array([cpu_s for _, cpu_s in measured])[near] * np.exp(distances[near])
    spread = costs.std(ddof=1) / costs.mean() / math.sqrt(len(costs)) if len(costs) > 1 else 0.3
    scaled = SCALING_ERROR * float(np.abs(distances[near]).mean())
    relative = math.hypot(LOAD, spread, scaled, 0.0 if known else UNMEASURED)
    return Price(float(costs.mean()), float(costs.mean()) * relative)
