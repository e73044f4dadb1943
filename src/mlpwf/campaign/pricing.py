"""What work will cost, from what the same work has cost so far, with an error bar.

Labels are scaled from labels of the store by atoms, volume and cut-offs. Everything
else starts from a rate measured on one core of an ordinary server and is
calibrated by the campaign's own ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SIZE_POWER = 1.05  # of atoms times volume: FFTs over all bands, and their overlap in large boxes
CUTOFF_POWER, GRID_POWER = 1.2, 0.6
BESIDE_KPOINTS, KPOINT = (
    0.4,
    1.2,
)  # cost in units of Γ's: 1.6 for one point, 2.8 for two (toluene 1.8, 2.9; water 1.5, 2.6)
SCALING_ERROR = 0.25  # of the logarithm a price is scaled by
UNMEASURED = math.log(2.0)  # a rate not measured on this site is known within a factor of 2
CALIBRATED = math.log(1.2)
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


@dataclass(frozen=True)
class Price:
    """CPU-seconds and their standard error."""

    cpu_s: float
    error: float = 0.0

    def __add__(self, other: Price) -> Price:
        return Price(self.cpu_s + other.cpu_s, math.hypot(self.error, other.error))

    def __mul__(self, count: float) -> Price:
        """The price of so many equal pieces, whose errors are one and the same."""
        return Price(self.cpu_s * count, self.error * count)


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


def sampler_s(steps: int, atoms: int) -> float:
    """CPU-s of so many steps of GFN1-xTB dynamics: 0.1 s for 30 atoms."""
    return float(0.1 * steps * (atoms / 30) ** 1.6)


def train_s(steps: int, atoms: int) -> float:
    """CPU-s of training, freezing and compressing one small se_e2_a model: 20 ms a step for 60 atoms."""
    return 20.0 + steps * atoms * 0.33e-3


def md_s(steps: float, atoms: int, models: int = 1) -> float:
    """CPU-s of molecular dynamics with a compressed model: 40 µs an atom and step, further models now and then."""
    return 8.0 + steps * atoms * 40e-6 * (1 + 0.1 * (models - 1))


def classical_md_s(steps: float, atoms: int) -> float:
    """CPU-s of molecular dynamics with a classical force field and a long-range solver: 3.5 µs an atom and step."""
    return 2.0 + steps * atoms * 3.5e-6


def calibration(predicted: Mapping[str, float], spent: Mapping[str, float]) -> dict[str, float]:
    """For each stage that has run: what it cost over what its rate predicted.

    Parameters
    ----------
    predicted, spent
        CPU-s by stage, of the jobs finished so far.
    """
    return {stage: spent[stage] / value for stage, value in predicted.items() if value > 0 and spent.get(stage, 0) > 0}


def rate_price(stage: str, cpu_s: float, calibrated: Mapping[str, float]) -> Price:
    """Price of a stage other than label from its rate, calibrated where the stage has run before."""
    known = stage in calibrated
    value = cpu_s * calibrated.get(stage, 1.0)
    return Price(value, value * (CALIBRATED if known else UNMEASURED))
