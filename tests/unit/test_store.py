"""The store's key: what a label depends on, and nothing else."""

import multiprocessing
import time

import numpy as np
import pytest
from ase.build import molecule

from mlpwf.calculators.espresso import pw
from mlpwf.errors import DataError
from mlpwf.label.store import Store, canonical, label_key, labelled
from store_records import accepted, rejected

PHYSICS = {"engine": "qe", "cutoff_ry": 30.0, "pseudopotentials": {"C": "c0", "H": "aa", "O": "bb"}}


@pytest.fixture
def water():
    atoms = molecule("H2O")
    atoms.set_cell([[6.0, 0, 0], [0.5, 6.2, 0], [0, 0.3, 6.4]])
    atoms.pbc = True
    atoms.rattle(0.05, seed=3)
    atoms.positions = np.round(atoms.positions, 6)
    return atoms


def key(atoms, physics=PHYSICS):
    return label_key(canonical(atoms), physics)


def test_order_images_and_files_do_not_matter(water, tmp_path):
    from mlpwf.structures.frames import read_frames, write_frames

    moved = water[[2, 0, 1]]
    moved.positions[0] += water.cell.array[0] - 2 * water.cell.array[2]
    assert key(moved) == key(water)
    write_frames(tmp_path / "frame.extxyz", [water])
    assert key(read_frames(tmp_path / "frame.extxyz")[0]) == key(water)


def test_structure_and_physics_matter(water):
    moved = water.copy()
    moved.positions[1, 2] += 2e-6
    other = water.copy()
    other.numbers[1] = 6
    assert len({key(water), key(moved), key(other), key(water, PHYSICS | {"cutoff_ry": 31.0})}) == 4


def test_pseudopotentials_of_absent_elements_do_not_matter(water):
    assert key(water, PHYSICS | {"pseudopotentials": {"H": "aa", "O": "bb", "N": "dd"}}) == key(water)
    assert key(water, PHYSICS | {"pseudopotentials": {"H": "aa", "O": "other"}}) != key(water)


def test_forces_come_back_in_the_callers_order(water):
    structure = canonical(water[[1, 2, 0]])
    forces = np.arange(9.0).reshape(3, 3)
    stress = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    record = accepted(energy_ev=-1.0, forces_ev_angstrom=forces.tolist(), stress_ev_angstrom3=stress.tolist())
    mine = labelled(water[[1, 2, 0]], structure, record)
    assert np.array_equal(mine.get_forces()[structure.order], forces)
    assert mine.get_stress().tolist() == [1, 2, 3, 4, 5, 6]


def test_not_finite_is_refused(water):
    water.positions[0, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        canonical(water)


def test_put_and_get(tmp_path):
    store = Store(tmp_path)
    assert store.get("ab" * 32) is None
    store.put("ab" * 32, accepted(energy_ev=-1.5))
    store.put_rejected("cd" * 32, rejected(reason="clash"), "raw")
    assert store.get("ab" * 32) == accepted(energy_ev=-1.5, finished=store.get("ab" * 32).finished)
    assert store.get("ab" * 32).energy_ev == -1.5
    assert store.get_rejected("cd" * 32).reason == "clash"
    assert store.get("cd" * 32) is None


def _compute_once(root, started):
    store = Store(root)
    with store.in_flight("k"):
        if store.get("kk") is None:
            with open(started, "a") as handle:
                handle.write("x")
            time.sleep(0.05)
            store.put("kk", accepted())


def test_many_processes_compute_a_label_once(tmp_path):
    context = multiprocessing.get_context("fork")
    started = tmp_path / "started"
    workers = [context.Process(target=_compute_once, args=(tmp_path, started)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert started.read_text() == "x"


def test_keys_of_labels_at_gamma_are_what_they_were():
    """Those the first version gave to these two outputs; `auto` gives the same where a cell needs no more than Γ."""
    import ase.io

    import real_outputs

    kept = ("4e2ab566d8a89be3432a3be3cd1e41fff40b23af55fa133375faf17ec066e256",
            "ddfec02c2fe25288dc0302a17027d02f8595e35edc5d70e3f40f249e29f8c412")  # fmt: skip
    frames = [ase.io.read(real_outputs.DATA / f"{name}.in", format="espresso-in") for name in real_outputs.NAMES]
    found = [label_key(canonical(atoms), real_outputs.PHYSICS) for atoms in frames]
    assert sorted(found) == sorted(kept)
    shortest = min(atoms.cell.lengths().min() for atoms in frames)
    for distance, same in ((shortest - 0.1, True), (shortest + 1.5, False)):
        settings = real_outputs.SETTINGS.model_copy(update={"kpoints": "auto", "image_distance_angstrom": distance})
        physics = pw.physics(settings, real_outputs.HASHES)
        assert ([label_key(canonical(atoms), physics) for atoms in frames] == found) == same
