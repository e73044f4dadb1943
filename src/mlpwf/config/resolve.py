"""Resolved sections as files: each verb reads its own, and a rule reruns when its own changes."""

from __future__ import annotations

from pathlib import Path

from mlpwf.config import Campaign, Site
from mlpwf.files import write_json_if_changed
from mlpwf.states import production_settings, simulate_states


def write_sections(campaign: Campaign, site: Site, results: Path | str) -> Path:
    """Write RESULTS/NAME/config/<section>.json; a file whose content stays is not touched.

    RESULTS/NAME/config/simulate/STATE.json holds what the trajectory of one state depends on.
    """
    folder = Path(results) / campaign.name / "config"
    sections = {**campaign.sections(), "site": {**site.model_dump(mode="json"), "seed": campaign.seed}}
    for section, values in sections.items():
        write_json_if_changed(folder / f"{section}.json", values)
    for state, temperature in simulate_states(campaign.simulate).items():
        settings = production_settings(campaign.simulate, campaign.system, temperature)
        write_json_if_changed(folder / "simulate" / f"{state}.json", {**settings, "seed": campaign.seed})
    return folder
