"""Reduced units: no units in the headers, k_B = 1."""

import numpy as np
import pandas as pd
import pytest

from mlpwf.analyse.tables import in_reduced_units
from mlpwf.dynamics.viscosity import MPAS_PER_BAR2_A3_PS_K
from mlpwf.units import BOLTZMANN_EV_K, GAS_CONSTANT_KJ_MOL_K


def test_headers_and_numbers():
    table = pd.DataFrame(
        {
            "temperature_kelvin": [0.7], "tau_ps": [5.0], "tau_error_ps": [0.1], "msd_angstrom2": [2.0],
            "diffusion_error_angstrom2_per_ps": [3.0], "energy_ev_per_molecule": [BOLTZMANN_EV_K],
            "energy_kj_mol": [2 * GAS_CONSTANT_KJ_MOL_K], "viscosity_mpa_s": [7 * MPAS_PER_BAR2_A3_PS_K],
            "response_error_per_kelvin": [4.0], "density_per_angstrom": [6.0], "heat_capacity_kb_per_molecule": [3.0],
        }
    )  # fmt: skip
    found = in_reduced_units(table).iloc[0].to_dict()
    assert found == pytest.approx(
        {
            "temperature": 0.7, "tau": 5.0, "tau_error": 0.1, "msd": 2.0, "diffusion_error": 3.0,
            "energy_per_molecule": 1.0, "energy": 2.0, "viscosity": 7.0, "response_error": 4.0, "density": 6.0,
            "heat_capacity_kb_per_molecule": 3.0,
        }
    )  # fmt: skip


def test_prefactors_and_lines_are_converted_with_their_quantity():
    laws = in_reduced_units(
        pd.DataFrame({"quantity": ["tau_overlap_ps", "viscosity_mpa_s"], "ln_prefactor": [1.0, 1.0]})
    )
    assert list(laws.quantity) == ["tau_overlap", "viscosity"]
    np.testing.assert_allclose(laws.ln_prefactor, [1.0, 1.0 - np.log(MPAS_PER_BAR2_A3_PS_K)])
    lines = in_reduced_units(
        pd.DataFrame(
            {
                "unit": ["kJ/mol", "1"], "intercept": [GAS_CONSTANT_KJ_MOL_K, 1.0], "intercept_error": [0.0, 0.0],
                "slope": [GAS_CONSTANT_KJ_MOL_K, 1.0], "slope_error": [0.0, 0.0],
            }
        )
    )  # fmt: skip
    assert list(lines.unit) == ["epsilon", "1"]
    np.testing.assert_allclose(lines.slope, 1.0)
    np.testing.assert_allclose(lines.intercept, 1.0)
