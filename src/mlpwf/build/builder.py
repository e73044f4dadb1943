"""A build: molecules, relaxed boxes, and the first frames to label."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from mlpwf.build.census import census
from mlpwf.build.parallel import Mapper
from mlpwf.build.sampling import Sampling, versions
from mlpwf.campaign.records import BuildSummary
from mlpwf.config import Build, System
from mlpwf.md.sampler import Run, Sampler, dimer, relaxed_box, relaxed_molecule
from mlpwf.structures.boxes import check_distinct, even_shares, generator, pack_box
from mlpwf.structures.species import geometry

log = logging.getLogger(__name__)

# Every part of a build draws from random streams of its own.
_START_BOX, _TEST_BOX, _START_RUN, _TEST_RUN, _SINGLE_RUN, _DIMER = range(6)


@dataclass(frozen=True)
class Built:
    """The frames of a build."""

    boxes: list[Atoms]
    """Relaxed boxes; dynamics start there."""
    start: list[Atoms]
    """Frames to label first."""
    test: list[Atoms]
    """Frames of the test set; their boxes are their own."""


class Builder:
    """What a build makes of its settings.

    Parameters
    ----------
    liquid, settings, seed
        The sections `system` and `build`, and the seed of the campaign.
    work
        Folder where the frames of a sampler run are kept until the build is whole.
    mapper
        `map`, or one over processes.
    """

    def __init__(self, liquid: System, settings: Build, seed: int, work: Path, mapper: Mapper) -> None:
        self.liquid, self.settings, self.seed, self.map = liquid, settings, seed, mapper
        self.counts = [molecule.count for molecule in liquid.molecules.values()]
        self.sampler = Sampler(
            method=settings.sampler,
            timestep_fs=settings.timestep_fs,
            steps_between_frames=settings.steps_between_frames,
            rattle_angstrom=settings.rattle_angstrom,
            strain=settings.strain,
            vacuum_angstrom=settings.vacuum_angstrom,
            minimum_distance_angstrom=settings.minimum_distance_angstrom,
        )
        self.sampling = Sampling(self.sampler, work, mapper)

    def molecules(self) -> list[Atoms]:
        """One relaxed geometry of each species.

        Raises
        ------
        ConfigError
            If a species is not one closed-shell molecule, or two are the same.
        """
        molecules = []
        for species, (name, molecule) in enumerate(self.liquid.molecules.items()):
            found = geometry(name, molecule, self.seed)
            molecules.append(relaxed_molecule(name, species, found, self.settings.sampler))
            log.info("build: %s: %s, relaxed by %s", name, found.get_chemical_formula(), self.settings.sampler)
        check_distinct(molecules)
        return molecules

    def start_boxes(self, molecules: Sequence[Atoms]) -> list[Atoms]:
        """The boxes that dynamics start from: one for each size and density scale."""
        return self._boxes(molecules, _START_BOX)

    def test_boxes(self, molecules: Sequence[Atoms]) -> list[Atoms]:
        """The boxes of the test set, which share no stream with the others."""
        return self._boxes(molecules, _TEST_BOX)

    def frames(self, molecules: Sequence[Atoms], boxes: list[Atoms], own_boxes: Sequence[Atoms]) -> Built:
        """Frames sampled from molecules, pairs and boxes, and those of the test set from boxes of its own."""
        settings = self.settings
        singles = self.sampling.frames("single molecules", self._single_runs(molecules))
        dimers = self._dimers(molecules, singles)
        bulk = self.sampling.frames("bulk", self._bulk_runs(boxes, settings.bulk_frames, _START_RUN))
        test = self.sampling.frames("test", self._bulk_runs(own_boxes, settings.test_frames, _TEST_RUN))
        return Built(boxes, [*singles, *dimers, *bulk], test)

    def summary(self, built: Built, began: os.times_result) -> BuildSummary:
        """What was built.

        Parameters
        ----------
        built
            The frames.
        began
            `os.times()` when the build began, for its CPU time.
        """
        return BuildSummary(
            seed=self.seed,
            sampler=self.settings.sampler,
            density_g_cm3=self.liquid.density_g_cm3,
            molecules=dict(zip(self.liquid.molecules, self.counts, strict=True)),
            boxes=census(built.boxes),
            start=census(built.start),
            test=census(built.test),
            versions=versions(),
            settings=self.settings.model_dump(mode="json"),
            cpu_s=round(sum(os.times()[:4]) - sum(began[:4]), 2),
        )

    def _boxes(self, molecules: Sequence[Atoms], part: int) -> list[Atoms]:
        """One packed and relaxed box for each size and density scale."""
        packed, states = [], []
        for index, (multiple, scale) in enumerate(self._sizes_and_scales()):
            rng, counts = generator(self.seed, part, index), [count * multiple for count in self.counts]
            packed.append(pack_box(molecules, counts, self.liquid.density_g_cm3 * scale, rng))
            states.append(f"bulk_{_of_box(multiple, scale)}")
        boxes = []
        for box in self.map(relaxed_box, packed, states, [self.sampler] * len(packed)):
            boxes.append(box)
            log.info("build: %s: %d atoms, %.4f g/cm³", box.info["state"], len(box), box.info["density_g_cm3"])
        return boxes

    def _sizes_and_scales(self) -> list[tuple[int, float]]:
        return [(m, scale) for m in self.settings.box_multiples for scale in self.settings.density_scales]

    def _single_runs(self, molecules: Sequence[Atoms]) -> list[Run]:
        """A run for each species and temperature."""
        temperatures = self.settings.temperatures_kelvin
        shares = even_shares(self.settings.single_frames, len(temperatures))
        runs: list[Run] = []
        for molecule in molecules:
            for temperature, share in zip(temperatures, shares, strict=True):
                name, state = f"{molecule.info['species']} {temperature:g} K", f"{temperature:g}K_gas"
                stream = (self.seed, _SINGLE_RUN, len(runs))
                runs.append(Run(name, "single", state, molecule, temperature, share, stream))
        return runs

    def _bulk_runs(self, boxes: Sequence[Atoms], frames: int, part: int) -> list[Run]:
        """A run for each temperature, size and density, `frames` shared out evenly."""
        grid = [(t, k) for t in self.settings.temperatures_kelvin for k in range(len(boxes))]
        runs: list[Run] = []
        for (temperature, k), share in zip(grid, even_shares(frames, len(grid)), strict=True):
            box = _of_box(*self._sizes_and_scales()[k])
            name, state = f"{temperature:g} K x{box}", f"{temperature:g}K_{box}"
            runs.append(Run(name, "bulk", state, boxes[k], temperature, share, (self.seed, part, len(runs))))
        return runs

    def _dimers(self, molecules: Sequence[Atoms], singles: Sequence[Atoms]) -> list[Atoms]:
        """Pairs of sampled geometries, or of the relaxed ones where none were sampled."""
        pool = []
        for species, molecule in enumerate(molecules):
            own = [atoms for atoms in singles if atoms.arrays["species"][0] == species]
            pool.append(own or [molecule])
        streams = [generator(self.seed, _DIMER, index) for index in range(self.settings.dimer_frames)]
        return [dimer(pool, self.counts, self.sampler, rng) for rng in streams]


def _of_box(multiple: int, scale: float) -> str:
    """What names a box in its state: its density scale, and its size where that is not the counts of the system."""
    return f"{scale:g}" if multiple == 1 else f"{scale:g}_{multiple}fold"
