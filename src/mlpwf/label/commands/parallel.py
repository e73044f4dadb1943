"""`mlpwf label parallel`: serial or MPI, and how many labels side by side, measured on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlpwf.campaign.accounting import accounted
from mlpwf.config import Label, Site, load_section
from mlpwf.config.label_engines import Capability
from mlpwf.errors import DataError
from mlpwf.files import sole_writer
from mlpwf.label.commands.reporting import written


def label_parallel(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    frames: Annotated[Path, typer.Option(help="frames of the system, extended XYZ; the largest is labelled")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    cores: Annotated[int | None, typer.Option(min=1, help="cores to use; unset: all of this machine")] = None,
    memory: Annotated[float | None, typer.Option(min=0.01, help="memory to use, GiB; unset: all there is")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="processes a label; unset: few as memory allows")] = None,
) -> None:
    """Measure how labels of this system share this machine best, and print the lines for the site file."""
    from mlpwf.calculators.registry import calculator
    from mlpwf.structures.frames import element_order, read_frames

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    calculator(settings, place).engine.require(Capability.PARALLEL)
    found = read_frames(frames)
    if not found:
        raise DataError(f"{frames}: no frames; expected at least one")
    atoms, folder = max(found, key=len), out / "parallel.work"
    timed = calculator(settings, place, element_order([atoms]))
    memory_mib = memory * 1024 if memory else None
    with sole_writer(folder), accounted(folder, "label"):
        report = timed.benchmark(atoms, folder, cores=cores, memory_mib=memory_mib, ranks=ranks)
    written(report, out)
