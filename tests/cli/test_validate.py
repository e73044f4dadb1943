"""`mlpwf validate` with a real model: every file, and runs that fail are verdicts."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from typer.testing import CliRunner

from killing import kill_once
from mlpwf.campaign.paths import Validate
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import read_json, write_json
from mlpwf.structures.frames import write_frames
from mlpwf.validate.command import app
from mlpwf.validate.runs import run_files
from toy_water import DENSITY, SYSTEM, WATER, labelled_boxes

SETTINGS = {"molecules": 12, "nve_ps": 0.2, "nvt_ps": 0.2, "npt_ps": 0.2}


@pytest.fixture
def run(tmp_path, water_models):
    write_frames(tmp_path / "molecules.extxyz", [WATER])
    frames = labelled_boxes(2, 2, 300.0, np.random.default_rng(77))
    for index, atoms in enumerate(frames):
        atoms.info |= {"kind": "bulk", "state": f"state{index % 2}"}
    write_frames(tmp_path / "labels.extxyz", frames)

    def run(model=water_models[0], site=None, out="validate", more=(), killed_when=None, **changes):
        write_json(tmp_path / "validate.json", SETTINGS | changes | {"seed": 5})
        write_json(tmp_path / "system.json", SYSTEM | {"seed": 5})
        write_json(tmp_path / "site.json", (site or {}) | {"seed": 5})
        files = {
            "config": "validate.json",
            "site": "site.json",
            "system": "system.json",
            "molecules": "molecules.extxyz",
        }
        files |= {"test-labels": "labels.extxyz", "out": out}
        words = ["model", *(word for key, name in files.items() for word in (f"--{key}", str(tmp_path / name)))]
        words += ["--model", str(model), *map(str, more)]
        if killed_when:
            code = "import mlpwf.validate.runs as r; from mlpwf.validate.command import app; "
            code += "r.CHECKPOINT_S = 0; app()"
            kill_once(code, words, tmp_path / out / "work", killed_when)
            return tmp_path / out
        result = CliRunner().invoke(app, words)
        if result.exception is not None:
            raise result.exception
        return tmp_path / out

    return run


def table(path):
    return list(csv.DictReader(path.open()))


@pytest.mark.engine
def test_a_sound_model_passes(run, monkeypatch):
    monkeypatch.setattr("mlpwf.validate.verdicts.BLOCK_PS", 0.02)
    out = run()
    errors = read_json(out / "errors.json")
    assert set(errors["states"]) == {"state0", "state1"}
    assert errors["overall"]["frames"] == 4
    assert errors["overall"]["force_rmse_ev_angstrom"] < 0.5
    assert {row["quantity"] for row in table(out / "parity.csv")} == {"energy", "force", "virial"}
    runs = read_json(out / "runs.json")
    assert all(runs[name]["stable"] and runs[name]["intact"] for name in ("nve", "nvt", "npt"))
    assert abs(runs["nve"]["drift_mev_atom_ps"]) < 5 * runs["nve"]["drift_error_mev_atom_ps"] + 2.0
    assert runs["npt"]["density_g_cm3"] > 0
    assert runs["npt"]["density_expected_g_cm3"] == DENSITY
    assert len(table(out / "nve.csv")) == 21
    rdf = np.array([[float(x) for x in row.values()] for row in table(out / "rdf.csv")])
    assert rdf[:, 1][rdf[:, 0] < 1.0].max() == 0
    assert rdf[:, 1].max() > 0.5
    liquid = read_json(out / "liquid.json")
    assert (len(liquid["density"]), np.shape(liquid["g"]), len(liquid["diffusion"])) == (5, (5, len(rdf)), 12)
    assert np.mean(liquid["density"]) == pytest.approx(runs["npt"]["density_g_cm3"], rel=1e-2)
    assert np.mean(liquid["g"], axis=0) == pytest.approx(rdf[:, 1], abs=0.1 * rdf[:, 1].max())
    assert liquid["fault"] == ""
    assert liquid["conditions"] == "12 molecules at 300 K and 1 bar"


@pytest.mark.engine
def test_runs_of_the_same_model_are_made_once(run, tmp_path):
    made = run(out="cycle", more=["--cycle", 3], nve_ps=0.02, nvt_ps=0.02, npt_ps=0.02)
    broken = {"lammps_launcher": ["sh", "-c", "kill -SEGV $$"]}  # whatever is run again is a crash
    known = ["--known", made]
    again = run(site=broken, more=known, nve_ps=0.02, nvt_ps=0.02, npt_ps=0.02)
    files = [run_files(Validate(folder)) for folder in (again, made)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert read_json(again / "runs.json") == read_json(made / "runs.json")
    short = read_json(again / "liquid.json")
    assert short["cycle"] == 3
    assert short["density"] == short["g"] == [], "blocks so short are not independent"
    other = read_json(run(site=broken, more=known, nve_ps=0.02, nvt_ps=0.02, npt_ps=0.03) / "runs.json")
    assert not other["npt"]["stable"], "other settings, other runs"


@pytest.mark.engine
def test_a_killed_validation_goes_on_where_it_was(run, tmp_path):
    lengths = {"nve_ps": 0.1, "nvt_ps": 1.0, "npt_ps": 1.0}  # so long that a kill finds them running
    whole = run(out="whole", **lengths)
    work = tmp_path / "validate" / "work"
    run(killed_when=(work / "equilibration.npz").exists, **lengths)
    assert not (work / "nvt.npz").exists()
    run(killed_when=(work / "nvt.npz").exists, **lengths)
    assert set(read_json(work / "phases.json")) == {"nve"}
    assert "minimize" not in (work / "log.lammps").read_text(), "it had begun anew"
    run(killed_when=(work / "npt.npz").exists, **lengths)
    again = run(**lengths)
    log = (work / "log.lammps").read_text()
    assert "fix motion all npt" in log
    assert "fix motion all nve" not in log
    for name in ("nve.csv", "rdf.csv"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    found, expected = (read_json(folder / "runs.json") for folder in (again, whole))
    assert {key: found[key] for key in ("nve", "nvt")} == {key: expected[key] for key in ("nve", "nvt")}
    density, known = found["npt"].pop("density_g_cm3"), expected["npt"].pop("density_g_cm3")
    assert density == pytest.approx(known, rel=1e-4), "at constant pressure to rounding, which grows"
    assert found["npt"].keys() == expected["npt"].keys()
    assert found["npt"]["steps"] == expected["npt"]["steps"]
    anew = run(nve_ps=0.02, nvt_ps=0.02, npt_ps=0.02)
    assert "minimize" in (work / "log.lammps").read_text(), "a finished one is made anew if asked again"
    assert read_json(anew / "runs.json")["npt"]["steps"] == 40


@pytest.mark.engine
def test_an_unstable_model_is_a_verdict(run):
    out = run(temperature_kelvin=0.001)  # any heat at all is far above this
    runs = read_json(out / "runs.json")
    assert not any(runs[name]["stable"] for name in ("nve", "nvt", "npt"))
    assert "temperature" in runs["nvt"]["reason"]
    liquid = read_json(out / "liquid.json")
    assert liquid["fault"] == "the run at constant volume blew up, the run at constant pressure blew up"
    assert liquid["density"] == liquid["g"] == liquid["diffusion"] == []
    assert table(out / "rdf.csv") == []


@pytest.mark.engine
def test_a_crash_is_a_verdict(run):
    out = run(site={"lammps_launcher": ["sh", "-c", "kill -SEGV $$"]})
    runs = read_json(out / "runs.json")
    assert [runs[name]["stable"] for name in ("nve", "nvt", "npt")] == [False] * 3
    assert "signal 11" in runs["nve"]["reason"]
    assert table(out / "nve.csv") == table(out / "rdf.csv") == []


def test_wrong_files_are_named(run, tmp_path):
    with pytest.raises(ConfigError, match="no such model"):
        run(model=tmp_path / "none.pb")
    write_frames(tmp_path / "labels.extxyz", [])
    with pytest.raises(DataError, match="no held-out labels"):
        run()
