"""A committee rated: frames kept apart, pairs by channel, maps checked, tables in an order of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlpwf.campaign import records
from mlpwf.errors import DataError
from mlpwf.structures.properties import Properties, of_frame
from mlpwf.train.rating import (
    TEST_SET,
    Rated,
    calibrate_on,
    calibration_pairs,
    earlier_maps,
    errors_on_test,
    keep_apart,
    pairs_table,
    parity_table,
)


def frame(seed: int, state: str = "300K") -> Atoms:
    """Two waters with a label that means nothing."""
    rng = np.random.default_rng(seed)
    atoms = Atoms("OHHOHH", rng.uniform(0, 5, (6, 3)), cell=[5.0] * 3, pbc=True)
    atoms.arrays["molecule"] = np.repeat([0, 1], 3)
    atoms.info["state"] = state
    atoms.calc = SinglePointCalculator(
        atoms, energy=float(rng.normal()), forces=rng.normal(size=(6, 3)), stress=rng.normal(size=6)
    )
    return atoms


def rated(seeds: range, models: int = 3) -> Rated:
    """Frames with models whose errors are of 0.1 eV/Å."""
    frames = [frame(seed, "300K" if seed % 2 else "400K") for seed in seeds]
    rng = np.random.default_rng(0)
    predictions = [
        [replace(one, forces=one.forces + 0.1 * rng.normal(size=one.forces.shape)) for one in map(of_frame, frames)]
        for _ in range(models)
    ]
    return Rated.of(frames, predictions)


def test_a_test_frame_of_the_training_set_is_named() -> None:
    keep_apart([frame(1)], [frame(2)], "test.extxyz")
    with pytest.raises(DataError, match=r"test\.extxyz: test frame 1 is a training frame as well"):
        keep_apart([frame(1), frame(2)], [frame(3), frame(2)], "test.extxyz")


def test_errors_are_of_each_model_and_of_the_mean() -> None:
    errors = errors_on_test(rated(range(8)))
    assert len(errors.models) == 3
    assert set(errors.mean.states) == {"300K", "400K"}
    assert errors.mean.overall.frames == len(errors.frame_force_mse_ev2_angstrom2) == 8
    assert errors.models[0].overall.force_rmse_ev_angstrom == pytest.approx(0.1, rel=0.2)
    assert errors.mean.overall.force_rmse_ev_angstrom < errors.models[0].overall.force_rmse_ev_angstrom
    assert errors.mean.overall.energy_rmse_mev_atom == pytest.approx(0.0, abs=1e-9)


def test_pairs_are_of_molecules_and_of_atoms() -> None:
    pairs = calibration_pairs(rated(range(8)))
    assert {channel: len(one.deviation) for channel, one in pairs.items()} == {"inter": 16, "intra": 48}
    assert pairs["inter"].frames == 8
    assert set(pairs["intra"].kind) == {"H", "O"}
    lines = pairs_table(pairs).splitlines()
    assert lines[0] == "channel,frame,state,kind,deviation,error"
    assert len(lines) == 1 + 16 + 48
    assert lines[1:] == sorted(lines[1:])


def test_single_atoms_have_no_inside() -> None:
    argon = Atoms("Ar2", [[0, 0, 0], [2, 2, 2]], cell=[5.0] * 3, pbc=True)
    argon.arrays["molecule"] = np.arange(2)
    argon.calc = SinglePointCalculator(argon, energy=0.0, forces=np.zeros((2, 3)), stress=np.zeros(6))
    other = Properties(0.0, np.full((2, 3), 0.1), np.zeros((3, 3)), 125.0)
    assert set(calibration_pairs(Rated.of([argon], [[of_frame(argon)], [other]]))) == {"inter"}


def test_the_calibration_before_is_checked_on_the_newest_pairs(tmp_path) -> None:
    first = calibrate_on(calibration_pairs(rated(range(8))), 8, TEST_SET, {})
    assert (first.source, first.frames, first.check, first.reliability) == (TEST_SET, 8, {}, {})
    records.write(tmp_path / "calibration.json", first)
    earlier = earlier_maps(tmp_path / "calibration.json")
    second = calibrate_on(calibration_pairs(rated(range(20, 26))), 6, "new labels", earlier)
    assert set(second.check) == set(second.maps) == {"inter", "intra"}
    assert second.check["inter"].frames == 6
    assert sum(count for _, _, count in second.reliability["intra"]) == 36
    assert earlier_maps(None) == {}


def test_the_parity_table_has_a_row_for_each_quantity() -> None:
    rows = parity_table(rated(range(2))).splitlines()
    assert rows[0] == "quantity,state,label,model"
    assert len(rows) == 1 + 2 * (1 + 9 + 18)
