"""`mlpwf simulate` with a real model: segments join exactly, files are readable, failures say what to do."""

from __future__ import annotations

import csv
import shutil

import MDAnalysis
import numpy as np
import pytest
import typer
from ase import Atoms
from typer.testing import CliRunner

from mlpwf.commands.simulate import simulate
from mlpwf.errors import ConfigError, EngineError
from mlpwf.files import read_json, sha256, write_json
from mlpwf.frames import write_frames
from mlpwf.sampling import log_block_steps
from toy_water import SYSTEM, WATER

app = typer.Typer()
app.command("simulate")(simulate)
SETTINGS = {
    "molecules": 12,
    "temperatures_kelvin": [300],
    "equilibration_ps": 0.02,
    "segments": 2,
    "segment_ps": 0.05,
    "linear_interval_ps": 0.025,
    "thermostat_time_ps": 0.1,
}


@pytest.fixture
def run(tmp_path, water_models):
    write_frames(tmp_path / "molecules.extxyz", [WATER])

    def run(out="300K", segment=0, previous=None, model=water_models[0], state="300K", site=None, **changes):
        write_json(tmp_path / "simulate.json", SETTINGS | changes | {"seed": 5})
        write_json(tmp_path / "system.json", SYSTEM | {"seed": 5})
        write_json(tmp_path / "site.json", (site or {}) | {"seed": 5})
        files = {
            "config": "simulate.json",
            "site": "site.json",
            "system": "system.json",
            "molecules": "molecules.extxyz",
        }
        words = [word for key, name in files.items() for word in (f"--{key}", str(tmp_path / name))]
        words += ["--model", str(model), "--state", state, "--segment", str(segment), "--out", str(tmp_path / out)]
        words += ["--previous", str(previous)] if previous is not None else []
        result = CliRunner().invoke(app, words)
        if result.exception is not None:
            raise result.exception
        return tmp_path / out / "segment" / f"{segment:03d}"

    return run


@pytest.mark.engine
def test_two_segments_are_one_run(run, tmp_path, water_models):
    first = run()
    second = run(segment=1, previous=first / "restart.bin")
    whole = run("whole", segments=1, segment_ps=0.1)
    topology = tmp_path / "300K/topology.pdb"
    parts = MDAnalysis.Universe(str(topology), [str(first / "trajectory.trr"), str(second / "trajectory.trr")])
    one = MDAnalysis.Universe(str(tmp_path / "whole/topology.pdb"), str(whole / "trajectory.trr"))
    steps = log_block_steps(50, 0, 200, end=True)
    assert len(parts.trajectory) == len(one.trajectory) == len(steps)
    for a, b, step in zip(parts.trajectory, one.trajectory, steps, strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert b.data["step"] == step
        assert b.time == pytest.approx(step * 5e-4, abs=1e-6)
    assert topology.read_bytes() == (tmp_path / "whole/topology.pdb").read_bytes()
    assert parts.atoms.n_atoms == 36
    assert parts.residues.n_residues == 12
    beads = one.atoms.positions.reshape(12, 3, 3)
    axes = beads[:, 1:] - beads[:, :1]
    np.testing.assert_allclose(np.einsum("mki,mli->mkl", axes, axes), [np.eye(2)] * 12, atol=1e-4)
    check_tables(first, second, whole, water_models[0])


def check_tables(first, second, whole, model):
    rows = [list(csv.DictReader((folder / "thermo.csv").open())) for folder in (first, second, whole)]
    assert rows[0] + rows[1] == rows[2]
    assert list(rows[0][0]) == ["time_ps", "temperature", "potential", "total_energy", "pressure_bar"]
    assert [float(row["time_ps"]) for row in rows[2]] == [0, 0.025, 0.05, 0.075, 0.1]
    summary = read_json(second / "summary.json")
    expected = {
        "temperature_kelvin": 300.0,
        "timestep_fs": 0.5,
        "steps": 100,
        "start_ps": 0.05,
        "end_ps": 0.1,
        "molecules": 12,
        "ensemble": "nvt",
        "finished": True,
        "intact": True,
        "seed": 5,
        "model_sha256": sha256(model),
    }
    assert {key: summary[key] for key in expected} == expected
    assert summary["ns_per_day"] > 0
    assert not (first.parent.parent / "work/000").exists()


@pytest.mark.engine
def test_a_blow_up_says_where_and_what_to_do(run, tmp_path):
    first = run(temperatures_kelvin=[300, 1])
    (tmp_path / "1K").mkdir()
    shutil.copy(tmp_path / "300K/box.extxyz", tmp_path / "1K")
    hot = {"state": "1K", "temperatures_kelvin": [300, 1], "segment": 1, "previous": first / "restart.bin"}
    with pytest.raises(EngineError, match=r"1K segment 1 blew up at step 100, 1 K: .*explore this state longer"):
        run("1K", **hot)
    with pytest.raises(EngineError, match=r"0.001K segment 0 blew up at step 0, 0.001 K: while equilibrating"):
        run("cold", state="0.001K", temperatures_kelvin=[0.001])


@pytest.mark.engine
def test_broken_molecules_are_told(run, tmp_path, caplog):
    strange = Atoms("HOO", WATER.positions, cell=WATER.cell, pbc=True)  # the model has never seen O-O bonds
    strange.arrays["molecule"] = np.zeros(3, dtype=int)
    write_frames(tmp_path / "molecules.extxyz", [strange])
    with caplog.at_level("WARNING", "mlpwf"):
        segment = run()
    assert read_json(segment / "summary.json")["intact"] is False
    assert "molecules broke" in caplog.text


@pytest.mark.engine
def test_a_restart_of_another_step_is_refused(run):
    first = run()
    with pytest.raises(EngineError, match="is of step 100; expected step 200"):
        run(segment=2, segments=3, previous=first / "restart.bin")


def test_a_crash_is_an_error(run):
    with pytest.raises(EngineError, match=r"crashed at 300 K \(killed by signal 9"):
        run(site={"lammps_launcher": ["sh", "-c", "kill -9 $$"]})


def test_wrong_arguments_are_named(run, tmp_path):
    with pytest.raises(ConfigError, match="expected one of 300K"):
        run(state="301K")
    with pytest.raises(ConfigError, match="expected less"):
        run(segment=2)
    with pytest.raises(ConfigError, match="--previous is none"):
        run(segment=1)
    with pytest.raises(ConfigError, match="run segment 0 of 300K first"):
        run(segment=1, previous=tmp_path / "none.bin")
    with pytest.raises(ConfigError, match=r"segment_ps is 0\.06; expected a multiple"):
        run(segment_ps=0.06)
    with pytest.raises(ConfigError, match="expected a multiple of the time step"):
        run(linear_interval_ps=0.0251)
    with pytest.raises(ConfigError, match="no such model"):
        run(model=tmp_path / "none.pb")
