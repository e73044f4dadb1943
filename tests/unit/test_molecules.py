"""Molecules as rigid bodies: how their atoms move, and the forces and torques that this gives."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlpwf.structures.molecules import centres_of_mass, rigid_motions


@pytest.fixture
def box() -> Atoms:
    """A benzene, an argon atom and a water, with forces drawn at random."""
    rng, atoms = np.random.default_rng(3), Atoms(cell=[9, 10, 11], pbc=True)
    for one in (molecule("C6H6"), Atoms("Ar"), molecule("H2O")):
        one.euler_rotate(*rng.uniform(0, 360, 3))
        one.positions += rng.uniform(0, 9, 3)
        atoms += one
    atoms.set_array("molecule", np.repeat([0, 1, 2], [12, 1, 3]))
    return atoms


def test_forces_along_rigid_motions_are_net_forces_and_torques(box: Atoms) -> None:
    forces = np.random.default_rng(4).normal(size=(len(box), 3))
    found = np.einsum("ikq,ik->q", rigid_motions(box), forces).reshape(3, 6)
    for own, (first, last) in zip(found, ((0, 12), (12, 13), (13, 16)), strict=True):
        part, pushes = box[first:last], forces[first:last]
        arms = part.positions - part.get_center_of_mass()
        size = np.sqrt(np.mean(np.sum(arms**2, axis=1)))
        np.testing.assert_allclose(own[:3], pushes.sum(axis=0), atol=1e-12)
        torque = np.cross(arms, pushes).sum(axis=0) / size if last - first > 1 else np.zeros(3)
        np.testing.assert_allclose(own[3:], torque, atol=1e-12)


def test_rigid_motions_keep_every_distance_within_a_molecule(box: Atoms) -> None:
    numbers, masses = box.arrays["molecule"], box.get_masses()
    same = numbers[:, None] == numbers[None, :]
    before, centres = box.get_all_distances()[same], centres_of_mass(box.positions, masses, numbers)
    for index, motion in enumerate(rigid_motions(box).transpose(2, 0, 1)):
        moved = box.copy()
        moved.positions += 1e-4 * motion
        assert np.abs(moved.get_all_distances()[same] - before).max() < 1e-7
        shift = (centres_of_mass(moved.positions, masses, numbers) - centres) / 1e-4
        expected = np.zeros((3, 3))
        if index % 6 < 3:
            expected[index // 6, index % 6] = 1
        np.testing.assert_allclose(shift, expected, atol=1e-9)


def test_forces_of_equal_strength_on_all_atoms_are_felt_alike_by_shifts_and_turns() -> None:
    atoms = molecule("C60")
    atoms.set_array("molecule", np.zeros(60, dtype=int))
    squares = (rigid_motions(atoms) ** 2).sum(axis=(0, 1))
    np.testing.assert_allclose(squares[:3], 60)
    np.testing.assert_allclose(squares[3:], 60 * 2 / 3, rtol=1e-3)
