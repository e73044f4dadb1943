"""Verb `analyse`: correlators, dynamic heterogeneity and activation energies of the production runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.accounting import accounted, as_engine
from mlpwf.config import Analyse, load_section
from mlpwf.errors import DataError
from mlpwf.files import read_json, replacing, sha256, sole_writer, write_json

if TYPE_CHECKING:
    from mlpwf.dynamics.trajectory import Array

log = logging.getLogger(__name__)

Row = dict[str, float | str]
MOLECULES_BROKE = "molecules broke"
KEYS = ("temperature_kelvin", "timestep_fs", "mean_potential_ev", "molecules", "ensemble", "intact", "finished")


@dataclass(frozen=True)
class State:
    """One temperature: its topology, the summaries of its finished segments and the files of these."""

    topology: Path
    trajectories: tuple[Path, ...]
    summaries: tuple[dict[str, Any], ...]

    def common(self, key: str) -> Any:
        """The value of a summary key, which all segments must share."""
        values = {summary[key] for summary in self.summaries}
        if len(values) != 1:
            raise DataError(f"{self.topology.parent}: segments differ in {key}: {sorted(values)}; expected one value")
        return values.pop()


def analyse(
    config: Annotated[Path, typer.Option(help="Resolved section, C/config/analyse.json.")],
    simulate: Annotated[Path, typer.Option(help="Folder of the production runs, C/simulate.")],
    out: Annotated[Path, typer.Option(help="Folder of the tables, C/analyse.")],
) -> None:
    """Correlators, χ4, numbers of correlated molecules and activation energies of all states."""
    with sole_writer(out), accounted(out, "analyse"):
        settings, _ = load_section(Analyse, config)
        states, left_out = find_states(simulate)
        curves, rows = [], []
        for state in states:
            with as_engine():
                columns, row = analyse_state(state, settings)
            curves.append(columns)
            rows.append(row)
        fits, local = activation_rows(rows, settings)
        _write_curves(out / "correlators.csv", curves)
        _write_rows(out / "states.csv", rows, ["temperature_kelvin"])
        _write_rows(out / "activation.csv", fits)
        _write_rows(out / "activation_local.csv", local)
        write_json(out / "summary.json", _summary(config, settings, states) | {"left_out": left_out})


def find_states(simulate: Path) -> tuple[list[State], dict[str, str]]:
    """States below C/simulate in order of temperature, and by name, why others are left out.

    A state whose run blew up is left out. So are segments that have not finished, and those
    that only equilibrated.

    Raises
    ------
    DataError
        If there is no state, a state without a finished segment, or two at one temperature.
    """
    states, left_out = [], {}
    for topology in sorted(simulate.glob("*/topology.pdb")):
        trajectories, summaries = [], []
        for path in sorted(topology.parent.glob("segment/*/summary.json")):
            summary = read_json(path)
            missing = [key for key in KEYS if key not in summary]
            if missing:
                raise DataError(f"{path}: {missing[0]} is missing; simulate this state again")
            if not summary["finished"]:
                log.info("%s: not finished, left out", path.parent)
                continue
            if summary.get("stable") is False:
                left_out[topology.parent.name] = f"blew up at step {summary['end_step']}: {summary['reason']}"
            if summary.get("frames") == 0:
                continue
            trajectories.append(path.with_name("trajectory.trr"))
            summaries.append(summary)
        if topology.parent.name in left_out:
            log.warning("%s: left out, %s", topology.parent, left_out[topology.parent.name])
            continue
        if not trajectories:
            raise DataError(f"{topology.parent}: no finished segment; run the stage simulate first")
        states.append(State(topology, tuple(trajectories), tuple(summaries)))
    if not states and not left_out:
        raise DataError(f"{simulate}: no state with a topology.pdb; run the stage simulate first")
    states.sort(key=lambda state: float(state.common("temperature_kelvin")))
    for lower, upper in pairwise(states):
        if lower.common("temperature_kelvin") == upper.common("temperature_kelvin"):
            raise DataError(
                f"{lower.topology.parent} and {upper.topology.parent} have one temperature; keep one of them"
            )
    return states, left_out


def analyse_state(state: State, settings: Analyse) -> tuple[dict[str, Array], Row]:
    """The curves of one state, as columns over lags, and its row of states.csv."""
    from mlpwf.dynamics import correlators, heterogeneity
    from mlpwf.dynamics.reading import read_trajectory
    from mlpwf.dynamics.trajectory import choose_lags, linear_interval

    trajectory = read_trajectory(state.topology, state.trajectories, float(state.common("timestep_fs")))
    if trajectory.molecules != state.common("molecules"):
        raise DataError(
            f"{state.topology}: {trajectory.molecules} molecules; the summaries say {state.common('molecules')}"
        )
    moments = correlators.pass_moments(
        trajectory, choose_lags(trajectory.ticks), settings.wavevectors_per_angstrom, settings.overlap_angstrom
    )
    columns = correlators.averages(moments, blocks=settings.blocks)
    columns |= heterogeneity.four_point(moments, blocks=settings.blocks)
    temperature = float(state.common("temperature_kelvin"))
    row: Row = {
        "temperature_kelvin": temperature,
        "ensemble": str(state.common("ensemble")),
        "molecules": trajectory.molecules,
        "run_ps": trajectory.run_ps,
        "linear_interval_ps": linear_interval(trajectory.ticks) * trajectory.tick_ps,
        "origins": int(columns["origins"].max()),
        "mean_potential_ev": _mean_potential(state),
    }
    row |= _diffusion_row(columns, trajectory.run_ps)
    for name in correlators.weight_names(settings.wavevectors_per_angstrom):
        row |= _weight_row(name, columns, trajectory.run_ps)
    if not all(summary["intact"] for summary in state.summaries):
        row |= {key: MOLECULES_BROKE for key in row if key.endswith("_verdict")}
    log.info(
        "%g K: %d molecules, %g ps, %d lags, overlap tau %.4g ps (%s), D %.4g Å²/ps (%s)",
        temperature, trajectory.molecules, trajectory.run_ps, len(moments.lags_ps),
        row["tau_overlap_ps"], row["tau_overlap_verdict"],
        row["diffusion_angstrom2_per_ps"], row["diffusion_verdict"],
    )  # fmt: skip
    return {"temperature_kelvin": columns["time_ps"] * 0 + temperature, **columns}, row


def _mean_potential(state: State) -> float:
    """Mean potential energy of the box in eV over the linear frames of all segments."""
    weighed = [(s["mean_potential_ev"], s.get("linear_frames", 1)) for s in state.summaries]
    weighed = [(mean, frames) for mean, frames in weighed if mean is not None]
    return float(sum(mean * frames for mean, frames in weighed) / sum(frames for _, frames in weighed))


def _diffusion_row(columns: dict[str, Array], run_ps: float) -> Row:
    from mlpwf.dynamics.activation import diffusion

    found = diffusion(columns["time_ps"], columns["msd_angstrom2"], columns["msd_error"], run_ps)
    return {
        "diffusion_angstrom2_per_ps": found.coefficient,
        "diffusion_error": found.error,
        "diffusion_slope": found.slope,
        "diffusion_verdict": found.verdict,
    }


def _weight_row(name: str, columns: dict[str, Array], run_ps: float) -> Row:
    """The part of states.csv that belongs to one weight."""
    from mlpwf.dynamics.activation import relaxation_time, stretched_exponential
    from mlpwf.dynamics.heterogeneity import peak, value_at

    times = columns["time_ps"]
    relaxation = relaxation_time(times, columns[name], columns[f"{name}_error"], run_ps)
    stretched = stretched_exponential(times, columns[name])
    row: Row = {
        f"tau_{name}_ps": relaxation.tau_ps,
        f"tau_{name}_error": relaxation.error_ps,
        f"tau_{name}_verdict": relaxation.verdict,
        f"kww_{name}_tau_ps": stretched.tau_ps,
        f"kww_{name}_beta": stretched.beta,
        f"kww_{name}_amplitude": stretched.amplitude,
        f"kww_{name}_mean_ps": stretched.mean_ps,
        f"kww_{name}_verdict": stretched.verdict,
    }
    for column in (f"chi4_{name}", f"n_star_{name}_normalised"):
        top = peak(times, columns[column], columns[f"{column}_error"])
        row |= {
            f"{column}_peak": top.value,
            f"{column}_peak_error": top.error,
            f"{column}_peak_time_ps": top.time_ps,
            f"{column}_peak_verdict": top.verdict,
        }
        at_tau, error = value_at(times, columns[column], columns[f"{column}_error"], relaxation.tau_ps)
        row |= {f"{column}_at_tau": at_tau, f"{column}_at_tau_error": error}
    return row


def activation_rows(rows: list[Row], settings: Analyse) -> tuple[list[Row], list[Row]]:
    """Rows of activation.csv (one Arrhenius fit a quantity) and of activation_local.csv.

    Only states whose verdict is `ok` enter; diffusion enters as 1/D in ps/Å².
    """
    import numpy as np

    from mlpwf.dynamics.activation import NAN, OK, arrhenius
    from mlpwf.dynamics.correlators import weight_names

    names = weight_names(settings.wavevectors_per_angstrom)
    temperatures = np.array([row["temperature_kelvin"] for row in rows], dtype=float)
    fits: list[Row] = []
    local: list[Row] = []
    for name in (*names, "diffusion"):
        stem = "diffusion" if name == "diffusion" else f"tau_{name}"
        unit = "diffusion_angstrom2_per_ps" if name == "diffusion" else f"tau_{name}_ps"
        usable = [row[f"{stem}_verdict"] == OK for row in rows]
        values = np.where(usable, np.array([row[unit] for row in rows], dtype=float), NAN)
        relative = np.array([row[f"{stem}_error"] for row in rows], dtype=float) / values
        times = 1 / values if name == "diffusion" else values
        fit = arrhenius(temperatures, times, relative * times)
        prefactor = fit.tau_infinity
        fits.append(
            {
                "quantity": name,
                "E_a_kj_mol": fit.energy,
                "E_a_error": fit.energy_error,
                "tau_inf_ps": NAN if name == "diffusion" else prefactor,
                "diffusion_inf_angstrom2_per_ps": 1 / prefactor if name == "diffusion" else NAN,
                "ln_prefactor_error": fit.ln_tau_infinity_error,
                "reduced_chi2": fit.reduced_chi2,
                "states": fit.states,
                "verdict": fit.verdict,
            }
        )
        local += _local_rows(name, temperatures, times, relative * times)
    return fits, local


def _local_rows(name: str, temperatures: Array, times: Array, errors: Array) -> list[Row]:
    """E_app between neighbouring states and E(T) at each state; NaN rows keep their verdict."""
    import numpy as np

    from mlpwf.dynamics.activation import OK, TOO_FEW_STATES, arrhenius, energies_from_prefactor, local_energies

    fit = arrhenius(temperatures, times, errors)
    found = {
        "E_app": local_energies(temperatures, times, errors),
        "E_from_tau_inf": (temperatures, *energies_from_prefactor(temperatures, times, errors, fit)),
    }
    return [
        {
            "quantity": name,
            "definition": definition,
            "temperature_kelvin": temperature,
            "energy_kj_mol": energy,
            "energy_error": error,
            "verdict": OK if np.isfinite(energy) else TOO_FEW_STATES,
        }
        for definition, columns in found.items()
        for temperature, energy, error in np.stack(columns, axis=1).tolist()
    ]


def _write_curves(target: Path, curves: list[dict[str, Array]]) -> None:
    import pandas as pd

    none = pd.DataFrame(columns=["temperature_kelvin", "time_ps"])
    _write_table(target, pd.concat([pd.DataFrame(columns) for columns in curves]) if curves else none)


def _write_rows(target: Path, rows: list[Row], empty: list[str] | None = None) -> None:
    """A table of rows; `empty` names its columns where there are none."""
    import pandas as pd

    _write_table(target, pd.DataFrame(rows, columns=None if rows else empty))


def _write_table(target: Path, table: Any) -> None:
    with replacing(target) as temporary:
        table.to_csv(temporary, index=False, na_rep="NaN", float_format="%.10g")


def _summary(config: Path, settings: Analyse, states: list[State]) -> dict[str, Any]:
    inputs = [config]
    for state in states:
        segments = [file for path in state.trajectories for file in (path, path.with_name("summary.json"))]
        inputs += [state.topology, *segments]
    return {
        "mlpwf": __version__,
        "settings": settings.model_dump(mode="json"),
        "ensembles": sorted({str(state.common("ensemble")) for state in states}),
        "units": {"time": "ps", "length": "Å", "energy": "kJ/mol; mean_potential_ev in eV", "temperature": "K"},
        "inputs": {str(path): sha256(path) for path in inputs},
        "definitions": _definitions(settings),
    }


def _definitions(settings: Analyse) -> dict[str, str]:
    """Formula and source of each column, NAME standing for a weight."""
    a = f"{settings.overlap_angstrom:g} Å"
    scattering = {
        f"fs_q{q:g}": f"⟨sin(qr)/(qr)⟩ with q = {q:g} 1/Å: self-intermediate scattering function"
        for q in settings.wavevectors_per_angstrom
    }
    legendre = {
        f"c{order}_axis{axis}": f"⟨P_{order}(u(0)·u(t))⟩ of body axis {axis}" for axis in (1, 2) for order in (1, 2)
    }
    return {
        "msd_angstrom2": "⟨|Δr|²⟩ of centres of mass, drift of their mean removed",
        "alpha2": "3⟨r⁴⟩/(5⟨r²⟩²) − 1 (10.1103/PhysRev.136.A405)",
        "overlap": f"⟨Θ(a − |Δr|)⟩ with a = {a} (10.1063/1.1605094)",
        **scattering,
        **legendre,
        "*_error": (
            f"standard error by jackknife over contiguous blocks of time origins: {settings.blocks}, fewer where "
            "a block would be shorter than the lag or 2.5 relaxation times; NaN below 3"
        ),
        "windows_NAME": "independent windows: (run − lag) over the longer of the lag and 2.5 relaxation times",
        "origins": "pairs of frames averaged over; in states.csv, at the lag that has most",
        "*_verdict": f"ok, or why a number is not to be used; '{MOLECULES_BROKE}': nothing of this state is",
        "chi4_NAME": (
            "N [⟨C²⟩ − ⟨C⟩²], C = (1/N) Σ w_i, about the mean over all origins, in the ensemble named by the state "
            "(10.1103/PhysRevE.71.041505); no term for suppressed energy or density fluctuations is added; "
            "relative bias about −1/n for n independent origins"
        ),
        "n_star_NAME_normalised": "chi4_NAME/(⟨w²⟩ − ⟨w⟩²): 1 for independent molecules, k for independent blobs of k",
        "*_peak": "largest value over lags of which three fit into the run; noise raises it by about its error",
        "*_at_tau": "value at tau_NAME_ps, linear in ln t",
        "tau_NAME_ps": "C(τ) = 1/e, linear in ln t; its verdict 'run shorter than 3 tau' keeps the number out of fits",
        "kww_NAME": ("A exp[−(t/τ)^β] fitted to C between 0.9 and 0.02; mean time τ/β Γ(1/β) (10.1039/TF9706600080)"),
        "diffusion_angstrom2_per_ps": (
            "MSD = 6Dt + c over the last decade of lags that have an error, where dln MSD/dln t is within 0.1 of 1"
        ),
        "E_a_kj_mol": "ln τ = ln τ∞ + E_a/(RT) through states with verdict ok; for diffusion, ln(1/D)",
        "E_app": "R Δln τ/Δ(1/T) between neighbouring temperatures, at their harmonic mean",
        "E_from_tau_inf": "RT ln(τ/τ∞) with τ∞ of the Arrhenius fit",
    }
