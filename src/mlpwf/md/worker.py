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
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz
from numpy.typing import NDArray

from mlpwf.errors import EngineError
from mlpwf.files import NO_ROOM, replacing, write_json, write_text
from mlpwf.md.lammps import DISK_FULL, SegmentJob, ValidationJob, WalkerJob
from mlpwf.md.liquid import (
    FRICTION_TIME_PS,
    HOT,
    BlowUpError,
    Liquid,
    lammps_seed,
    members,
    setup_failed,
)
from mlpwf.md.production import RENEWAL, TELL_S, simulate
from mlpwf.potentials.base import NAN, Spread
from mlpwf.potentials.committee import Committee
from mlpwf.potentials.registry import engine
from mlpwf.structures.frames import quantised, read_frames
from mlpwf.structures.molecules import centres_of_mass, intact, molecules_in_cell

Array = NDArray[np.float64]
EQUILIBRATED, PHASES = Path("equilibrated.bin"), Path("phases.json")


def append_frame(file: Path, atoms: Atoms) -> None:
    """Append a frame in one write, so that a crash leaves the frames before it readable."""
    text = io.StringIO()
    write_extxyz(text, [atoms])
    with file.open("a") as handle:
        handle.write(text.getvalue())


def explore(job: WalkerJob) -> dict[str, Any]:
    """One walker: Langevin dynamics (with an isotropic Nosé-Hoover barostat at constant pressure).

    A Langevin bath is ergodic in boxes of a few molecules, takes up the heat a
    poor model produces, and is fixed by its seed.
    """
    watched = _Watched(job)
    liquid = watched.liquid
    try:
        watched.open()
    except Exception as error:
        raise SystemExit(setup_failed(error)) from None
    target, friction = job.temperature_kelvin, liquid.time(FRICTION_TIME_PS)
    motion = "nve" if job.pressure_bar is None else f"nph {liquid.barostat(job.pressure_bar)}"
    liquid.command(
        f"velocity all create {target:g} {lammps_seed(job.seed, 1)} mom yes rot no dist gaussian",
        f"fix motion all {motion}",
        f"fix bath all langevin {target:g} {target:g} {friction} {lammps_seed(job.seed, 2)} zero yes",
        "thermo 1000000000",
    )
    rows: list[dict[str, Any]] = []
    outcome, reason, step = "finished", "", 0
    while True:
        failure = None
        try:
            liquid.run(job.steps_between_frames if step else 0, setup=not rows)
        except BlowUpError as error:
            failure = str(error)
        atoms = _whole_frame(liquid)
        temperature = NAN if failure else liquid.thermo("temp")
        row = {"step": step, **watched.spread(atoms, failure).columns(), "temperature": temperature}
        rows.append(row)
        if atoms is not None:
            atoms.info = {"kind": "bulk", "state": job.state, "walker": job.walker, "step": step}
            atoms.info |= {key: row[key] for key in ("max_devi_f", "max_devi_v", "temperature")}
        outcome, reason = _verdict(liquid, job, row, atoms, failure)
        if atoms is not None and (step or reason):
            append_frame(Path("frames.extxyz"), quantised(molecules_in_cell(atoms)))
        if reason or step + job.steps_between_frames > job.steps:
            break
        step += job.steps_between_frames
    header = ",".join(rows[0])
    write_text(
        "deviations.csv",
        "\n".join([header, *(",".join(f"{value:.8g}" for value in row.values()) for row in rows)]) + "\n",
    )
    return {"outcome": outcome, "reason": reason, "steps": step}


class _Watched:
    """A walker's box and the spread of its committee, by LAMMPS where the engine builds it in, or evaluated here."""

    def __init__(self, job: WalkerJob) -> None:
        potentials = members(job, read_frames(job.references))
        self.committee = Committee(potentials)
        self.built_in = engine(job.engine).built_in_spread(potentials, job.steps_between_frames)
        export = potentials[0].lammps() if self.built_in is None else self.built_in.export
        self.liquid = Liquid(job, job.steps_between_frames, export)
        self.last = Spread()

    def open(self) -> None:
        """Set up LAMMPS, and read the members where they are evaluated here."""
        self.liquid.open()
        if self.built_in is None:
            self.committee.spread([self.liquid.template])

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
        turned.set_cell(atoms.cell.array @ self.liquid.rotation)
        turned.positions = atoms.positions @ self.liquid.rotation
        try:
            return self.committee.spread([turned])[0]
        except EngineError:
            return Spread()


def _whole_frame(liquid: Liquid) -> Atoms | None:
    """The current frame; None when its coordinates are lost."""
    try:
        atoms = liquid.frame()
    except Exception:
        return None
    sound = np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()
    return atoms if sound and np.abs(atoms.positions).max() < 1e5 else None


def _verdict(
    liquid: Liquid, job: WalkerJob, row: dict[str, Any], atoms: Atoms | None, failure: str | None
) -> tuple[str, str]:
    """Outcome of the walker up to here, and the reason to cut it (empty: go on)."""
    if failure is not None:
        return "blew up", failure
    if not row["max_devi_f"] <= job.blow_up_ev_angstrom:
        return "blew up", f"force deviation {row['max_devi_f']:.4g} eV/Å; expected at most {job.blow_up_ev_angstrom:g}"
    if atoms is None:
        return "blew up", "coordinates are not finite"
    if not row["temperature"] <= HOT * job.temperature_kelvin:
        return (
            "blew up",
            f"temperature {row['temperature']:.4g} K; expected less than {HOT:g} x {job.temperature_kelvin:g} K",
        )
    if not intact(atoms, liquid.bonded):
        return "broken", "a molecule is broken"
    return "finished", ""


def validate(job: ValidationJob) -> dict[str, Any]:
    """Constant energy, constant volume, constant pressure, each from the same equilibrated box."""
    return _Validation(job).run()


class _Validation:
    """The phases of a validation; killed, it goes on from the last checkpoint of the phase it was in.

    NAME.npz holds a phase's samples as far as it came and, while it runs, LAMMPS' restart file of that step.
    """

    def __init__(self, job: ValidationJob) -> None:
        self.job = job
        self.liquid = Liquid(job, job.sample_steps)
        liquid = self.liquid
        self.runs = {
            "nve": ("nve", job.nve_steps),
            "nvt": (liquid.nvt(FRICTION_TIME_PS), job.nvt_steps),
            "npt": (liquid.npt(FRICTION_TIME_PS, job.pressure_bar), job.npt_steps),
        }
        self.done_steps = self.own_steps = 0
        self.began = self.saved = self.told = time.monotonic()

    def run(self) -> dict[str, Any]:
        """All phases that are not done yet."""
        liquid = self.liquid
        if not EQUILIBRATED.exists():
            found = self._phase("equilibration", liquid.nvt(FRICTION_TIME_PS), self.job.equilibration_steps, None)
            if found["reason"]:
                verdict = {"stable": False, "reason": f"while equilibrating: {found['reason']}"}
                return {name: dict(verdict) for name in self.runs}
            liquid.command("unfix motion", "velocity all zero linear", "reset_timestep 0")
            with replacing(EQUILIBRATED) as temporary:
                liquid.write_restart(temporary)
        self.done_steps = self.job.equilibration_steps
        verdicts = json.loads(PHASES.read_text()) if PHASES.exists() else {}
        for name, (motion, steps) in self.runs.items():
            if name not in verdicts:
                verdicts[name] = self._phase(name, motion, steps, str(EQUILIBRATED))
                write_json(PHASES, verdicts)
                Path(f"{name}.bin").unlink(missing_ok=True)
            self.done_steps += steps
        return verdicts

    def _phase(self, name: str, motion: str, steps: int, start: str | None) -> dict[str, Any]:
        """One run, from a restart file or the packed box; its samples go to NAME.npz as far as it came."""
        job, liquid = self.job, self.liquid
        samples = _Samples(name, liquid)
        begun = samples.restart()
        try:
            liquid.open(begun or start)
        except Exception as error:
            raise SystemExit(setup_failed(error)) from None
        reason, step, fresh = "", samples.steps(job.sample_steps), True
        try:
            if begun is None and start is None:
                liquid.heat(job.seed)
                liquid.command("reset_timestep 0")
            liquid.command(f"fix motion all {motion}", f"thermo {job.sample_steps}")
            if begun is None:
                liquid.run(0, setup=True)
                samples.take(0.0)
            while step + job.sample_steps <= steps:
                liquid.run(job.sample_steps, setup=fresh)
                step, fresh = step + job.sample_steps, False
                samples.take(step * liquid.timestep_ps)
                self.own_steps += job.sample_steps
                fresh = self._pause(samples, step)
        except BlowUpError as error:
            reason = str(error)
        samples.save(None)
        return {"stable": not reason, "reason": reason, "intact": samples.whole, "steps": step}

    def _pause(self, samples: _Samples, step: int) -> bool:
        """Every so many samples write a checkpoint, if one is due; whether the run is to be set up anew."""
        now = time.monotonic()
        if now - self.told > TELL_S:
            self.told = now
            total = self.job.equilibration_steps + sum(steps for _, steps in self.runs.values())
            ns = self.own_steps * self.liquid.timestep_ps * 1e-3
            progress = {"fraction": (self.done_steps + step) / total, "ns_per_day": 86400 * ns / (now - self.began)}
            write_json("progress.json", progress)
        if (step // self.job.sample_steps) % RENEWAL:
            return False
        if now - self.saved >= self.job.checkpoint_s:
            restart = Path("checkpoint.bin")
            self.liquid.write_restart(restart)
            samples.save(restart.read_bytes())
            self.saved = time.monotonic()
        return True


class _Samples:
    """What is kept of a phase, in NAME.npz."""

    def __init__(self, name: str, liquid: Liquid) -> None:
        self.name, self.liquid = name, liquid
        self.file = Path(f"{name}.npz")
        self.masses, self.molecule = liquid.template.get_masses(), liquid.template.arrays["molecule"]
        self.rows: list[Any] = []
        self.centres: list[Array] = []
        self.cells: list[Array] = []
        self.whole = True

    def restart(self) -> str | None:
        """Take up what a killed run left; its restart file, or None if it left none."""
        if not self.file.exists():
            return None
        with np.load(self.file, allow_pickle=False) as kept:
            if not len(kept["restart"]):
                return None
            self.rows, self.centres, self.cells = (list(kept[key]) for key in ("thermo", "centres", "cells"))
            self.whole = bool(kept["whole"])
            target = Path(f"{self.name}.bin")
            target.write_bytes(kept["restart"].tobytes())
        return str(target)

    def steps(self, interval: int) -> int:
        """The step of the last sample."""
        return max(0, len(self.rows) - 1) * interval

    def take(self, time_ps: float) -> None:
        """Keep the present state; a blow-up is none that is kept."""
        liquid = self.liquid
        temperature, atoms = liquid.check_temperature(), liquid.frame()
        energies = (liquid.thermo(key) for key in ("pe", "etotal", "press", "vol"))
        self.rows.append([time_ps, temperature, *energies])
        self.centres.append(centres_of_mass(atoms.positions, self.masses, self.molecule))
        self.cells.append(atoms.cell.array)
        self.whole = self.whole and intact(atoms, liquid.bonded)

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
                restart=np.frombuffer(restart or b"", dtype=np.uint8),
            )


def main(argument: str) -> int:
    """Run the job in the file `argument`; the exit status."""
    document = json.loads(Path(argument).read_text())
    task = document.pop("task")
    try:
        if task == "WalkerJob":
            result = explore(WalkerJob(**document))
        elif task == "SegmentJob":
            result = simulate(SegmentJob(**document))
        else:
            result = validate(ValidationJob(**document))
        write_json("result.json", result)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return DISK_FULL
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
