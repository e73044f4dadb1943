"""`mlpwf build`: molecules, relaxed boxes, and the first frames to label."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.campaign.accounting import accounted
from mlpwf.config import Build, System, load_section
from mlpwf.errors import EngineError
from mlpwf.files import sole_writer, write_json, write_text

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.md.sampler import Run

log = logging.getLogger(__name__)

# Every part of a build draws from random streams of its own.
_START_BOX, _TEST_BOX, _START_RUN, _TEST_RUN, _SINGLE_RUN, _DIMER = range(6)
_Mapper = Callable[..., Iterable[Any]]


def build(
    system: Annotated[Path, typer.Option(help="resolved section `system`")],
    config: Annotated[Path, typer.Option(help="resolved section `build`")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    threads: Annotated[int, typer.Option(min=1, help="sampler runs at a time; results do not depend on it")] = 1,
    molecules_only: Annotated[
        bool, typer.Option(help="write molecules.extxyz alone: nothing is to be labelled")
    ] = False,
) -> None:
    """Build molecules, boxes and the first frames, for training and for the held-out test."""
    os.environ["OMP_NUM_THREADS"] = "1"  # Snakemake sets it to the job's threads, which here are processes
    liquid, _ = load_section(System, system)
    settings, seed = load_section(Build, config)
    with sole_writer(out), accounted(out, "build"), _mapper(threads) as mapper:
        began, builder = os.times(), _Builder(liquid, settings, seed, out, mapper)
        if molecules_only:
            builder.build_molecules()
        else:
            builder.build(began)


@contextmanager
def _mapper(threads: int) -> Iterator[_Mapper]:
    """A `map` over up to `threads` processes, each with one thread; what they log is logged here."""
    if threads == 1:
        yield map
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from logging.handlers import QueueListener

    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    listener = QueueListener(said, _Again())
    listener.start()
    with ProcessPoolExecutor(threads, context, _begin_worker, (os.getpid(), said)) as pool:
        try:
            yield pool.map
        except BrokenProcessPool:
            raise EngineError("a sampler process was killed; expected enough memory for --threads: lower it") from None
        finally:
            pool.shutdown(cancel_futures=True)
            listener.stop()


class _Again(logging.Handler):
    """What another process logged, logged here."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)


def _begin_worker(parent: int, said: Any) -> None:
    """In a worker process: end with the parent, and send it what is logged."""
    from logging.handlers import QueueHandler

    from mlpwf.process import live_with

    live_with(parent)
    root = logging.getLogger("mlpwf")
    root.setLevel(logging.INFO)
    root.addHandler(QueueHandler(said))


class _Builder:
    """One build: its settings, its molecules and where its files go."""

    def __init__(self, liquid: System, settings: Build, seed: int, out: Path, mapper: _Mapper) -> None:
        from mlpwf.md.sampler import Sampler

        self.liquid, self.settings, self.seed, self.out, self.map = liquid, settings, seed, out, mapper
        self.versions = _versions()
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

    def build(self, began: os.times_result) -> None:
        """Write all files; the summary, last, says that the build is whole."""
        from mlpwf.structures.frames import write_frames

        (self.out / "summary.json").unlink(missing_ok=True)
        self.build_molecules()
        boxes, own_boxes = self._boxes(_START_BOX), self._boxes(_TEST_BOX)
        write_frames(self.out / "bulk.extxyz", boxes)
        singles = self._sampled("single molecules", self._single_runs())
        dimers = self._dimers(singles)
        bulk = self._sampled("bulk", self._bulk_runs(boxes, self.settings.bulk_frames, _START_RUN))
        test = self._sampled("test", self._bulk_runs(own_boxes, self.settings.test_frames, _TEST_RUN))
        start = [*singles, *dimers, *bulk]
        write_frames(self.out / "start.extxyz", start)
        write_frames(self.out / "test.extxyz", test)
        write_json(self.out / "summary.json", self._summary(boxes, start, test, began))
        shutil.rmtree(self.out / "work", ignore_errors=True)
        log.info("build: %d frames to start from, %d held out, in %s", len(start), len(test), self.out)

    def build_molecules(self) -> None:
        """One relaxed geometry of each species."""
        from mlpwf.structures.frames import write_frames

        self.molecules = self._molecules()
        write_frames(self.out / "molecules.extxyz", self.molecules)

    def _molecules(self) -> list[Atoms]:
        from mlpwf.md.sampler import relaxed_molecule
        from mlpwf.structures.boxes import check_distinct
        from mlpwf.structures.species import geometry

        molecules = []
        for species, (name, molecule) in enumerate(self.liquid.molecules.items()):
            found = geometry(name, molecule, self.seed)
            molecules.append(relaxed_molecule(name, species, found, self.settings.sampler))
            log.info("build: %s: %s, relaxed by %s", name, found.get_chemical_formula(), self.settings.sampler)
        check_distinct(molecules)
        return molecules

    def _boxes(self, part: int) -> list[Atoms]:
        """One packed and relaxed box for each size and density scale."""
        from mlpwf.md.sampler import relaxed_box
        from mlpwf.structures.boxes import generator, pack_box

        packed, states = [], []
        for index, (multiple, scale) in enumerate(self._sizes_and_scales()):
            rng, counts = generator(self.seed, part, index), [count * multiple for count in self.counts]
            packed.append(pack_box(self.molecules, counts, self.liquid.density_g_cm3 * scale, rng))
            states.append(f"bulk_{_of_box(multiple, scale)}")
        boxes = []
        for box in self.map(relaxed_box, packed, states, [self.sampler] * len(packed)):
            boxes.append(box)
            log.info("build: %s: %d atoms, %.4f g/cm³", box.info["state"], len(box), box.info["density_g_cm3"])
        return boxes

    def _sizes_and_scales(self) -> list[tuple[int, float]]:
        return [(m, scale) for m in self.settings.box_multiples for scale in self.settings.density_scales]

    def _single_runs(self) -> list[Run]:
        from mlpwf.md.sampler import Run
        from mlpwf.structures.boxes import even_shares

        temperatures = self.settings.temperatures_kelvin
        shares = even_shares(self.settings.single_frames, len(temperatures))
        runs: list[Run] = []
        for molecule in self.molecules:
            for temperature, share in zip(temperatures, shares, strict=True):
                name, state = f"{molecule.info['species']} {temperature:g} K", f"{temperature:g}K_gas"
                stream = (self.seed, _SINGLE_RUN, len(runs))
                runs.append(Run(name, "single", state, molecule, temperature, share, stream))
        return runs

    def _bulk_runs(self, boxes: list[Atoms], frames: int, part: int) -> list[Run]:
        """A run for each temperature, size and density, `frames` shared out evenly."""
        from mlpwf.md.sampler import Run
        from mlpwf.structures.boxes import even_shares

        grid = [(t, k) for t in self.settings.temperatures_kelvin for k in range(len(boxes))]
        runs: list[Run] = []
        for (temperature, k), share in zip(grid, even_shares(frames, len(grid)), strict=True):
            box = _of_box(*self._sizes_and_scales()[k])
            name, state = f"{temperature:g} K x{box}", f"{temperature:g}K_{box}"
            runs.append(Run(name, "bulk", state, boxes[k], temperature, share, (self.seed, part, len(runs))))
        return runs

    def _sampled(self, what: str, runs: list[Run]) -> list[Atoms]:
        """Frames of all runs, in their order; runs that a killed build had finished are taken as they are."""
        from mlpwf.md.sampler import sample

        runs = [run for run in runs if run.frames]
        files = [self._file(run) for run in runs]
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

    def _file(self, run: Run) -> Path:
        """Where the frames of a run are kept until the build is whole, named by all they depend on."""
        import hashlib
        from dataclasses import asdict

        from ase.io.jsonio import encode

        recipe = encode([asdict(run), asdict(self.sampler), self.versions])
        return self.out / "work" / f"{hashlib.sha256(recipe.encode()).hexdigest()[:32]}.json"

    def _dimers(self, singles: list[Atoms]) -> list[Atoms]:
        """Pairs of sampled geometries, or of the relaxed ones where none were sampled."""
        from mlpwf.md.sampler import dimer
        from mlpwf.structures.boxes import generator

        pool = []
        for species, molecule in enumerate(self.molecules):
            own = [atoms for atoms in singles if atoms.arrays["species"][0] == species]
            pool.append(own or [molecule])
        streams = [generator(self.seed, _DIMER, index) for index in range(self.settings.dimer_frames)]
        return [dimer(pool, self.counts, self.sampler, rng) for rng in streams]

    def _summary(
        self, boxes: list[Atoms], start: list[Atoms], test: list[Atoms], began: os.times_result
    ) -> dict[str, Any]:
        now = os.times()
        return {
            "mlpwf": __version__,
            "seed": self.seed,
            "sampler": self.settings.sampler,
            "density_g_cm3": self.liquid.density_g_cm3,
            "molecules": dict(zip(self.liquid.molecules, self.counts, strict=True)),
            "boxes": _census(boxes),
            "start": _census(start),
            "test": _census(test),
            "versions": self.versions,
            "settings": self.settings.model_dump(mode="json"),
            "cpu_s": round(sum(now[:4]) - sum(began[:4]), 2),
        }


def _of_box(multiple: int, scale: float) -> str:
    """What names a box in its state: its density scale, and its size where that is not the counts of the system."""
    return f"{scale:g}" if multiple == 1 else f"{scale:g}_{multiple}fold"


def _keep(file: Path, frames: list[Atoms]) -> list[Atoms]:
    from ase.io.jsonio import encode

    write_text(file, encode(frames))
    return frames


def _kept(file: Path) -> list[Atoms]:
    from ase.io.jsonio import decode

    frames: list[Atoms] = decode(file.read_text())
    return frames


def _census(frames: list[Atoms]) -> dict[str, Any]:
    """How many frames there are of each kind and state, and their closest atoms in Å."""
    from collections import Counter

    from mlpwf.structures.frames import minimum_distance

    closest: dict[str, float] = {}
    for atoms in frames:
        kind = atoms.info["kind"]
        closest[kind] = min(closest.get(kind, float("inf")), minimum_distance(atoms))
    return {
        "frames": len(frames),
        "kinds": dict(Counter(atoms.info["kind"] for atoms in frames)),
        "states": dict(Counter(atoms.info["state"] for atoms in frames)),
        "minimum_distance_angstrom": {kind: round(d, 4) for kind, d in closest.items() if d < float("inf")},
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("ase", "numpy", "packmol", "rdkit", "tblite")}
