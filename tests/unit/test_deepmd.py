"""DeePMD-kit: the input written, and what a really trained model predicts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from mlpwf.config import Train
from mlpwf.errors import DataError, EngineError
from mlpwf.potentials.curve import curve_csv
from mlpwf.potentials.deepmd.data import most_neighbours, neighbour_slots, rigid_coordinates, write_data
from mlpwf.potentials.deepmd.program import Program
from mlpwf.potentials.deepmd.settings import seeds, training_input
from mlpwf.potentials.metrics import largest_differences
from mlpwf.potentials.record import open_model
from mlpwf.structures.molecules import rigid_motions
from mlpwf.structures.properties import of_frame

ELEMENTS = ["H", "O"]
DP = [str(Path(sys.executable).parent / "dp")]
SETTINGS = Train(
    cutoff_angstrom=3.5,
    embedding_neurons=[4, 8],
    fitting_neurons=[16, 16],
    axis_neurons=4,
    steps=100,
    steps_continued=20,
)


def water(count: int, seed: int, length: float = 5.0) -> Atoms:
    """A box of randomly turned and distorted waters with Lennard-Jones labels."""
    rng = np.random.default_rng(seed)
    box = Atoms(cell=[length] * 3, pbc=True)
    for place in range(count):
        one = molecule("H2O")
        one.euler_rotate(*rng.uniform(0, 360, 3))
        one.positions += (np.array([place & 1, place >> 1 & 1, place >> 2 & 1]) + 0.5) * length / 2
        box += one
    box.set_array("molecule", np.arange(len(box)) // 3)
    box.positions += rng.normal(0, 0.04, box.positions.shape)
    labels = box.copy()
    labels.calc = LennardJones(sigma=0.9, epsilon=0.2, rc=3.0, smooth=True)
    box.calc = SinglePointCalculator(
        box, energy=labels.get_potential_energy(), forces=labels.get_forces(), stress=labels.get_stress()
    )
    return box


@pytest.fixture(scope="module")
def frames() -> list[Atoms]:
    return [water(4, seed) for seed in range(16)] + [water(2, seed) for seed in range(4)]


def train(folder: Path, frames: list[Atoms], start: Path | None = None) -> Path:
    folder.mkdir()
    settings = training_input(
        SETTINGS,
        elements=ELEMENTS,
        slots=[24, 16],
        systems=write_data(folder / "data", frames, ELEMENTS),
        seed=seeds(1, 0),
        continued=start is not None,
    )
    Program(DP).train(folder, settings, start)
    return folder


@pytest.fixture(scope="module")
def trained(frames: list[Atoms], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("deepmd") / "once", frames)


# ---------------------------------------------------------------- input


def test_data_holds_what_the_frames_hold(frames: list[Atoms], tmp_path: Path) -> None:
    names = write_data(tmp_path / "data", frames, ELEMENTS)
    assert names == ["data/000", "data/001"]
    few, many = (tmp_path / name for name in names)
    assert np.load(few / "set.000/energy.npy").size == 4
    assert np.load(many / "set.000/energy.npy").dtype == np.float64
    assert (many / "type_map.raw").read_text().split() == ELEMENTS
    assert (few / "type.raw").read_text().split() == ["1", "0", "0"] * 2
    assert np.array_equal(np.load(many / "set.000/coord.npy")[3], frames[3].positions.ravel())
    assert np.array_equal(np.load(many / "set.000/force.npy")[3], frames[3].get_forces().ravel())
    virial = -frames[3].get_stress(voigt=False) * frames[3].get_volume()
    assert np.allclose(np.load(many / "set.000/virial.npy")[3], virial.ravel(), rtol=0, atol=1e-13)


def test_files_hold_how_each_molecule_moves(frames: list[Atoms], tmp_path: Path) -> None:
    coordinates = rigid_coordinates(SETTINGS, frames)
    assert coordinates == 24
    for name in write_data(tmp_path / "data", frames, ELEMENTS, coordinates):
        part = tmp_path / name / "set.000"
        forces, motions = np.load(part / "force.npy"), np.load(part / "drdq.npy")
        count, width = forces.shape
        found = np.einsum("fi,fiq->fq", forces, motions.reshape(count, width, coordinates))
        molecules = width // 9
        chosen = [atoms for atoms in frames if len(atoms) == 3 * molecules]
        own = np.array([np.einsum("ikq,ik->q", rigid_motions(atoms), atoms.get_forces()) for atoms in chosen])
        assert not found[:, 6 * molecules :].any()
        assert np.allclose((found**2).mean(axis=1), (own**2).mean(axis=1), rtol=1e-12)
        assert np.allclose(found[:, : 6 * molecules], own * np.sqrt(4 / molecules), rtol=0, atol=1e-12)


def test_molecules_must_be_numbered_where_they_count(frames: list[Atoms]) -> None:
    bare = frames[0].copy()
    del bare.arrays["molecule"]
    with pytest.raises(DataError, match=r"numbers no molecules.*train\.molecule_weight: 0"):
        rigid_coordinates(SETTINGS, [frames[1], bare])
    assert rigid_coordinates(SETTINGS.model_copy(update={"molecule_weight": 0.0}), [bare]) == 0


def test_labels_must_be_complete() -> None:
    bare = molecule("H2O", cell=[5, 5, 5], pbc=True)
    with pytest.raises(DataError, match="lacks a label"):
        of_frame(bare)
    bare.calc = SinglePointCalculator(bare, energy=1.0, forces=np.full((3, 3), np.nan), stress=np.zeros(6))
    with pytest.raises(DataError, match="not finite"):
        of_frame(bare)
    bare.pbc = False
    with pytest.raises(DataError, match="no periodic cell"):
        of_frame(bare)


def test_neighbours_equal_a_count_over_images(frames: list[Atoms]) -> None:
    atoms, cutoff = frames[0], 3.5
    shifts = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T @ atoms.cell.array
    most = {"H": 0, "O": 0}
    for i in range(len(atoms)):
        counts = {"H": 0, "O": 0}
        for j in range(len(atoms)):
            gaps = np.linalg.norm(atoms.positions[j] + shifts - atoms.positions[i], axis=1)
            counts[atoms.symbols[j]] += int(np.sum((gaps < cutoff) & (gaps > 1e-9)))
        most = {symbol: max(most[symbol], counts[symbol]) for symbol in most}
    assert most_neighbours([atoms], ELEMENTS, cutoff) == [most["H"], most["O"]]
    assert neighbour_slots([0, 16, 17]) == [4, 20, 24]


def test_input_follows_the_section() -> None:
    common = {"elements": ELEMENTS, "slots": [24, 16], "systems": ["data/000"], "seed": seeds(1, 0)}
    new = training_input(SETTINGS, continued=False, **common)
    assert new["training"]["numb_steps"] == 100
    assert new["learning_rate"]["start_lr"] == SETTINGS.learning_rate
    assert new["model"]["descriptor"]["sel"] == [24, 16]
    weights = {key: new["loss"][f"start_pref_{key}"] for key in "efv"}
    assert weights == {"e": SETTINGS.energy_weight, "f": 1000.0, "v": SETTINGS.virial_weight}
    assert {new["loss"][f"limit_pref_{key}"] for key in "efv"} == {1.0}
    assert "numb_generalized_coord" not in new["loss"]
    rigid = training_input(SETTINGS, continued=False, coordinates=24, **common)["loss"]
    assert rigid["numb_generalized_coord"] == 24
    assert (rigid["start_pref_gf"], rigid["limit_pref_gf"]) == (SETTINGS.molecule_weight, 1.0)
    without = training_input(SETTINGS.model_copy(update={"virial_weight": 0.0}), continued=False, **common)
    assert without["loss"]["start_pref_v"] == without["loss"]["limit_pref_v"] == 0.0
    continued = training_input(SETTINGS, continued=True, **common)
    assert continued["training"]["numb_steps"] == 20
    assert continued["learning_rate"]["start_lr"] == SETTINGS.learning_rate_continued


@pytest.mark.parametrize("schedule", ["plateau", "exponential"])
def test_learning_rate_is_what_the_schedule_says(schedule: str) -> None:
    from deepmd.dpmodel.utils.learning_rate import BaseLR

    section = SETTINGS.model_copy(update={"learning_rate_schedule": schedule})
    asked = training_input(section, elements=ELEMENTS, slots=[24, 16], systems=[], seed=seeds(1, 0), continued=False)[
        "learning_rate"
    ]
    rates = [BaseLR(**asked, num_steps=section.steps).value(step) for step in (0, 49, 75, 100)]
    first, last = section.learning_rate, section.learning_rate_final
    if schedule == "plateau":
        assert rates == pytest.approx([first, first, (first + last) / 2, last])
    else:
        assert rates == pytest.approx([first * (last / first) ** (step / 100) for step in (0, 49, 75, 100)], rel=0.1)


def test_seeds_differ_between_models_and_stay() -> None:
    assert seeds(1, 0) == seeds(1, 0)
    every = [value for index in range(4) for value in seeds(1, index).values()]
    assert len(set(every)) == len(every)
    assert all(0 <= value < 2**31 for value in every)


def test_failing_programs_are_reported(tmp_path: Path) -> None:
    script = "import sys; print('libcudart: error'); print('ValueError: bad sel'); print('bye'); sys.exit(3)"
    with pytest.raises(EngineError, match=r"ended with status 3.*ValueError: bad sel.*-c\.out"):
        Program([sys.executable]).run(["-c", script], tmp_path)
    with pytest.raises(EngineError, match="no-such-program"):
        Program(["no-such-program"]).run(["train"], tmp_path)


def test_only_the_dp_of_this_python_shares_a_process() -> None:
    assert Program(DP)._is_ours()
    for other in ([sys.executable], [*DP, "--verbose"], ["no-such-dp"]):
        assert not Program(other)._is_ours()


def test_curve_is_read_by_its_header(tmp_path: Path) -> None:
    curve = tmp_path / "lcurve.out"
    curve.write_text("# step rmse_f_trn lr\n# a note\n 0 1.5 1e-2\n 10 0.5 1e-3\n 20 0.")
    assert curve_csv(curve) == "step,rmse_f_trn,lr\n0,1.5,0.01\n10,0.5,0.001\n"
    curve.write_text("# step rmse_f_trn lr\n 0 nan 1e-2\n")
    with pytest.raises(EngineError, match="not finite"):
        curve_csv(curve)


# ---------------------------------------------------------------- a trained model


@pytest.mark.engine
def test_real_dp_reports_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('{"model": {"type_map": ["H"]}}')
    with pytest.raises(EngineError, match="dp train ended with status 1"):
        Program(DP).run(["train", "input.json"], tmp_path)
    with pytest.raises(EngineError, match=r"dp freeze ended with status 1; .*freeze\.out"):
        Program(DP).run_all([["freeze", "-c", "none", "-o", "model.pb"], ["compress"]], tmp_path)
    assert not (tmp_path / "compress.out").exists()


@pytest.mark.engine
def test_compression_changes_nothing_that_matters(trained: Path, frames: list[Atoms]) -> None:
    original, compressed = (open_model(trained / name).predict(frames) for name in ("model.pb", "compressed.pb"))
    difference = largest_differences(original, compressed)
    assert difference.force_ev_angstrom < 1e-6
    assert difference.energy_ev_atom < 1e-6


@pytest.mark.engine
def test_training_twice_gives_the_same_bits(trained: Path, frames: list[Atoms], tmp_path: Path) -> None:
    again = train(tmp_path / "again", frames)
    for name in ("model.pb", "compressed.pb"):
        for one, other in zip(
            open_model(trained / name).predict(frames), open_model(again / name).predict(frames), strict=True
        ):
            assert one.energy == other.energy
            assert np.array_equal(one.forces, other.forces)
            assert np.array_equal(one.virial, other.virial)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["model.pb", "compressed.pb"])
def test_forces_and_virial_are_derivatives_of_the_energy(trained: Path, frames: list[Atoms], name: str) -> None:
    atoms, step = frames[0], 1e-4
    moved, strained = [], []
    for sign in (1, -1):
        for atom, axis in ((0, 0), (1, 1), (5, 2)):
            copy = atoms.copy()
            copy.positions[atom, axis] += sign * step
            moved.append(copy)
        for axis, other in ((0, 0), (2, 2), (0, 1)):
            strain = np.eye(3)
            strain[axis, other] += sign * step
            copy = atoms.copy()
            copy.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            strained.append(copy)
    predicted = open_model(trained / name).predict([atoms, *moved, *strained])
    energies = np.array([one.energy for one in predicted[1:]]).reshape(2, 2, 3)  # moved or strained, sign, which
    slopes = -(energies[:, 0] - energies[:, 1]) / (2 * step)
    here = predicted[0]
    assert slopes[0] == pytest.approx([here.forces[0, 0], here.forces[1, 1], here.forces[5, 2]], abs=2e-6)
    virial = (here.virial + here.virial.T) / 2
    assert slopes[1] == pytest.approx([virial[0, 0], virial[2, 2], virial[0, 1]], abs=2e-5)
    assert np.abs(slopes).max() > 1e-2


@pytest.mark.engine
def test_predictions_keep_their_order_and_ignore_wrapping(trained: Path, frames: list[Atoms]) -> None:
    mixed = [frames[0], frames[17], frames[1], frames[16]]
    together = open_model(trained / "model.pb").predict(mixed)
    for atoms, one in zip(mixed, together, strict=True):
        wrapped = atoms.copy()
        wrapped.wrap()
        wrapped.positions[0] += 2 * atoms.cell.array[1]
        (alone,) = open_model(trained / "model.pb").predict([wrapped])
        assert alone.energy == pytest.approx(one.energy, abs=1e-9)
        assert np.allclose(alone.forces, one.forces, rtol=0, atol=1e-9)


@pytest.mark.engine
def test_descriptors_are_invariant(trained: Path, frames: list[Atoms]) -> None:
    atoms = frames[0]
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    turned.translate([0.3, -1.2, 7.0])
    exchanged = atoms[[3, 4, 5, 0, 1, 2, *range(6, 12)]]
    vectors = open_model(trained / "model.pb").descriptors([atoms, turned, exchanged, frames[1], frames[17]], ELEMENTS)
    assert vectors.shape == (5, 2 * 2 * 8 * 4)
    assert np.allclose(vectors[1], vectors[0], rtol=0, atol=1e-9)
    assert np.allclose(vectors[2], vectors[0], rtol=0, atol=1e-9)
    assert np.abs(vectors[3] - vectors[0]).max() > 1e-4


@pytest.mark.engine
def test_unknown_elements_and_bad_models_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds C as well"):
        open_model(trained / "model.pb").predict([molecule("CH4", cell=[5, 5, 5], pbc=True)])
    (tmp_path / "cut.pb").write_bytes((trained / "model.pb").read_bytes()[:2000])
    with pytest.raises(EngineError, match=r"cut\.pb"):
        open_model(tmp_path / "cut.pb").predict([])
    with pytest.raises(DataError, match="no such model"):
        open_model(tmp_path / "none.pb").predict([])
