"""Pairs of near atoms: those of ASE's neighbour list, in cells of any shape."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from mlpwf.structures.neighbours import pairs_within

CELLS = {
    "cube": np.eye(3) * 9,
    "smaller than the reach": np.eye(3) * 2.2,
    "oblique": np.array([[6.0, 0, 0], [4.0, 5, 0], [-3.0, 2, 7]]),
    "flat": np.diag([3.0, 12, 30]),
}


@pytest.mark.parametrize("pbc", [True, (True, False, True), False])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_the_pairs_are_those_of_ase(cell: np.ndarray, pbc: bool) -> None:
    """Atoms lie in several cells, as those of whole molecules do."""
    rng = np.random.default_rng(7)
    atoms = Atoms("H40", rng.uniform(-1.5, 2.5, (40, 3)) @ cell, cell=cell, pbc=pbc)
    first, second, distance, image = pairs_within(atoms, 2.9)
    found = sorted(zip(first, second, map(tuple, image), np.round(distance, 9), strict=True))
    i, j, d, shift = neighbor_list("ijdS", atoms, 2.9)
    assert found == sorted(zip(i, j, map(tuple, shift), np.round(d, 9), strict=True))
    vectors = atoms.positions[second] - atoms.positions[first] + image @ cell
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), distance)


def test_a_molecule_without_a_cell_and_a_single_atom() -> None:
    assert [len(part) for part in pairs_within(Atoms("H2", [[0, 0, 0], [0.7, 0, 0]]), 1.0)] == [2, 2, 2, 2]
    assert [part.shape for part in pairs_within(Atoms("H"), 1.0)] == [(0,), (0,), (0,), (0, 3)]
