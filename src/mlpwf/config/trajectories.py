"""The file of `mlpwf analyse --states`: trajectories of any origin, one state a temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlpwf.config.analyse import Analyse
from mlpwf.config.base import Section, Temperature

Ensemble = Literal["nve", "nvt", "npt"]


class TrajectoryState(Section):
    """One temperature."""

    temperature_kelvin: Temperature = Field(description="temperature in K")
    ensemble: Ensemble = Field(description="ensemble of the run; only npt lets the box vary")
    topology: Path = Field(description="file that says which atoms there are, relative to this file")
    trajectories: list[Path | Annotated[list[Path], Field(min_length=1)]] = Field(
        min_length=1, description="independent runs; a run in several files is a list of them in order"
    )
    name: str | None = Field(None, description="name of the state; unset: its temperature")
    energy: list[Path] = Field(
        [],
        description="CSV of each run with time_ps and total_ev, the total energy of the box (npt: enthalpy)",
    )
    stress: list[Path] = Field(
        [], description="CSV of each run with the columns time_ps, xx, yy, zz, xy, xz, yz: the pressure tensor in bar"
    )
    heat_capacity_kb: float | None = Field(None, gt=0, description="heat capacity in k_B a molecule, c_V or (npt) c_P")

    @model_validator(mode="after")
    def _each_run(self) -> Self:
        for name in ("energy", "stress"):
            files = getattr(self, name)
            if files and len(files) != len(self.trajectories):
                raise ValueError(
                    f"{name} has {len(files)} files; expected one for each of {len(self.trajectories)} runs"
                )
        return self


class Trajectories(Section):
    """Trajectories to analyse, and how their atoms make molecules."""

    states: list[TrajectoryState] = Field(min_length=1, description="one entry a temperature")
    molecules: str = Field("residue", description="residue, molecule, bonds, atoms, or 'every N'")
    select: str = Field("all", description="atoms to keep, in MDAnalysis' selection language")
    axes: list[tuple[str, str]] = Field(
        [], description="pairs of atom names, or of numbers in the molecule from 1, whose direction is an axis"
    )
    masses: dict[str, Annotated[float, Field(ge=0)]] | Literal["equal"] | None = Field(
        None, description="in amu by atom type or name, or 'equal'; unset: those of the topology or its elements"
    )
    timestep_fs: float | None = Field(None, gt=0, description="time step, for formats that hold step numbers only")
    interval_ps: float | None = Field(
        None, gt=0, description="time between frames, where a file holds no times; goes before what a file says"
    )
    lammps_units: Literal["real", "metal", "lj"] | None = Field(
        None, description="units of LAMMPS' dump and DCD files, where neither they nor the data file say them"
    )
    skip_frames: int = Field(0, ge=0, description="frames of each run to leave out at its start")
    units: Literal["real", "reduced"] = Field(
        "real",
        description="reduced: k_B = 1 and all numbers in the units of the runs (read ε/k_B for K, σ for Å, τ for ps)",
    )
    seed: int = Field(1, ge=0, lt=2**31, description="seed of the bootstrap")
    analyse: Analyse = Field(Analyse(), description="correlators and fits, as in a campaign")
