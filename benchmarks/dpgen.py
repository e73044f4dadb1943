"""Fewer labels for the same truth? mlpwf's selection against DP-GEN 0.14's, random picks and pure diversity.

    python3.11 -m venv dpgen && dpgen/bin/pip install 'dpgen==0.14.*'
    python benchmarks/dpgen.py run --dpgen dpgen/bin/python --cpu-minutes 60
    python benchmarks/dpgen.py table

All rules start from the same labels and the same committee, choose from the same pool, buy as many labels a
cycle from the same engine, and train alike; only the choice differs. Labels are GFN2-xTB's, a stand-in for DFT
that costs a second.

mlpwf      `mlpwf train test` and `mlpwf select`, as a campaign runs them
dpgen      DP-GEN's own function, run by its own Python: fixed levels of the largest force deviation, then
           random picks
calm       `mlpwf select` of whole frames that have forgotten their walkers, so that none counts as the last
           before a blow-up: what that preference is worth
random     seeded picks among frames of whole molecules
diversity  farthest points from the own training set among them, whatever the committee thinks

Half of the pool is GFN1-xTB dynamics at the states of the ladder, every second frame distorted; half are
walkers of a weak model, most of which collapse, as those of a first cycle do. A frame that was bought leaves
the pool. The test set is GFN1-xTB dynamics of other boxes, and no rule sees it, but that mlpwf calibrates its
first cycle on it, as a campaign does.

Every unit (system, seed, rule, cycle) is kept in --work: a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import io
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlpwf import building
from mlpwf.config import Select, Train
from mlpwf.engines import deepmd, lammps, xtb
from mlpwf.files import read_json, write_json, write_text
from mlpwf.frames import element_order, minimum_distance, quantised, read_frames, write_frames
from mlpwf.molecules import bonds, intact
from mlpwf.sampling import molecules_in_cell
from mlpwf.selection import farthest_points, geometry_key

HERE = Path(__file__).parent
RULES = ("mlpwf", "calm", "dpgen", "random", "diversity")
COMMITTEE = {"mlpwf": 4, "calm": 4, "dpgen": 4, "random": 2, "diversity": 2}
START_FRAMES, BUDGET, CYCLES = 12, 12, 4
WALKERS = 8
SAMPLER = building.Sampler(rattle_angstrom=0.05)
TRAIN = Train(
    cutoff_angstrom=4.0,
    embedding_neurons=[8, 16, 32],
    axis_neurons=4,
    fitting_neurons=[48, 48, 48],
    steps=1500,
    steps_continued=600,
    learning_rate_continued=3e-3,
    virial_weight=0.0,
)


@dataclass(frozen=True)
class System:
    """A liquid, its ladder of states, and what its user asks for."""

    smiles: str
    molecules: int
    density_g_cm3: float
    ladder_kelvin: tuple[int, ...]
    sampled_kelvin: tuple[int, ...]
    """Of the GFN1-xTB dynamics that teach the explorer and make the test set."""
    breaking_kelvin: int
    target_mev_angstrom: float
    """mlpwf's target error."""
    trust: tuple[float, float]
    """DP-GEN's levels in eV/Å: what a user would choose who has seen the deviations of a start committee."""


SYSTEMS = {
    "water": System("O", 8, 0.997, (250, 350, 420), (250, 350, 500), 600, 150, (0.3, 1.0)),
    "toluene": System("Cc1ccccc1", 2, 0.867, (150, 300, 400), (150, 300, 500), 1000, 150, (0.3, 1.0)),
}


def in_child(function: Callable[..., None], *arguments: Any) -> None:
    """Run in a forked process: TensorFlow is imported once, and starts afresh in each."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{function.__name__} of {arguments[0]} ended with status {process.exitcode}")


def children_cpu_s() -> float:
    """CPU-s of all processes that ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ---------------------------------------------------------------- what all rules share


class Stage:
    """A system's folder: molecule, pool, test set, labels."""

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.system, self.folder = name, SYSTEMS[name], work / name
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def molecule(self) -> Atoms:
        kept = self.folder / "molecules.extxyz"
        if not kept.exists():
            drawn = building.molecule_from_smiles(self.name, self.system.smiles, 1)
            write_frames(kept, [building.relaxed_molecule(self.name, 0, drawn, "gfn1")])
        atoms = read_frames(kept)[0]
        building.label_molecules([atoms], [0])
        return atoms

    @cached_property
    def elements(self) -> list[str]:
        return element_order([self.molecule])

    def box(self, part: int, index: int) -> Atoms:
        """A relaxed box of its own random stream."""
        counts, rng = [self.system.molecules], building.generator(7, part, index)
        packed = building.pack_box([self.molecule], counts, self.system.density_g_cm3, rng)
        return building.relaxed_box(packed, "start", SAMPLER)

    def start(self, seed: int) -> list[Atoms]:
        """Labelled frames that all rules begin with: relaxed boxes, distorted."""
        kept = self.folder / f"start{seed}.extxyz"
        if not kept.exists():
            rng = building.generator(7, 1, seed)
            boxes = [self.box(2, 4 * seed + index) for index in range(4)]
            drawn = [building.distorted(boxes[index % 4], SAMPLER, rng) for index in range(START_FRAMES)]
            write_frames(kept, [molecules_in_cell(atoms) for atoms in drawn])
        return self.labelled(read_frames(kept))

    def dynamics(self, walker: int, kelvin: int, every: int, steps: int) -> list[Atoms]:
        """Frames of GFN1-xTB dynamics from a relaxed box, `every` fs apart."""
        kept = self.folder / "gfn1" / f"{walker:03d}.extxyz"
        if not kept.exists():
            moving = xtb.langevin(
                self.box(3, walker), "gfn1", building.generator(7, 4, walker),
                temperature_kelvin=kelvin, timestep_fs=1.0, starting_kelvin=2 * kelvin,
            )  # fmt: skip
            frames = []
            for step in range(1, steps + 1):
                atoms = next(moving)
                atoms.info = {"kind": "bulk", "state": f"{kelvin}K", "walker": walker, "step": step}
                frames.append(quantised(molecules_in_cell(atoms)))
            kept.parent.mkdir(exist_ok=True)
            write_frames(kept, frames[every - 1 :: every])
        return read_frames(kept)

    def sampled(self, index: int) -> list[Atoms]:
        """40 frames at each of three temperatures, 5 fs apart: they teach the explorer, and the latter are the test."""
        return self.dynamics(index, self.system.sampled_kelvin[index], 5, 200)

    def labelled(self, frames: Sequence[Atoms], method: str = "gfn2") -> list[Atoms]:
        """Copies with labels, those that the engine gave; each geometry is computed once."""
        done = []
        for atoms in frames:
            kept = self.folder / "labels" / method / f"{geometry_key(atoms)}.json"
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                try:
                    energy, forces, stress = xtb.label(atoms, method)
                    write_json(kept, {"energy": energy, "forces": forces.tolist(), "stress": stress.tolist()})
                except ValueError as error:
                    write_json(kept, {"failed": str(error)})
            label = read_json(kept)
            if "failed" in label:
                continue
            copy = atoms.copy()
            results = {name: np.array(value) for name, value in label.items()}
            copy.calc = SinglePointCalculator(copy, **(results | {"energy": label["energy"]}))
            done.append(copy)
        return done

    # ------------------------------------------------------------ the pool and the test set

    @cached_property
    def pool(self) -> list[Atoms]:
        """Explored frames: half of GFN1-xTB dynamics, every second distorted, half of a model's walkers."""
        kept = self.folder / "pool.extxyz"
        if not kept.exists():
            frames = [atoms for walker in range(2 * len(self.system.ladder_kelvin)) for atoms in self.thermal(walker)]
            frames += [atoms for walker in range(WALKERS) for atoms in self.walk(walker)]
            write_frames(kept, frames)
        return read_frames(kept)

    def thermal(self, walker: int) -> list[Atoms]:
        """40 frames of one of two runs at each state, 4 fs apart; of every second a distorted copy."""
        kelvin, rng = self.system.ladder_kelvin[walker // 2], building.generator(7, 6, walker)
        frames = []
        for number, found in enumerate(self.dynamics(100 + walker, kelvin, 4, 160)):
            atoms = building.distorted(found, SAMPLER, rng) if number % 2 else found
            atoms.info = dict(found.info)
            frames.append(quantised(atoms))
        return frames

    @cached_property
    def test(self) -> list[Atoms]:
        """Labelled frames of GFN1-xTB dynamics: 10 at each of three temperatures, 15 fs apart."""
        return self.labelled([atoms for index in range(3) for atoms in self.sampled(index)[12::3]])

    @cached_property
    def explorers(self) -> list[Path]:
        """Two models of GFN1-xTB labels."""
        frames = [atoms for index in range(3) for atoms in self.sampled(index)]
        folders = [self.folder.resolve() / "explorer" / str(index) for index in range(2)]
        for index, folder in enumerate(folders):
            if not (folder / "model.pb").exists():
                own = self.labelled(frames, "gfn1")
                in_child(train, folder, own, self.elements, self.slots(frames), index, None)
        return [folder / "model.pb" for folder in folders]

    def walk(self, walker: int) -> list[Atoms]:
        """The first 32 frames of a walker of the explorer, 25 fs apart, fewer if it broke."""
        states = (*self.system.ladder_kelvin, self.system.breaking_kelvin)
        kelvin, folder = states[walker * len(states) // WALKERS], self.folder.resolve() / "walker" / f"{walker:03d}"
        start = folder / "start.extxyz"
        if not (folder / "result.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_frames(start, [self.box(5, walker)])
            references = self.folder.resolve() / "molecules.extxyz"
            job = lammps.WalkerJob(
                models=[str(path) for path in self.explorers], elements=self.elements, box=str(start),
                references=str(references), seed=walker, temperature_kelvin=kelvin, pressure_bar=None,
                timestep_fs=0.5, steps=1600, steps_between_frames=50, blow_up_ev_angstrom=50,
                state=f"{kelvin}K", walker=walker,
            )  # fmt: skip
            if lammps.run_worker(job, folder, launcher=[]) != 0:
                raise SystemExit(f"{folder}: the walker crashed, see output.txt")
        frames = read_frames(folder / "frames.extxyz")[:32]
        for atoms in frames:
            atoms.info = {key: atoms.info[key] for key in ("kind", "state", "walker", "step")}
        return frames

    @cached_property
    def whole(self) -> set[str]:
        """Keys of pool frames whose molecules are intact, no atoms closer than 0.6 Å."""
        bonded = bonds(self.start(0)[0])
        pairs = zip(self.keys, self.pool, strict=True)
        return {key for key, atoms in pairs if intact(atoms, bonded) and minimum_distance(atoms) > 0.6}

    @cached_property
    def keys(self) -> list[str]:
        """The names of all pool frames."""
        return [name(atoms) for atoms in self.pool]

    def slots(self, frames: Sequence[Atoms]) -> list[int]:
        """Neighbour slots of all models."""
        return deepmd.neighbour_slots(deepmd.most_neighbours(frames, self.elements, TRAIN.cutoff_angstrom))


def name(atoms: Atoms) -> str:
    """What names a pool frame: walker and step."""
    return f"{atoms.info['walker']:06d} {atoms.info['step']:06d}"


def train(
    folder: Path, frames: list[Atoms], elements: list[str], slots: list[int], seed: int, start: Path | None
) -> None:
    """Train one model in `folder`, in this process."""
    from deepmd.main import main

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    systems = deepmd.write_data(folder / "data", frames, elements)
    settings = deepmd.training_input(
        TRAIN, elements=elements, slots=slots, systems=systems, seed=deepmd.seeds(seed, 0), continued=start is not None
    )
    (folder / "input.json").write_text(json.dumps(settings))
    words = ["train", "input.json", "--skip-neighbor-stat", *(["--init-frz-model", str(start)] if start else [])]
    with (folder / "train.out").open("w") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    os.chdir(folder)
    main(words)
    main(["freeze", "-c", ".", "-o", "model.pb"])
    for path in [*Path().glob("model.ckpt*"), Path("checkpoint")]:
        path.unlink(missing_ok=True)
    shutil.rmtree("data")


# ---------------------------------------------------------------- one unit


@dataclass(frozen=True)
class Unit:
    """A cycle of a rule: its labels, committee and errors. Cycle 0 is the start, the same for all rules."""

    stage: Stage
    seed: int
    rule: str
    cycle: int
    dpgen: Path

    @property
    def folder(self) -> Path:
        rule = self.rule if self.cycle else "start"
        return self.stage.folder.resolve() / f"seed{self.seed}" / rule / f"{self.cycle:02d}"

    @property
    def before(self) -> Unit:
        return Unit(self.stage, self.seed, self.rule, self.cycle - 1, self.dpgen)

    @property
    def models(self) -> list[Path]:
        return [self.folder / str(index) / "model.pb" for index in range(self.committee)]

    @property
    def committee(self) -> int:
        return COMMITTEE[self.rule] if self.cycle else 4

    @property
    def label_files(self) -> list[Path]:
        own = [self.folder / "labels.extxyz"]
        return own if self.cycle == 0 else [*self.before.label_files, own[0]]

    def picks(self) -> list[str]:
        """Keys of the pool frames bought in this cycle."""
        return [] if self.cycle == 0 else list(read_json(self.folder / "picks.json"))

    def chosen(self) -> list[Atoms]:
        """The pool frames bought in this cycle."""
        wanted = set(self.picks())
        return [atoms for key, atoms in zip(self.stage.keys, self.stage.pool, strict=True) if key in wanted]

    def bought(self) -> set[str]:
        """Keys of all pool frames bought up to this cycle."""
        return set() if self.cycle == 0 else self.before.bought() | set(self.picks())

    def run(self) -> None:
        """Pick, label, train, rate."""
        if (self.folder / "done.json").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        before = children_cpu_s()
        if self.cycle and not (self.folder / "picks.json").exists():
            in_child(pick, self)
        chosen = self.chosen() if self.cycle else []
        fresh = self.stage.labelled(chosen) if self.cycle else self.stage.start(self.seed)
        write_frames(self.label_files[-1], fresh)
        frames = [atoms for path in self.label_files for atoms in read_frames(path)]
        slots = self.stage.slots(self.stage.start(self.seed))
        for index, model in enumerate(self.models):
            if not model.exists():
                start = self.before.models[index] if self.cycle else None
                in_child(train, model.parent, frames, self.stage.elements, slots, 10 * self.seed + index, start)
        in_child(rate, self)
        cost = {"cpu_s": children_cpu_s() - before, "bought": len(chosen), "labels": len(frames)}
        write_json(self.folder / "done.json", cost)
        errors = read_json(self.folder / "errors.json")["test"]["models"]
        found = [one["overall"]["force_inter_rmse_ev_angstrom"] for one in errors]
        print(self.stage.name, self.seed, self.rule, self.cycle, cost, np.round(found, 3), flush=True)


def rate(unit: Unit) -> None:
    """`mlpwf train test`: errors on the test set, and what deviations are worth."""
    from mlpwf.commands.train import train_test

    test = unit.stage.folder / "test_labels.extxyz"
    write_frames(test, unit.stage.test)
    former = unit.before if unit.cycle else None
    train_test(
        model=unit.models, test=test, train_labels=unit.label_files, out=unit.folder / "errors.json",
        new=unit.label_files[-1] if former else None, previous=former.models[: unit.committee] if former else None,
        calibration=former.folder / "calibration.json" if former else None,
    )  # fmt: skip


def pick(unit: Unit) -> None:
    """Write picks.json: what the rule takes from the pool less what it has bought."""
    stage, former = unit.stage, unit.before
    gone = former.bought()
    left = [index for index, key in enumerate(stage.keys) if key not in gone]
    frames = [stage.pool[index] for index in left]
    rng = np.random.default_rng([unit.seed, unit.cycle])
    if unit.rule == "random":
        names = sorted(key for key in stage.whole if key not in gone)
        keys = [names[index] for index in rng.permutation(len(names))[:BUDGET]]
    elif unit.rule == "diversity":
        keys = by_diversity(unit, [index for index in left if stage.keys[index] in stage.whole])
    else:
        forces = deepmd.committee_forces(former.models, frames)
        from mlpwf.calibration import spread

        for atoms, values in zip(frames, forces, strict=True):
            atoms.info |= {"max_devi_f": float(spread(values).max()), "max_devi_v": 0.0}
        keys = (by_dpgen if unit.rule == "dpgen" else by_mlpwf)(unit, frames)
    write_json(unit.folder / "picks.json", sorted(keys))


def by_diversity(unit: Unit, indices: list[int]) -> list[str]:
    """Farthest points from the own training set in the own model's descriptors."""
    known = [atoms for path in unit.before.label_files for atoms in read_frames(path)]
    pool = [unit.stage.pool[index] for index in indices]
    vectors = deepmd.descriptors(unit.before.models[0], [*pool, *known], unit.stage.elements)
    keys = [unit.stage.keys[index] for index in indices]
    choices = farthest_points(vectors[: len(pool)], keys, vectors[len(pool) :], budget=BUDGET, duplicate_distance=1e-6)
    return [key for key, choice in zip(keys, choices, strict=True) if choice.selected]


def by_mlpwf(unit: Unit, frames: list[Atoms]) -> list[str]:
    """`mlpwf select`."""
    from mlpwf.commands.select import select

    explored, config, out = unit.folder / "explored.extxyz", unit.folder / "select.json", unit.folder / "select"
    names = {(atoms.info["walker"], atoms.info["step"]): name(atoms) for atoms in frames}
    if unit.rule == "calm":
        frames = [atoms for atoms in frames if name(atoms) in unit.stage.whole]
        names = {(number, atoms.info["step"]): name(atoms) for number, atoms in enumerate(frames)}
        for number, atoms in enumerate(frames):
            atoms.info["walker"] = number
    write_frames(explored, frames)
    target = unit.stage.system.target_mev_angstrom
    settings = Select(
        budget=BUDGET, target_error_mev_angstrom=target, maximum_cycles=99, converged_candidate_fraction=0
    )
    write_json(config, settings.model_dump(mode="json") | {"seed": unit.seed})
    former = unit.before
    select(
        config=config, explored=[explored], labels=former.label_files, descriptor_model=former.models[0],
        errors=former.folder / "errors.json", molecules=unit.stage.folder / "molecules.extxyz", cycle=unit.cycle - 1,
        out=out, model=former.models, calibration=former.folder / "calibration.json",
    )  # fmt: skip
    explored.unlink()
    return [names[atoms.info["walker"], atoms.info["step"]] for atoms in read_frames(out / "frames.extxyz")]


def by_dpgen(unit: Unit, frames: list[Atoms]) -> list[str]:
    """DP-GEN's function, on what its exploration would have left."""
    work = unit.folder / "dpgen"
    shutil.rmtree(work, ignore_errors=True)
    (work / "fp").mkdir(parents=True)
    for walker in sorted({int(atoms.info["walker"]) for atoms in frames}):
        task = work / "model_devi" / f"task.000.{walker:06d}"
        (task / "traj").mkdir(parents=True)
        (task / "job.json").write_text("{}")
        own = [atoms for atoms in frames if atoms.info["walker"] == walker]
        rows = [f"{a.info['step']} 0 0 0 {a.info['max_devi_f']:.8g} 0 0" for a in own]
        (task / "model_devi.out").write_text("\n".join(["# step devi_v devi_f", *rows]) + "\n")
        for atoms in own:
            write_dump(task / "traj" / f"{atoms.info['step']}.lammpstrj", atoms, unit.stage.elements)
    words = [*unit.stage.system.trust, BUDGET, 1000 * unit.seed + unit.cycle, *unit.stage.elements]
    # -P: else this file, beside the other, would be the package dpgen
    command = [str(unit.dpgen), "-P", str(HERE / "dpgen_pick.py"), "model_devi", "fp", *map(str, words)]
    done = subprocess.run(command, cwd=work, check=True, capture_output=True, text=True)
    (unit.folder / "dpgen.out").write_text(done.stdout + done.stderr)
    shutil.rmtree(work)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("picked ")]
    return [f"{task.split('.')[-1]} {int(step):06d}" for _, task, step in lines]


def write_dump(target: Path, atoms: Atoms, elements: list[str]) -> None:
    """A frame as LAMMPS dumps it."""
    box, rotation = lammps.box_matrix(atoms.cell.array)
    xy, xz, yz = box[1, 0], box[2, 0], box[2, 1]
    low = (min(0, xy, xz, xy + xz), min(0, yz), 0)
    high = (box[0, 0] + max(0, xy, xz, xy + xz), box[1, 1] + max(0, yz), box[2, 2])
    lines = ["ITEM: TIMESTEP", str(atoms.info["step"]), "ITEM: NUMBER OF ATOMS", str(len(atoms))]
    lines += ["ITEM: BOX BOUNDS xy xz yz pp pp pp"]
    lines += [f"{a:.10g} {b:.10g} {tilt:.10g}" for a, b, tilt in zip(low, high, (xy, xz, yz), strict=True)]
    lines += ["ITEM: ATOMS id type x y z"]
    for number, (symbol, x) in enumerate(zip(atoms.symbols, atoms.positions @ rotation, strict=True), 1):
        lines.append(f"{number} {elements.index(symbol) + 1} {x[0]:.10g} {x[1]:.10g} {x[2]:.10g}")
    target.write_text("\n".join(lines) + "\n")


# ---------------------------------------------------------------- tables


COLUMNS = ["system", "rule", "seed", "labels", "inter, meV/Å", "intra, meV/Å", "force, meV/Å", "CPU-s"]
REACH = ["system", "goal, meV/Å", "rule", "seeds", "labels", "standard error"]


def write_table(target: Path, header: list[str], lines: list[list[Any]]) -> None:
    """A CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *lines])
    write_text(target, text.getvalue())


def rows(work: Path) -> list[list[Any]]:
    """A row for each finished unit: errors are root mean squares over test frames and models."""
    found = []
    for done in sorted(work.glob("*/seed*/*/*/done.json")):
        system, seed, rule, _ = done.relative_to(work).parts[:4]
        models = [one["overall"] for one in read_json(done.parent / "errors.json")["test"]["models"]]
        names = [f"force_{kind}rmse_ev_angstrom" for kind in ("inter_", "intra_", "")]
        errors = [f"{1e3 * np.sqrt(np.mean([one[name] ** 2 for one in models])):.1f}" for name in names]
        cost = read_json(done)
        found.append([system, rule, int(seed[4:]), cost["labels"], *errors, f"{cost['cpu_s']:.0f}"])
    return found


def reached(labels: Sequence[float], errors: Sequence[float], goal: float) -> float:
    """Labels at which the error first falls to `goal`, on straight lines in logarithms; inf: not within these."""
    x, y = np.log(labels), np.log(errors)
    for k, error in enumerate(errors):
        if error <= goal:
            return float(labels[0] if k == 0 else np.exp(np.interp(np.log(goal), y[[k, k - 1]], x[[k, k - 1]])))
    return float("inf")


def reach(found: list[list[Any]]) -> list[list[Any]]:
    """Labels each rule needs for the intermolecular errors that DP-GEN has after its cycles.

    A goal is the largest error of its seeds after a cycle, unless a start is as good; only the seeds that
    came so far count, and curves as long. Mean and standard error over seeds; a seed that never gets there makes
    the mean a lower bound, with its last label counted.
    """
    table = []
    for system in dict.fromkeys(row[0] for row in found):
        curves: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for _, rule, seed, labels, inter, *_ in (row for row in found if row[0] == system):
            curves.setdefault((rule, seed), []).append((float(labels), float(inter)))
        start = {seed: points[0] for (rule, seed), points in curves.items() if rule == "start"}
        theirs = {seed: dict(points) for (rule, seed), points in curves.items() if rule == "dpgen"}
        for labels in sorted({labels for points in theirs.values() for labels in points}):
            seeds = [seed for seed, points in theirs.items() if labels in points]
            goal = max(theirs[seed][labels] for seed in seeds)
            if goal >= min(start[seed][1] for seed in seeds):
                continue
            for rule in RULES:
                own = [sorted([start[seed], *curves.get((rule, seed), [])]) for seed in seeds]
                own = [points for points in own if points[-1][0] >= labels]
                if own:
                    table.append([system, f"{goal:.0f}", rule, len(own), *_mean_labels(own, goal)])
    return table


def _mean_labels(curves: list[list[tuple[float, float]]], goal: float) -> tuple[str, str]:
    """Labels to a goal: mean over curves, with > if it is a lower bound, and standard error."""
    counts = [reached(*zip(*points, strict=True), goal) for points in curves]
    bounded = np.where(np.isfinite(counts), counts, [points[-1][0] for points in curves])
    error = bounded.std(ddof=1) / np.sqrt(len(bounded)) if len(bounded) > 1 else float("nan")
    return f"{'' if np.isfinite(counts).all() else '>'}{bounded.mean():.0f}", f"{error:.0f}"


def main() -> None:
    """Run units, or write the table of those that are finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=RULES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--dpgen", type=Path, help="Python of the environment with DP-GEN 0.14")
    parser.add_argument("--cpu-minutes", type=float, default=float("inf"), help="begin no unit after so many")
    parser.add_argument("--work", type=Path, default=HERE / "dpgen.work")
    parser.add_argument("--out", type=Path, default=HERE / "dpgen.csv")
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments)
    found = rows(arguments.work)
    write_table(arguments.out, COLUMNS, found)
    write_table(arguments.out.with_stem(f"{arguments.out.stem}_reach"), REACH, reach(found))


def run(arguments: argparse.Namespace) -> None:
    """All units wanted: one seed of every rule, then the next."""
    if "dpgen" in arguments.rules and not arguments.dpgen:
        raise SystemExit("expected --dpgen PYTHON, of an environment with 'dpgen==0.14.*'")
    os.environ.update(deepmd.thread_settings(1))
    for module in ("deepmd.main", "deepmd.tf.entrypoints.freeze", "deepmd.tf.entrypoints.train"):
        importlib.import_module(module)
    dpgen = arguments.dpgen.absolute() if arguments.dpgen else Path()
    for system in arguments.systems:
        stage = Stage(system, arguments.work)
        for seed in arguments.seeds:
            for rule in arguments.rules:
                for cycle in range(arguments.cycles + 1):
                    if spent() > 60 * arguments.cpu_minutes:
                        print(f"{spent() / 60:.1f} CPU-minutes spent")
                        return
                    Unit(stage, seed, rule, cycle, dpgen).run()


def spent() -> float:
    """CPU-s of this run."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + children_cpu_s()


if __name__ == "__main__":
    main()
