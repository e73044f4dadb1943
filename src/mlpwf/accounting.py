"""What each job cost, appended to a line-wise ledger of the campaign."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _cpu_seconds() -> tuple[float, float]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime


@contextmanager
def accounted(folder: Path | str, stage: str) -> Iterator[None]:
    """Append this job's wall and CPU seconds to `folder`/cost.jsonl, failed or not.

    Each line: stage, finished (bool), started (Unix time), wall_s, own_cpu_s
    (this process) and engine_cpu_s (the programs it ran and waited for).
    """
    started, (own, children) = time.time(), _cpu_seconds()
    finished = False
    try:
        yield
        finished = True
    finally:
        own_end, children_end = _cpu_seconds()
        entry = {
            "stage": stage,
            "finished": finished,
            "started": started,
            "wall_s": round(time.time() - started, 3),
            "own_cpu_s": round(own_end - own, 3),
            "engine_cpu_s": round(children_end - children, 3),
        }
        path = Path(folder) / "cost.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:
            handle.write(json.dumps(entry) + "\n")


def read_costs(campaign: Path | str) -> list[dict[str, float | str | bool]]:
    """All ledger lines below a campaign folder; a line cut by a kill is left out."""
    entries = []
    for path in sorted(Path(campaign).rglob("cost.jsonl")):
        for line in path.read_text().splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
    return entries
