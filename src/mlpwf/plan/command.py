"""`mlpwf plan`: what the next cycle and the whole campaign will cost, before anything is submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlpwf.config import load_campaign, load_site


def plan(
    system: Annotated[Path, typer.Argument(help="campaign file, as in config/systems")],
    site: Annotated[Path, typer.Option(help="site file, as in config/sites")] = Path("config/sites/local.yaml"),
    results: Annotated[Path, typer.Option(help="folder of all results")] = Path("results"),
) -> None:
    """Price the next cycle and the whole campaign, from what it has cost so far or else from rates measured elsewhere.

    CPU-hours with their standard error; a campaign that converges early costs less.
    """
    from mlpwf.plan.prices import Plan

    campaign, place = load_campaign(system), load_site(site)
    for line in Plan(campaign, place, results / campaign.name).lines():
        typer.echo(line)
