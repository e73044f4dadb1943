"""`mlpwf label pseudopotentials`: is the set sound, before a job is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlpwf.config import Label, Site, load_section
from mlpwf.errors import ConfigError
from mlpwf.tables import table

if TYPE_CHECKING:
    from mlpwf.calculators.espresso.pseudopotentials import Check

HEADER = ("element", "file", "type", "valence", "functional", "relativity", "suggested Ry", "MD5", "verdict")


def label_pseudopotentials(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    elements: Annotated[str, typer.Option(help="elements to check, as in H,C,O; unset: all of the section")] = "",
) -> None:
    """Check each element's pseudopotential file against the settings, before any job is sent."""
    from mlpwf.calculators.espresso.pseudopotentials import Level, check

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    if settings.engine != "qe":
        raise ConfigError(f"label.engine is {settings.engine}, which has no pseudopotentials; expected qe")
    wanted = re.findall(r"\w+", elements) or sorted(settings.pseudopotentials)
    checks = [check(element, settings, Path(place.pseudopotential_folder)) for element in wanted]
    typer.echo("\n".join(table([HEADER, *(_row(one) for one in checks)])))
    for one in checks:
        for level, text in one.findings:
            typer.echo(f"{one.element}, {level.name.lower()}: {text}")
    unusable = [one for one in checks if one.level is Level.ERROR]
    if unusable:
        worst = unusable[0]
        raise ConfigError(
            f"label.pseudopotentials: {len(unusable)} of {len(checks)} cannot be used; "
            f"{worst.element}: {worst.findings[0][1]}. Name another file, or fetch it again"
        )


def _row(check: Check) -> tuple[str, ...]:
    verdict = check.level.name.lower()
    found = check.found
    if found is None:
        return (check.element, check.file, "-", "-", "-", "-", "-", "-", verdict)
    suggested = [f"{value:.0f}" for value in (found.cutoff_ry, found.density_cutoff_ry) if value is not None]
    relativity = f"{found.relativity}{', spin-orbit' if found.spin_orbit else ''}"
    facts = (found.kind, f"{found.valence:g}", found.functional, relativity, "/".join(suggested) or "-")
    return (check.element, check.file, *facts, check.md5 or "-", verdict)
