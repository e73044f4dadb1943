"""Diffusion in an infinite box: the formula, its error, and when there is none."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlpwf.dynamics.finite_size import cube_edge, infinite_box
from mlpwf.dynamics.observables.diffusion import DiffusionColumns
from mlpwf.dynamics.observables.infinite_box import infinite_box_columns
from mlpwf.dynamics.observables.viscosity import ViscosityColumns
from mlpwf.dynamics.state import State
from mlpwf.dynamics.viscosity import MPAS_PER_BAR2_A3_PS_K


def test_the_formula_by_hand_in_si_units():
    value, error = infinite_box((0.23, 0.004), (0.9, 0.06), 20.0, 298.0)
    added = 1.380649e-23 * 298 * 2.837297 / (6 * np.pi * 0.9e-3 * 20e-10) * 1e20 / 1e12
    assert value == pytest.approx(0.23 + added, rel=1e-12)
    assert error == pytest.approx(np.hypot(0.004, added * 0.06 / 0.9), rel=1e-12)


def test_boxes_of_any_size_give_one_value():
    """D of a liquid of D∞ = 0.3 and η = 0.5 in cubes of many edges: D∞ (1 − aξ/L)."""
    stokes = 1.380649e-2 * 300 / (6 * np.pi * 0.5 * 0.3)  # hydrodynamic radius in Å
    for edge in (12.0, 25.0, 60.0):
        inside = 0.3 * (1 - 2.837297 * stokes / edge)
        assert infinite_box((inside, 0.01), (0.5, 0.0), edge, 300.0) == pytest.approx((0.3, 0.01), rel=1e-6)


def test_errors_cover_the_truth():
    rng = np.random.default_rng(2)
    exact = infinite_box((0.2, 0.0), (0.8, 0.0), 18.0, 300.0)[0]
    scores = []
    for _ in range(2000):
        value, error = infinite_box((0.2 + 0.005 * rng.normal(), 0.005), (0.8 + 0.05 * rng.normal(), 0.05), 18.0, 300.0)
        scores.append((value - exact) / error)
    assert np.mean(np.abs(scores) < 2) == pytest.approx(0.9545, abs=0.02)


def test_cubes():
    turn = Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    assert cube_edge(20.0 * turn) == pytest.approx(20.0)
    for cell in (np.zeros((3, 3)), np.diag([20.0, 20.0, 20.1]), np.array([[20.0, 0, 0], [2.0, 20, 0], [0, 0, 20]])):
        assert np.isnan(cube_edge(cell))


def state(**changes):
    """A state whose D and viscosity are known, but for the changes."""
    rows = {
        DiffusionColumns: {
            "diffusion_angstrom2_per_ps": 0.2, "diffusion_error_angstrom2_per_ps": 0.01, "diffusion_slope": 1.0,
            "diffusion_verdict": "ok",
        },
        ViscosityColumns: {"viscosity_mpa_s": 0.8, "viscosity_error_mpa_s": 0.1, "viscosity_verdict": "ok"},
    }  # fmt: skip
    about = {"fault": "", "edge_angstrom": 20.0}
    one = State("300K", 300.0, "nvt", **{name: changes.get(name, value) for name, value in about.items()})
    for kind, values in rows.items():
        one.add(kind(**{name: changes.get(name, value) for name, value in values.items()}))
    return one


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "ok"),
        ({"edge_angstrom": float("nan")}, "the box is no cube"),
        ({"viscosity_verdict": "no pressure tensor"}, "no viscosity: no pressure tensor"),
        ({"diffusion_verdict": "not diffusive"}, "no D: not diffusive"),
        ({"fault": "molecules broke"}, "molecules broke"),
    ],
)
def test_blank_with_a_reason(changes, verdict):
    found = infinite_box_columns(state(**changes))
    assert found.diffusion_infinite_verdict == verdict
    assert np.isfinite(found.diffusion_infinite_angstrom2_per_ps) == (verdict == "ok")
    assert np.isfinite(found.diffusion_infinite_error_angstrom2_per_ps) == (verdict == "ok")


def test_in_reduced_units_the_boltzmann_constant_is_1():
    one = state(viscosity_mpa_s=2.0 * MPAS_PER_BAR2_A3_PS_K, viscosity_error_mpa_s=0.0)
    found = infinite_box_columns(one, reduced=True)
    expected = 0.2 + 300.0 * 2.837297 / (6 * np.pi * 2.0 * 20.0)
    assert found.diffusion_infinite_angstrom2_per_ps == pytest.approx(expected, rel=1e-12)
