"""Section `simulate`: production molecular dynamics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from mlpwf.config.base import MOST_MOLECULES, EachOnce, Picoseconds, Pressure, Section, Temperature, TimeStep


class ForceField(Section):
    """A classical force field in LAMMPS' own files, which are read as data and never run."""

    commands: Path = Field(description="file of LAMMPS commands: units (real or metal), styles, coefficients")
    molecules: Path = Field(
        description="LAMMPS data file (atom style full) of one molecule of each species, in the order of "
        "system.molecules: masses, types, charges, bonds, angles, coefficients"
    )


class Simulate(Section):
    """NVT runs as long as asked, in as many jobs as that takes; centres and axes at log and linear times."""

    force_field: ForceField | None = Field(
        None, description="classical force field that moves the molecules; unset: the campaign's own model"
    )
    anyway: bool = Field(
        False,
        description="run production with a potential that validate does not find good; the report says so. "
        "false: there is no production then",
    )
    molecules: int = Field(512, ge=1, le=MOST_MOLECULES, description="molecules in the production box")
    temperatures_kelvin: Annotated[list[Temperature], EachOnce] = Field(
        [380.0, 340.0, 300.0, 270.0, 240.0], min_length=1, description="temperatures in K"
    )
    timestep_fs: TimeStep = Field(0.5, description="time step in fs")
    equilibration_ps: float = Field(50.0, ge=0, le=1e9, description="run before anything is kept, in ps")
    pressure_bar: Pressure | None = Field(
        None,
        description="pressure in bar during three quarters of the equilibration, whose mean volume the run then keeps; "
        "unset: the volume of system.density_g_cm3",
    )
    length_ps: Picoseconds | list[Picoseconds] = Field(
        1000.0,
        description="length of each run, in ps: one number, or one for each temperature; raise it to go on with a run",
    )
    linear_interval_ps: Picoseconds = Field(
        1.0, description="time between linear frames, in ps; log-spaced frames fill each interval"
    )
    stress_interval_fs: float = Field(5.0, gt=0, le=1e9, description="time between kept pressure tensors, in fs")
    thermostat_time_ps: Picoseconds = Field(0.5, description="relaxation time of the thermostat, in ps")
    checkpoint_min: float = Field(
        10.0, gt=0, le=1e5, description="wall time between checkpoints, in minutes: the most a killed job loses"
    )

    @property
    def interval_steps(self) -> int:
        """Steps from one linear frame to the next."""
        return round(self.linear_interval_ps * 1e3 / self.timestep_fs)

    @property
    def stress_steps(self) -> int:
        """Steps from one kept pressure tensor to the next."""
        return round(self.stress_interval_fs / self.timestep_fs)

    @property
    def lengths_ps(self) -> list[float]:
        """The length of the run at each temperature."""
        if isinstance(self.length_ps, list):
            return self.length_ps
        return [self.length_ps] * len(self.temperatures_kelvin)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        step = f"the time step, {self.timestep_fs:g} fs"
        _multiple("linear_interval_ps", self.linear_interval_ps, self.timestep_fs * 1e-3, step)
        _multiple("stress_interval_fs", self.stress_interval_fs, self.timestep_fs, step)
        interval = f"stress_interval_fs, {self.stress_interval_fs:g} fs"
        _multiple("linear_interval_ps", self.linear_interval_ps, self.stress_interval_fs * 1e-3, interval)
        for length in self.lengths_ps:
            interval = f"linear_interval_ps, {self.linear_interval_ps:g} ps"
            _multiple("length_ps", length, self.linear_interval_ps, interval)
        least = 8e-3 * self.stress_interval_fs
        if self.pressure_bar is not None and self.equilibration_ps < least:
            raise ValueError(
                f"equilibration_ps is {self.equilibration_ps:g}; expected at least {least:g}, in which pressure_bar "
                "finds the volume"
            )
        if len(self.lengths_ps) != len(self.temperatures_kelvin):
            raise ValueError(
                f"length_ps has {len(self.lengths_ps)} numbers for {len(self.temperatures_kelvin)} temperatures; "
                "expected one number, or one for each"
            )
        return self


def _multiple(name: str, value: float, unit: float, of: str) -> None:
    """ValueError unless `value` is a whole number of `unit`."""
    count = value / unit
    if abs(count - round(count)) > 1e-6 * max(1.0, count) or round(count) < 1:
        raise ValueError(f"{name} is {value:g}; expected a multiple of {of}")
