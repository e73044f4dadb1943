"""`mlpwf label layout`: serial or MPI, and how many labels side by side, measured on this machine."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from mlpwf import __version__
from mlpwf.campaign.accounting import accounted
from mlpwf.config import Label, Site, load_section
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sole_writer, write_json
from mlpwf.tables import table

if TYPE_CHECKING:
    from mlpwf.calculators.espresso.parallel import Layout, Timing

log = logging.getLogger(__name__)

HEADER = ("labels side by side", "processes a label", "s a label", "labels/hour", "MiB", "failure")


def label_layout(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    frames: Annotated[Path, typer.Option(help="frames of the system, extended XYZ; the largest is labelled")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    cores: Annotated[int | None, typer.Option(min=1, help="cores to use; unset: all of this machine")] = None,
    memory: Annotated[float | None, typer.Option(min=0.01, help="memory to use, GiB; unset: all there is")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="processes a label; unset: few as memory allows")] = None,
) -> None:
    """Propose a layout of labels for this machine, and measure it and others with one label of the system."""
    from mlpwf.calculators.espresso import parallel as science
    from mlpwf.calculators.espresso.pw import pseudopotential_hashes
    from mlpwf.structures.frames import element_order, read_frames

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    if settings.engine != "qe":
        raise ConfigError(f"label.engine is {settings.engine}, which runs no pw.x; expected qe")
    found = read_frames(frames)
    if not found:
        raise DataError(f"{frames}: no frames; expected at least one")
    atoms = max(found, key=len)
    cores = cores or science.machine_cores()
    memory_mib = memory * 1024 if memory else science.machine_memory_mib()
    hashes = pseudopotential_hashes(element_order([atoms]), settings, Path(place.pseudopotential_folder))
    folder = out / "layout.work"
    with sole_writer(folder), accounted(folder, "label"):

        def tried(layout: Layout, command: list[str]) -> Timing:
            log.info("trying %d side by side, %d processes each", layout.labels, layout.ranks)
            return science.measure(atoms, settings, place, hashes, layout, command, folder)

        def proposed(ranks: int | None) -> Layout:
            return science.propose(len(atoms), cores, memory_mib, alone.memory_mib, ranks)

        alone = tried(science.Layout(1, 1, cores), science.serial_command(place.pw))
        if alone.failure:
            raise DataError(f"the label to be timed was set aside: {alone.failure}")
        commands = science.candidates(proposed(ranks), proposed(2) if cores > 1 else None, place, cores)
        commands.pop(alone.layout, None)
        timings = [alone, *(tried(layout, command) for layout, command in commands.items())]
    best = max(timings, key=lambda timing: timing.labels_per_hour)
    lines = {"label_threads": best.layout.threads, "pw": list(best.command)}
    write_json(
        out / "layout.json",
        {
            "mlpwf": __version__,
            "formula": atoms.get_chemical_formula(),
            "cores": cores,
            "memory_mib": round(memory_mib),
            "tried": [asdict(timing) | {"labels_per_hour": timing.labels_per_hour} for timing in timings],
            "site": lines,
        },
    )
    typer.echo("\n".join(table([HEADER, *map(_row, timings)])))
    several = any(timing.layout.ranks > 1 and not timing.failure for timing in timings)
    if several and settings.dispersion != "none" and not settings.dispersion_threebody:
        typer.echo("on several processes pw.x 6.7 spends the time of D3's three-body term although it is off")
    typer.echo(f"lines of the site file, for {cores} cores:")
    typer.echo(yaml.safe_dump(lines, sort_keys=False, default_flow_style=None).rstrip())


def _row(timing: Timing) -> tuple[str, ...]:
    layout = (f"{timing.layout.labels}", f"{timing.layout.ranks}")
    if timing.failure:
        return (*layout, "-", "-", "-", timing.failure)
    wall = sum(timing.wall_s) / len(timing.wall_s)
    return (*layout, f"{wall:.1f}", f"{timing.labels_per_hour:.0f}", f"{timing.memory_mib:.0f}", "-")
