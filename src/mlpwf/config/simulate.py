"""Section `simulate`: production molecular dynamics."""

from __future__ import annotations

from pydantic import Field

from mlpwf.config.base import Section, Temperature


class Simulate(Section):
    """NVT runs in restartable segments; centres of mass and axes at log and linear times."""

    molecules: int = Field(512, ge=1, description="molecules in the production box")
    temperatures_kelvin: list[Temperature] = Field(
        [380.0, 340.0, 300.0, 270.0, 240.0], min_length=1, description="temperatures in K"
    )
    timestep_fs: float = Field(0.5, gt=0, le=2, description="time step in fs")
    equilibration_ps: float = Field(50.0, ge=0, description="run before anything is kept, in ps")
    segments: int = Field(10, ge=1, le=999, description="segments of each run")
    segment_ps: float = Field(100.0, gt=0, description="length of one segment, in ps")
    linear_interval_ps: float = Field(
        1.0, gt=0, description="time between linear frames, in ps; log-spaced frames fill each interval"
    )
    thermostat_time_ps: float = Field(0.5, gt=0, description="relaxation time of the thermostat, in ps")
