"""Production runs on disk: the checkpoints of a stretch in flight, and the segments that are done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpwf.campaign.paths import State
from mlpwf.files import sha256

CHECKPOINTS = Path("checkpoint")


@dataclass(frozen=True)
class Checkpoint:
    """A state a killed stretch goes on from: step, restart file, and what was kept up to it."""

    number: int
    step: int
    restart: Path


def checkpoint_file(folder: Path, number: int, suffix: str) -> Path:
    """A file of a checkpoint in `folder`."""
    return folder / f"{number:06d}.{suffix}"


def last_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint in `folder` that is whole, and what is wrong with newer ones.

    A checkpoint is whole if its restart file, and what was kept up to it, have
    the hashes that were recorded for them.
    """
    complaints: list[str] = []
    chain: list[Checkpoint] = []
    for number, path in _numbered(folder):
        try:
            record = json.loads(path.read_text())
            step, hashes = int(record["step"]), dict(record["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            complaints.append(f"{path}: not a whole checkpoint")
            break
        part, restart = (checkpoint_file(folder, number, suffix) for suffix in ("npz", "bin"))
        if number != len(chain) + 1 or not part.is_file() or sha256(part) != hashes.get(part.name):
            complaints.append(f"{part}: missing or damaged")
            break
        chain.append(Checkpoint(number, step, restart))
    for checkpoint in reversed(chain[-2:]):
        hashes = json.loads(checkpoint_file(folder, checkpoint.number, "json").read_text())["sha256"]
        if checkpoint.restart.is_file() and sha256(checkpoint.restart) == hashes.get(checkpoint.restart.name):
            return checkpoint, complaints
        complaints.append(f"{checkpoint.restart}: missing or damaged")
    return None, complaints


def _numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in sorted(folder.glob("[0-9]*.json")):
        yield int(path.stem), path


def segments(state: State) -> list[dict[str, Any]]:
    """Summaries of the finished segments of a state, in order, up to the first that is not there."""
    found: list[dict[str, Any]] = []
    while True:
        try:
            summary = json.loads(state.segment(len(found)).summary.read_text())
        except (OSError, ValueError):
            return found
        if not isinstance(summary, dict) or "end_ps" not in summary:
            return found
        found.append(summary)
