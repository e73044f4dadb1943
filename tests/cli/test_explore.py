"""`mlpwf explore` with real models: determinism, reuse, and walkers that fail."""

from __future__ import annotations

import csv
import logging
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mlpwf.errors import ConfigError, DataError, EngineError
from mlpwf.explore.command import explore
from mlpwf.files import read_json, sha256, write_json
from mlpwf.potentials import registry
from mlpwf.potentials.calibration import spread
from mlpwf.potentials.committee import Committee
from mlpwf.structures.frames import quantised, read_frames, write_frames
from mlpwf.structures.molecules import bonds, intact
from toy_water import DENSITY, SYSTEM, WATER, needs_mace, relaxed_box, train_mace

app = typer.Typer()
app.command("explore")(explore)
STATE = f"300K_{DENSITY:g}"
SETTINGS = {"temperatures_kelvin": [300], "walkers": 2, "steps": 60, "steps_between_frames": 20}


@pytest.fixture
def campaign(tmp_path, water_models):
    """A function that runs the verb in a folder of `tmp_path`, with changed settings."""
    rng = np.random.default_rng(1)
    boxes = [relaxed_box(8, rng) for _ in range(2)]
    for box in boxes:
        box.info = {"kind": "bulk", "state": "start"}
    write_frames(tmp_path / "bulk.extxyz", [quantised(box) for box in boxes])
    write_frames(tmp_path / "molecules.extxyz", [WATER])

    def words(out="out", state=STATE, models=water_models, site=None, **changes):
        write_json(tmp_path / "explore.json", SETTINGS | changes | {"seed": 3})
        write_json(tmp_path / "system.json", SYSTEM | {"seed": 3})
        write_json(tmp_path / "site.json", (site or {}) | {"seed": 3})
        files = {"config": "explore.json", "site": "site.json", "system": "system.json"}
        files |= {"starts": "bulk.extxyz", "molecules": "molecules.extxyz", "out": out}
        named = [word for key, name in files.items() for word in (f"--{key}", str(tmp_path / name))]
        return [
            *named,
            *(word for model in models for word in ("--model", str(model))),
            "--state",
            state,
            "--cycle",
            "0",
        ]

    def run(out="out", **changes):
        result = CliRunner().invoke(app, words(out, **changes))
        if result.exception is not None:
            raise result.exception
        return tmp_path / out

    run.words = words
    return run


@pytest.mark.engine
def test_frames_are_deterministic_whole_and_described(campaign, water_models, caplog):
    out, again = campaign(), campaign("again", site={"md_threads": 2})
    assert (out / "frames.extxyz").read_bytes() == (again / "frames.extxyz").read_bytes()
    assert (out / "deviations.csv").read_bytes() == (again / "deviations.csv").read_bytes()
    frames = read_frames(out / "frames.extxyz")
    assert [(int(a.info["walker"]), int(a.info["step"])) for a in frames] == [
        (w, s) for w in (0, 1) for s in (20, 40, 60)
    ]
    for atoms in frames:
        assert atoms.info["kind"] == "bulk"
        assert atoms.info["state"] == STATE
        assert intact(atoms, bonds(atoms))
        assert np.linalg.norm(atoms.positions[1::3] - atoms.positions[::3], axis=1).max() < 1.3
    whole = [spread(forces).max() for forces in Committee.opened(water_models).forces(frames)]
    assert whole == pytest.approx([atoms.info["max_devi_f"] for atoms in frames], rel=1e-3), "as the walkers have it"
    walkers = read_json(out / "walkers.json")
    assert [(w["walker"], w["outcome"], w["steps"], w["frames"]) for w in walkers] == [
        (0, "finished", 60, 3),
        (1, "finished", 60, 3),
    ]
    rows = list(csv.DictReader((out / "deviations.csv").open()))
    assert len(rows) == 8
    assert list(rows[0]) == ["walker", "step", "max_devi_f", "min_devi_f", "avg_devi_f", "max_devi_v", "temperature"]
    with caplog.at_level(logging.INFO, "mlpwf"):
        campaign()
    assert f"explore {STATE}: reusing walker 0" in caplog.text
    assert len(read_frames(out / "frames.extxyz")) == 6


PLAIN = """
from mlpwf.potentials.deepmd import DeePMD


class Plain(DeePMD):
    name = "plain"

    def built_in_spread(self, members, every_steps):
        return None
"""


@pytest.fixture
def plain_models(tmp_path, water_models, monkeypatch):
    """The same models under an engine that evaluates a committee from outside, registered as another package's."""
    package = tmp_path / "site" / "plain-0.dist-info"
    package.mkdir(parents=True)
    (tmp_path / "site" / "mlpwf_plain.py").write_text(PLAIN)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plain\nVersion: 0\n")
    (package / "entry_points.txt").write_text("[mlpwf.potentials]\nplain = mlpwf_plain:Plain\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    models = []
    for number, model in enumerate(water_models):
        models.append(tmp_path / "plain" / str(number) / "model.pb")
        models[-1].parent.mkdir(parents=True)
        models[-1].symlink_to(model)
        write_json(models[-1].with_name("check.json"), {"engine": "plain", "sha256": {"model.pb": sha256(model)}})
    yield models
    registry.engine.cache_clear()


HOT = {"state": f"5000K_{DENSITY:g}", "temperatures_kelvin": [5000], "timestep_fs": 2.0, "steps": 400, "walkers": 1}
BAROSTAT = {"state": "300K_1bar", "ensemble": "npt", "walkers": 1}
WALKERS = [
    ({}, {"finished"}),
    (BAROSTAT, {"finished"}),
    (HOT, {"blew up", "broken"}),
    ({"blow_up_ev_angstrom": 0.1, "steps": 400, "walkers": 1}, {"blew up"}),
]


@pytest.mark.engine
@pytest.mark.parametrize(("changes", "outcomes"), WALKERS, ids=["cold", "barostat", "hot", "cut"])
def test_walkers_are_the_same_whoever_computes_the_spread(campaign, plain_models, changes, outcomes):
    built_in, outside = campaign("built_in", **changes), campaign("outside", models=plain_models, **changes)
    same = ("walker", "outcome", "steps", "frames", "seed")
    found, expected = (
        [{key: walker[key] for key in same} for walker in read_json(out / "walkers.json")]
        for out in (outside, built_in)
    )
    assert found == expected
    assert {walker["outcome"] for walker in found} <= outcomes
    assert not list(outside.glob("walker/*/deviation.out")), "nothing is built in"
    tables = [list(csv.reader((out / "deviations.csv").open())) for out in (outside, built_in)]
    assert tables[0][0] == tables[1][0]
    numbers = [np.array(table[1:], dtype=float) for table in tables]
    np.testing.assert_allclose(*numbers, rtol=1e-5, atol=1e-6)
    for one, other in zip(*(read_frames(out / "frames.extxyz") for out in (outside, built_in)), strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.cell.array, other.cell.array)
        assert (one.info["walker"], one.info["step"]) == (other.info["walker"], other.info["step"])


@pytest.mark.engine
def test_walkers_of_models_that_lammps_asks_for_forces(campaign, tmp_path):
    """Two MACE models: walkers are deterministic, and the spread is that of their predictions."""
    needs_mace()
    models = [train_mace(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    out, again = (campaign(name, models=models, walkers=1) for name in ("out", "again"))
    assert (out / "frames.extxyz").read_bytes() == (again / "frames.extxyz").read_bytes()
    frames = read_frames(out / "frames.extxyz")
    assert len(frames) == 3
    committee = Committee([registry.engine("mace").open([model], [WATER]) for model in models])
    for atoms, one in zip(frames, committee.spread(frames), strict=True):
        assert atoms.info["max_devi_f"] == pytest.approx(one.max_force, abs=1e-4)
        assert one.max_force > 1e-3


@pytest.mark.engine
def test_constant_pressure_moves_the_box(campaign):
    out = campaign(state="300K_1bar", ensemble="npt", walkers=1)
    frames = read_frames(out / "frames.extxyz")
    assert len({round(atoms.get_volume(), 4) for atoms in frames}) == 3


@pytest.mark.engine
def test_exploding_walkers_are_results(campaign):
    out = campaign(state=f"5000K_{DENSITY:g}", temperatures_kelvin=[5000], timestep_fs=2.0, steps=1000)
    walkers = read_json(out / "walkers.json")
    assert {walker["outcome"] for walker in walkers} <= {"blew up", "broken"}
    assert all(walker["reason"] for walker in walkers)
    assert all(walker["steps"] < 1000 for walker in walkers)
    frames = read_frames(out / "frames.extxyz")
    assert all(np.isfinite(atoms.positions).all() for atoms in frames)


@pytest.mark.engine
def test_a_walker_far_from_the_training_data_is_cut_at_once(campaign):
    out = campaign(blow_up_ev_angstrom=1e-6)
    assert [(w["outcome"], w["steps"], w["frames"]) for w in read_json(out / "walkers.json")] == [("blew up", 0, 1)] * 2


def test_crashes_of_all_walkers_are_results(campaign):
    out = campaign(site={"lammps_launcher": ["sh", "-c", "kill -SEGV $$"]})
    walkers = read_json(out / "walkers.json")
    assert [(w["outcome"], w["steps"]) for w in walkers] == [("crashed", 0)] * 2
    assert "signal 11" in walkers[0]["reason"]
    assert read_frames(out / "frames.extxyz") == []


@pytest.mark.engine
def test_finished_walkers_survive_a_kill(campaign, tmp_path, caplog):
    expected = campaign("whole", steps=400)
    words = campaign.words("out", steps=400)
    script = "import typer; from mlpwf.explore.command import explore; typer.run(explore)"
    process = subprocess.Popen([sys.executable, "-c", script, *words])
    until = time.monotonic() + 120
    while not (tmp_path / "out/walker/00/walker.json").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out/walkers.json").exists()
    with caplog.at_level(logging.INFO, "mlpwf"):
        out = campaign("out", steps=400)
    assert f"explore {STATE}: reusing walker 0" in caplog.text
    assert (out / "frames.extxyz").read_bytes() == (expected / "frames.extxyz").read_bytes()


@pytest.mark.engine
def test_frames_before_a_crash_are_kept(campaign, tmp_path):
    worker = 'python=$1; shift; "$python" "$@" & while [ ! -s frames.extxyz ]; do sleep 0.05; done; kill -9 $!; exit 9'
    out = campaign(site={"lammps_launcher": ["bash", "-c", worker, "bash"]}, walkers=1, steps=100_000)
    walker = read_json(out / "walkers.json")[0]
    assert walker["outcome"] == "crashed"
    assert walker["frames"] >= 1
    assert len(read_frames(out / "frames.extxyz")) == walker["frames"]


@pytest.mark.engine
def test_a_corrupt_model_is_an_error(campaign, tmp_path, water_models):
    (tmp_path / "bad.pb").write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"bad\.pb"):
        campaign(models=[tmp_path / "bad.pb", water_models[1]])


def test_wrong_arguments_are_named(campaign, tmp_path, water_models):
    with pytest.raises(ConfigError, match=f"expected one of {STATE}"):
        campaign(state="999K_1")
    with pytest.raises(ConfigError, match="at least two"):
        campaign(models=water_models[:1])
    with pytest.raises(ConfigError, match="no such model"):
        campaign(models=[water_models[0], tmp_path / "none.pb"])
    write_frames(tmp_path / "bulk.extxyz", [])
    with pytest.raises(DataError, match="no frame of kind 'bulk'"):
        campaign()
