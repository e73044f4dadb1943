"""Log blocks, body axes, species: analytic cases, naive references, invariances."""

import numpy as np
import pytest
from ase import Atoms

from mlpwf.errors import DataError
from mlpwf.md.schedule import outputs
from mlpwf.structures.beads import beads, kabsch, principal_axes
from mlpwf.structures.molecules import centres_of_mass, molecules_in_cell, rescaled, species_numbers

WATER = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
CHIRAL = Atoms("CHFClBr", [[0, 0, 0], [0.6, 0.6, 0.6], [-0.8, -0.8, 0.8], [-1.0, 1.0, -1.0], [1.1, -1.1, -1.1]])


def rotations(rng, n):
    q, _ = np.linalg.qr(rng.normal(size=(n, 3, 3)))
    q[:, :, 0] *= np.sign(np.linalg.det(q))[:, None]
    return q


def liquid(rng, n=6, cell=20.0):
    turned = WATER.positions @ rotations(rng, n).transpose(0, 2, 1) + rng.uniform(0, cell, (n, 1, 3))
    atoms = Atoms("OHH" * n, turned.reshape(-1, 3), cell=[cell] * 3, pbc=True)
    atoms.arrays["molecule"] = np.repeat(np.arange(n), 3)
    return atoms


def frames(*arguments):
    return [output.step for output in outputs(*arguments) if output.frame]


def test_log_blocks_hold_powers_of_two_within_each_block():
    assert frames(10, 5, 20, 40) == [21, 22, 24, 28, 30, 31, 32, 34, 38, 40]


def test_a_power_of_two_interval_is_not_kept_twice():
    assert frames(8, 2, -1, 16) == [0, 1, 2, 4, 8, 9, 10, 12, 16]
    assert frames(1, 1, 0, 3) == [1, 2, 3]


def test_pressure_tensors_lie_on_multiples_of_their_interval():
    assert [output.step for output in outputs(12, 3, 3, 20) if output.stress] == [6, 9, 12, 15, 18]


def test_the_schedule_does_not_depend_on_where_a_run_is_cut():
    whole = list(outputs(12, 4, 0, 60))
    cuts = np.random.default_rng(1).choice(np.arange(1, 60), 5, replace=False)
    edges = [0, *sorted(cuts.tolist()), 60]
    parts = [output for k in range(6) for output in outputs(12, 4, edges[k], edges[k + 1])]
    assert parts == whole
    assert [output.step for output in whole] == sorted({output.step for output in whole})


@pytest.mark.parametrize(("interval", "stress"), [(10, 4), (0, 1), (10, 0)])
def test_a_schedule_of_broken_blocks_is_refused(interval, stress):
    with pytest.raises(DataError, match="expected a multiple"):
        list(outputs(interval, stress, 0, 20))


def test_kabsch_finds_the_rotation_exactly():
    rng = np.random.default_rng(1)
    R = rotations(rng, 50)
    moved = CHIRAL.positions @ R.transpose(0, 2, 1) + rng.normal(size=(50, 1, 3))
    np.testing.assert_allclose(kabsch(CHIRAL.positions, moved, CHIRAL.get_masses()), R, atol=1e-12)


def test_kabsch_of_a_planar_molecule_is_a_proper_rotation():
    R = rotations(np.random.default_rng(2), 50)
    found = kabsch(WATER.positions, WATER.positions @ R.transpose(0, 2, 1), WATER.get_masses())
    np.testing.assert_allclose(found, R, atol=1e-7)


def test_kabsch_never_reflects():
    mirrored = CHIRAL.positions * [1, 1, -1]
    found = kabsch(CHIRAL.positions, mirrored[None], CHIRAL.get_masses())
    assert np.linalg.det(found[0]) == pytest.approx(1.0)


def test_kabsch_agrees_with_a_search_over_rotations():
    rng = np.random.default_rng(3)
    target = CHIRAL.positions + rng.normal(scale=0.3, size=(5, 3))
    weights = CHIRAL.get_masses()

    def misfit(R):
        x = CHIRAL.positions - weights @ CHIRAL.positions / weights.sum()
        y = target - weights @ target / weights.sum()
        return np.einsum("i,nij->n", weights, (x @ R.transpose(0, 2, 1) - y) ** 2)

    best = misfit(kabsch(CHIRAL.positions, target[None], weights))[0]
    assert best <= misfit(rotations(rng, 20_000)).min()


def test_kabsch_of_atoms_and_rods_is_still_a_rotation():
    rod = np.array([[0.0, 0, -0.5], [0, 0, 0.5]])
    R = rotations(np.random.default_rng(4), 5)
    found = kabsch(rod, rod @ R.transpose(0, 2, 1), np.ones(2))
    np.testing.assert_allclose(found[:, :, 2], R[:, :, 2], atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(found), 1.0)
    np.testing.assert_allclose(kabsch(np.zeros((1, 3)), np.ones((2, 1, 3)), np.ones(1)), [np.eye(3)] * 2)


def test_principal_axes_diagonalise_the_inertia_tensor():
    axes = principal_axes(CHIRAL.positions, CHIRAL.get_masses())
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    turned = CHIRAL.copy()
    turned.positions = (CHIRAL.positions - CHIRAL.get_center_of_mass()) @ axes.T
    moments = turned.get_moments_of_inertia(vectors=False)
    np.testing.assert_allclose(np.sort(moments), moments)


def test_principal_axes_do_not_depend_on_the_order_of_atoms():
    order = [3, 0, 4, 1, 2]
    again = principal_axes(CHIRAL.positions[order], CHIRAL.get_masses()[order])
    np.testing.assert_allclose(again, principal_axes(CHIRAL.positions, CHIRAL.get_masses()), atol=1e-12)


def test_beads_carry_centre_and_axes():
    rng = np.random.default_rng(5)
    atoms = liquid(rng)
    found = beads(atoms.positions, atoms.get_masses(), atoms.arrays["molecule"], np.zeros(6, int), [WATER])
    com, u = found[::3], found.reshape(6, 3, 3)[:, 1:] - found[::3, None]
    np.testing.assert_allclose(com, centres_of_mass(atoms.positions, atoms.get_masses(), atoms.arrays["molecule"]))
    np.testing.assert_allclose(np.einsum("mki,mli->mkl", u, u), np.array([np.eye(2)] * 6), atol=1e-9)


def test_beads_turn_and_shift_with_the_molecules():
    rng = np.random.default_rng(6)
    atoms, R, shift = liquid(rng), rotations(rng, 1)[0], rng.normal(size=3)
    arguments = (atoms.get_masses(), atoms.arrays["molecule"], np.zeros(6, int), [WATER])
    before = beads(atoms.positions, *arguments)
    np.testing.assert_allclose(beads(atoms.positions @ R.T + shift, *arguments), before @ R.T + shift, atol=1e-7)


def test_beads_of_a_mixture_are_those_of_its_parts():
    rng = np.random.default_rng(7)
    one, two = liquid(rng, 2), CHIRAL
    mixed = np.concatenate([one.positions, two.positions + 5])
    masses = np.concatenate([one.get_masses(), two.get_masses()])
    molecule = np.concatenate([one.arrays["molecule"], np.full(5, 2)])
    found = beads(mixed, masses, molecule, np.array([0, 0, 1]), [WATER, CHIRAL])
    axes = principal_axes(CHIRAL.positions, CHIRAL.get_masses())
    np.testing.assert_allclose(found[7:9] - found[6], axes[:2], atol=1e-12)
    with pytest.raises(DataError, match="as many of each"):
        beads(mixed[1:], masses, molecule, np.array([0, 0, 1]), [WATER, CHIRAL])


def test_species_are_found_by_their_elements():
    atoms = liquid(np.random.default_rng(8), 2) + CHIRAL
    atoms.arrays["molecule"] = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    assert species_numbers(atoms, [CHIRAL, WATER]).tolist() == [1, 1, 0]
    with pytest.raises(DataError, match="in no reference"):
        species_numbers(atoms, [WATER])
    with pytest.raises(DataError, match="same sequence"):
        species_numbers(atoms, [WATER, WATER, CHIRAL])


def test_rescaling_keeps_molecules_rigid():
    atoms = liquid(np.random.default_rng(9))
    denser = rescaled(atoms, 0.05)
    density = atoms.get_masses().sum() / denser.get_volume() * 1.66053906660
    assert density == pytest.approx(0.05)
    np.testing.assert_allclose(denser.get_distance(3, 4), atoms.get_distance(3, 4))
    arrays = atoms.get_masses(), atoms.arrays["molecule"]
    scale = denser.cell[0, 0] / atoms.cell[0, 0]
    np.testing.assert_allclose(
        centres_of_mass(denser.positions, *arrays), scale * centres_of_mass(atoms.positions, *arrays)
    )


def test_molecules_return_to_the_cell_whole():
    rng = np.random.default_rng(10)
    atoms = liquid(rng)
    away = atoms.copy()
    away.positions += (rng.integers(-3, 4, (6, 3)) * 20.0)[atoms.arrays["molecule"]]
    np.testing.assert_allclose(molecules_in_cell(away).positions, molecules_in_cell(atoms).positions, atol=1e-9)
