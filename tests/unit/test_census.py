"""Frames counted by kind and state, with their closest atoms."""

from __future__ import annotations

import pytest
from ase import Atoms

from mlpwf.build.census import census


def frame(kind: str, state: str, apart: float | None) -> Atoms:
    positions = [[0, 0, 0]] if apart is None else [[0, 0, 0], [apart, 0, 0]]
    atoms = Atoms(f"Ar{len(positions)}", positions, cell=[10.0] * 3, pbc=True)
    atoms.info |= {"kind": kind, "state": state}
    return atoms


def test_frames_are_counted() -> None:
    found = census([frame("bulk", "300K", 1.5), frame("bulk", "400K", 1.25), frame("dimer", "dimer", 3.0)])
    assert found.frames == 3
    assert found.kinds == {"bulk": 2, "dimer": 1}
    assert found.states == {"300K": 1, "400K": 1, "dimer": 1}
    assert found.minimum_distance_angstrom == pytest.approx({"bulk": 1.25, "dimer": 3.0})


def test_no_frames_are_none() -> None:
    assert census([]).frames == 0
