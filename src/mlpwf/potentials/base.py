"""The protocol of potentials: an engine trains and opens models; an opened potential predicts and moves atoms.

What is predicted is `structures.properties.Properties`. Rules read file names here in every job: nothing above the
standard library is imported until a model is opened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mlpwf.campaign.accounting import as_engine
from mlpwf.errors import DataError, EngineError

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.typing import NDArray

    from mlpwf.config import Site, Train
    from mlpwf.potentials.lammps import LammpsExport
    from mlpwf.structures.properties import Properties

NAN = float("nan")
Progress = Callable[[int, int, float], None]
"""Called with the step, the number of steps, and the force error on training labels in eV/Å."""


@dataclass(frozen=True)
class Spread:
    """How far the members of a committee are apart at one frame (`committee.spread_of`); NaN: not known."""

    max_force: float = NAN
    """Largest, smallest and mean deviation of an atom's force in eV/Å."""
    min_force: float = NAN
    mean_force: float = NAN
    max_virial: float = NAN
    """Largest deviation of an element of the virial, in eV per atom."""

    def columns(self) -> dict[str, float]:
        """By the names they have in tables and frames."""
        return {
            "max_devi_f": self.max_force,
            "min_devi_f": self.min_force,
            "avg_devi_f": self.mean_force,
            "max_devi_v": self.max_virial,
        }


class Ability(StrEnum):
    """What an engine may be unable to do. All engines predict, and give an ASE calculator."""

    TRAIN = "be trained"
    CONTINUE = "be continued from an earlier model"
    DESCRIPTORS = "give descriptors"
    LAMMPS = "run in LAMMPS"


class Role(StrEnum):
    """What a file of a trained model is for."""

    ORIGINAL = "original"
    """As trained: it is continued, and gives descriptors."""
    DEPLOYED = "deployed"
    """What is run and rated."""
    BASELINE = "baseline"
    """What a network is added to."""


@dataclass(frozen=True)
class TrainingJob:
    """A training to do in `folder`, or to resume there."""

    folder: Path
    frames: Sequence[Atoms]
    """Labelled frames."""
    section: Train
    site: Site
    seed: int
    """Of the campaign."""
    member: int
    """Number of the model in its committee."""
    parent: Path | None = None
    """Model, as trained, to continue; None: new weights."""
    pretrained: bool = False
    """Whether that model is a user's: of other labels, and perhaps of more elements."""
    molecules: Sequence[Atoms] = ()
    """One frame of each species, for an engine whose training needs them (`Engine.of_molecules`)."""


@dataclass(frozen=True)
class Trained:
    """What is recorded of a finished training."""

    elements: list[str]
    cutoff_angstrom: float
    parent: Path | None
    """The model it continued; None where the parent did not fit and new weights were trained."""
    details: Mapping[str, object]
    """More entries of the record, in JSON types, by the engine's own names."""


@dataclass(frozen=True)
class Plugin:
    """What the process of LAMMPS needs for an engine's styles: folders of libraries, environment variables."""

    libraries: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltInSpread:
    """A committee whose spread LAMMPS computes along with the forces of the first member."""

    export: LammpsExport
    last: Callable[[], Spread]
    """The spread at the last step that was asked for; not finite where there is none."""


class Engine(ABC):
    """A kind of potential. One instance a name (`registry.engine`); it keeps no state."""

    name: ClassVar[str]
    abilities: ClassVar[frozenset[Ability]]
    files: ClassVar[Mapping[Role, str]] = {}
    """Names of a trained model's files in its folder."""
    curve: ClassVar[str] = "lcurve.csv"
    program: ClassVar[str] = "training"
    """What trains, in a word."""
    trial: ClassVar[Mapping[str, object]] = {}
    """Keys of the section `train` for the shortest training there is, which `mlpwf doctor` tries."""
    of_molecules: ClassVar[bool] = False
    """Whether training needs the molecules, with their bonds."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Python packages whose versions decide what a training gives."""
    expects: ClassVar[str] = "models of this engine"
    """What LAMMPS needs to start, for messages."""

    @abstractmethod
    def open(self, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> Potential:
        """A potential from its files, for boxes of these molecules.

        Parameters
        ----------
        files
            The deployed file of a trained model, or all files of one that is not trained.
        molecules
            One frame of each species. Engines with bonds need them; others order LAMMPS' atom types by them.

        Raises
        ------
        MlpwfError
            If a file is missing or does not fit.
        """

    def named(self) -> dict[str, str]:
        """Names of a trained model's files by role, as its record has them."""
        return {role.value: name for role, name in self.files.items()}

    def can(self, ability: Ability) -> bool:
        """Whether the engine has an ability."""
        return ability in self.abilities

    def require(self, ability: Ability) -> None:
        """Raise the error of an ability the engine lacks."""
        if not self.can(ability):
            raise self.cannot(ability)

    def cannot(self, ability: Ability) -> EngineError:
        """The error of an ability the engine lacks."""
        able = ", ".join(sorted(self.abilities)) or "predict"
        return EngineError(
            f"potentials of the engine {self.name} cannot {ability}, they can {able}; "
            "expected a potential of another engine here"
        )

    def train(self, job: TrainingJob, progress: Progress) -> Trained:
        """Train in the job's folder, leaving the files of all roles and the learning curve there.

        A folder that holds checkpoints of the same job is resumed.
        """
        raise self.cannot(Ability.TRAIN)

    def deploy(self, folder: Path, site: Site) -> None:
        """Make the deployed file from the original one in `folder`."""
        raise self.cannot(Ability.TRAIN)

    def plugin(self, threads: int) -> Plugin:
        """What the process of LAMMPS needs for this engine on so many threads."""
        return Plugin()

    def built_in_spread(self, members: Sequence[Potential], every_steps: int) -> BuiltInSpread | None:
        """The committee's spread every so many steps, where LAMMPS computes it; None: it is evaluated from outside.

        It must be `committee.spread_of` the members' predictions, but for rounding.
        """
        return None


class Potential(ABC):
    """An opened potential."""

    def __init__(self, engine: Engine, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> None:
        self.engine, self.files, self.molecules = engine, list(files), list(molecules)

    @property
    def name(self) -> str:
        """The potential in messages."""
        return str(self.files[0])

    @property
    @abstractmethod
    def elements(self) -> list[str]:
        """Symbols of the elements it knows."""

    @abstractmethod
    def compute(self, frames: Sequence[Atoms]) -> list[Properties]:
        """Energy, forces and stress of each frame, of any compositions; values may be not finite."""

    @as_engine()
    def evaluate(self, frames: Sequence[Atoms]) -> list[Properties]:
        """Energy, forces and stress of each frame; values may be not finite, as where atoms overlap.

        Raises
        ------
        DataError
            If a frame holds an element the potential does not know.
        """
        found = {symbol for atoms in frames for symbol in atoms.symbols}
        if unknown := sorted(found - set(self.elements)):
            known = ", ".join(self.elements)
            raise DataError(f"{self.name}: the model knows {known}; a frame holds {', '.join(unknown)} as well")
        return self.compute(frames)

    def predict(self, frames: Sequence[Atoms]) -> list[Properties]:
        """Energy, forces and stress of each frame, all finite.

        Raises
        ------
        DataError
            If a frame holds an element the potential does not know.
        EngineError
            If a value is not finite.
        """
        found = self.evaluate(frames)
        for number, one in enumerate(found):
            if not one.finite:
                raise EngineError(
                    f"{self.name}: predicts values that are not finite for frame {number}; expected numbers: "
                    "train with a lower learning rate, or look at the frame"
                )
        return found

    def descriptors(self, frames: Sequence[Atoms], elements: Sequence[str]) -> NDArray[np.float64]:
        """One vector for each frame that does not change by translation, rotation, wrapping and order of like atoms.

        Parameters
        ----------
        frames
            Frames of any compositions.
        elements
            The elements and their order; an element a frame lacks gives zeros.

        Returns
        -------
        ndarray
            Shape (n_frames, n_features), no units.
        """
        raise self.engine.cannot(Ability.DESCRIPTORS)

    def lammps(self) -> LammpsExport:
        """What LAMMPS is told to move a box by this potential."""
        raise self.engine.cannot(Ability.LAMMPS)

    def overlay(self, folder: Path, symbols: Sequence[str]) -> tuple[str, str]:
        """Words of LAMMPS' pair style and of its coefficients, where it is one among several.

        Parameters
        ----------
        folder
            Where files are put that the words name.
        symbols
            Element of each of LAMMPS' atom types.
        """
        raise self.engine.cannot(Ability.LAMMPS)

    def calculator(self) -> Calculator:
        """The potential as an ASE calculator."""
        from mlpwf.potentials.calculator import PotentialCalculator
        from mlpwf.structures.molecules import numbered

        if not self.engine.of_molecules:
            return PotentialCalculator(self.predict)
        return PotentialCalculator(lambda frames: self.predict([numbered(atoms) for atoms in frames]))
