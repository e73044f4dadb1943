"""The tables of an analysis: what each column is, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpwf.analyse.records import Row
from mlpwf.config import Analyse
from mlpwf.dynamics.columns import ANALYSIS, UNIT
from mlpwf.files import replacing

if TYPE_CHECKING:
    from pandas import DataFrame

SPACE = ("coherent", "s4", "sub_boxes", "lengths", "van_hove")


def write_tables(out: Path, tables: dict[str, list[Row]], reduced: bool) -> dict[str, DataFrame]:
    """Write each table as CSV, units in the headers unless they are reduced ones; return them as written."""
    import pandas as pd

    written = {}
    for name, rows in tables.items():
        table = pd.DataFrame(rows, columns=None if rows else [*ANALYSIS[name]])
        if reduced:
            table = in_reduced_units(table)
        with replacing(out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, na_rep="NaN", float_format="%.10g")
        written[name] = table
    return written


def in_reduced_units(table: DataFrame) -> DataFrame:
    """A table with k_B = 1: molar energies over R, energies over k_B, viscosity in ε τ/σ³, no units in the headers."""
    from mlpwf.dynamics.viscosity import MPAS_PER_BAR2_A3_PS_K
    from mlpwf.units import BOLTZMANN_EV_K, GAS_CONSTANT_KJ_MOL_K

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


def definitions(settings: Analyse) -> dict[str, str]:
    """Formula and source of the columns and of the named quantities."""
    a = f"{settings.overlap_angstrom:g} Å"
    return {
        "msd_angstrom2": "⟨|Δr|²⟩ of centres of mass, drift of their mean removed",
        "alpha2": "3⟨r⁴⟩/(5⟨r²⟩²) − 1 (10.1103/PhysRev.136.A405)",
        "overlap": f"C = ⟨Θ(a − |Δr|)⟩ with a = {a} (10.1063/1.1605094)",
        "fs_qQ": "C = ⟨sin(Qr)/(Qr)⟩, Q in 1/Å: self-intermediate scattering function",
        "cL_axisA": "C = ⟨P_L(u(0)·u(t))⟩ of axis A",
        "molecules": "all molecules, or those of one species",
        "*_error": (
            f"standard error by jackknife over at most {settings.blocks} contiguous blocks of time origins, none "
            "shorter than the lag nor than 2.5 relaxation times, widened by Student's t for few blocks so that two "
            "errors hold 95 %; NaN below 3. Errors of laws: bootstrap, "
            f"{settings.bootstrap} draws"
        ),
        "independent_windows": "(run − lag) over the longer of the lag and 2.5 τ, summed over runs; of τ: at τ",
        "equilibration": (
            "equilibrated; too short to tell; or what speaks against it: a trend of τ with waiting time (aging, "
            "drifting; Student's t, 0.27 %), halves that differ by 3 standard errors, a drift of the energy, a run "
            "shorter than 3 τ, molecules that broke"
        ),
        "verdict": "ok, or why a number is not to be used; such numbers enter no fit",
        "tau": "C(τ) = 1/e, ln(−ln C) interpolated in ln t; its error holds what lies between the lags",
        "kww_*": "A exp[−(t/τ)^β] fitted to C between 0.9 and 0.02; mean time τ/β Γ(1/β) (10.1039/TF9706600080)",
        "aging_ln_tau_over_run": "growth of ln τ over the whole run, from a line through τ(waiting time) of windows",
        "chi4": (
            "N [⟨C²⟩ − ⟨C⟩²] about the mean over all origins of all runs, in the ensemble of the row "
            "(10.1103/PhysRevE.71.041505); relative bias about −1/n for n independent windows"
        ),
        "chi4_normalised": "chi4/(⟨w²⟩ − ⟨w⟩²): 1 for independent molecules, k for independent blobs of k",
        "response": "χ_T = ∂⟨C⟩/∂T at fixed t, by the parabola through a state and its neighbours in temperature",
        "energy_term": "(k_B T²/c) χ_T²: χ4 of NVT less NVE, with c_V; of NPT less NPH, with c_P (10.1063/1.2721554)",
        "heat_capacity": "c a molecule in k_B: as given; else by differences of the energy; else by its fluctuation",
        "coherent": "F_ab(q,t) = ⟨ρ_a(q,t) ρ_b*(q,0)⟩/√(N_a N_b) of the centres, over the wavevectors nearest to q",
        "s4": "⟨|Σ w exp(iq·r(0))|²⟩/N of the overlap at the peak of χ4 (10.1063/1.1605094); fluctuation: of w − ⟨w⟩",
        "sub_boxes": "⟨(Σ_{i in sub-box} (w_i − ⟨w⟩))²⟩/⟨n⟩ (10.1103/PhysRevLett.119.205502)",
        "lengths": (
            "S4 = χ0/(1 + (qξ4)²) for qξ4 ≤ 1.5 (10.1103/PhysRevLett.105.217801); marginal: no q below 1/ξ4. Tables in "
            "space are of the last run of a state"
        ),
        "van_hove": "density 4πr² G_s(r,t) of distances r, at a tenth of τ, at τ and at 3 τ of the overlap",
        "peak of …": "largest value over lags of which three fit into the run; noise raises it by about its error",
        "three-point N_corr,T": (
            "(k_B/c) T² max χ_T² (10.1126/science.1120714), c = "
            + (
                f"Δc_P = {settings.excess_heat_capacity_kb:g} k_B a molecule"
                if settings.excess_heat_capacity_kb
                else "the run's own heat capacity"
            )
        ),
        "three-point N_corr,T by (beta/e) dlntau/dlnT": "(k_B/c)(β/e)²(dlnτ/dlnT)² (10.1103/PhysRevE.76.041510)",
        "diffusion": "MSD = 6Dt + c over the last decade below a sixth of the run, if dln MSD/dln t is within 0.1 of 1",
        "diffusion_infinite": (
            "D + k_B T ξ/(6πηL), ξ = 2.837297, with the state's own η: D in a box of infinite size, from a cube of "
            "edge L (10.1021/jp0477147); errors of D and η"
        ),
        "viscosity": (
            "V/(k_B T) ∫⟨σ(0)σ(t)⟩dt over the five shear components (10.1021/acs.jcim.5c01475); fits that contradict "
            "the spectrum near zero (p < 0.05) are left out, the error holds the change of η at lower cut-offs"
        ),
        "laws": (
            "ln τ = A + B/T (Arrhenius), A + B/(T − c) (VFT), A + (B/T) exp(c/T) (MYEGA, 10.1073/pnas.0911705106), "
            "A + B (1/T − 1/c)² for T < c (parabolic, 10.1021/jp810362g); A: ln_prefactor, B: strength (K; K² for "
            "parabolic), c: constant"
        ),
        "misfit_p_value": "probability of a χ² at least this large, were law and errors right",
        "aicc": "Akaike's criterion for few data (10.1093/biomet/76.2.297); akaike_weight = exp(−Δ/2), normalised",
        "glass": (
            f"T_g: {settings.glass_temperature_kelvin:g} K, as given"
            if settings.glass_temperature_kelvin
            else f"T_g: where the law reaches {settings.glass_time_s:g} s, or {settings.glass_viscosity_pa_s:g} Pa s"
        )
        + "; fragility dlog10 τ/d(T_g/T) there",
        "E(T) = RT ln(tau/tau_inf)": "τ as measured, τ∞ of the law named; for the parabolic law τ at its onset",
        "E_app(T) = R dlntau/d(1/T)": (
            "of the law named, its error with what other laws say, by their weights exp(−ΔAIC/2) (10.2307/2533961); "
            "between neighbouring temperatures: Δln τ/Δ(1/T), no law"
        ),
        "cooperativity": (
            "energy (or β) = intercept + slope × count, errors in both (10.1119/1.1632486); misfit_p_value: of "
            "the scatter about the line, were it true; proportional_p_value: of "
            "the improvement by the free intercept, were energy ∝ count; count_at_glass: of the line, at the energy "
            "of the law at T_g"
        ),
    }


def tables_of(
    states: Sequence[Any], laws: list[Row], energies: list[Row], cooperativity: list[Row]
) -> dict[str, list[Row]]:
    """All tables by name."""
    return {
        "states": [state.row for state in states],
        "motion": [row for state in states for row in state.motion],
        "correlators": [row for state in states for row in state.curves],
        "relaxation": [row for state in states for row in state.relaxation],
        "aging": [row for state in states for row in state.aging],
        "counts": [row for state in states for row in state.counts],
        **{name: [row for s in states if s.space for row in getattr(s.space, name)] for name in SPACE},
        "laws": laws,
        "energies": energies,
        "cooperativity": cooperativity,
    }
