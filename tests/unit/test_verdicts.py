"""Verdicts on the validation runs, from samples whose drift, density and structure are known."""

from __future__ import annotations

import numpy as np
import pytest

from mlpwf.campaign.records import RunEnd, as_dict
from mlpwf.units import AMU_PER_A3_PER_G_CM3
from mlpwf.validate.verdicts import (
    Samples,
    fault_of,
    liquid_samples,
    npt_verdict,
    nve_verdict,
    nvt_verdict,
    structure,
)

SOUND = RunEnd(stable=True, reason="", intact=True, steps=100)
BLOWN = RunEnd(stable=False, reason="hot", intact=True, steps=3)
BROKEN = RunEnd(stable=True, reason="", intact=False, steps=100)
ABOUT = {"seed": 1, "model_sha256": "ab", "cycle": 3, "conditions": "20 molecules"}


def samples(count: int = 60, interval: float = 0.1, molecules: int = 20, density: float = 0.8) -> Samples:
    """An ideal gas at a density, whose energy rises by 0.2 eV a ps."""
    rng = np.random.default_rng(1)
    times = interval * np.arange(count)
    cells = np.array([10.0 * np.eye(3)] * count)
    ones = np.ones(count)
    thermo = np.column_stack([times, 300 * ones, -5 * ones, 0.2 * times, 12 * ones, 1000 * ones])
    return Samples(thermo, rng.uniform(0, 10, (count, molecules, 3)), cells, density * 1000 * AMU_PER_A3_PER_G_CM3)


def test_a_run_that_left_no_file_has_no_samples(tmp_path) -> None:
    nothing = Samples.read(tmp_path / "nve.npz")
    assert len(nothing.times) == len(nothing.densities) == len(nothing.centres) == 0
    given = samples(4)
    np.savez(tmp_path / "nvt.npz", thermo=given.thermo, centres=given.centres, cells=given.cells, mass=given.mass)
    back = Samples.read(tmp_path / "nvt.npz")
    assert back.mass == given.mass
    assert np.array_equal(back.centres, given.centres)


def test_the_drift_is_the_slope_of_the_energy_of_an_atom() -> None:
    found = nve_verdict(SOUND, samples(), atoms=100)
    assert found.drift_mev_atom_ps == pytest.approx(2.0)
    assert found.mean_temperature == pytest.approx(300)
    assert found.steps == 100


@pytest.mark.parametrize("end", [BLOWN, RunEnd(stable=False, reason="crashed, killed by signal 11: no output")])
def test_nothing_is_measured_of_a_run_that_failed(end: RunEnd) -> None:
    for verdict in (nve_verdict(end, samples(), 100), nvt_verdict(end, samples())):
        assert as_dict(verdict) == as_dict(end)
    assert as_dict(npt_verdict(end, samples(), 0.8)) == as_dict(end) | {"density_expected_g_cm3": 0.8}
    assert len(structure(end, samples())[0]) == 0


def test_the_density_leaves_out_the_first_third() -> None:
    given = samples()
    given.thermo[:20, 5] = 2000
    found = npt_verdict(SOUND, given, 0.9)
    assert found.density_g_cm3 == pytest.approx(0.8)
    assert found.density_error_g_cm3 == pytest.approx(0, abs=1e-12)
    assert found.density_expected_g_cm3 == 0.9
    assert npt_verdict(SOUND, samples(6), 0.9).density_g_cm3 is None, "four samples make no five blocks"


def test_an_ideal_gas_has_no_structure_and_one_molecule_none_to_speak_of() -> None:
    r, g = structure(SOUND, samples(300))
    assert g[r > 2].mean() == pytest.approx(1, abs=0.05)
    found = nvt_verdict(SOUND, samples())
    assert found.mean_pressure_bar == pytest.approx(12)
    assert found.pressure_error_bar == pytest.approx(0, abs=1e-12)
    assert nvt_verdict(SOUND, samples(4)).pressure_error_bar is None, "four samples make no five blocks"
    assert len(structure(SOUND, samples(molecules=1))[0]) == 0
    assert nvt_verdict(SOUND, samples(molecules=1)).mean_temperature is None


def test_a_liquid_has_samples_where_its_runs_are_long_enough() -> None:
    long = liquid_samples({"nvt": SOUND, "npt": SOUND}, samples(), samples(90), **ABOUT)
    assert long.fault == ""
    assert long.density == pytest.approx([0.8] * 5)
    assert np.shape(long.g) == (5, len(long.r))
    assert len(long.diffusion) == 20
    assert long.diffusion_lags == pytest.approx((0.7, 1.4))
    short = liquid_samples({"nvt": SOUND, "npt": SOUND}, samples(16), samples(16), **ABOUT)
    assert (short.density, short.g, short.diffusion, short.diffusion_lags) == ([], [], [], None)


def test_a_model_that_breaks_molecules_or_blows_up_has_no_liquid() -> None:
    ends = {"nvt": BROKEN, "npt": BLOWN}
    assert fault_of(ends) == "the run at constant volume broke molecules, the run at constant pressure blew up"
    found = liquid_samples(ends, samples(), samples(), **ABOUT)
    assert found.fault == fault_of(ends)
    assert found.density == found.r == found.g == found.diffusion == []
