"""Production runs on disk: the checkpoints of a stretch in flight, and the segments that are done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlpwf.campaign import records
from mlpwf.campaign.paths import State
from mlpwf.campaign.records import SegmentSummary
from mlpwf.files import sha256

CHECKPOINTS = Path("checkpoint")


@dataclass(frozen=True)
class Checkpoint:
    """A state a killed stretch goes on from: step, restart file, and what was kept up to it."""

    number: int
    step: int
    restart: Path
    sha256: str
    """Of the restart file, as it was recorded."""

    @property
    def whole(self) -> bool:
        """Whether the restart file is there and is the one that was recorded."""
        return self.restart.is_file() and sha256(self.restart) == self.sha256


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
        record = records.read_known(path, records.Checkpoint)
        if record is None:
            complaints.append(f"{path}: not a whole checkpoint")
            break
        part, restart = (checkpoint_file(folder, number, suffix) for suffix in ("npz", "bin"))
        if number != len(chain) + 1 or not part.is_file() or sha256(part) != record.sha256.get(part.name):
            complaints.append(f"{part}: missing or damaged")
            break
        chain.append(Checkpoint(number, record.step, restart, record.sha256.get(restart.name, "")))
    for checkpoint in reversed(chain[-2:]):
        if checkpoint.whole:
            return checkpoint, complaints
        complaints.append(f"{checkpoint.restart}: missing or damaged")
    return None, complaints


def _numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in sorted(folder.glob("[0-9]*.json")):
        yield int(path.stem), path


def segments(state: State) -> list[SegmentSummary]:
    """Summaries of the finished segments of a state, in order, up to the first that is not there."""
    found: list[SegmentSummary] = []
    while summary := records.read_known(state.segment(len(found)).summary, SegmentSummary):
        found.append(summary)
    return found
