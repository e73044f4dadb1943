"""How labels share a machine: one rank or several, and how many labels side by side."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from ase import Atoms

from mlpwf import __version__
from mlpwf.calculators.base import Rejected, Report
from mlpwf.calculators.espresso import pw
from mlpwf.calculators.espresso.acceptance import accept
from mlpwf.config import Label, Site
from mlpwf.config.site import launched
from mlpwf.errors import ConfigError, DataError, EngineError
from mlpwf.tables import table

log = logging.getLogger(__name__)

ATOMS_PER_RANK = 15
"""Fewer atoms do not keep a rank busy."""
MEMORY_SHARE = 0.9
"""Of the memory, for labels."""
HEADER = ("labels side by side", "processes a label", "s a label", "labels/hour", "MiB", "failure")


@dataclass(frozen=True)
class Layout:
    """labels side by side, each on `ranks` processes, each given `threads` cores of the machine."""

    labels: int
    ranks: int
    threads: int


@dataclass(frozen=True)
class Timing:
    """A layout that was tried with a command: wall time of each label in s, memory of all in MiB, why it failed."""

    layout: Layout
    command: tuple[str, ...]
    wall_s: tuple[float, ...] = ()
    memory_mib: float = 0.0
    failure: str | None = None

    @property
    def labels_per_hour(self) -> float:
        """Rate at which this layout gives labels; 0 if it failed."""
        return 0.0 if self.failure else sum(3600 / wall for wall in self.wall_s)


@dataclass(frozen=True)
class Trial:
    """A timing as layout.json has it."""

    layout: Layout
    command: tuple[str, ...]
    wall_s: tuple[float, ...]
    memory_mib: float
    failure: str | None
    labels_per_hour: float


@dataclass(frozen=True)
class Document:
    """The content of layout.json: what was tried, and the lines of the site file for the fastest."""

    mlpwf: str
    formula: str
    cores: int
    memory_mib: int
    tried: list[Trial]
    site: SiteLines


@dataclass(frozen=True)
class SiteLines:
    """Keys of the site file."""

    label_threads: int
    pw: list[str]


def propose(atoms: int, cores: int, memory_mib: float, label_mib: float, ranks: int | None = None) -> Layout:
    """The layout to try first.

    One serial process a label and a label on each core is the most a machine gives:
    no core waits for another. When the memory (nine tenths of it) holds fewer labels
    than there are cores, each label is given the smallest whole number of cores that
    leaves only as many as fit, and runs as so many ranks, at least 15 atoms to a
    rank; ranks share a label's memory. Asked-for ranks are taken as they are.

    Parameters
    ----------
    atoms
        Atoms of the largest structure.
    cores
        Cores of the machine.
    memory_mib, label_mib
        Memory of the machine, and of one label on one process.
    ranks
        Processes of a label, if asked for.

    Raises
    ------
    ConfigError
        If not even one label fits, or more ranks than cores are asked for.
    """
    fitting = int(MEMORY_SHARE * memory_mib / label_mib)
    if fitting < 1:
        raise ConfigError(
            f"a label takes {label_mib:.0f} MiB; expected at most {MEMORY_SHARE:.0%} of {memory_mib:.0f} MiB: "
            "label smaller frames, or take a machine with more memory"
        )
    if ranks is not None and ranks > cores:
        raise ConfigError(f"--ranks is {ranks}; expected at most the number of cores, {cores}")
    threads = -(-cores // fitting)
    if ranks is None:
        ranks = max(1, min(threads, atoms // ATOMS_PER_RANK))
    threads = max(threads, ranks)
    return Layout(cores // threads, ranks, threads)


def serial_command(pw: Sequence[str]) -> list[str]:
    """The command of one process: words of a launcher left out, pw.x taken to be the last word behind it."""
    return list(pw[-1:]) if launched(pw) else list(pw)


def mpirun_of(program: str) -> str | None:
    """The mpirun of a program's own MPI: the one beside it, or the first on PATH but for this Python's.

    DeePMD-kit brings MPICH into the environment; under its mpirun, a pw.x of Open MPI would run as so many
    processes that know nothing of each other.
    """
    found = shutil.which(program)
    beside = Path(found).with_name("mpirun") if found else None
    if beside is not None and beside.is_file():
        return str(beside)
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return shutil.which(
        "mpirun", path=os.pathsep.join(one for one in folders if one != str(Path(sys.executable).parent))
    )


def mpi_command(serial: Sequence[str], ranks: int, mpirun: str = "mpirun") -> list[str]:
    """The command of several processes under mpirun, not bound to cores that other labels use."""
    allow = ["env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"] if os.geteuid() == 0 else []
    return [*allow, mpirun, "--bind-to", "none", "-n", str(ranks), *serial]


def candidates(proposal: Layout, two_ranks: Layout | None, site: Site, cores: int) -> dict[Layout, list[str]]:
    """The commands to try by layout: the proposal, two processes a label, and what the site file has now.

    Parameters
    ----------
    proposal, two_ranks
        Layouts of `propose`; None where there is one core only.
    site
        The present command, and the cores of a label job.
    cores
        Cores of the machine.
    """
    serial = serial_command(site.pw)
    commands: dict[Layout, list[str]] = {}
    for layout in (proposal, two_ranks):
        if layout is not None and layout.ranks > 1 and (mpirun := mpirun_of(serial[-1])):
            commands[layout] = mpi_command(serial, layout.ranks, mpirun)
        elif layout is not None and layout.ranks == 1:
            commands[layout] = serial
    if site.pw != serial:
        threads = min(site.label_threads, cores)
        commands[Layout(cores // threads, threads, threads)] = site.pw
    return commands


def machine_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def machine_memory_mib() -> float:
    """Memory of this machine, or of its control group if that has less, in MiB."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return min(limits) / 2**20


def measure(
    atoms: Atoms,
    settings: Label,
    site: Site,
    hashes: Mapping[str, str],
    layout: Layout,
    command: Sequence[str],
    folder: Path,
) -> Timing:
    """Run the same label as often as the layout has labels, all at once.

    Parameters
    ----------
    atoms
        The structure.
    settings, site
        Settings of the label; where the pseudopotentials are.
    hashes
        MD5 sum of each element's pseudopotential.
    layout
        What is tried.
    command
        Words that run pw.x on `layout.ranks` processes.
    folder
        Place for scratch folders.
    """
    place = site.model_copy(update={"pw": list(command)})

    def run(_: int) -> float:
        scratch = Path(tempfile.mkdtemp(dir=folder))
        try:
            started = time.monotonic()
            status, text = pw.run(atoms, settings, place, scratch)
            wall = time.monotonic() - started
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        accept(status, text, atoms, settings, hashes)
        return wall

    with peak_memory() as peaks, ThreadPoolExecutor(layout.labels) as pool:
        try:
            walls = tuple(pool.map(run, range(layout.labels)))
        except (Rejected, EngineError) as error:
            return Timing(layout, tuple(command), failure=str(error))
    # all do the same work; one that grew between two looks was seen too small
    return Timing(layout, tuple(command), walls, layout.labels * layout.ranks * max(peaks.values(), default=0.0))


@contextmanager
def peak_memory() -> Iterator[dict[int, float]]:
    """Largest memory of each process begun from here on below this one, in MiB by its number; 20 looks a second."""
    peaks: dict[int, float] = {}
    ended = threading.Event()
    others = set(memory_below_mib())

    def look() -> None:
        while not ended.wait(0.05):
            for pid, used in memory_below_mib().items():
                if pid not in others:
                    peaks[pid] = max(used, peaks.get(pid, 0.0))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


def memory_below_mib() -> dict[int, float]:
    """Largest resident memory so far of each process below this one, in MiB by its number."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    own = Path("/proc/self/cmdline").read_bytes()
    memory, waiting = {}, children.get(os.getpid(), [])
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        with suppress(OSError):
            # until a new process has started its program it counts this one's memory as its own
            forked = Path(f"/proc/{pid}/cmdline").read_bytes() == own
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            memory[pid] = 0.0 if forked else sum(int(line.split()[1]) / 1024 for line in lines if "VmHWM" in line)
    return memory


def benchmark(
    atoms: Atoms,
    settings: Label,
    site: Site,
    hashes: Mapping[str, str],
    folder: Path,
    *,
    cores: int | None,
    memory_mib: float | None,
    ranks: int | None,
) -> Report:
    """Propose a layout of labels for this machine, and measure it and others with one label.

    Parameters
    ----------
    atoms, settings, site, hashes, folder
        As for `measure`.
    cores, memory_mib
        What to use of the machine; None: all there is.
    ranks
        Processes of a label, if asked for.

    Raises
    ------
    DataError
        If the label to be timed is rejected.
    """
    cores, memory_mib = cores or machine_cores(), memory_mib or machine_memory_mib()

    def tried(layout: Layout, command: list[str]) -> Timing:
        log.info("trying %d side by side, %d processes each", layout.labels, layout.ranks)
        return measure(atoms, settings, site, hashes, layout, command, folder)

    alone = tried(Layout(1, 1, cores), serial_command(site.pw))
    if alone.failure:
        raise DataError(f"the label to be timed was rejected: {alone.failure}")
    first = propose(len(atoms), cores, memory_mib, alone.memory_mib, ranks)
    second = propose(len(atoms), cores, memory_mib, alone.memory_mib, 2) if cores > 1 else None
    commands = candidates(first, second, site, cores)
    commands.pop(alone.layout, None)
    timings = [alone, *(tried(layout, command) for layout, command in commands.items())]
    best = max(timings, key=lambda timing: timing.labels_per_hour)
    wanted = SiteLines(best.layout.threads, list(best.command))
    document = Document(
        __version__, atoms.get_chemical_formula(), cores, round(memory_mib), [_trial(one) for one in timings], wanted
    )
    lines = list(table([HEADER, *map(_row, timings)]))
    several = any(timing.layout.ranks > 1 and not timing.failure for timing in timings)
    if several and settings.dispersion != "none" and not settings.dispersion_threebody:
        lines.append("on several processes pw.x 6.7 spends the time of D3's three-body term although it is off")
    lines.append(f"lines of the site file, for {cores} cores:")
    lines.append(yaml.safe_dump(asdict(wanted), sort_keys=False, default_flow_style=None).rstrip())
    return Report(lines, {"parallel.json": asdict(document)})


def _trial(timing: Timing) -> Trial:
    return Trial(
        timing.layout, timing.command, timing.wall_s, timing.memory_mib, timing.failure, timing.labels_per_hour
    )


def _row(timing: Timing) -> tuple[str, ...]:
    layout = (f"{timing.layout.labels}", f"{timing.layout.ranks}")
    if timing.failure:
        return (*layout, "-", "-", "-", timing.failure)
    wall = sum(timing.wall_s) / len(timing.wall_s)
    return (*layout, f"{wall:.1f}", f"{timing.labels_per_hour:.0f}", f"{timing.memory_mib:.0f}", "-")
