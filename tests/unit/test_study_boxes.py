"""Boxes to study labels on, and their names."""

import numpy as np
from ase import Atoms

from mlpwf.config import System
from mlpwf.label.study_boxes import StudyFrame, boxes, chosen_by_size, molecules_in, multiple_of, multiples_of

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


def test_frames_are_chosen_of_each_size_of_liquid_and_say_where_they_are_from():
    def frame(count, edge, bond=0.9, kind="bulk"):
        atoms = Atoms(f"H{count}", positions=[[bond * k, 0, 0] for k in range(count)], cell=[edge] * 3, pbc=True)
        atoms.info["kind"] = kind
        return atoms

    everything = [frame(4, 5.0), frame(2, 5.0, 0.8), frame(2, 4.0), frame(2, 4.5, 0.88), frame(2, 9.0, kind="single")]
    chosen = chosen_by_size([StudyFrame(atoms, "start.extxyz", k) for k, atoms in enumerate(everything)], 2)
    assert [one.index for one in chosen] == [2, 1, 0], "the densest and what differs most from it; no gas"
    told = chosen[0].described()
    assert (told.file, told.index, told.formula, told.kind) == ("start.extxyz", 2, "H2", "bulk")
    assert (told.atoms, told.molecules) == (2, None)
    assert told.density_g_cm3 == round(2 * 1.008 / 4.0**3 * 1.66053907, 4)
    assert multiples_of(HYDROGEN, 1, [4, 6]) == {4: 1, 6: None}


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
