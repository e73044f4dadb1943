"""Resolved sections as files: each verb reads its own, and a rule reruns when its own changes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mlpwf.campaign import paths, records
from mlpwf.campaign.records import Settings
from mlpwf.campaign.states import production_settings, simulate_states
from mlpwf.config import Campaign, Section, Select, Site, load_section
from mlpwf.errors import ConfigError, MlpwfError
from mlpwf.files import write_json_if_changed

MODELS: dict[str, type[Section]] = {"site": Site} | {
    field.alias or name: field.annotation
    for name, field in Campaign.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
"""The class of each section, by the section's name."""
OF_A_CYCLE = ("train", "explore", "select", "validate")


def write_sections(campaign: Campaign, site: Site, results: Path | str, cycles: int = 0) -> Path:
    """Write RESULTS/NAME/config/<section>.json; a file whose content stays is not touched.

    Nor is one that says the same with a key less: it was written before the key was
    known, and its default stands for it. So a new version repeats nothing.

    RESULTS/NAME/config/simulate/STATE.json holds what the trajectory of one state depends on,
    RESULTS/NAME/config/cycle/NNN/<section>.json what one cycle goes by. A cycle whose
    successor has begun is settled: its files stay what they were when it ran.

    Parameters
    ----------
    campaign, site
        What to write.
    results
        Folder of all results.
    cycles
        Cycles to write settings for, if more than `select.maximum_cycles`.

    Raises
    ------
    ConfigError
        If `select.baselines` asks for a baseline that a settled cycle did not select for, or if the labels of a
        campaign were computed at Γ because that was the default.
    """
    folder = Path(results) / campaign.name / "config"
    sections: dict[str, Settings] = {
        **campaign.sections(),
        "site": {**site.model_dump(mode="json"), "seed": campaign.seed},
    }
    if not campaign.simulate.force_field:
        _check_kpoints(campaign, folder)
        _write_cycles(campaign, folder, sections, max(cycles, campaign.select.maximum_cycles))
    for section, values in sections.items():
        _write(folder / f"{section}.json", section, values)
    for state, temperature in simulate_states(campaign.simulate).items():
        settings = production_settings(campaign.simulate, campaign.system, temperature)
        write_json_if_changed(folder / "simulate" / f"{state}.json", {**settings, "seed": campaign.seed})
    return folder


def cycle_section(folder: Path | str, section: str, cycle: str) -> Any:
    """A section as the cycle `NNN` goes by it, from RESULTS/NAME/config."""
    return load_section(MODELS[section], Path(folder) / "cycle" / cycle / f"{section}.json")[0]


def kept_settings(folder: Path) -> dict[str, list[int]]:
    """Settled cycles whose settings differ from those in `folder` (RESULTS/NAME/config), by section."""
    kept: dict[str, list[int]] = {}
    settled = [path for path in sorted((folder / "cycle").glob("[0-9][0-9][0-9]")) if _settled(folder, path.name)]
    for section in OF_A_CYCLE if settled else ():
        values, *ran = (
            _of_a_cycle(section, _filled_in(path / f"{section}.json", section)) for path in (folder, *settled)
        )
        differing = [int(path.name) for path, one in zip(settled, ran, strict=True) if one != values]
        if differing:
            kept[section] = differing
    return kept


def message_on_kept(folder: Path) -> str:
    """What `kept_settings` found, for the user; empty: nothing."""
    kept = kept_settings(folder)
    named = "; ".join(f"{section} of {cycles_in_words(cycles)}" for section, cycles in kept.items())
    remedy = f"to begin again by the edited ones, remove {folder.parent}/cycle (labels stay in the store)"
    return f"done cycles keep the settings they ran with ({named}); {remedy}" if kept else ""


def cycles_in_words(cycles: list[int]) -> str:
    """`cycle 3`, `cycles 0 to 3` or `cycles 0, 2`, of numbers in order."""
    gapless = cycles[-1] - cycles[0] == len(cycles) - 1
    numbers = f"{cycles[0]} to {cycles[-1]}" if gapless and len(cycles) > 1 else ", ".join(map(str, cycles))
    return f"cycle{'s' if len(cycles) > 1 else ''} {numbers}"


def _write_cycles(campaign: Campaign, folder: Path, sections: dict[str, Settings], cycles: int) -> None:
    names = {f"{cycle:03d}" for cycle in range(cycles)}
    names |= {path.name for path in (folder.parent / "cycle").glob("[0-9][0-9][0-9]")}
    settled = {name for name in names if _settled(folder, name)}
    for name in names:
        for section in OF_A_CYCLE:
            path, before = folder / "cycle" / name / f"{section}.json", folder / f"{section}.json"
            if not path.is_file() and before.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(before, path)
    for name in sorted(settled):
        _check_baselines(campaign, folder, name)
    for name in names - settled:
        for section in OF_A_CYCLE:
            _write(folder / "cycle" / name / f"{section}.json", section, _of_a_cycle(section, sections[section]))


def _settled(folder: Path, cycle: str) -> bool:
    """Whether the cycle after the one named has begun, and so what this one did is not done again."""
    campaign, number = paths.Campaign(folder.parent), int(cycle)
    status = campaign.cycle(number).select.status
    begun = campaign.cycle(number + 1).path.is_dir()
    return begun and status.is_file() and records.read(status, records.Verdict).goes_on


def _check_kpoints(campaign: Campaign, folder: Path) -> None:
    """Labels at Γ, the default of version 0.1, are neither mixed with others nor paid for again unasked."""
    before = _filled_in(folder / "label.json", "label").get("kpoints")
    begun = paths.Campaign(folder.parent).cycle(0).label.summary.is_file()
    if begun and before == "gamma" != campaign.label.kpoints and "kpoints" not in campaign.label.model_fields_set:
        raise ConfigError(
            f"label.kpoints: {folder.parent} was labelled at Γ alone, the default when it began, which errs by up to "
            "150 meV/Å in small boxes; write `kpoints: auto` below `label` to label it anew (boxes that need no more "
            "than Γ keep their labels), or `kpoints: gamma` to go on as it is"
        )


def _check_baselines(campaign: Campaign, folder: Path, cycle: str) -> None:
    known = load_section(Select, paths.Campaign(folder.parent).cycle_config(cycle, "select"))[0].baseline_lines
    new = [line for line in campaign.select.baseline_lines if line not in known]
    if new:
        raise ConfigError(
            f"select.baselines asks for {', '.join(new)}, and cycle {int(cycle)} was done without; baselines begin "
            f"with the first cycle: leave them out, or remove {folder.parent}/cycle to begin again (labels stay in "
            "the store)"
        )


def _of_a_cycle(section: str, values: Settings) -> Settings:
    """What of a section a cycle depends on."""
    return {**values, "steps_final": None} if section == "train" and values else values


def _write(path: Path, section: str, values: Settings) -> None:
    if _filled_in(path, section) != values:
        write_json_if_changed(path, values)


def _filled_in(path: Path, section: str) -> Settings:
    """A resolved section, read with today's defaults; empty: none can be read."""
    try:
        found, seed = load_section(MODELS[section], path)
    except (MlpwfError, KeyError, TypeError, AttributeError):
        return {}
    return {**found.model_dump(mode="json"), "seed": seed}
