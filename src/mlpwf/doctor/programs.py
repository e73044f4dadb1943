"""The programs a campaign runs, each made to do a second of its work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlpwf.config import Campaign, Site, Train
from mlpwf.findings import Finding, failed, made, ok, warning

if TYPE_CHECKING:
    from ase import Atoms

STEPS = 10
LENGTHS = (0.95, 0.97, 0.99, 1.01, 1.03, 1.05)
"""Of the dimers a training is tried on, over the sum of the covalent radii."""


def elements_of(campaign: Campaign) -> list[str]:
    """Elements of the campaign's molecules.

    Raises
    ------
    ConfigError
        If a molecule has no geometry.
    """
    from mlpwf.structures.frames import element_order
    from mlpwf.structures.species import geometry

    return element_order(geometry(name, one, campaign.seed) for name, one in campaign.system.molecules.items())


def _dimer(element: str) -> Atoms:
    """A molecule of two atoms of an element in a small box: an even number of electrons."""
    from ase import Atoms
    from ase.data import atomic_numbers, covalent_radii

    length = 2 * covalent_radii[atomic_numbers[element]]
    atoms = Atoms([element] * 2, [[0, 0, 0], [0, 0, length]], cell=[4.5, 4.6, 4.7 + length], pbc=True)
    atoms.arrays["molecule"] = atoms.numbers * 0
    return atoms


def labels(campaign: Campaign, site: Site, elements: list[str]) -> Iterator[Finding]:
    """Whether the site is fit for labels, as their calculator says; one has two atoms of the lightest element."""
    from mlpwf.calculators.foresight import boxes
    from mlpwf.calculators.registry import calculator

    labelling, target = calculator(campaign.label, site, elements), min(campaign.select.targets.values())
    yield from labelling.diagnose(_dimer(elements[0]), boxes(campaign), target)


def _labelled_dimers(element: str) -> list[Atoms]:
    """A few lengths of a dimer in a roomy box, with labels that teach nothing."""
    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for stretch in LENGTHS:
        atoms = _dimer(element)
        atoms.set_cell([8.0, 8.0, 8.0])
        atoms.set_distance(0, 1, stretch * atoms.get_distance(0, 1), fix=0)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)), stress=np.zeros(6))
        frames.append(atoms)
    return frames


def training(train: Train, site: Site, folder: Path, elements: list[str]) -> Iterator[Finding]:
    """A training of the campaign's engine as short as can be, of two atoms; the model is left in `folder`."""
    from mlpwf.potentials.base import TrainingJob
    from mlpwf.potentials.registry import engine

    started, by, frames = time.time(), engine(train.potential), _labelled_dimers(elements[0])
    section = Train.model_validate({"engine": train.engine, "baseline": train.baseline, **by.trial})
    job = TrainingJob(folder, frames, section, site, seed=1, member=0, molecules=[_dimer(elements[0])])
    trained = by.train(job, lambda step, steps, error: None)
    found = {name.removesuffix("_version"): value for name, value in trained.details.items() if "version" in name}
    said = ", ".join(f"{name} {value or 'of unknown version'}" for name, value in found.items()) or "fitted"
    steps = f"{section.steps} steps, " if "steps" in trained.details else ""
    yield ok(by.program, f"{said}: {steps}trained and deployed in {time.time() - started:.1f} s")


def dynamics(train: Train, site: Site, folder: Path, elements: list[str]) -> Iterator[Finding]:
    """A few steps of LAMMPS under the model `training` has left in `folder`."""
    from mlpwf.md.lammps import WalkerJob, describe_exit, last_words, run_worker
    from mlpwf.potentials.base import Role
    from mlpwf.potentials.record import model_files
    from mlpwf.potentials.registry import engine
    from mlpwf.structures.frames import quantised, write_frames

    started, work, atoms = time.time(), folder / "dynamics", _dimer(elements[0])
    by = engine(train.potential)
    atoms.set_cell([8.0, 8.0, 8.0])
    atoms.info = {"kind": "bulk", "state": "doctor"}
    work.mkdir()
    for name in ("box", "references"):
        write_frames(work / f"{name}.extxyz", [quantised(atoms)])
    job = WalkerJob(
        engine=by.name, models=2 * [[str(model_files(by, folder)[Role.DEPLOYED].resolve())]],
        box=str((work / "box.extxyz").resolve()), references=str((work / "references.extxyz").resolve()), seed=1,
        temperature_kelvin=100.0, pressure_bar=None, timestep_fs=0.5, steps=STEPS, steps_between_frames=STEPS,
        blow_up_ev_angstrom=1e6, state="doctor", walker=0,
    )  # fmt: skip
    status = run_worker(job, work, launcher=site.lammps_launcher, threads=site.md_threads)
    if status != 0 or not (work / "result.json").is_file():
        yield failed(
            "LAMMPS", f"ended with {describe_exit(status)}: {last_words(work / 'output.txt')}",
            f"{STEPS} steps", "mend `lammps_launcher` in the site file, or install mlpwf anew (envs/README.md)",
        )  # fmt: skip
        return
    steps = json.loads((work / "result.json").read_text())["steps"]
    yield ok("LAMMPS", f"{steps} steps with models of the engine {by.name} in {time.time() - started:.1f} s")


def mace(site: Site) -> Iterator[Finding]:
    """The Python that a campaign of MACE models trains in, and what it finds there."""
    from mlpwf.potentials.mace.program import REMEDY, interpreter

    python = interpreter(site.mace_python)
    script = (
        "import torch, mace.modules; from importlib.metadata import version; "
        "print('mace-torch', version('mace-torch'), 'PyTorch', torch.__version__, 'GPUs', torch.cuda.device_count())"
    )
    asked = subprocess.run([python, "-W", "ignore", "-c", script], capture_output=True, text=True)
    said = (asked.stdout if asked.returncode == 0 else asked.stderr).strip().splitlines()
    if asked.returncode != 0:
        yield failed("MACE", f"{python}: {said[-1][:200] if said else 'no output'}", "mace-torch and PyTorch", REMEDY)
        return
    yield ok("MACE", f"{python}: {said[-1]}")


def packing() -> Iterator[Finding]:
    """Packmol is found."""
    from mlpwf.structures.packing import packmol_path

    yield ok("packmol", packmol_path())


def gpus(asked: int) -> Iterator[Finding]:
    """The GPUs a job was given, as the driver and as TensorFlow see them."""
    remedy = "ask for GPUs of this partition (slurm_stages), or leave `gpus` out"
    if shutil.which("nvidia-smi") is None:
        yield failed("GPU", "no nvidia-smi on PATH", f"{asked} of NVIDIA", remedy)
        return
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    seen = [line.split(" (UUID")[0] for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    if listed.returncode != 0 or len(seen) < asked:
        said = "; ".join(seen) or " ".join((listed.stderr or listed.stdout).split())[:200] or "no GPU"
        yield failed("GPU", said, f"{asked} of them", remedy)
        return
    yield ok("GPU", "; ".join(seen))
    script = "import tensorflow as t; print('GPUs', len(t.config.list_physical_devices('GPU')))"
    asked_tensorflow = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if f"GPUs {len(seen)}" not in asked_tensorflow.stdout:
        yield warning(
            "GPU: TensorFlow", asked_tensorflow.stdout.strip() or "TensorFlow cannot be loaded", f"GPUs {len(seen)}",
            "jobs run on the CPU: install a GPU build of DeePMD-kit and name its `dp` in the site file",
        )  # fmt: skip
    else:
        yield ok("GPU: TensorFlow", asked_tensorflow.stdout.strip())


def programs(campaign: Campaign, site: Site, asked_gpus: int = 0) -> Iterator[Finding]:
    """All of these checks; what cannot be tried because something before it failed is left out."""
    from mlpwf.potentials.registry import engine

    elements: list[str] = []

    def molecules() -> Iterator[Finding]:
        elements.extend(elements_of(campaign))
        yield ok("molecules", f"{', '.join(campaign.system.molecules)}: elements {' '.join(elements)}")

    yield from made("molecules", molecules)
    if not elements:
        return
    yield from made("labels", lambda: labels(campaign, site, elements))
    yield from made("packmol", packing)
    if campaign.train.engine == "mace":
        yield from made("MACE", lambda: mace(site))
    with tempfile.TemporaryDirectory(prefix="mlpwf-doctor-") as folder:
        program = engine(campaign.train.potential).program
        trained = list(made(program, lambda: training(campaign.train, site, Path(folder), elements)))
        yield from trained
        if trained[-1].level == "ok":
            yield from made("LAMMPS", lambda: dynamics(campaign.train, site, Path(folder), elements))
    if asked_gpus:
        yield from gpus(asked_gpus)
