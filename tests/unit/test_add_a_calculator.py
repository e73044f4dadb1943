"""docs/add-a-calculator.md, followed to the letter: its file, its entry, the contract, and two labels."""

import importlib.util
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from typer.testing import CliRunner

from calculator_contract import CONTRACT, Case
from mlpwf.config import Label, Site, label_engines
from mlpwf.files import read_json, write_json
from mlpwf.label.commands import app
from mlpwf.structures.frames import quantised, read_frames, write_frames

PAGE = Path(__file__).parents[2] / "docs" / "add-a-calculator.md"
MOST_LINES = 60


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """The page's calculator in its place, and its entry in the table for the time of a test."""
    file, entry = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(file.splitlines()) <= MOST_LINES
    path, name = tmp_path / "pairs.py", "mlpwf.calculators.pairs"
    path.write_text(file)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    before = dict(label_engines.LABEL_ENGINES)
    exec(entry, vars(label_engines))
    yield label_engines.LABEL_ENGINES["pairs"]
    label_engines.LABEL_ENGINES.clear()
    label_engines.LABEL_ENGINES.update(before)


def water(seed):
    rng = np.random.default_rng(seed)
    atoms = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=[4.1, 4.2, 4.3], pbc=True)
    atoms.positions += 1.0 + rng.normal(0, 0.05, (3, 3))
    atoms.arrays["molecule"] = np.zeros(3, int)
    atoms.info |= {"kind": "bulk", "state": "toy"}
    return quantised(atoms)


@pytest.mark.parametrize("statement", CONTRACT, ids=lambda statement: statement.__name__)
def test_the_pages_calculator_keeps_the_contract(pairs, statement, tmp_path):
    label = Label(engine=pairs.name)
    argon = Atoms("ArH", [[0, 0, 0], [0, 0, 1.5]], cell=[6.0] * 3, pbc=True)
    folder = tmp_path / "work"
    folder.mkdir()
    case = Case(label, Site(), water(1), (label, Site(), argon), numerics={"retries": 1}, physics={"engine": "gfn2"})
    statement(case, *([folder] if "folder" in inspect.signature(statement).parameters else []))


def test_it_labels_frames_through_the_store_and_is_said_to_be_no_dft(pairs, tmp_path):
    from mlpwf.report.page import engine_title

    section, site, out = tmp_path / "label.json", tmp_path / "site.json", tmp_path / "label"
    write_json(section, Label(engine=pairs.name).model_dump(mode="json") | {"seed": 1})
    write_json(site, Site(label_store=str(tmp_path / "store")).model_dump(mode="json") | {"seed": 1})
    write_frames(tmp_path / "frames.extxyz", [water(1), water(2)])
    shared = ["--config", section, "--site", site, "--frames", tmp_path / "frames.extxyz", "--out", out]
    for words in (("batch", "--batch", 0, "--batches", 1), ("collect", "--batch", out / "batch" / "000.json")):
        CliRunner().invoke(app, [str(word) for word in (*words, *shared)], catch_exceptions=False)
    summary, frames = read_json(out / "summary.json"), read_frames(out / "labels.extxyz")
    assert (summary["engine"], summary["engine_version"], summary["accepted"]) == ("pairs", "1.0", 2)
    assert summary["physics"] == {"engine": "pairs", "cutoff_angstrom": 3.0}
    assert [frame.info["engine"] for frame in frames] == ["pairs", "pairs"]
    assert all(np.abs(frame.get_forces()).max() > 0.1 for frame in frames)
    assert engine_title(pairs.name) == "springs between neighbours (not DFT)"
    assert not pairs.dft
