"""The calculator protocol: all that the stages ask of what computes labels.

A calculator is a subclass of `Calculator`, named in `mlpwf.config.label_engines`. Two things it must say: its
physics, which a label is kept under, and how one frame is computed. All else has a default. What only some can do
is a `Capability`; asked for one it lacks, a calculator answers with a one-line error.
docs/add-a-calculator.md adds one.
"""

from __future__ import annotations

import json
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.calculators import gate
from mlpwf.calculators.foresight import Box, Foresight, Known
from mlpwf.campaign.pricing import Price
from mlpwf.config.label import Label
from mlpwf.config.label_engines import LABEL_ENGINES, Capability, LabelEngine
from mlpwf.config.site import Site
from mlpwf.errors import DataError
from mlpwf.findings import Finding, failed, made, ok
from mlpwf.structures.frames import minimum_distance
from mlpwf.structures.properties import Properties
from mlpwf.units import words

AS_ASKED = "as asked"
"""Name of the first attempt."""


Physics = dict[str, object]
"""What the numbers of a label depend on beside the structure, in plain JSON types."""
Numerics = dict[str, object]
"""What decides whether a label is reached, not its numbers, in plain JSON types."""


class Reason(StrEnum):
    """Why a frame was rejected."""

    CLASH = "clash"
    NOT_CONVERGED = "not converged"
    OUT_OF_TIME = "out of time"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out of memory"
    BAD_OUTPUT = "bad output"
    IMPLAUSIBLE = "implausible"
    OVER_BUDGET = "over budget"


class Rejected(Exception):  # noqa: N818 - an outcome, not an error
    """A frame that has no label: the typed reason, one line of detail, and what the program printed, if it did."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.output: str | None = None
        self.version: str | None = None


class ForeignError(DataError):
    """A source that says that its numbers are of other physics."""


class UnreadableError(DataError):
    """A source that cannot be read, by its own words."""


@dataclass(frozen=True)
class Result:
    """The numbers of one label, in the order of the atoms it was computed of."""

    properties: Properties
    version: str | None = None
    """Of the program; None where it did not say."""


@dataclass(frozen=True)
class Output:
    """The label in an output of the program: structure, numbers in its order of atoms, and CPU-s spent."""

    atoms: Atoms
    result: Result
    cpu_s: float


@dataclass(frozen=True)
class Attempt:
    """One try at a label: its name in the record, and the section with its numerics; the physics is the same."""

    name: str
    settings: Label


@dataclass(frozen=True)
class Report:
    """What a study found: lines to print, files to write, and the error it ends with, if it does.

    files holds by name a text, or what becomes JSON; None takes away a file that an earlier study left.
    """

    lines: Sequence[str]
    files: Mapping[str, str | Mapping[str, object] | None] = field(default_factory=dict)
    failure: str | None = None


class Bench(Protocol):
    """What labels frames for a study, through the store."""

    def missing(self, settings: Label, frames: Sequence[Atoms]) -> list[Atoms]:
        """The frames that the store has no outcome for with these settings."""
        ...

    def label(self, settings: Label, frames: Sequence[Atoms]) -> list[tuple[Atoms, float]]:
        """Each frame with its label, and the CPU-s it cost; DataError if one is rejected."""
        ...


@dataclass(frozen=True)
class StudiedFrame:
    """Which frame a study labels: where it is from, and what it is."""

    file: str
    index: int
    formula: str
    kind: str
    density_g_cm3: float
    atoms: int
    molecules: int | None
    """None where the frame does not say which atoms are a molecule."""


@dataclass(frozen=True)
class StudyRequest:
    """What a study of convergence is asked.

    Attributes
    ----------
    sets
        Sections to compare by name, the configured one first.
    sizes
        Frames to label by number of atoms.
    about
        A description of each frame, for the record.
    force_ev_angstrom, virial_ev_atom
        Errors allowed, root mean square.
    highest_cutoff_ry
        Highest wave-function cut-off to try.
    multiples
        By number of atoms, how many times the molecules of the system, None if no multiple; empty: no system given.
    """

    sets: Mapping[str, Label]
    sizes: Mapping[int, list[Atoms]]
    about: Sequence[StudiedFrame]
    force_ev_angstrom: float
    virial_ev_atom: float
    highest_cutoff_ry: float
    multiples: Mapping[int, int | None]


def check_distance(atoms: Atoms, label: Label) -> None:
    """Rejected, a clash, if two atoms are closer than any label is worth."""
    closest, limit = minimum_distance(atoms), label.minimum_distance_angstrom
    if closest < limit:
        raise Rejected(Reason.CLASH, f"two atoms are {closest:.3f} Å apart; at least {limit:g} Å expected")


class Calculator(ABC):
    """Computes labels with one section of settings.

    Made, it has read nothing yet: whoever only asks what it foresees needs no file of any element.

    Parameters
    ----------
    label
        Physics and numerics.
    site
        Where programs and files are.
    elements
        All elements of the frames to come; none where no frame comes.
    """

    keeps_output: ClassVar[bool] = False
    """Whether the program prints an output, which is kept with each rejected frame; a clash has none."""
    usual_price: ClassVar[Price] = Price(0.1, 0.05)
    """CPU-s of a label, where nothing better is foreseen."""

    def __init__(self, label: Label, site: Site, elements: Sequence[str] = ()) -> None:
        self.label, self.site, self.elements = label, site, tuple(elements)

    @classmethod
    def at_site(cls, label: Label, site: Site) -> Self:
        """The calculator of all elements that the site has what it takes for."""
        return cls(label, site)

    @property
    def engine(self) -> LabelEngine:
        """Its entry in the table."""
        return LABEL_ENGINES[self.label.engine]

    # ------------------------------------------------------------ what a label is

    @property
    @abstractmethod
    def physics(self) -> Physics:
        """What a label's numbers depend on beside the structure: part of its key in the store, so for ever.

        Plain JSON types. `engine` is the name of the engine. `pseudopotentials`, where it is there, maps elements to
        the sums of their files: a label's own physics has those of its elements only. Values that follow from the
        cell may be rules, which `in_cell` applies.

        Raises
        ------
        ConfigError
            If an element lacks what it takes.
        """

    @classmethod
    def in_cell(cls, physics: Mapping[str, object], cell: NDArray[np.float64]) -> Physics:
        """A physics in a cell (3, 3) in Å, its rules applied; one without rules is returned as it is."""
        return dict(physics)

    @classmethod
    def told(cls, physics: Mapping[str, object]) -> dict[str, str]:
        """A physics as facts for a reader of the report: names and values in words."""
        shown = {key: value for key, value in physics.items() if key not in ("engine", "pseudopotentials")}
        return {words(key): json.dumps(value, ensure_ascii=False).strip('"') for key, value in shown.items()}

    @property
    def numerics(self) -> Numerics:
        """What decides whether a label is reached, not its numbers; a rejected frame is tried again when it changes."""
        return {}

    @abstractmethod
    def compute(self, atoms: Atoms, folder: Path, settings: Label) -> Result:
        """The label of a frame, once the calculator's own whitelist has accepted it.

        Parameters
        ----------
        atoms
            A periodic frame; no two atoms clash.
        folder
            An empty scratch folder.
        settings
            The section of this attempt. An engine with `Capability.TIME_LIMIT` ends after `timeout_seconds`.

        Raises
        ------
        Rejected
            With the typed reason, if there is no label.
        EngineError
            If the program cannot be started: that is the site's failure, and no property of the frame.
        """

    def checked(self, atoms: Atoms, folder: Path, settings: Label) -> Result:
        """`compute`, once no two atoms clash and if its numbers can be those of one label (`gate`); else Rejected."""
        check_distance(atoms, settings)
        result = self.compute(atoms, folder, settings)
        try:
            gate.check_properties(result.properties, len(atoms))
        except DataError as error:
            raise Rejected(Reason.BAD_OUTPUT, str(error)) from None
        return result

    def retry(self, rejection: Rejected, tried: Sequence[str]) -> Attempt | None:
        """The attempt to make after a rejection; None when a further one is of no use.

        Parameters
        ----------
        rejection
            Why the last attempt failed.
        tried
            Names of the attempts made, the first included.
        """
        return None

    def second_opinion(self) -> Label | None:
        """Settings to compute an implausible label with once more, on another path; None where it would be the same."""
        return None

    # ------------------------------------------------------------ before a campaign

    def foresee(self, boxes: Sequence[Box], labels: Iterable[Known]) -> Foresight:
        """What labels of these boxes will be like.

        Parameters
        ----------
        boxes
            The boxes of a campaign.
        labels
            All of the store, read as they are asked for.

        Raises
        ------
        ConfigError
            If a box cannot be labelled with these settings.
        """
        return Foresight({box.multiple: self.usual_price for box in boxes})

    def diagnose(self, frame: Atoms, boxes: Sequence[Box], target_ev_angstrom: float) -> Iterator[Finding]:
        """Whether the site is fit for labels.

        Parameters
        ----------
        frame
            A molecule of two atoms, to be labelled.
        boxes
            The boxes of the campaign.
        target_ev_angstrom
            The error of forces that the campaign aims at.
        """
        yield from made(self.engine.program, lambda: self.single_point(frame))

    def single_point(self, frame: Atoms) -> Iterator[Finding]:
        """One label."""
        name, started = self.engine.name, time.time()
        with tempfile.TemporaryDirectory(prefix="mlpwf-doctor-") as folder:
            try:
                result = self.checked(frame, Path(folder), self.label)
            except Rejected as rejection:
                yield failed(
                    name, str(rejection), "an accepted single point", f"mend or reinstall {self.engine.program}"
                )
                return
        yield ok(name, f"{self.engine.program} {result.version}, a single point in {time.time() - started:.1f} s")

    # ------------------------------------------------------------ labels of other work

    def other_physics(self, name: str, value: object) -> str | None:
        """What this physics has in the place of a value that a file states by a name; None where they agree.

        Parameters
        ----------
        name
            As the file has it, in lower case.
        value
            As it stands there; None is the answer to names that are unknown.
        """
        return None

    @classmethod
    def wrote(cls, head: bytes) -> bool:
        """Whether a file is an output of the program, by its first bytes."""
        return False

    def read_output(self, path: Path) -> Output:
        """The label in an output of the program (`Capability.OUTPUTS`), judged as if it had been computed here.

        Raises
        ------
        Rejected
            If the whitelist does not accept it.
        ForeignError
            If it was computed with other physics.
        UnreadableError
            If it is no output of one label.
        """
        raise self.engine.lacking(Capability.OUTPUTS)

    # ------------------------------------------------------------ what only some can do

    def converged(self, cell: NDArray[np.float64]) -> dict[str, Label]:
        """Settings with one lever converged, by lever (`Capability.LABEL_ERROR`), for a cell (3, 3) in Å."""
        raise self.engine.lacking(Capability.LABEL_ERROR)

    def study(self, request: StudyRequest, bench: Bench) -> Report:
        """The cheapest settings and box that meet a target (`Capability.CONVERGENCE`)."""
        raise self.engine.lacking(Capability.CONVERGENCE)

    def check_pseudopotentials(self, elements: Sequence[str]) -> Report:
        """Whether the files of some elements, or of all of the section, can be used (`Capability.PSEUDOPOTENTIALS`)."""
        raise self.engine.lacking(Capability.PSEUDOPOTENTIALS)

    def benchmark(
        self, atoms: Atoms, folder: Path, *, cores: int | None, memory_mib: float | None, ranks: int | None
    ) -> Report:
        """How labels of a frame share this machine (`Capability.PARALLEL`); None: all cores, all memory, any ranks.

        Raises
        ------
        DataError
            If the frame is rejected.
        """
        raise self.engine.lacking(Capability.PARALLEL)
