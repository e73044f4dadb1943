"""`mlpwf doctor`: is this site fit for a campaign? Asked before the campaign."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlpwf.config import load_campaign, load_site, read_yaml
from mlpwf.errors import ConfigError

if TYPE_CHECKING:
    from mlpwf.findings import Finding


def doctor(
    system: Annotated[
        Path | None, typer.Argument(help="campaign file; unset: the one config/config.yaml names")
    ] = None,
    site: Annotated[Path | None, typer.Option(help="site file; unset: the one a run would read")] = None,
    results: Annotated[Path, typer.Option(help="folder of all results")] = Path("results"),
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Also ask Slurm, and check a node of each kind in a job.")
    ] = False,
    minutes: Annotated[float, typer.Option(min=0.1, help="longest wait for the jobs of --slurm, in minutes")] = 60.0,
    job: Annotated[Path | None, typer.Option(hidden=True, help="inside a job: file of the findings")] = None,
    gpus: Annotated[int, typer.Option(hidden=True, help="inside a job: GPUs it was given")] = 0,
) -> None:
    """Make programs, files, locks, clocks and room work as a campaign will; one line a check, exit 2 if one failed."""
    from mlpwf.doctor.cluster import cluster
    from mlpwf.doctor.machine import machine
    from mlpwf.doctor.programs import programs

    system, site = system or _named("system", slurm), site or _named("site", slurm)
    campaign, place = load_campaign(system), load_site(site)
    if job is not None:
        import os
        import socket
        from dataclasses import replace

        from mlpwf.files import write_json

        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        within = [*machine(campaign, place, results, held_elsewhere=True), *programs(campaign, place, gpus)]
        write_json(job, [replace(finding, where=node).document() for finding in within])
        return
    levels = _shown(machine(campaign, place, results))
    levels += _shown(programs(campaign, place))
    if slurm:
        levels += _shown(cluster(campaign, place, system, site, results, minutes))
    failures, warnings = levels.count("failed"), levels.count("warning")
    typer.echo(f"{len(levels)} checks: {failures} failed, {warnings} with a warning")
    if failures:
        raise typer.Exit(2)


def _named(key: str, slurm: bool) -> Path:
    """The campaign or site file a run reads, with or without the profile for Slurm."""
    values: dict[str, str] = {}
    for name in ("config", "slurm") if slurm else ("config",):
        values |= read_yaml(Path("config") / f"{name}.yaml") or {}
    if key not in values:
        raise ConfigError(f"config/config.yaml: names no {key}; name the file on the command line")
    return Path(values[key])


def _shown(findings: Iterable[Finding]) -> list[str]:
    levels = []
    for finding in findings:
        typer.echo(finding.line)
        levels.append(str(finding.level))
    return levels
