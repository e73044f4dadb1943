"""A disk that is full, really: one line says so, nothing finished is lost, and with room the same command goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from mlpwf.config import Label, Site
from mlpwf.files import read_json, write_json
from mlpwf.structures.frames import quantised, write_frames
from toy_water import DENSITY, SYSTEM, WATER, relaxed_box

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk"),
]


class Disk:
    """A disk of 24 MB, its sections and inputs elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "disk"
        self.filler = self.folder / "filler"

    def fill(self, leave_kb: int) -> None:
        """Leave so little room."""
        free = shutil.disk_usage(self.folder).free
        with self.filler.open("wb") as handle:
            handle.write(bytes(max(0, free - 1024 * leave_kb)))

    def sections(self, **sections: dict) -> None:
        for name, values in sections.items():
            write_json(self.root / f"{name}.json", values | {"seed": 5})

    def mlpwf(self, *words: object, status: int) -> list[str]:
        """Run a verb; what it says, line by line."""
        command = [sys.executable, "-m", "mlpwf", "--log", str(self.root / "log"), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()

    def option(self, name: str) -> list[str]:
        return [f"--{name}", str(self.root / f"{name}.json")]


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path)
    made.folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(made.folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield made
    subprocess.run(["umount", "-l", str(made.folder)], check=True)


def full(lines: list[str], folder: Path) -> None:
    """The last line, and only it, names a file on the full disk and what to do."""
    told = [line for line in lines if line.startswith("mlpwf: ")]
    assert told == lines[-1:]
    assert str(folder) in told[0]
    assert "its disk or quota is full" in told[0]
    assert "free some, then run the same command again" in told[0]


def test_simulate(disk, water_models):
    write_frames(disk.root / "molecules.extxyz", [WATER])
    simulate = {"molecules": 8, "temperatures_kelvin": [300], "equilibration_ps": 0.02, "length_ps": 0.4}
    disk.sections(simulate=simulate | {"linear_interval_ps": 0.05, "checkpoint_min": 1e-6}, system=SYSTEM, site={})
    words = ["simulate", "segment", "--config", disk.root / "simulate.json", "--state", "300K", "--segment", 0]
    words += [*disk.option("site"), *disk.option("system"), "--model", water_models[0], "--out", disk.folder / "300K"]
    words += ["--molecules", disk.root / "molecules.extxyz"]
    disk.fill(leave_kb=300)
    full(disk.mlpwf(*words, status=2), disk.folder)
    assert not list((disk.folder / "300K").rglob("summary.json"))
    disk.filler.unlink()
    assert any("goes on from" in line for line in disk.mlpwf(*words, status=0))
    assert read_json(disk.folder / "300K/segment/000/summary.json")["end_ps"] == 0.4


def test_explore(disk, water_models):
    box = relaxed_box(8, np.random.default_rng(1))
    box.info = {"kind": "bulk", "state": "start"}
    write_frames(disk.root / "bulk.extxyz", [quantised(box)])
    write_frames(disk.root / "molecules.extxyz", [WATER])
    explore = {"temperatures_kelvin": [300], "walkers": 1, "steps": 60, "steps_between_frames": 1}
    disk.sections(explore=explore, system=SYSTEM, site={})
    words = ["explore", "--config", disk.root / "explore.json", *disk.option("site"), *disk.option("system")]
    words += [word for model in water_models for word in ("--model", model)]
    words += ["--starts", disk.root / "bulk.extxyz", "--molecules", disk.root / "molecules.extxyz", "--cycle", 0]
    words += ["--state", f"300K_{DENSITY:g}", "--out", disk.folder / "explore"]
    disk.fill(leave_kb=60)
    full(disk.mlpwf(*words, status=2), disk.folder)
    assert not (disk.folder / "explore/walkers.json").exists(), "a full disk was taken for an outcome of the walker"
    disk.filler.unlink()
    disk.mlpwf(*words, status=0)
    assert [walker["outcome"] for walker in read_json(disk.folder / "explore/walkers.json")] == ["finished"]


def test_train(disk):
    """A dp that fills the disk, and a disk with no room for the training data."""
    frames = []
    for seed in range(3):
        atoms = relaxed_box(4, np.random.default_rng(seed))
        zeros = {"energy": 0.0, "forces": np.zeros((12, 3)), "stress": np.zeros(6)}
        atoms.calc = SinglePointCalculator(atoms, **zeros)
        frames.append(atoms)
    write_frames(disk.root / "labels.extxyz", frames)
    fills = ["sh", "-c", "cat /dev/zero > junk 2> /dev/null; exit 1"]
    disk.sections(train={"cutoff_angstrom": 3.0}, site={"dp": fills})
    words = ["train", "model", "--config", disk.root / "train.json", *disk.option("site"), "--index", 0]
    words += ["--labels", disk.root / "labels.extxyz", "--out", disk.folder / "0"]
    full(disk.mlpwf(*words, status=2), disk.folder)
    shutil.rmtree(disk.folder / "0")
    disk.fill(leave_kb=8)
    full(disk.mlpwf(*words, status=2), disk.folder)
    disk.filler.unlink()
    disk.sections(site={"dp": ["sh", "-c", "echo got here; exit 1"]})
    assert "got here" in disk.mlpwf(*words, status=2)[-1]


@pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it")
def test_label(disk):
    atoms: Atoms = molecule("H2O")
    atoms.set_cell([6.0, 6.2, 6.4])
    atoms.pbc = True
    atoms.arrays["molecule"] = np.zeros(3, int)
    write_frames(disk.root / "frames.extxyz", [quantised(atoms)])
    label = Label(cutoff_ry=25, density_cutoff_ry=150, convergence_ry=1e-6, kpoints="gamma").model_dump(mode="json")
    disk.sections(label=label, site=Site(label_store=str(disk.folder / "store")).model_dump(mode="json"))
    words = ["label", "batch", "--config", disk.root / "label.json", *disk.option("site"), "--batch", 0, "--batches", 1]
    words += ["--frames", disk.root / "frames.extxyz", "--campaign", disk.folder, "--out", disk.folder / "label"]
    disk.fill(leave_kb=60)
    full(disk.mlpwf(*words, status=2), disk.folder)
    assert not list((disk.folder / "store").rglob("*.json")), "a full disk was taken for a fault of the frame"
    disk.filler.unlink()
    disk.mlpwf(*words, status=0)
    (record,) = read_json(disk.folder / "label/batch/000.json")["labels"]
    assert record["accepted"] is True
