"""The validation runs: constant energy, volume and pressure in one child process, resumed or taken over."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms
from msgspec.structs import asdict

from mlpwf.campaign import paths, records
from mlpwf.campaign.records import RunEnd, ValidateAsked, ValidateRuns
from mlpwf.config import Site, System, Validate
from mlpwf.files import write_text
from mlpwf.md.lammps import ENSEMBLES, ValidationJob, describe_exit, last_words, run_worker
from mlpwf.potentials.record import engine_of
from mlpwf.structures.boxes import pack_box, scaled_counts
from mlpwf.structures.frames import quantised, read_frames, write_frames
from mlpwf.validate.verdicts import Samples, liquid_samples, npt_verdict, nve_verdict, nvt_verdict, structure

log = logging.getLogger(__name__)

SAMPLE_FS = 10.0
CHECKPOINT_S = 300.0
UNFINISHED = "unfinished.json"
"""In the work folder: what the runs are of."""
BOX = "box.extxyz"


@dataclass(frozen=True)
class Validation:
    """The runs to be made of a model."""

    asked: ValidateAsked
    section: Validate
    system: System
    site: Site
    model: Path
    """Deployed file."""
    molecules: Path
    """One frame for each species."""
    out: paths.Validate

    @property
    def work(self) -> Path:
        """Folder of the runs until they are done."""
        return self.out / "work"

    @cached_property
    def references(self) -> list[Atoms]:
        """One frame of each species."""
        return read_frames(self.molecules)

    @property
    def counts(self) -> list[int]:
        """Molecules of each species in the box."""
        return scaled_counts([one.count for one in self.system.molecules.values()], self.section.molecules)

    @property
    def atoms(self) -> int:
        """Atoms of the box."""
        return sum(count * len(one) for count, one in zip(self.counts, self.references, strict=True))

    @property
    def conditions(self) -> str:
        """Molecules, temperature and pressure in words."""
        section = self.section
        return f"{section.molecules} molecules at {section.temperature_kelvin:g} K and {section.pressure_bar:g} bar"


def asked_of(section: Validate, seed: int, model_sha256: str, molecules_sha256: str) -> ValidateAsked:
    """What the runs of a model are of."""
    return ValidateAsked(
        seed=seed, model_sha256=model_sha256, molecules_sha256=molecules_sha256, **section.model_dump(mode="json")
    )


def run_files(folder: paths.Validate) -> list[Path]:
    """What the runs leave beside their verdicts."""
    return [folder.nve, folder.rdf, folder.liquid]


def taken_over(known: paths.Validate, asked: ValidateAsked, out: paths.Validate) -> ValidateRuns | None:
    """The runs of another folder, their files copied, if they are of this model and these settings; else None."""
    found = records.read_known(known.runs, ValidateRuns)
    if found is None or found.asked != asked:
        return None
    for source, target in zip(run_files(known), run_files(out), strict=True):
        write_text(target, source.read_text())
    log.info("validate: runs taken over from %s, of the same model", known)
    return found


def run(validation: Validation) -> dict[str, RunEnd]:
    """Run the three ensembles in one child, or resume what a killed one left; a run that fails is a verdict."""
    _prepare(validation)
    site, work = validation.site, validation.work
    status = run_worker(
        job_of(validation), work, launcher=site.lammps_launcher, threads=site.md_threads, label="validate"
    )
    ends = _ends(work)
    reason = f"crashed, {describe_exit(status)}: {last_words(work / 'output.txt')}"
    return {name: ends.get(name, RunEnd(stable=False, reason=reason)) for name in ENSEMBLES}


def _prepare(validation: Validation) -> None:
    """A work folder with the packed box, or the one that runs of the same kind left."""
    work = validation.work
    if records.read_known(work / UNFINISHED, ValidateAsked) == validation.asked:
        log.info("validate: goes on with the runs in %s", work)
        return
    shutil.rmtree(work, ignore_errors=True)
    rng = np.random.default_rng([validation.asked.seed, 1])
    box = pack_box(validation.references, validation.counts, validation.system.density_g_cm3, rng)
    write_frames(work / BOX, [quantised(box)])
    records.write(work / UNFINISHED, validation.asked)


def _ends(work: Path) -> dict[str, RunEnd]:
    """How the runs ended: all of them, or those that a crashed child had finished."""
    for name in ("result.json", "phases.json"):
        if (work / name).exists():
            return records.read(work / name, dict[str, RunEnd])
    return {}


def job_of(validation: Validation) -> ValidationJob:
    """The job for LAMMPS."""
    section = validation.section
    steps = {name: _steps(getattr(section, f"{name}_ps"), section.timestep_fs) for name in ENSEMBLES}
    return ValidationJob(
        engine=engine_of([validation.model]).name,
        models=[[str(validation.model.resolve())]],
        box=str((validation.work / BOX).resolve()),
        references=str(validation.molecules.resolve()),
        seed=validation.asked.seed,
        temperature_kelvin=section.temperature_kelvin,
        pressure_bar=section.pressure_bar,
        timestep_fs=section.timestep_fs,
        equilibration_steps=max(steps["nvt"] // 2, 500),
        nve_steps=steps["nve"],
        nvt_steps=steps["nvt"],
        npt_steps=steps["npt"],
        sample_steps=max(1, min(round(SAMPLE_FS / section.timestep_fs), min(steps.values()) // 10)),
        checkpoint_s=CHECKPOINT_S,
    )


def _steps(length_ps: float, timestep_fs: float) -> int:
    return max(10, round(length_ps * 1e3 / timestep_fs))


# ---------------------------------------------------------------- verdicts


def judged(validation: Validation, ends: dict[str, RunEnd], samples: dict[str, Samples]) -> ValidateRuns:
    """Verdicts on the runs, from how they ended and what was sampled of them."""
    for name, end in ends.items():
        log.info("validate: %s %s", name, "stable" if end.stable else f"unstable ({end.reason})")
    return ValidateRuns(
        **asdict(validation.asked),
        nve=nve_verdict(ends["nve"], samples["nve"], validation.atoms),
        nvt=nvt_verdict(ends["nvt"], samples["nvt"]),
        npt=npt_verdict(ends["npt"], samples["npt"], validation.system.density_g_cm3),
    )


def read_samples(work: Path) -> dict[str, Samples]:
    """What was sampled of each run, by its ensemble."""
    return {name: Samples.read(work / f"{name}.npz") for name in ENSEMBLES}


def energy_table(samples: Samples) -> str:
    """CSV of the run at constant energy; energies in eV of the box."""
    rows = [",".join(f"{value:.10g}" for value in row[:4]) for row in samples.thermo]
    return "\n".join(["time_ps,temperature,potential,total_energy", *rows]) + "\n"


def structure_table(end: RunEnd, samples: Samples) -> str:
    """CSV of g(r) of the molecules' centres of mass; without rows where there is nothing to average."""
    rows = [f"{r:.4f},{g:.6g}" for r, g in zip(*structure(end, samples), strict=True)]
    return "\n".join(["r_angstrom,g", *rows]) + "\n"


def validate_runs(validation: Validation, cycle: int | None) -> ValidateRuns:
    """Run, judge, and write nve.csv, rdf.csv and liquid.json."""
    out, asked = validation.out, validation.asked
    ends = run(validation)
    samples = read_samples(validation.work)
    write_text(out.nve, energy_table(samples["nve"]))
    write_text(out.rdf, structure_table(ends["nvt"], samples["nvt"]))
    found = judged(validation, ends, samples)
    liquid = liquid_samples(
        ends, samples["nvt"], samples["npt"], seed=asked.seed, model_sha256=asked.model_sha256, cycle=cycle,
        conditions=validation.conditions,
    )  # fmt: skip
    records.write(out.liquid, liquid)
    return found


def forget_work(validation: Validation) -> None:
    """Mark the runs in the work folder as done: they are made anew if asked again."""
    (validation.work / UNFINISHED).unlink(missing_ok=True)
