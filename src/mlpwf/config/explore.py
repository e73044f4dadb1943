"""Section `explore`: molecular dynamics in search of what the committee does not know."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlpwf.config.base import Density, Section, Temperature


class Explore(Section):
    """LAMMPS walkers over thermodynamic states, cut at the first blow-up."""

    ensemble: Literal["nvt", "npt"] = Field("nvt", description="ensemble of the walkers")
    temperatures_kelvin: list[Temperature] = Field([250.0, 300.0, 400.0], min_length=1, description="temperatures in K")
    densities_g_cm3: list[Density] = Field([], description="densities in g/cm³ (nvt); empty: system.density_g_cm3")
    pressures_bar: list[float] = Field([1.0], min_length=1, description="pressures in bar (npt)")
    walkers: int = Field(4, ge=1, le=1000, description="walkers at each state")
    steps: int = Field(20_000, ge=10, description="steps of one walker")
    timestep_fs: float = Field(0.5, gt=0, le=2, description="time step in fs")
    steps_between_frames: int = Field(50, ge=1, description="steps from one kept frame to the next")
    blow_up_ev_angstrom: float = Field(5.0, gt=0, description="force deviation at which a walker is cut, in eV/Å")
