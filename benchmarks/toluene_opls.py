"""Toluene by OPLS-AA against experiment: the tables of a finished campaign in one, and a figure.

    snakemake --cores 2 --config system=config/systems/toluene_opls.yaml
    python benchmarks/toluene_opls.py results/toluene_opls

writes toluene_opls.csv and toluene_opls.png into that folder and prints a table of Markdown.
benchmarks/toluene_opls.csv and docs/toluene_opls.png are such files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from mlpwf.files import read_json
from mlpwf.units import AMU_PER_A3_PER_G_CM3

MASS_AMU = 92.141
BOLTZMANN_J_K = 1.380649e-23
YEH_HUMMER = 2.837297

EXPERIMENT = pd.DataFrame(
    {
        "temperature_kelvin": [380, 340, 300, 270, 250, 230],
        "density_g_cm3": [0.7830, 0.8226, 0.8605, 0.8883, 0.9068, 0.9254],
        "viscosity_mpa_s": [0.2557, 0.3562, 0.5401, 0.8074, 1.1295, 1.7231],
    }
).set_index("temperature_kelvin")
"""Reference equations at 1 bar: density by Lemmon and Span (DOI 10.1021/je050186n), viscosity by Avgeri et al.
(DOI 10.1063/1.4926955), evaluated with CoolProp."""
DIFFUSION_298K = (298.15, 2.27, 0.5522)
"""K, 1e-9 m²/s (as usually quoted), mPa s. Elsewhere D is scaled by T/η, by hydrodynamics and not measured."""

CORRELATORS = {"c2_axis1": "τ2, C2 axis", "c2_axis2": "τ2, in-plane axis", "fs_q1.3": "τ, F_s(1.3 Å⁻¹)"}
COUNT = "peak of normalised chi4"


def gathered(campaign: Path) -> pd.DataFrame:
    """Tidy rows: temperature, quantity, value, error, unit, independent windows, equilibration."""
    tables = {name: pd.read_csv(campaign / "analyse" / f"{name}.csv") for name in ("states", "relaxation", "counts")}
    rows = []
    for r in tables["states"].to_dict("records"):
        summaries = sorted((campaign / "simulate" / r["state"]).glob("segment/*/summary.json"))
        summary = read_json(summaries[-1])
        mass = MASS_AMU * summary["molecules"] / AMU_PER_A3_PER_G_CM3
        end = (np.nan, r["equilibration"])
        rows.append((r["temperature_kelvin"], "run length", r["run_ps"], np.nan, "ps", *end))
        rows.append((r["temperature_kelvin"], "density", mass / summary["volume_angstrom3"], np.nan, "g/cm3", *end))
        for name, column, unit in (
            ("diffusion", "diffusion{}_angstrom2_per_ps", "angstrom2/ps"),
            ("viscosity", "viscosity{}_mpa_s", "mPa s"),
            ("heat capacity", "heat_capacity{}_kb_per_molecule", "k_B a molecule"),
        ):
            value, error = r[column.format("")], r[column.format("_error")]
            rows.append((r["temperature_kelvin"], name, value, error, unit, *end))
    for r in tables["relaxation"].to_dict("records"):
        end = (r["independent_windows"], r["equilibration"])
        for name, column, unit in (("tau", "tau{}_ps", "ps"), ("beta", "kww_beta{}", "")):
            value, error = r[column.format("")], r[column.format("_error")]
            rows.append((r["temperature_kelvin"], f"{name}, {r['correlator']}", value, error, unit, *end))
    for r in tables["counts"].query("verdict == 'ok'").to_dict("records"):
        end = (r["independent_windows"], r["equilibration"])
        name = f"{r['definition']}, {r['correlator']}"
        rows.append((r["temperature_kelvin"], name, r["count"], r["count_error"], "molecules", *end))
    energies = pd.read_csv(campaign / "analyse" / "energies.csv")
    for r in energies.dropna(subset=["energy_kj_mol"]).to_dict("records"):
        name = f"{r['definition']}, {r['law']}, {r['quantity']}"
        row = (r["temperature_kelvin"], name, r["energy_kj_mol"], r["energy_error_kj_mol"], "kJ/mol", np.nan, "")
        rows.append(row)
    columns = ["temperature_kelvin", "quantity", "value", "error", "unit", "independent_windows", "equilibration"]
    return pd.DataFrame(rows, columns=columns).sort_values("temperature_kelvin", ascending=False, kind="stable")


def column(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Value and error of one quantity by temperature."""
    return table[table.quantity == quantity].drop_duplicates("temperature_kelvin").set_index("temperature_kelvin")


def infinite_box(diffusion: pd.Series, density: pd.Series, molecules: int) -> pd.Series:
    """D of an infinite box in Å²/ps: k_B T ξ / (6 π η L) is added (Yeh and Hummer, DOI 10.1021/jp0477147).

    η is that of experiment.
    """
    edge = (molecules * MASS_AMU / (density * AMU_PER_A3_PER_G_CM3)) ** (1 / 3) * 1e-10
    eta = EXPERIMENT.viscosity_mpa_s.reindex(diffusion.index) * 1e-3
    return diffusion + 1e8 * YEH_HUMMER * BOLTZMANN_J_K * diffusion.index / (6 * np.pi * eta * edge)


def scaled_diffusion(temperature: np.ndarray, viscosity: np.ndarray) -> np.ndarray:
    """D in 1e-9 m²/s from the measured one at 298 K, by T/η."""
    kelvin, measured, eta = DIFFUSION_298K
    return measured * temperature / kelvin * eta / viscosity


def compared(table: pd.DataFrame, molecules: int) -> pd.DataFrame:
    """One row a temperature: simulation beside experiment."""
    density, diffusion = column(table, "density").value, column(table, "diffusion")
    found = pd.DataFrame({"run, ps": column(table, "run length").value, "density, g/cm³": density})
    found["experiment"] = EXPERIMENT.density_g_cm3.reindex(found.index)
    found["D, 10⁻⁹ m²/s"] = [
        f"{10 * v:.3g} ± {10 * e:.1g}" if np.isfinite(v) else "not diffusive yet"
        for v, e in zip(diffusion.value, diffusion.error, strict=True)
    ]
    found["infinite box"] = (10 * infinite_box(diffusion.value, density, molecules)).round(2)
    kelvin = found.index.to_numpy(float)
    found["experiment (∝ T/η)"] = scaled_diffusion(
        kelvin, EXPERIMENT.viscosity_mpa_s.reindex(found.index).to_numpy()
    ).round(2)
    for name, title in CORRELATORS.items():
        tau = column(table, f"tau, {name}")
        found[f"{title}, ps"] = [f"{v:.3g} ± {e:.1g}" for v, e in zip(tau.value, tau.error, strict=True)]
    found["equilibrium"] = column(table, "density").equilibration
    return found


def draw(table: pd.DataFrame, molecules: int, target: Path) -> None:
    """Density, D, relaxation times, and E against the normalised count."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), layout="constrained")
    axes = figure.subplots(2, 2)
    known = EXPERIMENT.index.to_numpy(float)
    density, diffusion = column(table, "density"), column(table, "diffusion")
    axes[0, 0].plot(known, EXPERIMENT.density_g_cm3, "k-", label="experiment")
    axes[0, 0].plot(density.index, density.value, "o", label="OPLS-AA, 1 bar")
    axes[0, 0].set(xlabel="temperature, K", ylabel="density, g/cm³")
    d = axes[0, 1]
    d.plot(1e3 / known, scaled_diffusion(known, EXPERIMENT.viscosity_mpa_s.to_numpy()), "k-", label="experiment ∝ T/η")
    d.plot(1e3 / DIFFUSION_298K[0], DIFFUSION_298K[1], "k*", ms=9, label="experiment, 298 K")
    d.errorbar(
        1e3 / diffusion.index, 10 * diffusion.value, 10 * diffusion.error, fmt="o", label=f"{molecules} molecules"
    )
    d.plot(
        1e3 / diffusion.index, 10 * infinite_box(diffusion.value, density.value, molecules), "^", label="infinite box"
    )
    d.set(xlabel="1000 K / T", ylabel="D, 10⁻⁹ m²/s", yscale="log")
    for name, title in CORRELATORS.items():
        tau = column(table, f"tau, {name}")
        axes[1, 0].errorbar(1e3 / tau.index, tau.value, tau.error, fmt="o-", label=title)
    axes[1, 0].set(xlabel="1000 K / T", ylabel="relaxation time, ps", yscale="log")
    for name in ("fs_q1.3", "c2_axis1"):
        chosen = table.quantity.str.startswith("E(T) = RT") & table.quantity.str.endswith(f", tau_{name}_ps")
        energy = table[chosen].set_index("temperature_kelvin")
        count = column(table, f"{COUNT}, {name}").reindex(energy.index)
        axes[1, 1].errorbar(count.value, energy.value, energy.error, count.error, fmt="o", label=CORRELATORS[name])
    axes[1, 1].set(xlabel=f"{COUNT}, NVT", ylabel="E(T) = RT ln(τ/τ∞), kJ/mol")
    for axis in axes.flat:
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("campaign", type=Path)
    campaign = parser.parse_args().campaign
    table = gathered(campaign)
    table.to_csv(campaign / "toluene_opls.csv", index=False, float_format="%.5g", na_rep="NaN")
    molecules = int(read_json(campaign / "config" / "simulate.json")["molecules"])
    found = compared(table, molecules)
    print("| T, K | " + " | ".join(found.columns) + " |")
    print("| " + " | ".join(["---"] * (1 + len(found.columns))) + " |")
    for kelvin, row in found.iterrows():
        print(f"| {kelvin:g} | " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |")
    draw(table, molecules, campaign / "toluene_opls.png")


if __name__ == "__main__":
    main()
