"""`mlpwf label converge`: the cheapest settings and box that meet a target, found before a campaign."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf.campaign.accounting import accounted
from mlpwf.config import Label, Site, System, load_section, one_line, read_yaml
from mlpwf.config.label_engines import Capability
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sole_writer
from mlpwf.label.commands.reporting import written
from mlpwf.process import live_with

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.calculators.base import StudiedFrame

log = logging.getLogger(__name__)

PRESENT = "configured"
"""Name of the set of the section itself."""


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
    from mlpwf.calculators.base import StudyRequest
    from mlpwf.calculators.registry import calculator
    from mlpwf.label.labeller import Labeller
    from mlpwf.structures.frames import element_order

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    studying = calculator(settings, place)
    studying.engine.require(Capability.CONVERGENCE)
    if bool(frames) == bool(multiples):
        found = "both" if frames else "neither"
        raise ConfigError(f"found {found} of --frames and --multiples; expected one of them: files of boxes, or sizes")
    if multiples and system is None:
        raise ConfigError("--multiples without --system; expected the resolved section, such as config/system.json")
    sets = _sets(settings, pseudopotentials or [])
    folder = out / "converge.work"
    with sole_writer(folder), accounted(folder, "label"):
        sizes, about = _sizes(frames or [], system, multiples or [], sample, out)
        everything = [atoms for members in sizes.values() for atoms in members]
        for one in sets.values():
            Labeller(one, place, folder, element_order(everything))
        cores = len(os.sched_getaffinity(0))
        jobs = min(max(map(len, sizes.values())), jobs or max(1, cores // place.label_threads))
        known = {} if system is None else _multiples(system, sizes)
        request = StudyRequest(sets, sizes, about, force, virial, highest, known)
        with _workers(jobs) as workers:
            report = studying.study(request, _Bench(place, folder, workers))
    written(report, out)


def _sizes(
    files: list[Path], system: Path | None, multiples: list[int], sample: int, out: Path
) -> tuple[dict[int, list[Atoms]], list[StudiedFrame]]:
    """Frames to label by number of atoms, and where each is from."""
    from mlpwf.label.study_boxes import boxes, choose_frames
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
    sizes: dict[int, list[Atoms]] = {}
    about: list[StudiedFrame] = []
    for size, members in by_size(everything).items():
        chosen = [members[index] for index in choose_frames([everything[index] for index in members], sample)]
        sizes[size] = [everything[index] for index in chosen]
        about += [_about(everything[k], *sources[k]) for k in chosen]
        log.info("converge: boxes of %d atoms: %d of %d frames, chosen as different as can be",
                 size, len(chosen), len(members))  # fmt: skip
    return sizes, about


def _about(atoms: Atoms, file: Path, index: int) -> StudiedFrame:
    from mlpwf.calculators.base import StudiedFrame
    from mlpwf.label.study_boxes import molecules_in
    from mlpwf.structures.boxes import density

    kind = str(atoms.info.get("kind", ""))
    return StudiedFrame(
        file=str(file),
        index=index,
        formula=atoms.get_chemical_formula(),
        kind=kind,
        density_g_cm3=round(density(atoms), 4),
        atoms=len(atoms),
        molecules=molecules_in(atoms),
    )


def _multiples(system: Path, sizes: Iterable[int]) -> dict[int, int | None]:
    """By number of atoms, how many times the molecules of the system."""
    from mlpwf.label.study_boxes import multiple_of

    liquid, seed = load_section(System, system)
    return {atoms: multiple_of(liquid, seed, atoms) for atoms in sizes}


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
    """Labels frames through the store, several at once."""

    def __init__(self, place: Site, folder: Path, workers: Callable[..., Iterable[Any]]) -> None:
        self.place, self.folder, self.workers = place, folder, workers

    def missing(self, settings: Label, frames: Sequence[Atoms]) -> list[Atoms]:
        """The frames that the store has no outcome for with these settings."""
        from mlpwf.label.labeller import Labeller
        from mlpwf.structures.frames import element_order

        labeller = Labeller(settings, self.place, self.folder, element_order(frames))
        return [atoms for atoms in frames if not labeller.knows(atoms)]

    def label(self, settings: Label, frames: Sequence[Atoms]) -> list[tuple[Atoms, float]]:
        """Each frame with its label, and the CPU-s it cost; DataError if one is rejected."""
        return list(self.workers(partial(_label, settings, self.place, self.folder), frames))


def _label(settings: Label, place: Site, folder: Path, atoms: Atoms) -> tuple[Atoms, float]:
    """A frame with its label from the store, computed if need be, and what that cost in CPU-s."""
    from mlpwf.label.labeller import Labeller
    from mlpwf.label.store import canonical, labelled
    from mlpwf.structures.frames import element_order

    labeller = Labeller(settings, place, folder, element_order([atoms]))
    outcome = labeller.label(atoms)
    record = labeller.store.get(outcome["key"])
    if record is None:
        raise DataError(f"{atoms.get_chemical_formula()} was rejected: {outcome['reason']} ({outcome['detail']})")
    return labelled(atoms, canonical(atoms), record), record["cpu_s"]
