"""What work will cost, from what the same work has cost so far, with an error bar.

Labels are priced by their calculator. Everything else starts from a rate measured on one core of an ordinary
server and is calibrated by the campaign's own ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

UNMEASURED = math.log(2.0)  # a rate not measured on this site is known within a factor of 2
CALIBRATED = math.log(1.2)


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


def sampler_s(steps: int, atoms: int) -> float:
    """CPU-s of so many steps of GFN1-xTB dynamics: 0.1 s for 30 atoms."""
    return float(0.1 * steps * (atoms / 30) ** 1.6)


FIT_S = 30.0
"""CPU-s of fitting one molecular force field to a hundred labels."""


def train_s(steps: int, atoms: int) -> float:
    """CPU-s of training, freezing and compressing one small se_e2_a model: 20 ms a step for 60 atoms."""
    return 20.0 + steps * atoms * 0.33e-3


def md_s(steps: float, atoms: int, models: int = 1) -> float:
    """CPU-s of molecular dynamics with a compressed model: 40 µs an atom and step, further models now and then."""
    return 8.0 + steps * atoms * 40e-6 * (1 + 0.1 * (models - 1))


def mace_train_s(steps: int, atoms: int, batch: int) -> float:
    """CPU-s of training one MACE model of 32 channels in single precision: 1.9 ms an atom and step."""
    return 20.0 + steps * batch * atoms * 1.9e-3


def mace_md_s(steps: float, atoms: int, models: int = 1) -> float:
    """CPU-s of molecular dynamics with a MACE model of 32 channels: 1.5 ms an atom and step."""
    return 15.0 + steps * atoms * 1.5e-3 * (1 + 0.1 * (models - 1))


def molecular_md_s(steps: float, atoms: int, models: int = 1) -> float:
    """CPU-s of molecular dynamics with a fitted molecular force field: 12 µs an atom and step."""
    return 4.0 + steps * atoms * 12e-6 * (1 + 0.1 * (models - 1))


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
