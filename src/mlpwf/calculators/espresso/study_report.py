"""What a study of convergence writes and prints."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml
from ase import Atoms

from mlpwf import __version__
from mlpwf.calculators.base import Report
from mlpwf.calculators.espresso.box_convergence import Box, cheapest
from mlpwf.calculators.espresso.convergence import MARGIN, Errors, Row, Study, errors
from mlpwf.calculators.espresso.study_figure import panels
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
    about: Sequence[Mapping[str, Any]]
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
    drawn = summary["recommended"] is not None
    files = {
        "converge.csv": text.getvalue(),
        "converge.json": summary,
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
            cost = (row.cpu_s, row.cpu_s / whole if row.cpu_s and whole else None)
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


def _summary(result: Result) -> dict[str, Any]:
    """The content of converge.json: each set's cheapest setting, and the cheapest of all."""
    target, first = result.target, result.present(min(result.sizes))
    best = cheapest(result.boxes, target)
    recommended: dict[str, Any] | None = None
    present = None
    if best is not None:
        name, box, row = best
        recommended = row.setting.section()
        if name != result.configured:
            recommended["pseudopotentials"] = result.sets[name].pseudopotentials
        present = result.present(box.atoms)
    return {
        "mlpwf": __version__,
        "target": {"force_ev_angstrom": target.force, "virial_ev_atom": target.virial, "margin": MARGIN},
        "sets": {name: _of_set(result, name) for name in result.studies},
        "configured": None if first is None else asdict(first),
        "recommended_set": None if best is None else best[0],
        "recommended": recommended,
        "recommended_box": None if best is None else _box(result, best[1]),
        "cpu_s": None if best is None else best[2].cpu_s,
        "cpu_s_atom": None if best is None else best[2].cpu_s_atom,
        "relative_cost": (
            None
            if best is None or present is None or not present.cpu_s or best[2].cpu_s is None
            else best[2].cpu_s / present.cpu_s
        ),
        "frames": result.about,
    }


def _box(result: Result, box: Box) -> dict[str, Any]:
    """What box that is."""
    members = [one for one in result.about if one["atoms"] == box.atoms]
    return {
        "atoms": box.atoms,
        "molecules": members[0]["molecules"],
        "edge_angstrom": box.rows[-1].edge_angstrom,
        "box_multiple": result.multiples.get(box.atoms),
    }


def _of_set(result: Result, name: str) -> dict[str, Any]:
    """What was found of one set of pseudopotentials."""
    study, boxes = result.studies[name], result.boxes[name]
    found = cheapest({name: boxes}, result.target)
    return {
        "pseudopotentials": result.sets[name].pseudopotentials,
        "reference": study.highest.setting.section(),
        "references_differ": None if study.agreement is None else asdict(study.agreement),
        "forces_differ_from_configured_set": _difference(result, study),
        "cheapest": None if found is None else asdict(found[2]),
        "boxes": [
            {
                **_box(result, box),
                "kpoints_differ": None if box.agreement is None else asdict(box.agreement),
                "kpoints_converged": box.converged,
                "cheapest": None if (best := box.best(result.target)) is None else asdict(best),
                "configured": None if box.configured is None else asdict(box.configured),
            }
            for box in boxes
        ],
    }


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
        differ = summary["sets"][name]["forces_differ_from_configured_set"]
        if study.chosen is None:
            yield f"{name}: nothing meets {wanted}; {_best(study)}"
            continue
        if name != result.configured and differ is not None:
            yield f"{name}: forces differ from the configured set's by {differ:.4f} eV/Å RMS, which is physics"
        for box in result.boxes[name]:
            yield f"{name}, boxes of {box.atoms} atoms: {_of_box(box, result.target, wanted)}"
    if summary["recommended"] is None:
        return
    share, where = summary["relative_cost"], summary["recommended_box"]
    found = summary["sets"][summary["recommended_set"]]["cheapest"]["errors"]
    count = "" if where["molecules"] is None else f", {where['molecules']} molecules"
    yield (
        f"cheapest settings within {wanted}: {summary['cpu_s']:.1f} CPU-s a label"
        + ("" if share is None else f", {share:.2f} of the present settings' cost")
        + f"; force {found['force']:.4f} eV/Å, virial {found['virial']:.4f} eV/atom"
        + f", measured in boxes of {where['atoms']} atoms{count}, {where['edge_angstrom']:.2f} Å"
    )
    section: dict[str, Any] = {"label": summary["recommended"]}
    if where["box_multiple"] is not None:
        section["build"] = {"box_multiples": [where["box_multiple"]]}
    elif result.multiples:
        yield f"boxes of {where['atoms']} atoms are no multiple of the molecules of --system: change their counts"
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
