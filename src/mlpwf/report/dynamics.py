"""The part of the page on the production runs: correlators, heterogeneity, activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpwf.report.figures import Curve, Panel, lines, rows, thermal_colours
from mlpwf.report.gather import Record, number
from mlpwf.report.page import Drawing, Part, Table, quantity_name

if TYPE_CHECKING:
    from mlpwf.report.gather import Columns

GAS_CONSTANT = 8.314462618e-3
"""R in kJ/mol/K."""


def dynamics(record: Record) -> Part:
    """Correlators and dynamic heterogeneity by temperature, the Arrhenius plot, states with their verdicts."""
    curves, states, fits = record.analysis.correlators, record.analysis.states, record.analysis.activation
    drawings: list[Drawing] = []
    if curves is not None:
        drawings += _figure(
            "correlators", motion_panels(curves),
            "Motion of the molecules' centres and axes by temperature, against the time since the origin.",
        )  # fmt: skip
        drawings += _figure(
            "heterogeneity", heterogeneity_panels(curves),
            "Fluctuations of the correlators by temperature: χ₄ in the ensemble of the runs, and the normalised number "
            "of dynamically correlated molecules, χ₄/(⟨w²⟩ − ⟨w⟩²), which is 1 for molecules that move independently.",
        )  # fmt: skip
    if states is not None:
        drawings += _figure(
            "arrhenius", arrhenius_panels(states, fits),
            "Relaxation times (C = 1/e) and diffusion against inverse temperature. Lines: Arrhenius fits through the "
            "states whose verdict is ok; open circles are states with another verdict, and are not fitted.",
        )  # fmt: skip
    tables = [*_runs(record), *_states(states), *_fits(fits)]
    return Part(
        "dynamics",
        "Dynamics of the liquid",
        drawings=drawings,
        tables=tables,
        warnings=[*_blew_up(record), *_broken(record)],
    )


def _broken(record: Record) -> list[str]:
    """A sentence on the states in which molecules broke."""
    states = sorted({s.state for s in record.segments if s.summary.get("intact") is False}, key=_kelvin)
    if not states:
        return []
    return [
        f"Molecules broke at {', '.join(states)}: the numbers of these states are not the liquid's, and enter no fit. "
        "Explore these states longer, label and train again, then simulate."
    ]


def _blew_up(record: Record) -> list[str]:
    """A sentence on each state whose run blew up."""
    return [
        f"The run at {s.state} blew up at step {s.summary.get('end_step', '?')}: {s.summary.get('reason', '?')}. "
        "This state is left out of the dynamics. Explore it longer, label and train again, then simulate."
        for s in record.segments
        if s.summary.get("stable") is False
    ]


def _figure(name: str, panels: Sequence[Panel], caption: str) -> list[Drawing]:
    if not panels:
        return []
    return [Drawing(name, caption, lines(panels, columns=2), list(rows(panels)))]


def motion_panels(curves: Columns) -> list[Panel]:
    """Panels of the mean square displacement and of every correlator."""
    axes = {
        "msd_angstrom2": ("Mean square displacement", "⟨|Δr|²⟩, Å²"),
        **{n: (quantity_name(n), "C(t)") for n in weight_names(curves)},
        "alpha2": ("Non-Gaussian parameter", "α₂"),
    }
    return [p for n, (title, y) in axes.items() if (p := _by_temperature(curves, n, title, y, n.startswith("msd")))]


def weight_names(curves: Columns) -> list[str]:
    """Columns that hold a correlator: overlap, F_s and C_l."""
    first = ("overlap", "fs_", "c1_", "c2_")
    return [n for n in curves if n.startswith(first) and not n.endswith("_error")]


def heterogeneity_panels(curves: Columns) -> list[Panel]:
    """Panels of χ4 and of the normalised number of correlated molecules, for translation and one rotation."""
    panels = []
    for name in weight_names(curves):
        for column, title, y in (
            (f"chi4_{name}", f"χ₄, {_lower(quantity_name(name))}", "χ₄"),
            (f"n_star_{name}_normalised", f"Normalised χ₄, {_lower(quantity_name(name))}", "χ₄/(⟨w²⟩ − ⟨w⟩²)"),
        ):
            panel = _by_temperature(curves, column, title, y, False)
            if panel and (name == "overlap" or name.startswith("fs_") or name.endswith("axis1")):
                panels.append(panel)
    return panels


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _by_temperature(curves: Columns, name: str, title: str, y_label: str, y_log: bool) -> Panel | None:
    """One curve for each temperature, coldest first, its positive times only."""
    if name not in curves or curves[name].dtype.kind != "f":
        return None
    temperatures = np.unique(curves["temperature_kelvin"])
    drawn = []
    for temperature, colour in zip(temperatures, thermal_colours(len(temperatures)), strict=True):
        kept = (curves["temperature_kelvin"] == temperature) & (curves["time_ps"] > 0) & np.isfinite(curves[name])
        order = np.argsort(curves["time_ps"][kept])
        x, y = curves["time_ps"][kept][order], curves[name][kept][order]
        drawn.append(Curve(f"{temperature:g} K", x, y, colour=colour))
    if not any(len(curve.x) for curve in drawn):
        return None
    return Panel(title, "time, ps", y_label, drawn, x_log=True, y_log=y_log)


def arrhenius_panels(states: Columns, fits: Columns | None) -> list[Panel]:
    """Logarithms of the relaxation times, and of 1/D, against 1000/T with the fitted lines."""
    names = [n[4:-3] for n in states if n.startswith("tau_") and n.endswith("_ps") and states[n].dtype.kind == "f"]
    panels = []
    for title, y_label, group in (
        ("Translation", "τ, ps", [n for n in names if n == "overlap" or n.startswith("fs_")]),
        ("Rotation", "τ, ps", [n for n in names if n.startswith(("c1_", "c2_"))]),
        ("Diffusion", "1/D, ps/Å²", ["diffusion"] if "diffusion_angstrom2_per_ps" in states else []),
    ):
        curves = [curve for k, name in enumerate(group) for curve in _arrhenius_curves(states, fits, name, k)]
        if curves:
            panels.append(Panel(title, "1000/T, 1/K", y_label, curves, y_log=True))
    return panels


def _arrhenius_curves(states: Columns, fits: Columns | None, name: str, index: int) -> list[Curve]:
    from mlpwf.report.figures import PALETTE

    inverse = name == "diffusion"
    values = states["diffusion_angstrom2_per_ps" if inverse else f"tau_{name}_ps"]
    with np.errstate(divide="ignore", invalid="ignore"):
        y = 1 / values if inverse else values
    kept = np.isfinite(y) & (y > 0)
    if not kept.any():
        return []
    x = 1000 / states["temperature_kelvin"]
    colour = PALETTE[index % len(PALETTE)]
    verdicts = states.get("diffusion_verdict" if inverse else f"tau_{name}_verdict")
    good = kept if verdicts is None else kept & (verdicts == "ok")
    curves = [Curve(quantity_name(name), x[good], y[good], style="points", colour=colour)]
    if (kept & ~good).any():
        title = f"{quantity_name(name)}, not fitted"
        curves.append(Curve(title, x[kept & ~good], y[kept & ~good], style="hollow", colour=colour))
    fit = _fit(fits, name)
    if fit is not None:
        energy, prefactor = fit
        span = np.linspace(x[kept].min(), x[kept].max(), 40)
        line = prefactor * np.exp(energy * span / (1000 * GAS_CONSTANT))
        curves.append(Curve(f"Eₐ = {energy:.3g} kJ/mol", span, line, style="dashed", colour=colour))
    return curves


def _fit(fits: Columns | None, name: str) -> tuple[float, float] | None:
    """Activation energy in kJ/mol and prefactor (ps, or ps/Å² for 1/D) of a quantity."""
    needed = {"quantity", "E_a_kj_mol", "tau_inf_ps", "diffusion_inf_angstrom2_per_ps"}
    if fits is None or not needed <= set(fits):
        return None
    for k in np.flatnonzero(fits["quantity"] == name):
        energy = float(fits["E_a_kj_mol"][k])
        prefactor = float(fits["tau_inf_ps"][k])
        if name == "diffusion":
            prefactor = 1 / float(fits["diffusion_inf_angstrom2_per_ps"][k] or np.nan)
        if np.isfinite(energy) and np.isfinite(prefactor):
            return energy, prefactor
    return None


def _runs(record: Record) -> list[Table]:
    """A row for the run of each state: how long it is, how fast it went, and whether it is to be trusted."""
    names = list(dict.fromkeys(segment.state for segment in record.segments))
    asked = _asked_ps(record)
    table = []
    for name in sorted(names, key=_kelvin):
        mine = [s.summary for s in record.segments if s.state == name]
        done, rate = number(mine[-1], "end_ps"), number(mine[-1], "ns_per_day")
        far = "–" if done is None else f"{max(0.0, done):.4g}"
        table.append(
            (
                name,
                f"{far} of {asked[name]:g}" if name in asked else far,
                "–" if rate is None else f"{rate:.3g}",
                str(mine[-1].get("ensemble", "–")),
                str(mine[-1].get("molecules", "–")),
                "yes" if all(summary.get("intact", True) is True for summary in mine) else "no",
                "blew up" if mine[-1].get("stable") is False else "stable",
            )
        )
    header = ("state", "length, ps", "ns/day", "ensemble", "molecules", "all whole", "verdict")
    return [Table("Production runs.", header, table)] if table else []


def _asked_ps(record: Record) -> dict[str, float]:
    """The length asked for in ps, by state."""
    simulate = record.sections.get("simulate", {})
    temperatures, lengths = simulate.get("temperatures_kelvin", []), simulate.get("length_ps")
    if not isinstance(lengths, list):
        lengths = [lengths] * len(temperatures)
    pairs = zip(temperatures, lengths, strict=False)
    return {f"{kelvin:g}K": float(length) for kelvin, length in pairs if isinstance(length, int | float)}


def _kelvin(state: str) -> float:
    try:
        return float(state.removesuffix("K"))
    except ValueError:
        return 0.0


def _states(states: Columns | None) -> list[Table]:
    """Relaxation times, diffusion and peaks of the normalised count with their verdicts, a row for each state."""
    if states is None or len(states["temperature_kelvin"]) == 0:
        return []
    wanted = [("diffusion_angstrom2_per_ps", "diffusion_error", "diffusion_verdict", "D, Å²/ps")]
    names = [n[4:-3] for n in states if n.startswith("tau_") and n.endswith("_ps")]
    wanted += [
        (f"tau_{n}_ps", f"tau_{n}_error", f"tau_{n}_verdict", f"τ, {_lower(quantity_name(n))}, ps") for n in names
    ]
    peaks = [n for n in names if n == "overlap" or n.endswith("axis1")]
    wanted += [
        (f"n_star_{n}_normalised_peak", f"n_star_{n}_normalised_peak_error", f"n_star_{n}_normalised_peak_verdict",
         f"peak of χ₄/(⟨w²⟩ − ⟨w⟩²), {_lower(quantity_name(n))}")
        for n in peaks
    ]  # fmt: skip
    shown = [entry for entry in wanted if entry[0] in states]
    header = ("quantity", *(f"{t:g} K" for t in states["temperature_kelvin"]))
    table = [
        (title, *(_cell(states, k, *names_) for k in range(len(states["temperature_kelvin"]))))
        for *names_, title in shown
    ]
    return [Table("States: value ± standard error, and the verdict where it is not ok.", header, table)]


def _cell(states: Columns, k: int, value: str, error: str, verdict: str) -> str:
    number_ = states[value][k]
    text = f"{number_:.4g}" if states[value].dtype.kind == "f" and np.isfinite(number_) else "–"
    if error in states and states[error].dtype.kind == "f" and np.isfinite(states[error][k]):
        text += f" ± {states[error][k]:.2g}"
    word = str(states[verdict][k]) if verdict in states else "ok"
    return text if word in ("ok", "nan", "") else f"{text} ({word})"


def _fits(fits: Columns | None) -> list[Table]:
    if fits is None or "quantity" not in fits:
        return []

    def cell(name: str, k: int) -> str:
        value: Any = fits[name][k] if name in fits else "–"
        if isinstance(value, float):
            return f"{value:.4g}" if np.isfinite(value) else "–"
        return str(value)

    columns = {
        "E_a_kj_mol": "Eₐ, kJ/mol", "E_a_error": "± ", "tau_inf_ps": "τ∞, ps",
        "diffusion_inf_angstrom2_per_ps": "D∞, Å²/ps", "reduced_chi2": "reduced χ²",
        "states": "states", "verdict": "verdict",
    }  # fmt: skip
    table = [
        (quantity_name(str(name)), *(cell(column, k) for column in columns)) for k, name in enumerate(fits["quantity"])
    ]
    return [Table("Arrhenius fits, one a quantity.", ("quantity", *columns.values()), table)] if table else []
