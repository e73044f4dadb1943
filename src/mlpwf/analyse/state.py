"""One state: from its runs to its curves, relaxation times and counts of correlated molecules."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpwf.analyse.records import EQUILIBRATED, NAN, NOT_KNOWN, OK, TOO_SHORT_TO_TELL, Row, Source, State
from mlpwf.config import Analyse
from mlpwf.errors import DataError

if TYPE_CHECKING:
    from mlpwf.dynamics.moments import Moments
    from mlpwf.dynamics.trajectory import Array, Index, MolecularTrajectory

log = logging.getLogger(__name__)


def analyse_state(source: Source, settings: Analyse, threads: int) -> State:
    """Everything that one state alone can tell."""
    state = State(source, _state_row(source))
    if not source.runs:
        return state
    from mlpwf.analyse.space import add_space
    from mlpwf.dynamics.finite_size import cube_edge

    moments, trajectory, lags = _moments(source, settings, threads)
    numbers = dict(zip(moments.groups, moments.molecules.tolist(), strict=True))
    state.row |= {
        "molecules": trajectory.molecules,
        "runs": len(moments.runs_ps),
        "run_ps": float(moments.runs_ps.sum()),
        "shortest_run_ps": float(moments.runs_ps.min()),
        "lags": len(moments.lags_ps),
    }
    volume = abs(float(np.linalg.det(trajectory.cell)))
    state.edge_angstrom = cube_edge(trajectory.cell)
    slowest = _slowest(moments)
    state.row |= _energy_row(source, trajectory.molecules, slowest)
    for group in moments.groups:
        _group(state, moments, group, numbers[group], settings)
    state.row |= _diffusion_row(source, moments, state.columns[moments.groups[0]], state.row["shortest_run_ps"])
    state.row |= _viscosity_row(source, volume)
    state.space = add_space(state, trajectory, lags, settings, threads)
    state.row["equilibration"] = _worst(row["equilibration"] for row in state.relaxation)
    first = state.relaxation[0]
    log.info(
        "%s: %d molecules, %g ps, %d lags, tau of the overlap %.4g ± %.2g ps (%s, %s)", source.name,
        trajectory.molecules, state.row["run_ps"], len(moments.lags_ps),
        first["tau_ps"], first["tau_error_ps"], first["tau_verdict"], first["equilibration"],
    )  # fmt: skip
    return state


def _state_row(source: Source) -> Row:
    return {
        "state": source.name,
        "temperature_kelvin": source.temperature_kelvin,
        "ensemble": source.ensemble,
        "equilibration": source.fault or TOO_SHORT_TO_TELL,
    }


def _moments(source: Source, settings: Analyse, threads: int) -> tuple[Moments, MolecularTrajectory, Index]:
    """Moments of all runs joined, the last trajectory, and the lags in its ticks."""
    from mlpwf.dynamics.correlators import join, pass_moments
    from mlpwf.dynamics.trajectory import choose_lags

    found: list[Moments] = []
    lags: Index = np.empty(0, dtype=np.int64)
    tick = 0.0
    for number, read in enumerate(source.runs):
        trajectory = read()
        if not len(lags):
            lags, tick = choose_lags(trajectory.ticks, maximum=settings.lags), trajectory.tick_ps
        elif abs(trajectory.tick_ps / tick - 1) > 1e-6:
            raise DataError(
                f"{source.name}: run {number + 1} has its frames {trajectory.tick_ps:g} ps apart, the first run "
                f"{tick:g} ps; expected runs of one state to be written alike"
            )
        log.info("%s: %d frames of %d molecules", source.name, len(trajectory.ticks), trajectory.molecules)
        found.append(
            pass_moments(
                trajectory, lags, settings.wavevectors_per_angstrom, settings.overlap_angstrom,
                settings.legendre_orders, threads, settings.memory_mb,
            )
        )  # fmt: skip
    return join(found), trajectory, lags


def _slowest(moments: Moments) -> float:
    from mlpwf.dynamics.correlators import memory

    return max(memory(moments, name) for name in moments.names)


def _group(state: State, moments: Moments, group: str, number: int, settings: Analyse) -> None:
    """Rows of one group of molecules."""
    from mlpwf.dynamics.correlators import averages
    from mlpwf.dynamics.heterogeneity import four_point

    columns = averages(moments, group, settings.blocks) | four_point(moments, group, settings.blocks)
    state.columns[group] = columns
    for k, time in enumerate(columns["time_ps"]):
        state.motion.append(
            {
                **state.key, "molecules": group, "time_ps": time, "origins": int(columns["origins"][k]),
                "msd_angstrom2": columns["msd_angstrom2"][k], "msd_error_angstrom2": columns["msd_error"][k],
                "alpha2": columns["alpha2"][k], "alpha2_error": columns["alpha2_error"][k],
            }
        )  # fmt: skip
    for name in moments.names:
        row, aging = _relaxation_row(state, moments, group, name, columns, settings)
        state.relaxation.append({**state.key, "molecules": group, "number_of_molecules": number, **row})
        state.aging += [{**state.key, "molecules": group, "correlator": name, **one} for one in aging]
        state.counts += _counts(state, group, name, row)
        for k, time in enumerate(columns["time_ps"]):
            state.curves.append(
                {
                    **state.key, "equilibration": row["equilibration"], "molecules": group, "correlator": name,
                    "time_ps": time, "origins": int(columns["origins"][k]),
                    "independent_windows": columns[f"windows_{name}"][k],
                    "value": columns[name][k], "value_error": columns[f"{name}_error"][k],
                    "chi4": columns[f"chi4_{name}"][k], "chi4_error": columns[f"chi4_{name}_error"][k],
                    "chi4_normalised": columns[f"n_star_{name}_normalised"][k],
                    "chi4_normalised_error": columns[f"n_star_{name}_normalised_error"][k],
                }
            )  # fmt: skip


def _relaxation_row(
    state: State, moments: Moments, group: str, name: str, columns: dict[str, Array], settings: Analyse
) -> tuple[Row, list[Row]]:
    """τ, stretching and the tests of equilibrium of one correlator, and τ against waiting time."""
    from mlpwf.dynamics.aging import waiting_time_test, waiting_times
    from mlpwf.dynamics.relaxation import curves_left_out, relaxation_time, stretched_exponential
    from mlpwf.dynamics.uncertainty import compare_halves, independent_windows

    times, shortest = columns["time_ps"], state.row["shortest_run_ps"]
    relaxation = relaxation_time(times, columns[name], columns[f"{name}_error"], shortest)
    stretched = stretched_exponential(times, columns[name], curves_left_out(moments, name, group, settings.blocks))
    waiting = waiting_times(moments, name, group)
    trend = waiting_time_test(waiting.waiting_ps, waiting.times_ps, shortest)
    halves = compare_halves(moments, name, group)
    windows = NAN
    if np.isfinite(relaxation.tau_ps):
        near = int(np.argmin(np.abs(np.log(times / relaxation.tau_ps))))
        windows = independent_windows(moments, near, relaxation.tau_ps)
    row = {
        "correlator": name,
        "equilibration": _equilibration(state, relaxation.verdict, trend.verdict, halves.verdict),
        "independent_windows": windows,
        "tau_ps": relaxation.tau_ps,
        "tau_error_ps": relaxation.error_ps,
        "tau_verdict": state.source.fault or relaxation.verdict,
        "kww_tau_ps": stretched.tau_ps,
        "kww_tau_error_ps": stretched.tau_error_ps,
        "kww_beta": stretched.beta,
        "kww_beta_error": stretched.beta_error,
        "kww_amplitude": stretched.amplitude,
        "kww_mean_ps": stretched.mean_ps,
        "kww_mean_error_ps": stretched.mean_error_ps,
        "kww_verdict": state.source.fault or stretched.verdict,
        "aging_ln_tau_over_run": trend.rate,
        "aging_ln_tau_over_run_error": trend.rate_error,
        "aging_p_value": trend.p_value,
        "aging_verdict": trend.verdict,
        "halves_score": halves.score,
        "halves_verdict": halves.verdict,
    }
    windows_rows = [
        {"waiting_ps": w, "tau_ps": t, "tau_error_ps": e}
        for w, t, e in zip(waiting.waiting_ps, waiting.times_ps, waiting.errors_ps, strict=True)
    ]
    return row, windows_rows


def _equilibration(state: State, tau: str, trend: str, halves: str) -> str:
    """The verdict on a correlator: the first thing that speaks against equilibrium."""
    if state.source.fault:
        return state.source.fault
    if tau not in (OK, "faster than the first lag"):
        return tau
    for verdict in (trend, halves, str(state.row["energy_verdict"])):
        if verdict not in (EQUILIBRATED, TOO_SHORT_TO_TELL, NOT_KNOWN):
            return verdict
    return EQUILIBRATED if EQUILIBRATED in (trend, halves) else TOO_SHORT_TO_TELL


def _worst(verdicts: Any) -> str:
    """Of a state's verdicts, one that is not equilibrated, if there is any."""
    found = list(dict.fromkeys(verdicts))
    bad = [v for v in found if v not in (EQUILIBRATED, TOO_SHORT_TO_TELL)]
    return str(next(iter([*bad, *(v for v in found if v == TOO_SHORT_TO_TELL), EQUILIBRATED])))


def _counts(state: State, group: str, name: str, relaxation: Row) -> list[Row]:
    """Counts of correlated molecules that one state alone can tell, each by its full name."""
    from mlpwf.dynamics.heterogeneity import peak, value_at

    columns = state.columns[group]
    times = columns["time_ps"]
    key = {
        **state.key, "equilibration": relaxation["equilibration"], "molecules": group, "correlator": name,
        "independent_windows": relaxation["independent_windows"],
    }  # fmt: skip
    rows = []
    for title, column in (("chi4", f"chi4_{name}"), ("normalised chi4", f"n_star_{name}_normalised")):
        values, errors = columns[column], columns[f"{column}_error"]
        top = peak(times, values, errors)
        rows.append(
            {
                **key, "definition": f"peak of {title}", "count": top.value, "count_error": top.error,
                "time_ps": top.time_ps, "verdict": state.source.fault or top.verdict,
            }
        )  # fmt: skip
        value, error = value_at(times, values, errors, relaxation["tau_ps"])
        verdict = OK if np.isfinite(value) else "no value at tau"
        rows.append(
            {
                **key, "definition": f"{title} at tau", "count": value, "count_error": error,
                "time_ps": relaxation["tau_ps"], "verdict": state.source.fault or verdict,
            }
        )  # fmt: skip
    return rows


def _diffusion_row(source: Source, moments: Moments, columns: dict[str, Array], run_ps: float) -> Row:
    from mlpwf.dynamics.relaxation import diffusion, diffusive_lags, squares_left_out

    times, errors = columns["time_ps"], columns["msd_error"]
    longest = float(np.max(times[diffusive_lags(times, errors, run_ps)], initial=0.0))
    left_out = squares_left_out(moments, longest)
    found = diffusion(times, columns["msd_angstrom2"], errors, run_ps, left_out)
    return {
        "diffusion_angstrom2_per_ps": found.coefficient,
        "diffusion_error_angstrom2_per_ps": found.error,
        "diffusion_slope": found.slope,
        "diffusion_verdict": source.fault or found.verdict,
        # filled in when the unit of the viscosity is known: their columns are here
        "diffusion_infinite_angstrom2_per_ps": NAN,
        "diffusion_infinite_error_angstrom2_per_ps": NAN,
        "diffusion_infinite_verdict": NOT_KNOWN,
    }


def _energy_row(source: Source, molecules: int, tau_ps: float) -> Row:
    """Drift of the energy, and the heat capacity from its fluctuations (NVT)."""
    from mlpwf.dynamics.ensemble import heat_capacity_by_fluctuation
    from mlpwf.dynamics.uncertainty import energy_drift

    row: Row = {
        "energy_ev_per_molecule": NAN,
        "energy_error_ev_per_molecule": NAN,
        "energy_change_over_run_ev_per_molecule": NAN,
        "energy_verdict": NOT_KNOWN,
        "heat_capacity_fluctuation_kb_per_molecule": NAN,
        "heat_capacity_fluctuation_error_kb_per_molecule": NAN,
    }
    if not source.energy:
        return row
    series = [read() for read in source.energy]
    drifts = [energy_drift(one.times_ps, one.total_ev / molecules, tau_ps) for one in series]
    worst = next((d for d in drifts if d.verdict not in (EQUILIBRATED, TOO_SHORT_TO_TELL)), drifts[0])
    blocks = [part for one in series for part in np.array_split(one.total_ev / molecules, 10) if len(part)]
    means = np.array([part.mean() for part in blocks])
    row |= {
        "energy_ev_per_molecule": float(np.mean(means)),
        "energy_error_ev_per_molecule": float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else NAN,
        "energy_change_over_run_ev_per_molecule": worst.change,
        "energy_verdict": worst.verdict,
    }
    if source.ensemble == "nvt":
        capacities = np.array(
            [heat_capacity_by_fluctuation(part * molecules, source.temperature_kelvin, molecules) for part in blocks]
        )
        whole = heat_capacity_by_fluctuation(
            np.concatenate([one.total_ev for one in series]), source.temperature_kelvin, molecules
        )
        row |= {
            "heat_capacity_fluctuation_kb_per_molecule": whole,
            "heat_capacity_fluctuation_error_kb_per_molecule": float(np.std(capacities, ddof=1) / np.sqrt(len(blocks))),
        }
    return row


def _viscosity_row(source: Source, volume: float) -> Row:
    from mlpwf.dynamics.viscosity import shear_viscosity

    row: Row = {
        "viscosity_mpa_s": NAN, "viscosity_error_mpa_s": NAN, "stress_relaxation_ps": NAN,
        "stress_relaxation_error_ps": NAN, "viscosity_verdict": "no pressure tensor",
    }  # fmt: skip
    if not source.stress:
        return row
    series = [read() for read in source.stress]
    steps = min(len(one.pressure_bar) for one in series)
    if len({one.interval_ps for one in series}) > 1:
        raise DataError(f"{source.name}: pressure tensors at different intervals; expected one for all runs")
    box = series[0].volume_angstrom3 or volume
    if not box > 0:
        raise DataError(f"{source.name}: no box, so no volume; expected one to make a viscosity of the pressure tensor")
    runs = np.stack([one.pressure_bar[:steps] for one in series])
    found = shear_viscosity(runs, series[0].interval_ps, box, source.temperature_kelvin)
    return {
        "viscosity_mpa_s": found.value,
        "viscosity_error_mpa_s": found.error,
        "stress_relaxation_ps": found.relaxation,
        "stress_relaxation_error_ps": found.relaxation_error,
        "viscosity_verdict": source.fault or found.verdict,
    }
