"""A toy water whose energy is known exactly: harmonic molecules that repel each other softly.

Smooth and short-ranged, so that a small model learns it in seconds and then
runs stably: enough to test what is done with models.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE

from mlpwf.config import Site, Train
from mlpwf.config.train import Mace
from mlpwf.errors import EngineError
from mlpwf.files import sha256, write_json
from mlpwf.potentials.base import Role, TrainingJob
from mlpwf.potentials.mace.program import interpreter
from mlpwf.potentials.record import RECORD
from mlpwf.potentials.registry import engine

DENSITY = 0.65
SYSTEM = {"molecules": {"water": {"smiles": "O", "count": 8}}, "density_g_cm3": DENSITY}
WATER = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.9295, 0]], cell=[8.0] * 3, pbc=True)
WATER.arrays["molecule"] = np.zeros(3, dtype=int)
CUTOFF = 3.2
STEPS = 2500


class ToyWater(Calculator):
    """Springs O-H and H-H within molecules; Gaussians times a switch to zero between them. Cubic cells of O H H."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        n, length = len(atoms), atoms.cell.lengths()
        oxygen = (atoms.numbers == 8).astype(int)
        i, j = np.triu_indices(n, 1)
        v = atoms.positions[j] - atoms.positions[i]
        v -= length * np.round(v / length)
        r = np.linalg.norm(v, axis=1)
        kind = oxygen[i] + oxygen[j]  # 0: H-H, 1: O-H, 2: O-O
        stiffness, rest = np.array([10.0, 25.0, 0.0])[kind], np.array([1.52, 0.96, 0.0])[kind]
        height, reach = np.array([10.0, 20.0, 8.0])[kind], np.array([1.0, 1.0, 1.7])[kind]
        s = np.clip(1 - (r / CUTOFF) ** 2, 0, None)
        u = height * np.exp(-((r / reach) ** 2))
        same = i // 3 == j // 3
        energy = np.where(same, 0.5 * stiffness * (r - rest) ** 2, u * s**3)
        slope = np.where(same, stiffness * (r - rest), -2 * r / reach**2 * u * s**3 - 6 * r / CUTOFF**2 * u * s**2)
        pull = (slope / r)[:, None] * v
        forces = np.zeros((n, 3))
        np.add.at(forces, i, pull)
        np.add.at(forces, j, -pull)
        stress = (pull[:, :, None] * v[:, None, :]).sum(axis=0) / atoms.get_volume()
        self.results = {
            "energy": float(energy.sum()),
            "free_energy": float(energy.sum()),
            "forces": forces,
            "stress": stress.flat[[0, 4, 8, 5, 2, 1]],
        }


def random_box(n: int, rng: np.random.Generator, density: float = DENSITY, jitter: float = 0.0) -> Atoms:
    """`n` randomly turned molecules on a cubic lattice, each moved by up to `jitter` Å along each axis."""
    length = (n * 18.015 / 0.602214 / density) ** (1 / 3)
    side = int(np.ceil(n ** (1 / 3)))
    sites = np.array(list(np.ndindex(side, side, side)))[rng.permutation(side**3)[:n]] * length / side
    turns, _ = np.linalg.qr(rng.normal(size=(n, 3, 3)))
    turns[:, :, 0] *= np.sign(np.linalg.det(turns))[:, None]
    sites += rng.uniform(-jitter, jitter, sites.shape)
    positions = sites[:, None] + WATER.positions @ turns
    atoms = Atoms("OHH" * n, positions.reshape(-1, 3), cell=[length] * 3, pbc=True)
    atoms.arrays["molecule"] = np.repeat(np.arange(n), 3)
    return atoms


def relaxed_box(n: int, rng: np.random.Generator, density: float = DENSITY) -> Atoms:
    """A random box without clashes."""
    atoms = random_box(n, rng, density)
    atoms.calc = ToyWater()
    FIRE(atoms, logfile=None).run(fmax=0.5, steps=100)
    atoms.calc = None
    return atoms


def labelled(atoms: Atoms) -> Atoms:
    """A copy that carries energy, forces and stress."""
    copy = atoms.copy()
    copy.arrays.pop("momenta", None)
    calc = ToyWater()
    calc.calculate(copy)
    copy.calc = SinglePointCalculator(copy, **{key: calc.results[key] for key in ("energy", "forces", "stress")})
    return copy


def labelled_boxes(boxes: int, frames: int, temperature: float, rng: np.random.Generator) -> list[Atoms]:
    """Frames of short Langevin runs of 8 molecules, each from a box of its own."""
    found = []
    for _ in range(boxes):
        atoms = relaxed_box(8, rng, rng.uniform(0.9, 1.15) * DENSITY)
        atoms.calc = ToyWater()
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
        run = Langevin(atoms, units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng, fixcm=False)
        run.run(15)
        for _ in range(frames):
            run.run(25)
            found.append(labelled(atoms))
    return found


def training_frames(rng: np.random.Generator) -> list[Atoms]:
    """Runs at three temperatures, and random dense boxes that show how molecules repel each other."""
    frames = [atoms for temperature in (300, 450, 700) for atoms in labelled_boxes(10, 3, temperature, rng)]
    while len(frames) < 290:
        atoms = random_box(8, rng, rng.uniform(0.6, 0.85), jitter=1.2)
        atoms.rattle(rng.uniform(0.02, 0.12), rng=rng)
        atoms = labelled(atoms)
        if np.abs(atoms.get_forces()).max() < 25:
            frames.append(atoms)
    return frames


def training_settings(seed: int) -> dict:
    """A small se_e2_a model of H and O."""
    descriptor = {"type": "se_e2_a", "sel": [40, 20], "rcut": CUTOFF, "rcut_smth": 0.5, "neuron": [8, 16]}
    descriptor |= {"axis_neuron": 4, "type_one_side": True, "resnet_dt": False, "seed": seed}
    weights = {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 100}
    return {
        "model": {
            "type_map": ["H", "O"],
            "descriptor": descriptor,
            "fitting_net": {"neuron": [32, 32], "seed": seed},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 3e-5, "decay_steps": STEPS // 50},
        "loss": weights | {"start_pref_v": 0.02, "limit_pref_v": 0.02},
        "training": {
            "training_data": {"systems": ["data"], "batch_size": 1},
            "numb_steps": STEPS,
            "seed": seed,
            "disp_freq": 500,
            "save_freq": STEPS,
        },
    }


def write_training_data(folder: Path, frames: list[Atoms]) -> None:
    """Frames of one composition as deepmd/npy."""
    numbers = folder / "set.000"
    numbers.mkdir(parents=True)
    (folder / "type.raw").write_text("\n".join("1" if z == 8 else "0" for z in frames[0].numbers))
    (folder / "type_map.raw").write_text("H\nO\n")
    np.save(numbers / "coord.npy", [atoms.positions.ravel() for atoms in frames])
    np.save(numbers / "box.npy", [atoms.cell.array.ravel() for atoms in frames])
    np.save(numbers / "energy.npy", [atoms.get_potential_energy() for atoms in frames])
    np.save(numbers / "force.npy", [atoms.get_forces().ravel() for atoms in frames])
    virials = [-atoms.get_stress(voigt=False).ravel() * atoms.get_volume() for atoms in frames]
    np.save(numbers / "virial.npy", virials)


def train_models(folder: Path, seeds: tuple[int, ...]) -> list[Path]:
    """Train one model for each seed, side by side on one core each; the frozen models."""
    frames = training_frames(np.random.default_rng(0))
    threads = {f"{name}_PARALLELISM_THREADS": "1" for name in ("DP_INTRA_OP", "DP_INTER_OP")}
    environment = {**os.environ, **threads, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    running = []
    for seed in seeds:
        place = folder / str(seed)
        write_training_data(place / "data", frames)
        (place / "input.json").write_text(json.dumps(training_settings(seed)))
        dp = f"'{sys.executable}' -m deepmd"
        command = f"{dp} train input.json > train.out 2>&1 && {dp} freeze -o model.pb > freeze.out 2>&1"
        running.append(subprocess.Popen(["sh", "-c", command], cwd=place, env=environment))
    for process, seed in zip(running, seeds, strict=True):
        if process.wait() != 0:
            raise RuntimeError(f"training of the toy model failed; see {folder / str(seed)}")
    return [folder / str(seed) / "model.pb" for seed in seeds]


def train_on_force_field(folder: Path) -> Path:
    """A force field fitted to the toy water, and a network of a few steps on what it leaves; the model file."""
    section = Train(
        baseline="molecular", pair_cutoff_angstrom=4, cutoff_angstrom=3.5, embedding_neurons=[8, 16], axis_neurons=4,
        fitting_neurons=[16, 16], steps=60,
    )  # fmt: skip
    return trained(folder, section)


def train_mace(folder: Path, baseline: Literal["none", "molecular"] = "none", seed: int = 1) -> Path:
    """A MACE model of a few steps, alone or on what a force field leaves; the model file."""
    mace = Mace(channels=8, layers=2, correlation=2, batch=2)
    section = Train(
        engine="mace", baseline=baseline, mace=mace, pair_cutoff_angstrom=4, cutoff_angstrom=3.5, steps=40
    )  # fmt: skip
    return trained(folder, section, seed)


def needs_mace() -> None:
    """Skip the test where mace-torch is not installed."""
    try:
        interpreter()
    except EngineError as error:
        pytest.skip(str(error))


def trained(folder: Path, section: Train, seed: int = 1) -> Path:
    """A model of the toy water in a folder, with its record; its deployed file."""
    folder.mkdir(exist_ok=True)
    by, frames = engine(section.potential), labelled_boxes(6, 3, 400, np.random.default_rng(5))
    by.train(TrainingJob(folder, frames, section, Site(), seed, 0, molecules=[WATER]), lambda *_: None)
    write_json(
        folder / RECORD, {"engine": by.name, "sha256": {name: sha256(folder / name) for name in by.files.values()}}
    )
    return folder / by.files[Role.DEPLOYED]
