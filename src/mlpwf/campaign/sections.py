"""What status and report need of resolved sections (config/*.json).

They are read without pydantic, so that status stays fast, and without the bounds of today, so that campaigns of
earlier versions stay readable. Jobs read their sections through `mlpwf.config.load_section`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from mlpwf.campaign import records
from mlpwf.campaign.paths import Campaign


class Keys(records.Record, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Some keys of a section."""


class Molecule(Keys, frozen=True, kw_only=True):
    """One species of `system.molecules`."""

    count: int
    smiles: str | None = None
    structure: str | None = None


class System(Keys, frozen=True, kw_only=True):
    """Of section `system`."""

    molecules: dict[str, Molecule] = msgspec.field(default_factory=dict)
    density_g_cm3: float | None = None


class Label(Keys, frozen=True, kw_only=True):
    """Of section `label`."""

    error_frames: int = 0


class Select(Keys, frozen=True, kw_only=True):
    """Of section `select`."""

    baselines: list[str] = msgspec.field(default_factory=list)
    arms: list[str] = msgspec.field(default_factory=list)
    """The name of `baselines` up to version 0.2."""
    target_error_mev_angstrom: float | None = None
    target_inter_error_mev_angstrom: float | None = None

    @property
    def all_baselines(self) -> list[str]:
        """The baselines, under whichever name they are given."""
        return self.baselines or self.arms

    @property
    def targets(self) -> dict[str, float]:
        """Errors asked for in eV/Å: of the net force on a molecule (``inter``) and of the rest (``intra``)."""
        atom, net = self.target_error_mev_angstrom, self.target_inter_error_mev_angstrom
        asked = {"inter": atom if net is None else net, "intra": atom}
        return {kind: value / 1e3 for kind, value in asked.items() if value is not None}


class Simulate(Keys, frozen=True, kw_only=True):
    """Of section `simulate`."""

    force_field: dict[str, str] | None = None
    """Files of a classical force field, by what they hold."""
    anyway: bool = False
    """Whether production runs with a potential that is not good."""
    temperatures_kelvin: list[float] = msgspec.field(default_factory=list)
    length_ps: float | list[float] | None = None

    @property
    def states(self) -> list[str]:
        """Names of the states asked for: `300K`."""
        return [f"{kelvin:g}K" for kelvin in self.temperatures_kelvin]

    @property
    def asked_ps(self) -> dict[str, float]:
        """Length asked for in ps, by state."""
        if self.length_ps is None:
            return {}
        lengths = self.length_ps if isinstance(self.length_ps, list) else [self.length_ps] * len(self.states)
        return dict(zip(self.states, lengths, strict=False))


class Report(Keys, frozen=True, kw_only=True):
    """Of section `report`."""

    title: str | None = None


K = TypeVar("K", bound=Keys)


@dataclass(frozen=True)
class Sections:
    """What status and report need of a campaign's sections; a section that is not there has its defaults."""

    system: System
    label: Label
    select: Select
    simulate: Simulate
    report: Report

    @property
    def classical(self) -> bool:
        """Whether a given force field moves the molecules, so that nothing is labelled or trained."""
        return bool(self.simulate.force_field)


def read_sections(campaign: Campaign, *, tolerant: bool = False) -> Sections:
    """The sections of a campaign.

    Parameters
    ----------
    campaign
        Where they lie.
    tolerant
        Take the defaults for a section that cannot be read, too.

    Raises
    ------
    DataError
        If a section is not what a run writes, and `tolerant` is not set.
    """

    def section(name: str, kind: type[K]) -> K:
        path = campaign.config(name)
        if tolerant:
            return records.read_known(path, kind) or kind()
        return records.read(path, kind) if path.is_file() else kind()

    return Sections(
        system=section("system", System),
        label=section("label", Label),
        select=section("select", Select),
        simulate=section("simulate", Simulate),
        report=section("report", Report),
    )
