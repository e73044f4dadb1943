"""What pw.x is given: the grid of its transforms, the key of its physics, its environment."""

import json
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr

from mlpwf.calculators.espresso import pw
from mlpwf.config import Label, Site

DATA = Path(__file__).parents[1] / "data" / "espresso"
CELLS = {
    "cube": np.eye(3) * 3.9,
    "box": np.diag([4.1, 3.3, 5.2]),
    "hexagonal": np.array([[3.0, 0, 0], [-1.5, 1.5 * np.sqrt(3), 0], [0, 0, 4.9]]),
    "skew": np.array([[3.1, 0.4, -0.3], [2.2, 3.4, 0.5], [-1.9, 0.8, 3.7]]),
}


def naive_grid(cell, cutoff_ry):
    """Twice the largest index, and one, of all reciprocal lattice vectors within the cut-off."""
    reciprocal = 2 * np.pi * np.linalg.inv(cell / Bohr).T
    indices = np.stack(np.meshgrid(*[np.arange(-25, 26)] * 3), axis=-1).reshape(-1, 3)
    within = indices[np.sum((indices @ reciprocal) ** 2, axis=1) < cutoff_ry]
    return tuple(int(size) for size in 2 * np.abs(within).max(axis=0) + 1)


@pytest.mark.parametrize("name", CELLS)
def test_the_smallest_grid_holds_every_plane_wave_of_the_cutoff(name):
    assert pw.smallest_grid(CELLS[name], 61.0) == naive_grid(CELLS[name], 61.0)


@pytest.mark.parametrize("name", ["water", "waters", "paw", "detailed"])
def test_unset_the_grid_is_the_one_pw_takes_by_itself(name):
    atoms = ase.io.read(DATA / f"{name}.in", format="espresso-in")
    printed = re.search(r"Dense .*FFT dimensions: \( +(\d+), +(\d+), +(\d+)\)", (DATA / f"{name}.out").read_text())
    assert pw.fft_grid(atoms.cell.array, Label(cutoff_ry=30, density_cutoff_ry=180)) == tuple(
        int(points) for points in printed.groups()
    )


def test_asked_for_the_grid_has_small_factors_and_is_no_multiple_of_16():
    for length in np.arange(3.0, 16.0, 0.37):
        cell = np.eye(3) * length
        label = Label(cutoff_ry=20, density_cutoff_ry=90, fft_grid_ry=320)
        points = pw.fft_grid(cell, label)[0]
        assert points >= pw.smallest_grid(cell, 320)[0]
        assert points % 16
        assert 210**12 % points == 0, "factors 2, 3, 5 and 7"
        passed = range(pw.smallest_grid(cell, 320)[0], points)
        assert not [n for n in passed if n % 16 and 210**12 % n == 0], "the smallest such number"


def test_asked_for_the_grid_is_never_smaller_than_that_of_the_wave_functions():
    """pw.x takes 15 points for the waves of 84 Ry in this cell, and dies where the density has 14."""
    label = Label(cutoff_ry=21, density_cutoff_ry=85, fft_grid_ry=85)
    cell = np.eye(3) * 2.5
    assert pw.smallest_grid(cell, 85) == (13, 13, 13)
    assert pw.fft_grid(cell, label) == (15, 15, 15)


def test_named_by_its_spacing_a_grid_is_kept_and_as_dense_in_another_cell():
    label = Label(cutoff_ry=40, density_cutoff_ry=161, fft_grid_ry=320)
    for length in (7.07, 6.0, 5.13, 4.07):
        cell = np.eye(3) * length
        named = label.model_copy(update={"fft_grid_ry": pw.grid_cutoff([cell, cell * 1.02], label)})
        assert named.fft_grid_ry >= 320
        for scale in (1.0, 1.02):
            assert pw.fft_grid(cell * scale, named) == pw.fft_grid(cell * scale, label)
        coarsest = max(scale * length / pw.fft_grid(cell * scale, label)[0] for scale in (1.0, 1.02))
        for other in np.arange(4.0, 13.0, 0.31):
            assert other / (pw.fft_grid(np.eye(3) * other, named)[0] + 1) <= 1.002 * coarsest


def test_the_grid_is_part_of_the_key_only_where_it_is_set_and_reaches_the_input(tmp_path):
    atoms = Atoms("He", cell=[4.0, 5.0, 6.0], pbc=True)
    unset = Label(cutoff_ry=30, density_cutoff_ry=121, pseudopotentials={"He": "He.UPF"})
    grid = unset.model_copy(update={"fft_grid_ry": 240.0})
    assert "fft_grid_ry" not in pw.physics(unset, {}), "keys of labels made before the setting existed"
    whole = unset.model_copy(update={"cutoff_ry": 30, "density_cutoff_ry": 121})  # as a study may have them
    assert json.dumps(pw.physics(whole, {})) == json.dumps(pw.physics(unset, {}))
    assert pw.physics(grid, {}) == {**pw.physics(unset, {}), "fft_grid_ry": 240.0}
    pw.write_input(tmp_path / "unset.in", atoms, unset, tmp_path)
    assert "nr1" not in (tmp_path / "unset.in").read_text()
    pw.write_input(tmp_path / "grid.in", atoms, grid, tmp_path)
    written = re.findall(r"nr([123]) += (\d+)", (tmp_path / "grid.in").read_text())
    assert tuple(int(points) for _, points in written) == pw.fft_grid(atoms.cell.array, grid)


def test_pw_is_given_its_environment(tmp_path):
    program = tmp_path / "pw.sh"
    program.write_text("#!/bin/sh\nenv\n")
    program.chmod(0o755)
    label = Label(pseudopotentials={"He": "He.UPF"})
    _, text = pw.run(Atoms("He", cell=[4.0] * 3, pbc=True), label, Site(pw=[str(program)]), tmp_path)
    assert set(text.splitlines()) >= {f"{name}={value}" for name, value in pw.ENVIRONMENT.items()}
    folders = set()
    for _ in range(2):
        _, text = pw.run(Atoms("He", cell=[4.0] * 3, pbc=True), label, Site(pw=[str(program)]), tmp_path)
        folders |= set(re.findall(r"^OMPI_MCA_orte_tmpdir_base=(.*)$", text, re.M))
    assert len(folders) == 2, "labels side by side share no folder of Open MPI"
    assert not any(Path(folder).exists() for folder in folders)
