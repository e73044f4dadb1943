"""Resolved sections as files: each verb reads its own, and a rule reruns when its own changes."""

from __future__ import annotations

from pathlib import Path

from mlpwf.config import Campaign, Site
from mlpwf.files import write_json_if_changed


def write_sections(campaign: Campaign, site: Site, results: Path | str) -> Path:
    """Write RESULTS/NAME/config/<section>.json; a file whose content stays is not touched."""
    folder = Path(results) / campaign.name / "config"
    sections = {**campaign.sections(), "site": {**site.model_dump(mode="json"), "seed": campaign.seed}}
    for section, values in sections.items():
        write_json_if_changed(folder / f"{section}.json", values)
    return folder
