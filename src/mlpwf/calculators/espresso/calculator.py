"""Quantum ESPRESSO's pw.x behind the calculator protocol."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.calculators.base import (
    Attempt,
    Bench,
    Calculator,
    Numerics,
    Output,
    Physics,
    Rejected,
    Report,
    Result,
    StudyRequest,
)
from mlpwf.calculators.espresso import foresight, label_error, outputs, parallel, pseudopotentials, pw, retries
from mlpwf.calculators.espresso.acceptance import accept
from mlpwf.calculators.espresso.study import study
from mlpwf.calculators.foresight import Box, Foresight, Known
from mlpwf.config.label import Label
from mlpwf.config.site import Site
from mlpwf.findings import Finding, failed, made, ok, warning


class Espresso(Calculator):
    """Labels by pw.x, accepted by the whitelist of `acceptance`."""

    keeps_output = True

    @classmethod
    def at_site(cls, label: Label, site: Site) -> Self:
        """The calculator of all elements that the site has a file for."""
        folder = Path(site.pseudopotential_folder)
        return cls(label, site, [e for e, name in label.pseudopotentials.items() if (folder / name).is_file()])

    @property
    def folder(self) -> Path:
        """Where the pseudopotentials are."""
        return Path(self.site.pseudopotential_folder)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """MD5 sum of each element's pseudopotential; ConfigError if one is not there."""
        return pw.pseudopotential_hashes(list(self.elements), self.label, self.folder)

    @property
    def physics(self) -> Physics:
        """Functional, cut-offs, k-points, smearing, threshold and pseudopotentials."""
        return pw.physics(self.label, self.hashes)

    @classmethod
    def in_cell(cls, physics: Mapping[str, object], cell: NDArray[np.float64]) -> Physics:
        """The physics with the k-points that its rule gives in a cell."""
        return pw.kpoints_in(physics, cell)

    @classmethod
    def told(cls, physics: Mapping[str, object]) -> dict[str, str]:
        """Functional, settings and k-points."""
        return pw.told(physics)

    @property
    def numerics(self) -> Numerics:
        """Mixing, diagonalisation, steps, time and number of retries."""
        return pw.numerics(self.label)

    def compute(self, atoms: Atoms, folder: Path, settings: Label) -> Result:
        """The label of a frame by one run of pw.x."""
        status, text = pw.run(atoms, settings, self.site, folder)
        try:
            return accept(status, text, atoms, settings, self.hashes)
        except Rejected as rejection:
            rejection.output, rejection.version = text, pw.version(text)
            raise

    def retry(self, rejection: Rejected, tried: Sequence[str]) -> Attempt | None:
        """Other mixing, diagonalisation or steps, by what went wrong."""
        return retries.next_attempt(self.label, rejection, tried)

    def second_opinion(self) -> Label:
        """A hundredth of the threshold, by another mixing."""
        return retries.tighter(self.label)

    def foresee(self, boxes: Sequence[Box], labels: Iterable[Known]) -> Foresight:
        """Prices scaled from the store's labels, and the k-points of each box."""
        return foresight.foresee(self.label, boxes, labels)

    # ------------------------------------------------------------ the site

    def diagnose(self, frame: Atoms, boxes: Sequence[Box], target_ev_angstrom: float) -> Iterator[Finding]:
        """Pseudopotentials, k-points and, where the files are sound, a run of pw.x."""
        sound = True
        for finding in made("potentials", self.potentials):
            sound = sound and finding.level != "failed"
            yield finding
        yield from made("k-points", lambda: self.kpoints(boxes, target_ev_angstrom))
        if sound:
            yield from made(self.engine.program, lambda: self.single_point(frame))

    def potentials(self) -> Iterator[Finding]:
        """The file of each element."""
        for element in self.elements:
            yield pseudopotentials.finding(pseudopotentials.check(element, self.label, self.folder))

    def kpoints(self, boxes: Sequence[Box], target_ev_angstrom: float) -> Iterator[Finding]:
        """What error the k-points of each size of box are expected to leave."""
        for one in foresight.samplings(self.label, boxes):
            if one.error <= target_ev_angstrom / 2:
                yield ok("k-points", str(one))
            else:
                yield warning(
                    "k-points", str(one), f"at most half of the target error of {1e3 * target_ev_angstrom:g} meV/Å",
                    "set label.kpoints to auto, lengthen label.image_distance_angstrom, or take more molecules",
                )  # fmt: skip

    def single_point(self, frame: Atoms) -> Iterator[Finding]:
        """One label with the functional and the potentials of the campaign, at low cut-offs."""
        started, command = time.time(), " ".join(self.site.pw)
        cheap = self.label.model_copy(
            update={
                "cutoff_ry": 20.0,
                "density_cutoff_ry": 100.0,
                "fft_grid_ry": None,
                "smearing": "gaussian",
                "kpoints": "gamma",
                "timeout_seconds": 600.0,
            }
        )
        with TemporaryDirectory(prefix="mlpwf-doctor-") as folder:
            try:
                result = self.compute(frame, Path(folder), cheap)
            except Rejected as rejection:
                words = (line.strip() for line in reversed((rejection.output or "").splitlines()) if line.strip(" %"))
                yield failed(
                    "pw.x", f"`{command}`: {rejection}; its last words: {next(words, 'printed nothing')[:200]}",
                    "an accepted single point", "run it by hand, mend `pw` in the site file (modules, launcher, MPI)",
                )  # fmt: skip
                return
        yield ok("pw.x", f"`{command}`: version {result.version}, a single point in {time.time() - started:.1f} s")

    # ------------------------------------------------------------ labels of other work

    def other_physics(self, name: str, value: object) -> str | None:
        """What is expected in the place of another functional or cut-off."""
        return outputs.stated_otherwise(name, value, self.label)

    @classmethod
    def wrote(cls, head: bytes) -> bool:
        """Whether lines of pw.x are at the head of a file."""
        return outputs.wrote(head)

    def read_output(self, path: Path) -> Output:
        """The label in an output of pw.x, of the structure in its input where that lies beside it."""
        return outputs.read_output(path, self.label, self.hashes)

    # ------------------------------------------------------------ what only some can do

    def converged(self, cell: NDArray[np.float64]) -> dict[str, Label]:
        """k-points and cut-offs, each converged with the other as in the label."""
        return label_error.converged(self.label, cell)

    def study(self, request: StudyRequest, bench: Bench) -> Report:
        """The cheapest cut-offs, k-points and box."""
        return study(request, bench)

    def check_pseudopotentials(self, elements: Sequence[str]) -> Report:
        """The header of each file against the settings."""
        return pseudopotentials.report(elements, self.label, self.folder)

    def benchmark(
        self, atoms: Atoms, folder: Path, *, cores: int | None, memory_mib: float | None, ranks: int | None
    ) -> Report:
        """One rank or several, and how many labels side by side."""
        return parallel.benchmark(
            atoms, self.label, self.site, self.hashes, folder, cores=cores, memory_mib=memory_mib, ranks=ranks
        )
