"""`mlpwf simulate`: the production run of one state, segment by segment."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated

import typer

from mlpwf.errors import ConfigError, DataError

log = logging.getLogger(__name__)
app = typer.Typer(help="Production molecular dynamics.", no_args_is_help=True)


@app.command("segment")
def simulate_segment(
    config: Annotated[Path, typer.Option(help="Resolved section: C/config/simulate.json.")],
    site: Annotated[Path, typer.Option(help="Resolved site: C/config/site.json.")],
    system: Annotated[Path, typer.Option(help="Resolved section: C/config/system.json.")],
    molecules: Annotated[Path, typer.Option(help="One frame for each species: C/build/molecules.extxyz.")],
    state: Annotated[str, typer.Option(help="Name of the state, for example 300K.")],
    segment: Annotated[int, typer.Option(min=0, help="Segment, from 0.")],
    out: Annotated[Path, typer.Option(help="Folder of the state.")],
    model: Annotated[Path | None, typer.Option(help="Final model; none where simulate.force_field is set.")] = None,
    previous: Annotated[Path | None, typer.Option(help="Summary of the segment before.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Wall time of this job, in minutes.")] = None,
) -> None:
    """Run a state at constant volume and temperature until it is as long as asked, or the wall time is near.

    A segment that was killed goes on from its last checkpoint. Whether a run
    blew up is part of the summary and no error.
    """
    began = time.time()  # the imports below take seconds of the job's wall time
    from mlpwf.campaign import paths
    from mlpwf.campaign.accounting import accounted
    from mlpwf.campaign.states import simulate_states
    from mlpwf.campaign.walltime import seconds_left
    from mlpwf.config import Simulate, Site, System, load_section
    from mlpwf.files import sole_writer
    from mlpwf.simulate.running import run_segment
    from mlpwf.simulate.segment import Segment, mover_of, task_of

    end_time = began + seconds_left(minutes)
    section, seed = load_section(Simulate, config)
    if state not in simulate_states(section):
        raise ConfigError(f"no state '{state}' in {config}; expected one of {', '.join(simulate_states(section))}")
    if (previous is None) != (segment == 0):
        found = "none" if previous is None else str(previous)
        raise ConfigError(f"--previous is {found}; expected none for segment 0, and the summary before for others")
    liquid, place = load_section(System, system)[0], load_section(Site, site)[0]
    mover = mover_of(section, model, molecules)
    with sole_writer(out), accounted(out, "simulate"):
        files = paths.State(out)
        one = Segment(section, liquid, place, seed, state, segment, files, molecules, mover, previous)
        task = task_of(one)
        if task is None:
            log.info("%s: finished before under the same settings, kept", one.name)
            return
        run_segment(one, task, end_time if end_time < float("inf") else None)


@app.command("collect")
def simulate_collect(
    folder: Annotated[Path, typer.Option(help="Folder of the state.")],
    length_ps: Annotated[float, typer.Option(min=0, help="Length asked for, in ps.")],
    out: Annotated[Path, typer.Option(help="File of the verdict: STATE/run/LENGTHps.json.")],
) -> None:
    """Say how far the run of a state came, and whether it is to be trusted."""
    from mlpwf.campaign import records
    from mlpwf.campaign.paths import State
    from mlpwf.campaign.segments import segments
    from mlpwf.simulate.running import run_summary

    found = segments(State(folder))
    if not found:
        raise DataError(f"{folder}: no finished segment; run the stage simulate first")
    run = run_summary(found, length_ps)
    records.write(out, run)
    verdict = "stable" if run.stable else f"blew up at step {run.step}: {run.reason}"
    log.info("simulate %s: %g of %g ps, %s", run.state, run.done_ps, length_ps, verdict)
