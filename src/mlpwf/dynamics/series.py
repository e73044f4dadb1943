"""One quantity that grows on cooling against temperature, and the models of τ(T) fitted to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics import activation
from mlpwf.dynamics.activation import LawFit
from mlpwf.dynamics.state import NAN, Settings
from mlpwf.dynamics.trajectory import Array
from mlpwf.dynamics.verdicts import EQUILIBRATED, OK, USABLE

BY_TAU_INF = "E(T) = RT ln(tau/tau_inf)"
BY_SLOPE = "E_app(T) = R dlntau/d(1/T)"


@dataclass(frozen=True)
class Point:
    """A quantity of one state with its error, its verdict, and the verdict on the state's equilibrium."""

    value: float = NAN
    error: float = NAN
    verdict: str = ""
    equilibration: str = ""

    @property
    def usable(self) -> bool:
        """Whether it enters fits."""
        return self.verdict == OK and self.equilibration in USABLE


@dataclass(frozen=True)
class Series:
    """One quantity that grows on cooling as τ does, at every state; NaN where the state must not be fitted.

    Attributes
    ----------
    quantity
        Its name with its unit, as tables have it.
    group, correlator
        Molecules it is of; the correlator, empty where it is not the relaxation time of one.
    temperatures, values, errors
        In K and in the unit of the quantity, shape (states,).
    shown
        How many of the states that are fitted are shown to be in equilibrium.
    glass_value
        Its value at T_g; NaN where none is known.
    """

    quantity: str
    group: str
    correlator: str
    temperatures: Array
    values: Array
    errors: Array
    shown: int
    glass_value: float


def series_of(
    quantity: str, temperatures: Array, points: Sequence[Point], glass_value: float, group: str, correlator: str = ""
) -> Series:
    """A series of points at temperatures in K, shape (states,), one a state; those that are not usable become NaN."""
    values, errors = (
        np.array([number if point.usable else NAN for number, point in zip(numbers, points, strict=True)], dtype=float)
        for numbers in ([point.value for point in points], [point.error for point in points])
    )
    shown = sum(point.usable and point.equilibration == EQUILIBRATED for point in points)
    return Series(quantity, group, correlator, temperatures, values, errors, shown, glass_value)


@dataclass(frozen=True)
class Fits:
    """Models of τ(T) fitted to one series.

    Attributes
    ----------
    models
        Each by name.
    draws
        Bootstrap fits of each, and the ln τ they are of, shape (draws, states).
    best
        The one with the lowest AICc.
    mixed
        Draws of all usable models, each as often as it is likely.
    glass_kelvin
        T_g in K, as given or of the best model.
    """

    models: dict[str, LawFit]
    draws: dict[str, tuple[list[LawFit], Array]]
    best: LawFit
    mixed: list[LawFit]
    glass_kelvin: float


def fit_series(series: Series, settings: Settings, rng: np.random.Generator) -> Fits:
    """Fit every model of τ(T) to a series, with bootstrap fits for the errors."""
    T, values, errors = series.temperatures, series.values, series.errors
    models = activation.fit_laws(T, values, errors)
    best = activation.best_law(models)
    draws = {name: activation.resampled(name, T, values, errors, rng, settings.bootstrap) for name in models}
    mixed = activation.mixed(models, {name: fits for name, (fits, _) in draws.items()}, rng)
    glass_kelvin = settings.glass_temperature_kelvin or best.glass_temperature(series.glass_value)
    return Fits(models, draws, best, mixed or draws[best.law][0], glass_kelvin)


def energies_of(series: Series, fits: Fits) -> dict[str, tuple[Array, Array]]:
    """Activation energies of the best model by definition: E(T) and E_app(T) in kJ/mol, and their draws.

    Returns
    -------
    dict
        Of (energy, drawn) with shapes (states,) and (draws, states).
    """
    T, values = series.temperatures, series.values
    return {
        BY_TAU_INF: activation.energies(T, values, fits.best, *fits.draws[fits.best.law]),
        BY_SLOPE: activation.apparent_energies(T, values, fits.best, fits.mixed),
    }


def energy_errors(energy: Array, drawn: Array) -> Array:
    """Standard errors of energies (states,) from their draws (draws, states), about the energies themselves."""
    return np.asarray(np.sqrt(np.diag(activation.covariance(drawn, energy))))
