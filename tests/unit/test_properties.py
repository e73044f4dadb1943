"""One sign of the stress, ASE's: positive in tension, the derivative of the energy by strain over the volume."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.fd import calculate_numerical_stress
from ase.calculators.lj import LennardJones

from mlpwf.calculators import xtb
from mlpwf.errors import DataError
from mlpwf.structures.properties import Properties, mean, of_frame
from mlpwf.units import BAR_PER_EV_A3

SIGMA, EPSILON = 3.4, 0.0104


def argon(edge: float) -> Atoms:
    """A crystal of 32 atoms; at rest its cubic cell of four has an edge of about 1.54 σ."""
    atoms = Atoms("Ar4", scaled_positions=[[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], cell=[edge] * 3)
    atoms.pbc = True
    atoms = atoms.repeat(2)
    atoms.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=2.5 * SIGMA, smooth=True)
    return atoms


def hydrogen() -> Atoms:
    """Two stretched molecules by GFN1-xTB, in a cell without right angles."""
    positions = [[0.5, 0.5, 0.5], [0.6, 0.7, 1.4], [2.6, 2.4, 2.6], [3.3, 2.9, 2.7]]
    atoms = Atoms("H4", positions, cell=[[4.5, 0, 0], [0.4, 4.7, 0], [0.3, -0.2, 5.0]], pbc=True)
    atoms.calc = xtb.calculator("gfn1")
    return atoms


def strained(atoms: Atoms, strain: np.ndarray) -> float:
    """Energy in eV of a frame whose cell and atoms are strained."""
    copy = atoms.copy()
    copy.calc = atoms.calc
    copy.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return of_frame(copy).energy


def by_strain(atoms: Atoms, step: float = 1e-3) -> np.ndarray:
    """The stress from energies alone, (3, 3) in eV/Å³, as the docstring of `Properties` defines it."""
    stress = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            strain = np.zeros((3, 3))
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            stress[i, j] = (strained(atoms, strain) - strained(atoms, -strain)) / (2 * step * atoms.get_volume())
    return stress


def test_a_compressed_box_has_a_positive_pressure_and_a_stretched_one_a_negative() -> None:
    pressed, pulled = of_frame(argon(1.45 * SIGMA)), of_frame(argon(1.62 * SIGMA))
    assert pressed.pressure > 0 > pulled.pressure
    assert np.trace(pressed.stress) < 0 < np.trace(pulled.stress), "positive in tension"
    assert np.trace(pressed.virial) == pytest.approx(3 * pressed.pressure * pressed.volume)


def test_the_pressure_is_minus_the_derivative_of_the_energy_by_volume() -> None:
    edge, step = 1.45 * SIGMA, 1e-4
    small, large = (of_frame(argon(edge * (1 + sign * step))) for sign in (-1, 1))
    slope = (large.energy - small.energy) / (large.volume - small.volume)
    assert of_frame(argon(edge)).pressure == pytest.approx(-slope, rel=1e-4)
    assert of_frame(argon(edge)).pressure * BAR_PER_EV_A3 > 1000, "a pressure that is worth the test"


@pytest.mark.parametrize("made", [lambda: argon(1.45 * SIGMA), hydrogen], ids=["Lennard-Jones", "GFN1-xTB"])
def test_the_stress_is_the_derivative_of_the_energy_by_strain(made: Callable[[], Atoms]) -> None:
    """Each element, and as ASE itself differentiates."""
    frame = made()
    frame.rattle(0.03, seed=1)
    found = of_frame(frame)
    assert np.abs(found.stress).max() > 1e-3
    np.testing.assert_allclose(found.stress, by_strain(frame), rtol=0, atol=2e-5)
    numerical = calculate_numerical_stress(frame, eps=1e-3, voigt=False, force_consistent=False)
    np.testing.assert_allclose(found.stress, numerical, rtol=0, atol=2e-5)


class Given(Calculator):
    """Gives what it is given."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def calculate(self, *_: object) -> None:
        self.results = {"energy": 2.0, "forces": np.arange(6.0).reshape(2, 3), "stress": np.arange(6.0)}


def test_a_frame_gives_its_label_in_its_own_order() -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]], cell=[2, 3, 4], pbc=True)
    atoms.calc = Given()
    found = of_frame(atoms)
    assert (found.energy, found.volume) == pytest.approx((2.0, 24.0))
    assert found.stress.tolist() == [[0, 5, 4], [5, 1, 3], [4, 3, 2]], "xx, yy, zz, yz, xz, xy"
    assert np.array_equal(found.virial, -found.volume * found.stress)
    assert found.in_order(np.array([1, 0])).forces.tolist() == [[3, 4, 5], [0, 1, 2]]


def some(atoms: int, value: float = 1.0) -> Properties:
    """Properties whose numbers are all one."""
    return Properties(value, np.full((atoms, 3), value), np.full((3, 3), value), 8.0)


def test_differences_and_means_are_taken_of_every_number() -> None:
    apart = some(2, 3.0) - some(2, 1.0)
    assert (apart.energy, apart.volume, apart.pressure) == (2.0, 8.0, -2.0)
    assert np.array_equal(apart.forces, np.full((2, 3), 2.0))
    assert np.array_equal(apart.virial, np.full((3, 3), -16.0))
    middle = mean([some(2, 3.0), some(2, 1.0)])
    assert (middle.energy, middle.forces[1, 2], middle.stress[0, 1], middle.volume) == (2.0, 2.0, 2.0, 8.0)
    with pytest.raises(DataError, match=r"\(2, 3\) and \(3, 3\)"):
        some(2) - some(3)


def test_a_number_that_is_not_finite_is_seen() -> None:
    assert some(2).finite
    assert not some(2, float("nan")).finite
    assert not Properties(0.0, np.zeros((1, 3)), np.full((3, 3), np.inf), 8.0).finite
