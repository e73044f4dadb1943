"""The child process that holds LAMMPS: `python -m mlpwf.md.worker JOB.json`.

Reads one job, writes its results beside the job file, each whole or absent;
`result.json` comes last. Exit status: 0, `SETUP_FAILED` when LAMMPS cannot
load the models, `DISK_FULL` when a file could not be written. Anything else is a crash.
"""

from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz
from numpy.typing import NDArray

from mlpwf.campaign import records
from mlpwf.campaign.records import RunEnd, WalkerEnd
from mlpwf.errors import DataError, EngineError, GoneError, MlpwfError
from mlpwf.files import NO_ROOM, replacing, write_json, write_text
from mlpwf.md.lammps import DISK_FULL, SegmentEnd, SegmentJob, ValidationJob, WalkerJob
from mlpwf.md.production import RENEWAL, TELL_S, simulate
from mlpwf.md.running_box import (
    FRICTION_TIME_PS,
    HOT,
    BlowUpError,
    RunningBox,
    lammps_seed,
    members,
    setup_failed,
)
from mlpwf.potentials.base import NAN, Spread
from mlpwf.potentials.committee import Committee
from mlpwf.potentials.registry import engine
from mlpwf.structures.frames import quantised, read_frames
from mlpwf.structures.molecules import broken_bond, centres_of_mass, molecules_in_cell

Array = NDArray[np.float64]
EQUILIBRATED, PHASES = Path("equilibrated.bin"), Path("phases.json")


def append_frame(file: Path, atoms: Atoms) -> None:
    """Append a frame in one write, so that a crash leaves the frames before it readable."""
    text = io.StringIO()
    write_extxyz(text, [atoms])
    with file.open("a") as handle:
        handle.write(text.getvalue())


@dataclass(frozen=True)
class _Row:
    """A row of deviations.csv."""

    step: int
    spread: Spread
    temperature: float
    """In K; NaN after a failure."""

    def columns(self) -> dict[str, float]:
        """By the names they have in the table."""
        return {"step": self.step, **self.spread.columns(), "temperature": self.temperature}


def explore(job: WalkerJob) -> WalkerEnd:
    """One walker: Langevin dynamics (with an isotropic Nosé-Hoover barostat at constant pressure).

    A Langevin bath is ergodic in boxes of a few molecules, takes up the heat a
    poor model produces, and is fixed by its seed.
    """
    watched = _Watched(job)
    try:
        watched.open()
    except Exception as error:
        raise SystemExit(setup_failed(error)) from None
    _set_in_motion(watched.box, job)
    rows: list[_Row] = []
    step = 0
    while True:
        row, outcome, reason = _looked_at(watched, job, step, setup=not rows)
        rows.append(row)
        if reason or step + job.steps_between_frames > job.steps:
            break
        step += job.steps_between_frames
    lines = [",".join(f"{value:.8g}" for value in row.columns().values()) for row in rows]
    write_text("deviations.csv", "\n".join([",".join(rows[0].columns()), *lines]) + "\n")
    return WalkerEnd(outcome=outcome, reason=reason, steps=step)


def _set_in_motion(box: RunningBox, job: WalkerJob) -> None:
    """Velocities, and what moves the atoms."""
    target, friction = job.temperature_kelvin, box.time(FRICTION_TIME_PS)
    motion = "nve" if job.pressure_bar is None else f"nph {box.barostat(job.pressure_bar)}"
    box.command(
        f"velocity all create {target:g} {lammps_seed(job.seed, 1)} mom yes rot no dist gaussian",
        f"fix motion all {motion}",
        f"fix bath all langevin {target:g} {target:g} {friction} {lammps_seed(job.seed, 2)} zero yes",
        "thermo 1000000000",
    )


def _looked_at(watched: _Watched, job: WalkerJob, step: int, *, setup: bool) -> tuple[_Row, str, str]:
    """Advance to `step` and keep its frame: its row, the outcome so far, and the reason to cut the walker."""
    failure = None
    try:
        watched.box.run(job.steps_between_frames if step else 0, setup=setup)
    except BlowUpError as error:
        failure = str(error)
    atoms = _whole_frame(watched.box)
    temperature = NAN if failure else watched.box.thermo("temp")
    row = _Row(step, watched.spread(atoms, failure), temperature)
    outcome, reason = _verdict(watched.box, job, row, atoms, failure)
    if atoms is not None and (step or reason):
        append_frame(Path("frames.extxyz"), quantised(molecules_in_cell(_described(atoms, job, row))))
    return row, outcome, reason


def _described(atoms: Atoms, job: WalkerJob, row: _Row) -> Atoms:
    """The frame with where it comes from."""
    columns = row.columns()
    atoms.info = {"kind": "bulk", "state": job.state, "walker": job.walker, "step": row.step}
    atoms.info |= {key: columns[key] for key in ("max_devi_f", "max_devi_v", "temperature")}
    return atoms


class _Watched:
    """A walker's box and the spread of its committee, by LAMMPS where the engine builds it in, or evaluated here."""

    def __init__(self, job: WalkerJob) -> None:
        potentials = members(job, read_frames(job.references))
        self.committee = Committee(potentials)
        self.built_in = engine(job.engine).built_in_spread(potentials, job.steps_between_frames)
        export = potentials[0].lammps() if self.built_in is None else self.built_in.export
        self.box = RunningBox(job, job.steps_between_frames, export)
        self.last = Spread()

    def open(self) -> None:
        """Set up LAMMPS, and read the members where they are evaluated here."""
        self.box.open()
        if self.built_in is None:
            self.committee.spread([self.box.template])

    def spread(self, atoms: Atoms | None, failure: str | None) -> Spread:
        """The spread at this frame (None: its coordinates are lost); after a failure, the last there was."""
        if self.built_in is not None:
            return self.built_in.last()
        if failure is None:
            self.last = Spread() if atoms is None else self._evaluated(atoms)
        return self.last

    def _evaluated(self, atoms: Atoms) -> Spread:
        """By the members' predictions, in the axes of LAMMPS; not known where a member has none, as of clashes."""
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ self.box.rotation)
        turned.positions = atoms.positions @ self.box.rotation
        try:
            return self.committee.spread([turned])[0]
        except GoneError:
            raise
        except (EngineError, DataError):
            return Spread()


def _whole_frame(box: RunningBox) -> Atoms | None:
    """The current frame; None when its coordinates are lost."""
    try:
        atoms = box.frame()
    except Exception:
        return None
    sound = np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()
    return atoms if sound and np.abs(atoms.positions).max() < 1e5 else None


def _verdict(box: RunningBox, job: WalkerJob, row: _Row, atoms: Atoms | None, failure: str | None) -> tuple[str, str]:
    """Outcome of the walker up to here, and the reason to cut it (empty: go on)."""
    if failure is not None:
        return "blew up", failure
    deviation = row.spread.max_force
    if not deviation <= job.blow_up_ev_angstrom:
        return "blew up", f"force deviation {deviation:.4g} eV/Å; expected at most {job.blow_up_ev_angstrom:g}"
    if atoms is None:
        return "blew up", "coordinates are not finite"
    if not row.temperature <= HOT * job.temperature_kelvin:
        hot = f"{HOT:g} x {job.temperature_kelvin:g} K"
        return "blew up", f"temperature {row.temperature:.4g} K; expected less than {hot}"
    if broken := broken_bond(atoms, box.bonded):
        return "broken", f"a molecule is broken: {broken}"
    return "finished", ""


def validate(job: ValidationJob) -> dict[str, RunEnd]:
    """Constant energy, constant volume, constant pressure, each from the same equilibrated box."""
    return _Validation(job).run()


class _Validation:
    """The phases of a validation; killed, it goes on from the last checkpoint of the phase it was in.

    NAME.npz holds a phase's samples as far as it came and, while it runs, LAMMPS' restart file of that step.
    """

    def __init__(self, job: ValidationJob) -> None:
        self.job = job
        self.box = RunningBox(job, job.sample_steps)
        box = self.box
        self.runs = {
            "nve": ("nve", job.nve_steps),
            "nvt": (box.nvt(FRICTION_TIME_PS), job.nvt_steps),
            "npt": (box.npt(FRICTION_TIME_PS, job.pressure_bar), job.npt_steps),
        }
        self.step = self.done_steps = self.own_steps = 0
        self.began = self.saved = self.told = time.monotonic()

    def run(self) -> dict[str, RunEnd]:
        """All phases that are not done yet; how each ended, by its ensemble."""
        if not EQUILIBRATED.exists():
            end = self._phase("equilibration", self.box.nvt(FRICTION_TIME_PS), self.job.equilibration_steps, None)
            if end.reason:
                return dict.fromkeys(self.runs, RunEnd(stable=False, reason=f"while equilibrating: {end.reason}"))
            self._keep_equilibrated()
        self.done_steps = self.job.equilibration_steps
        ends = records.read(PHASES, dict[str, RunEnd]) if PHASES.exists() else {}
        for name, (motion, steps) in self.runs.items():
            if name not in ends:
                ends[name] = self._phase(name, motion, steps, str(EQUILIBRATED))
                records.write(PHASES, ends)
                Path(f"{name}.bin").unlink(missing_ok=True)
            self.done_steps += steps
        return ends

    def _keep_equilibrated(self) -> None:
        """The restart file that all phases start from."""
        self.box.command("unfix motion", "velocity all zero linear", "reset_timestep 0")
        with replacing(EQUILIBRATED) as temporary:
            self.box.write_restart(temporary)

    def _phase(self, name: str, motion: str, steps: int, start: str | None) -> RunEnd:
        """One run, from a restart file or the packed box; its samples go to NAME.npz as far as it came."""
        samples = _Samples(name, self.box)
        begun = samples.restart()
        try:
            self.box.open(begun or start)
        except Exception as error:
            raise SystemExit(setup_failed(error)) from None
        reason, self.step = "", samples.steps(self.job.sample_steps)
        try:
            if begun is None and start is None:
                self.box.heat(self.job.seed)
                self.box.command("reset_timestep 0")
            self._sample(samples, motion, steps, fresh=begun is None)
        except BlowUpError as error:
            reason = str(error)
        samples.save(None)
        return RunEnd(
            stable=not reason, reason=reason, intact=samples.whole, broken=samples.broken, steps=self.step
        )  # fmt: skip

    def _sample(self, samples: _Samples, motion: str, steps: int, *, fresh: bool) -> None:
        """Move, and take a sample every `sample_steps`, from the last one there is."""
        box, stride = self.box, self.job.sample_steps
        box.command(f"fix motion all {motion}", f"thermo {stride}")
        if fresh:
            box.run(0, setup=True)
            samples.take(0.0)
        setup = True
        while self.step + stride <= steps:
            box.run(stride, setup=setup)
            self.step += stride
            samples.take(self.step * box.timestep_ps)
            self.own_steps += stride
            setup = self._pause(samples)

    def _pause(self, samples: _Samples) -> bool:
        """Every so many samples write a checkpoint, if one is due; whether the run is to be set up anew."""
        now = time.monotonic()
        if now - self.told > TELL_S:
            self._tell(now)
        if (self.step // self.job.sample_steps) % RENEWAL:
            return False
        if now - self.saved >= self.job.checkpoint_s:
            restart = Path("checkpoint.bin")
            self.box.write_restart(restart)
            samples.save(restart.read_bytes())
            self.saved = time.monotonic()
        return True

    def _tell(self, now: float) -> None:
        """Say how far the runs are, for the log and for `mlpwf status`."""
        self.told = now
        total = self.job.equilibration_steps + sum(steps for _, steps in self.runs.values())
        ns = self.own_steps * self.box.timestep_ps * 1e-3
        progress = {"fraction": (self.done_steps + self.step) / total, "ns_per_day": 86400 * ns / (now - self.began)}
        write_json("progress.json", progress)


class _Samples:
    """What is kept of a phase, in NAME.npz."""

    def __init__(self, name: str, box: RunningBox) -> None:
        self.name, self.box = name, box
        self.file = Path(f"{name}.npz")
        self.masses, self.molecule = box.template.get_masses(), box.template.arrays["molecule"]
        self.rows: list[Any] = []
        self.centres: list[Array] = []
        self.cells: list[Array] = []
        self.whole = True
        self.broken = ""

    def restart(self) -> str | None:
        """Take up what a killed run left; its restart file, or None if it left none."""
        if not self.file.exists():
            return None
        with np.load(self.file, allow_pickle=False) as kept:
            if not len(kept["restart"]):
                return None
            self.rows, self.centres, self.cells = (list(kept[key]) for key in ("thermo", "centres", "cells"))
            self.whole = bool(kept["whole"])
            self.broken = str(kept["broken"]) if "broken" in kept else ""
            target = Path(f"{self.name}.bin")
            target.write_bytes(kept["restart"].tobytes())
        return str(target)

    def steps(self, interval: int) -> int:
        """The step of the last sample."""
        return max(0, len(self.rows) - 1) * interval

    def take(self, time_ps: float) -> None:
        """Keep the present state; a blow-up is none that is kept."""
        box = self.box
        temperature, atoms = box.check_temperature(), box.frame()
        energies = (box.thermo(key) for key in ("pe", "etotal", "press", "vol"))
        self.rows.append([time_ps, temperature, *energies])
        self.centres.append(centres_of_mass(atoms.positions, self.masses, self.molecule))
        self.cells.append(atoms.cell.array)
        if self.whole and (broken := broken_bond(atoms, box.bonded)):
            self.whole, self.broken = False, f"{broken}, after {time_ps:.3g} ps"

    def save(self, restart: bytes | None) -> None:
        """Write all samples and, in a checkpoint, LAMMPS' restart file."""
        with replacing(self.file) as temporary:
            np.savez(
                temporary,
                thermo=np.array(self.rows).reshape(len(self.rows), 6),
                centres=np.array(self.centres),
                cells=np.array(self.cells),
                mass=self.masses.sum(),
                whole=self.whole,
                broken=self.broken,
                restart=np.frombuffer(restart or b"", dtype=np.uint8),
            )


def _run(task: str, document: dict[str, Any]) -> WalkerEnd | SegmentEnd | dict[str, RunEnd]:
    if task == "WalkerJob":
        return explore(WalkerJob(**document))
    if task == "SegmentJob":
        return simulate(SegmentJob(**document))
    return validate(ValidationJob(**document))


def main(argument: str) -> int:
    """Run the job in the file `argument`; the exit status."""
    document = json.loads(Path(argument).read_text())
    task = document.pop("task")
    try:
        records.write("result.json", _run(task, document))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return DISK_FULL
    except MlpwfError as error:  # what gives the forces is gone: that says nothing of the physics
        return setup_failed(error)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
