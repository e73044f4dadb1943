"""Section `select`: which explored frames are worth a label, and when to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from mlpwf.config.base import Section


class Select(Section):
    """Trust levels, budget and convergence."""

    earlier: ClassVar[Mapping[str, str]] = {"arms": "baselines", "arm_seeds": "baseline_seeds"}

    target_error_mev_angstrom: float = Field(
        80,
        gt=0,
        le=1e6,
        description="force error asked for, root mean square of a component, in meV/Å; trust levels follow",
    )
    target_inter_error_mev_angstrom: float | None = Field(
        None, gt=0, le=1e6, description="the same for the net force on a molecule, in meV/Å; unset: as for atoms"
    )
    failed_error_factor: float = Field(
        10,
        gt=1,
        le=1e6,
        description="times the target error above which a frame is failed: labelled only if nothing else is",
    )
    force_trust_lower_ev_angstrom: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="max force deviation below which a frame is accurate, in eV/Å; unset: by the target",
    )
    force_trust_upper_ev_angstrom: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="max force deviation above which a frame is failed, in eV/Å; unset: by the target",
    )
    virial_trust_lower_ev: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="max virial deviation per atom above which a frame is a candidate, in eV; unset: forces alone",
    )
    virial_trust_upper_ev: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="max virial deviation per atom above which a frame is failed, in eV; unset: forces alone",
    )
    contact_margin_angstrom: float | None = Field(
        0.15,
        ge=0,
        le=10,
        description="reject a frame whose molecules approach closer than in any label by more than this, in Å; later "
        "frames of its walker are judged by themselves; null disables the check",
    )
    budget: int = Field(200, ge=1, le=100_000, description="labels a cycle may buy")
    maximum_cycles: int = Field(10, ge=1, le=200, description="cycles before the campaign ends unconverged")
    converged_candidate_fraction: float = Field(
        0.02, ge=0, le=1, description="candidates and failures among explored frames, at most, when converged"
    )
    converged_force_error_ev_angstrom: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="previous models' force RMSE on the new labels when converged, in eV/Å; unset: target",
    )
    liquid_cycles: int = Field(
        2,
        ge=0,
        le=10,
        description="last cycles whose models must give the same density, g(r) and diffusion within errors in the runs "
        "of section `validate` when converged; 0: not asked",
    )
    baselines: list[Literal["random", "diversity"]] = Field(
        [],
        description="other selections from the same frames with the same budget, each labelled and trained beside the "
        "committee's, for a learning curve to compare with",
    )
    baseline_seeds: int = Field(
        1, ge=1, le=100, description="runs of each baseline, each with a seed of its own: they give its error bars"
    )
    duplicate_distance: float = Field(
        1e-6, ge=0, le=1e6, description="frames closer than this in descriptor space are one"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.liquid_cycles == 1:
            raise ValueError("liquid_cycles is 1; expected at least 2 to compare, or 0 for no comparison")
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines are {', '.join(self.baselines)}; expected each once")
        if (self.force_trust_lower_ev_angstrom is None) != (self.force_trust_upper_ev_angstrom is None):
            raise ValueError("one force trust level is given; expected both, or none so that they follow the target")
        for kind, low, high in (
            ("force", self.force_trust_lower_ev_angstrom, self.force_trust_upper_ev_angstrom),
            ("virial", self.virial_trust_lower_ev, self.virial_trust_upper_ev),
        ):
            if low is not None and high is not None and low >= high:
                raise ValueError(f"{kind} trust levels are {low:g} and {high:g}; expected lower < upper")
        return self

    @property
    def baseline_lines(self) -> list[str]:
        """Every run of every baseline, by its folder, such as ``arm/random/1``."""
        return [f"arm/{name}/{seed}" for name in self.baselines for seed in range(1, self.baseline_seeds + 1)]

    @property
    def force_trust(self) -> tuple[float, float] | None:
        """The user's own trust levels in eV/Å; None: they follow the target error."""
        if self.force_trust_lower_ev_angstrom is None or self.force_trust_upper_ev_angstrom is None:
            return None
        return self.force_trust_lower_ev_angstrom, self.force_trust_upper_ev_angstrom

    def no_better_than(self, errors: Mapping[str, float]) -> Self:
        """The same with targets raised to the errors of the labels, in eV/Å by kind as in `targets`."""
        asked = self.targets
        inter, intra = (1e3 * max(asked[kind], errors.get(kind, 0.0)) for kind in ("inter", "intra"))
        return self.model_copy(update={"target_error_mev_angstrom": intra, "target_inter_error_mev_angstrom": inter})

    @property
    def targets(self) -> dict[str, float]:
        """Errors asked for in eV/Å: of the net force on a molecule (``inter``) and of the rest (``intra``)."""
        atom = self.target_error_mev_angstrom / 1e3
        net = self.target_inter_error_mev_angstrom
        return {"inter": atom if net is None else net / 1e3, "intra": atom}
