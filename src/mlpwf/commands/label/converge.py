"""`mlpwf label converge`: the cheapest settings that meet a target, found before a campaign."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.accounting import accounted
from mlpwf.config import Label, Site, load_section, one_line, read_yaml
from mlpwf.engines.process import live_with
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sole_writer, write_json, write_text
from mlpwf.tables import table

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.labels.convergence import Errors, Measurement, Row, Setting, Study

log = logging.getLogger(__name__)

PRESENT = "configured"
TITLES = (
    "set", "lever", "Ry", "density Ry", "FFT grid Ry", "threshold Ry", "force eV/Å", "virial eV/atom",
    "energy eV/atom", "CPU-s", "cost", "failure",
)  # fmt: skip
HEADER = (
    "set", "lever", "cutoff_ry", "density_cutoff_ry", "fft_grid_ry", "convergence_ry", "force_rms_ev_angstrom",
    "virial_rms_ev_atom", "energy_difference_ev_atom", "cpu_s", "relative_cost", "failure",
)  # fmt: skip


def label_converge(
    config: Annotated[Path, typer.Option(help="resolved section `label`: the present settings")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    frames: Annotated[Path, typer.Option(help="frames of the system, extended XYZ")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    force: Annotated[float, typer.Option(min=1e-4, help="error allowed in forces, eV/Å RMS")] = 0.005,
    virial: Annotated[float, typer.Option(min=1e-4, help="error allowed in virials, eV/atom RMS")] = 0.002,
    sample: Annotated[int, typer.Option(min=1, help="frames to compare, chosen as different as can be")] = 3,
    pseudopotentials: Annotated[
        list[Path] | None,
        typer.Option(help="a further set to study: YAML, a file name for each element; repeat for each set"),
    ] = None,
    highest: Annotated[float, typer.Option(min=80, help="highest wave-function cut-off to try, Ry")] = 220.0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="labels side by side; unset: cores over label_threads of the site")
    ] = None,
) -> None:
    """Find the cheapest settings whose forces and virials are within a target; every label goes to the store."""
    from mlpwf.frames import element_order, read_frames
    from mlpwf.labels.convergence import Errors, Setting, choose_frames, converge
    from mlpwf.labels.labeller import Labeller
    from mlpwf.labels.layout import machine_cores

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    if settings.engine != "qe":
        raise ConfigError(f"label.engine is {settings.engine}, which has no cut-offs; expected qe")
    sets = _sets(settings, pseudopotentials or [])
    everything = read_frames(frames)
    indices = choose_frames(everything, sample)
    chosen = [everything[index] for index in indices]
    target = Errors(force, virial)
    present = Setting(settings.cutoff_ry, settings.density_cutoff_ry, settings.convergence_ry, settings.fft_grid_ry)
    folder = out / "converge.work"
    for one in sets.values():
        Labeller(one, place, folder, element_order(chosen))
    jobs = min(len(chosen), jobs or max(1, machine_cores() // place.label_threads))
    studies: dict[str, Study] = {}
    with sole_writer(folder), accounted(folder, "label"), _workers(jobs) as workers:
        log.info("frames %s of %s, chosen as different as can be", ", ".join(map(str, indices)), frames)
        for name, one in sets.items():
            measure = _measurer(one, place, folder, chosen, workers)
            beside = present if name == PRESENT else None
            studies[name] = converge(measure, chosen, target, highest, beside, partial(_say, name))
    summary = _summary(sets, studies, target, chosen)
    summary["frames"] = [{"index": index, **_about(atoms)} for index, atoms in zip(indices, chosen, strict=True)]
    rows = [HEADER, *_rows(studies)]
    _write(out, rows, studies, summary, target)
    for line in _report(rows, studies, summary):
        typer.echo(line)


def _sets(settings: Label, sources: list[Path]) -> dict[str, Label]:
    """The settings by name of the set of pseudopotentials, the configured one first."""
    sets = {PRESENT: settings}
    for source in sources:
        if source.stem in sets:
            raise ConfigError(f"{source}: a set named {source.stem} is there already; give the file another name")
        sets[source.stem] = _read_set(source, settings)
    return sets


def _read_set(source: Path, settings: Label) -> Label:
    """The settings with the pseudopotentials of a file."""
    from pydantic import ValidationError

    files = read_yaml(source)
    if not isinstance(files, dict):
        raise ConfigError(
            f"{source}: found {type(files).__name__}; expected a line such as 'H: H.pbe-kjpaw.UPF' for each element"
        )
    try:
        return Label.model_validate({**settings.model_dump(), "pseudopotentials": files, "pseudopotential_sums": {}})
    except ValidationError as error:
        raise ConfigError(f"{source}: {one_line(error)}") from None


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """A `map` over so many processes, which die with this one."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), live_with, (os.getpid(),)) as pool:
        yield pool.map


def _measurer(
    settings: Label, place: Site, folder: Path, frames: list[Atoms], workers: Callable[..., Iterable[Any]]
) -> Callable[[Setting], Measurement]:
    """What labels `frames` with a setting, through the store."""
    import numpy as np

    from mlpwf.labels.convergence import Measurement

    volumes = np.array([atoms.get_volume() for atoms in frames])

    def measure(setting: Setting) -> Measurement:
        varied = settings.model_copy(update=asdict(setting))
        records = list(workers(partial(_label, varied, place, folder), frames))
        return Measurement(
            np.array([record["energy_ev"] for record in records]),
            [np.array(record["forces_ev_angstrom"]) for record in records],
            -np.array([record["stress_ev_angstrom3"] for record in records]) * volumes[:, None, None],
            float(np.mean([record["cpu_s"] for record in records])),
        )

    return measure


def _label(settings: Label, place: Site, folder: Path, atoms: Atoms) -> dict[str, Any]:
    """The record of a frame's label in the store, computed if need be; atoms in canonical order."""
    from mlpwf.frames import element_order
    from mlpwf.labels.labeller import Labeller

    labeller = Labeller(settings, place, folder, element_order([atoms]))
    outcome = labeller.label(atoms)
    record = labeller.store.get(outcome["key"])
    if record is None:
        raise DataError(f"{atoms.get_chemical_formula()} was set aside: {outcome['reason']} ({outcome['detail']})")
    return record


def _say(name: str, row: Row) -> None:
    found = row.failure or f"{row.cpu_s:.1f} CPU-s"
    if row.errors is not None:
        found += f", force {row.errors.force:.4f} eV/Å, virial {row.errors.virial:.4f} eV/atom"
    log.info("%s: %s %s: %s", name, row.lever, row.setting, found)


def _about(atoms: Atoms) -> dict[str, Any]:
    from mlpwf.building import density

    kind = str(atoms.info.get("kind", ""))
    return {"formula": atoms.get_chemical_formula(), "kind": kind, "density_g_cm3": round(density(atoms), 4)}


def _present(studies: Mapping[str, Study]) -> Row:
    return next(row for row in studies[PRESENT].rows if row.lever == PRESENT)


def _rows(studies: Mapping[str, Study]) -> Iterator[tuple[str, ...]]:
    """The rows of converge.csv; relative cost is that to the configured settings."""
    whole = _present(studies).cpu_s
    for name, study in studies.items():
        for row in study.rows:
            varied = row.setting
            setting = (varied.cutoff_ry, varied.density_cutoff_ry, varied.fft_grid_ry, varied.convergence_ry)
            found = (
                (None, None, None) if row.errors is None else (row.errors.force, row.errors.virial, row.errors.energy)
            )
            cost = (row.cpu_s, row.cpu_s / whole if row.cpu_s and whole else None)
            numbers = ("" if value is None else f"{value:.4g}" for value in (*setting, *found, *cost))
            yield (name, row.lever, *numbers, row.failure or "")


def _summary(
    sets: Mapping[str, Label], studies: Mapping[str, Study], target: Errors, frames: list[Atoms]
) -> dict[str, Any]:
    """The content of converge.json: each set's cheapest setting, and the cheapest of all."""
    from mlpwf.labels.convergence import MARGIN

    present = _present(studies)
    chosen = {name: study.chosen for name, study in studies.items() if study.chosen is not None}
    if PRESENT in chosen and present.errors is not None and present.errors.within(target, MARGIN):
        chosen[PRESENT] = min(chosen[PRESENT], present, key=_cost)
    best = min(chosen, key=lambda name: _cost(chosen[name]), default=None)
    recommended: dict[str, Any] | None = None
    if best is not None:
        recommended = asdict(chosen[best].setting)
        if best != PRESENT:
            recommended["pseudopotentials"] = sets[best].pseudopotentials
    return {
        "mlpwf": __version__,
        "target": {"force_ev_angstrom": target.force, "virial_ev_atom": target.virial, "margin": MARGIN},
        "sets": {
            name: {
                "pseudopotentials": sets[name].pseudopotentials,
                "reference": asdict(_reference(study).setting),
                "references_differ": None if study.agreement is None else asdict(study.agreement),
                "forces_differ_from_configured_set": _difference(studies[PRESENT], study, frames),
                "cheapest": asdict(chosen[name]) if name in chosen else None,
            }
            for name, study in studies.items()
        },
        "configured": asdict(present),
        "recommended_set": best,
        "recommended": recommended,
        "cpu_s": None if best is None else chosen[best].cpu_s,
        "relative_cost": None if best is None or not present.cpu_s else _cost(chosen[best]) / present.cpu_s,
    }


def _cost(row: Row) -> float:
    return float("inf") if row.cpu_s is None else row.cpu_s


def _write(
    out: Path, rows: list[tuple[str, ...]], studies: Mapping[str, Study], summary: Mapping[str, Any], target: Errors
) -> None:
    """converge.csv, converge.json and, if anything meets the target, converge.svg."""
    from mlpwf.labels.convergence import panels
    from mlpwf.report.figures import lines, to_svg

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(out / "converge.csv", text.getvalue())
    write_json(out / "converge.json", summary)
    drawing = out / "converge.svg"
    if summary["recommended"] is None:
        drawing.unlink(missing_ok=True)
        return
    costs = {PRESENT: summary["configured"]["cpu_s"], "cheapest": summary["cpu_s"]}
    drawn = lines(panels(studies, target, {name: cost for name, cost in costs.items() if cost}))
    write_text(drawing, to_svg(drawn, "converge"))


def _reference(study: Study) -> Row:
    return [row for row in study.rows if row.lever == "reference"][-1]


def _difference(present: Study, study: Study, frames: list[Atoms]) -> float | None:
    """Error of a set's reference forces against the configured set's in eV/Å: physics, which no cut-off removes."""
    from mlpwf.labels.convergence import errors

    if present.reference is None or study.reference is None:
        return None
    return errors(study.reference, present.reference, frames).force


def _report(rows: list[tuple[str, ...]], studies: Mapping[str, Study], summary: Mapping[str, Any]) -> Iterator[str]:
    """The lines printed at the end."""
    import yaml

    yield from table([TITLES, *(tuple(cell or "-" for cell in row) for row in rows[1:])])
    wanted = f"{summary['target']['force_ev_angstrom']:g} eV/Å and {summary['target']['virial_ev_atom']:g} eV/atom"
    for name, study in studies.items():
        found, differ = summary["sets"][name]["cheapest"], summary["sets"][name]["forces_differ_from_configured_set"]
        if found is None:
            yield f"{name}: nothing meets {wanted}; {_best(study)}"
        elif name != PRESENT and differ is not None:
            yield f"{name}: forces differ from the configured set's by {differ:.4f} eV/Å RMS, which is physics"
    if summary["recommended"] is None:
        return
    share = summary["relative_cost"]
    errors = summary["sets"][summary["recommended_set"]]["cheapest"]["errors"]
    yield (
        f"cheapest settings within {wanted}: {summary['cpu_s']:.1f} CPU-s a label"
        + ("" if share is None else f", {share:.2f} of the present settings' cost")
        + f"; force {errors['force']:.4f} eV/Å, virial {errors['virial']:.4f} eV/atom"
    )
    yield yaml.safe_dump({"label": summary["recommended"]}, sort_keys=False).rstrip()


def _best(study: Study) -> str:
    """What was found where nothing met the target."""
    last = _reference(study)
    if last.errors is None:
        return str(last.failure)
    return (
        f"the best is {last.setting}, which differs from the cut-off below by {last.errors.force:.4f} eV/Å "
        f"and {last.errors.virial:.4f} eV/atom: raise --highest or loosen the target"
    )
