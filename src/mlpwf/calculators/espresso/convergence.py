"""The cheapest cut-offs, grid and threshold of a label that meet a target: one lever after the other, cheapest first.

A set of pseudopotentials is compared with its own converged reference only. Two sets
differ by physics, which no cut-off removes. k-points and boxes: `mlpwf.calculators.espresso.box_convergence`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.calculators.espresso.pw import grid_cutoff, kpoints_of
from mlpwf.campaign.records import Settings
from mlpwf.config.label import Label
from mlpwf.errors import ConfigError, DataError
from mlpwf.structures.molecules import split_forces
from mlpwf.structures.properties import Properties
from mlpwf.units import BAR_PER_EV_A3

Floats = NDArray[np.float64]
Lever = Literal[
    "reference", "cut-off", "density cut-off", "FFT grid", "threshold", "k-points", "converged", "box", "configured"
]

CUTOFFS_RY = (20, 25, 30, 35, 40, 45, 50, 55, 60, 70, 80, 90, 100, 120, 140, 160, 180, 200)
RATIOS = (4, 5, 6, 7, 8)
"""Of the density cut-off, and of the FFT grid's, to the wave-function cut-off."""
THRESHOLDS_RY = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
REFERENCE_CUTOFFS_RY = (60, 80, 105, 135, 170, 220)
REFERENCE_RATIO = 10
REFERENCE_THRESHOLD_RY = 1e-10
REFERENCE_SHARE = 1 / 3
"""Two successive references may differ by this share of the target."""
THRESHOLD_SHARE = 1 / 3
"""The SCF threshold alone may change labels by this share: its errors scatter from frame to frame."""
MARGIN = 0.8
"""A setting meets the target when its errors are within this share of it."""


@dataclass(frozen=True)
class Setting:
    """What is varied: cut-offs, SCF threshold, cut-off of the FFT grid (None: the density's), all in Ry, and k-points.

    k-points are the fewest that keep images `image_distance_angstrom` apart; None: Γ alone. `kpoints`, a
    grid or a list of points as `label.kpoints` takes them, is there for what a user has configured.
    """

    cutoff_ry: float
    density_cutoff_ry: float
    convergence_ry: float
    fft_grid_ry: float | None = None
    image_distance_angstrom: float | None = None
    kpoints: Sequence[int] | Sequence[tuple[float, float, float]] | None = field(default=None, hash=False)

    @classmethod
    def of(cls, label: Label) -> Setting:
        """The setting of a label section."""
        asked = label.kpoints
        return cls(
            label.cutoff_ry,
            label.density_cutoff_ry,
            label.convergence_ry,
            label.fft_grid_ry,
            label.image_distance_angstrom if asked == "auto" else None,
            None if isinstance(asked, str) else asked,
        )

    def section(self) -> Settings:
        """The keys of section `label`."""
        found: Settings = {
            "cutoff_ry": self.cutoff_ry,
            "density_cutoff_ry": self.density_cutoff_ry,
            "convergence_ry": self.convergence_ry,
            "fft_grid_ry": self.fft_grid_ry,
        }
        if self.kpoints is not None:
            return found | {"kpoints": self.kpoints}
        if self.image_distance_angstrom is None:
            return found | {"kpoints": "gamma"}
        return found | {"kpoints": "auto", "image_distance_angstrom": self.image_distance_angstrom}

    def __str__(self) -> str:
        grid = "" if self.fft_grid_ry is None else f" on the grid of {self.fft_grid_ry:g} Ry"
        points = "Γ" if self.image_distance_angstrom is None else f"images {self.image_distance_angstrom:g} Å apart"
        if self.kpoints is not None:
            points = f"k-points {[*self.kpoints]}"
        return f"{self.cutoff_ry:g}/{self.density_cutoff_ry:g} Ry{grid}, {self.convergence_ry:.0e} Ry, {points}"


@dataclass(frozen=True)
class Measurement:
    """Labels of the same frames, in the same order of atoms, with one setting; cpu_s is the mean cost of one."""

    labels: Sequence[Properties]
    cpu_s: float


@dataclass(frozen=True)
class Errors:
    """Force in eV/Å, virial and energy in eV/atom; energy None where no two frames can be compared.

    net_force, on a molecule, in eV/Å, is None where frames do not say which atoms are a molecule;
    pressure_kbar is the mean difference with its sign.
    """

    force: float
    virial: float
    energy: float | None = None
    net_force: float | None = None
    pressure_kbar: float | None = None

    def within(self, target: Errors, share: float) -> bool:
        """Whether force and virial are at most `share` of the target."""
        return self.of(target) <= share

    def of(self, target: Errors) -> float:
        """The larger of force and virial in units of the target."""
        return max(self.force / target.force, self.virial / target.virial)


@dataclass(frozen=True)
class Row:
    """A setting that was tried: its errors and mean CPU-s of a label, or why it has none.

    atoms and edge_angstrom (mean cube root of the volume) say in which box; points is the mean number of
    k-points (Γ alone counts as 0, as in `pricing.Size`), image_distance_angstrom the shortest distance of
    uncancelled images over the frames.
    """

    lever: Lever
    setting: Setting
    errors: Errors | None = None
    cpu_s: float | None = None
    failure: str | None = None
    atoms: int | None = None
    edge_angstrom: float | None = None
    points: float | None = None
    image_distance_angstrom: float | None = None

    @property
    def cpu_s_atom(self) -> float | None:
        """CPU-s of a label by atom, the price of a box."""
        return self.cpu_s / self.atoms if self.cpu_s is not None and self.atoms else None


@dataclass
class Study:
    """A set's cut-offs in the order they were rated.

    chosen is the cheapest setting that meets the target, None if none does;
    agreement, how far the last two references differ; reference, the last of them.
    """

    rows: list[Row] = field(default_factory=list)
    chosen: Row | None = None
    agreement: Errors | None = None
    reference: Measurement | None = None

    @property
    def highest(self) -> Row:
        """The row of the reference."""
        return [row for row in self.rows if row.lever == "reference"][-1]


def rate(
    lever: Lever,
    setting: Setting,
    measure: Callable[[Setting], Measurement],
    frames: Sequence[Atoms],
    reference: Measurement | None,
) -> tuple[Row, Measurement | None]:
    """Label frames with a setting; its errors against a reference, if there is one, or why there are no labels.

    Parameters
    ----------
    lever
        What is varied.
    setting
        The setting.
    measure
        Labels of `frames` with a setting; DataError where one is rejected.
    frames
        The structures.
    reference
        Their converged labels.
    """
    try:
        sampled = [kpoints_of(Label().model_copy(update=setting.section()), atoms.cell.array) for atoms in frames]
    except ConfigError as error:  # a cell that needs too many, under the user's own rule
        return Row(lever, setting, failure=str(error), atoms=len(frames[0])), None
    row = Row(
        lever,
        setting,
        atoms=round(float(np.mean([len(atoms) for atoms in frames]))),
        edge_angstrom=float(np.mean([np.cbrt(atoms.get_volume()) for atoms in frames])),
        points=float(np.mean([0 if points.is_gamma else len(points.points) for points in sampled])),
        image_distance_angstrom=min(
            points.image_distance(atoms.cell.array) for points, atoms in zip(sampled, frames, strict=True)
        ),
    )
    try:
        found = measure(setting)
    except DataError as error:
        return replace(row, failure=str(error)), None
    rating = None if reference is None else errors(found, reference, frames)
    return replace(row, errors=rating, cpu_s=found.cpu_s), found


def errors(found: Measurement, expected: Measurement, frames: Sequence[Atoms]) -> Errors:
    """Largest error over the frames, each a root mean square over its own components.

    Forces and virials are compared as they are, in the same cell. Absolute energies carry an error of
    each atom that cancels between frames of the same composition, so energies are
    compared by their deviation from the mean of all frames of that composition. The net force on a molecule is
    there where every frame has the array ``molecule``; the error of the pressure is the mean over the frames.

    Parameters
    ----------
    found, expected
        Labels of `frames`; `expected` those of the reference.
    frames
        The structures.

    Raises
    ------
    ValueError
        If the measurements are not of these frames.
    """
    shapes = [[label.forces.shape for label in one.labels] for one in (found, expected)]
    if shapes[0] != shapes[1] or len(shapes[0]) != len(frames):
        raise ValueError(f"forces have shapes {shapes[0]} and {shapes[1]} for {len(frames)} frames; expected the same")
    apart = [one - other for one, other in zip(found.labels, expected.labels, strict=True)]
    return Errors(
        max(_rms(error.forces) for error in apart),
        max(_rms(error.virial / len(error.forces)) for error in apart),
        _energy(apart, frames),
        _net_force(apart, frames),
        1e-3 * BAR_PER_EV_A3 * float(np.mean([error.pressure for error in apart])),
    )


def _energy(apart: Sequence[Properties], frames: Sequence[Atoms]) -> float | None:
    """Largest deviation from the mean of a composition, in eV per atom; None where no two frames are of one."""
    alike: dict[str, list[Properties]] = defaultdict(list)
    for atoms, error in zip(frames, apart, strict=True):
        alike[atoms.get_chemical_formula()].append(error)
    deviations = [
        abs(error.energy - float(np.mean([one.energy for one in group]))) / len(error.forces)
        for group in alike.values()
        if len(group) > 1
        for error in group
    ]
    return max(deviations, default=None)


def _net_force(apart: Sequence[Properties], frames: Sequence[Atoms]) -> float | None:
    """Error of the net force on a molecule in eV/Å (`mlpwf.potentials.metrics.error_measures`); the worst frame's."""
    if not all("molecule" in atoms.arrays for atoms in frames):
        return None
    parts = [
        split_forces(error.forces, atoms.get_masses(), atoms.arrays["molecule"])[0]
        for error, atoms in zip(apart, frames, strict=True)
    ]
    return max(_rms(part) for part in parts)


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def converge(
    measure: Callable[[Setting], Measurement],
    frames: Sequence[Atoms],
    target: Errors,
    highest_ry: float,
    told: Callable[[Row], None] = lambda row: None,
) -> Study:
    """The cheapest cut-offs, grid and threshold of one set of pseudopotentials that meet the target, all at Γ.

    Errors of k-points and of cut-offs add: a plane wave cut off changes bonds and cores, a k-point couplings
    between images. So each is scanned with the other cheap, and `box_convergence.converge_box`
    measures what both leave together.

    The reference: cut-offs of `REFERENCE_CUTOFFS_RY`, density cut-offs ten times as
    high, SCF threshold 1e-10 Ry, raised until two in a row differ by no more than a
    third of the target; the higher of the two is the reference. Errors fall with
    the cut-off, so that what is left in it is less than that difference.

    Then one lever after the other, each from its cheapest value upward until the
    target is met with margin (errors at most 0.8 of it), with all later levers as in
    the reference: wave-function cut-off, density cut-off, the FFT grid on which
    exchange and correlation are evaluated, SCF threshold. A lever none of whose
    values meets the target stays as in the reference.

    Parameters
    ----------
    measure
        Labels of `frames` with a setting.
    frames
        The structures.
    target
        Errors allowed in force and virial.
    highest_ry
        Highest wave-function cut-off to try.
    told
        Called with each row as it is rated.

    Returns
    -------
    Study
        With `chosen` None if no two references agree or a reference has no labels.
    """
    study = Study()

    def tried(lever: Lever, setting: Setting) -> tuple[Row, Measurement | None]:
        row, found = rate(lever, setting, measure, frames, study.reference)
        study.rows.append(row)
        told(row)
        return row, found

    def scan(
        lever: Lever, settings: Iterable[Setting], best: tuple[Row, Measurement], share: float = np.inf
    ) -> tuple[Row, Measurement]:
        for setting in settings:
            row, found = tried(lever, setting)
            if row.errors is None or found is None or not row.errors.within(target, MARGIN):
                continue
            if errors(found, best[1], frames).within(target, share):
                return row, found
        return best

    for reference_ry in (value for value in REFERENCE_CUTOFFS_RY if value <= highest_ry):
        row, study.reference = tried("reference", reference_of(reference_ry))
        study.agreement = row.errors
        if row.failure or (row.errors is not None and row.errors.within(target, REFERENCE_SHARE)):
            break
    reference = study.reference
    if reference is None or study.agreement is None or not study.agreement.within(target, REFERENCE_SHARE):
        return study
    best = replace(row, errors=Errors(0.0, 0.0)), reference
    below = (value for value in CUTOFFS_RY if value < row.setting.cutoff_ry)
    best = scan("cut-off", (reference_of(value) for value in below), best)
    cutoff = best[0].setting.cutoff_ry
    best = scan("density cut-off", (density_setting(cutoff, value) for value in _multiples(cutoff)), best)
    density = best[0].setting.density_cutoff_ry
    grids = (_on_grid(cutoff, density, value, frames) for value in _multiples(cutoff) if value >= density)
    best = scan("FFT grid", dict.fromkeys(grids), best)
    grid = best[0].setting.fft_grid_ry
    settings = (Setting(cutoff, density, threshold, grid) for threshold in THRESHOLDS_RY)
    study.chosen, _ = scan("threshold", settings, best, THRESHOLD_SHARE)
    return study


def reference_of(cutoff_ry: float) -> Setting:
    """A reference's setting: all other levers far beyond what a cut-off needs."""
    return Setting(cutoff_ry, REFERENCE_RATIO * cutoff_ry, REFERENCE_THRESHOLD_RY)


def density_setting(cutoff_ry: float, density_cutoff_ry: float) -> Setting:
    """That of a reference but for the density cut-off; its grid stays."""
    return Setting(cutoff_ry, density_cutoff_ry, REFERENCE_THRESHOLD_RY, REFERENCE_RATIO * cutoff_ry)


def _on_grid(cutoff_ry: float, density_cutoff_ry: float, grid_ry: float, frames: Sequence[Atoms]) -> Setting:
    """With the grids of these frames that hold a cut-off, named by one that gives other frames as dense a grid."""
    setting = Setting(cutoff_ry, density_cutoff_ry, REFERENCE_THRESHOLD_RY, grid_ry)
    return replace(setting, fft_grid_ry=grid_cutoff((atoms.cell.array for atoms in frames), setting))


def _multiples(cutoff_ry: float) -> list[float]:
    """Density cut-offs to try; at four times the cut-off exactly pw.x has one grid for wave functions and density."""
    return [max(ratio * cutoff_ry, 4 * cutoff_ry + 1) for ratio in RATIOS]
