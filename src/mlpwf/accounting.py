"""What each job cost, kept in a line-wise ledger of the campaign; a killed job's cost is kept too."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlpwf.files import write_json

HEARTBEAT_S = 10.0
LEDGER, RUNNING = "cost.jsonl", "cost.running.json"


def cpu_seconds() -> tuple[float, float]:
    """CPU time of this process, and of all programs it has run and is running, in s."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime, ended.ru_utime + ended.ru_stime + _running_s()


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

    Each line: stage, finished (true or false; null in a job's heartbeat), started (Unix time), wall_s, own_cpu_s
    (this process) and engine_cpu_s (the programs it ran). A job killed outright
    leaves its last heartbeat, at most `HEARTBEAT_S` old, which the next job in
    the same folder moves to the ledger. To be held by the folder's only writer.

    Yields
    ------
    callable
        Call it for a heartbeat out of turn.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    running = folder / RUNNING
    killed = _read(running.read_text()) if running.exists() else None
    if killed:
        _append(folder, killed | {"finished": False})
    started, before = time.time(), cpu_seconds()

    def entry(finished: bool | None) -> dict[str, Any]:
        own, engines = (now - then for now, then in zip(cpu_seconds(), before, strict=True))
        return {
            "stage": stage,
            "finished": finished,
            "started": started,
            "wall_s": round(time.time() - started, 3),
            "own_cpu_s": round(own, 3),
            "engine_cpu_s": round(engines, 3),
        }

    ended = threading.Event()

    def beat() -> None:
        write_json(running, entry(None))

    def live() -> None:
        while not ended.wait(HEARTBEAT_S):
            beat()

    beat()
    heart = threading.Thread(target=live, daemon=True)
    heart.start()
    finished = False
    try:
        yield beat
        finished = True
    finally:
        ended.set()
        heart.join()
        _append(folder, entry(finished))
        running.unlink(missing_ok=True)


def _append(folder: Path, entry: dict[str, Any]) -> None:
    """Add a line; one that a kill has cut short is ended first, so that it takes no other with it."""
    ledger = folder / LEDGER
    cut = ledger.exists() and not ledger.read_bytes().endswith(b"\n")
    with ledger.open("a") as handle:
        handle.write("\n" * cut + json.dumps(entry) + "\n")


def _read(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "stage" in entry else None


def read_costs(campaign: Path | str) -> list[dict[str, Any]]:
    """All ledger lines below a campaign folder, jobs that run or were killed included.

    A line cut short by a kill is left out.
    """
    lines = []
    for path in sorted(Path(campaign).rglob("cost.*")):
        if path.name in (LEDGER, RUNNING):
            try:
                lines += path.read_text().splitlines() if path.name == LEDGER else [path.read_text()]
            except FileNotFoundError:
                continue
    return [entry for line in lines if (entry := _read(line))]
