"""`mlpwf label pseudopotentials`: is the set sound, before a job is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mlpwf.config import Label, Site, load_section
from mlpwf.label.commands.reporting import written


def label_pseudopotentials(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    elements: Annotated[str, typer.Option(help="elements to check, as in H,C,O; unset: all of the section")] = "",
) -> None:
    """Check each element's pseudopotential file against the settings, before any job is sent."""
    from mlpwf.calculators.registry import calculator

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    written(calculator(settings, place).check_pseudopotentials(re.findall(r"\w+", elements)))
