"""Where every file of a campaign lies: rules, commands, status, plan, report and tests ask here.

    results/NAME/                       Campaign
        config/                         config, cycle_config, state_config
        build/                          build
        test/label/                     test
        cycle/NNN/{label,train,explore,select,validate}/    cycle
        arm/NAME/SEED/NNN/{label,train}/                    arms, line
        label/error.{json,csv}          label_error, label_error_table
        train/{longer,final}/           longer, final
        validate/                       validate
        simulate/STATE/                 simulate
        analyse/, report/               analyse, report

Numbers are written with three digits; a rule's wildcard (`"{cycle}"`) stands for any.
Only the standard library is imported: Snakemake parses the rules in every job of a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Number = int | str


def three_digits(number: Number) -> str:
    """`007` of 7; a wildcard stays as it is."""
    return f"{number:03d}" if isinstance(number, int) else number


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """Folders named by digits, in the order of their numbers; none where `folder` is not there."""
    if not folder.is_dir():
        return []
    return sorted((int(path.name), path) for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def named(folder: Path) -> list[Path]:
    """Folders by name, hidden ones left out; none where `folder` is not there."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


@dataclass(frozen=True)
class Folder:
    """A folder of a campaign; it need not be there."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __str__(self) -> str:
        return str(self.path)


class Build(Folder):
    """Frames the campaign starts from."""

    @property
    def start(self) -> Path:
        """Frames to be labelled first."""
        return self / "start.extxyz"

    @property
    def test(self) -> Path:
        """Frames of the test set."""
        return self / "test.extxyz"

    @property
    def bulk(self) -> Path:
        """Boxes that walkers start from."""
        return self / "bulk.extxyz"

    @property
    def molecules(self) -> Path:
        """One frame for each species."""
        return self / "molecules.extxyz"

    @property
    def summary(self) -> Path:
        """What was built."""
        return self / "summary.json"


class Label(Folder):
    """Labels of one set of frames."""

    @property
    def labels(self) -> Path:
        """Labelled frames."""
        return self / "labels.extxyz"

    @property
    def summary(self) -> Path:
        """Counts, physics and costs."""
        return self / "summary.json"

    @property
    def batches(self) -> Path:
        """Folder of the batches' records."""
        return self / "batch"

    def batch(self, number: Number) -> Path:
        """Record of a batch that is done."""
        return self.batches / f"{three_digits(number)}.json"

    def progress(self, number: Number) -> Path:
        """How far a batch is."""
        return self.batches / f"{three_digits(number)}.progress.json"


class Model(Folder):
    """One trained model; its files are named by the engine."""

    @property
    def check(self) -> Path:
        """Record of the model: settings, inputs, hashes."""
        return self / "check.json"


class Train(Folder):
    """A committee and its errors."""

    @property
    def models(self) -> Path:
        """Folder of the committee's models."""
        return self / "model"

    def model(self, index: int | str) -> Model:
        """Model `index` of the committee, from 0."""
        return Model(self.models / str(index))

    @property
    def errors(self) -> Path:
        """Errors on test, training and new labels."""
        return self / "errors.json"

    @property
    def parity(self) -> Path:
        """Label and prediction of each quantity of the test set."""
        return self / "parity.csv"

    @property
    def calibration(self) -> Path:
        """What a deviation of the committee is worth."""
        return self / "calibration.json"

    @property
    def pairs(self) -> Path:
        """Pairs of deviation and error behind the calibration."""
        return self / "pairs.csv"


class Explore(Folder):
    """Walkers of one state."""

    @property
    def frames(self) -> Path:
        """Explored frames."""
        return self / "frames.extxyz"

    @property
    def deviations(self) -> Path:
        """The committee's deviation along each walker."""
        return self / "deviations.csv"

    @property
    def walkers(self) -> Path:
        """How each walker ended."""
        return self / "walkers.json"


class Select(Folder):
    """Frames selected for labelling."""

    @property
    def frames(self) -> Path:
        """Frames to label next."""
        return self.selected("frames")

    @property
    def decisions(self) -> Path:
        """Verdict on every explored frame."""
        return self / "decisions.csv"

    @property
    def status(self) -> Path:
        """Whether the campaign continues, and why."""
        return self / "status.json"

    def selected(self, name: str) -> Path:
        """Frames selected: by the campaign's own rule (`frames`), or by a baseline (`arm/random/1`)."""
        return self / f"{name}.extxyz"


class Validate(Folder):
    """A model rated on labels and in runs of its own."""

    @property
    def errors(self) -> Path:
        """Errors on the test set."""
        return self / "errors.json"

    @property
    def parity(self) -> Path:
        """Label and prediction of each quantity of the test set."""
        return self / "parity.csv"

    @property
    def runs(self) -> Path:
        """Verdict on each run."""
        return self / "runs.json"

    @property
    def verdict(self) -> Path:
        """Whether the model is fit for production."""
        return self / "verdict.json"

    @property
    def nve(self) -> Path:
        """Energies of the run at constant energy."""
        return self / "nve.csv"

    @property
    def rdf(self) -> Path:
        """Radial distribution of centres of mass."""
        return self / "rdf.csv"

    @property
    def liquid(self) -> Path:
        """Samples of density, g(r) and diffusion."""
        return self / "liquid.json"


class Cycle(Folder):
    """One cycle of label, train, explore, select and, where liquids are compared, validate."""

    @property
    def label(self) -> Label:
        """Labels of this cycle."""
        return Label(self / "label")

    @property
    def train(self) -> Train:
        """Committee of this cycle."""
        return Train(self / "train")

    @property
    def states(self) -> Path:
        """Folder of the explored states."""
        return self / "explore"

    def explore(self, state: str) -> Explore:
        """Walkers of `state`."""
        return Explore(self.states / state)

    @property
    def select(self) -> Select:
        """Selection of this cycle."""
        return Select(self / "select")

    @property
    def validate(self) -> Validate:
        """Runs of this cycle's first model."""
        return Validate(self / "validate")


class Line(Folder):
    """A line of cycles: the campaign's own (`cycle`), or a baseline's (`arm/random/1`)."""

    @property
    def cycles(self) -> list[tuple[int, Cycle]]:
        """The cycles that have begun, with their numbers."""
        return [(number, Cycle(path)) for number, path in numbered(self.path)]

    def cycle(self, number: Number) -> Cycle:
        """A cycle, from 0."""
        return Cycle(self / three_digits(number))


class Segment(Folder):
    """One segment of a production run."""

    @property
    def summary(self) -> Path:
        """Where the segment begins and ends, and how."""
        return self / "summary.json"


class State(Folder):
    """The production run of one state."""

    @property
    def segments(self) -> Path:
        """Folder of the segments."""
        return self / "segment"

    def segment(self, number: Number) -> Segment:
        """A segment, from 0."""
        return Segment(self.segments / three_digits(number))

    def work(self, number: Number) -> Path:
        """Folder of a segment in progress."""
        return self / "work" / three_digits(number)

    def progress(self, number: Number) -> Path:
        """How far a segment in progress is."""
        return self.work(number) / "progress.json"

    def run(self, length_ps: str) -> Path:
        """How far the run came when it was as long as asked."""
        return self / "run" / f"{length_ps}ps.json"


class Analyse(Folder):
    """Tables and figures of the dynamics."""

    def table(self, name: str) -> Path:
        """A table."""
        return self / f"{name}.csv"

    @property
    def summary(self) -> Path:
        """Settings, inputs and definitions."""
        return self / "summary.json"


class Final(Folder):
    """The model a campaign ends with."""

    @property
    def record(self) -> Path:
        """Cycle, verdict and hashes."""
        return self / "final.json"


class Report(Folder):
    """The report."""

    @property
    def page(self) -> Path:
        """The page."""
        return self / "report.html"


class Campaign(Folder):
    """A campaign's folder, RESULTS/NAME."""

    def config(self, section: str) -> Path:
        """A resolved section."""
        return self / "config" / f"{section}.json"

    def cycle_config(self, cycle: Number, section: str) -> Path:
        """A resolved section as one cycle goes by it."""
        return self / "config" / "cycle" / three_digits(cycle) / f"{section}.json"

    def state_config(self, state: str) -> Path:
        """What the trajectory of one state depends on."""
        return self / "config" / "simulate" / f"{state}.json"

    @property
    def build(self) -> Build:
        """Frames the campaign starts from."""
        return Build(self / "build")

    @property
    def test(self) -> Label:
        """Labels of the test set."""
        return self.set("test")

    def line(self, name: str) -> Line:
        """A line of cycles: `cycle`, or `arm/NAME/SEED`."""
        return Line(self / name)

    @property
    def cycles(self) -> list[tuple[int, Cycle]]:
        """The campaign's own cycles that have begun, with their numbers."""
        return self.line("cycle").cycles

    def cycle(self, number: Number) -> Cycle:
        """A cycle of the campaign's own, from 0."""
        return self.line("cycle").cycle(number)

    def arms(self, name: str) -> list[Line]:
        """A baseline's lines of cycles that have begun, one a seed."""
        return [Line(path) for _, path in numbered(self / "arm" / name)]

    def set(self, name: str) -> Label:
        """Labels of a set of frames: `test`, `cycle/NNN` or `arm/NAME/SEED/NNN`."""
        return Label(self / name / "label")

    @property
    def label_error(self) -> Path:
        """The error of the labels themselves."""
        return self / "label" / "error.json"

    @property
    def label_error_table(self) -> Path:
        """The same as a table."""
        return self / "label" / "error.csv"

    @property
    def longer(self) -> Model:
        """The model of `train.steps_final`."""
        return Model(self / "train" / "longer")

    @property
    def final(self) -> Final:
        """The model the campaign ends with."""
        return Final(self / "train" / "final")

    @property
    def validate(self) -> Validate:
        """The final model, rated."""
        return Validate(self / "validate")

    @property
    def states(self) -> list[str]:
        """States of production runs that have begun."""
        return [path.name for path in named(self / "simulate") if (path / "segment").is_dir()]

    def simulate(self, state: str) -> State:
        """The production run of a state."""
        return State(self / "simulate" / state)

    @property
    def analyse(self) -> Analyse:
        """Tables and figures of the dynamics."""
        return Analyse(self / "analyse")

    @property
    def report(self) -> Report:
        """The report."""
        return Report(self / "report")
