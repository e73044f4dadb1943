"""What a study of convergence writes and prints."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import yaml
from ase import Atoms

from mlpwf import __version__
from mlpwf.calculators.base import Report, StudiedFrame
from mlpwf.calculators.espresso.box_convergence import Box, cheapest
from mlpwf.calculators.espresso.convergence import MARGIN, Errors, Row, Study, errors
from mlpwf.calculators.espresso.study_figure import panels
from mlpwf.campaign.records import Settings
from mlpwf.config.label import Label
from mlpwf.figures import lines, to_svg
from mlpwf.tables import table

HEADER = (
    "set", "lever", "cutoff_ry", "density_cutoff_ry", "fft_grid_ry", "convergence_ry", "force_rms_ev_angstrom",
    "virial_rms_ev_atom", "energy_difference_ev_atom", "cpu_s", "relative_cost", "failure", "atoms", "edge_angstrom",
    "kpoints", "image_distance_angstrom", "net_force_rms_ev_angstrom", "pressure_error_kbar", "cpu_s_atom",
)  # fmt: skip
SHOWN = {
    "set": "set", "atoms": "atoms", "lever": "lever", "cutoff_ry": "Ry", "density_cutoff_ry": "density Ry",
    "fft_grid_ry": "FFT grid Ry", "convergence_ry": "threshold Ry", "kpoints": "k-points",
    "image_distance_angstrom": "images Å", "force_rms_ev_angstrom": "force eV/Å",
    "virial_rms_ev_atom": "virial eV/atom", "pressure_error_kbar": "pressure kbar", "cpu_s": "CPU-s",
    "cpu_s_atom": "CPU-s/atom", "relative_cost": "cost", "failure": "failure",
}  # fmt: skip
"""Columns that are printed, by their name in converge.csv."""


@dataclass
class Result:
    """All of a study: sets, target, frames by number of atoms and what they are, and what was found by name of the set.

    The first set is the configured one.

    multiples says, by number of atoms, how many times the molecules of the system a box holds, None if it is no
    multiple; it is empty where no system is given.
    """

    sets: Mapping[str, Label]
    target: Errors
    sizes: Mapping[int, list[Atoms]]
    about: Sequence[StudiedFrame]
    studies: dict[str, Study] = field(default_factory=dict)
    boxes: dict[str, list[Box]] = field(default_factory=dict)
    multiples: Mapping[int, int | None] = field(default_factory=dict)

    @property
    def configured(self) -> str:
        """Name of the configured set."""
        return next(iter(self.sets))

    def present(self, atoms: int | None) -> Row | None:
        """The configured settings on boxes of so many atoms."""
        return next((box.configured for box in self.boxes[self.configured] if box.atoms == atoms), None)


def report(result: Result) -> Report:
    """converge.csv, converge.json, converge.svg if anything meets the target, and the lines to print."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *_rows(result)])
    summary = _summary(result)
    drawn = summary.recommended is not None
    files = {
        "converge.csv": text.getvalue(),
        "converge.json": asdict(summary),
        "converge.svg": to_svg(lines(panels(result.studies, result.boxes, result.target)), "converge")
        if drawn
        else None,
    }
    return Report(list(_lines(result)), files)


def _rows(result: Result) -> Iterator[tuple[str, ...]]:
    """The rows of converge.csv; relative cost is that to the configured settings on boxes of the same size."""
    for name, study in result.studies.items():
        for row in [*study.rows, *(one for box in result.boxes[name] for one in box.rows)]:
            present = result.present(row.atoms)
            whole = None if present is None else present.cpu_s
            varied, found = row.setting, row.errors
            setting = (varied.cutoff_ry, varied.density_cutoff_ry, varied.fft_grid_ry, varied.convergence_ry)
            rated = (None, None, None) if found is None else (found.force, found.virial, found.energy)
            cost = (row.cpu_s, _relative(row.cpu_s, whole))
            where = (row.atoms, row.edge_angstrom, row.points, row.image_distance_angstrom)
            further = (None, None) if found is None else (found.net_force, found.pressure_kbar)
            yield (
                name,
                row.lever,
                *map(_number, (*setting, *rated, *cost)),
                row.failure or "",
                *map(_number, (*where, *further, row.cpu_s_atom)),
            )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


@dataclass(frozen=True)
class Place:
    """Boxes of one size."""

    atoms: int
    molecules: int | None
    edge_angstrom: float | None
    box_multiple: int | None
    """How many times the molecules of the system."""


@dataclass(frozen=True)
class OfBox(Place):
    """What was found in boxes of one size."""

    kpoints_differ: Errors | None
    """How far the last k-points are from those nearer."""
    kpoints_converged: bool
    cheapest: Row | None
    configured: Row | None


@dataclass(frozen=True)
class OfSet:
    """What was found of one set of pseudopotentials."""

    pseudopotentials: Mapping[str, str]
    reference: Settings
    references_differ: Errors | None
    forces_differ_from_configured_set: float | None
    """In eV/Å."""
    cheapest: Row | None
    boxes: list[OfBox]


@dataclass(frozen=True)
class Target:
    """The errors allowed, and the share of them that a lever may take."""

    force_ev_angstrom: float
    virial_ev_atom: float
    margin: float


@dataclass(frozen=True)
class Summary:
    """The content of converge.json: each set's cheapest setting, and the cheapest of all."""

    mlpwf: str
    target: Target
    sets: Mapping[str, OfSet]
    configured: Row | None
    recommended_set: str | None
    recommended: Settings | None
    recommended_box: Place | None
    cpu_s: float | None
    cpu_s_atom: float | None
    relative_cost: float | None
    frames: Sequence[StudiedFrame]


def _summary(result: Result) -> Summary:
    """All that was found."""
    best = cheapest(result.boxes, result.target)
    name, box, row = best if best is not None else (None, None, None)
    present = None if box is None else result.present(box.atoms)
    return Summary(
        mlpwf=__version__,
        target=Target(result.target.force, result.target.virial, MARGIN),
        sets={name: _of_set(result, name) for name in result.studies},
        configured=result.present(min(result.sizes)),
        recommended_set=name,
        recommended=None if name is None or row is None else _recommended(result, name, row),
        recommended_box=None if box is None else _place(result, box),
        cpu_s=None if row is None else row.cpu_s,
        cpu_s_atom=None if row is None else row.cpu_s_atom,
        relative_cost=None if row is None else _relative(row.cpu_s, None if present is None else present.cpu_s),
        frames=result.about,
    )


def _recommended(result: Result, name: str, row: Row) -> Settings:
    """The keys of section `label` for a row of a set."""
    section = row.setting.section()
    other = {} if name == result.configured else {"pseudopotentials": result.sets[name].pseudopotentials}
    return section | other


def _relative(cpu_s: float | None, present_s: float | None) -> float | None:
    """A cost in units of that of the present settings."""
    return cpu_s / present_s if cpu_s and present_s else None


def _place(result: Result, box: Box) -> Place:
    """What boxes those are."""
    first = next(one for one in result.about if one.atoms == box.atoms)
    return Place(box.atoms, first.molecules, box.rows[-1].edge_angstrom, result.multiples.get(box.atoms))


def _of_set(result: Result, name: str) -> OfSet:
    """What was found of one set of pseudopotentials."""
    study, boxes = result.studies[name], result.boxes[name]
    found = cheapest({name: boxes}, result.target)
    return OfSet(
        pseudopotentials=result.sets[name].pseudopotentials,
        reference=study.highest.setting.section(),
        references_differ=study.agreement,
        forces_differ_from_configured_set=_difference(result, study),
        cheapest=None if found is None else found[2],
        boxes=[_of_size(result, box) for box in boxes],
    )


def _of_size(result: Result, box: Box) -> OfBox:
    """What was found in boxes of one size."""
    place = _place(result, box)
    return OfBox(
        place.atoms, place.molecules, place.edge_angstrom, place.box_multiple,
        box.agreement, box.converged, box.best(result.target), box.configured,
    )  # fmt: skip


def _difference(result: Result, study: Study) -> float | None:
    """Error of a set's reference forces against the configured set's in eV/Å: physics, which no cut-off removes."""
    present = result.studies[result.configured].reference
    if present is None or study.reference is None:
        return None
    return errors(study.reference, present, result.sizes[min(result.sizes)]).force


def _lines(result: Result) -> Iterator[str]:
    """The lines printed at the end."""
    places = [HEADER.index(name) for name in SHOWN]
    rows = [tuple(row[k] or "-" for k in places) for row in _rows(result)]
    points = list(SHOWN).index("kpoints")
    rows = [tuple("Γ" if k == points and cell == "0" else cell for k, cell in enumerate(row)) for row in rows]
    yield from table([tuple(SHOWN.values()), *rows])
    summary = _summary(result)
    wanted = f"{result.target.force:g} eV/Å and {result.target.virial:g} eV/atom"
    for name, study in result.studies.items():
        differ = summary.sets[name].forces_differ_from_configured_set
        if study.chosen is None:
            yield f"{name}: nothing meets {wanted}; {_best(study)}"
            continue
        if name != result.configured and differ is not None:
            yield f"{name}: forces differ from the configured set's by {differ:.4f} eV/Å RMS, which is physics"
        for box in result.boxes[name]:
            yield f"{name}, boxes of {box.atoms} atoms: {_of_box(box, result.target, wanted)}"
    yield from _recommendation(result, summary, wanted)


def _recommendation(result: Result, summary: Summary, wanted: str) -> Iterator[str]:
    """The cheapest settings of all, and the lines of the campaign's file that have them; none: nothing is printed."""
    best, where, share = cheapest(result.boxes, result.target), summary.recommended_box, summary.relative_cost
    if best is None or where is None or best[2].errors is None:
        return
    found, count = best[2].errors, "" if where.molecules is None else f", {where.molecules} molecules"
    yield (
        f"cheapest settings within {wanted}: {summary.cpu_s:.1f} CPU-s a label"
        + ("" if share is None else f", {share:.2f} of the present settings' cost")
        + f"; force {found.force:.4f} eV/Å, virial {found.virial:.4f} eV/atom"
        + f", measured in boxes of {where.atoms} atoms{count}, {where.edge_angstrom:.2f} Å"
    )
    section: dict[str, Settings | None] = {"label": summary.recommended}
    if where.box_multiple is not None:
        section["build"] = {"box_multiples": [where.box_multiple]}
    elif result.multiples:
        yield f"boxes of {where.atoms} atoms are no multiple of the molecules of --system: change their counts"
    elif len(result.sizes) > 1:
        yield "give --system, the resolved section, to have this box as build.box_multiples"
    yield yaml.safe_dump(section, sort_keys=False).rstrip()


def _of_box(box: Box, target: Errors, wanted: str) -> str:
    """What was found in boxes of one size."""
    best = box.best(target)
    if best is not None and best.errors is not None:
        found = best.errors
        net = "" if found.net_force is None else f", net force {found.net_force:.4f} eV/Å"
        return (
            f"{best.setting}: force {found.force:.4f} eV/Å{net}, virial {found.virial:.4f} eV/atom, pressure "
            f"{found.pressure_kbar:+.2f} kbar; {best.cpu_s:.1f} CPU-s a label, {best.cpu_s_atom:.3f} an atom"
        )
    failure = next((row.failure for row in reversed(box.rows) if row.failure), None)
    if not box.converged:
        last = [row for row in box.rows if row.lever == "k-points"][-1]
        differ = failure if box.agreement is None else (
            f"the last, {last.image_distance_angstrom or 0:.1f} Å, differ from those nearer by "
            f"{box.agreement.force:.4f} eV/Å and {box.agreement.virial:.4f} eV/atom"
        )  # fmt: skip
        return f"k-points do not converge: {differ}; take a larger box or loosen the target"
    closest = box.closest
    if closest is None or closest.errors is None:
        return f"no label converged in k-points and cut-offs: {failure}"
    return (
        f"nothing meets {wanted}; the closest is {closest.setting}: force {closest.errors.force:.4f} eV/Å, virial "
        f"{closest.errors.virial:.4f} eV/atom: take a larger box or loosen the target"
    )


def _best(study: Study) -> str:
    """What was found where no cut-offs met the target."""
    last = study.highest
    if last.errors is None:
        return str(last.failure)
    return (
        f"the best is {last.setting}, which differs from the cut-off below by {last.errors.force:.4f} eV/Å "
        f"and {last.errors.virial:.4f} eV/atom: raise --highest or loosen the target"
    )
