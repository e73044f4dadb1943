"""Section `select`: which explored frames are worth a label, and when to stop."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mlpwf.config.base import Section


class Select(Section):
    """Trust levels, budget and convergence."""

    force_trust_lower_ev_angstrom: float = Field(
        0.10, gt=0, description="max force deviation below which a frame is accurate, in eV/Å"
    )
    force_trust_upper_ev_angstrom: float = Field(
        0.60, gt=0, description="max force deviation above which a frame is failed, in eV/Å"
    )
    virial_trust_lower_ev: float | None = Field(
        None,
        gt=0,
        description="max virial deviation per atom above which a frame is a candidate, in eV; unset: forces alone",
    )
    virial_trust_upper_ev: float | None = Field(
        None,
        gt=0,
        description="max virial deviation per atom above which a frame is failed, in eV; unset: forces alone",
    )
    budget: int = Field(200, ge=1, le=100_000, description="labels a cycle may buy")
    maximum_cycles: int = Field(10, ge=1, le=200, description="cycles before the campaign ends unconverged")
    converged_candidate_fraction: float = Field(
        0.02, ge=0, le=1, description="candidates and failures among explored frames, at most, when converged"
    )
    converged_force_error_ev_angstrom: float = Field(
        0.08, gt=0, description="previous models' force RMSE on the new labels when converged, in eV/Å"
    )
    duplicate_distance: float = Field(1e-6, ge=0, description="frames closer than this in descriptor space are one")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for kind, low, high in (
            ("force", self.force_trust_lower_ev_angstrom, self.force_trust_upper_ev_angstrom),
            ("virial", self.virial_trust_lower_ev, self.virial_trust_upper_ev),
        ):
            if low is not None and high is not None and low >= high:
                raise ValueError(f"{kind} trust levels are {low:g} and {high:g}; expected lower < upper")
        return self
