"""xTB: forces against finite differences, relaxation and dynamics."""

import itertools
import os

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlpwf.calculators import xtb
from mlpwf.errors import EngineError


def water_box() -> Atoms:
    """Two waters in a small periodic box."""
    first, second = molecule("H2O"), molecule("H2O")
    second.rotate(70, "x")
    second.positions += [1.9, 1.8, 1.7]
    box = first + second
    box.set_cell([3.9, 3.8, 4.0])
    box.pbc = True
    box.rattle(0.03, seed=2)
    return box


def test_one_thread_whatever_snakemake_gives_its_job(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    xtb.calculator("gfn1")
    assert os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("method", ["gfn1", "gfn2"])
def test_periodic_forces_are_the_gradient_of_the_energy(method):
    box = water_box()
    box.calc = xtb.calculator(method)
    forces = box.get_forces()
    step = 1e-3
    for atom, axis in ((0, 0), (1, 2), (5, 1)):
        energies = []
        for sign in (1, -1):
            moved = water_box()
            moved.positions[atom, axis] += sign * step
            moved.calc = xtb.calculator(method)
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=2e-3)


def test_relaxation_lowers_the_forces_and_leaves_no_calculator():
    water = molecule("H2O")
    water.rattle(0.1, seed=1)
    relaxed = xtb.relax(water, "gfn1", steps=100, fmax_ev_angstrom=0.02)
    assert relaxed.calc is None
    assert water.calc is None
    relaxed.calc = xtb.calculator("gfn1")
    assert np.linalg.norm(relaxed.get_forces(), axis=1).max() < 0.02


def test_dynamics_repeat_with_their_seed():
    def run(seed):
        steps = xtb.langevin(water_box(), "gfn1", np.random.default_rng(seed), temperature_kelvin=300, timestep_fs=1.0)
        return list(itertools.islice(steps, 5))

    first, again, other = run(1), run(1), run(2)
    np.testing.assert_array_equal(first[-1].positions, again[-1].positions)
    assert np.abs(first[-1].positions - other[-1].positions).max() > 1e-3
    assert first[-1].calc is None
    assert not first[-1].has("momenta")
    assert np.abs(first[0].positions - first[-1].positions).max() > 1e-3


def test_dynamics_of_molecules_reach_the_temperature():
    """Harmonic-like molecule: mean potential energy above the minimum is about 3/2 kT of its 3 vibrations."""
    water = xtb.relax(molecule("H2O"), "gfn1", steps=100, fmax_ev_angstrom=1e-3)
    water.calc = xtb.calculator("gfn1")
    lowest = water.get_potential_energy()
    steps = xtb.langevin(
        water, "gfn1", np.random.default_rng(3), temperature_kelvin=600, timestep_fs=0.5, starting_kelvin=1200
    )
    excess, calculator = [], xtb.calculator("gfn1")
    for frame in itertools.islice(steps, 2000):
        frame.calc = calculator
        excess.append(frame.get_potential_energy() - lowest)
    expected = 1.5 * 8.617333e-5 * 600
    assert np.mean(excess[200:]) == pytest.approx(expected, rel=0.35)


def test_an_unknown_method_is_an_engine_error():
    with pytest.raises(EngineError, match="'gfn7'; expected one of gfn1, gfn2"):
        xtb.calculator("gfn7")


def test_elements_known():
    assert xtb.supports([1, 6, 86])
    assert not xtb.supports([1, 87])
    assert not xtb.supports([0])
