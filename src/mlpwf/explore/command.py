"""`mlpwf explore`: all walkers of one state."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.campaign.states import ExploreState
    from mlpwf.config import Explore, Site
    from mlpwf.md.lammps import WalkerJob

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
    from mlpwf import __version__
    from mlpwf.campaign.accounting import accounted
    from mlpwf.campaign.states import states
    from mlpwf.config import Explore, Site, System, load_section
    from mlpwf.errors import ConfigError
    from mlpwf.files import sole_writer, write_json
    from mlpwf.potentials.base import Ability
    from mlpwf.potentials.record import engine_of, sound_model

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
        jobs = _jobs(section, named[state], state, cycle, seed, model, starts, molecules, out)
        inputs = {"models": [sound_model(path) for path in model], "mlpwf": __version__}
        results = _run_all(jobs, inputs, load_section(Site, site)[0], state, out)
        _collect(results, out)
        counts = {
            kind: sum(r["outcome"] == kind for r in results) for kind in ("finished", "blew up", "broken", "crashed")
        }
        log.info("explore %s: %s", state, ", ".join(f"{count} {kind}" for kind, count in counts.items() if count))
        summary = [{"mlpwf": __version__, "seed": seed, "state": state, "cycle": cycle, **result} for result in results]
        write_json(out / "walkers.json", summary)


def _jobs(
    section: Explore,
    at: ExploreState,
    state: str,
    cycle: int,
    seed: int,
    models: list[Path],
    starts: Path,
    molecules: Path,
    out: Path,
) -> list[WalkerJob]:
    """One job for each walker; its start box, chosen by seed, cycle, state and walker, is written beside it."""
    import zlib

    import numpy as np

    from mlpwf.errors import DataError
    from mlpwf.md.lammps import WalkerJob
    from mlpwf.potentials.record import engine_of
    from mlpwf.structures.frames import quantised, read_frames, write_frames
    from mlpwf.structures.molecules import rescaled

    boxes = [atoms for atoms in read_frames(starts) if atoms.info.get("kind", "bulk") == "bulk"]
    if not boxes:
        raise DataError(f"{starts}: no frame of kind 'bulk'; expected at least one: run mlpwf build again")
    engine = engine_of(models).name
    jobs = []
    for walker in range(section.walkers):
        rng = np.random.default_rng([seed, cycle, zlib.crc32(state.encode()), walker])
        box = boxes[rng.integers(len(boxes))].copy()
        if at.density_g_cm3 is not None:
            box = rescaled(box, at.density_g_cm3)
        box.info = {}
        start = _folder(out, walker) / "start.extxyz"
        write_frames(start, [quantised(box)])
        jobs.append(
            WalkerJob(
                engine=engine,
                models=[[str(path.resolve())] for path in models],
                box=str(start.resolve()),
                references=str(molecules.resolve()),
                seed=int(rng.integers(2**31)),
                temperature_kelvin=at.temperature_kelvin,
                pressure_bar=at.pressure_bar,
                timestep_fs=section.timestep_fs,
                steps=section.steps,
                steps_between_frames=section.steps_between_frames,
                blow_up_ev_angstrom=section.blow_up_ev_angstrom,
                state=state,
                walker=walker,
            )
        )
    return jobs


def _folder(out: Path, walker: int) -> Path:
    return out / "walker" / f"{walker:02d}"


def _run_all(jobs: list[WalkerJob], inputs: dict[str, Any], site: Site, state: str, out: Path) -> list[dict[str, Any]]:
    """Results of all walkers, as many at a time as the site lends cores, one core each."""
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import asdict

    from mlpwf.files import sha256

    def run(job: WalkerJob) -> dict[str, Any]:
        content = {**asdict(job), **inputs, "box": sha256(job.box), "references": sha256(job.references)}
        return _walker(job, content, _folder(out, job.walker), site.lammps_launcher, state)

    with ThreadPoolExecutor(min(site.md_threads, len(jobs))) as pool:
        return list(pool.map(run, jobs))


def _walker(job: WalkerJob, content: dict[str, Any], folder: Path, launcher: list[str], state: str) -> dict[str, Any]:
    """Run a walker, or take its result if it had ended under the same inputs; a crash is a result too."""
    import hashlib
    import json

    from mlpwf.files import read_json, write_json
    from mlpwf.md.lammps import describe_exit, last_words, run_worker

    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    kept = folder / "walker.json"
    if kept.exists() and (known := read_json(kept))["key"] == key and known["outcome"] != "crashed":
        log.info("explore %s: reusing walker %d", state, job.walker)
        return {name: value for name, value in known.items() if name != "key"}
    for name in ("walker.json", "result.json", "frames.extxyz", "deviations.csv"):
        (folder / name).unlink(missing_ok=True)
    status = run_worker(job, folder, launcher=launcher)
    if status == 0:
        result = read_json(folder / "result.json")
    else:
        words = last_words(folder / "output.txt")
        frames = _complete_frames(folder)
        steps = max((int(atoms.info["step"]) for atoms in frames), default=0)
        result = {"outcome": "crashed", "reason": f"{describe_exit(status)}: {words}", "steps": steps}
    result = {"walker": job.walker, **result, "wanted_steps": job.steps, "seed": job.seed}
    write_json(kept, {**result, "key": key})
    told = f" ({result['reason']})" if result["reason"] else ""
    log.info("explore %s: walker %d %s after %d steps%s", state, job.walker, result["outcome"], result["steps"], told)
    return result


def _complete_frames(folder: Path) -> list[Atoms]:
    """The frames a walker wrote, less one that a crash cut short."""
    from mlpwf.files import write_text
    from mlpwf.structures.frames import read_frames

    path = folder / "frames.extxyz"
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    whole, at = 0, 0
    while at < len(lines) and at + 2 + int(lines[at]) <= len(lines) and lines[at + 1 + int(lines[at])].endswith("\n"):
        at += 2 + int(lines[at])
        whole = at
    if whole < len(lines):
        write_text(path, "".join(lines[:whole]))
    return read_frames(path)


def _collect(results: list[dict[str, Any]], out: Path) -> None:
    """frames.extxyz and deviations.csv of all walkers; a crashed walker's as far as they go."""
    from mlpwf.files import write_text
    from mlpwf.structures.frames import write_frames

    columns = ("step", "max_devi_f", "min_devi_f", "avg_devi_f", "max_devi_v", "temperature")
    frames, rows = [], [",".join(("walker", *columns))]
    for result in results:
        folder = _folder(out, result["walker"])
        found = _complete_frames(folder)
        frames += found
        result["frames"] = len(found)
        table = folder / "deviations.csv"
        lines = table.read_text().splitlines()[1:] if table.exists() else []
        rows += [f"{result['walker']},{line}" for line in lines]
    write_frames(out / "frames.extxyz", frames)
    write_text(out / "deviations.csv", "\n".join(rows) + "\n")
