"""The training of a MACE model by the worker."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlpwf.config.train import Train
from mlpwf.errors import EngineError
from mlpwf.files import copy_whole, read_json, replacing, write_json, write_text
from mlpwf.potentials.base import Progress, Trained, TrainingJob
from mlpwf.potentials.curve import curve_csv, followed
from mlpwf.potentials.loss import check_molecules, weights
from mlpwf.potentials.mace import DEPLOYED, ORIGINAL, Mace
from mlpwf.potentials.mace.potential import arrays_of
from mlpwf.potentials.mace.program import REMEDY, VARIABLE, WORKER, interpreter, variables
from mlpwf.potentials.record import RECORD, pretrained_elements
from mlpwf.process import run_engine
from mlpwf.structures.molecules import scaled_arms
from mlpwf.structures.properties import of_frame

log = logging.getLogger(__name__)

OUTPUT = "mace.out"
SHAPE = ("engine", "cutoff_angstrom", "mace")
"""Settings that a model cannot change when it is continued."""


def train(job: TrainingJob, progress: Progress) -> Trained:
    """Train in the job's folder, and leave the files of both roles and the learning curve there.

    Raises
    ------
    EngineError
        If the training fails.
    """
    folder, section = job.folder, job.section
    numbers = sorted({int(number) for atoms in job.frames for number in atoms.numbers})
    elements = [chemical_symbols[number] for number in numbers]
    if job.parent and job.pretrained:
        elements = pretrained_elements(job.parent, section, elements)
    elif job.parent and not _fits(job.parent, section, elements):
        job = replace(job, parent=None)
    with replacing(folder / "frames.npz") as temporary, temporary.open("wb") as sink:
        np.savez(sink, **_labels(job))
    settings = _settings(job, numbers)
    write_json(folder / "job.json", settings)
    log.info("train model %d: %d frames, %d steps, %s", job.member, len(job.frames), settings["steps"],
             f"continued from {job.parent}" if job.parent else "from new weights")  # fmt: skip

    def say(step: int, error: float) -> None:
        progress(step, settings["steps"], error)

    python = interpreter(job.site.mace_python)
    os.environ[VARIABLE] = python  # the model is compared with its deployed form after this
    command = [python, str(WORKER), "train"]
    environment = {**variables(job.site.train_threads), "PYTHONPATH": ""}
    with followed(folder / "lcurve.out", settings["steps"], say):
        status = run_engine(command, folder=folder, output=folder / OUTPUT, environment=environment)
    if status != 0:
        raise EngineError(f"the training of MACE ended with status {status}; expected 0: {_last_words(folder)}")
    copy_whole(folder / ORIGINAL, folder / DEPLOYED)
    write_text(folder / Mace.curve, curve_csv(folder / "lcurve.out"))
    details = {"steps": settings["steps"], "seed_of_weights": settings["seed"], **read_json(folder / "trained.json")}
    return Trained(elements, section.cutoff_angstrom, job.parent, details)


def _fits(parent: Path, section: Train, symbols: list[str]) -> bool:
    """Whether a model can be continued; if not, why is logged."""
    known = read_json(parent.with_name(RECORD))
    wanted = section.model_dump(mode="json")
    changed = [key for key in SHAPE if known["settings"].get(key) != wanted[key]]
    reason = f"train.{changed[0]} has changed" if changed else ""
    if known["elements"] != symbols:
        reason = f"it knows {', '.join(known['elements'])}, the labels hold {', '.join(symbols)}"
    if reason:
        log.info("train: %s is not continued, new weights are trained: %s", parent, reason)
    return not reason


def _settings(job: TrainingJob, numbers: list[int]) -> dict[str, Any]:
    """What the worker is told."""
    section, continued = job.section, job.parent is not None
    return {
        "seed": int(np.random.SeedSequence([job.seed, job.member]).generate_state(1)[0] >> 1),
        "numbers": numbers,
        "parent": str(job.parent.resolve()) if job.parent else None,
        "pretrained": job.pretrained,
        "shape": {"cutoff_angstrom": section.cutoff_angstrom, **section.mace.model_dump(exclude={"batch"})},
        "batch": section.mace.batch,
        "steps": section.steps_continued if continued else section.steps,
        "first_rate": section.learning_rate_continued if continued else section.learning_rate,
        "last_rate": section.learning_rate_final,
        "schedule": section.learning_rate_schedule,
        "weights": dict(zip(("e", "f", "v", "gf"), weights(section), strict=True)),  # names of the learning curve
    }


def _labels(job: TrainingJob) -> dict[str, Any]:
    """The labelled frames as the worker takes them."""
    frames, labels = job.frames, [of_frame(atoms) for atoms in job.frames]
    check_molecules(job.section, frames)
    if job.section.molecule_weight:
        molecules, arms = [atoms.arrays["molecule"] for atoms in frames], [scaled_arms(atoms) for atoms in frames]
    else:
        molecules = [np.zeros(len(atoms), dtype=int) for atoms in frames]
        arms = [np.zeros((len(atoms), 3)) for atoms in frames]
    return {
        **arrays_of(frames),
        "energies": np.array([label.energy for label in labels]),
        "forces": np.concatenate([label.forces for label in labels]),
        "virials": np.array([label.virial for label in labels]),
        "molecule": np.concatenate(molecules),
        "arms": np.concatenate(arms),
    }


def _last_words(folder: Path) -> str:
    """The last line of the output, and what helps."""
    lines = [line.strip() for line in (folder / OUTPUT).read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1][:300] if lines else "no output"
    return f"{last} ({REMEDY})" if re.search("ModuleNotFoundError", last) else f"{last} (whole: {folder / OUTPUT})"
