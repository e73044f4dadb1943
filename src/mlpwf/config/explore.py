"""Section `explore`: molecular dynamics in search of what the committee does not know."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlpwf.config.base import MOST_STEPS, Density, EachOnce, Pressure, Section, Temperature, TimeStep


class Explore(Section):
    """LAMMPS walkers over thermodynamic states, cut at the first blow-up."""

    ensemble: Literal["nvt", "npt"] = Field("nvt", description="ensemble of the walkers")
    temperatures_kelvin: Annotated[list[Temperature], EachOnce] = Field(
        [250.0, 300.0, 400.0], min_length=1, description="temperatures in K"
    )
    densities_g_cm3: Annotated[list[Density], EachOnce] = Field(
        [], description="densities in g/cm³ (nvt); empty: system.density_g_cm3"
    )
    pressures_bar: Annotated[list[Pressure], EachOnce] = Field(
        [1.0], min_length=1, description="pressures in bar (npt)"
    )
    walkers: int = Field(4, ge=1, le=1000, description="walkers at each state")
    steps: int = Field(20_000, ge=10, le=MOST_STEPS, description="steps of one walker")
    timestep_fs: TimeStep = Field(0.5, description="time step in fs")
    steps_between_frames: int = Field(50, ge=1, le=MOST_STEPS, description="steps from one kept frame to the next")
    blow_up_ev_angstrom: float = Field(
        5.0, gt=0, le=1e6, description="force deviation at which a walker is cut, in eV/Å"
    )
