"""Sampler runs, kept one by one, so that a build that is killed loses only those in flight."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from ase import Atoms
from ase.io.jsonio import decode, encode

from mlpwf.build.parallel import Mapper
from mlpwf.files import write_text
from mlpwf.md.sampler import Run, Sampler, sample

log = logging.getLogger(__name__)

PACKAGES = ("ase", "numpy", "packmol", "rdkit", "tblite")


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a build gives."""
    return {name: version(name) for name in PACKAGES}


@dataclass(frozen=True)
class Sampling:
    """How sampler runs are made, and where their frames are kept."""

    sampler: Sampler
    work: Path
    map: Mapper

    def frames(self, what: str, runs: Sequence[Run]) -> list[Atoms]:
        """Frames of all runs, in their order; runs that a killed build had finished are taken as they are."""
        runs = [run for run in runs if run.frames]
        files = [self.file(run) for run in runs]
        missing = [run for run, file in zip(runs, files, strict=True) if not file.is_file()]
        if len(missing) < len(runs):
            log.info("build: %s: reusing %d of %d sampler runs", what, len(runs) - len(missing), len(runs))
        fresh = iter(self.map(sample, missing, [self.sampler] * len(missing)))
        total = sum(run.frames for run in runs)
        frames: list[Atoms] = []
        for run, file in zip(runs, files, strict=True):
            frames += _kept(file) if file.is_file() else _keep(file, next(fresh))
            log.info("build: %s %s: %d/%d frames", what, run.name, len(frames), total)
        return frames

    def file(self, run: Run) -> Path:
        """Where the frames of a run are kept, named by all they depend on."""
        recipe = encode([asdict(run), asdict(self.sampler), versions()])
        return self.work / f"{hashlib.sha256(recipe.encode()).hexdigest()[:32]}.json"


def _keep(file: Path, frames: list[Atoms]) -> list[Atoms]:
    write_text(file, encode(frames))
    return frames


def _kept(file: Path) -> list[Atoms]:
    frames: list[Atoms] = decode(file.read_text())
    return frames
