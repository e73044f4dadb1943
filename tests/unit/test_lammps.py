"""The LAMMPS engine: files written and read, and real runs in child processes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlpwf.errors import DataError, EngineError
from mlpwf.md import lammps
from mlpwf.potentials.deepmd.lammps import read_deviation
from mlpwf.potentials.record import open_model
from mlpwf.structures.frames import quantised, read_frames, write_frames
from mlpwf.structures.lammps_data import box_matrix, write_data
from mlpwf.structures.molecules import reference_bonds
from toy_water import WATER, relaxed_box


def test_a_lower_triangular_cell_is_not_turned():
    cell = np.array([[5.0, 0, 0], [1.0, 6, 0], [0, 0, 7]])
    box, rotation = box_matrix(cell)
    assert np.array_equal(box, cell)
    assert np.array_equal(rotation, np.eye(3))


def test_any_right_handed_cell_is_turned_rigidly():
    rng = np.random.default_rng(1)
    for _ in range(20):
        cell = np.eye(3) * 6 + rng.normal(size=(3, 3))
        box, rotation = box_matrix(cell)
        np.testing.assert_allclose(cell @ rotation, box, atol=1e-12)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1.0)
        assert np.all(np.diag(box) > 0)
        assert np.array_equal(box, np.tril(box))


def test_a_left_handed_cell_is_refused():
    with pytest.raises(DataError, match="left-handed"):
        box_matrix(np.diag([1.0, 1.0, -1.0]))


def test_data_file_holds_wrapped_positions_and_images(tmp_path):
    atoms = relaxed_box(2, np.random.default_rng(2))
    atoms.positions += 17.0
    write_data(tmp_path / "box.data", atoms, ["H", "O"])
    lines = (tmp_path / "box.data").read_text().splitlines()
    assert "6 atoms" in lines
    assert "2 atom types" in lines
    rows = [line.split() for line in lines[lines.index("Atoms # atomic") + 2 :]]
    assert [row[1] for row in rows] == ["2", "1", "1"] * 2
    wrapped = np.array([[float(x) for x in row[2:5]] for row in rows])
    images = np.array([[int(x) for x in row[5:]] for row in rows])
    length = atoms.cell[0, 0]
    assert np.all((wrapped >= 0) & (wrapped < length))
    np.testing.assert_allclose(wrapped + images * length, atoms.positions, atol=1e-12)


@pytest.mark.parametrize(
    ("timestep", "interval", "expected"), [(0.5, 1000, 5), (0.5, 24, 4), (1.0, 50, 2), (2.0, 7, 1), (0.1, 7, 7)]
)
def test_neighbour_lists_are_rebuilt_in_step_with_the_frames(timestep, interval, expected):
    assert lammps.rebuild_steps(timestep, interval) == expected


def test_deviations_are_read_from_the_last_line(tmp_path):
    file = tmp_path / "deviation.out"
    assert np.isnan(read_deviation(file).max_force)
    file.write_text("# step ...\n0 1 2 3 4 5 6\n50 1.5 2 3 -nan 5 6\n")
    row = read_deviation(file)
    assert np.isnan(row.max_force)
    assert row.max_virial == 1.5


def test_last_words_leave_out_the_noise(tmp_path):
    (tmp_path / "o").write_text("ERROR: Lost atoms\nimplib-gen: libcudart\n\n")
    assert lammps.last_words(tmp_path / "o") == "ERROR: Lost atoms"
    assert lammps.last_words(tmp_path / "none") == "no output"
    assert lammps.describe_exit(-11) == "killed by signal 11"


def test_bonds_are_those_of_the_references():
    atoms = relaxed_box(3, np.random.default_rng(3))
    assert reference_bonds(atoms, [WATER]).tolist() == [[0, 1], [0, 2], [3, 4], [3, 5], [6, 7], [6, 8]]


def walker_job(tmp_path, models, atoms, **changes):
    write_frames(tmp_path / "box.extxyz", [quantised(atoms)])
    write_frames(tmp_path / "molecules.extxyz", [WATER])
    settings = {
        "engine": "deepmd",
        "models": [[str(path)] for path in models],
        "box": str(tmp_path / "box.extxyz"),
        "references": str(tmp_path / "molecules.extxyz"),
        "seed": 7,
        "temperature_kelvin": 300.0,
        "pressure_bar": None,
        "timestep_fs": 0.5,
        "steps": 40,
        "steps_between_frames": 20,
        "blow_up_ev_angstrom": 5.0,
        "state": "300K",
        "walker": 0,
    }
    return lammps.WalkerJob(**(settings | changes))


@pytest.mark.engine
@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_frames_and_deviations_agree_with_predictions(tmp_path, water_models, tilt):
    atoms = relaxed_box(8, np.random.default_rng(4))
    strain = np.eye(3)
    strain[0, 1] = tilt / atoms.cell[0, 0]
    centres = np.repeat(atoms.positions[::3], 3, axis=0)
    atoms.positions += centres @ strain - centres
    atoms.set_cell(atoms.cell.array @ strain)
    job = walker_job(tmp_path, water_models, atoms)
    assert lammps.run_worker(job, tmp_path / "run", launcher=[]) == 0
    assert json.loads((tmp_path / "run/result.json").read_text()) == {"outcome": "finished", "reason": "", "steps": 40}
    frames = read_frames(tmp_path / "run/frames.extxyz")
    assert [atoms.info["step"] for atoms in frames] == [20, 40]
    forces = np.array([[one.forces for one in open_model(model).predict(frames)] for model in water_models])
    spread = np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=3).mean(axis=0)).max(axis=1)
    np.testing.assert_allclose([atoms.info["max_devi_f"] for atoms in frames], spread, rtol=1e-3, atol=1e-4)


@pytest.mark.engine
def test_a_corrupt_model_is_named(tmp_path, water_models):
    broken = tmp_path / "broken.pb"
    broken.write_bytes(water_models[0].read_bytes()[:5000])
    job = walker_job(tmp_path, [broken, water_models[1]], relaxed_box(8, np.random.default_rng(5)))
    with pytest.raises(EngineError, match=r"broken\.pb.*train them again"):
        lammps.run_worker(job, tmp_path / "run", launcher=[])


def test_a_launcher_that_does_not_exist_is_named(tmp_path):
    job = walker_job(tmp_path, [], relaxed_box(2, np.random.default_rng(6)))
    with pytest.raises(EngineError, match="no-such-launcher"):
        lammps.run_worker(job, tmp_path / "run", launcher=["no-such-launcher"])
