"""Thermodynamic states of a campaign and their names, which are also names of folders."""

from __future__ import annotations

from dataclasses import dataclass

from mlpwf.campaign.records import Settings
from mlpwf.config import Explore, Simulate, System


@dataclass(frozen=True)
class ExploreState:
    """A state the committee is explored at: a density (nvt) or a pressure (npt)."""

    temperature_kelvin: float
    density_g_cm3: float | None = None
    pressure_bar: float | None = None


def states(explore: Explore, density: float) -> dict[str, ExploreState]:
    """All states to explore, by name: `300K_0.867` (nvt) or `300K_1bar` (npt).

    Parameters
    ----------
    explore
        The section `explore`.
    density
        `system.density_g_cm3`, in g/cm³, taken where the section names no density.
    """
    named = {}
    for temperature in explore.temperatures_kelvin:
        if explore.ensemble == "nvt":
            for value in explore.densities_g_cm3 or [density]:
                named[f"{temperature:g}K_{value:g}"] = ExploreState(temperature, density_g_cm3=value)
        else:
            for value in explore.pressures_bar:
                named[f"{temperature:g}K_{value:g}bar"] = ExploreState(temperature, pressure_bar=value)
    return named


def simulate_states(simulate: Simulate) -> dict[str, float]:
    """Production temperatures in K, by the name of their state: `300K`."""
    return {f"{temperature:g}K": temperature for temperature in simulate.temperatures_kelvin}


def simulate_lengths(simulate: Simulate) -> dict[str, float]:
    """Length of the production run in ps, by the name of its state."""
    return dict(zip(simulate_states(simulate), simulate.lengths_ps, strict=True))


def production_settings(simulate: Simulate, system: System, temperature: float) -> Settings:
    """All of a campaign's settings that a production trajectory depends on, as plain JSON types.

    Its length is not among them, nor are the other states: a run may be
    prolonged, and a state added, while what is done stays what it is. A force field counts by its content, elsewhere.
    """
    left_out = {"anyway", "temperatures_kelvin", "length_ps", "checkpoint_min", "force_field"}
    kept = simulate.model_dump(mode="json", exclude=left_out, exclude_none=True)
    return {
        "temperature_kelvin": temperature,
        **kept,
        "density_g_cm3": system.density_g_cm3,
        "counts": {name: molecule.count for name, molecule in system.molecules.items()},
    }
