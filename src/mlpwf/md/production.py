"""Production runs: NVT in stretches that go on exactly where the last one, or its last checkpoint, ended.

An equilibration at constant pressure, if asked for, comes before, and the run keeps its mean volume.

A checkpoint is three files below `checkpoint/`: what was kept since the one
before (NNNNNN.npz), LAMMPS' restart file (NNNNNN.bin), and, last, its step and
the hashes of the other two (NNNNNN.json). Checkpoints lie on steps at which
neighbour lists are rebuilt, so that a continued run is the uninterrupted run bit for bit.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from mlpwf.campaign.segments import CHECKPOINTS, checkpoint_file
from mlpwf.files import replacing, sha256, write_json
from mlpwf.md.lammps import SegmentEnd, SegmentJob
from mlpwf.md.running_box import FRICTION_TIME_PS, BlowUpError, RunningBox, setup_failed
from mlpwf.md.schedule import outputs
from mlpwf.structures.beads import beads
from mlpwf.structures.molecules import intact, species_numbers

DRIFT_STEPS = 1000
TELL_S = 2.0
SETTLED, LAST_QUARTER = 0.25, 0.75
"""At constant pressure: the parts of the equilibration between which volumes are averaged. The rest is NVT."""
STRESSES = "stresses"
RENEWAL_STEPS = 100_000
"""Steps after which LAMMPS' own store of pressure tensors is emptied."""
STRIDE_STEPS = 50
"""LAMMPS runs about so many steps, or to the next frame, before it is asked how it does."""
RENEWAL = 20
"""At constant pressure all is set up anew every so many strides, and checkpoints lie there: what LAMMPS derives from
the box at set-up, as the mesh of a long-range solver, follows it only then, so that a continued run is the
uninterrupted one."""


def simulate(job: SegmentJob) -> SegmentEnd:
    """Run a stretch: how far it came, and whether it blew up."""
    production = _Production(job)
    try:
        production.run()
    except BlowUpError as error:
        step = production.step
        production.keep_part()
        return production.result(step, str(error))
    return production.result(production.step, "")


class _Production:
    """A run in progress: LAMMPS, the step it is at, and what was kept since the last checkpoint."""

    def __init__(self, job: SegmentJob) -> None:
        self.job = job
        self.box = RunningBox(job, job.stress_steps)
        self.volumes = _volumes(job)
        self.species = species_numbers(self.box.template, self.box.references)
        self.step, self.number = job.start_step, job.checkpoint
        self.fresh = True
        self.saved = self.told = self.began = time.monotonic()
        self.first, self.longest = self.step, 0.0
        self.kept = self.step
        self.watched: int | None = None
        self.stride = job.stress_steps * max(1, STRIDE_STEPS // job.stress_steps)
        self._empty()

    def _empty(self) -> None:
        self.frames: list[tuple[int, Any, list[float], bool]] = []
        self.stresses: list[tuple[int, list[float], float, float]] = []

    def run(self) -> None:
        """From the packed box, or the restart file, to the end of the stretch."""
        job, box = self.job, self.box
        try:
            box.open(restart=job.restart)
            box.command("thermo 0", "log none")
            if job.restart is not None:
                self._check_step()
        except Exception as error:
            raise SystemExit(setup_failed(error)) from None
        if job.restart is None:
            box.heat(job.seed)
            box.command("reset_timestep 0")
        self.saved = self.told = self.began = time.monotonic()
        entering = job.restart is None or self.step < 0
        if entering and not self._equilibrate():
            return
        self._produce(entering)

    def _check_step(self) -> None:
        found = int(self.box.lammps.extract_global("ntimestep"))
        if found != self._counter():
            raise ValueError(f"{self.job.restart} is of step {found}; expected step {self._counter()}")

    def _counter(self) -> int:
        """The step by LAMMPS' own count, which starts anew with production."""
        return self.step + self.job.equilibration_steps if self.step < 0 else self.step

    def result(self, step: int, reason: str) -> SegmentEnd:
        """What the parent is told: how far the run came, why it blew up, its box and volumes."""
        try:
            cell = self.box.frame().cell.array.tolist()
        except Exception:
            cell = None
        return SegmentEnd(
            stable=not reason, step=step, reason=reason, parts=self.number, cell=cell, volumes=self.volumes
        )

    def _equilibrate(self) -> bool:
        """Run to the start of production; False if the time is up before."""
        job, box = self.job, self.box
        if job.pressure_bar is not None and not self._find_volume(job.pressure_bar):
            return False
        if self.step < 0:
            box.command(f"fix motion all {box.nvt(FRICTION_TIME_PS)}")
            while self.step < 0:
                self._advance(min(0, self.step + self.stride))
                if self.step < 0 and self._pause():
                    return False
            box.command("unfix motion")
        box.command("velocity all zero linear", "reset_timestep 0")
        return True

    def _find_volume(self, pressure_bar: float) -> bool:
        """Run at constant pressure, then take the mean volume; False if the time is up before."""
        job, box = self.job, self.box
        begin, end = (self._stride(part) for part in (SETTLED, LAST_QUARTER))
        if self._counter() >= end:
            return True
        box.command(f"fix motion all {box.npt(FRICTION_TIME_PS, pressure_bar)}")
        while True:
            self._advance(self.step + job.stress_steps)
            if self._counter() > begin:
                self.volumes = [self.volumes[0] + box.thermo("vol"), self.volumes[1] + 1]
            if self._counter() >= end:
                break
            if self._counter() % (RENEWAL * job.stress_steps) == 0:
                self.fresh = True
                if self._pause():
                    return False
        box.command("unfix motion")
        box.rescale(self.volumes[0] / self.volumes[1])
        self.fresh = True
        return True

    def _stride(self, part: float) -> int:
        """A part of the equilibration in steps, a whole number of strides."""
        return int(part * self.job.equilibration_steps / self.job.stress_steps) * self.job.stress_steps

    def _produce(self, entering: bool) -> None:
        job = self.job
        self.box.command(
            f"fix motion all {self.box.nvt(job.thermostat_time_ps)}",
            f"fix drift all momentum {DRIFT_STEPS} linear 1 1 1",
        )
        self._watch_stresses()
        if entering:
            self._advance(0)
            self._keep_frame()
        for output in outputs(job.interval_steps, job.stress_steps, self.step, job.stop_step):
            last = output.step == job.stop_step
            if not (output.frame or last or output.step % self.stride == 0):
                continue
            self._advance(output.step)
            if output.frame:
                self._keep_frame()
            if output.stress and not last and self._pause():
                return
        if self.frames or self.step > self.kept:
            self._save()

    def _advance(self, step: int) -> None:
        began = time.monotonic()
        room = None if self.watched is None else self.watched + RENEWAL_STEPS + 2 * self.stride
        self.box.run(step - self.step, setup=self.fresh, room=room)
        self.fresh, self.step = False, step
        self.temperature = self.box.check_temperature()
        self.longest = max(self.longest, time.monotonic() - began)

    def _watch_stresses(self) -> None:
        """Have LAMMPS keep temperature, energy and pressure tensor every `stress_steps`, from this step on."""
        parts = " ".join(f"c_thermo_press[{number}]" for number in range(1, 7))
        self.box.command(
            "variable potential equal c_thermo_pe",  # fix vector takes no sums over atoms beside means, but variables
            f"fix {STRESSES} all vector {self.job.stress_steps} c_thermo_temp v_potential {parts}",
        )
        self.watched, self.fresh = self.step, True

    def _unwatch_stresses(self) -> None:
        """End that; LAMMPS writes no restart file while it keeps values."""
        if self.watched is not None:
            self.box.command(f"unfix {STRESSES}")

    def _take_stresses(self) -> None:
        """What LAMMPS kept since it was told to, up to where a run blew up."""
        if self.watched is None:
            return
        every = self.job.stress_steps
        step = -(-self.watched // every) * every
        for temperature, potential, pressure in self.box.kept_stresses(STRESSES):
            if step > self.watched or step == 0:  # the step it began with belongs to what came before
                self.stresses.append((step, pressure, temperature, potential))
            step += every

    def _keep_frame(self) -> None:
        """Keep the frame, with its energies."""
        box = self.box
        atoms = box.frame()
        masses, molecule = box.template.get_masses(), box.template.arrays["molecule"]
        kept = beads(atoms.positions, masses, molecule, self.species, box.references)
        row = [self.step * box.timestep_ps, self.temperature]
        row += [box.thermo(name) for name in ("pe", "etotal", "press")]
        whole = self.step % self.job.interval_steps > 0 or intact(atoms, box.bonded)
        self.frames.append((self.step, kept, row, whole))

    def _pause(self) -> bool:
        """Write a checkpoint when one is due; True when the time is up."""
        if self._counter() % self.box.rebuild:
            return False
        now = time.monotonic()
        if now - self.told > TELL_S:
            self._tell(now)
        end = self.job.end_time
        up = end is not None and time.time() + 2 * self.longest >= end
        if up or now - self.saved >= self.job.checkpoint_s:
            self._save()
        elif self.watched is not None and self.step - self.watched >= RENEWAL_STEPS:
            self._take_stresses()
            self._unwatch_stresses()
            self._watch_stresses()
        return up

    def _save(self) -> None:
        """Write a checkpoint; the files of the last two stay, and what was kept before them."""
        part = self.keep_part()
        self._unwatch_stresses()
        restart = checkpoint_file(CHECKPOINTS, self.number, "bin")
        with replacing(restart) as temporary:
            self.box.write_restart(temporary)
        if self.watched is not None:
            self._watch_stresses()
        hashes = {path.name: sha256(path) for path in (part, restart)}
        write_json(checkpoint_file(CHECKPOINTS, self.number, "json"), {"step": self.step, "sha256": hashes})
        checkpoint_file(CHECKPOINTS, self.number - 2, "bin").unlink(missing_ok=True)
        self._tell(time.monotonic())

    def keep_part(self) -> Path:
        """Write what was kept since the last checkpoint, and begin anew."""
        self.number += 1
        self._take_stresses()
        now = time.monotonic()
        target = checkpoint_file(CHECKPOINTS, self.number, "npz")
        size = 3 * len(self.species)
        with replacing(target) as temporary:
            np.savez(
                temporary,
                steps=np.array([frame[0] for frame in self.frames], dtype=np.int64),
                positions=np.array([frame[1] for frame in self.frames]).reshape(-1, size, 3),
                thermo=np.array([frame[2] for frame in self.frames]).reshape(-1, 5),
                whole=np.array([frame[3] for frame in self.frames], dtype=bool),
                stress_steps=np.array([entry[0] for entry in self.stresses], dtype=np.int64),
                pressure=np.array([entry[1] for entry in self.stresses], dtype=np.float32).reshape(-1, 6),
                temperature=np.array([entry[2] for entry in self.stresses], dtype=np.float32),
                potential=np.array([entry[3] for entry in self.stresses]),
                volumes=np.array(self.volumes),
                seconds=now - self.saved,
            )
        self._empty()
        self.fresh, self.saved, self.kept = True, now, self.step
        return target

    def _tell(self, now: float) -> None:
        """Say how far the run is, for the log and for `mlpwf status`."""
        self.told = now
        steps = self.step - self.first
        write_json(
            "progress.json",
            {
                "fraction": (self.step - self.job.start_step) / max(1, self.job.stop_step - self.job.start_step),
                "ns_per_day": 86400 * steps * self.box.timestep_ps * 1e-3 / max(1e-9, now - self.began),
                "ps": self.step * self.box.timestep_ps,
                "time": time.time(),
            },
        )


def _volumes(job: SegmentJob) -> list[float]:
    """Sum and number of the volumes found before this job: those of its checkpoint, or else of the segment before."""
    if not job.checkpoint:
        return list(job.volumes)
    with np.load(checkpoint_file(CHECKPOINTS, job.checkpoint, "npz"), allow_pickle=False) as kept:
        return [float(value) for value in kept["volumes"]]
