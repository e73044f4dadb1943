"""`mlpwf simulate` with a real model: wherever a run is cut or killed, the trajectory is the same."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import MDAnalysis
import numpy as np
import pytest
from ase import Atoms
from typer.testing import CliRunner

from killing import kill
from mlpwf.campaign.paths import State
from mlpwf.campaign.segments import last_checkpoint, segments
from mlpwf.errors import ConfigError, DataError, EngineError
from mlpwf.files import read_json, sha256, write_json
from mlpwf.md.schedule import outputs
from mlpwf.simulate.command import app
from mlpwf.structures.frames import write_frames
from toy_water import SYSTEM, WATER, needs_mace, train_mace, train_on_force_field

SETTINGS = {
    "molecules": 12,
    "temperatures_kelvin": [300],
    "equilibration_ps": 0.06,
    "length_ps": 0.5,
    "linear_interval_ps": 0.025,
    "thermostat_time_ps": 0.1,
    "checkpoint_min": 0.0025,
}


class Place:
    """A folder in which states are simulated."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        write_frames(root / "molecules.extxyz", [WATER])

    def words(self, segment=0, out="300K", state="300K", previous=None, minutes=None, site=None, **changes):
        """The words of one segment's command, its sections written."""
        write_json(self.root / "simulate.json", SETTINGS | changes | {"seed": 5})
        write_json(self.root / "system.json", SYSTEM | {"seed": 5})
        write_json(self.root / "site.json", (site or {}) | {"seed": 5})
        files = {"config": "simulate.json", "site": "site.json", "system": "system.json"}
        words = ["segment", "--molecules", str(self.root / "molecules.extxyz"), "--model", str(self.model)]
        words += [word for key, name in files.items() for word in (f"--{key}", str(self.root / name))]
        words += ["--state", state, "--segment", str(segment), "--out", str(self.root / out)]
        if previous is None and segment:
            previous = self.folder(segment - 1, out) / "summary.json"
        words += ["--previous", str(previous)] if previous else []
        return words + ([] if minutes is None else ["--minutes", str(minutes)])

    def run(self, *args, **kwargs):
        """Run a segment; its folder."""
        call(self.words(*args, **kwargs))
        return self.folder(args[0] if args else 0, kwargs.get("out", "300K"))

    def folder(self, segment, out="300K"):
        return self.root / out / "segment" / f"{segment:03d}"


def call(words):
    result = CliRunner().invoke(app, words)
    if result.exception is not None:
        raise result.exception


@pytest.fixture
def place(tmp_path, water_models):
    return Place(tmp_path, water_models[0])


def cut_and_killed(place, **changes):
    """One run at a stretch, and one cut in equilibration, cut in production, killed, and robbed of its last state."""
    place.run(out="whole", **changes)
    place.run(0, minutes=0, **changes)
    place.run(1, **changes | {"length_ps": 0.1})
    place.run(2, minutes=0, **changes)
    killed_at = kill(place.words(3, **changes), place.root / "300K" / "work" / "003")
    newest, _ = last_checkpoint(killed_at)
    newest.restart.write_bytes(newest.restart.read_bytes()[:-100])
    before, _ = last_checkpoint(killed_at)
    assert before.number == newest.number - 1
    place.run(3, **changes)
    return place, before


@pytest.fixture(scope="module")
def runs(tmp_path_factory, water_models):
    return cut_and_killed(Place(tmp_path_factory.mktemp("runs"), water_models[0]))


@pytest.fixture(scope="module")
def runs_of_two_steps(tmp_path_factory):
    """Runs of a network on a force field, which has a shorter time step."""
    folder = tmp_path_factory.mktemp("two_steps")
    place = Place(folder, train_on_force_field(folder / "model"))
    changes = {
        "timestep_fs": 2,
        "stress_interval_fs": 10,
        "linear_interval_ps": 0.05,
        "length_ps": 1,
        "equilibration_ps": 0.3,
    }
    return cut_and_killed(place, **changes)


@pytest.fixture(scope="module")
def runs_of_forces_from_outside(tmp_path_factory):
    """Runs of a MACE model on a force field, which LAMMPS asks in each step."""
    needs_mace()
    folder = tmp_path_factory.mktemp("outside")
    place = Place(folder, train_mace(folder / "model", "molecular"))
    changes = {
        "stress_interval_fs": 10,
        "linear_interval_ps": 0.05,
        "length_ps": 0.3,
        "equilibration_ps": 0.1,
    }
    return cut_and_killed(place, **changes)


def joined(place, out, name):
    folders = sorted((place.root / out / "segment").iterdir())
    return [folder / name for folder in folders if (folder / name).is_file()]


@pytest.mark.engine
@pytest.mark.parametrize("which", ["runs", "runs_of_two_steps", "runs_of_forces_from_outside"])
def test_wherever_a_run_is_cut_or_killed_the_trajectory_is_the_same_bytes(which, request):
    place, _ = request.getfixturevalue(which)
    parts, whole = joined(place, "300K", "trajectory.trr"), joined(place, "whole", "trajectory.trr")
    assert (len(parts), len(whole)) == (3, 1)
    assert b"".join(path.read_bytes() for path in parts) == whole[0].read_bytes()
    tables = [
        [row for path in joined(place, out, "thermo.csv") for row in read_rows(path)] for out in ("300K", "whole")
    ]
    assert [list(row) for row in tables[0]] == [list(row) for row in tables[1]]
    cut, uncut = (np.array([list(row.values()) for row in table], float) for table in tables)
    assert np.array_equal(cut[:, 0], uncut[:, 0])
    # where arrays lie in memory decides in which order TensorFlow adds up: on some processors the last digit differs
    np.testing.assert_allclose(cut, uncut, rtol=1e-8)
    for name, rtol in (("step", 0), ("pressure_bar", 1e-8), ("temperature_kelvin", 1e-8), ("potential_ev", 1e-8)):
        cut = np.concatenate([np.load(path)[name] for path in joined(place, "300K", "stress.npz")])
        uncut = np.load(joined(place, "whole", "stress.npz")[0])[name]
        np.testing.assert_allclose(cut, uncut, rtol=rtol, atol=1e-8 * np.abs(uncut).max() if rtol else 0, err_msg=name)
    topologies = [(place.root / out / "topology.pdb").read_bytes() for out in ("300K", "whole")]
    assert topologies[0] == topologies[1]


def read_rows(path):
    return list(csv.DictReader(path.open()))


@pytest.mark.engine
def test_each_frame_is_there_once(runs):
    place, _ = runs
    trajectories = [str(path) for path in joined(place, "300K", "trajectory.trr")]
    universe = MDAnalysis.Universe(str(place.root / "300K/topology.pdb"), trajectories)
    expected = [0, *(output.step for output in outputs(50, 10, 0, 1000) if output.frame)]
    assert [frame.data["step"] for frame in universe.trajectory] == expected
    assert [frame.time for frame in universe.trajectory] == pytest.approx([5e-4 * step for step in expected], abs=1e-6)
    assert (universe.atoms.n_atoms, universe.residues.n_residues) == (36, 12)
    axes = universe.atoms.positions.reshape(12, 3, 3)[:, 1:] - universe.atoms.positions.reshape(12, 3, 3)[:, :1]
    np.testing.assert_allclose(np.einsum("mki,mli->mkl", axes, axes), [np.eye(2)] * 12, atol=1e-4)


@pytest.mark.engine
def test_a_killed_segment_goes_on_from_the_last_checkpoint_that_is_whole(runs):
    place, before = runs
    summaries = segments(State(place.root / "300K"))
    assert [summary.start_ps for summary in summaries] == pytest.approx([-0.06, -0.035, 0.1, 0.125])
    assert [summary.end_ps for summary in summaries] == pytest.approx([-0.035, 0.1, 0.125, 0.5])
    assert 250 < before.step < 1000
    assert not (place.root / "300K/work/003").exists()


@pytest.mark.engine
def test_energies_and_the_pressure_tensor_are_kept(runs):
    place, _ = runs
    rows = read_rows(place.folder(0, "whole") / "thermo.csv")
    summary = read_json(place.folder(0, "whole") / "summary.json")
    stress = np.load(place.folder(0, "whole") / "stress.npz")
    assert stress["step"].tolist() == list(range(0, 1001, 10))
    assert stress["pressure_bar"].dtype == np.float32
    assert stress["pressure_bar"].shape == (101, 6)
    assert summary["volume_angstrom3"] == pytest.approx(float(stress["volume_angstrom3"]))
    pressure = {round(float(row["time_ps"]) * 2000): float(row["pressure_bar"]) for row in rows}
    potential = {round(float(row["time_ps"]) * 2000): float(row["potential"]) for row in rows}
    both = [step for step in stress["step"].tolist() if step in pressure]
    assert len(both) >= 21
    for step in both:
        k = step // 10
        assert stress["pressure_bar"][k, :3].mean() == pytest.approx(pressure[step], rel=1e-4, abs=0.5)
        assert stress["potential_ev"][k] == pytest.approx(potential[step], abs=1e-7)
    assert np.abs(stress["pressure_bar"][:, 3:]).max() > 100
    assert summary["frames"] == len(rows) == 20 * 7 + 1
    linear = [float(row["potential"]) for row in rows if round(float(row["time_ps"]) * 2000) % 50 == 0]
    assert summary["mean_potential_ev"] == pytest.approx(np.mean(linear))
    assert summary["linear_frames"] == 21
    expected = {
        "temperature_kelvin": 300.0, "timestep_fs": 0.5, "molecules": 12, "ensemble": "nvt", "stable": True,
        "intact": True, "finished": True, "start_ps": -0.06, "end_ps": 0.5, "steps": 1120,
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    assert summary["depends_on"]["model_sha256"] == sha256(place.model)
    assert summary["ns_per_day"] > 0


@pytest.mark.engine
def test_what_is_done_is_kept_whatever_its_config_file_says_of_other_things(runs, tmp_path, caplog):
    place, _ = runs
    before = {path: path.stat() for path in place.folder(1).iterdir()}
    never = {"lammps_launcher": ["false"]}
    with caplog.at_level("INFO", "mlpwf"):
        place.run(1, length_ps=7, checkpoint_min=3, site=never)
        place.run(1, length_ps=[0.05, 9], temperatures_kelvin=[300, 350], site=never)
    assert caplog.text.count("300K segment 1: finished before under the same settings, kept") == 2
    assert {path: path.stat() for path in place.folder(1).iterdir()} == before
    copy = Place(tmp_path, place.model)
    shutil.copytree(place.root / "300K", copy.root / "300K")
    with caplog.at_level("INFO", "mlpwf"), pytest.raises(EngineError, match="crashed"):
        copy.run(1, thermostat_time_ps=0.2, site=never)
    assert "300K segment 1: settings changed since; it is run again" in caplog.text


@pytest.mark.engine
def test_a_segment_is_kept_when_its_job_was_ended_after_its_summary(runs, tmp_path, caplog):
    """Ctrl-C: Snakemake removes the summary, the output of a job it ended."""
    place, _ = runs
    copy = Place(tmp_path, place.model)
    shutil.copytree(place.root / "300K", copy.root / "300K")
    summary = copy.folder(1) / "summary.json"
    before = read_json(summary)
    summary.unlink()
    with caplog.at_level("INFO", "mlpwf"):
        copy.run(1, site={"lammps_launcher": ["false"]})
    assert "300K segment 1: finished before under the same settings, kept" in caplog.text
    assert read_json(summary) == before


@pytest.mark.engine
def test_damaged_files_are_named_and_made_again(runs, tmp_path, caplog):
    place, _ = runs
    copy = Place(tmp_path, place.model)
    shutil.copytree(place.root / "300K", copy.root / "300K")
    restart = copy.folder(2) / "restart.bin"
    original = restart.read_bytes()
    restart.write_bytes(original[:-1])
    with pytest.raises(
        DataError, match=r"002/restart\.bin: damaged \(SHA-256 .*; expected .*delete .*002 and run again"
    ):
        copy.run(3)
    restart.write_bytes(original)
    trajectory = copy.folder(2) / "trajectory.trr"
    kept = trajectory.read_bytes()
    trajectory.write_bytes(kept[:500])
    copy.run(2)
    assert "trajectory.trr: missing or damaged; the segment is run again, to its old end" in caplog.text
    assert trajectory.read_bytes() == kept
    assert restart.read_bytes() == original
    assert copy.folder(3).is_dir(), "a later segment went although its restart file is the same"


def test_a_model_that_is_not_the_recorded_one_is_refused(place, water_models):
    final = place.root / "final"
    final.mkdir()
    place.model = final / "compressed.pb"
    place.model.write_bytes(water_models[0].read_bytes()[:-1000])
    write_json(final / "final.json", {"sha256": {"model.pb": "0", "compressed.pb": sha256(water_models[0])}})
    with pytest.raises(DataError, match=r"compressed\.pb: damaged \(SHA-256 .*; expected .*delete it and run again"):
        place.run()


@pytest.mark.engine
def test_a_blow_up_is_a_result(runs, caplog):
    place, _ = runs
    (place.root / "1K").mkdir()
    shutil.copy(place.root / "whole/box.extxyz", place.root / "1K")
    hot = {"state": "1K", "out": "1K", "temperatures_kelvin": [300, 1]}
    previous = place.folder(0, "whole") / "summary.json"
    summary = read_json(place.run(1, previous=previous, length_ps=0.6, **hot) / "summary.json")
    assert (summary["stable"], summary["end_step"]) == (False, 1001)
    assert re.fullmatch(r"temperature \S+ K; expected less than 10 x 1 K", summary["reason"])
    assert "1K segment 1: blew up at step 1001, 1 K" in caplog.text
    assert "explore this state longer" in caplog.text
    shutil.copytree(previous.parent, place.folder(0, "1K"))
    verdict = place.root / "1K" / "run" / "0.6ps.json"
    call(["collect", "--folder", str(place.root / "1K"), "--length-ps", "0.6", "--out", str(verdict)])
    run = read_json(verdict)
    assert (run["stable"], run["asked_ps"], run["done_ps"], run["segments"]) == (False, 0.6, 0.5005, 2)


@pytest.mark.engine
def test_broken_molecules_are_told(place, caplog):
    strange = Atoms("HOO", WATER.positions, cell=WATER.cell, pbc=True)  # the model has never seen O-O bonds
    strange.arrays["molecule"] = np.zeros(3, dtype=int)
    write_frames(place.root / "molecules.extxyz", [strange])
    folder = place.run(length_ps=0.05)
    assert read_json(folder / "summary.json")["intact"] is False
    assert "molecules broke" in caplog.text


def test_a_crash_is_an_error(place):
    with pytest.raises(EngineError, match=r"crashed at 300 K \(killed by signal 9.*run the same command to go on"):
        place.run(site={"lammps_launcher": ["sh", "-c", "kill -9 $$"]})


def test_wrong_arguments_are_named(place, tmp_path):
    with pytest.raises(ConfigError, match="expected one of 300K"):
        place.run(state="301K")
    write_json(tmp_path / "none.json", {})
    with pytest.raises(ConfigError, match=r"--previous is .*none\.json; expected none for segment 0"):
        place.run(previous=tmp_path / "none.json")
    with pytest.raises(DataError, match=r"none\.json: a summary without a restart file's hash"):
        place.run(1, previous=tmp_path / "none.json")
    with pytest.raises(ConfigError, match=r"length_ps is 0\.06; expected a multiple"):
        place.run(length_ps=0.06)
    with pytest.raises(ConfigError, match="length_ps has 2 numbers for 1 temperatures"):
        place.run(length_ps=[0.05, 0.1])
    with pytest.raises(ConfigError, match="expected a multiple of the time step"):
        place.run(linear_interval_ps=0.0251)
    with pytest.raises(ConfigError, match=r"linear_interval_ps is 0\.025; expected a multiple of stress_interval_fs"):
        place.run(stress_interval_fs=10)
    place.model = tmp_path / "none.pb"
    with pytest.raises(ConfigError, match="no such model"):
        place.run()
