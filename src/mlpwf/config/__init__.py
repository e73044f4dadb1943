"""One pydantic model per section; a user's file holds only what differs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from mlpwf.config.analyse import Analyse
from mlpwf.config.base import Section
from mlpwf.config.build import Build
from mlpwf.config.explore import Explore
from mlpwf.config.label import Label
from mlpwf.config.reading import read_yaml
from mlpwf.config.report import Report
from mlpwf.config.select import Select
from mlpwf.config.simulate import ForceField, Simulate
from mlpwf.config.site import Site
from mlpwf.config.system import Molecule, System
from mlpwf.config.train import PRETRAINED, Train
from mlpwf.config.validate import Validate
from mlpwf.errors import ConfigError

__all__ = [
    "Analyse", "Build", "Campaign", "Explore", "ForceField", "Label", "Molecule", "Report", "Section", "Select",
    "Simulate", "Site", "System", "Train", "Validate", "load_campaign", "load_section", "load_site", "load_yaml",
    "one_line", "parse", "read_yaml",
]  # fmt: skip

S = TypeVar("S", bound=Section)
log = logging.getLogger(__name__)


class Campaign(Section):
    """A whole campaign: the content of one file in config/systems."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="name of the campaign and of its results folder"
    )
    seed: int = Field(1, ge=0, lt=2**31, description="seed of every random choice")
    system: System
    build: Build = Build()
    label: Label = Label()
    train: Train = Train()
    explore: Explore = Explore()
    select: Select = Select()
    validate_: Validate = Field(Validate(), alias="validate")
    simulate: Simulate = Simulate()
    analyse: Analyse = Analyse()
    report: Report = Report()

    def sections(self) -> dict[str, dict[str, Any]]:
        """Each section with all defaults filled in, as plain JSON types; every one carries the seed."""
        whole = self.model_dump(mode="json", by_alias=True)
        seed = {"seed": whole.pop("seed")}
        name = whole.pop("name")
        whole["report"]["title"] = whole["report"]["title"] or name
        return {section: {**values, **seed} for section, values in whole.items()}


def one_line(error: ValidationError) -> str:
    """The first problem of a pydantic error: key, value found, what is expected."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if problem["type"] == "missing":
        return f"{key}: missing; expected a value"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = "" if isinstance(value, dict) else f" is {_short(repr(value))};"
    quotes = "; put it in quotes" if problem["type"] == "string_type" else ""
    return f"{key}:{shown} {message[0].lower() + message[1:]}{quotes}"


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:40]}… ({len(text)} signs)"


def _suggestion(error: ValidationError, model: type[Section]) -> str:
    """For an unknown key, the known key that comes closest."""
    import difflib

    problem = error.errors(include_url=False)[0]
    if problem["type"] != "extra_forbidden":
        return ""
    known: set[str] = set()
    current: Any = model
    for part in problem["loc"][:-1]:
        fields = getattr(current, "model_fields", {})
        field = fields.get(str(part)) or next((f for f in fields.values() if f.alias == part), None)
        current = getattr(field, "annotation", None)
    for name, field in getattr(current, "model_fields", {}).items():
        known.add(field.alias or name)
    close = difflib.get_close_matches(str(problem["loc"][-1]), sorted(known), n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; expected one of {', '.join(sorted(known))}" if known else ""


def parse(model: type[S], values: Any, source: Path | str, *, written_by_hand: bool = True) -> S:
    """Check values of a file, or of wherever `source` says, against a model (ConfigError as for `load_campaign`).

    A key under the name it had in the version before is read, with a warning where a user wrote it.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: found {type(values).__name__}; expected a mapping of keys to values")
    renamed: list[str] = []
    try:
        checked = model.model_validate(values, context=renamed)
    except ValidationError as error:
        raise ConfigError(f"{source}: {one_line(error)}{_suggestion(error, model)}") from None
    if renamed and written_by_hand:
        log.warning("%s: %s; change it: the old name will be unknown in version 0.4", source, ", ".join(renamed))
    return checked


def load_campaign(source: Path | str) -> Campaign:
    """Read and check a campaign file.

    Files named in it are taken relative to the file itself.

    Raises
    ------
    ConfigError
        With the key, the value found and what is expected.
    """
    campaign = parse(Campaign, read_yaml(source), source)
    molecules = {}
    for name, molecule in campaign.system.molecules.items():
        if molecule.structure is not None:
            path = _beside(source, molecule.structure, f"system.molecules.{name}.structure")
            molecule = molecule.model_copy(update={"structure": path})
        molecules[name] = molecule
    simulate = campaign.simulate
    if simulate.force_field is not None:
        files = {key: _beside(source, path, f"simulate.force_field.{key}") for key, path in simulate.force_field}
        simulate = simulate.model_copy(update={"force_field": ForceField(**files)})
    system = campaign.system.model_copy(update={"molecules": molecules})
    given = {key: path for key in PRETRAINED if (path := getattr(campaign.train, key)) is not None}
    found = {key: _beside(source, path, f"train.{key}") for key, path in given.items()}
    train = campaign.train.model_copy(update=found)
    return campaign.model_copy(update={"system": system, "train": train, "simulate": simulate})


def _beside(source: Path | str, path: Path, key: str) -> Path:
    """A file named in another, relative to it; ConfigError if it is not there."""
    found = (Path(source).parent / path).resolve()
    if not found.is_file():
        raise ConfigError(f"{source}: {key}: no such file {found}")
    return found


def load_yaml(model: type[S], source: Path | str) -> S:
    """Read and check a YAML file of one model (ConfigError as for `load_campaign`)."""
    return parse(model, read_yaml(source), source)


def load_site(source: Path | str) -> Site:
    """Read and check a site file (ConfigError as for `load_campaign`)."""
    values = read_yaml(source)
    return parse(Site, {} if values is None else values, source)


def load_section(model: type[S], source: Path | str) -> tuple[S, int]:
    """Read a section and its seed: a resolved one, as the workflow writes it, or that of a campaign's YAML file.

    Raises
    ------
    ConfigError
        If it is none, with the key, the value found and what is expected.
    DataError
        If the file is missing or is not JSON.
    """
    from mlpwf.files import read_json

    if Path(source).suffix in (".yaml", ".yml"):
        return _of_campaign(model, source)
    values = read_json(source)
    if not isinstance(values, dict) or "seed" not in values:
        raise ConfigError(f"{source}: no resolved section; expected results/NAME/config/*.json, or a campaign's YAML")
    seed = values.pop("seed")
    return parse(model, values, source, written_by_hand=False), seed


def _of_campaign(model: type[S], source: Path | str) -> tuple[S, int]:
    """A section of a campaign's YAML file, or a site, which a YAML file of its own holds."""
    if issubclass(model, Site):
        return load_yaml(model, source), Campaign.model_fields["seed"].default
    campaign = load_campaign(source)
    name = next(field.alias or key for key, field in Campaign.model_fields.items() if field.annotation is model)
    values = campaign.sections()[name]
    return parse(model, {key: value for key, value in values.items() if key != "seed"}, source), campaign.seed
