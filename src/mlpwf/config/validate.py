"""Section `validate`: is the final model to be trusted?"""

from __future__ import annotations

from pydantic import Field

from mlpwf.config.base import MOST_MOLECULES, Picoseconds, Pressure, Section, Temperature, TimeStep


class Validate(Section):
    """Errors on the held-out set, energy conservation, stability, density and structure."""

    molecules: int = Field(32, ge=1, le=MOST_MOLECULES, description="molecules in the validation box")
    temperature_kelvin: Temperature = Field(300.0, description="state of the runs, in K")
    timestep_fs: TimeStep = Field(0.5, description="time step in fs")
    nve_ps: Picoseconds = Field(5.0, description="length of the constant-energy run, in ps")
    nvt_ps: Picoseconds = Field(5.0, description="length of the stability and structure run, in ps")
    npt_ps: Picoseconds = Field(10.0, description="length of the density run, in ps")
    pressure_bar: Pressure = Field(1.0, description="pressure of the density run, in bar")
