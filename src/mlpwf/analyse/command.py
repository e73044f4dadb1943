"""Verb `analyse`: correlators, dynamic heterogeneity and activation energies, of a campaign or of any trajectory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mlpwf.errors import ConfigError


def analyse(
    out: Annotated[Path, typer.Option(help="Folder of the tables and figures.")],
    config: Annotated[Path | None, typer.Option(help="Of a campaign: resolved section, C/config/analyse.json.")] = None,
    simulate: Annotated[Path | None, typer.Option(help="Of a campaign: folder of the runs, C/simulate.")] = None,
    states: Annotated[
        Path | None, typer.Option(help="YAML file of trajectories at several temperatures; see docs/analyse.md.")
    ] = None,
    trajectory: Annotated[
        list[Path] | None, typer.Option(help="Trajectory MDAnalysis can read; repeat for the next piece of the run.")
    ] = None,
    topology: Annotated[Path | None, typer.Option(help="Topology of the trajectory.")] = None,
    molecules: Annotated[str, typer.Option(help="residue, molecule, bonds, atoms, or 'every N'.")] = "residue",
    select: Annotated[str, typer.Option(help="Atoms to keep, in MDAnalysis' selection language.")] = "all",
    axis: Annotated[list[str] | None, typer.Option(help="Axis as two atom names: C1,C4; repeat for more.")] = None,
    masses: Annotated[str | None, typer.Option(help="'equal', or by type or name in amu: 1=12.011,2=1.008.")] = None,
    temperature_kelvin: Annotated[float | None, typer.Option(help="Temperature of the run in K.")] = None,
    ensemble: Annotated[str | None, typer.Option(help="Ensemble of the run: nve, nvt or npt.")] = None,
    timestep_fs: Annotated[float | None, typer.Option(help="Time step in fs, for LAMMPS dumps.")] = None,
    interval_ps: Annotated[float | None, typer.Option(help="Time between frames in ps, where none is kept.")] = None,
    lammps_units: Annotated[
        str | None, typer.Option(help="real or metal: units of LAMMPS' dumps and DCD files, where no file says them.")
    ] = None,
    skip_frames: Annotated[int, typer.Option(help="Frames to leave out at the start.")] = 0,
    wavevector: Annotated[list[float] | None, typer.Option(help="Modulus q of F_s in 1/Å; repeat for more.")] = None,
    overlap_angstrom: Annotated[float | None, typer.Option(help="Length a of the overlap in Å.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; all cores by default.")] = None,
    figures: Annotated[bool, typer.Option(help="Draw the figures too.")] = True,
) -> None:
    """Correlators, χ4, counts of correlated molecules, laws and activation energies.

    Of a campaign (--config, --simulate), of one trajectory (--trajectory, --topology), or of trajectories at
    several temperatures (--states).
    """
    from mlpwf.analyse.campaign import campaign_sources
    from mlpwf.analyse.options import Options, trajectories_of
    from mlpwf.analyse.run import run
    from mlpwf.analyse.trajectories import load_trajectories, trajectory_sources
    from mlpwf.campaign.accounting import accounted
    from mlpwf.config import Analyse, load_section
    from mlpwf.files import sole_writer

    asked = {"--simulate": simulate, "--states": states, "--trajectory": trajectory}
    given = [name for name, value in asked.items() if value]
    if len(given) != 1:
        raise ConfigError(f"{' and '.join(given) or 'nothing'} is given; expected one of {', '.join(asked)}")
    threads = threads or len(os.sched_getaffinity(0))
    if simulate is not None:
        if config is None:
            raise ConfigError("--simulate without --config; expected C/config/analyse.json too")
        settings, seed = load_section(Analyse, config)
        with sole_writer(out), accounted(out, "analyse"):
            sources = campaign_sources(simulate, settings.memory_mb)
            run(sources, settings, seed, threads, out, inputs=[config], draw=figures)
        return
    if states is not None:
        files = load_trajectories(states)
    else:
        options = Options(
            trajectory or [], topology, ensemble, temperature_kelvin, molecules, select, axis or [], masses,
            timestep_fs, interval_ps, skip_frames, lammps_units, wavevector, overlap_angstrom,
        )  # fmt: skip
        files = trajectories_of(options)
    with sole_writer(out):
        sources = trajectory_sources(files)
        run(
            sources, files.analyse, files.seed, threads, out, inputs=[] if states is None else [states],
            settings_used=files.model_dump(mode="json"), reduced=files.units == "reduced", draw=figures,
        )  # fmt: skip
