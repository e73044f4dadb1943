"""`mlpwf build`: molecules, relaxed boxes, and the first frames to label."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

log = logging.getLogger(__name__)


def build(
    system: Annotated[Path, typer.Option(help="resolved section `system`")],
    config: Annotated[Path, typer.Option(help="resolved section `build`")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    threads: Annotated[int, typer.Option(min=1, help="sampler runs at a time; results do not depend on it")] = 1,
    molecules_only: Annotated[
        bool, typer.Option(help="write molecules.extxyz alone: nothing is to be labelled")
    ] = False,
) -> None:
    """Build molecules, boxes and the first frames, for training and for the held-out test."""
    os.environ["OMP_NUM_THREADS"] = "1"  # Snakemake sets it to the job's threads, which here are processes
    from mlpwf.build.builder import Builder
    from mlpwf.build.parallel import mapper
    from mlpwf.campaign import paths, records
    from mlpwf.campaign.accounting import accounted
    from mlpwf.config import Build, System, load_section
    from mlpwf.files import sole_writer
    from mlpwf.structures.frames import write_frames

    liquid, _ = load_section(System, system)
    settings, seed = load_section(Build, config)
    files, work = paths.Build(out), out / "work"
    with sole_writer(out), accounted(out, "build"), mapper(threads) as several:
        began, builder = os.times(), Builder(liquid, settings, seed, work, several)
        if not molecules_only:
            files.summary.unlink(missing_ok=True)
        molecules = builder.molecules()
        write_frames(files.molecules, molecules)
        if molecules_only:
            return
        boxes, own_boxes = builder.start_boxes(molecules), builder.test_boxes(molecules)
        write_frames(files.bulk, boxes)
        built = builder.frames(molecules, boxes, own_boxes)
        write_frames(files.start, built.start)
        write_frames(files.test, built.test)
        records.write(files.summary, builder.summary(built, began))  # last: the build is whole
        shutil.rmtree(work, ignore_errors=True)
        log.info("build: %d frames to start from, %d held out, in %s", len(built.start), len(built.test), out)
