"""What the files of a campaign hold: one type for each JSON file that a stage writes and another reads.

A file is read whole or not at all: an unknown key, a missing one or a value of another type is an error
that names the file, the place in it and what is expected. `campaign.paths` knows where the files lie.
Resolved sections (config/*.json) have their types in `mlpwf.config`, models' records in `potentials.record`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from mlpwf import __version__
from mlpwf.errors import DataError
from mlpwf.files import read_json, write_json

Settings = dict[str, object]
"""A resolved section as it was used, kept for the reader."""

EARLIER = {
    "aside": "rejected",
    "aside_frames": "rejected_frames",
    "rung": "attempt",
    "said": "message",
}
"""Keys of files that versions before 0.3 wrote, and what they are called now."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON object with known keys."""


class Document(Record, frozen=True, kw_only=True):
    """A JSON file; it says which version wrote it."""

    mlpwf: str = __version__


R = TypeVar("R")


def read(path: Path | str, kind: type[R]) -> R:
    """The content of a file.

    Raises
    ------
    DataError
        If it is missing, is not JSON, or does not hold what a `kind` holds.
    """
    return _checked(path, read_json(path), kind)


def read_known(path: Path | str, kind: type[R]) -> R | None:
    """The content of a file; None where it is missing, half written or of another kind."""
    try:
        return _converted(json.loads(Path(path).read_text()), kind)
    except (OSError, ValueError, msgspec.ValidationError):
        return None


def read_lines(text: str, kind: type[R]) -> list[R]:
    """The records of a file with one on each line; a line that a kill cut short is left out."""
    found = []
    for line in text.splitlines():
        try:
            found.append(_converted(json.loads(line), kind))
        except (ValueError, msgspec.ValidationError):
            continue
    return found


def write(path: Path | str, record: object) -> None:
    """Write a record, or a list of them, whole or not at all."""
    write_json(path, as_json(record))


def as_json(record: object) -> object:
    """A record in JSON's own types."""
    return msgspec.to_builtins(record)


def as_dict(record: Record) -> dict[str, object]:
    """A record in JSON's own types, to be written beside others in one object."""
    found: dict[str, object] = msgspec.to_builtins(record)
    return found


def _checked(path: Path | str, document: object, kind: type[R]) -> R:
    try:
        return _converted(document, kind)
    except msgspec.ValidationError as error:
        what = getattr(kind, "__name__", str(kind))
        raise DataError(f"{path}: no {what} ({error}); delete it and run again: its stage writes it anew") from None


def _converted(document: object, kind: type[R]) -> R:
    return msgspec.convert(renamed(document), kind)


def renamed(document: object) -> object:
    """A document with the keys of `EARLIER` under their present names, at any depth."""
    if isinstance(document, Mapping):
        return {EARLIER.get(key, key): renamed(value) for key, value in document.items()}
    return [renamed(value) for value in document] if isinstance(document, list) else document


# ---------------------------------------------------------------- build


class Census(Record, frozen=True, kw_only=True):
    """Frames counted."""

    frames: int
    kinds: dict[str, int]
    states: dict[str, int]
    minimum_distance_angstrom: dict[str, float]
    """Closest atoms, by kind of frame."""


class BuildSummary(Document, frozen=True, kw_only=True):
    """build/summary.json: what was built."""

    seed: int
    sampler: str
    density_g_cm3: float
    molecules: dict[str, int]
    boxes: Census
    start: Census
    test: Census
    versions: dict[str, str]
    settings: Settings
    cpu_s: float


# ---------------------------------------------------------------- label


class Attempt(Record, frozen=True, kw_only=True):
    """One run of the label engine for a frame."""

    attempt: str
    """Its name in the retry policy."""
    reason: str | None
    """Why it was rejected; None: it was accepted."""
    detail: str | None
    cpu_s: float


class Outcome(Record, frozen=True, kw_only=True):
    """What became of one frame of a set."""

    key: str
    """Key of the label in the store."""
    reused: bool
    """Whether the store had it."""
    accepted: bool
    reason: str | None
    detail: str | None
    cpu_s: float
    attempts: list[Attempt]
    frame: int = 0
    """Index in the set."""
    state: str = ""

    @property
    def retry(self) -> str | None:
        """The attempt that gave the label, where it was not the first."""
        return self.attempts[-1].attempt if self.accepted and len(self.attempts) > 1 else None


class Batch(Document, frozen=True, kw_only=True):
    """batch/NNN.json: the frames of one batch."""

    labels: list[Outcome]


class Progress(Record, frozen=True, kw_only=True):
    """batch/NNN.progress.json: how far a batch is."""

    done: int
    total: int


class RejectedFrame(Record, frozen=True, kw_only=True):
    """A frame without an accepted label."""

    frame: int
    key: str
    reason: str | None
    detail: str | None
    state: str


class Doubt(Record, frozen=True, kw_only=True):
    """A label that looked implausible and was computed again on another path."""

    frame: int
    why: str
    second: str
    """Key of the second label."""
    disagreement: str
    """How the two differ; empty: they agree."""


class LabelSummary(Document, frozen=True, kw_only=True):
    """label/summary.json: a set of labels."""

    engine: str
    engine_version: str | None
    physics: Settings
    requested: int
    accepted: int
    reused: int
    retries: dict[str, int]
    """Accepted labels by the last attempt, where it was not the first."""
    rejected: dict[str, int]
    """Rejected frames by reason."""
    rejected_frames: list[RejectedFrame]
    cpu_s: float
    """Spent now, without what was reused."""
    label_cpu_s_mean: float | None
    """Mean cost of an accepted label, reused ones included; None: there is none."""
    doubts: list[Doubt] = []


# ---------------------------------------------------------------- errors of models and of labels


class Errors(Record, frozen=True, kw_only=True):
    """Root-mean-square errors over frames; `potentials.metrics.error_measures` defines them."""

    frames: int
    atoms: int
    energy_rmse_mev_atom: float | None
    energy_bias_mev_atom: float | None
    force_rmse_ev_angstrom: float
    force_inter_rmse_ev_angstrom: float
    torque_rmse_ev_angstrom: float | None = None
    """None where all molecules are single atoms, and in files of versions before 0.1."""
    force_intra_rmse_ev_angstrom: float
    virial_rmse_ev_atom: float


class ErrorsByState(Record, frozen=True, kw_only=True):
    """Errors over all frames, and for each state."""

    overall: Errors
    states: dict[str, Errors]


class ErrorsOfMean(Record, frozen=True, kw_only=True):
    """Errors of a committee's mean."""

    mean: ErrorsByState


class TestErrors(Record, frozen=True, kw_only=True):
    """Errors on the test set."""

    __test__ = False  # pytest takes no test for it

    frame_force_mse_ev2_angstrom2: list[float]
    """Mean square error of a force component in each frame, of the committee's mean."""
    models: list[ErrorsByState]
    mean: ErrorsByState


class NewErrors(Record, frozen=True, kw_only=True):
    """Errors of the previous committee on labels it has not seen."""

    inputs: dict[str, str]
    first: ErrorsByState
    """Of the model that drove the dynamics."""
    mean: ErrorsByState


class TrainErrors(Document, frozen=True, kw_only=True):
    """train/errors.json: a committee rated."""

    units: dict[str, str]
    inputs: dict[str, str]
    test: TestErrors
    train: ErrorsOfMean
    new: NewErrors | None
    """None in the first cycle, and where no label is new."""


class ErrorsOfLabels(Errors, frozen=True, kw_only=True):
    """Errors of labels against converged ones."""

    pressure_bias_kbar: float
    """Mean of label less converged."""


class LabelErrorRow(Record, frozen=True, kw_only=True):
    """Errors of labels in boxes of one size."""

    atoms: int | None
    """None: all sizes."""
    frames: int
    edge_angstrom: float
    errors: dict[str, ErrorsOfLabels]
    """By lever (k-points, cut-offs), and `total`."""


class LabelError(Document, frozen=True, kw_only=True):
    """label/error.json: the error of a campaign's own labels."""

    units: dict[str, str]
    rows: list[LabelErrorRow]
    """By size of box; the last over all. Empty: nothing could be measured."""
    failures: list[str]
    cpu_s: float
    inputs: dict[str, str]

    @property
    def total(self) -> ErrorsOfLabels | None:
        """Over all frames and levers; None where nothing was measured."""
        return self.rows[-1].errors["total"] if self.rows else None


# ---------------------------------------------------------------- calibration


class Map(Record, frozen=True, kw_only=True):
    """Error expected at a deviation (`potentials.calibration.Map`)."""

    deviation_ev_angstrom: list[float]
    error_ev_angstrom: list[float]
    quantile: float | None
    largest_deviation_ev_angstrom: float
    pairs: int
    frames: int


class Check(Record, frozen=True, kw_only=True):
    """How the maps made before did on pairs that came after (`potentials.calibration.check`)."""

    frames: int
    covered: float | None
    """Share of errors below their bound; None: no bound is known."""
    beyond: float
    """Share of deviations larger than any the maps were made from."""
    ratio: float
    """Root mean square of the errors over that of the expected ones."""
    holds: bool
    message: str


class Calibration(Document, frozen=True, kw_only=True):
    """train/calibration.json: what a deviation of the committee is worth."""

    units: dict[str, str]
    source: str
    """Which labels, and which committee."""
    frames: int
    coverage: float
    maps: dict[str, dict[str, Map]]
    """By channel (inter, intra) and group."""
    check: dict[str, Check]
    """By channel: the maps of the cycle before."""
    reliability: dict[str, list[tuple[float, float, int]]]
    """By channel: bins of expected and true error in eV/Å, and their pairs."""


# ---------------------------------------------------------------- models


class Difference(Record, frozen=True, kw_only=True):
    """Largest differences between a model and its compressed form."""

    energy_ev_atom: float
    force_ev_angstrom: float
    virial_ev_atom: float


class ModelCheck(Record, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """train/model/K/check.json, as far as it is shown; `potentials.record` and the engine know the rest."""

    versions: dict[str, str]
    frames: int
    steps: int | None = None
    """None: the engine counts no steps."""
    conversion_difference: Difference
    files: dict[str, str] = {}
    """Names of its files by role."""
    sha256: dict[str, str]


# ---------------------------------------------------------------- explore and select


class WalkerEnd(Record, frozen=True, kw_only=True):
    """How a walker ended."""

    outcome: str
    reason: str
    steps: int


class Walker(Document, frozen=True, kw_only=True):
    """One entry of walkers.json."""

    seed: int
    state: str
    cycle: int
    walker: int
    outcome: str
    reason: str
    steps: int
    wanted_steps: int
    frames: int


class Criterion(Record, frozen=True, kw_only=True):
    """One thing that has to be met for the cycles to end converged."""

    name: str
    met: bool | None
    """None: not known yet."""
    message: str


class Trust(Record, frozen=True, kw_only=True):
    """The trust levels a cycle used."""

    source: str
    units: dict[str, str]
    force: tuple[float, float] | None
    """Levels of the user's own, of the largest deviation; None: they follow the target."""
    target_error: dict[str, float]
    levels: dict[str, dict[str, tuple[float, float]]]
    """Deviations at which the target and the failing error are expected, by channel and group."""
    calibrated_on: str | None
    frames: int | None
    beyond: dict[str, float | None]
    holds: bool
    message: str


class SelectStatus(Document, frozen=True, kw_only=True):
    """select/status.json: verdicts counted, and whether the campaign goes on."""

    cycle: int
    explored: int
    accurate: int
    candidate: int
    failed: int
    broken: int
    fractions: dict[str, float] | None
    candidate_fraction: float | None
    selected: int
    units: dict[str, str]
    verdict: str
    reason: str
    new_label_error: float | None
    criteria: list[Criterion]
    label_error: dict[str, float] = {}
    trust: Trust
    seed: int
    inputs: dict[str, str]


class Verdict(Record, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What of select/status.json says whether the campaign goes on; the rest of the file is not looked at."""

    cycle: int
    verdict: str
    reason: str

    @property
    def goes_on(self) -> bool:
        """Whether another cycle follows."""
        return self.verdict == "continue"


class Final(Document, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """train/final/final.json: the model a campaign ends with; the model's own record stands in the same file."""

    cycle: int
    verdict: str
    reason: str
    model: str
    sha256: dict[str, str] | str
    """Of the model's files, by name; of its one file in campaigns of version 0.1."""


# ---------------------------------------------------------------- validate


class ValidateErrors(Document, frozen=True, kw_only=True):
    """validate/errors.json: the model on the test set."""

    seed: int
    model_sha256: str
    labels_sha256: str
    overall: Errors
    states: dict[str, Errors]


class RunEnd(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How a run ended."""

    stable: bool
    reason: str
    intact: bool | None = None
    """Whether every molecule was whole at the end; None: not known."""
    broken: str = ""
    """The first bond that broke, and when."""
    steps: int | None = None


class Nve(RunEnd, frozen=True, kw_only=True):
    """The run at constant energy; None: it was unstable or too short to tell."""

    drift_mev_atom_ps: float | None = None
    drift_error_mev_atom_ps: float | None = None
    fluctuation_mev_atom: float | None = None
    mean_temperature: float | None = None


class Nvt(RunEnd, frozen=True, kw_only=True):
    """The run at constant volume."""

    mean_temperature: float | None = None
    mean_pressure_bar: float | None = None
    pressure_error_bar: float | None = None
    """Standard error of the mean; None: too few samples, or found by a version that gave none."""


class Npt(RunEnd, frozen=True, kw_only=True):
    """The run at constant pressure."""

    density_expected_g_cm3: float
    density_g_cm3: float | None = None
    density_error_g_cm3: float | None = None


class ValidateAsked(Document, frozen=True, kw_only=True):
    """What the runs of a validation are of: the model, the molecules, and the section `validate`."""

    seed: int
    model_sha256: str
    molecules_sha256: str
    molecules: int
    temperature_kelvin: float
    timestep_fs: float
    nve_ps: float
    nvt_ps: float
    npt_ps: float
    pressure_bar: float


class ValidateRuns(ValidateAsked, frozen=True, kw_only=True):
    """validate/runs.json: verdicts on the runs, and what they are of."""

    nve: Nve
    nvt: Nvt
    npt: Npt

    @property
    def asked(self) -> ValidateAsked:
        """What the runs are of."""
        return ValidateAsked(**{name: getattr(self, name) for name in ValidateAsked.__struct_fields__})


class ValidateVerdict(Document, frozen=True, kw_only=True):
    """validate/verdict.json: whether the final model is fit for production."""

    seed: int
    model_sha256: str
    verdict: str
    """`good`, `not yet` or `broken`."""
    reasons: list[str]
    """Why it is not good; none if it is."""


class LiquidSamples(Document, frozen=True, kw_only=True):
    """validate/liquid.json: samples by which the models of two cycles are compared."""

    seed: int
    model_sha256: str
    cycle: int | None
    conditions: str
    units: dict[str, str]
    fault: str
    """Why there are no samples; empty: there are."""
    density: list[float]
    """Means over blocks."""
    r: list[float]
    g: list[list[float]]
    """Of each block."""
    diffusion: list[float]
    """Of each molecule."""
    diffusion_lags: tuple[float, float] | None
    """Shortest and longest lag of the fit."""


# ---------------------------------------------------------------- simulate and analyse


class SegmentSummary(Document, frozen=True, kw_only=True):
    """segment/NNN/summary.json: one segment of a production run."""

    units: dict[str, str]
    state: str
    segment: int
    ensemble: str
    temperature_kelvin: float
    timestep_fs: float
    thermostat_time_ps: float
    linear_interval_ps: float
    stress_interval_fs: float
    volume_angstrom3: float
    molecules: int
    steps: int
    start_ps: float
    """Negative while the box equilibrates."""
    end_ps: float
    end_step: int
    volumes: list[float] | msgspec.UnsetType = msgspec.UNSET
    """Equilibrated at constant pressure: sum in Å³ and number of the volumes averaged; absent otherwise."""
    stable: bool
    reason: str
    frames: int
    linear_frames: int
    intact: bool
    mean_potential_ev: float | None
    mean_temperature: float | None
    seconds: float
    ns_per_day: float | None
    finished: bool
    depends_on: Settings
    sha256: dict[str, str]


class SegmentProgress(Record, frozen=True, kw_only=True):
    """work/NNN/progress.json: how far a segment in progress is."""

    fraction: float
    ps: float
    ns_per_day: float
    time: float
    """When it said so, Unix time in s."""


class Checkpoint(Record, frozen=True, kw_only=True):
    """A checkpoint's JSON file: its step, and the hashes of its files by name."""

    step: int
    sha256: dict[str, str]


class RunSummary(Document, frozen=True, kw_only=True):
    """run/LENGTHps.json: how far the run of a state came."""

    state: str
    temperature_kelvin: float
    asked_ps: float
    done_ps: float
    segments: int
    stable: bool
    step: int
    reason: str
    intact: bool
    ns_per_day: float | None


class AnalyseSummary(Document, frozen=True, kw_only=True):
    """analyse/summary.json: settings, inputs and definitions."""

    seed: int
    settings: Settings
    faults: dict[str, str]
    """Why a state was left out, by its name."""
    ensembles: dict[str, str]
    units: dict[str, str] | str
    tables: dict[str, list[str]]
    """Columns by table."""
    figures: dict[str, str]
    """Captions by file."""
    inputs: dict[str, str]
    definitions: dict[str, str]


# ---------------------------------------------------------------- costs


class Cost(Record, frozen=True, kw_only=True):
    """A line of cost.jsonl, or cost.running.json: what one job cost."""

    stage: str
    finished: bool | None
    """None: it runs; False: it failed or was killed."""
    started: float
    """Unix time in s."""
    wall_s: float
    own_cpu_s: float
    engine_cpu_s: float
    peak_mb: float

    @property
    def cpu_s(self) -> float:
        """CPU time of the job and of the programs it ran."""
        return self.own_cpu_s + self.engine_cpu_s


class SnakemakeCost(Record, frozen=True, kw_only=True):
    """What one Snakemake cost."""

    started: float
    wall_s: float
    cpu_s: float
    cores: int
