"""A mixture simulated by `mlpwf simulate` and analysed as a campaign: every species has rows of its own, and masses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from mlpwf.analyse.campaign import campaign_sources
from mlpwf.analyse.command import analyse
from mlpwf.config import Analyse
from mlpwf.errors import DataError
from mlpwf.files import write_json
from mlpwf.md.trajectory_files import read_species
from mlpwf.simulate.command import app
from mlpwf.structures.boxes import isolated, label_molecules
from mlpwf.structures.frames import quantised, write_frames
from mlpwf.structures.species import molecule_from_smiles

DATA = Path(__file__).parents[1] / "data" / "cases" / "force_fields"
MOLECULES = {"water": {"smiles": "O", "count": 4}, "methane": {"smiles": "C", "count": 2}}
SYSTEM = {"molecules": MOLECULES, "density_g_cm3": 0.4}
MASSES = {"water": 18.015, "methane": 16.043}
SETTINGS = {
    "molecules": 12, "temperatures_kelvin": [300], "timestep_fs": 0.5, "equilibration_ps": 0.05, "length_ps": 1.0,
    "linear_interval_ps": 0.02, "stress_interval_fs": 5, "checkpoint_min": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Folder of a campaign that has simulated eight waters and four methanes."""
    root = tmp_path_factory.mktemp("mixture")
    references = []
    for number, (name, one) in enumerate(MOLECULES.items()):
        atoms = molecule_from_smiles(name, one["smiles"], 1)
        label_molecules([atoms], [number])
        boxed = isolated(atoms, 3.0)
        boxed.info = {"species": name}
        references.append(quantised(boxed))
    write_frames(root / "molecules.extxyz", references)
    force_field = {"commands": str(DATA / "mixture.lmp"), "molecules": str(DATA / "mixture.data")}
    write_json(root / "simulate.json", {"force_field": force_field} | SETTINGS | {"seed": 5})
    write_json(root / "system.json", SYSTEM | {"seed": 5})
    write_json(root / "site.json", {"seed": 5})
    write_json(root / "analyse.json", Analyse().model_dump(mode="json") | {"seed": 1})
    words = ["segment", "--molecules", "molecules.extxyz", "--config", "simulate.json", "--system", "system.json"]
    words += ["--site", "site.json", "--out", "simulate/300K"]
    paths = [str(root / word) if "." in word or "/" in word else word for word in words]
    result = CliRunner().invoke(app, [*paths, "--state", "300K", "--segment", "0"])
    assert result.exit_code == 0, result.exception
    return root


@pytest.mark.engine
def test_every_species_has_its_rows(campaign, tmp_path):
    command = typer.Typer()
    command.command()(analyse)
    words = ["--config", campaign / "analyse.json", "--simulate", campaign / "simulate", "--out", tmp_path]
    result = CliRunner().invoke(command, [*map(str, words), "--threads", "1", "--no-figures"])
    assert result.exit_code == 0, result.exception
    table = pd.read_csv(tmp_path / "relaxation.csv").drop_duplicates("molecules").set_index("molecules")
    assert table.number_of_molecules.to_dict() == {"all": 12, "water": 8, "methane": 4}
    motion = pd.read_csv(tmp_path / "motion.csv").pivot(index="time_ps", columns="molecules", values="msd_angstrom2")
    mean = (8 * motion.water + 4 * motion.methane) / 12
    np.testing.assert_allclose(motion["all"], mean, rtol=1e-5)
    assert (motion.water != motion.methane).all()
    inputs = json.loads((tmp_path / "summary.json").read_text())["inputs"]
    assert any(path.endswith("box.extxyz") for path in inputs)


@pytest.mark.engine
def test_masses_are_those_of_the_species_and_take_the_drift(campaign):
    (source,) = campaign_sources(campaign / "simulate", 100)
    trajectory = source.runs[0]()
    assert sorted(set(trajectory.species)) == ["methane", "water"]
    expected = [MASSES[name] for name in trajectory.species]
    np.testing.assert_allclose(trajectory.masses, expected, atol=2e-3)
    moved = trajectory.centres() - trajectory.centres(0, 1)
    np.testing.assert_allclose(np.average(moved, axis=1, weights=trajectory.masses), 0, atol=1e-5)
    assert np.abs(moved.mean(axis=1)).max() > 1e-4, "equal masses would leave a drift"


@pytest.mark.engine
def test_a_mixture_without_its_box_is_refused(campaign):
    box = campaign / "simulate" / "300K" / "box.extxyz"
    text = box.read_text()
    try:
        box.unlink()
        (source,) = campaign_sources(campaign / "simulate", 100)
        with pytest.raises(DataError, match=r"box.extxyz: no such file"):
            source.runs[0]()
    finally:
        box.write_text(text)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("", ("M01", "M02")),
        ("HETNAM     M01 water\nHETNAM     M02 methane\n", ("water", "methane")),
    ],
    ids=["of before", "named"],
)
def test_species_are_read_of_the_topology(head, expected, tmp_path):
    line = "ATOM  {:5d}  COM {} A{:4d}       0.000   0.000   0.000  1.00  0.00           C\n"
    beads = "".join(line.format(3 * k + b + 1, name, k + 1) for k, name in enumerate(("M01", "M02")) for b in range(3))
    (tmp_path / "topology.pdb").write_text(head + beads + "END\n")
    assert read_species(tmp_path / "topology.pdb") == expected
