"""Models of τ(T): Arrhenius, VFT, MYEGA, parabolic, compared by AICc; T_g and fragility of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.activation import Extrapolation, LawFit, akaike_weights, extrapolate
from mlpwf.dynamics.columns import (
    Reader,
    Values,
    cell,
    correlator_names,
    number_text,
    of_correlator,
    quantity_name,
    true_values,
)
from mlpwf.dynamics.observable import Column, Figure, Observable, Table, Told, Verdict, error
from mlpwf.dynamics.series import Fits, Series
from mlpwf.dynamics.state import ALL, NAN, Study
from mlpwf.dynamics.verdicts import OK, USABLE
from mlpwf.figures import PALETTE, Curve, Panel

NO_GLASS = Extrapolation(NAN, NAN, NAN, NAN, 0, "no value at T_g is known of this quantity")

Quantity = Annotated[str, Column("", "what is fitted: τ of a correlator, 1/D or the viscosity, with its unit")]
GroupOfSeries = Annotated[str, Column("", "all molecules, or those of one species")]


@dataclass(frozen=True)
class Law:
    """One model of τ(T) fitted to one quantity."""

    quantity: Quantity
    molecules: GroupOfSeries
    law: Annotated[
        str,
        Column(
            "",
            "ln τ = A + B/T (Arrhenius), A + B/(T − c) (VFT), A + (B/T) exp(c/T) (MYEGA, 10.1073/pnas.0911705106), "
            "A + B (1/T − 1/c)² for T < c (parabolic, 10.1021/jp810362g)",
        ),
    ]
    best: Annotated[bool, Column("", "whether it is the usable one with the lowest AICc")]
    states: Annotated[int, Column("", "number of states fitted")]
    states_shown_equilibrated: Annotated[int, Column("", "how many of them are shown to be in equilibrium")]
    ln_prefactor: Annotated[float, Column("", "A of the model, of the quantity in its unit")]
    ln_prefactor_error: Annotated[float, error("", "A, by bootstrap")]
    strength_kelvin: Annotated[float, Column("K", "B of the model; in K² for the parabolic one")]
    strength_error_kelvin: Annotated[float, error("K", "B, by bootstrap")]
    constant_kelvin: Annotated[float, Column("K", "c of the model")]
    constant_error_kelvin: Annotated[float, error("K", "c, by bootstrap")]
    chi2: Annotated[float, Column("", "Σ (residual/error)² of ln τ; without errors the sum of squares")]
    misfit_p_value: Annotated[float, Column("", "probability of a χ² at least this large, were model and errors right")]
    aicc: Annotated[float, Column("", "Akaike's criterion for few data", source="10.1093/biomet/76.2.297")]
    akaike_weight: Annotated[float, Column("", "exp(−ΔAICc/2), normalised over the models that can be compared")]
    verdict: Verdict
    glass_kelvin: Annotated[
        float,
        Column(
            "K",
            "T_g: glass_temperature_kelvin of the settings, or where the model reaches their glass_time_s, or "
            "glass_viscosity_pa_s",
        ),
    ]
    glass_error_kelvin: Annotated[float, error("K", "T_g, by bootstrap")]
    fragility: Annotated[float, Column("", "dlog10 τ/d(T_g/T) at T_g")]
    fragility_error: Annotated[float, error("", "the fragility, by bootstrap")]
    glass_verdict: Annotated[str, Column("", "ok, or why T_g is not to be used")]


def fit(study: Study, series: Series, fits: Fits) -> None:
    """A row for each model of one series."""
    given = study.settings.glass_temperature_kelvin
    weights = akaike_weights(fits.models)
    for name, model in fits.models.items():
        draws, _ = fits.draws[name]
        if given is None and not np.isfinite(series.glass_value):
            glass = NO_GLASS
        else:
            glass = extrapolate(model, draws, series.glass_value, given)
        study.add(
            Law(
                quantity=series.quantity,
                molecules=series.group,
                law=name,
                best=name == fits.best.law,
                states=model.states,
                states_shown_equilibrated=series.shown,
                ln_prefactor=model.ln_tau_infinity,
                ln_prefactor_error=_spread([one.ln_tau_infinity for one in draws]),
                strength_kelvin=model.strength,
                strength_error_kelvin=_spread([one.strength for one in draws]),
                constant_kelvin=model.constant,
                constant_error_kelvin=_spread([one.constant for one in draws]),
                chi2=model.chi2,
                misfit_p_value=model.p_value,
                aicc=model.aicc,
                akaike_weight=weights[name],
                verdict=model.verdict,
                glass_kelvin=glass.glass_kelvin,
                glass_error_kelvin=glass.glass_error,
                fragility=glass.fragility,
                fragility_error=glass.fragility_error,
                glass_verdict=glass.verdict,
            )
        )


def _spread(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.std(known)) if len(known) > 1 else NAN


@dataclass(frozen=True)
class Points:
    """One quantity by temperature in K, and which of its values enter fits; shape (states,) each."""

    quantity: str
    kelvin: Values
    values: Values
    errors: Values
    used: Values


def arrhenius_panels(reader: Reader) -> list[Panel]:
    """Logarithms of the relaxation times, 1/D and the viscosity against 1000/T, with the best model of each."""
    inverse = "1/T" if reader.reduced else "1000/T, 1/K"
    scale = 1.0 if reader.reduced else 1000.0
    panels = []
    for title, y_label, group in _groups(reader):
        curves = []
        for k, points in enumerate(group):
            colour = PALETTE[k % len(PALETTE)]
            curves += _two_styles(reader.name(points.quantity), scale / points.kelvin, points, colour)
            curves += _model_curve(reader, points, scale, colour)
        if curves:
            panels.append(Panel(title, inverse, y_label, curves, y_log=True))
    return panels


def angell_panels(reader: Reader) -> list[Panel]:
    """The same against T_g/T, for quantities whose best model reaches T_g."""
    panels = []
    for title, y_label, group in _groups(reader):
        curves = []
        for k, points in enumerate(group):
            row = _best(reader, points.quantity)
            glass = float(reader.get("laws", "glass_kelvin")[row]) if row is not None else np.nan
            if np.isfinite(glass) and points.used.any():
                unit = "" if reader.reduced else " K"
                label = f"{reader.name(points.quantity)}, T_g = {glass:.3g}{unit}"
                curves += _two_styles(label, glass / points.kelvin, points, PALETTE[k % len(PALETTE)])
        if curves:
            panels.append(Panel(f"{title}, Angell plot", "T_g/T", y_label, curves, y_log=True))
    return panels


def _groups(reader: Reader) -> list[tuple[str, str, list[Points]]]:
    """Title, axis and quantities of each panel."""
    groups: list[tuple[str, str, list[Points]]] = []
    if reader.has("relaxation"):
        names = correlator_names(reader, "relaxation")
        for title, mine in (
            ("Translation", [name for name in names if "_axis" not in name]),
            ("Rotation", [name for name in names if "_axis" in name]),
        ):
            points = [_relaxation_points(reader, name) for name in mine]
            groups.append((title, reader.label("τ", "ps"), [one for one in points if one is not None]))
    if reader.has("states"):
        label = reader.label
        diffusion = _state_points(reader, "inverse_diffusion_ps_per_angstrom2", "diffusion{}_angstrom2_per_ps")
        viscosity = _state_points(reader, "viscosity_mpa_s", "viscosity{}_mpa_s")
        groups += [("Diffusion", label("1/D", "ps/Å²"), diffusion), ("Viscosity", label("η", "mPa s"), viscosity)]
    return [group for group in groups if group[2]]


def _state_points(reader: Reader, quantity: str, column: str) -> list[Points]:
    """A quantity of states.csv or its inverse; nothing where no state has it."""
    values, errors = (reader.get("states", column.format(which)) for which in ("", "_error"))
    if values.dtype.kind != "f":
        return []
    verdict = reader.get("states", f"{column.split('{')[0]}_verdict")
    if quantity.startswith("inverse"):
        with np.errstate(divide="ignore", invalid="ignore"):
            values, errors = 1 / values, errors / values**2
    kept = np.isfinite(values) & (values > 0)
    used = (verdict == OK) & np.isin(reader.get("states", "equilibration"), USABLE)
    kelvin = reader.get("states", "temperature_kelvin")
    return [Points(quantity, kelvin[kept], values[kept], errors[kept], used[kept])] if kept.any() else []


def _relaxation_points(reader: Reader, name: str) -> Points | None:
    table = "relaxation"
    values = reader.get(table, "tau_ps")
    mine = of_correlator(reader, table, name) & np.isfinite(values)
    if not mine.any():
        return None
    used = (reader.get(table, "tau_verdict") == OK) & np.isin(reader.get(table, "equilibration"), USABLE)
    errors, kelvin = reader.get(table, "tau_error_ps"), reader.get(table, "temperature_kelvin")
    return Points(f"tau_{name}_ps", kelvin[mine], values[mine], errors[mine], used[mine])


def _two_styles(label: str, x: Values, points: Points, colour: str) -> list[Curve]:
    """Points that enter fits, filled and with their errors, and open ones that do not."""
    curves, y, used = [], points.values, points.used
    if used.any():
        curves.append(Curve(label, x[used], y[used], points.errors[used], style="points", colour=colour))
    if (~used).any():
        curves.append(Curve(f"{label}, not fitted", x[~used], y[~used], style="hollow", colour=colour))
    return curves


def _best(reader: Reader, quantity: str) -> int | None:
    """Row of the best model of a quantity of all molecules, if it has numbers."""
    if not reader.has("laws"):
        return None
    table = "laws"
    mine = reader.rows(table, quantity=reader.short(quantity), molecules=ALL) & true_values(reader.get(table, "best"))
    found = np.flatnonzero(mine & np.isfinite(reader.get(table, "ln_prefactor")))
    return int(found[0]) if len(found) else None


def _model_curve(reader: Reader, points: Points, scale: float, colour: str) -> list[Curve]:
    """The best model between the temperatures it was fitted at."""
    row, kelvin = _best(reader, points.quantity), points.kelvin[points.used]
    if row is None or len(kelvin) < 2:
        return []
    a, b, c = (float(reader.get("laws", n)[row]) for n in ("ln_prefactor", "strength_kelvin", "constant_kelvin"))
    name = str(reader.get("laws", "law")[row])
    fit = LawFit(name, a, b, c, np.nan, np.nan, 0, OK)
    grid = 1 / np.linspace(1 / kelvin.max(), 1 / kelvin.min(), 60)
    return [Curve(f"{name} law", scale / grid, np.exp(fit.ln_tau(grid)), style="dashed", colour=colour)]


def tell(reader: Reader) -> list[Told]:
    """The models of each quantity of all molecules."""
    laws = reader.tables.get("laws")
    if laws is None or "law" not in laws or len(laws["law"]) == 0:
        return []
    best = true_values(laws["best"])
    mine = [int(k) for k in np.flatnonzero(laws["molecules"] == ALL) if laws["verdict"][k] != "too few states"]
    body = [
        (
            quantity_name(str(laws["quantity"][k])) + (" (best)" if best[k] else ""),
            str(laws["law"][k]), number_text(laws, k, "states"), number_text(laws, k, "aicc"),
            number_text(laws, k, "akaike_weight"), number_text(laws, k, "misfit_p_value"),
            cell(laws, k, "glass_kelvin", "glass_error_kelvin", "glass_verdict"),
            cell(laws, k, "fragility", "fragility_error", ""), str(laws["verdict"][k]),
        )
        for k in mine
    ]  # fmt: skip
    header = ("quantity", "law", "states", "AICc", "weight", "p of misfit", "T_g, K", "fragility", "verdict")
    return [Told("Models of τ(T), compared by AICc.", header, body)] if body else []


OBSERVABLE = Observable(
    title="models of τ(T)",
    tables=[
        Table(
            "laws",
            Law,
            each="quantity, group of molecules and model of τ(T)",
            needs=("quantity", "molecules", "law"),
            across=True,
        )
    ],
    fit=fit,
    figures=[
        Figure(
            "arrhenius",
            "Relaxation times (C = 1/e), 1/D and viscosity against inverse temperature. Lines: the model of τ(T) "
            "with the lowest AICc through the states that enter fits; open circles are states that do not: not in "
            "equilibrium, broken, or not long enough.",
            arrhenius_panels,
        ),
        Figure("angell", "The same times against T_g/T, T_g of each quantity's own model.", angell_panels),
    ],
    tell=tell,
)
