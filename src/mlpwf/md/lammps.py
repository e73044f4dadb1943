"""LAMMPS with any potential, each run in a child process of its own.

A child that dies takes neither the campaign nor the other runs with it: its
exit status is part of the outcome. Jobs and results cross the border as JSON,
extended XYZ and npz files.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from mlpwf.campaign.records import Record
from mlpwf.errors import EngineError
from mlpwf.files import no_room, write_json
from mlpwf.potentials.base import Engine
from mlpwf.potentials.registry import engine
from mlpwf.process import run_engine

log = logging.getLogger(__name__)

SETUP_FAILED = 3
DISK_FULL = 4


@dataclass(frozen=True)
class WalkerJob:
    """One exploring walker; files are absolute paths."""

    engine: str
    models: list[list[str]]
    """Files of each member of the committee; the first moves the atoms."""
    box: str
    references: str
    seed: int
    temperature_kelvin: float
    pressure_bar: float | None
    timestep_fs: float
    steps: int
    steps_between_frames: int
    blow_up_ev_angstrom: float
    state: str
    walker: int


@dataclass(frozen=True)
class SegmentJob:
    """A stretch of a production run, from a packed box or from a restart file.

    Steps count from the start of production; they are negative while the box
    equilibrates. The stretch ends at `stop_step`, or before `end_time`.
    """

    engine: str
    models: list[list[str]]
    """Files of the one potential."""
    box: str
    references: str
    restart: str | None
    checkpoint: int
    """Number of the checkpoint this job goes on from; 0: none."""
    seed: int
    temperature_kelvin: float
    timestep_fs: float
    thermostat_time_ps: float
    pressure_bar: float | None
    """Pressure of the equilibration, whose mean volume the run keeps; None: the volume of the box."""
    volumes: list[float]
    """Sum in Å³ and number of the volumes found so far on the way to that mean."""
    equilibration_steps: int
    interval_steps: int
    stress_steps: int
    start_step: int
    stop_step: int
    end_time: float | None
    """Unix time in s at which the state must be safe; None: no limit."""
    checkpoint_s: float


@dataclass(frozen=True)
class ValidationJob:
    """Constant-energy, constant-volume and constant-pressure runs from one equilibrated box."""

    engine: str
    models: list[list[str]]
    """Files of the one potential."""
    box: str
    references: str
    seed: int
    temperature_kelvin: float
    pressure_bar: float
    timestep_fs: float
    equilibration_steps: int
    nve_steps: int
    nvt_steps: int
    npt_steps: int
    sample_steps: int
    checkpoint_s: float


Job = WalkerJob | SegmentJob | ValidationJob

ENSEMBLES = ("nve", "nvt", "npt")
"""The runs of a validation; its result is a `campaign.records.RunEnd` for each. That of a walker is a `WalkerEnd`."""


class SegmentEnd(Record, frozen=True, kw_only=True):
    """Result of a stretch of a production run."""

    stable: bool
    step: int
    """Last step, since the start of production."""
    reason: str
    """Why it blew up; empty: it did not."""
    parts: int
    """Number of the last checkpoint."""
    cell: list[list[float]] | None
    """Cell vectors as rows in Å; None: they are lost."""
    volumes: list[float]
    """Sum in Å³ and number of the volumes averaged at constant pressure."""


def environment(engine: Engine, threads: int = 1) -> dict[str, str]:
    """Variables that let the LAMMPS library of this Python find MPI and what the engine adds to it.

    Raises
    ------
    EngineError
        If a package the engine needs is not installed.
    """
    plugin = engine.plugin(threads)
    folders = [f"{sys.prefix}/lib", *plugin.libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {
        "LD_LIBRARY_PATH": ":".join(folders),
        "LAMMPS_PLUGIN_PATH": "",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
        **plugin.variables,
    }


def run_worker(job: Job, folder: Path, *, launcher: list[str], threads: int = 1, label: str = "") -> int:
    """Run one job in a child process; its files are in `folder`, its prints in `folder`/output.txt.

    Parameters
    ----------
    job
        What to run; written to `folder`/job.json.
    launcher
        Words put before the Python command.
    threads
        Threads of the potential.
    label
        If given, the job's progress is logged under this name, every tenth of the way.

    Returns
    -------
    int
        Exit status of the child: 0, or that of a crash.

    Raises
    ------
    EngineError
        If the child cannot be started, LAMMPS cannot read the models, or the disk is full.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "job.json", {"task": type(job).__name__, **asdict(job)})
    output = folder / "output.txt"
    command = [*launcher, sys.executable, "-m", "mlpwf.md.worker", str(folder / "job.json")]
    by = engine(job.engine)
    variables = environment(by, threads)
    with _progress_logged(folder / "progress.json", label):
        status = run_engine(command, folder=folder, output=output, environment=variables)
    if status == DISK_FULL:
        raise EngineError(no_room(folder))
    if status == SETUP_FAILED:
        files = ", ".join(model[0] for model in job.models)
        raise EngineError(
            f"LAMMPS cannot start with {files}: {last_words(output)}; expected {by.expects}, and files of this run"
        )
    return status


@contextmanager
def _progress_logged(file: Path, label: str) -> Iterator[None]:
    """Log what the child reports in `file` while the block runs."""
    file.unlink(missing_ok=True)
    done = threading.Event()

    def watch() -> None:
        told = 0
        while not done.wait(1.0):
            try:
                progress = json.loads(file.read_text())
            except (OSError, ValueError):
                continue
            tenth = int(10 * progress["fraction"])
            if tenth > told:
                told = tenth
                log.info("%s: %d %%, %.3g ns/day", label, 10 * tenth, progress["ns_per_day"])

    watcher = threading.Thread(target=watch, daemon=True)
    if label:
        watcher.start()
    try:
        yield
    finally:
        done.set()
        if label:
            watcher.join()


def last_words(output: Path) -> str:
    """The last line a child printed, without the noise of the libraries it loads."""
    noise = ("DeePMD-kit: ", "implib-gen: ", "WARNING: ", "I0000 ", "W0000 ")
    try:
        lines = output.read_text(errors="replace").splitlines()
    except OSError:
        return "no output"
    words = [line.strip() for line in lines if line.strip() and not line.startswith(noise)]
    return words[-1] if words else "no output"


def describe_exit(status: int) -> str:
    """An exit status in words."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def rebuild_steps(timestep_fs: float, interval: int, longest_fs: float = 2.5) -> int:
    """Steps between neighbour list builds: at most `longest_fs`, and a divisor of `interval`.

    Restart files are written on such a step, so that a continued run is the
    uninterrupted run bit for bit.
    """
    longest = max(1, int(longest_fs / timestep_fs + 1e-9))
    return max(k for k in range(1, longest + 1) if interval % k == 0)
