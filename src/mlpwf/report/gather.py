"""Read what a campaign has written, whole or in part, into frozen records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mlpwf.campaign import paths, records
from mlpwf.campaign.accounting import read_costs, read_snakemake
from mlpwf.campaign.paths import Campaign, named, numbered
from mlpwf.campaign.records import Settings
from mlpwf.campaign.resolve import cycles_in_words, kept_settings
from mlpwf.campaign.sections import Sections, read_sections
from mlpwf.dynamics import registry
from mlpwf.errors import ConfigError
from mlpwf.tables import read_columns

if TYPE_CHECKING:
    from mlpwf.tables import Columns

SECTIONS = (
    "system", "build", "label", "train", "explore", "select", "validate", "simulate", "analyse", "report", "site",
)  # fmt: skip
OF_A_MODEL = ("cycle/", "label/", "test/", "train/", "validate/")
"""Folders a campaign with a given force field has not."""
PARITY = ("quantity", "label")

K = TypeVar("K")


@dataclass(frozen=True)
class Model:
    """One model of a committee: its check once it was deployed."""

    name: str
    check: records.ModelCheck | None


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
    labels: records.LabelSummary | None
    errors: records.TrainErrors | None
    models: Sequence[Model]
    walkers: Sequence[Walkers]
    decisions: Columns | None
    status: records.SelectStatus | None
    parity: Columns | None
    calibration: records.Calibration | None = None
    liquid: records.LiquidSamples | None = None
    """Samples of density, g(r) and diffusion by the cycle's model, where cycles are compared."""

    @property
    def test_errors(self) -> records.ErrorsByState | None:
        """Errors of the committee's mean on the test set."""
        return self.errors.test.mean if self.errors else None

    @property
    def trained_on(self) -> int | None:
        """Labels the cycle's models were trained on."""
        return self.errors.train.mean.overall.frames if self.errors else None


@dataclass(frozen=True)
class Validation:
    """Checks of the final model."""

    errors: records.ValidateErrors | None
    parity: Columns | None
    runs: records.ValidateRuns | None
    verdict: records.ValidateVerdict | None
    nve: Columns | None
    rdf: Columns | None


@dataclass(frozen=True)
class Analysis:
    """Glass dynamics of the production runs: the tables by name, those there are."""

    tables: Mapping[str, Columns]
    summary: records.AnalyseSummary | None


@dataclass(frozen=True)
class Record:
    """All a campaign has written so far.

    `missing` holds the files a finished campaign has and this one has not,
    relative to its folder.
    """

    folder: Path
    sections: Sections
    resolved: Mapping[str, Settings]
    """All resolved sections, as they stand in their files."""
    kept: Mapping[str, Settings]
    """Sections as done cycles went by them, where they have been edited since: `train of cycles 0 to 2`."""
    cycles: Sequence[Cycle]
    test: records.LabelSummary | None
    label_error: records.LabelError | None
    """What `mlpwf label error` found; None where it is not measured."""
    final: records.Final | None
    validation: Validation
    segments: Sequence[records.SegmentSummary]
    """Finished segments of all states, those of one state in order."""
    analysis: Analysis
    costs: Sequence[records.Cost]
    snakemake: Sequence[records.SnakemakeCost] = ()
    baselines: Mapping[str, Sequence[Sequence[records.TrainErrors]]] = field(default_factory=dict)
    """Errors of each seed of each baseline, cycle by cycle after the first, which all share."""
    missing: Sequence[str] = field(default=())

    @property
    def classical(self) -> bool:
        """Whether a given force field moves the molecules, and nothing is labelled or trained."""
        return self.sections.classical

    @property
    def name(self) -> str:
        """Title of the report section, or else the name of the folder."""
        return self.sections.report.title or self.folder.resolve().name

    @property
    def label_sets(self) -> list[tuple[str, records.LabelSummary]]:
        """The labelled sets there are, by name: each cycle's, and the test set."""
        sets = [(f"cycle {cycle.number}", cycle.labels) for cycle in self.cycles] + [("test set", self.test)]
        return [(name, labels) for name, labels in sets if labels]


class _Reader:
    """Reads files of one campaign and keeps a list of those that are not there."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.missing: list[str] = []

    def json(self, path: Path, kind: type[K]) -> K | None:
        return records.read(path, kind) if self._present(path) else None

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
    resolved = _resolved(reader)
    sections = read_sections(campaign)
    return Record(
        folder=folder,
        sections=sections,
        resolved=resolved,
        kept=_kept(campaign),
        cycles=_cycles(reader),
        test=reader.json(campaign.test.summary, records.LabelSummary),
        label_error=reader.json(campaign.label_error, records.LabelError) if sections.label.error_frames else None,
        final=reader.json(campaign.final.record, records.Final),
        validation=_validation(reader),
        segments=_segments(reader, sections.simulate.states),
        analysis=_analysis(reader),
        costs=[cost for cost in read_costs(folder) if cost.stage != "report" or cost.finished is not None],
        snakemake=read_snakemake(folder),
        baselines=_baselines(reader, sections.select.all_baselines),
        missing=tuple(path for path in reader.missing if not (sections.classical and path.startswith(OF_A_MODEL))),
    )


def _resolved(reader: _Reader) -> dict[str, Settings]:
    found = {name: reader.json(reader.campaign.config(name), Settings) for name in SECTIONS}
    return {name: values for name, values in found.items() if values}


def _kept(campaign: Campaign) -> dict[str, Settings]:
    kept: dict[str, Settings] = {}
    for section, cycles in kept_settings(campaign / "config").items():
        alike: dict[str, list[int]] = {}
        for cycle in cycles:
            values = records.read(campaign.cycle_config(cycle, section), Settings)
            alike.setdefault(json.dumps(values), []).append(cycle)
        kept |= {f"{section} of {cycles_in_words(group)}": json.loads(text) for text, group in alike.items()}
    return kept


def _cycles(reader: _Reader) -> list[Cycle]:
    found = reader.campaign.cycles
    if not found:
        reader.lacks(reader.campaign.cycle(0).path)
    return [_cycle(reader, number, folder) for number, folder in found]


def _cycle(reader: _Reader, number: int, folder: paths.Cycle) -> Cycle:
    train, select, liquid = folder.train, folder.select, folder.validate
    return Cycle(
        number=number,
        labels=reader.json(folder.label.summary, records.LabelSummary),
        errors=reader.json(train.errors, records.TrainErrors),
        models=[_model(reader, train, index) for index, _ in numbered(train.models)],
        walkers=_walkers(reader, folder),
        decisions=reader.csv(select.decisions, needs=("state", "max_devi_f", "verdict")),
        status=reader.json(select.status, records.SelectStatus),
        parity=reader.csv(train.parity, needs=PARITY),
        calibration=reader.json(train.calibration, records.Calibration),
        liquid=reader.json(liquid.liquid, records.LiquidSamples) if liquid.path.is_dir() else None,
    )


def _model(reader: _Reader, train: paths.Train, index: int) -> Model:
    folder = train.model(index)
    return Model(str(index), reader.json(folder.check, records.ModelCheck))


def _baselines(reader: _Reader, names: Sequence[str]) -> dict[str, list[list[records.TrainErrors]]]:
    def errors(line: paths.Line) -> list[records.TrainErrors]:
        found = [reader.json(cycle.train.errors, records.TrainErrors) for _, cycle in line.cycles]
        return [one for one in found if one is not None]

    return {name: [errors(line) for line in reader.campaign.arms(name)] for name in names}


def _walkers(reader: _Reader, cycle: paths.Cycle) -> list[Walkers]:
    states = named(cycle.states)
    if not states:
        reader.lacks(cycle.states)
    found = {state.name: reader.json(cycle.explore(state.name).walkers, list[records.Walker]) for state in states}
    return [
        Walkers(state, Counter(one.outcome for one in walkers), sum(one.steps for one in walkers))
        for state, walkers in found.items()
        if walkers is not None
    ]


def _validation(reader: _Reader) -> Validation:
    validate = reader.campaign.validate
    return Validation(
        errors=reader.json(validate.errors, records.ValidateErrors),
        parity=reader.csv(validate.parity, needs=PARITY),
        runs=reader.json(validate.runs, records.ValidateRuns),
        verdict=records.read_known(validate.verdict, records.ValidateVerdict),
        nve=reader.csv(validate.nve),
        rdf=reader.csv(validate.rdf),
    )


def _segments(reader: _Reader, planned: Sequence[str]) -> list[records.SegmentSummary]:
    campaign = reader.campaign
    states = campaign.states
    for state in planned:
        if state not in states:
            reader.lacks(campaign.simulate(state).path)
    if not states and not planned:
        reader.lacks(campaign / "simulate")
    found = [
        reader.json(campaign.simulate(state).segment(index).summary, records.SegmentSummary)
        for state in states
        for index, _ in numbered(campaign.simulate(state).segments)
    ]
    return [summary for summary in found if summary is not None]


def _analysis(reader: _Reader) -> Analysis:
    analyse = reader.campaign.analyse
    found = {name: reader.csv(analyse.table(name), needs=needs) for name, needs in registry.needs().items()}
    tables = {name: columns for name, columns in found.items() if columns is not None}
    return Analysis(tables, reader.json(analyse.summary, records.AnalyseSummary))
