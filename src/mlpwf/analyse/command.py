"""Verb `analyse`: correlators, dynamic heterogeneity and activation energies, of a campaign or of any trajectory."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.campaign.accounting import accounted, as_engine
from mlpwf.config import Analyse, load_section
from mlpwf.errors import ConfigError
from mlpwf.files import sha256, sole_writer, write_json

if TYPE_CHECKING:
    from mlpwf.analyse.records import Source
    from mlpwf.config.trajectories import Trajectories

log = logging.getLogger(__name__)


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
    from mlpwf.analyse.trajectories import load_trajectories, trajectory_sources

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
        options = {
            "molecules": molecules, "select": select, "axes": [tuple(one.split(",")) for one in axis or []],
            "masses": _masses(masses), "timestep_fs": timestep_fs, "interval_ps": interval_ps,
            "skip_frames": skip_frames, "lammps_units": lammps_units,
        }  # fmt: skip
        state = {
            "trajectories": [list(trajectory or [])], "topology": topology, "ensemble": ensemble,
            "temperature_kelvin": temperature_kelvin,
        }  # fmt: skip
        own = {"wavevectors_per_angstrom": wavevector, "overlap_angstrom": overlap_angstrom}
        files = _of_options(options, state, {key: value for key, value in own.items() if value})
    with sole_writer(out):
        sources = trajectory_sources(files)
        run(
            sources, files.analyse, files.seed, threads, out, inputs=[] if states is None else [states],
            settings_used=files.model_dump(mode="json"), reduced=files.units == "reduced", draw=figures,
        )  # fmt: skip


def run(
    sources: list[Source],
    settings: Analyse,
    seed: int,
    threads: int,
    out: Path,
    inputs: list[Path],
    settings_used: dict[str, Any] | None = None,
    reduced: bool = False,
    draw: bool = True,
) -> None:
    """Analyse all states, write tables, figures and summary.json."""
    from mlpwf.analyse.reading import measured
    from mlpwf.analyse.tables import write_tables
    from mlpwf.dynamics import analysis, registry
    from mlpwf.dynamics.figures import write_figures
    from mlpwf.dynamics.state import Settings

    asked = Settings(**settings.model_dump(), seed=seed, threads=threads, reduced=reduced)
    states = []
    for number, source in enumerate(sources):
        log.info("state %d of %d: %s", number + 1, len(sources), source.name)
        with as_engine():
            states.append(measured(source, asked))
    with as_engine():
        study = analysis.compare(states, asked)
    tables = write_tables(out, analysis.tables_of(study), reduced)
    columns = {name: _columns(table) for name, table in tables.items()}
    figures = write_figures(columns, out / "figures") if draw else {}
    files = [*inputs, *(path for source in sources for path in source.inputs)]
    write_json(
        out / "summary.json",
        {
            "mlpwf": __version__,
            "seed": seed,
            "settings": settings_used or settings.model_dump(mode="json"),
            "faults": {source.name: source.fault for source in sources if source.fault},
            "ensembles": {source.name: source.ensemble for source in sources},
            "units": (
                "reduced: k_B = 1, lengths, times and energies in the units of the runs" if reduced
                else {"time": "ps", "length": "Å", "energy": "kJ/mol, of the box eV", "temperature": "K"}
            ),
            "tables": {name: [str(column) for column in table.columns] for name, table in tables.items()},
            "figures": figures,
            "inputs": {str(path): sha256(path) for path in dict.fromkeys(files)},
            "definitions": registry.definitions(),
        },
    )  # fmt: skip
    log.info("tables and figures are in %s", out)


def _columns(table: Any) -> dict[str, Any]:
    """A table as arrays by column: numbers as float64, the rest as text."""
    return {
        str(name): table[name].to_numpy(dtype=float)
        if table[name].dtype.kind in "if"
        else table[name].astype(str).to_numpy(dtype=str)
        for name in table.columns
    }


def _masses(text: str | None) -> Any:
    if text is None or text == "equal":
        return text
    try:
        pairs = [(label, float(mass)) for label, mass in (part.split("=") for part in text.split(","))]
    except ValueError:
        pairs = []
    if not pairs or len(dict(pairs)) < len(pairs):
        raise ConfigError(f"--masses is {text!r}; expected 'equal', or masses such as 1=12.011,2=1.008, each once")
    return dict(pairs)


def _of_options(options: dict[str, Any], state: dict[str, Any], own: dict[str, Any]) -> Trajectories:
    """The options of the command line as the content of a file of trajectories."""
    from pydantic import ValidationError

    from mlpwf.config import one_line
    from mlpwf.config.trajectories import Trajectories

    for key, value in state.items():
        if value is None:
            raise ConfigError(f"--{key.replace('_', '-')} is missing; expected it with --trajectory")
    try:
        return Trajectories.model_validate({**options, "states": [state], "analyse": own})
    except ValidationError as error:
        raise ConfigError(f"analyse: {one_line(error)}") from None
