"""Packmol: the input written, the positions read, and failures."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlpwf.errors import EngineError
from mlpwf.structures import packing

WATER = molecule("H2O")
CELL = np.array([6.0, 7.0, 8.0])


def test_the_input_names_box_seed_and_counts():
    text = packing.packmol_input([3, 2], CELL, 1.8, 7)
    lines = text.splitlines()
    assert "tolerance 1.800000" in lines
    assert "seed 7" in lines
    assert "pbc 6.00000000 7.00000000 8.00000000" in lines
    assert [line for line in lines if line.startswith("structure")] == [
        "structure species_0.xyz",
        "structure species_1.xyz",
    ]
    assert [line.strip() for line in lines if "number" in line] == ["number 3", "number 2"]


def test_molecules_are_rigid_apart_and_in_order():
    argon = Atoms("Ar", positions=[[0, 0, 0]])
    positions = packing.pack([WATER, argon], [5, 2], CELL, tolerance_angstrom=2.0, seed=3)
    assert positions is not None
    assert positions.shape == (17, 3)
    for first in range(0, 15, 3):
        assert np.linalg.norm(positions[first + 1] - positions[first]) == pytest.approx(
            WATER.get_distance(0, 1), abs=1e-5
        )
    packed = Atoms("OH2" * 5 + "Ar2", positions, cell=CELL, pbc=True)
    molecules = np.array([k // 3 for k in range(15)] + [5, 6])
    distances = packed.get_all_distances(mic=True)
    assert distances[molecules[:, None] != molecules].min() > 1.98


def test_the_seed_decides():
    def run(seed):
        return packing.pack([WATER], [4], CELL, tolerance_angstrom=2.0, seed=seed)

    np.testing.assert_array_equal(run(1), run(1))
    assert np.abs(run(1) - run(2)).max() > 0.1


def test_a_species_of_which_there_is_none_is_left_out():
    positions = packing.pack([WATER, WATER], [0, 2], CELL, tolerance_angstrom=2.0, seed=1)
    assert positions is not None
    assert positions.shape == (6, 3)


def test_an_impossible_packing_is_no_packing():
    cell = np.array([3.0, 3.0, 3.0])
    assert packing.pack([WATER], [8], cell, tolerance_angstrom=2.5, seed=1, timeout_seconds=20) is None


def test_a_failing_program_is_an_engine_error(tmp_path, monkeypatch):
    program = tmp_path / "packmol"
    program.write_text("#!/bin/sh\necho ' ERROR: out of memory'\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(packing, "packmol_path", lambda: str(program))
    with pytest.raises(EngineError, match=r"status 3; it said 'ERROR: out of memory'"):
        packing.pack([WATER], [2], CELL, tolerance_angstrom=2.0, seed=1)


def test_a_truncated_output_is_an_engine_error(tmp_path, monkeypatch):
    program = tmp_path / "packmol"
    program.write_text("#!/bin/sh\nprintf '6\\n\\nO 0 0 0\\n' > packed.xyz\necho 'Success!'\n")
    program.chmod(0o755)
    monkeypatch.setattr(packing, "packmol_path", lambda: str(program))
    with pytest.raises(EngineError, match=r"shape \(1, 3\); expected \(6, 3\)"):
        packing.pack([WATER], [2], CELL, tolerance_angstrom=2.0, seed=1)


def test_a_missing_program_is_an_engine_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="pip install packmol"):
        packing.packmol_path()
