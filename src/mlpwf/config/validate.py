"""Section `validate`: is the final model to be trusted?"""

from __future__ import annotations

from pydantic import Field

from mlpwf.config.base import Section, Temperature


class Validate(Section):
    """Errors on the held-out set, energy conservation, stability, density and structure."""

    molecules: int = Field(32, ge=1, description="molecules in the validation box")
    temperature_kelvin: Temperature = Field(300.0, description="state of the runs, in K")
    timestep_fs: float = Field(0.5, gt=0, le=2, description="time step in fs")
    nve_ps: float = Field(5.0, gt=0, description="length of the constant-energy run, in ps")
    nvt_ps: float = Field(5.0, gt=0, description="length of the stability and structure run, in ps")
    npt_ps: float = Field(10.0, gt=0, description="length of the density run, in ps")
    pressure_bar: float = Field(1.0, description="pressure of the density run, in bar")
