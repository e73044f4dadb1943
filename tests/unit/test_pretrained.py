"""A committee that begins with a user's model: other labels, more elements, other energies of isolated atoms."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlpwf.campaign.records import Errors
from mlpwf.config import Site, Train, load_campaign
from mlpwf.config.train import Mace
from mlpwf.errors import ConfigError, MlpwfError
from mlpwf.potentials.base import TrainingJob
from mlpwf.potentials.mace import DEPLOYED, ORIGINAL
from mlpwf.potentials.metrics import errors_by_state
from mlpwf.potentials.registry import engine
from mlpwf.structures.frames import write_frames
from mlpwf.structures.properties import of_frame
from mlpwf.train.recipe import is_given, model_to_continue, recipe_of
from mlpwf.train.training import Training, make_model
from toy_water import labelled_boxes, needs_mace

ALONE_EV = {1: -1.5, 8: 4.0}
"""How far the energies of isolated atoms of the new labels lie from those of the model's."""
SECTION = Train(
    engine="mace", mace=Mace(channels=8, layers=2, correlation=2, batch=2), cutoff_angstrom=3.5, steps=100,
    steps_continued=20, learning_rate=0.01, learning_rate_continued=2e-3,
)  # fmt: skip


def shifted(atoms: Atoms) -> Atoms:
    """The same label, its energy as another program would give it."""
    copy = atoms.copy()
    energy = atoms.get_potential_energy() + sum(ALONE_EV[number] for number in atoms.numbers.tolist())
    copy.calc = SinglePointCalculator(copy, energy=energy, forces=atoms.get_forces(), stress=atoms.get_stress())
    return copy


def with_carbon(atoms: Atoms) -> Atoms:
    """The same label of a box in which carbon stands for oxygen: the model is to know it."""
    copy = atoms.copy()
    copy.numbers[copy.numbers == 8] = 6
    copy.calc = SinglePointCalculator(
        copy, **{name: atoms.calc.results[name] for name in ("energy", "forces", "stress")}
    )
    return copy


def made(folder: Path, frames: list[Atoms], start: Path | None = None, **settings: object) -> Path:
    """The folder of a model as `mlpwf train model` makes it."""
    section, by = SECTION.model_copy(update=settings), engine("mace")
    folder.mkdir()
    labels = folder / "labels.extxyz"
    write_frames(labels, frames)
    parent = model_to_continue(section, by, start, final=False)
    recipe = recipe_of(section, by, 1, 0, [labels], parent)
    make_model(Training(folder, section, Site(), [labels], parent, recipe, None, is_given(section, start)))
    return folder


def errors(folder: Path, frames: list[Atoms]) -> Errors:
    """Of a model on frames."""
    predicted = engine("mace").open([folder / DEPLOYED]).predict(frames)
    return errors_by_state(frames, [of_frame(atoms) for atoms in frames], predicted, [""] * len(frames)).overall


def _energy(job: TrainingJob) -> float:
    """Of the first frame, by the model of a training."""
    engine("mace").train(job, lambda *_: None)
    return engine("mace").open([job.folder / DEPLOYED]).predict(job.frames[:1])[0].energy


@pytest.mark.engine
def test_it_learns_faster_and_finds_its_energies(tmp_path: Path):
    needs_mace()
    known = labelled_boxes(4, 3, 400, np.random.default_rng(5))
    first = made(tmp_path / "first", [*known, *(with_carbon(atoms) for atoms in known[:3])])
    new = [shifted(atoms) for atoms in labelled_boxes(2, 2, 400, np.random.default_rng(6))]
    held = [shifted(atoms) for atoms in labelled_boxes(2, 2, 400, np.random.default_rng(7))]
    given = first / DEPLOYED
    tuned = errors(made(tmp_path / "tuned", new, first, start_from=given), held)
    fresh = errors(made(tmp_path / "fresh", new, steps=SECTION.steps_continued), held)
    assert tuned.force_rmse_ev_angstrom < 0.6 * fresh.force_rmse_ev_angstrom
    assert tuned.energy_rmse_mev_atom < 50
    assert engine("mace").open([tmp_path / "tuned" / DEPLOYED]).elements == ["H", "C", "O"]

    narrow = tmp_path / "fresh"
    with pytest.raises(ConfigError, match=r"it knows H, O, and the labels hold C; expected a train\.start_from"):
        made(tmp_path / "unknown", [with_carbon(known[0])], narrow, start_from=narrow / DEPLOYED)
    with pytest.raises(ConfigError, match=r"train\.cutoff_angstrom is 3, that of .* 3\.5; expected the same"):
        made(tmp_path / "shorter", new, first, start_from=given, cutoff_angstrom=3.0)
    asked = SECTION.model_copy(update={"start_from": given, "baseline": "molecular"})
    with pytest.raises(ConfigError, match=r"train\.start_from: .* is of engine mace; expected molecular_mace"):
        model_to_continue(asked, engine("molecular_mace"), first, False)


@pytest.mark.engine
def test_a_training_that_goes_on_from_its_checkpoint_keeps_the_energies(tmp_path: Path):
    needs_mace()
    known = labelled_boxes(1, 2, 400, np.random.default_rng(5))
    first = made(tmp_path / "first", known, steps=10)
    job = TrainingJob(
        tmp_path / "whole", [shifted(atoms) for atoms in known], SECTION, Site(), 1, 0, first / ORIGINAL, True
    )  # fmt: skip
    job.folder.mkdir()
    whole = _energy(job)
    resumed = replace(job, folder=tmp_path / "resumed")  # of another name: models are kept by theirs
    resumed.folder.mkdir()
    shutil.copy(job.folder / "checkpoint.pt", resumed.folder)
    shutil.copy(job.folder / "lcurve.out", resumed.folder)
    assert _energy(resumed) == pytest.approx(whole, abs=1e-3)


CAMPAIGN = """
name: fine
system:
  molecules: {water: {smiles: O, count: 4}}
  density_g_cm3: 1
train: {%s}
"""


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("engine: mace, start_from: no.pt", r"train\.start_from: no such file .*no\.pt"),
        ("engine: mace, replay: l.extxyz", "replay is set, and start_from is not; expected both, or neither"),
        ("start_from: m", "start_from is a key of the engine mace, and engine is deepmd"),
        (
            "engine: mace, baseline: molecular, start_from: m, replay: l.extxyz",
            "expected baseline: none, or no replay",
        ),
    ],
)
def test_what_is_asked_wrongly_is_one_line(train: str, said: str, tmp_path: Path):
    (tmp_path / "m").touch()
    (tmp_path / "l").touch()
    (tmp_path / "fine.yaml").write_text(CAMPAIGN % train)
    with pytest.raises(MlpwfError, match=said) as caught:
        load_campaign(tmp_path / "fine.yaml")
    assert "\n" not in str(caught.value)
