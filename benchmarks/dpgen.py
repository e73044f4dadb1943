"""Fewer labels for the same truth? mlpwf's selection against DP-GEN 0.14's, random picks and pure diversity.

    python3.11 -m venv dpgen && dpgen/bin/pip install 'dpgen==0.14.*'
    python benchmarks/dpgen.py run --dpgen dpgen/bin/python --cpu-minutes 60
    python benchmarks/dpgen.py table
    python benchmarks/dpgen.py figure docs/dpgen.png

All rules start from the same labels, let their own committee explore from the same boxes, buy as many labels a
cycle, and train for as many steps. Labels are RPBE-D3(BJ)'s by pw.x, with the settings of benchmarks/label_cost.csv.
A rule is a choice and a training, usual where no other is named. Choices:

mlpwf      `mlpwf train test` and `mlpwf select`, as a campaign runs them
dpgen      DP-GEN's own function, run by its own Python: fixed levels of the largest force deviation, then
           random picks
random     seeded picks among frames of whole molecules
diversity  farthest points from the own training set among them, whatever the committee thinks

Trainings, none with virials; of rules that train alike only the choice differs, and they share the first committee:

(usual)    mlpwf's schedule, with DeePMD-kit's usual weight of energies, from a rate of 0.01
energy     the same with mlpwf's weight of energies
shipped    mlpwf's schedule, first rate, and weights of energies and of molecules, as its defaults have them
published  schedule and weights as the examples of DP-GEN and DeePMD-kit have them (`dpgen_published`)

After each cycle a walker explores each state of the ladder, as mlpwf runs it, and is cut when it blows up: how
long they lasted is a result beside the error. A committee whose walkers all come to their end is asked for more:
`stable` runs 50 ps at each state, and labels where they end: the force error there has to be at most three times
that of the test set. The test set is GFN1-xTB dynamics of boxes nobody else sees, but that mlpwf
calibrates its first cycle on it, as a campaign does. `published` gives the published training more steps: one model of
the labels that `dpgen_shipped` has bought.

Every unit (system, seed, rule, cycle) is kept in --work: a stopped run goes on where it was, and several may run
side by side. Tables keep the rows of units that are not there.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import io
import itertools
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
from matplotlib.figure import Figure

from mlpwf.calculators import xtb
from mlpwf.campaign.records import write
from mlpwf.campaign.states import states
from mlpwf.config import Label, Select, Site, Train
from mlpwf.files import read_json, sole_writer, write_json, write_text
from mlpwf.label.labeller import Labeller
from mlpwf.label.store import canonical, labelled
from mlpwf.md import sampler
from mlpwf.potentials.deepmd.data import most_neighbours, neighbour_slots, rigid_coordinates, write_data
from mlpwf.potentials.deepmd.program import thread_settings
from mlpwf.potentials.deepmd.settings import seeds, training_input
from mlpwf.potentials.metrics import error_measures
from mlpwf.potentials.record import open_model
from mlpwf.select.selection import farthest_points
from mlpwf.structures import boxes, species
from mlpwf.structures.frames import element_order, minimum_distance, quantised, read_frames, write_frames
from mlpwf.structures.lammps_data import box_matrix
from mlpwf.structures.molecules import bonds, intact, molecules_in_cell
from mlpwf.structures.properties import of_frame

HERE = Path(__file__).parent
START_FRAMES, BUDGET, CYCLES = 6, 6, 4
COMMITTEE = 4
WALKERS, STEPS, BOXES = 1, 4000, 12
STABLE_STEPS = 100_000
TEST_RUNS = 3
SAMPLER = sampler.Sampler(steps_between_frames=10, rattle_angstrom=0.05)
TRAIN = Train(
    cutoff_angstrom=4.0,
    embedding_neurons=[16, 32, 64],
    axis_neurons=8,
    fitting_neurons=[80, 80, 80],
    steps=8000,
    learning_rate=1e-2,
    learning_rate_final=1e-5,
    energy_weight=0.02,
    virial_weight=0.0,
    molecule_weight=0.0,
)
TRAININGS = {
    "": TRAIN,
    "energy": TRAIN.model_copy(update={"energy_weight": Train().energy_weight}),
    "shipped": TRAIN.model_copy(
        update={name: getattr(Train(), name) for name in ("energy_weight", "molecule_weight", "learning_rate")}
    ),
    "published": TRAIN.model_copy(
        update={"learning_rate_schedule": "exponential", "learning_rate": 1e-3, "learning_rate_final": 3.51e-8}
    ),
}
COMPARISONS = (
    ("mlpwf", "dpgen", "random", "diversity"),
    ("mlpwf_energy", "dpgen_energy", "random_energy", "diversity_energy"),
    ("mlpwf_shipped", "dpgen_shipped", "random_shipped", "diversity_shipped"),
    ("mlpwf_energy", "dpgen_published"),
)
"""Rules held against each other: mlpwf's, DP-GEN's, and others."""


@dataclass(frozen=True)
class Rule:
    """Whose choice of labels, and how it trains."""

    choice: str
    training_name: str

    @property
    def training(self) -> Train:
        return TRAININGS[self.training_name]

    @property
    def start(self) -> str:
        """Folder of the first committee: shared by all rules that train alike."""
        return "_".join(filter(None, ("start", self.training_name)))


RULES = {rule: Rule(*f"{rule}_".split("_")[:2]) for rules in COMPARISONS for rule in rules}


@dataclass(frozen=True)
class System:
    """A liquid, its ladder of states, and what its user asks for."""

    smiles: str
    molecules: int
    density_g_cm3: float
    ladder_kelvin: tuple[int, ...]
    sampled_kelvin: tuple[int, ...]
    """Of the GFN1-xTB dynamics that make the test set."""
    target_mev_angstrom: float
    """mlpwf's target error."""
    trust: tuple[float, float]
    """DP-GEN's levels in eV/Å: what a user would choose who has seen the deviations of a start committee."""
    label: Label


WATER = Label(cutoff_ry=45, density_cutoff_ry=181, fft_grid_ry=365, convergence_ry=1e-6)
TOLUENE = Label(cutoff_ry=40, density_cutoff_ry=161, fft_grid_ry=363, convergence_ry=1e-5)
SYSTEMS = {
    "water": System("O", 8, 0.997, (250, 350, 420), (250, 350, 500), 100, (0.15, 0.5), WATER),
    "toluene": System("Cc1ccccc1", 2, 0.867, (200, 300, 400), (200, 300, 500), 100, (0.15, 0.5), TOLUENE),
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
    """A system's folder: molecule, boxes to start from, test set, labels."""

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.system, self.folder = name, SYSTEMS[name], work / name
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def molecule(self) -> Atoms:
        kept = self.folder / "molecules.extxyz"
        if not kept.exists():
            drawn = species.molecule_from_smiles(self.name, self.system.smiles, 1)
            write_frames(kept, [sampler.relaxed_molecule(self.name, 0, drawn, "gfn1")])
        atoms = read_frames(kept)[0]
        boxes.label_molecules([atoms], [0])
        return atoms

    @cached_property
    def elements(self) -> list[str]:
        return element_order([self.molecule])

    def box(self, part: int, index: int) -> Atoms:
        """A relaxed box of its own random stream."""
        counts, rng = [self.system.molecules], boxes.generator(7, part, index)
        packed = boxes.pack_box([self.molecule], counts, self.system.density_g_cm3, rng)
        return sampler.relaxed_box(packed, "start", SAMPLER)

    def start(self, seed: int) -> list[Atoms]:
        """Labelled frames that all rules begin with, as `mlpwf build` samples them: every second one distorted."""
        kept = self.folder / f"start{seed}.extxyz"
        if not kept.exists():
            frames: list[Atoms] = []
            for index, share in enumerate(boxes.even_shares(START_FRAMES, 3)):
                box, kelvin = self.box(2, 3 * seed + index), self.system.sampled_kelvin[index]
                run = sampler.Run(f"start {index}", "bulk", f"{kelvin}K", box, kelvin, share, (7, 1, 3 * seed + index))
                frames += [quantised(molecules_in_cell(atoms)) for atoms in sampler.sample(run, SAMPLER)]
            write_frames(kept, frames)
        return self.labelled(read_frames(kept))

    @cached_property
    def boxes(self) -> Path:
        """Relaxed boxes that walkers start from."""
        kept = self.folder / "boxes.extxyz"
        if not kept.exists():
            write_frames(kept, [self.box(5, index) for index in range(BOXES)])
        return kept

    def sampled(self, index: int) -> list[Atoms]:
        """Frames of GFN1-xTB dynamics, 28 fs apart from 60 fs on; run `index` is at one of three temperatures."""
        kept = self.folder / "gfn1" / f"{index:03d}.extxyz"
        kelvin = self.system.sampled_kelvin[index % 3]
        if not kept.exists():
            moving = xtb.langevin(
                self.box(3, index), "gfn1", boxes.generator(7, 4, index),
                temperature_kelvin=kelvin, timestep_fs=1.0, starting_kelvin=2 * kelvin,
            )  # fmt: skip
            frames = []
            for step in range(1, 201):
                atoms = next(moving)
                atoms.info = {"kind": "bulk", "state": f"{kelvin}K", "walker": index, "step": step}
                frames.append(quantised(molecules_in_cell(atoms)))
            kept.parent.mkdir(exist_ok=True)
            write_frames(kept, frames[59::28])
        return read_frames(kept)

    def labelled(self, frames: Sequence[Atoms]) -> list[Atoms]:
        """Copies with labels, those that pw.x gave; each geometry is computed once."""
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        site = Site(label_store=str(self.folder / "store"))
        labeller = Labeller(self.system.label, site, scratch, self.elements)
        done = []
        for atoms in frames:
            outcome = labeller.label(atoms)
            if outcome.accepted:
                record = labeller.store.get(outcome.key)
                done.append(labelled(atoms, canonical(atoms), record))
        return done

    @cached_property
    def test(self) -> list[Atoms]:
        """Labelled frames of GFN1-xTB dynamics: some runs at each of three temperatures."""
        return self.labelled([atoms for index in range(3 * TEST_RUNS) for atoms in self.sampled(index)])

    def slots(self, frames: Sequence[Atoms]) -> list[int]:
        """Neighbour slots of all models."""
        return neighbour_slots(most_neighbours(frames, self.elements, TRAIN.cutoff_angstrom))


def name(atoms: Atoms) -> str:
    """What names an explored frame of a cycle: state, walker and step."""
    return "{state} {walker} {step}".format(**atoms.info)


def train(folder: Path, recipe: Train, frames: list[Atoms], elements: list[str], slots: list[int], seed: int) -> None:
    """Train one model in `folder`, in this process."""
    from deepmd.main import main

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    coordinates = rigid_coordinates(recipe, frames)
    systems = write_data(folder / "data", frames, elements, coordinates)
    settings = training_input(
        recipe, elements=elements, slots=slots, systems=systems, seed=seeds(seed, 0), continued=False,
        coordinates=coordinates,
    )  # fmt: skip
    (folder / "input.json").write_text(json.dumps(settings))
    with (folder / "train.out").open("w") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    os.chdir(folder)
    main(["train", "input.json", "--skip-neighbor-stat"])
    main(["freeze", "-c", ".", "-o", "model.pb"])
    for path in [*Path().glob("model.ckpt*"), Path("checkpoint")]:
        path.unlink(missing_ok=True)
    shutil.rmtree("data")


# ---------------------------------------------------------------- one unit


@dataclass(frozen=True)
class Unit:
    """A cycle of a rule: its labels, committee, errors and walkers. Cycle 0 is the start, the same for all rules."""

    stage: Stage
    seed: int
    rule: str
    cycle: int
    dpgen: Path

    @property
    def folder(self) -> Path:
        rule = self.rule if self.cycle else RULES[self.rule].start
        return self.stage.folder.resolve() / f"seed{self.seed}" / rule / f"{self.cycle:02d}"

    @property
    def before(self) -> Unit:
        return Unit(self.stage, self.seed, self.rule, self.cycle - 1, self.dpgen)

    @property
    def models(self) -> list[Path]:
        return [self.folder / str(index) / "model.pb" for index in range(COMMITTEE)]

    @property
    def label_files(self) -> list[Path]:
        own = [self.folder / "labels.extxyz"]
        return own if self.cycle == 0 else [*self.before.label_files, own[0]]

    def explored(self) -> list[Atoms]:
        """Frames of this committee's walkers, with its deviations."""
        return [
            atoms for path in sorted((self.folder / "explore").glob("*/frames.extxyz")) for atoms in read_frames(path)
        ]

    def chosen(self) -> list[Atoms]:
        """The frames bought in this cycle, from the walkers of the one before."""
        wanted = set(read_json(self.folder / "picks.json"))
        return [atoms for atoms in self.before.explored() if name(atoms) in wanted]

    def run(self) -> None:
        """Pick, label, train, rate, explore."""
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
        slots, recipe = self.stage.slots(self.stage.start(self.seed)), RULES[self.rule].training
        for index, model in enumerate(self.models):
            if not model.exists():
                in_child(train, model.parent, recipe, frames, self.stage.elements, slots, 10 * self.seed + index)
        in_child(rate, self)
        in_child(explore, self)
        cost = {"cpu_s": children_cpu_s() - before, "bought": len(chosen), "labels": len(frames)}
        write_json(self.folder / "done.json", cost)
        errors = read_json(self.folder / "errors.json")["test"]["models"]
        found = [one["overall"]["force_inter_rmse_ev_angstrom"] for one in errors]
        print(self.stage.name, self.seed, self.rule, self.cycle, cost, np.round(found, 3), flush=True)


def explore(unit: Unit) -> None:
    """A walker at each state."""
    walk(unit, unit.folder / "explore", walkers=WALKERS, steps=STEPS)


def endure(unit: Unit) -> None:
    """50 ps at each state, down to the first that fails; stable/done.json has the errors where they end."""
    folder = unit.folder / "stable"
    walk(unit, folder, walkers=1, steps=STABLE_STEPS, steps_between_frames=500)
    ends = [read_frames(path)[-1] for path in sorted(folder.glob("*/frames.extxyz"))] if survived(folder) else []
    errors = [
        float(np.sqrt(np.mean((found.forces - atoms.get_forces()) ** 2)))
        for atoms in unit.stage.labelled(ends)
        for found in open_model(unit.models[0]).predict([atoms])
    ]
    test = read_json(unit.folder / "errors.json")["test"]["models"][0]["overall"]["force_rmse_ev_angstrom"]
    sound = len(errors) == len(unit.stage.system.ladder_kelvin) and max(errors) <= 3 * test
    write_json(folder / "done.json", {"errors": errors, "test": test, "stable": sound})


def stable(unit: Unit) -> bool:
    """Whether 50 ps at each state ended well; not tried where a short walker did not."""
    if not survived(unit.folder / "explore"):
        return False
    done = unit.folder / "stable" / "done.json"
    if not done.exists():
        in_child(endure, unit)
    return bool(read_json(done)["stable"])


def survived(folder: Path) -> bool:
    """Whether all walkers came to their end."""
    return min(lasted(folder)) == 1


def walk(unit: Unit, folder: Path, **settings: Any) -> None:
    """`mlpwf explore` at each state of the ladder from the hottest on, by the unit's committee."""
    from mlpwf.config import Explore, System
    from mlpwf.explore.command import explore

    stage = unit.stage
    system = {"molecules": {stage.name: {"smiles": stage.system.smiles, "count": stage.system.molecules}}}
    sections = {
        "explore": Explore(temperatures_kelvin=stage.system.ladder_kelvin, **settings),
        "site": Site(),
        "system": System(**system, density_g_cm3=stage.system.density_g_cm3),
    }
    folder.mkdir(exist_ok=True)
    files = {key: folder / f"{key}.json" for key in sections}
    for key, section in sections.items():
        write_json(files[key], section.model_dump(mode="json") | {"seed": unit.seed})
    for state in reversed(states(sections["explore"], stage.system.density_g_cm3)):
        if folder.name == "stable" and list(folder.glob("*/walkers.json")) and not survived(folder):
            return
        explore(
            config=files["explore"], site=files["site"], system=files["system"], model=unit.models, starts=stage.boxes,
            molecules=stage.folder / "molecules.extxyz", state=state, cycle=unit.cycle, out=folder / state,
        )  # fmt: skip


def lasted(folder: Path) -> list[float]:
    """The parts of their way that walkers came before they blew up."""
    walkers = [walker for path in sorted(folder.glob("*/walkers.json")) for walker in read_json(path)]
    return [walker["steps"] / walker["wanted_steps"] for walker in walkers]


def published(unit: Unit, steps: int) -> None:
    """One model of the unit's labels by the published training, of so many steps, and its errors on the test set."""
    folder, before = unit.folder / f"published{steps}", children_cpu_s()
    if (folder / "done.json").exists():
        return
    frames = [atoms for path in unit.label_files for atoms in read_frames(path)]
    recipe, slots = TRAININGS["published"].model_copy(update={"steps": steps}), unit.stage.slots(frames)
    in_child(train, folder, recipe, frames, unit.stage.elements, slots, 10 * unit.seed)
    in_child(rate_model, folder, unit.stage.test)
    write_json(folder / "done.json", {"labels": len(frames), "steps": steps, "cpu_s": children_cpu_s() - before})


def rate_model(folder: Path, test: list[Atoms]) -> None:
    """Errors of the model in `folder`."""
    found = open_model(folder / "model.pb").predict(test)
    write(folder / "errors.json", error_measures(test, [of_frame(atoms) for atoms in test], found))


def rate(unit: Unit) -> None:
    """`mlpwf train test`: errors on the test set, and what deviations are worth."""
    from mlpwf.train.command import train_test

    test = unit.stage.folder / "test_labels.extxyz"
    write_frames(test, unit.stage.test)
    former = unit.before if unit.cycle else None
    train_test(
        model=unit.models, test=test, train_labels=unit.label_files, out=unit.folder / "errors.json",
        new=unit.label_files[-1] if former else None, previous=former.models if former else None,
        calibration=former.folder / "calibration.json" if former else None,
    )  # fmt: skip


def pick(unit: Unit) -> None:
    """Write picks.json: what the rule takes of what its committee explored."""
    stage, frames, choice = unit.stage, unit.before.explored(), RULES[unit.rule].choice
    if choice in ("random", "diversity"):
        bonded = bonds(stage.start(0)[0])
        whole = [atoms for atoms in frames if intact(atoms, bonded) and minimum_distance(atoms) > 0.6]
        if choice == "random":
            order = np.random.default_rng([unit.seed, unit.cycle]).permutation(len(whole))[:BUDGET]
            keys = [name(whole[index]) for index in order]
        else:
            keys = by_diversity(unit, whole)
    else:
        keys = (by_dpgen if choice == "dpgen" else by_mlpwf)(unit, frames)
    write_json(unit.folder / "picks.json", sorted(keys))


def by_diversity(unit: Unit, frames: list[Atoms]) -> list[str]:
    """Farthest points from the own training set in the own model's descriptors."""
    known = [atoms for path in unit.before.label_files for atoms in read_frames(path)]
    vectors = open_model(unit.before.models[0]).descriptors([*frames, *known], unit.stage.elements)
    keys, own, others = [name(atoms) for atoms in frames], vectors[: len(frames)], vectors[len(frames) :]
    choices = farthest_points(own, keys, others, budget=BUDGET, duplicate_distance=1e-6)
    return [key for key, choice in zip(keys, choices, strict=True) if choice.selected]


def by_mlpwf(unit: Unit, frames: list[Atoms]) -> list[str]:
    """`mlpwf select`."""
    from mlpwf.select.command import select

    explored, config, out = unit.folder / "explored.extxyz", unit.folder / "select.json", unit.folder / "select"
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
    return [name(atoms) for atoms in read_frames(out / "frames.extxyz")]


def by_dpgen(unit: Unit, frames: list[Atoms]) -> list[str]:
    """DP-GEN's function, on what its exploration would have left."""
    work = unit.folder / "dpgen"
    shutil.rmtree(work, ignore_errors=True)
    (work / "fp").mkdir(parents=True)
    walkers = sorted({name(atoms).rpartition(" ")[0] for atoms in frames})
    for number, walker in enumerate(walkers):
        task = work / "model_devi" / f"task.000.{number:06d}"
        (task / "traj").mkdir(parents=True)
        (task / "job.json").write_text("{}")
        own = [atoms for atoms in frames if name(atoms).rpartition(" ")[0] == walker]
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
    return [f"{walkers[int(task.split('.')[-1])]} {step}" for _, task, step in lines]


def write_dump(target: Path, atoms: Atoms, elements: list[str]) -> None:
    """A frame as LAMMPS dumps it."""
    box, rotation = box_matrix(atoms.cell.array)
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


COLUMNS = ["system", "rule", "seed", "labels"]
COLUMNS += ["inter, meV/Å", "intra, meV/Å", "force, meV/Å", "walkers lasted, %", "CPU-s"]
STABLE = ["system", "rule", "seed", "labels to 50 ps at every state"]
PUBLISHED = ["system", "rule", "seed", "labels", "steps", "inter, meV/Å", "force, meV/Å", "CPU-s"]
REACH = ["system", "as good as", "with labels", "rule", "seeds", "labels", "standard error"]


def write_table(target: Path, header: list[str], lines: list[list[Any]]) -> None:
    """A CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *lines])
    write_text(target, text.getvalue())


def kept(table: Path) -> list[list[Any]]:
    """Rows of a table of an earlier run, if there was one."""
    if not table.exists():
        return []
    with table.open(newline="") as handle:
        return list(csv.reader(handle))[1:]


def joined(old: list[list[Any]], new: list[list[Any]], keys: int) -> list[list[Any]]:
    """Rows by their first `keys` columns, new ones for old ones: parts of the comparison run where there is time."""
    found = {tuple(str(word) for word in row[:keys]): row for row in [*old, *new]}
    return sorted(found.values(), key=lambda row: (row[0], int(row[2]), row[1], *map(int, row[3:keys])))


def rows(work: Path) -> list[list[Any]]:
    """A row for each finished unit: errors are root mean squares over test frames and models."""
    found = []
    for done in sorted(work.glob("*/seed*/*/*/done.json")):
        system, seed, rule, _ = done.relative_to(work).parts[:4]
        models = [one["overall"] for one in read_json(done.parent / "errors.json")["test"]["models"]]
        names = [f"force_{kind}rmse_ev_angstrom" for kind in ("inter_", "intra_", "")]
        errors = [f"{1e3 * np.sqrt(np.mean([one[name] ** 2 for one in models])):.1f}" for name in names]
        cost, walkers = read_json(done), f"{100 * np.mean(lasted(done.parent / 'explore')):.0f}"
        found.append([system, rule, int(seed[4:]), cost["labels"], *errors, walkers, f"{cost['cpu_s']:.0f}"])
    return found


def published_rows(work: Path) -> list[list[Any]]:
    """A row for each model by the published training."""
    found = []
    for done in sorted(work.glob("*/seed*/*/*/published*/done.json")):
        system, seed, rule = done.relative_to(work).parts[:3]
        about, errors = read_json(done), read_json(done.with_name("errors.json"))
        shown = [f"{1e3 * errors[f'force_{kind}rmse_ev_angstrom']:.1f}" for kind in ("inter_", "")]
        found.append([system, rule, int(seed[4:]), about["labels"], about["steps"], *shown, f"{about['cpu_s']:.0f}"])
    return found


def stability(work: Path) -> list[list[Any]]:
    """A row for each curve that was tried: the labels with which its committee first lasts 50 ps at every state.

    A committee that was not tried, though its short walkers last, ends the curve: with > and the labels before.
    """
    table, curves = [], sorted({done.parent.parent for done in work.glob("*/seed*/*/*/done.json")})
    for curve in curves:
        if curve.name not in RULES:
            continue
        first = curve.parent / RULES[curve.name].start / "00"
        cycles = [first, *sorted(done.parent for done in curve.glob("*/done.json"))]
        found = ""
        for cycle in cycles:
            labels, done = read_json(cycle / "done.json")["labels"], cycle / "stable" / "done.json"
            if not done.exists() and survived(cycle / "explore"):
                break
            if done.exists() and read_json(done)["stable"]:
                found = f"{labels}"
                break
            found = f">{labels}"
        if found:
            table.append([curve.parts[-3], curve.name, int(curve.parent.name[4:]), found])
    return table


def reached(labels: Sequence[float], errors: Sequence[float], goal: float) -> float:
    """Labels at which the error first falls to `goal`, on straight lines in logarithms; inf: not within these."""
    x, y = np.log(labels), np.log(errors)
    for k, error in enumerate(errors):
        if error <= goal:
            return float(labels[0] if k == 0 else np.exp(np.interp(np.log(goal), y[[k, k - 1]], x[[k, k - 1]])))
    return float("inf")


def learning_curves(found: list[list[Any]]) -> dict[tuple[str, str, int], dict[float, float]]:
    """Errors between molecules by labels, for each system, rule and seed, from the start that the rule shares."""
    points: dict[tuple[str, str, int], dict[float, float]] = {}
    for system, rule, seed, labels, inter, *_ in found:
        points.setdefault((system, rule, int(seed)), {})[float(labels)] = float(inter)
    curves = {}
    for (system, rule, seed), own in points.items():
        if rule in RULES:
            first = points.get((system, RULES[rule].start, seed), {})
            curves[system, rule, seed] = dict(sorted((first | own).items()))
    return curves


def reach(found: list[list[Any]]) -> list[list[Any]]:
    """Labels each rule needs to be as good between molecules as DP-GEN, and as mlpwf, after each of their cycles.

    Each seed has a goal of its own, since all rules of a seed share its start. Only curves that came as far count.
    Mean and standard error over seeds; a seed that never gets there makes the mean a lower bound, with its last label
    counted.
    """
    curves = learning_curves(found)
    rivalries = [(setter, rules) for rules in COMPARISONS for setter in rules[1::-1]]
    table: dict[tuple[str, ...], list[Any]] = {}
    for system, (setter, rules) in itertools.product(dict.fromkeys(row[0] for row in found), rivalries):
        goals = {seed: curve for (own, rule, seed), curve in curves.items() if (own, rule) == (system, setter)}
        bought = sorted({labels for curve in goals.values() for labels in list(curve)[1:]})
        for labels, rule in itertools.product(bought, rules):
            counts = [
                (reached(*zip(*own.items(), strict=True), goal[labels]), max(own))
                for seed, goal in goals.items()
                if labels in goal and max(own := curves.get((system, rule, seed), {0.0: 0.0})) >= labels
            ]
            if counts:
                key = (system, setter, f"{labels:.0f}", rule)
                table[key] = [*key, len(counts), *_mean_labels(counts)]
    return list(table.values())


def _mean_labels(counts: list[tuple[float, float]]) -> tuple[str, str]:
    """Of labels to a goal, and the last there are: mean, with > if it is a lower bound, and standard error."""
    needed, last = np.array(counts).T
    if not np.isfinite(needed).all():
        return f">{np.where(np.isfinite(needed), needed, last).mean():.0f}", ""
    error = f"{needed.std(ddof=1) / np.sqrt(len(needed)):.0f}" if len(needed) > 1 else ""
    return f"{needed.mean():.0f}", error


def draw(table: Path) -> Figure:
    """Errors between molecules against labels: mean and standard error over seeds, and each seed, thin.

    A panel for each system and training by which DP-GEN's choice was followed beside mlpwf's.
    """
    curves = learning_curves(kept(table))
    tried = {(system, rule) for system, rule, _ in curves}
    alike = [rules for rules in COMPARISONS if len({RULES[rule].training_name for rule in rules}) == 1]
    systems = dict.fromkeys(system for system, _, _ in curves)
    panels = [(system, rules) for system, rules in itertools.product(systems, alike) if (system, rules[1]) in tried]
    figure, drawn = Figure(figsize=(4.2 * len(panels), 3.8), layout="constrained"), {}
    for (system, rules), axis in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        for rule in rules:
            seeds = [curve for (own, name, _), curve in curves.items() if (own, name) == (system, rule)]
            if not seeds:
                continue
            labels = sorted(set.intersection(*map(set, seeds)))
            errors = np.array([[curve[count] for count in labels] for curve in seeds])
            spread = errors.std(axis=0, ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else None
            bars = axis.errorbar(labels, errors.mean(axis=0), spread, fmt="o-", capsize=3, label=RULES[rule].choice)
            axis.plot(labels, errors.T, lw=0.5, color=bars[0].get_color())
            drawn[RULES[rule].choice] = bars
            axis.set_xticks(labels)
        title = f"{system}, {RULES[rules[0]].training_name or 'usual'} training"
        axis.set(title=title, xlabel="labels", ylabel="net force error, meV/Å")
    figure.legend(list(drawn.values()), list(drawn), loc="outside lower center", ncols=len(drawn), frameon=False)
    return figure


def main() -> None:
    """Run units, write the tables of those that are finished, or draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "stable", "published", "table", "figure"])
    parser.add_argument("picture", type=Path, nargs="?", help="of figure: the file to draw")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--steps", type=int, default=10 * TRAIN.steps, help="of published")
    parser.add_argument("--dpgen", type=Path, help="Python of the environment with DP-GEN 0.14")
    parser.add_argument("--cpu-minutes", type=float, default=float("inf"), help="begin no unit after so many")
    parser.add_argument("--work", type=Path, default=HERE / "dpgen.work")
    parser.add_argument("--out", type=Path, default=HERE / "dpgen.csv")
    arguments = parser.parse_args()
    if arguments.what == "figure":
        if not arguments.picture:
            raise SystemExit("expected the file to draw: figure PICTURE")
        draw(arguments.out).savefig(arguments.picture, dpi=110)
        return
    if arguments.what != "table":
        run(arguments)
    reaches, lasting, long = (
        arguments.out.with_stem(f"{arguments.out.stem}_{part}") for part in ("reach", "stable", "published")
    )
    found = joined(kept(arguments.out), rows(arguments.work), 4)
    write_table(arguments.out, COLUMNS, found)
    write_table(reaches, REACH, reach(found))
    if tried := joined(kept(lasting), stability(arguments.work), 3):
        write_table(lasting, STABLE, tried)
    if trained := joined(kept(long), published_rows(arguments.work), 5):
        write_table(long, PUBLISHED, trained)


def run(arguments: argparse.Namespace) -> None:
    """All units wanted: one seed of every rule, then the next."""
    asked = any(RULES[rule].choice == "dpgen" for rule in arguments.rules)
    if arguments.what == "run" and asked and not arguments.dpgen:
        raise SystemExit("expected --dpgen PYTHON, of an environment with 'dpgen==0.14.*'")
    os.environ.update(thread_settings(1))
    for module in ("deepmd.main", "deepmd.tf.entrypoints.freeze", "deepmd.tf.entrypoints.train"):
        importlib.import_module(module)
    dpgen = arguments.dpgen.absolute() if arguments.dpgen else Path()
    rules, cycles = arguments.rules, range(arguments.cycles + 1)
    if arguments.what == "published":
        rules, cycles = ["dpgen_shipped"], cycles[-1:]
    for system in arguments.systems:
        stage = Stage(system, arguments.work)
        for seed in arguments.seeds:
            for rule in rules:
                for cycle in cycles:
                    if spent() > 60 * arguments.cpu_minutes:
                        print(f"{spent() / 60:.1f} CPU-minutes spent")
                        return
                    unit = Unit(stage, seed, rule, cycle, dpgen)
                    with sole_writer(unit.folder.parent):
                        if arguments.what == "run":
                            unit.run()
                        elif arguments.what == "published":
                            published(unit, arguments.steps)
                        elif not (unit.folder / "done.json").exists() or stable(unit):
                            break


def spent() -> float:
    """CPU-s of this run."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + children_cpu_s()


if __name__ == "__main__":
    main()
