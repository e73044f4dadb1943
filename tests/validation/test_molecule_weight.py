"""What `train.molecule_weight` is for: forces that move whole molecules, on labels of the toluene campaign."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest
from ase import Atoms

from mlpwf.config import Train
from mlpwf.potentials.deepmd.data import most_neighbours, neighbour_slots, rigid_coordinates, write_data
from mlpwf.potentials.deepmd.program import Program
from mlpwf.potentials.deepmd.settings import seeds, training_input
from mlpwf.potentials.metrics import error_measures
from mlpwf.potentials.record import open_model
from mlpwf.structures.frames import read_frames
from mlpwf.structures.properties import of_frame

PROJECT = Path(__file__).parents[2]
DP = [str(Path(sys.executable).parent / "dp")]
ELEMENTS = ["H", "C"]
SETTINGS = Train(
    cutoff_angstrom=4.0, embedding_neurons=[8, 16], fitting_neurons=[32, 32], axis_neurons=4, steps=1000,
    learning_rate_final=1e-5,
)  # fmt: skip


@pytest.fixture(scope="module")
def pairs_of_toluene(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Atoms], list[Atoms]]:
    """RPBE-D3(BJ) labels of boxes of two: of the first three cycles, and of the fifth."""
    folder = tmp_path_factory.mktemp("labels")
    found = []
    with tarfile.open(PROJECT / "benchmarks" / "toluene" / "campaign.tar.xz") as archive:
        for cycle in range(5):
            name = f"results/toluene/cycle/{cycle:03d}/label/labels.extxyz"
            archive.extract(name, folder, filter="data")
            found.append([atoms for atoms in read_frames(folder / name) if len(atoms) == 30])
    return [*found[0], *found[1], *found[2]][:60], found[4][:24]


def errors(folder: Path, weight: float, train: list[Atoms], test: list[Atoms]) -> tuple[float, float, float]:
    """Of forces on atoms, net forces and torques over the size of a molecule, root mean square, in eV/Å."""
    section = SETTINGS.model_copy(update={"molecule_weight": weight})
    coordinates = rigid_coordinates(section, train)
    settings = training_input(
        section,
        elements=ELEMENTS,
        slots=neighbour_slots(most_neighbours(train, ELEMENTS, SETTINGS.cutoff_angstrom)),
        systems=write_data(folder / "data", train, ELEMENTS, coordinates),
        seed=seeds(1, 0),
        continued=False,
        coordinates=coordinates,
    )
    Program(DP).train(folder, settings)
    measures = error_measures(test, [of_frame(atoms) for atoms in test], open_model(folder / "model.pb").predict(test))
    return tuple(getattr(measures, f"{kind}_rmse_ev_angstrom") for kind in ("force", "force_inter", "torque"))


@pytest.mark.engine
def test_it_makes_net_forces_and_torques_right_at_no_cost_to_forces(pairs_of_toluene, tmp_path):
    train, test = pairs_of_toluene
    folders = [tmp_path / name for name in ("without", "with")]
    for folder in folders:
        folder.mkdir()
    without = errors(folders[0], 0.0, train, test)
    weighted = errors(folders[1], SETTINGS.molecule_weight, train, test)
    assert weighted[0] < 1.1 * without[0]
    assert weighted[1] < without[1] / 2
    assert weighted[2] < without[2] / 2
    header = (folders[1] / "lcurve.out").read_text().splitlines()[0].split()
    assert "rmse_gf_trn" in header
