"""`mlpwf train` with the real dp: trained, killed and trained again, continued, rated, kept."""

from __future__ import annotations

import csv
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from mlpwf.config import Site, Train
from mlpwf.errors import ConfigError, DataError, EngineError
from mlpwf.files import read_json, sha256, write_json
from mlpwf.potentials.deepmd.program import latest_checkpoint
from mlpwf.potentials.metrics import largest_differences
from mlpwf.potentials.record import open_model, sound_model
from mlpwf.structures.frames import quantised, read_frames, write_frames
from mlpwf.train.command import app

SETTINGS = {
    "cutoff_angstrom": 3.5,
    "embedding_neurons": [4, 8],
    "fitting_neurons": [16, 16],
    "axis_neurons": 4,
    "steps": 200,
    "steps_continued": 60,
    "learning_rate_continued": 1e-9,  # so that a continued model is still the model it came from
    "learning_rate_final": 1e-10,
}
DP = [str(Path(sys.executable).parent / "dp")]


def box(seed: int, count: int = 4, state: str = "300K") -> Atoms:
    """Waters with Lennard-Jones labels, as the label stage writes them."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(cell=[5.0] * 3, pbc=True)
    for place in range(count):
        one = molecule("H2O")
        one.euler_rotate(*rng.uniform(0, 360, 3))
        one.positions += (np.array([place & 1, place >> 1 & 1, place >> 2 & 1]) + 0.5) * 2.5
        atoms += one
    atoms.positions += rng.normal(0, 0.04, atoms.positions.shape)
    atoms = quantised(atoms)
    atoms.arrays["molecule"] = np.repeat(np.arange(count), 3)
    atoms.info |= {"kind": "bulk", "state": state}
    labels = atoms.copy()
    labels.calc = LennardJones(sigma=0.9, epsilon=0.2, rc=3.0, smooth=True)
    atoms.calc = SinglePointCalculator(
        atoms, energy=labels.get_potential_energy(), forces=labels.get_forces(), stress=labels.get_stress()
    )
    return atoms


class Campaign:
    """A folder with sections, labels of two cycles and test labels; where a killed training stood, and what it said."""

    step, told = 0, ""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.labels = [root / "cycle" / f"{n:03d}" / "label" / "labels.extxyz" for n in (0, 1)]
        self.test = root / "test" / "label" / "labels.extxyz"
        self.configure()
        write_frames(self.labels[0], [box(seed) for seed in range(12)] + [box(20, count=2, state="dimer")])
        write_frames(self.labels[1], [box(30 + seed) for seed in range(3)])
        write_frames(self.test, [box(40), box(41), box(42, state="400K")])

    def configure(self, dp: list[str] | None = None, **changes: object) -> None:
        section = Train.model_validate({**SETTINGS, **changes}).model_dump(mode="json")
        write_json(self.root / "config" / "train.json", {**section, "seed": 5})
        write_json(self.root / "config" / "site.json", {**Site(dp=dp or DP).model_dump(mode="json"), "seed": 5})

    def model(self, cycle: int, index: int = 0) -> Path:
        return self.root / "cycle" / f"{cycle:03d}" / "train" / "model" / str(index)

    def words(self, cycle: int) -> list[str]:
        words = ["model", "--config", f"{self.root}/config/train.json", "--site", f"{self.root}/config/site.json"]
        for path in self.labels[: cycle + 1]:
            words += ["--labels", str(path)]
        words += ["--index", "0", "--out", str(self.model(cycle))]
        return [*words, "--start", str(self.model(cycle - 1))] if cycle else words


def mlpwf(*words: object) -> None:
    CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def train_and_be_killed(campaign: Campaign) -> int:
    """Kill a training once dp has written a checkpoint; the process number that dp had."""
    code = "import sys; from mlpwf.train.command import app; app(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, *campaign.words(0)])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 900
    found: list[str] = []
    while not latest_checkpoint(campaign.model(0) / "work"):
        found = children.read_text().split() or found
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return int(found[0])


def alive(process: int) -> bool:
    """Whether a process exists and is more than an entry nobody has asked for yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Cycle 0, killed once, and cycle 1, trained."""
    campaign = Campaign(tmp_path_factory.mktemp("train"))
    child = train_and_be_killed(campaign)
    deadline = time.monotonic() + 60
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (campaign.model(0) / "check.json").exists()
    found = latest_checkpoint(campaign.model(0) / "work")
    assert found is not None
    campaign.step = found[1]
    with (campaign.model(0) / "work" / "lcurve.out").open("a") as curve:
        curve.write("cut sho")
    log = logging.getLogger("mlpwf")
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    mlpwf(*campaign.words(0))
    log.removeHandler(handler)
    campaign.told = told.getvalue()
    mlpwf(*campaign.words(1))
    return campaign


@pytest.mark.engine
def test_model_leaves_its_outputs_and_no_work_folder(campaign: Campaign) -> None:
    out = campaign.model(0)
    check = read_json(out / "check.json")
    assert check["frames"] == 13
    assert check["atoms"] == 12 * 12 + 6
    assert check["elements"] == ["H", "O"]
    assert check["steps"] == 200
    assert check["started_from"] is None
    assert check["seed"] == 5
    assert check["conversion_difference"]["force_ev_angstrom"] < 1e-6
    assert check["inputs"] == {str(campaign.labels[0]): sha256(campaign.labels[0])}
    assert check["sha256"] == {name: sha256(out / name) for name in ("model.pb", "compressed.pb")}
    curve = list(csv.DictReader((out / "lcurve.csv").open()))
    assert curve[-1]["step"] == "200"
    assert {"rmse_e_trn", "rmse_f_trn", "rmse_v_trn", "lr"} < set(curve[0])
    assert not (out / "work").exists()


@pytest.mark.engine
def test_a_killed_training_went_on_from_its_checkpoint(campaign: Campaign) -> None:
    assert 0 < campaign.step <= 200
    assert f"goes on from its checkpoint of step {campaign.step}\n" in campaign.told
    curve = [int(row["step"]) for row in csv.DictReader((campaign.model(0) / "lcurve.csv").open())]
    assert curve == list(range(0, 201, 4))


@pytest.mark.engine
def test_continued_model_begins_where_the_other_ended(campaign: Campaign) -> None:
    check = read_json(campaign.model(1) / "check.json")
    assert check["started_from"] == str(campaign.model(0) / "model.pb")
    assert check["steps"] == 60
    assert check["frames"] == 16
    assert check["neighbour_slots"] == read_json(campaign.model(0) / "check.json")["neighbour_slots"]
    frames = read_frames(campaign.test)
    before, after = (open_model(campaign.model(cycle) / "model.pb").predict(frames) for cycle in (0, 1))
    assert 0 < largest_differences(before, after).force_ev_angstrom < 1e-5


@pytest.mark.engine
def test_finished_model_is_kept(campaign: Campaign) -> None:
    out = campaign.model(0)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("*.pb")}
    mlpwf(*campaign.words(0))
    after = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("*.pb")}
    assert all(after[name][0] == before[name][0] and after[name][1] > before[name][1] for name in before)


@pytest.mark.engine
def test_a_damaged_compressed_model_is_made_again_without_a_training(
    campaign: Campaign, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "0"
    shutil.copytree(campaign.model(0), out)
    compressed = out / "compressed.pb"
    compressed.write_bytes(compressed.read_bytes()[:-100])
    words = campaign.words(0)
    words[words.index("--out") + 1] = str(out)
    with caplog.at_level("INFO", "mlpwf"):
        mlpwf(*words)
    assert "finished before, compressed again" in caplog.text
    assert sound_model(compressed) == read_json(out / "check.json")["sha256"]["compressed.pb"]
    assert sound_model(out / "model.pb") == sha256(campaign.model(0) / "model.pb")
    frames = read_frames(campaign.test)
    again, before = (open_model(folder / "compressed.pb").predict(frames) for folder in (out, campaign.model(0)))
    assert largest_differences(again, before).force_ev_angstrom == 0
    assert not (out / "work").exists()


@pytest.mark.engine
def test_errors_are_those_of_the_models(campaign: Campaign) -> None:
    models = [campaign.model(1) / "compressed.pb", campaign.model(1) / "model.pb"]
    out = campaign.root / "cycle" / "001" / "train" / "errors.json"
    words = ["test", "--test", campaign.test, "--out", out, "--new", campaign.labels[1]]
    for path in models:
        words += ["--model", path]
    for path in campaign.labels:
        words += ["--train-labels", path]
    mlpwf(*words, "--previous", campaign.model(0) / "compressed.pb")
    errors = read_json(out)
    frames = read_frames(campaign.test)
    predicted = open_model(models[0]).predict(frames)
    squares = np.concatenate([(p.forces - f.get_forces()).ravel() for p, f in zip(predicted, frames, strict=True)]) ** 2
    first = errors["test"]["models"][0]
    assert first["overall"]["force_rmse_ev_angstrom"] == pytest.approx(np.sqrt(squares.mean()))
    assert len(errors["test"]["models"]) == 2
    assert set(first["states"]) == {"300K", "400K"}
    trained = errors["train"]["mean"]["overall"]
    forces = np.concatenate([f.get_forces().ravel() for path in campaign.labels for f in read_frames(path)])
    assert trained["frames"] == 16
    assert trained["force_rmse_ev_angstrom"] < 0.9 * forces.std()
    assert set(errors["train"]["mean"]["states"]) == {"300K", "dimer"}
    assert errors["new"]["first"]["overall"]["frames"] == 3
    assert errors["new"]["first"] == errors["new"]["mean"]
    assert errors["test"]["frame_force_mse_ev2_angstrom2"] == pytest.approx(
        squares.reshape(3, -1).mean(axis=1), rel=0.2
    )
    rows = list(csv.DictReader((out.parent / "parity.csv").open()))
    assert len(rows) == 3 * (1 + 9 + 36)
    assert float(rows[0]["label"]) == pytest.approx(frames[0].get_potential_energy() / 12)


@pytest.mark.engine
def test_a_calibration_is_made_and_the_one_before_is_checked(campaign: Campaign, tmp_path: Path) -> None:
    models = [campaign.model(0) / "compressed.pb", campaign.model(1) / "compressed.pb"]
    words = ["test", "--test", campaign.test, *(word for path in models for word in ("--model", path))]
    mlpwf(*words, "--train-labels", campaign.labels[0], "--out", tmp_path / "0" / "errors.json")
    first = read_json(tmp_path / "0" / "calibration.json")
    assert first["source"] == "test set, this committee"
    assert set(first["maps"]) == {"inter", "intra"}
    assert first["check"] == {}
    rows = list(csv.DictReader((tmp_path / "0" / "pairs.csv").open()))
    assert len(rows) == 3 * (4 + 12)
    assert {row["kind"] for row in rows} == {"molecule", "H", "O"}
    words += ["--new", campaign.labels[1], *(word for path in models for word in ("--previous", path))]
    words += ["--calibration", tmp_path / "0" / "calibration.json", "--train-labels", campaign.labels[0]]
    mlpwf(*words, "--out", tmp_path / "1" / "errors.json")
    second = read_json(tmp_path / "1" / "calibration.json")
    assert second["source"] == "new labels, previous committee"
    assert second["check"]["intra"]["frames"] == 3
    assert sum(count for _, _, count in second["reliability"]["inter"]) == 3 * 4


@pytest.mark.engine
def test_error_on_new_labels_is_null_when_there_are_none(campaign: Campaign, tmp_path: Path) -> None:
    model, out = campaign.model(0) / "compressed.pb", tmp_path / "errors.json"
    words = ["test", "--model", model, "--test", campaign.test, "--train-labels", campaign.labels[0], "--out", out]
    mlpwf(*words)
    assert read_json(out)["new"] is None
    write_frames(tmp_path / "none.extxyz", [])
    mlpwf(*words, "--new", tmp_path / "none.extxyz", "--previous", model)
    assert read_json(out)["new"] is None


@pytest.mark.engine
def test_test_frames_must_not_be_training_frames(campaign: Campaign, tmp_path: Path) -> None:
    stained = tmp_path / "labels.extxyz"
    write_frames(stained, [*read_frames(campaign.test), read_frames(campaign.labels[0])[4]])
    model = campaign.model(0) / "compressed.pb"
    with pytest.raises(DataError, match="test frame 3 is a training frame"):
        mlpwf(
            "test", "--model", model, "--test", stained, "--train-labels", campaign.labels[0], "--out", tmp_path / "e"
        )


@pytest.mark.parametrize("continue_models", [True, False])
def test_the_final_model_is_trained_for_longer(tmp_path: Path, continue_models: bool) -> None:
    campaign, out = Campaign(tmp_path), tmp_path / "longer"
    campaign.configure(dp=[sys.executable, "-c", "raise SystemExit('Error: not today')"])
    campaign.model(0).mkdir(parents=True)
    (campaign.model(0) / "model.pb").write_bytes(b"a model")
    known = {"model.pb": sha256(campaign.model(0) / "model.pb")}
    settings = Train.model_validate(SETTINGS).model_dump(mode="json")
    shape = {"elements": ["H", "O"], "neighbour_slots": [200, 200], "settings": settings}
    write_json(campaign.model(0) / "check.json", {**shape, "sha256": known})
    words = [*campaign.words(1)[:-4], "--out", out, "--start", campaign.model(0), "--final"]
    with pytest.raises(ConfigError, match="steps_final is not set"):
        mlpwf(*words)
    section = read_json(tmp_path / "config" / "train.json")
    write_json(tmp_path / "config" / "train.json", section | {"steps_final": 120, "continue_models": continue_models})
    with pytest.raises(EngineError, match="not today"):
        mlpwf(*words)
    asked = read_json(out / "work" / "input.json")
    assert asked["training"]["numb_steps"] == 120
    assert asked["learning_rate"]["start_lr"] == SETTINGS["learning_rate_continued"]
    assert asked["model"]["descriptor"]["sel"] == [200, 200], "continued: as the model before it"
    frames = sum(len(np.load(path)) for path in (out / "work" / "data").rglob("energy.npy"))
    assert frames == 16, "labels of all cycles"


def test_final_model_is_a_copy_with_its_verdict(tmp_path: Path) -> None:
    (tmp_path / "compressed.pb").write_bytes(b"a model")
    (tmp_path / "model.pb").write_bytes(b"as trained")
    status = {"cycle": 3, "verdict": "converged", "reason": "converged: all is well", "selected": 0}
    write_json(tmp_path / "status.json", status)
    words = ["final", "--status", tmp_path / "status.json", "--out", tmp_path / "final", "--model"]
    mlpwf(*words, tmp_path / "compressed.pb")
    assert (tmp_path / "final" / "model.pb").read_bytes() == b"as trained"
    assert (tmp_path / "final" / "compressed.pb").read_bytes() == b"a model"
    final = read_json(tmp_path / "final" / "final.json")
    assert (final["cycle"], final["verdict"], final["reason"]) == (3, "converged", "converged: all is well")
    assert final["sha256"] == {name: sha256(tmp_path / name) for name in ("model.pb", "compressed.pb")}
    assert sound_model(tmp_path / "final" / "compressed.pb") == final["sha256"]["compressed.pb"]
    with pytest.raises(DataError, match="no such model"):
        mlpwf(*words, tmp_path / "none.pb")
    (tmp_path / "model.pb").unlink()
    with pytest.raises(DataError, match=r"/model\.pb: no such model"):
        mlpwf(*words, tmp_path / "compressed.pb")


def test_a_program_that_fails_leaves_no_output(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    campaign.configure(dp=[sys.executable, "-c", "raise SystemExit('OOM: killed by the queue')"])
    with pytest.raises(EngineError, match="OOM: killed by the queue"):
        mlpwf(*campaign.words(0))
    assert not list(campaign.model(0).glob("*.pb"))
    assert (campaign.model(0) / "work" / "train.out").exists()
    campaign.configure(dp=["no-such-dp"])
    with pytest.raises(EngineError, match="cannot start 'no-such-dp'"):
        mlpwf(*campaign.words(0))


REFUSES_RESTARTS = """
import sys
from pathlib import Path
if "--restart" in sys.argv:
    raise SystemExit("Error: damaged checkpoint " + sys.argv[-1])
for end in ("index", "data-00000-of-00001", "meta"):
    Path("model.ckpt-" + ("7" if Path("lcurve.out").exists() else "40") + "." + end).write_text("")
Path("lcurve.out").write_text("")
raise SystemExit("Error: the node went down")
"""


def test_a_training_whose_checkpoint_is_damaged_starts_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    campaign = Campaign(tmp_path)
    campaign.configure(dp=[sys.executable, "-c", REFUSES_RESTARTS])
    with pytest.raises(EngineError, match="the node went down"):
        mlpwf(*campaign.words(0))
    work = campaign.model(0) / "work"
    assert latest_checkpoint(work) == ("model.ckpt-40", 40)
    with pytest.raises(EngineError, match="the node went down"), caplog.at_level("INFO", "mlpwf"):
        mlpwf(*campaign.words(0))
    assert "goes on from its checkpoint of step 40" in caplog.text
    assert "cannot resume from model.ckpt-40 (dp train ended with status 1; expected 0: Error: damaged" in caplog.text
    campaign.configure(dp=[sys.executable, "-c", REFUSES_RESTARTS], steps=300)
    caplog.clear()
    with pytest.raises(EngineError, match="the node went down"):
        mlpwf(*campaign.words(0))
    assert "goes on from" not in caplog.text, "a checkpoint of other settings was taken up"


def test_labels_that_are_missing_or_incomplete(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    frames = read_frames(campaign.labels[0])
    frames[3].calc = None
    write_frames(campaign.labels[0], frames)
    with pytest.raises(DataError, match=r"labels\.extxyz: frame 3: .* lacks a label"):
        mlpwf(*campaign.words(0))
    with pytest.raises(DataError, match=r"model\.pb: no such model; expected the one to continue"):
        mlpwf(*campaign.words(1))
    frames = [atoms for atoms in frames if atoms.calc is not None]
    frames[1].info["engine"] = "gfn2"
    write_frames(campaign.labels[0], frames)
    with pytest.raises(DataError, match="labels by gfn2 and qe; expected one engine"):
        mlpwf(*campaign.words(0))
    write_frames(campaign.labels[0], [])
    with pytest.raises(DataError, match="no labelled frames"):
        mlpwf(*campaign.words(0))
