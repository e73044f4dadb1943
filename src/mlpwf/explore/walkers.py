"""The walkers of one state: their jobs, their runs, and what they leave."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mlpwf import __version__
from mlpwf.campaign import paths, records
from mlpwf.campaign.records import Record, Walker, WalkerEnd
from mlpwf.campaign.states import ExploreState
from mlpwf.config import Explore, Site
from mlpwf.errors import DataError
from mlpwf.files import sha256, write_text
from mlpwf.md.lammps import WalkerJob, describe_exit, last_words, run_worker
from mlpwf.potentials.record import engine_of, sound_model
from mlpwf.structures.frames import quantised, read_frames, write_frames
from mlpwf.structures.molecules import rescaled

log = logging.getLogger(__name__)

FINISHED, BLEW_UP, BROKEN, CRASHED = "finished", "blew up", "broken", "crashed"
OUTCOMES = (FINISHED, BLEW_UP, BROKEN, CRASHED)
COLUMNS = ("step", "max_devi_f", "min_devi_f", "avg_devi_f", "max_devi_v", "temperature")
"""Of each walker's deviations.csv; the state's has `walker` before them."""


@dataclass(frozen=True)
class Exploration:
    """One state to be explored in one cycle."""

    section: Explore
    at: ExploreState
    state: str
    cycle: int
    seed: int
    models: Sequence[Path]
    """The committee; the first one moves the atoms."""
    molecules: Path
    """One frame for each species."""
    out: paths.Explore

    def walker(self, number: int) -> Path:
        """Folder of a walker."""
        return self.out / "walker" / f"{number:02d}"


class FinishedWalker(Record, frozen=True, kw_only=True):
    """walker.json: a walker that has ended, and what it was made from."""

    walker: int
    outcome: str
    reason: str
    steps: int
    wanted_steps: int
    seed: int
    key: str
    """SHA-256 of the job and of what its files hold."""


def start_boxes(starts: Path) -> list[Atoms]:
    """The boxes of liquid in a file, which walkers start from.

    Raises
    ------
    DataError
        If there is none.
    """
    boxes = [atoms for atoms in read_frames(starts) if atoms.info.get("kind", "bulk") == "bulk"]
    if not boxes:
        raise DataError(f"{starts}: no frame of kind 'bulk'; expected at least one: run mlpwf build again")
    return boxes


def walker_jobs(exploration: Exploration, boxes: Sequence[Atoms]) -> list[WalkerJob]:
    """One job for each walker; its start box, chosen by seed, cycle, state and walker, is written beside it."""
    engine = engine_of(exploration.models).name
    return [_job(exploration, number, boxes, engine) for number in range(exploration.section.walkers)]


def _job(exploration: Exploration, number: int, boxes: Sequence[Atoms], engine: str) -> WalkerJob:
    section, at, state = exploration.section, exploration.at, exploration.state
    rng = np.random.default_rng([exploration.seed, exploration.cycle, zlib.crc32(state.encode()), number])
    start = exploration.walker(number) / "start.extxyz"
    write_frames(start, [quantised(_start(boxes[int(rng.integers(len(boxes)))], at.density_g_cm3))])
    return WalkerJob(
        engine=engine,
        models=[[str(path.resolve())] for path in exploration.models],
        box=str(start.resolve()),
        references=str(exploration.molecules.resolve()),
        seed=int(rng.integers(2**31)),
        temperature_kelvin=at.temperature_kelvin,
        pressure_bar=at.pressure_bar,
        timestep_fs=section.timestep_fs,
        steps=section.steps,
        steps_between_frames=section.steps_between_frames,
        blow_up_ev_angstrom=section.blow_up_ev_angstrom,
        state=state,
        walker=number,
    )


def _start(box: Atoms, density_g_cm3: float | None) -> Atoms:
    """A copy of a box, at the density of the state where it has one."""
    start = box.copy() if density_g_cm3 is None else rescaled(box.copy(), density_g_cm3)
    start.info = {}
    return start


# ---------------------------------------------------------------- runs


def run_walkers(exploration: Exploration, jobs: Sequence[WalkerJob], site: Site) -> list[FinishedWalker]:
    """Run all walkers, as many at a time as the site lends cores, one core each.

    Raises
    ------
    DataError
        If a model is damaged.
    EngineError
        If LAMMPS cannot start.
    """
    models = [sound_model(path) for path in exploration.models]

    def run(job: WalkerJob) -> FinishedWalker:
        return run_walker(job, exploration.walker(job.walker), job_key(job, models), site.lammps_launcher)

    with ThreadPoolExecutor(min(site.md_threads, len(jobs))) as pool:
        return list(pool.map(run, jobs))


def job_key(job: WalkerJob, models: Sequence[str]) -> str:
    """SHA-256 of all that a walker depends on.

    Parameters
    ----------
    job
        Its box and molecules count by their content.
    models
        Hashes of the committee's models.
    """
    content = {
        **asdict(job), "models": models, "mlpwf": __version__,
        "box": sha256(job.box), "references": sha256(job.references),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def run_walker(job: WalkerJob, folder: Path, key: str, launcher: list[str]) -> FinishedWalker:
    """Run a walker, or reuse its result if it had ended under the same key; a crash is a result too."""
    kept = folder / "walker.json"
    known = records.read_known(kept, FinishedWalker)
    if known is not None and known.key == key and known.outcome != CRASHED:
        log.info("explore %s: reusing walker %d", job.state, job.walker)
        return known
    for name in ("walker.json", "result.json", "frames.extxyz", "deviations.csv"):
        (folder / name).unlink(missing_ok=True)
    status = run_worker(job, folder, launcher=launcher)
    end = records.read(folder / "result.json", WalkerEnd) if status == 0 else _crash(folder, status)
    found = FinishedWalker(
        walker=job.walker, outcome=end.outcome, reason=end.reason, steps=end.steps, wanted_steps=job.steps,
        seed=job.seed, key=key,
    )  # fmt: skip
    records.write(kept, found)
    told = f" ({end.reason})" if end.reason else ""
    log.info("explore %s: walker %d %s after %d steps%s", job.state, job.walker, end.outcome, end.steps, told)
    return found


def _crash(folder: Path, status: int) -> WalkerEnd:
    """The end of a walker whose process died: the steps of its last whole frame, and its last words."""
    steps = max((int(atoms.info["step"]) for atoms in complete_frames(folder / "frames.extxyz")), default=0)
    reason = f"{describe_exit(status)}: {last_words(folder / 'output.txt')}"
    return WalkerEnd(outcome=CRASHED, reason=reason, steps=steps)


# ---------------------------------------------------------------- what they leave


def complete_frames(file: Path) -> list[Atoms]:
    """The frames a walker wrote, less one that a crash cut short, which is removed from the file."""
    if not file.exists():
        return []
    lines = file.read_text().splitlines(keepends=True)
    whole = whole_lines(lines)
    if whole < len(lines):
        write_text(file, "".join(lines[:whole]))
    return read_frames(file)


def whole_lines(lines: Sequence[str]) -> int:
    """Number of lines, with their ends, that belong to whole frames of extended XYZ."""
    at = 0
    while at < len(lines):
        end = at + 2 + int(lines[at])  # number of atoms, comment, atoms
        if end > len(lines) or not lines[end - 1].endswith("\n"):
            break
        at = end
    return at


def collect(exploration: Exploration, ended: Sequence[FinishedWalker]) -> list[Walker]:
    """Write frames.extxyz and deviations.csv of all walkers, a crashed one's as far as they go; their records."""
    found = {one.walker: complete_frames(exploration.walker(one.walker) / "frames.extxyz") for one in ended}
    rows = [row for one in ended for row in _rows(exploration.walker(one.walker) / "deviations.csv", one.walker)]
    write_frames(exploration.out.frames, [atoms for frames in found.values() for atoms in frames])
    write_text(exploration.out.deviations, "\n".join([",".join(("walker", *COLUMNS)), *rows]) + "\n")
    return [_record(exploration, one, len(found[one.walker])) for one in ended]


def _rows(table: Path, walker: int) -> list[str]:
    """The rows of a walker's deviations, with its number; none where there is no table."""
    lines = table.read_text().splitlines()[1:] if table.exists() else []
    return [f"{walker},{line}" for line in lines]


def _record(exploration: Exploration, ended: FinishedWalker, frames: int) -> Walker:
    return Walker(
        seed=ended.seed,
        state=exploration.state,
        cycle=exploration.cycle,
        walker=ended.walker,
        outcome=ended.outcome,
        reason=ended.reason,
        steps=ended.steps,
        wanted_steps=ended.wanted_steps,
        frames=frames,
    )


def counted(walkers: Sequence[Walker]) -> str:
    """How many walkers ended how, in words."""
    counts = {kind: sum(one.outcome == kind for one in walkers) for kind in OUTCOMES}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
