"""`mlpwf config`: check a campaign and write its resolved sections."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from mlpwf.campaign.resolve import message_on_kept, write_sections
from mlpwf.config import load_campaign, load_site

log = logging.getLogger(__name__)


def config(
    system: Annotated[Path, typer.Argument(help="campaign file, as in config/systems")],
    site: Annotated[Path, typer.Option(help="site file, as in config/sites")] = Path("config/sites/local.yaml"),
    results: Annotated[Path, typer.Option(help="folder of all results")] = Path("results"),
) -> None:
    """Check a campaign and a site; write each section, defaults filled in, to RESULTS/NAME/config."""
    campaign = load_campaign(system)
    folder = write_sections(campaign, load_site(site), results)
    log.info("%s: %s is sound; resolved sections are in %s", system, campaign.name, folder)
    if message := message_on_kept(folder):
        log.info("%s", message)
