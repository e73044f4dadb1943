"""docs/add-a-potential.md, followed literally: its engine is registered, keeps the contract, and explores."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
from ase import Atoms
from typer.testing import CliRunner

from contract import CHECKS, Case
from mlpwf.explore.command import explore
from mlpwf.files import read_json, sha256, write_json
from mlpwf.potentials import registry
from mlpwf.potentials.committee import Committee
from mlpwf.structures.frames import quantised, read_frames, write_frames

PAGE = Path(__file__).parents[2] / "docs" / "add-a-potential.md"
NUMBERS = {"epsilon": 0.0104, "sigma": 3.4, "cutoff": 6.0}
ATOM = Atoms("Ar", cell=[9.0] * 3, pbc=True)
ATOM.arrays["molecule"] = np.zeros(1, dtype=int)


def block(language: str) -> str:
    """The page's one block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def argon(seed: int) -> Atoms:
    """A disordered box."""
    atoms = Atoms("Ar", cell=[3.9] * 3, pbc=True).repeat((3, 3, 3))
    atoms.rattle(0.25, seed=seed)
    atoms.arrays["molecule"] = np.arange(len(atoms))
    return atoms


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's module and entry point on Python's path, of this process and of its children."""
    site = tmp_path / "site"
    package = site / "mlpwf_lennard_jones-0.dist-info"
    package.mkdir(parents=True)
    (site / "mlpwf_lennard_jones.py").write_text(block("python"))
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mlpwf-lennard-jones\nVersion: 0\n")
    points = tomllib.loads(block("toml"))["project"]["entry-points"]
    lines = [
        line for group, named in points.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in named.items()))
    ]
    (package / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    registry.engine.cache_clear()
    yield
    registry.engine.cache_clear()
    sys.modules.pop("mlpwf_lennard_jones", None)


def model(folder: Path, **changes: float) -> Path:
    """A model's folder: its file and its record, as the page says."""
    folder.mkdir()
    (folder / "argon.json").write_text(json.dumps(NUMBERS | changes))
    record = json.loads(block("json")) | {"sha256": {"argon.json": sha256(folder / "argon.json")}}
    write_json(folder / "check.json", record)
    return folder / "argon.json"


def test_the_page_is_short():
    assert len(block("python").splitlines()) <= 60


@pytest.mark.engine
def test_its_engine_keeps_the_contract(registered: None, tmp_path: Path):
    assert "lennard_jones" in registry.names()
    case = Case("lennard_jones", [model(tmp_path / "model")], [ATOM], argon(1), energy_ev=1e-9)
    for check in CHECKS:
        folder = tmp_path / check.__name__
        folder.mkdir()
        check(case, folder)


@pytest.mark.engine
def test_its_walkers_are_cut_by_the_committee(registered: None, tmp_path: Path):
    models = [model(tmp_path / "one"), model(tmp_path / "two", epsilon=0.011)]
    box = argon(2)
    box.info = {"kind": "bulk", "state": "start"}
    write_frames(tmp_path / "bulk.extxyz", [quantised(box)])
    write_frames(tmp_path / "molecules.extxyz", [ATOM])
    density = 27 * 39.948 / box.get_volume() / 0.602214
    settings = {"temperatures_kelvin": [90], "walkers": 1, "steps": 40, "steps_between_frames": 20, "timestep_fs": 2.0}
    system = {"molecules": {"argon": {"smiles": "[Ar]", "count": 27}}, "density_g_cm3": round(density, 3)}
    for name, section in (("explore", settings), ("system", system), ("site", {})):
        write_json(tmp_path / f"{name}.json", section | {"seed": 3})
    files = {"config": "explore.json", "site": "site.json", "system": "system.json", "starts": "bulk.extxyz"}
    files |= {"molecules": "molecules.extxyz", "out": "out"}
    words = [word for key, name in files.items() for word in (f"--{key}", str(tmp_path / name))]
    words += [word for path in models for word in ("--model", str(path))]
    words += ["--state", f"90K_{round(density, 3):g}", "--cycle", "0"]
    app = typer.Typer()
    app.command()(explore)
    CliRunner().invoke(app, words, catch_exceptions=False)
    (walker,) = read_json(tmp_path / "out" / "walkers.json")
    assert (walker["outcome"], walker["steps"], walker["frames"]) == ("finished", 40, 2)
    frames = read_frames(tmp_path / "out" / "frames.extxyz")
    spreads = Committee.opened(models, [ATOM]).spread(frames)
    assert [atoms.info["max_devi_f"] for atoms in frames] == pytest.approx([one.max_force for one in spreads], rel=1e-4)
    write_json(tmp_path / "explore.json", settings | {"seed": 3, "blow_up_ev_angstrom": 1e-6})
    CliRunner().invoke(app, words, catch_exceptions=False)
    (walker,) = read_json(tmp_path / "out" / "walkers.json")
    assert (walker["outcome"], walker["steps"]) == ("blew up", 0)
