"""MACE in its own environment: training, resuming, continuing, and what is said when it is not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlpwf.config import Site, Train
from mlpwf.config.train import Mace as Shape
from mlpwf.errors import DataError, EngineError
from mlpwf.potentials.base import Trained, TrainingJob
from mlpwf.potentials.curve import read_curve
from mlpwf.potentials.mace import ORIGINAL, Mace, program
from mlpwf.potentials.mace.potential import MacePotential
from mlpwf.potentials.metrics import errors_by_state
from mlpwf.structures.properties import of_frame
from toy_water import WATER, labelled_boxes, needs_mace, relaxed_box, train_mace

SECTION = Train(
    engine="mace", mace=Shape(channels=8, layers=2, correlation=2, batch=2), cutoff_angstrom=3.5, steps=60,
    steps_continued=20, learning_rate=0.01,
)  # fmt: skip


def job(folder: Path, **changes: object) -> TrainingJob:
    """A training on labels of the toy water."""
    folder.mkdir(exist_ok=True)
    frames = labelled_boxes(4, 3, 400, np.random.default_rng(5))
    return replace(TrainingJob(folder, frames, SECTION, Site(), 1, 0, molecules=[WATER]), **changes)


def train(work: TrainingJob) -> Trained:
    """Train, and say nothing."""
    return Mace().train(work, lambda *_: None)


def predicted(folder: Path) -> tuple[float, np.ndarray]:
    """Energy and forces of one box."""
    (found,) = Mace().open([folder / ORIGINAL], [WATER]).predict([relaxed_box(8, np.random.default_rng(3))])
    return found.energy, found.forces


@pytest.mark.engine
def test_a_training_that_is_killed_goes_on_to_the_same_model(tmp_path: Path):
    needs_mace()
    train(job(tmp_path / "whole"))
    killed = job(tmp_path / "killed")
    told: list[int] = []
    watched = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.path[:0] = ['tests', 'tests/unit']; from test_mace import *;"
         "train(job(Path(sys.argv[1])))", str(killed.folder)], start_new_session=True,
    )  # fmt: skip
    while not (killed.folder / "checkpoint.pt").is_file():
        assert watched.poll() is None, "the training ended before its first checkpoint"
        time.sleep(0.05)
    os.killpg(watched.pid, signal.SIGKILL)
    watched.wait()
    assert not (killed.folder / ORIGINAL).is_file()
    Mace().train(killed, lambda step, *_: told.append(step))
    (energy, forces), (expected, of_whole) = predicted(killed.folder), predicted(tmp_path / "whole")
    assert energy == pytest.approx(expected, abs=1e-4)  # single precision: sums differ in their last digits
    np.testing.assert_allclose(forces, of_whole, rtol=0, atol=1e-4)
    steps = [int(row[0]) for row in read_curve(killed.folder / "lcurve.out")[1]]
    assert steps == sorted(set(steps))
    assert steps[-1] == 60


@pytest.mark.engine
def test_a_model_learns_and_another_goes_on_from_it(tmp_path: Path):
    needs_mace()
    first = job(tmp_path / "first", section=SECTION.model_copy(update={"steps": 150}))
    trained = train(first)
    assert trained.elements == ["H", "O"]
    held = labelled_boxes(2, 3, 400, np.random.default_rng(9))
    labels = [of_frame(atoms) for atoms in held]
    predictions = Mace().open([first.folder / ORIGINAL], [WATER]).predict(held)
    errors = errors_by_state(held, labels, predictions, [""] * len(held)).overall
    size = np.concatenate([one.forces for one in labels]).std()
    assert errors.force_rmse_ev_angstrom < 0.3 * size
    (first.folder / "check.json").write_text(
        json.dumps({"elements": trained.elements, "settings": first.section.model_dump(mode="json")})
    )
    second = job(tmp_path / "second", parent=first.folder / ORIGINAL)
    assert train(second).parent == second.parent
    column = read_curve(second.folder / "lcurve.out")[0].index("rmse_f")
    begun = {name: read_curve(tmp_path / name / "lcurve.out")[1][0][column] for name in ("first", "second")}
    assert begun["second"] < 0.5 * begun["first"]
    wider = job(tmp_path / "wider", parent=first.folder / ORIGINAL,
                section=SECTION.model_copy(update={"cutoff_angstrom": 3.0, "steps": 10}))  # fmt: skip
    assert train(wider).parent is None


def test_where_it_is_not_installed_the_message_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(program.VARIABLE, str(tmp_path / "python"))
    with pytest.raises(EngineError, match=r"no Python there; expected one with mace-torch: .*`\./start mace`"):
        train(job(tmp_path / "model"))


def test_a_python_without_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(program.VARIABLE, sys.executable)
    for ask in (
        lambda: train(job(tmp_path / "model")),
        lambda: program.Server(1).ask({"ask": "numbers", "model": "x"}),
    ):
        with pytest.raises(EngineError, match=r"ModuleNotFoundError: No module named 'torch'.*\./start mace") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_a_missing_model_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="no such model; expected a MACE model of mlpwf train"):
        MacePotential(Mace(), [tmp_path / "model.pt"])


@pytest.mark.engine
def test_a_damaged_model_and_a_killed_worker_are_one_line(tmp_path: Path):
    needs_mace()
    (tmp_path / "model.pt").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"MACE cannot evaluate .*model\.pt: ") as caught:
        _ = MacePotential(Mace(), [tmp_path / "model.pt"]).elements
    assert "\n" not in str(caught.value)
    model = train_mace(tmp_path / "model")
    server = program.Server(1)
    assert server.ask({"ask": "numbers", "model": str(model)})["numbers"].tolist() == [1, 8]
    server.process.kill()
    with pytest.raises(EngineError, match="the process of MACE ended with status -9"):
        server.ask({"ask": "numbers", "model": str(model)})
