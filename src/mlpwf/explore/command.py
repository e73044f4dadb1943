"""`mlpwf explore`: all walkers of one state."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

log = logging.getLogger(__name__)


def explore(
    config: Annotated[Path, typer.Option(help="Resolved section: C/config/explore.json.")],
    site: Annotated[Path, typer.Option(help="Resolved site: C/config/site.json.")],
    system: Annotated[Path, typer.Option(help="Resolved section: C/config/system.json.")],
    model: Annotated[list[Path], typer.Option(help="A committee model; repeat. The first one moves the atoms.")],
    starts: Annotated[Path, typer.Option(help="Boxes to start from: C/build/bulk.extxyz.")],
    molecules: Annotated[Path, typer.Option(help="One frame for each species: C/build/molecules.extxyz.")],
    state: Annotated[str, typer.Option(help="Name of the state, for example 300K_0.867 or 300K_1bar.")],
    cycle: Annotated[int, typer.Option(min=0, help="Cycle, from 0.")],
    out: Annotated[Path, typer.Option(help="Folder of the state.")],
) -> None:
    """Run walkers at one state until they finish or blow up; keep frames and deviations."""
    from mlpwf.campaign import paths, records
    from mlpwf.campaign.accounting import accounted
    from mlpwf.campaign.states import states
    from mlpwf.config import Explore, Site, System, load_section
    from mlpwf.errors import ConfigError
    from mlpwf.explore.walkers import Exploration, collect, counted, run_walkers, start_boxes, walker_jobs
    from mlpwf.files import sole_writer
    from mlpwf.potentials.base import Ability
    from mlpwf.potentials.record import engine_of

    section, seed = load_section(Explore, config)
    named = states(section, load_section(System, system)[0].density_g_cm3)
    if state not in named:
        raise ConfigError(f"no state '{state}' in {config}; expected one of {', '.join(named)}")
    if len(model) < 2:
        raise ConfigError(f"{len(model)} model given; expected a committee of at least two: repeat --model")
    for path in model:
        if not path.is_file():
            raise ConfigError(f"{path}: no such model; expected a deployed model of mlpwf train")
    engine_of(model).require(Ability.LAMMPS)
    with sole_writer(out), accounted(out, "explore"):
        files = paths.Explore(out)
        exploration = Exploration(section, named[state], state, cycle, seed, model, molecules, files)
        jobs = walker_jobs(exploration, start_boxes(starts))
        walkers = collect(exploration, run_walkers(exploration, jobs, load_section(Site, site)[0]))
        log.info("explore %s: %s", state, counted(walkers))
        records.write(files.walkers, walkers)
