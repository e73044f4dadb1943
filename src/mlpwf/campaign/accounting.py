"""What a campaign cost: its jobs and Snakemake itself; what was killed is kept too."""

from __future__ import annotations

import atexit
import json
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from mlpwf.campaign import records
from mlpwf.campaign.records import Cost, SnakemakeCost
from mlpwf.files import naming

log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
LEDGER, RUNNING = "cost.jsonl", "cost.running.json"
SNAKEMAKE = "snakemake"


class _Process:
    """What is known of this process: whether a ledger's entry begins with it, and its CPU-s spent as an engine."""

    whole = False
    engine_s = 0.0
    depth = 0


def book_whole_process() -> None:
    """In a process of one verb: its start and its imports are part of the next entry."""
    _Process.whole = True


@contextmanager
def as_engine() -> Iterator[None]:
    """CPU time of this process within the block is an engine's: a model evaluated here, a sum over a trajectory."""
    _Process.depth += 1
    before = time.process_time()
    try:
        yield
    finally:
        _Process.depth -= 1
        if not _Process.depth:
            _Process.engine_s += time.process_time() - before


def cpu_seconds() -> tuple[float, float]:
    """CPU time, in s, of this process itself, and of all engines: programs ended or running, and `as_engine`."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    inside = _Process.engine_s
    return own.ru_utime + own.ru_stime - inside, ended.ru_utime + ended.ru_stime + _running_s() + inside


def peak_mb() -> float:
    """Most memory in MB (of 1024 kB) this process, or one of the programs it has run, ever held.

    Of itself by /proc: the kernel's ru_maxrss of a new program starts at what its parent held.
    """
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def _process_started() -> float:
    """When this process began, in Unix time."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - (up - ticks / os.sysconf("SC_CLK_TCK"))


def _running_s() -> float:
    """CPU time of the processes below this one that are alive, in s."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        ticks[pid] = sum(map(int, fields[11:15]))
    below, found = {os.getpid()}, 0
    while len(below) > found:
        found = len(below)
        below |= {pid for pid, parent in parents.items() if parent in below}
    return sum(ticks.get(pid, 0) for pid in below - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


@contextmanager
def accounted(folder: Path | str, stage: str) -> Iterator[Callable[[], None]]:
    """Append this job's wall and CPU seconds to `folder`/cost.jsonl, finished or not.

    Each line is a `records.Cost`: own_cpu_s is of this process, without what it computed
    `as_engine`; engine_cpu_s is of that, and of the programs it ran; peak_mb is of the largest
    of all its processes. A job killed outright leaves its last heartbeat, at most `HEARTBEAT_S`
    old, which the next job in the same folder moves to the ledger. To be held by the folder's
    only writer.

    Yields
    ------
    callable
        Call it for a heartbeat out of turn.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    running = folder / RUNNING
    killed = records.read_known(running, Cost)
    if killed:
        _append(folder, msgspec.structs.replace(killed, finished=False))
    started, before = (_process_started(), (0.0, 0.0)) if _Process.whole else (time.time(), cpu_seconds())
    _Process.whole = False

    def cost(finished: bool | None) -> Cost:
        own, engines = (now - then for now, then in zip(cpu_seconds(), before, strict=True))
        return Cost(
            stage=stage,
            finished=finished,
            started=started,
            wall_s=round(time.time() - started, 3),
            own_cpu_s=round(own, 3),
            engine_cpu_s=round(engines, 3),
            peak_mb=round(peak_mb(), 1),
        )

    ended = threading.Event()

    def beat() -> None:
        records.write(running, cost(None))

    def live() -> None:
        while not ended.wait(HEARTBEAT_S):
            with suppress(OSError):  # a full disk: the job itself will say so
                beat()

    beat()
    heart = threading.Thread(target=live, daemon=True)
    heart.start()
    finished = False
    try:
        with naming(folder):
            yield beat
        finished = True
    finally:
        ended.set()
        heart.join()
        try:
            _append(folder, cost(finished))
            running.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: the cost of this job is not noted (%s)", folder / LEDGER, error.strerror)


def book_snakemake(campaign: Path | str, cores: int) -> None:
    """Keep the cost of this process, a Snakemake, in `campaign`/snakemake, from its start until its end.

    Parameters
    ----------
    campaign
        The campaign's folder.
    cores
        Cores it may put to use; 0 for one that submits its jobs to a cluster.
    """
    started = round(_process_started(), 3)
    file = Path(campaign) / SNAKEMAKE / f"{socket.gethostname()}-{os.getpid()}-{started:.0f}.json"

    def beat() -> None:
        wall, cpu = time.time() - started, time.process_time()
        with suppress(OSError):
            spent = SnakemakeCost(started=started, wall_s=round(wall, 3), cpu_s=round(cpu, 3), cores=cores)
            records.write(file, spent)

    def live() -> None:
        while True:
            beat()
            time.sleep(HEARTBEAT_S)

    threading.Thread(target=live, daemon=True).start()
    atexit.register(beat)


def read_snakemake(campaign: Path | str) -> list[SnakemakeCost]:
    """What each Snakemake of a campaign cost; a file cut short by a kill is left out."""
    paths = sorted((Path(campaign) / SNAKEMAKE).glob("[!.]*.json"))
    return [cost for path in paths if (cost := records.read_known(path, SnakemakeCost))]


def _append(folder: Path, cost: Cost) -> None:
    """Add a line; one that a kill has cut short is ended first, so that it takes no other with it."""
    ledger = folder / LEDGER
    cut = ledger.exists() and not ledger.read_bytes().endswith(b"\n")
    with ledger.open("a") as handle:
        handle.write("\n" * cut + json.dumps(records.as_json(cost)) + "\n")


def read_costs(campaign: Path | str) -> list[Cost]:
    """What each job below a campaign folder cost, jobs that run or were killed included.

    A line cut short by a kill is left out.
    """
    found: list[Cost] = []
    for path in sorted(Path(campaign).rglob("cost.*")):
        if path.name == LEDGER:
            with suppress(FileNotFoundError):  # a folder that is being cleared
                found += records.read_lines(path.read_text(), Cost)
        elif path.name == RUNNING and (cost := records.read_known(path, Cost)):
            found.append(cost)
    return found
