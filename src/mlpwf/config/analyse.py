"""Section `analyse`: glass dynamics of the production runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mlpwf.config.base import EachOnce, Section, Temperature

Wavevector = Annotated[float, Field(gt=0, le=100)]
Order = Annotated[int, Field(ge=1, le=20)]


class Analyse(Section):
    """Correlators, the lengths they are taken at, and what is made of them."""

    wavevectors_per_angstrom: Annotated[list[Wavevector], EachOnce] = Field(
        [1.3], min_length=1, description="moduli q of F_s(q,t) in 1/Å"
    )
    overlap_angstrom: float = Field(1.0, gt=0, le=1e3, description="displacement a of the overlap function Q(t), in Å")
    legendre_orders: Annotated[list[Order], EachOnce] = Field(
        [1, 2], description="ranks l of the rotational correlators C_l(t)"
    )
    lags: int = Field(60, ge=5, le=1000, description="maximum number of lags, spaced evenly in their logarithm")
    blocks: int = Field(
        20,
        ge=3,
        le=1000,
        description="most independent blocks for error bars; fewer where a block would be below 2.5 τ",
    )
    excess_heat_capacity_kb: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Δc_P for the three-point count, in k_B a molecule; unset: the run's own heat capacity",
    )
    glass_temperature_kelvin: Temperature | None = Field(
        None, description="T_g in K; unset: where a law reaches glass_time_s (glass_viscosity_pa_s)"
    )
    glass_time_s: float = Field(100.0, gt=0, le=1e12, description="τ at T_g in s")
    glass_viscosity_pa_s: float = Field(1e12, gt=0, le=1e17, description="η at T_g in Pa s")
    bootstrap: int = Field(100, ge=10, le=10000, description="draws for the errors of laws and extrapolations")
    memory_mb: float = Field(
        1000.0, ge=10, le=1e8, description="memory for frames in MiB; larger trajectories are streamed"
    )
