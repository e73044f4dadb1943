"""Section `simulate`: production molecular dynamics."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

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

    @property
    def interval_steps(self) -> int:
        """Steps from one linear frame to the next."""
        return round(self.linear_interval_ps * 1e3 / self.timestep_fs)

    @property
    def segment_steps(self) -> int:
        """Steps of a segment: a whole number of linear intervals."""
        return self.interval_steps * round(self.segment_ps / self.linear_interval_ps)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        steps = self.linear_interval_ps * 1e3 / self.timestep_fs
        if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
            raise ValueError(
                f"linear_interval_ps is {self.linear_interval_ps:g}; "
                f"expected a multiple of the time step, {self.timestep_fs:g} fs"
            )
        intervals = self.segment_ps / self.linear_interval_ps
        if abs(intervals - round(intervals)) > 1e-6 or round(intervals) < 1:
            raise ValueError(
                f"segment_ps is {self.segment_ps:g}; "
                f"expected a multiple of linear_interval_ps, {self.linear_interval_ps:g} ps"
            )
        return self
