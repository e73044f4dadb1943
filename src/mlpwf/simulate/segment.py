"""One segment of a production run: what it depends on, where it begins, and what is left to do of it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from mlpwf.campaign import paths, records
from mlpwf.campaign.records import Record, SegmentSummary, Settings
from mlpwf.campaign.states import production_settings, simulate_lengths, simulate_states
from mlpwf.config import Simulate, Site, System
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import read_json, sha256, sound
from mlpwf.potentials.base import Ability, Engine
from mlpwf.potentials.record import engine_of, sound_model
from mlpwf.potentials.registry import engine
from mlpwf.structures.frames import read_frames

log = logging.getLogger(__name__)

TWIN = "kept.json"
"""The summary once more: Snakemake removes the summary of a segment whose job it ends the moment after."""
RESTART = "restart.bin"


@dataclass(frozen=True)
class Mover:
    """What moves the atoms: a trained model, or a force field."""

    engine: Engine
    files: list[Path]
    hashes: Mapping[str, object]
    """As a segment's summary has them."""


def mover_of(section: Simulate, model: Path | None, species: Path) -> Mover:
    """The potential of a run: the force field of the section, or else the model.

    Raises
    ------
    ConfigError
        If both are given, or neither, or the model is missing.
    """
    given = section.force_field
    if given is not None and model is not None:
        raise ConfigError(f"--model is {model} and simulate.force_field is set; expected one of them")
    if given is not None:
        return force_field_mover(given.commands, given.molecules, species)
    if model is None or not model.is_file():
        raise ConfigError(f"{model or '--model'}: no such model; expected the final model of mlpwf train")
    return model_mover(model)


def model_mover(model: Path) -> Mover:
    """A trained model.

    Raises
    ------
    DataError
        If its file is damaged.
    EngineError
        If it cannot run in LAMMPS.
    """
    by = engine_of([model])
    by.require(Ability.LAMMPS)
    return Mover(by, [model.resolve()], {"model_sha256": sound_model(model)})


def force_field_mover(commands: Path, molecules: Path, species: Path) -> Mover:
    """A force field; its files are read once to find what is wrong with them.

    Parameters
    ----------
    commands, molecules
        Its files.
    species
        One frame for each species of the system.
    """
    by, files = engine("force_field"), [commands.resolve(), molecules.resolve()]
    by.open(files, read_frames(species))
    return Mover(by, files, {"force_field_sha256": [sha256(file) for file in files]})


# ---------------------------------------------------------------- where it begins


@dataclass(frozen=True)
class Begin:
    """Where a segment begins."""

    step: int
    """Since the start of production; negative while the box equilibrates."""
    restart: Path | None = None
    """Restart file of the segment before; None: a packed box."""
    volumes: tuple[float, float] = (0.0, 0.0)
    """At constant pressure: sum in Å³ and number of the volumes averaged so far."""


class _Join(Record, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The part of a segment's summary that the next segment resumes from."""

    stable: bool = True
    end_step: int | None = None
    sha256: dict[str, str] = msgspec.field(default_factory=dict)
    volumes: tuple[float, float] = (0.0, 0.0)


def after(previous: Path) -> Begin:
    """The end of the segment before, from its summary.

    Raises
    ------
    DataError
        If there is no restart file, it is damaged, or that run blew up.
    """
    join, restart = records.read(previous, _Join), previous.with_name(RESTART)
    again = f"delete {previous.parent} and run again"
    expected = join.sha256.get(RESTART)
    if join.end_step is None or expected is None:
        reason = "without a restart file's hash" if join.stable else "of a run that blew up"
        raise DataError(f"{previous}: a summary {reason}; expected one to go on from: {again}")
    if not restart.is_file():
        raise DataError(f"{restart}: no such file; expected the restart file of a finished segment: {again}")
    sound(restart, expected, previous, again)
    return Begin(join.end_step, restart, join.volumes)


# ---------------------------------------------------------------- the segment


@dataclass(frozen=True)
class Segment:
    """One segment of the run of a state."""

    section: Simulate
    system: System
    site: Site
    seed: int
    state: str
    number: int
    out: paths.State
    molecules: Path
    """One frame for each species."""
    mover: Mover
    previous: Path | None
    """Summary of the segment before; None: this is the first."""

    @cached_property
    def begin(self) -> Begin:
        """Where it begins."""
        return Begin(-self.equilibration_steps) if self.previous is None else after(self.previous)

    @property
    def name(self) -> str:
        """The segment in logs."""
        return f"simulate {self.state} segment {self.number}"

    @property
    def temperature_kelvin(self) -> float:
        """Of the state."""
        return simulate_states(self.section)[self.state]

    @property
    def length_ps(self) -> float:
        """Length asked for, of the whole run."""
        return simulate_lengths(self.section)[self.state]

    @property
    def steps_per_ps(self) -> float:
        """Steps in a ps."""
        return 1e3 / self.section.timestep_fs

    @property
    def equilibration_steps(self) -> int:
        """Steps before production."""
        return round(self.section.equilibration_ps * self.steps_per_ps)

    @property
    def last_step(self) -> int:
        """The step at which the run is as long as asked."""
        return round(self.length_ps * self.steps_per_ps)

    @property
    def target(self) -> paths.Segment:
        """Folder of its files."""
        return self.out.segment(self.number)

    @property
    def work(self) -> Path:
        """Folder where it runs until it is done."""
        return self.out.work(self.number)

    @property
    def box(self) -> Path:
        """The packed box of the state."""
        return self.out / "box.extxyz"

    @cached_property
    def depends_on(self) -> Settings:
        """Everything its files depend on: settings, seed, and hashes of what it reads."""
        restart = self.begin.restart
        return {
            "settings": production_settings(self.section, self.system, self.temperature_kelvin),
            "seed": self.seed,
            **self.mover.hashes,
            "molecules_sha256": sha256(self.molecules),
            "restart_sha256": None if restart is None else sha256(restart),
        }


@dataclass(frozen=True)
class Task:
    """What is left to do of a segment."""

    stop: int
    """Step to run to."""
    mends: bool = False
    """Whether damaged files of a finished segment are made again; segments after it stay."""


def task_of(segment: Segment) -> Task | None:
    """What is left to do; None: it is done, from the same settings, model and restart file, and its files are whole."""
    whole = Task(segment.last_step)
    path, twin = segment.target.summary, segment.target / TWIN
    if not path.is_file() and twin.is_file():
        shutil.copyfile(twin, path)
    if not path.is_file():
        return whole
    summary = records.read_known(path, SegmentSummary)
    if summary is None:
        log.warning("%s: not a summary of this version; the segment is run again", path)
        return whole
    if changed := [key for key, value in segment.depends_on.items() if summary.depends_on.get(key) != value]:
        log.info("%s: %s changed since; it is run again", segment.name, ", ".join(changed))
        return whole
    damaged = _damaged(segment, summary)
    if damaged is None:
        return None
    log.warning("%s: missing or damaged; the segment is run again, to its old end", damaged)
    return Task(summary.end_step, mends=True)


def _damaged(segment: Segment, summary: SegmentSummary) -> Path | None:
    """The first file that is missing or not the one that was written."""
    for name, expected in summary.sha256.items():
        path = segment.target / name
        if not path.is_file() or sha256(path) != expected:
            return path
    return None


def begun(segment: Segment) -> bool:
    """Whether the work folder is of this segment."""
    try:
        return bool(read_json(segment.work / "depends_on.json") == segment.depends_on)
    except DataError:
        return False
