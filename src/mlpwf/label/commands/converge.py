"""`mlpwf label converge`: the cheapest settings and box that meet a target, found before a campaign."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlpwf.campaign.accounting import accounted
from mlpwf.config import Label, Site, System, load_section, one_line, read_yaml
from mlpwf.config.label_engines import Capability
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sole_writer
from mlpwf.label.commands.reporting import written

if TYPE_CHECKING:
    from mlpwf.label.study_boxes import StudyFrame

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
    from mlpwf.label.bench import StoreBench, workers
    from mlpwf.label.labeller import Labeller
    from mlpwf.label.study_boxes import multiples_of
    from mlpwf.structures.frames import by_size, element_order

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
        chosen = _chosen(frames or [], system, multiples or [], sample, out)
        everything = [one.atoms for one in chosen]
        sizes = {size: [everything[index] for index in members] for size, members in by_size(everything).items()}
        for one in sets.values():
            Labeller(one, place, folder, element_order(everything))
        cores = len(os.sched_getaffinity(0))
        jobs = min(max(map(len, sizes.values())), jobs or max(1, cores // place.label_threads))
        known = {} if system is None else multiples_of(*load_section(System, system), sizes)
        about = [one.described() for one in chosen]
        request = StudyRequest(sets, sizes, about, force, virial, highest, known)
        with workers(jobs) as at_once:
            report = studying.study(request, StoreBench(place, folder, at_once))
    written(report, out)


def _chosen(files: list[Path], system: Path | None, multiples: list[int], sample: int, out: Path) -> list[StudyFrame]:
    """The frames to label: of the files, or of boxes made here."""
    from mlpwf.label.study_boxes import StudyFrame, boxes, chosen_by_size
    from mlpwf.structures.frames import read_frames

    if system is not None and multiples:
        liquid, seed = load_section(System, system)
        folder = out / "boxes"
        made = boxes(liquid, seed, multiples, sample, folder)
        return chosen_by_size([StudyFrame(atoms, str(folder), index) for index, atoms in enumerate(made)], sample)
    once = dict.fromkeys(files)
    read = [StudyFrame(atoms, str(file), index) for file in once for index, atoms in enumerate(read_frames(file))]
    if not read:
        raise DataError(f"{', '.join(map(str, files))}: no frames to choose from; expected at least one")
    return chosen_by_size(read, sample)


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
        found = Label.model_validate({**settings.model_dump(), "pseudopotentials": files, "pseudopotential_sums": {}})
    except ValidationError as error:
        raise ConfigError(f"{source}: {one_line(error)}") from None
    # a set stands for itself: what it lacks is not filled in from the default table
    own = {element: name for element, name in found.pseudopotentials.items() if element in files}
    return found.model_copy(update={"pseudopotentials": own})
