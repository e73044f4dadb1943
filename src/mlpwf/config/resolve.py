"""Resolved sections as files: each verb reads its own, and a rule reruns when its own changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlpwf.config import Campaign, Site, load_section
from mlpwf.errors import MlpwfError
from mlpwf.files import write_json_if_changed
from mlpwf.states import production_settings, simulate_states


def write_sections(campaign: Campaign, site: Site, results: Path | str) -> Path:
    """Write RESULTS/NAME/config/<section>.json; a file whose content stays is not touched.

    Nor is one that says the same with a key less: it was written before the key was
    known, and its default stands for it. So a new version repeats nothing.

    RESULTS/NAME/config/simulate/STATE.json holds what the trajectory of one state depends on.
    """
    folder = Path(results) / campaign.name / "config"
    sections = {**campaign.sections(), "site": {**site.model_dump(mode="json"), "seed": campaign.seed}}
    models = {**{field.alias or name: field.annotation for name, field in Campaign.model_fields.items()}, "site": Site}
    for section, values in sections.items():
        path = folder / f"{section}.json"
        if not _says(path, models[section], values):
            write_json_if_changed(path, values)
    for state, temperature in simulate_states(campaign.simulate).items():
        settings = production_settings(campaign.simulate, campaign.system, temperature)
        write_json_if_changed(folder / "simulate" / f"{state}.json", {**settings, "seed": campaign.seed})
    return folder


def _says(path: Path, model: Any, values: dict[str, Any]) -> bool:
    """Whether a resolved section, read with today's defaults, is `values`."""
    try:
        section, seed = load_section(model, path)
    except (MlpwfError, KeyError, TypeError, AttributeError):
        return False
    return {**section.model_dump(mode="json"), "seed": seed} == values
