"""Read what a campaign has written, whole or in part, into frozen records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    aside: Mapping[str, int]
    aside_frames: Sequence[Mapping[str, Any]]
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
    """Errors of each seed of each arm of `select.arms`, cycle by cycle after the first, which all share."""
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
    """Reads files below one folder and keeps a list of those that are not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.missing: list[str] = []

    def json(self, *parts: str) -> dict[str, Any] | None:
        path = self._present(*parts)
        if path is None:
            return None
        document = read_json(path)
        if not isinstance(document, dict):
            raise DataError(f"{path}: found a JSON {type(document).__name__}; expected an object; run its stage again")
        return document

    def json_list(self, *parts: str) -> list[dict[str, Any]] | None:
        path = self._present(*parts)
        if path is None:
            return None
        document = read_json(path)
        if isinstance(document, dict):
            document = document.get("walkers")
        if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
            raise DataError(f"{path}: expected a list of objects; delete it and run its stage again")
        return document

    def csv(self, *parts: str, needs: Sequence[str] = ()) -> Columns | None:
        path = self._present(*parts)
        return None if path is None else read_columns(path, needs)

    def _present(self, *parts: str) -> Path | None:
        path = self.folder.joinpath(*parts)
        if path.is_file():
            return path
        self.missing.append("/".join(parts))
        return None


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


def numbered_folders(parent: Path) -> list[tuple[int, Path]]:
    """Folders named by digits, in order of their number."""
    if not parent.is_dir():
        return []
    return sorted((int(path.name), path) for path in parent.iterdir() if path.name.isdigit() and path.is_dir())


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
    reader = _Reader(folder)
    sections = {name: reader.json("config", f"{name}.json") or {} for name in SECTIONS}
    classical = bool(sections["simulate"].get("force_field"))
    from mlpwf.campaign.accounting import read_costs, read_snakemake

    return Record(
        folder=folder,
        sections={name: values for name, values in sections.items() if values},
        kept=_kept(folder / "config"),
        cycles=_cycles(reader),
        test=_labels(reader, "test set", "test"),
        label_error=reader.json("label", "error.json") if sections["label"].get("error_frames") else None,
        final=reader.json("train", "final", "final.json"),
        validation=_validation(reader),
        segments=_segments(reader, sections["simulate"]),
        analysis=_analysis(reader),
        costs=[entry for entry in read_costs(folder) if entry["stage"] != "report" or entry["finished"] is not None],
        snakemake=read_snakemake(folder),
        arms=_arms(reader, sections["select"].get("arms") or []),
        missing=tuple(path for path in reader.missing if not (classical and path.startswith(OF_A_MODEL))),
    )


def _kept(folder: Path) -> dict[str, dict[str, Any]]:
    from mlpwf.campaign.resolve import kept_settings

    kept: dict[str, dict[str, Any]] = {}
    for section, cycles in kept_settings(folder).items():
        alike: dict[str, list[int]] = {}
        for cycle in cycles:
            values = read_json(folder / "cycle" / f"{cycle:03d}" / f"{section}.json")
            alike.setdefault(json.dumps(values), []).append(cycle)
        kept |= {f"{section} of {cycles_in_words(group)}": json.loads(text) for text, group in alike.items()}
    return kept


def _cycles(reader: _Reader) -> list[Cycle]:
    found = numbered_folders(reader.folder / "cycle")
    if not found:
        reader.missing.append("cycle/000")
    return [_cycle(reader, number, path) for number, path in found]


def _cycle(reader: _Reader, number: int, path: Path) -> Cycle:
    base = ("cycle", path.name)
    return Cycle(
        number=number,
        labels=_labels(reader, f"cycle {number}", *base),
        errors=reader.json(*base, "train", "errors.json"),
        models=[
            Model(
                name=folder.name,
                check=reader.json(*base, "train", "model", folder.name, "check.json"),
                curve=reader.csv(*base, "train", "model", folder.name, "lcurve.csv"),
            )
            for _, folder in numbered_folders(path / "train" / "model")
        ],
        walkers=_walkers(reader, path),
        decisions=reader.csv(*base, "select", "decisions.csv", needs=("state", "max_devi_f", "verdict")),
        status=reader.json(*base, "select", "status.json"),
        parity=reader.csv(*base, "train", "parity.csv", needs=PARITY),
        calibration=reader.json(*base, "train", "calibration.json"),
        liquid=reader.json(*base, "validate", "liquid.json") if (path / "validate").is_dir() else None,
    )


def _arms(reader: _Reader, names: Sequence[str]) -> dict[str, list[list[Mapping[str, Any]]]]:
    found: dict[str, list[list[Mapping[str, Any]]]] = {}
    for name in names:
        found[name] = []
        for _, seed in numbered_folders(reader.folder / "arm" / name):
            parts = [("arm", name, seed.name, path.name, "train", "errors.json") for _, path in numbered_folders(seed)]
            found[name].append([errors for part in parts if (errors := reader.json(*part)) is not None])
    return found


def _labels(reader: _Reader, name: str, *base: str) -> Labels | None:
    summary = reader.json(*base, "label", "summary.json")
    if summary is None:
        return None
    path = reader.folder.joinpath(*base, "label", "summary.json")
    counts = {}
    for key in ("requested", "accepted"):
        value = number(summary, key)
        if value is None:
            raise DataError(f"{path}: {key} is {summary.get(key)!r}; expected a number; delete it and run again")
        counts[key] = int(value)
    aside, frames, physics = (
        summary.get("aside") or {}, summary.get("aside_frames") or [], summary.get("physics") or {},
    )  # fmt: skip
    if not (isinstance(aside, dict) and isinstance(frames, list) and isinstance(physics, dict)):
        raise DataError(f"{path}: aside, aside_frames or physics is malformed; delete it and run again")
    return Labels(
        name=name,
        engine=summary.get("engine"),
        engine_version=summary.get("engine_version"),
        physics=physics,
        reused=int(number(summary, "reused") or 0),
        aside={str(reason): int(count) for reason, count in aside.items()},
        aside_frames=[frame for frame in frames if isinstance(frame, dict)],
        cpu_s=number(summary, "cpu_s") or 0.0,
        label_cpu_s_mean=number(summary, "label_cpu_s_mean"),
        **counts,
    )


def _walkers(reader: _Reader, path: Path) -> list[Walkers]:
    explored = path / "explore"
    states = (
        sorted(p.name for p in explored.iterdir() if p.is_dir() and not p.name.startswith("."))
        if explored.is_dir()
        else []
    )
    if not states:
        reader.missing.append(f"cycle/{path.name}/explore")
    result = []
    for state in states:
        entries = reader.json_list("cycle", path.name, "explore", state, "walkers.json")
        if entries is None:
            continue
        outcomes: dict[str, int] = {}
        for entry in entries:
            outcome = str(entry.get("outcome", "unknown"))
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        result.append(Walkers(state, outcomes, int(sum(number(entry, "steps") or 0 for entry in entries))))
    return result


def _validation(reader: _Reader) -> Validation:
    return Validation(
        errors=reader.json("validate", "errors.json"),
        parity=reader.csv("validate", "parity.csv", needs=PARITY),
        runs=reader.json("validate", "runs.json"),
        nve=reader.csv("validate", "nve.csv"),
        rdf=reader.csv("validate", "rdf.csv"),
    )


def _segments(reader: _Reader, simulate: Mapping[str, Any]) -> list[Segment]:
    folder = reader.folder / "simulate"
    states = sorted(p.name for p in folder.iterdir() if (p / "segment").is_dir()) if folder.is_dir() else []
    planned = [f"{t:g}K" for t in simulate.get("temperatures_kelvin", []) if isinstance(t, int | float)]
    reader.missing.extend(f"simulate/{state}" for state in planned if state not in states)
    if not states and not planned:
        reader.missing.append("simulate")
    segments = []
    for state in states:
        for index, path in numbered_folders(folder / state / "segment"):
            summary = reader.json("simulate", state, "segment", path.name, "summary.json")
            if summary is not None:
                segments.append(Segment(state, index, summary))
    return segments


def _analysis(reader: _Reader) -> Analysis:
    found = {name: reader.csv("analyse", f"{name}.csv", needs=needs) for name, needs in registry.needs().items()}
    tables = {name: columns for name, columns in found.items() if columns is not None}
    return Analysis(tables, reader.json("analyse", "summary.json"))


def trained_on(cycle: Cycle) -> float | None:
    """Labels the cycle's models were trained on."""
    return number(cycle.errors, "train", "mean", "overall", "frames")
