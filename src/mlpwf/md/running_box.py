"""A box of molecules in LAMMPS; lives in the child process `md.worker`."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.md.lammps import SETUP_FAILED, Job, rebuild_steps
from mlpwf.potentials.base import Potential
from mlpwf.potentials.lammps import LammpsExport, cell_of, link, open_lammps
from mlpwf.potentials.outside import Outside
from mlpwf.potentials.registry import engine
from mlpwf.structures.frames import read_frames
from mlpwf.structures.lammps_data import box_matrix
from mlpwf.structures.molecules import reference_bonds

Array = NDArray[np.float64]
HOT = 10.0  # times the target temperature: a run this hot has blown up
HEATING_PS = 0.25
HEATING_TIME_PS = 0.05
NVE_LIMIT_ANGSTROM = 0.05
FRICTION_TIME_PS = 0.1
BAROSTAT_TIME_PS = 0.5
FORCE_TOLERANCE_EV_ANGSTROM = 0.5
GLOBAL, ARRAY, ROWS = 0, 2, 4  # of LAMMPS' C interface: data of a fix as a whole; an element; how many rows
RESTART_MAGIC = b"LammpS RestartT\0"  # what a restart file begins and ends with
MACHINE = re.compile(r"memory|CUDA|device", re.IGNORECASE)  # errors of LAMMPS that say nothing of the physics


class BlowUpError(Exception):
    """A run that is no longer physics; the message says why."""


def members(job: Job, molecules: Sequence[Atoms]) -> list[Potential]:
    """The potentials of a job, opened for its molecules."""
    by = engine(job.engine)
    return [by.open([Path(file) for file in files], molecules) for files in job.models]


class RunningBox:
    """One box of molecules in LAMMPS; what it is asked and told is in Å, ps, eV, K and bar."""

    def __init__(self, job: Job, interval_steps: int, export: LammpsExport | None = None) -> None:
        self.template = read_frames(job.box)[0]
        self.references = read_frames(job.references)
        self.bonded = reference_bonds(self.template, self.references)
        self.temperature = job.temperature_kelvin
        self.timestep_ps = job.timestep_fs * 1e-3
        self.potential = export or members(job, self.references)[0].lammps()
        units = self.potential.units
        self.factors = {"pe": units.ev, "etotal": units.ev, "press": units.bar}
        fast = self.potential.fast
        self.inner_steps = fast.steps(job.timestep_fs) if fast else 1
        self.levels = fast.style(job.timestep_fs) if fast else []
        self.rebuild = rebuild_steps(job.timestep_fs, interval_steps, self.potential.rebuild_fs)
        _, self.rotation = box_matrix(self.template.cell.array)
        self.lammps = open_lammps("log.lammps")
        self.outside: Outside | None = None

    def command(self, *lines: str) -> None:
        """Run LAMMPS commands one by one."""
        for line in lines:
            self.lammps.command(line)

    def open(self, restart: str | None = None) -> None:
        """Read the box, or a restart file, and put the potential on it."""
        potential = self.potential
        self.command(*potential.opening())
        if restart is None:
            potential.write_box(Path("start.data"), self.template)
            self.command("box tilt large", "read_data start.data")
        else:
            self.command(f"read_restart {link('start.bin', restart)}")
        self.command(
            *potential.commands(Path()),
            f"neighbor {potential.skin_angstrom} bin",
            f"neigh_modify every {self.rebuild} delay 0 check no",
            f"timestep {self.time(self.timestep_ps)}",
            *self.levels,
            "thermo_style custom step temp pe etotal press vol",
            "thermo_modify lost error norm no",
        )
        if potential.outside is not None:
            self.outside = Outside(self.lammps, self.template, potential)

    def time(self, ps: float) -> str:
        """A time in ps as LAMMPS is told it."""
        return f"{ps * self.potential.units.ps:.16g}"

    def nvt(self, relaxation_ps: float) -> str:
        """Nosé-Hoover dynamics at constant volume, as words of a fix."""
        return f"nvt temp {self.temperature:g} {self.temperature:g} {self.time(relaxation_ps)}"

    def npt(self, relaxation_ps: float, pressure_bar: float) -> str:
        """Nosé-Hoover dynamics at constant pressure, the box keeping its shape, as words of a fix."""
        thermostat = f"temp {self.temperature:g} {self.temperature:g} {self.time(relaxation_ps)}"
        return f"npt {thermostat} {self.barostat(pressure_bar)}"

    def barostat(self, pressure_bar: float) -> str:
        """An isotropic barostat, as words of a fix."""
        pressure = f"{pressure_bar * self.potential.units.bar:.16g}"
        return f"iso {pressure} {pressure} {self.time(BAROSTAT_TIME_PS)}"

    def run(self, steps: int, *, setup: bool = False, room: int | None = None) -> None:
        """Advance; a failure inside LAMMPS is a blow-up.

        Parameters
        ----------
        steps
            How far.
        setup
            Whether LAMMPS sets itself up before. It does so for each run of r-RESPA.
        room
            The step up to which fixes that keep values make room when LAMMPS is set up; None: the end of this run.
        """
        stop = "" if room is None else f" stop {room}"
        setup = setup or self.inner_steps > 1
        self._advance(f"run {steps}{stop} post no" if setup else f"run {steps} pre no post no")

    def _advance(self, *commands: str) -> None:
        """Commands that move atoms; an error inside LAMMPS is a blow-up."""
        try:
            self.command(*commands)
        except Exception as error:
            if self.outside is not None:
                self.outside.check()
            if MACHINE.search(str(error)):
                raise
            raise BlowUpError(" ".join(str(error).split())) from None
        if self.outside is not None:
            self.outside.check()

    def thermo(self, name: str) -> float:
        """A thermodynamic quantity of the last step (K, eV, bar, Å³)."""
        return float(self.lammps.get_thermo(name)) / self.factors.get(name, 1.0)

    def frame(self) -> Atoms:
        """The box as it is now, molecules whole and unwrapped, in the axes it was given in."""
        n = len(self.template)
        wrapped = np.ctypeslib.as_array(self.lammps.gather_atoms("x", 1, 3)).reshape(n, 3)
        images = np.ctypeslib.as_array(self.lammps.gather_atoms("image", 0, 3)).reshape(n, 3)
        low, box = self.lammps.extract_box()[0], cell_of(self.lammps)
        atoms: Atoms = self.template.copy()
        atoms.set_cell(box @ self.rotation.T)
        atoms.positions = (wrapped - low + images @ box) @ self.rotation.T
        return atoms

    def check_temperature(self) -> float:
        """Temperature in K; a blow-up if it is not finite or far above the target."""
        temperature = self.thermo("temp")
        if not self._sound(temperature):
            raise BlowUpError(f"temperature {temperature:.4g} K; expected less than {HOT:g} x {self.temperature:g} K")
        return temperature

    def _sound(self, temperature: float) -> bool:
        return math.isfinite(temperature) and temperature <= HOT * self.temperature

    def kept_stresses(self, name: str) -> Iterator[tuple[float, float, list[float]]]:
        """Temperature (K), potential energy (eV) and pressure tensor (bar) of each row that a fix vector kept.

        They end before a row that is no longer physics.
        """
        units, extract = self.potential.units, self.lammps.extract_fix
        for number in range(extract(name, GLOBAL, ROWS)):
            row = [extract(name, GLOBAL, ARRAY, number, column) for column in range(8)]
            if not self._sound(row[0]):
                return
            yield row[0], row[1] / units.ev, [one / units.bar for one in row[2:]]

    def rescale(self, volume: float) -> None:
        """Scale the box, and all positions with it, to a volume in Å³."""
        factor = f"{(volume / self.thermo('vol')) ** (1 / 3):.16g}"
        self.command(f"change_box all x scale {factor} y scale {factor} z scale {factor} remap")

    def write_restart(self, target: Path) -> None:
        """Write a restart file; OSError if it is not whole, which LAMMPS itself only warns of."""
        self.command(f"write_restart {os.path.relpath(target)}")
        with target.open("rb") as written:
            begin = written.read(len(RESTART_MAGIC))
            written.seek(-min(len(RESTART_MAGIC), target.stat().st_size), 2)
            if not begin == written.read() == RESTART_MAGIC:
                raise OSError(errno.ENOSPC, "LAMMPS wrote part of a restart file", str(target))

    def heat(self, seed: int) -> None:
        """Take the clashes away and heat gently.

        The minimisation stops early: at the bottom of a well a model has
        learned nothing about, molecules may be broken.
        """
        tolerance = f"{FORCE_TOLERANCE_EV_ANGSTROM * self.potential.units.ev:g}"
        self._advance("min_style cg", "min_modify dmax 0.1 norm max", f"minimize 0 {tolerance} 200 1000")
        target, friction = self.temperature, self.time(HEATING_TIME_PS)
        self.command(
            f"velocity all create {target / 2:g} {lammps_seed(seed, 1)} mom yes rot no dist gaussian",
            f"fix motion all nve/limit {NVE_LIMIT_ANGSTROM}",
            f"fix bath all langevin {target / 2:g} {target:g} {friction} {lammps_seed(seed, 2)} zero yes",
        )
        self.run(round(HEATING_PS / self.timestep_ps), setup=True)
        self.command("unfix motion", "unfix bath")


def lammps_seed(*parts: int) -> int:
    """A LAMMPS seed (1 … 900 million) from integers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0] % 900_000_000) + 1


def setup_failed(error: Exception) -> int:
    """Print why LAMMPS could not be set up; the exit status that says so."""
    print(" ".join(str(error).split()) or repr(error), flush=True)
    return SETUP_FAILED
