"""How the tables of an analysis are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray
from pandas import DataFrame

from mlpwf.dynamics import registry
from mlpwf.dynamics.analysis import Row
from mlpwf.dynamics.columns import UNIT
from mlpwf.dynamics.viscosity import MPAS_PER_BAR2_A3_PS_K
from mlpwf.files import replacing
from mlpwf.units import BOLTZMANN_EV_K, GAS_CONSTANT_KJ_MOL_K


def write_tables(out: Path, tables: Mapping[str, Sequence[Row]], reduced: bool) -> dict[str, DataFrame]:
    """Write each table as CSV, units in the headers unless they are reduced ones; return them as written."""
    needs = registry.needs()
    written = {}
    for name, rows in tables.items():
        table = pd.DataFrame(rows, columns=None if rows else [*needs[name]])
        if reduced:
            table = in_reduced_units(table)
        with replacing(out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, na_rep="NaN", float_format="%.10g")
        written[name] = table
    return written


def in_reduced_units(table: DataFrame) -> DataFrame:
    """A table with k_B = 1: molar energies over R, energies over k_B, viscosity in ε τ/σ³, no units in the headers."""
    factors = {"kj_mol": GAS_CONSTANT_KJ_MOL_K, "ev": BOLTZMANN_EV_K, "mpa_s": MPAS_PER_BAR2_A3_PS_K}
    table = table.copy()
    for column in table.columns:
        for unit in UNIT.findall(column):
            if unit[1] in factors:
                table[column] = table[column] / factors[unit[1]]
    if "unit" in table:
        energies = table["unit"] == "kJ/mol"
        for column in ("intercept", "intercept_error", "slope", "slope_error"):
            table.loc[energies, column] /= GAS_CONSTANT_KJ_MOL_K
        table.loc[energies, "unit"] = "epsilon"
    if "ln_prefactor" in table:
        viscosity = table["quantity"].str.startswith("viscosity")
        table.loc[viscosity, "ln_prefactor"] -= math.log(MPAS_PER_BAR2_A3_PS_K)
    if "quantity" in table:
        table["quantity"] = [UNIT.sub("", quantity) for quantity in table["quantity"]]
    return table.rename(columns=lambda column: UNIT.sub("", column))


def columns_of(table: DataFrame) -> dict[str, NDArray[Any]]:
    """A table as arrays by column: numbers as float64, the rest as text; each of shape (n_rows,)."""
    return {
        str(name): table[name].to_numpy(dtype=float)
        if table[name].dtype.kind in "if"
        else table[name].astype(str).to_numpy(dtype=str)
        for name in table.columns
    }
