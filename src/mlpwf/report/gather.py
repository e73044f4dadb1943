"""Read what a campaign has written, whole or in part, into frozen records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpwf.campaign import paths
from mlpwf.campaign.paths import Campaign, named, numbered
from mlpwf.campaign.resolve import cycles_in_words
from mlpwf.dynamics import registry
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import read_json
from mlpwf.tables import read_columns

if TYPE_CHECKING:
    from mlpwf.tables import Columns

if TYPE_CHECKING:
    from mlpwf.tables import Columns

SECTIONS = (
    "system", "build", "label", "train", "explore", "select", "validate", "simulate", "analyse", "report", "site",
)  # fmt: skip
OF_A_MODEL = ("cycle/", "label/", "test/", "train/", "validate/")
"""Folders a campaign with a given force field has not."""
PARITY = ("quantity", "label")


@dataclass(frozen=True)
class Labels:
    """Outcome of labelling one set: a cycle or the test set."""

    name: str
    engine: str | None
    engine_version: str | None
    physics: Mapping[str, Any]
    requested: int
    accepted: int
    reused: int
    rejected: Mapping[str, int]
    rejected_frames: Sequence[Mapping[str, Any]]
    cpu_s: float
    label_cpu_s_mean: float | None


@dataclass(frozen=True)
class Model:
    """One model of a committee: its check after conversion and its learning curve."""

    name: str
    check: Mapping[str, Any] | None
    curve: Columns | None


@dataclass(frozen=True)
class Walkers:
    """Exploration of one state: how its walkers ended."""

    state: str
    outcomes: Mapping[str, int]
    steps: int


@dataclass(frozen=True)
class Cycle:
    """One round of label, train, explore and select; absent parts are None or empty."""

    number: int
    labels: Labels | None
    errors: Mapping[str, Any] | None
    models: Sequence[Model]
    walkers: Sequence[Walkers]
    decisions: Columns | None
    status: Mapping[str, Any] | None
    parity: Columns | None
    calibration: Mapping[str, Any] | None = None
    liquid: Mapping[str, Any] | None = None
    """Samples of density, g(r) and diffusion by the cycle's model, where cycles are compared."""


@dataclass(frozen=True)
class Segment:
    """One finished segment of a production run."""

    state: str
    number: int
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Validation:
    """Checks of the final model."""

    errors: Mapping[str, Any] | None
    parity: Columns | None
    runs: Mapping[str, Any] | None
    nve: Columns | None
    rdf: Columns | None


@dataclass(frozen=True)
class Analysis:
    """Glass dynamics of the production runs: the tables by name, those there are."""

    tables: Mapping[str, Columns]
    summary: Mapping[str, Any] | None


@dataclass(frozen=True)
class Record:
    """All a campaign has written so far.

    `missing` holds the files a finished campaign has and this one has not,
    relative to its folder.
    """

    folder: Path
    sections: Mapping[str, Mapping[str, Any]]
    kept: Mapping[str, Mapping[str, Any]]
    """Sections as done cycles went by them, where they have been edited since: `train of cycles 0 to 2`."""
    cycles: Sequence[Cycle]
    test: Labels | None
    label_error: Mapping[str, Any] | None
    """What `mlpwf label error` found; None where it is not measured."""
    final: Mapping[str, Any] | None
    validation: Validation
    segments: Sequence[Segment]
    analysis: Analysis
    costs: Sequence[Mapping[str, Any]]
    snakemake: Sequence[Mapping[str, Any]] = ()
    arms: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    """Errors of each seed of each baseline of `select.baselines`, cycle by cycle after the first, which all share."""
    missing: Sequence[str] = field(default=())

    @property
    def classical(self) -> bool:
        """Whether a given force field moves the molecules, and nothing is labelled or trained."""
        return bool(self.sections.get("simulate", {}).get("force_field"))

    @property
    def name(self) -> str:
        """Title of the report section, or else the name of the folder."""
        return str(self.sections.get("report", {}).get("title") or self.folder.resolve().name)


class _Reader:
    """Reads files of one campaign and keeps a list of those that are not there."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.missing: list[str] = []

    def json(self, path: Path) -> dict[str, Any] | None:
        if not self._present(path):
            return None
        document = read_json(path)
        if not isinstance(document, dict):
            raise DataError(f"{path}: found a JSON {type(document).__name__}; expected an object; run its stage again")
        return document

    def json_list(self, path: Path) -> list[dict[str, Any]] | None:
        if not self._present(path):
            return None
        document = read_json(path)
        if isinstance(document, dict):
            document = document.get("walkers")
        if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
            raise DataError(f"{path}: expected a list of objects; delete it and run its stage again")
        return document

    def csv(self, path: Path, needs: Sequence[str] = ()) -> Columns | None:
        return read_columns(path, needs) if self._present(path) else None

    def lacks(self, path: Path) -> None:
        """Note that a file or folder is not there."""
        self.missing.append(path.relative_to(self.campaign.path).as_posix())

    def _present(self, path: Path) -> bool:
        if not path.is_file():
            self.lacks(path)
            return False
        return True


def number(document: Mapping[str, Any] | None, *keys: str) -> float | None:
    """A finite number inside nested objects, or None where there is none."""
    value: Any = document
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def gather(folder: Path | str) -> Record:
    """Read a campaign folder; absent files are listed, malformed ones are errors.

    Raises
    ------
    ConfigError
        If the folder is not there or holds no resolved configuration.
    DataError
        If a file is not what its stage writes.
    """
    folder = Path(folder)
    if not (folder / "config").is_dir():
        found = "no such folder" if not folder.is_dir() else "no folder 'config' in it"
        raise ConfigError(f"{folder}: {found}; expected a campaign's folder, such as results/tiny_toluene")
    campaign = Campaign(folder)
    reader = _Reader(campaign)
    sections = {name: reader.json(campaign.config(name)) or {} for name in SECTIONS}
    classical = bool(sections["simulate"].get("force_field"))
    from mlpwf.campaign.accounting import read_costs, read_snakemake

    return Record(
        folder=folder,
        sections={name: values for name, values in sections.items() if values},
        kept=_kept(campaign),
        cycles=_cycles(reader),
        test=_labels(reader, "test set", campaign.test),
        label_error=reader.json(campaign.label_error) if sections["label"].get("error_frames") else None,
        final=reader.json(campaign.final.record),
        validation=_validation(reader),
        segments=_segments(reader, sections["simulate"]),
        analysis=_analysis(reader),
        costs=[entry for entry in read_costs(folder) if entry["stage"] != "report" or entry["finished"] is not None],
        snakemake=read_snakemake(folder),
        arms=_arms(reader, sections["select"].get("baselines") or []),
        missing=tuple(path for path in reader.missing if not (classical and path.startswith(OF_A_MODEL))),
    )


def _kept(campaign: Campaign) -> dict[str, dict[str, Any]]:
    from mlpwf.campaign.resolve import kept_settings

    kept: dict[str, dict[str, Any]] = {}
    for section, cycles in kept_settings(campaign / "config").items():
        alike: dict[str, list[int]] = {}
        for cycle in cycles:
            values = read_json(campaign.cycle_config(cycle, section))
            alike.setdefault(json.dumps(values), []).append(cycle)
        kept |= {f"{section} of {cycles_in_words(group)}": json.loads(text) for text, group in alike.items()}
    return kept


def _cycles(reader: _Reader) -> list[Cycle]:
    found = reader.campaign.cycles
    if not found:
        reader.lacks(reader.campaign.cycle(0).path)
    return [_cycle(reader, number, folder) for number, folder in found]


def _cycle(reader: _Reader, number: int, folder: paths.Cycle) -> Cycle:
    train, select = folder.train, folder.select
    return Cycle(
        number=number,
        labels=_labels(reader, f"cycle {number}", folder.label),
        errors=reader.json(train.errors),
        models=[
            Model(str(index), reader.json(train.model(index).check), reader.csv(train.model(index).curve))
            for index, _ in numbered(train.models)
        ],
        walkers=_walkers(reader, folder),
        decisions=reader.csv(select.decisions, needs=("state", "max_devi_f", "verdict")),
        status=reader.json(select.status),
        parity=reader.csv(train.parity, needs=PARITY),
        calibration=reader.json(train.calibration),
        liquid=reader.json(folder.validate.liquid) if folder.validate.path.is_dir() else None,
    )


def _arms(reader: _Reader, names: Sequence[str]) -> dict[str, list[list[Mapping[str, Any]]]]:
    return {
        name: [
            [errors for _, cycle in line.cycles if (errors := reader.json(cycle.train.errors)) is not None]
            for line in reader.campaign.arms(name)
        ]
        for name in names
    }


def _labels(reader: _Reader, name: str, label: paths.Label) -> Labels | None:
    path = label.summary
    summary = reader.json(path)
    if summary is None:
        return None
    counts = {}
    for key in ("requested", "accepted"):
        value = number(summary, key)
        if value is None:
            raise DataError(f"{path}: {key} is {summary.get(key)!r}; expected a number; delete it and run again")
        counts[key] = int(value)
    rejected, frames, physics = (
        summary.get("aside") or {}, summary.get("aside_frames") or [], summary.get("physics") or {},
    )  # fmt: skip
    if not (isinstance(rejected, dict) and isinstance(frames, list) and isinstance(physics, dict)):
        raise DataError(f"{path}: aside, aside_frames or physics is malformed; delete it and run again")
    return Labels(
        name=name,
        engine=summary.get("engine"),
        engine_version=summary.get("engine_version"),
        physics=physics,
        reused=int(number(summary, "reused") or 0),
        rejected={str(reason): int(count) for reason, count in rejected.items()},
        rejected_frames=[frame for frame in frames if isinstance(frame, dict)],
        cpu_s=number(summary, "cpu_s") or 0.0,
        label_cpu_s_mean=number(summary, "label_cpu_s_mean"),
        **counts,
    )


def _walkers(reader: _Reader, cycle: paths.Cycle) -> list[Walkers]:
    states = named(cycle.states)
    if not states:
        reader.lacks(cycle.states)
    result = []
    for state in states:
        entries = reader.json_list(cycle.explore(state.name).walkers)
        if entries is None:
            continue
        outcomes: dict[str, int] = {}
        for entry in entries:
            outcome = str(entry.get("outcome", "unknown"))
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        result.append(Walkers(state.name, outcomes, int(sum(number(entry, "steps") or 0 for entry in entries))))
    return result


def _validation(reader: _Reader) -> Validation:
    validate = reader.campaign.validate
    return Validation(
        errors=reader.json(validate.errors),
        parity=reader.csv(validate.parity, needs=PARITY),
        runs=reader.json(validate.runs),
        nve=reader.csv(validate.nve),
        rdf=reader.csv(validate.rdf),
    )


def _segments(reader: _Reader, simulate: Mapping[str, Any]) -> list[Segment]:
    campaign = reader.campaign
    states = campaign.states
    planned = [f"{t:g}K" for t in simulate.get("temperatures_kelvin", []) if isinstance(t, int | float)]
    for state in planned:
        if state not in states:
            reader.lacks(campaign.simulate(state).path)
    if not states and not planned:
        reader.lacks(campaign / "simulate")
    return [
        Segment(state, index, summary)
        for state in states
        for index, _ in numbered(campaign.simulate(state).segments)
        if (summary := reader.json(campaign.simulate(state).segment(index).summary)) is not None
    ]


def _analysis(reader: _Reader) -> Analysis:
    analyse = reader.campaign.analyse
    found = {name: reader.csv(analyse.table(name), needs=needs) for name, needs in registry.needs().items()}
    tables = {name: columns for name, columns in found.items() if columns is not None}
    return Analysis(tables, reader.json(analyse.summary))


def trained_on(cycle: Cycle) -> float | None:
    """Labels the cycle's models were trained on."""
    return number(cycle.errors, "train", "mean", "overall", "frames")
