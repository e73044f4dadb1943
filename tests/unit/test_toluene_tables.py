"""The tables that benchmarks/toluene keeps of its campaign."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

import report_campaign

FOLDER = Path(__file__).parents[2] / "benchmarks" / "toluene"


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"toluene_{name}", FOLDER / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tables():
    return loaded("tables")


@pytest.fixture(scope="module")
def liquid():
    return loaded("liquid")


def rows(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_stage_of_a_campaign_is_told(tables, tmp_path):
    tables.main(report_campaign.campaign(tmp_path, cycles=3), tmp_path)
    sets = rows(tmp_path / "labels.csv")
    assert [(one["set"], one["asked"]) for one in sets] == [("test", "40"), ("000", "60"), ("001", "60"), ("002", "60")]
    assert (sets[1]["labels"], sets[1]["set_aside"]) == ("57", "3xnot converged")
    curve = rows(tmp_path / "learning_curve.csv")
    assert [int(one["labels"]) for one in curve] == [57, 114, 171]
    assert [float(one["test_inter_mev_angstrom"]) for one in curve] == pytest.approx([80.0, 52.0, 33.8])
    assert (curve[0]["new_force_mev_angstrom"], curve[1]["new_force_mev_angstrom"]) == ("", "208.0")
    assert {one["force"] for one in rows(tmp_path / "calibration.csv")} == {"inter", "intra"}
    chosen = rows(tmp_path / "selection.csv")
    assert (chosen[0]["walkers"], chosen[0]["steps"]) == ("2xblew up 6xfinished", "16000")
    assert sum(int(one["selected"]) for one in chosen) == 120
    assert {one["stage"]: float(one["cpu_s"]) for one in rows(tmp_path / "cost.csv")}["label"] == 9030


def test_a_campaign_that_has_hardly_begun_gives_what_there_is(tables, tmp_path):
    (tmp_path / "build").mkdir()
    tables.main(tmp_path, tmp_path)
    assert not list(tmp_path.glob("*.csv"))


def test_the_first_shell_of_a_known_structure(liquid):
    r = np.arange(0.05, 12, 0.1)
    g = np.where(r < 4, 0, 1 + 1.5 * np.exp(-(((r - 6) / 0.6) ** 2)) - 0.4 * np.exp(-(((r - 8) / 0.6) ** 2)))
    peak, height, minimum, neighbours = liquid.first_shell(r, g, 0.005)
    assert (peak, minimum) == (pytest.approx(6.0, abs=0.1), pytest.approx(8.0, abs=0.15))
    assert height == pytest.approx(2.5, abs=0.1)
    inside = r <= minimum + 1e-9
    assert neighbours == pytest.approx(0.005 * np.trapezoid((4 * np.pi * r**2 * g)[inside], r[inside]), rel=0.05)


def test_the_ring_is_found_beside_the_centre_of_mass(liquid, molecule):
    offset = liquid.ring_offset(molecule)
    assert np.linalg.norm(offset) == pytest.approx(0.42, abs=0.05)
    assert np.abs(offset[1:]).max() < 0.05, "it lies on the axis through the methyl group"


def test_rings_side_by_side_and_edge_on(liquid):
    body, turned = [[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, 1]]
    run = liquid.MolecularTrajectory.from_arrays(
        np.arange(10.0),
        np.tile([[0, 0, 0], [0, 0, 4], [0, 6, 0.0]], (10, 1, 1)),
        np.tile([body, body, turned], (10, 1, 1, 1)).astype(float),
        cell=np.full(3, 20.0),
    )
    distances, cosines = liquid.orientations(run, np.zeros(3))
    assert distances[0] == pytest.approx([4, 6, np.sqrt(52)])
    assert cosines[0] == pytest.approx([1, 0, 0], abs=1e-6)
    assert liquid.order(distances, cosines, 0, 5) == (pytest.approx(1), pytest.approx(0, abs=1e-6))
    assert liquid.order(distances, cosines, 5, 7)[0] == pytest.approx(-0.5)


@pytest.fixture(scope="module")
def molecule():
    from mlpwf.structures.species import molecule_from_smiles

    atoms = molecule_from_smiles("toluene", "Cc1ccccc1", 1)
    assert isinstance(atoms, Atoms)
    return atoms
