"""Boxes to study labels on, and their names."""

import numpy as np
from ase import Atoms

from mlpwf.config import System
from mlpwf.label.study_boxes import boxes, molecules_in, multiple_of

HYDROGEN = System(molecules={"hydrogen": {"smiles": "[H][H]", "count": 2}}, density_g_cm3=0.08)
MIXTURE = System(molecules={"water": {"smiles": "O", "count": 2}, "hydrogen": {"smiles": "[H][H]"}}, density_g_cm3=0.9)


def test_a_box_is_named_by_its_multiple_of_the_systems_molecules():
    assert [multiple_of(HYDROGEN, 1, atoms) for atoms in (4, 12, 6)] == [1, 3, None]
    assert [multiple_of(MIXTURE, 1, atoms) for atoms in (8, 16, 12)] == [1, 2, None]


def test_molecules_are_counted_where_a_frame_knows_them():
    atoms = Atoms("H4")
    assert molecules_in(atoms) is None
    atoms.arrays["molecule"] = np.array([0, 0, 1, 1])
    assert molecules_in(atoms) == 2


def test_boxes_have_the_density_and_whole_molecules_and_are_made_once(tmp_path):
    made = boxes(HYDROGEN, 3, [2, 1, 2], 1, tmp_path)
    assert [len(atoms) for atoms in made] == [4, 8]
    assert [molecules_in(atoms) for atoms in made] == [2, 4]
    assert all(atoms.info["kind"] == "bulk" for atoms in made)
    volumes = [atoms.get_volume() for atoms in made]
    assert np.isclose(volumes[1], 2 * volumes[0], rtol=1e-4)
    assert np.isclose(4 * 1.008 / 0.602214 / 0.08, volumes[0], rtol=1e-3)
    again = boxes(HYDROGEN, 3, [1], 1, tmp_path)
    assert np.array_equal(again[0].positions, made[0].positions)
    assert len(list(tmp_path.iterdir())) == 2
    boxes(HYDROGEN, 4, [1], 1, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3, "another seed is another box"
