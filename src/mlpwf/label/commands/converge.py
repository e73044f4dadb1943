"""`mlpwf label converge`: the cheapest settings and box that meet a target, found before a campaign."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf.campaign.accounting import accounted
from mlpwf.config import Label, Site, System, load_section, one_line, read_yaml
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sole_writer
from mlpwf.label.converge_report import PRESENT, Result, report, write
from mlpwf.process import live_with

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.calculators.espresso.box_convergence import Box
    from mlpwf.calculators.espresso.convergence import Errors, Measurement, Row, Setting, Study
    from mlpwf.campaign.pricing import Size

log = logging.getLogger(__name__)


def label_converge(
    config: Annotated[Path, typer.Option(help="resolved section `label`: the present settings")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    frames: Annotated[
        list[Path] | None,
        typer.Option(help="frames of the system, extended XYZ, of one or several sizes of box; repeat for each file"),
    ] = None,
    system: Annotated[
        Path | None, typer.Option(help="resolved section `system`: names boxes by multiples of its molecules")
    ] = None,
    multiples: Annotated[
        list[int] | None,
        typer.Option(min=1, max=64, help="instead of --frames: make boxes of --system of this multiple; repeat"),
    ] = None,
    force: Annotated[float, typer.Option(min=1e-4, help="error allowed in forces, eV/Å RMS")] = 0.005,
    virial: Annotated[float, typer.Option(min=1e-4, help="error allowed in virials, eV/atom RMS")] = 0.002,
    sample: Annotated[int, typer.Option(min=1, help="frames of each size to compare, as different as can be")] = 3,
    pseudopotentials: Annotated[
        list[Path] | None,
        typer.Option(help="a further set to study: YAML, a file name for each element; repeat for each set"),
    ] = None,
    highest: Annotated[float, typer.Option(min=80, help="highest wave-function cut-off to try, Ry")] = 220.0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="labels side by side; unset: cores over label_threads of the site")
    ] = None,
) -> None:
    """Find the cheapest cut-offs, k-points and box whose forces and virials are within a target.

    Cut-offs are searched on the smallest box, k-points on each. Every label goes to the store.
    """
    from mlpwf.calculators.espresso.convergence import Errors, Setting
    from mlpwf.calculators.espresso.parallel import machine_cores
    from mlpwf.label.labeller import Labeller
    from mlpwf.structures.frames import element_order

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    if settings.engine != "qe":
        raise ConfigError(f"label.engine is {settings.engine}, which has no cut-offs; expected qe")
    if bool(frames) == bool(multiples):
        found = "both" if frames else "neither"
        raise ConfigError(f"found {found} of --frames and --multiples; expected one of them: files of boxes, or sizes")
    if multiples and system is None:
        raise ConfigError("--multiples without --system; expected the resolved section, such as config/system.json")
    sets = _sets(settings, pseudopotentials or [])
    folder, target = out / "converge.work", Errors(force, virial)
    with sole_writer(folder), accounted(folder, "label"):
        sizes, about = _sizes(frames or [], system, multiples or [], sample, out)
        everything = [atoms for members in sizes.values() for atoms in members]
        for one in sets.values():
            Labeller(one, place, folder, element_order(everything))
        jobs = min(max(map(len, sizes.values())), jobs or max(1, machine_cores() // place.label_threads))
        result = Result(sets, target, sizes, about)
        with _workers(jobs) as workers:
            for name, one in sets.items():
                bench = _Bench(name, one, place, folder, workers)
                beside = Setting.of(one) if name == PRESENT else None
                result.studies[name], result.boxes[name] = _studied(bench, sizes, target, highest, beside)
    if system is not None:
        result.multiples = _multiples(system, sizes)
    write(out, result)
    for line in report(result):
        typer.echo(line)


def _sizes(
    files: list[Path], system: Path | None, multiples: list[int], sample: int, out: Path
) -> tuple[dict[int, list[Atoms]], list[dict[str, Any]]]:
    """Frames to label by number of atoms, and where each is from."""
    from mlpwf.calculators.espresso.convergence import choose_frames
    from mlpwf.label.study_boxes import boxes
    from mlpwf.structures.frames import by_size, read_frames

    if system is not None and multiples:
        liquid, seed = load_section(System, system)
        everything = boxes(liquid, seed, multiples, sample, out / "boxes")
        sources = [(out / "boxes", index) for index in range(len(everything))]
    else:
        read = {file: read_frames(file) for file in files}
        everything = [atoms for found in read.values() for atoms in found]
        sources = [(file, index) for file, found in read.items() for index in range(len(found))]
    if not everything:
        raise DataError(f"{', '.join(map(str, files))}: no frames to choose from; expected at least one")
    sizes, about = {}, []
    for size, members in by_size(everything).items():
        chosen = [members[index] for index in choose_frames([everything[index] for index in members], sample)]
        sizes[size] = [everything[index] for index in chosen]
        about += [{"file": str(sources[k][0]), "index": sources[k][1], **_about(everything[k])} for k in chosen]
        log.info("converge: boxes of %d atoms: %d of %d frames, chosen as different as can be",
                 size, len(chosen), len(members))  # fmt: skip
    return sizes, about


def _about(atoms: Atoms) -> dict[str, Any]:
    from mlpwf.label.study_boxes import molecules_in
    from mlpwf.structures.boxes import density

    kind = str(atoms.info.get("kind", ""))
    return {
        "formula": atoms.get_chemical_formula(),
        "kind": kind,
        "density_g_cm3": round(density(atoms), 4),
        "atoms": len(atoms),
        "molecules": molecules_in(atoms),
    }


def _multiples(system: Path, sizes: Iterable[int]) -> dict[int, int | None]:
    """By number of atoms, how many times the molecules of the system."""
    from mlpwf.label.study_boxes import multiple_of

    liquid, seed = load_section(System, system)
    return {atoms: multiple_of(liquid, seed, atoms) for atoms in sizes}


def _studied(
    bench: _Bench, sizes: Mapping[int, list[Atoms]], target: Errors, highest: float, beside: Setting | None
) -> tuple[Study, list[Box]]:
    """One set's study: cut-offs on the smallest box, then k-points on each."""
    from mlpwf.calculators.espresso.box_convergence import Box, converge_box, foreseen
    from mlpwf.calculators.espresso.convergence import converge, rate

    smallest = next(iter(sizes.values()))
    study = converge(bench.measurer(smallest), smallest, target, highest, bench.say)
    if study.chosen is None:
        if beside is None:
            return study, []
        row, _ = rate("configured", beside, bench.measurer(smallest), smallest, None)
        bench.say(row)
        return study, [Box(len(smallest[0]), [row], configured=row)]
    cheap, reference = study.chosen.setting, study.highest.setting
    boxes = []
    for atoms, members in sizes.items():
        to_come = {
            size: sum(
                bench.price(larger, setting)
                for setting in foreseen([one.cell.array for one in larger], cheap, reference, target)
            )
            for size, larger in sizes.items()
            if size >= atoms
        }
        log.info(
            "%s: boxes of %d atoms: about %.0f CPU-s; with all larger ones about %.0f CPU-s",
            bench.name, atoms, to_come[atoms], sum(to_come.values()),
        )  # fmt: skip
        boxes.append(converge_box(bench.measurer(members), members, target, cheap, reference, beside, bench.say))
    return study, boxes


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


class _Bench:
    """Labels frames with settings of one set through the store, and says beforehand what that may cost."""

    def __init__(
        self, name: str, settings: Label, place: Site, folder: Path, workers: Callable[..., Iterable[Any]]
    ) -> None:
        self.name, self.settings, self.place, self.folder, self.workers = name, settings, place, folder, workers
        self.known: list[tuple[Size, float]] = []

    def measurer(self, frames: list[Atoms]) -> Callable[[Setting], Measurement]:
        """What labels `frames` with a setting."""
        return partial(self.measure, frames)

    def measure(self, frames: list[Atoms], setting: Setting) -> Measurement:
        """Labels of frames; DataError if one is set aside."""
        import numpy as np

        from mlpwf.calculators.espresso.convergence import Measurement

        varied = self.settings.model_copy(update=setting.section())
        missing = self._missing(varied, frames)
        if missing:
            log.info(
                "%s: %s, %d atoms: %d of %d labels to compute, about %.0f CPU-s",
                self.name, setting, len(frames[0]), len(missing), len(frames), self.price(missing, setting),
            )  # fmt: skip
        found = list(self.workers(partial(_label, varied, self.place, self.folder), frames))
        self.known += [(self._size(atoms, setting), cpu_s) for atoms, (_, cpu_s) in zip(frames, found, strict=True)]
        labels = [label for label, _ in found]
        return Measurement(
            np.array([label.get_potential_energy() for label in labels]),
            [label.get_forces() for label in labels],
            np.array([-label.get_stress(voigt=False) * label.get_volume() for label in labels]),
            float(np.mean([cpu_s for _, cpu_s in found])),
        )

    def price(self, frames: list[Atoms], setting: Setting) -> float:
        """CPU-s of labels, from those of this study."""
        from mlpwf.campaign.pricing import label_price

        return sum(label_price(self._size(atoms, setting), self.known).cpu_s for atoms in frames)

    def _size(self, atoms: Atoms, setting: Setting) -> Size:
        from mlpwf.calculators.espresso.pw import kpoints_of
        from mlpwf.campaign.pricing import Size

        points = kpoints_of(self.settings.model_copy(update=setting.section()), atoms.cell.array)
        grid = setting.fft_grid_ry or setting.density_cutoff_ry
        count = 0 if points.is_gamma else len(points.points)
        return Size(len(atoms), atoms.get_volume(), setting.cutoff_ry, grid, count)

    def _missing(self, varied: Label, frames: list[Atoms]) -> list[Atoms]:
        from mlpwf.label.labeller import Labeller
        from mlpwf.structures.frames import element_order

        labeller = Labeller(varied, self.place, self.folder, element_order(frames))
        return [atoms for atoms in frames if not labeller.knows(atoms)]

    def say(self, row: Row) -> None:
        """A line for what was rated."""
        found = row.failure or f"{row.cpu_s:.1f} CPU-s"
        if row.errors is not None:
            found += f", force {row.errors.force:.4f} eV/Å, virial {row.errors.virial:.4f} eV/atom"
        log.info("%s: %d atoms, %s %s: %s", self.name, row.atoms, row.lever, row.setting, found)


def _label(settings: Label, place: Site, folder: Path, atoms: Atoms) -> tuple[Atoms, float]:
    """A frame with its label from the store, computed if need be, and what that cost in CPU-s."""
    from mlpwf.label.labeller import Labeller
    from mlpwf.label.store import canonical, labelled
    from mlpwf.structures.frames import element_order

    labeller = Labeller(settings, place, folder, element_order([atoms]))
    outcome = labeller.label(atoms)
    record = labeller.store.get(outcome["key"])
    if record is None:
        raise DataError(f"{atoms.get_chemical_formula()} was set aside: {outcome['reason']} ({outcome['detail']})")
    return labelled(atoms, canonical(atoms), record), record["cpu_s"]
