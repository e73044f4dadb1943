"""Laws of the relaxation time against temperature, and the activation energies that follow from them.

Every law here is ln τ = A + B f(T; c): two linear parameters and at most one that is not, which is
searched for in one dimension, so that a fit has no local minimum to be caught in. E(T) = RT ln(τ/τ∞)
and E_app(T) = R dln τ/d(1/T) are different energies unless the law is Arrhenius'; both are given.
τ may be any quantity that grows on cooling as a relaxation time does: a viscosity, or 1/D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.trajectory import Array
from mlpwf.dynamics.verdicts import OK
from mlpwf.errors import DataError
from mlpwf.units import GAS_CONSTANT_KJ_MOL_K

NAN = float("nan")
TOO_FEW_STATES = "too few states"
AT_BOUND = "parameter at its bound"
NOT_GROWING = "does not grow on cooling"
REACH = 0.5  # of the coldest state's temperature: no law is trusted farther down
NOT_REACHED = f"not reached by this law above {REACH:g} of the coldest state's temperature"

GLASS_TIME_PS = 1e14  # τ(T_g) = 100 s
MISFIT = 1e-3  # probability of its χ² below which a law is not the right one
GRID = 60  # values of c tried before the search is refined


@dataclass(frozen=True)
class Law:
    """One law ln τ = A + B f(T; c).

    Attributes
    ----------
    name
        Its name in tables.
    parameters
        How many are fitted.
    shape
        f(T, c) in 1/K^n, broadcast over T and c.
    slope
        df/d(1/T) at fixed c.
    bounds
        Smallest and largest c for the temperatures of a fit; None where the law has no c.
    source
        Where the law is from.
    """

    name: str
    parameters: int
    shape: Callable[[Array, Array], Array]
    slope: Callable[[Array, Array], Array]
    bounds: Callable[[Array], tuple[float, float]] | None
    source: str


LAWS = {
    law.name: law
    for law in (
        Law(
            "Arrhenius", 2,
            lambda T, c: 1 / T + 0 * c,
            lambda T, c: 1 + 0 * T * c,
            None,
            "ln τ = ln τ∞ + B/T",
        ),
        Law(
            "VFT", 3,
            lambda T, c: 1 / (T - c),
            lambda T, c: (T / (T - c)) ** 2,
            lambda T: (0.0, float(T.min()) * (1 - 1e-3)),
            "ln τ = ln τ∞ + B/(T − T0); Vogel, Fulcher, Tammann and Hesse",
        ),
        Law(
            "MYEGA", 3,
            lambda T, c: np.exp(c / T) / T,
            lambda T, c: (1 + c / T) * np.exp(c / T),
            lambda T: (0.0, 10 * float(T.min())),
            "ln τ = ln τ∞ + (B/T) exp(c/T); 10.1073/pnas.0911705106",
        ),
        Law(
            "parabolic", 3,
            lambda T, c: (1 / T - 1 / c) ** 2,
            lambda T, c: 2 * (1 / T - 1 / c),
            lambda T: (float(T.max()), 10 * float(T.max())),
            "ln τ = ln τ_o + J² (1/T − 1/T_o)² below the onset T_o; 10.1021/jp810362g",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class LawFit:
    """A law fitted to the states, with its information criterion; a number without meaning is NaN.

    Attributes
    ----------
    law
        Name of the law.
    ln_tau_infinity, strength, constant
        A (τ in the unit given), B (in K, or K² for the parabolic law) and c (K; NaN for Arrhenius).
    chi2
        Σ (residual/error)² of ln τ; where errors are not known, the sum of squares.
    aicc
        Akaike's criterion for few data; NaN where there are too few states to compare.
    states
        Number of states fitted.
    verdict
        `ok`, or why the fit is not to be used.
    weighted
        Whether every error was known.
    coldest_kelvin
        Temperature of the coldest state fitted; NaN: the law is of no states.
    """

    law: str
    ln_tau_infinity: float
    strength: float
    constant: float
    chi2: float
    aicc: float
    states: int
    verdict: str
    weighted: bool = True
    coldest_kelvin: float = NAN

    def ln_tau(self, temperatures_kelvin: Array) -> Array:
        """ln τ of the law at T in K, same shape."""
        with np.errstate(over="ignore"):
            return self.ln_tau_infinity + self.strength * LAWS[self.law].shape(temperatures_kelvin, self._c)

    def energy(self, temperatures_kelvin: Array) -> Array:
        """E(T) = RT ln(τ/τ∞) of the law, in kJ/mol; for the parabolic law τ∞ is τ at its onset."""
        return GAS_CONSTANT_KJ_MOL_K * temperatures_kelvin * (self.ln_tau(temperatures_kelvin) - self.ln_tau_infinity)

    def apparent_energy(self, temperatures_kelvin: Array) -> Array:
        """E_app(T) = R dln τ/d(1/T) of the law, in kJ/mol."""
        with np.errstate(over="ignore"):
            slope = LAWS[self.law].slope(temperatures_kelvin, self._c)
        return np.asarray(GAS_CONSTANT_KJ_MOL_K * self.strength * slope)

    def glass_temperature(self, glass_time: float = GLASS_TIME_PS) -> float:
        """T in K at which the law reaches `glass_time` (unit of τ); NaN where it does not.

        Neither does it below half (`REACH`) of the coldest temperature it was fitted at: nothing is known of that.
        """
        target = (np.log(glass_time) - self.ln_tau_infinity) / self.strength
        if self.verdict == TOO_FEW_STATES or not target > 0:
            return NAN
        found = self._temperature(target)
        return NAN if found < REACH * self.coldest_kelvin else found

    def _temperature(self, target: float) -> float:
        """T in K at which the shape of the law is `target`."""
        if self.law == "Arrhenius":
            return float(1 / target)
        if self.law == "VFT":
            return float(self.constant + 1 / target)
        if self.law == "parabolic":
            return float(1 / (np.sqrt(target) + 1 / self.constant))
        from scipy.special import lambertw

        # x exp(cx) = target, so cx = W(c target)
        return float(self.constant / lambertw(self.constant * target).real) if self.constant > 0 else 1 / target

    def fragility(self, glass_kelvin: float) -> float:
        """m = dlog10 τ/d(T_g/T) at T_g in K."""
        if not np.isfinite(glass_kelvin):
            return NAN
        apparent = self.apparent_energy(np.array(glass_kelvin))
        return float(apparent / (GAS_CONSTANT_KJ_MOL_K * glass_kelvin * np.log(10)))

    @property
    def p_value(self) -> float:
        """Probability of a χ² at least this large, were law and errors right; NaN without degrees of freedom."""
        from scipy.stats import chi2

        free = self.states - LAWS[self.law].parameters
        return float(chi2.sf(self.chi2, free)) if self.weighted and free > 0 else NAN

    @property
    def _c(self) -> Array:
        return np.asarray(0.0 if np.isnan(self.constant) else self.constant)


@dataclass(frozen=True)
class Extrapolation:
    """What a law says of the glass transition, with errors by bootstrap (standard deviations).

    `drawn` bootstrap fits gave an answer; fewer than half of them make the verdict.
    """

    glass_kelvin: float
    glass_error: float
    fragility: float
    fragility_error: float
    drawn: int
    verdict: str


def fit_law(name: str, temperatures_kelvin: Array, times: Array, errors: Array) -> LawFit:
    """Least squares of ln τ against one law, weighted where every error is known.

    AICc = χ² + 2k + 2k(k + 1)/(n − k − 1) with known errors, and with n ln(RSS/n) in place of
    χ² and one parameter more without. Source: Hurvich and Tsai, DOI 10.1093/biomet/76.2.297.

    Parameters
    ----------
    name
        A key of `LAWS`.
    temperatures_kelvin
        T in K, shape (states,).
    times, errors
        τ and its error in one unit, shape (states,). States whose τ is NaN are left out.
    """
    T, logarithm, sigma, weighted = _states(temperatures_kelvin, times, errors)
    law, count = LAWS[name], len(T)
    if len(np.unique(T)) < law.parameters + (0 if weighted and law.parameters > 2 else 1):
        return LawFit(name, NAN, NAN, NAN, NAN, NAN, count, TOO_FEW_STATES)
    if law.bounds is None:
        constant, verdict = 0.0, OK
    else:
        constant, verdict = _search(law, T, logarithm, sigma)
    intercept, strength, chi2 = _linear(law.shape(T, np.array(constant)), logarithm, sigma)
    if not strength > 0:
        verdict = NOT_GROWING
    return LawFit(
        law=name,
        ln_tau_infinity=float(intercept),
        strength=float(strength),
        constant=constant if law.bounds else NAN,
        chi2=float(chi2),
        aicc=_aicc(float(chi2), count, law.parameters, weighted),
        states=count,
        verdict=verdict,
        weighted=weighted,
        coldest_kelvin=float(T.min()),
    )


def fit_laws(temperatures_kelvin: Array, times: Array, errors: Array) -> dict[str, LawFit]:
    """Every law of `LAWS` by name; arguments as for `fit_law`."""
    return {name: fit_law(name, temperatures_kelvin, times, errors) for name in LAWS}


def best_law(fits: dict[str, LawFit]) -> LawFit:
    """The usable law with the lowest AICc.

    Laws with too many parameters for the states to be compared enter only where the best of the others
    misfits (p of χ² below 0.001): then the one that fits best. Where no law is usable, Arrhenius'.
    """
    usable = [fit for fit in fits.values() if fit.verdict == OK]
    compared = [fit for fit in usable if np.isfinite(fit.aicc)]
    if not compared:
        return fits["Arrhenius"]
    best = min(compared, key=lambda fit: fit.aicc)
    if best.p_value < MISFIT:
        return min([best, *(fit for fit in usable if not np.isfinite(fit.aicc))], key=lambda fit: fit.chi2)
    return best


def akaike_weights(fits: dict[str, LawFit]) -> dict[str, float]:
    """exp(−ΔAICc/2), normalised to 1 over the laws that can be compared; NaN for the others."""
    values = np.array([fit.aicc if fit.verdict == OK else NAN for fit in fits.values()])
    if not np.isfinite(values).any():
        return dict.fromkeys(fits, NAN)
    weights = np.exp(-(values - np.nanmin(values)) / 2)
    return dict(zip(fits, (weights / np.nansum(weights)).tolist(), strict=True))


def mixed(fits: dict[str, LawFit], draws: dict[str, list[LawFit]], rng: np.random.Generator) -> list[LawFit]:
    """Draws of every usable law, each as often as it is likely: what the data leave open, the law included.

    E_app is the slope of ln τ, whatever the law, and laws that fit alike differ in it most at the first and
    last temperature: the error of one law's E_app is too small by what another law would say. Laws are
    weighted by exp(−ΔAIC/2), AIC = χ² + 2k, where every error of τ is known, and by AICc, which also allows
    for errors that are not, elsewhere. Source: Buckland, Burnham and Augustin, DOI 10.2307/2533961.

    Parameters
    ----------
    fits
        Laws by name.
    draws
        Bootstrap fits of each by name, equally many where there are any; see `resampled`.

    Returns
    -------
    list
        As many as each law has; none where no law is usable.
    """
    usable = [name for name, fit in fits.items() if fit.verdict == OK and draws[name]]
    scores = np.array([_criterion(fits[name]) for name in usable])
    if not np.isfinite(scores).any():
        return []
    weights = np.nan_to_num(np.exp(-(scores - np.nanmin(scores)) / 2))
    picked = rng.choice(len(usable), size=len(draws[usable[0]]), p=weights / weights.sum())
    return [draws[usable[number]][k] for k, number in enumerate(picked)]


def _criterion(fit: LawFit) -> float:
    return fit.chi2 + 2 * LAWS[fit.law].parameters if fit.weighted else fit.aicc


def resampled(
    name: str, temperatures_kelvin: Array, times: Array, errors: Array, rng: np.random.Generator, draws: int = 200
) -> tuple[list[LawFit], Array]:
    """Fits of a law to states redrawn from their errors (parametric bootstrap, normal in ln τ), and what was drawn.

    Where errors are not known, the residuals of the fit stand in for them.

    Returns
    -------
    fits, ln_tau
        One fit a draw, and the ln τ it is of, shape (draws, states), NaN where a state has no τ; no
        draws where the states are too few.
    """
    T, logarithm, sigma, weighted = _states(temperatures_kelvin, times, errors)
    fit = fit_law(name, temperatures_kelvin, times, errors)
    if fit.verdict == TOO_FEW_STATES:
        return [], np.empty((0, len(times)))
    free = max(len(T) - LAWS[name].parameters, 1)
    scatter = sigma if weighted else np.full(len(T), np.sqrt(fit.chi2 / free))
    if weighted:
        scatter = scatter * np.sqrt(max(1.0, fit.chi2 / free))
    drawn = logarithm + rng.normal(size=(draws, len(T))) * scatter
    known = sigma if weighted else np.full(len(T), NAN)
    ln_tau = np.full((draws, len(times)), NAN)
    ln_tau[:, np.isfinite(times) & (times > 0)] = drawn
    return [fit_law(name, T, np.exp(one), np.exp(one) * known) for one in drawn], ln_tau


def extrapolate(
    fit: LawFit, draws: list[LawFit], glass_time: float, glass_kelvin: float | None = None
) -> Extrapolation:
    """T_g (τ = `glass_time`, in the unit of τ) and fragility of a law, errors from its bootstrap fits.

    With `glass_kelvin` given, T_g is that and only the fragility is read from the law.
    """
    glass = [d.glass_temperature(glass_time) if glass_kelvin is None else glass_kelvin for d in draws]
    fragility = [d.fragility(g) for d, g in zip(draws, glass, strict=True)]
    value = fit.glass_temperature(glass_time) if glass_kelvin is None else glass_kelvin
    drawn = int(np.count_nonzero(np.isfinite(fragility)))
    verdict = fit.verdict
    if verdict == OK and (not np.isfinite(value) or drawn <= len(draws) / 2):
        verdict = NOT_REACHED
    spread = [float(np.nanstd(x)) if drawn > 1 else NAN for x in (glass, fragility)]
    return Extrapolation(
        value, spread[0] if glass_kelvin is None else 0.0, fit.fragility(value), spread[1], drawn, verdict
    )


def local_energies(temperatures_kelvin: Array, times: Array, errors: Array) -> tuple[Array, Array, Array]:
    """E_app = R dln τ/d(1/T) in kJ/mol between neighbouring temperatures, without a model.

    Parameters
    ----------
    temperatures_kelvin
        T in K, distinct and increasing, shape (states,).
    times, errors
        τ and its error in one unit, shape (states,).

    Returns
    -------
    middle, energy, error
        Harmonic mean of the two temperatures in K, E_app and its propagated error in kJ/mol,
        shape (states − 1,); NaN beside a state without τ.
    """
    if np.any(np.diff(temperatures_kelvin) <= 0):
        raise DataError(f"temperatures {temperatures_kelvin} K; expected distinct increasing ones")
    inverse = 1 / temperatures_kelvin
    relative = errors / times
    span = np.diff(inverse) / GAS_CONSTANT_KJ_MOL_K
    energy = np.diff(np.log(times)) / span
    error = np.sqrt(relative[1:] ** 2 + relative[:-1] ** 2) / np.abs(span)
    return 2 / (inverse[1:] + inverse[:-1]), energy, error


def energies(
    temperatures_kelvin: Array, times: Array, fit: LawFit, draws: list[LawFit], ln_tau: Array
) -> tuple[Array, Array]:
    """E(T) = RT ln(τ/τ∞) in kJ/mol at each state: τ as measured, τ∞ of a law.

    τ∞ is one number for all states and follows from every τ, so the errors of E(T) depend on one
    another; the draws hold all of that.

    Parameters
    ----------
    temperatures_kelvin, times
        T in K and τ, shape (states,).
    fit, draws, ln_tau
        The law, and the two results of `resampled`.

    Returns
    -------
    energy, drawn
        In kJ/mol, shapes (states,) and (draws, states).
    """
    thermal = GAS_CONSTANT_KJ_MOL_K * temperatures_kelvin
    prefactors = np.array([d.ln_tau_infinity for d in draws]).reshape(-1, 1)
    return thermal * (np.log(times) - fit.ln_tau_infinity), thermal * (ln_tau - prefactors)


def apparent_energies(
    temperatures_kelvin: Array, times: Array, fit: LawFit, draws: list[LawFit]
) -> tuple[Array, Array]:
    """E_app(T) = R dln τ/d(1/T) of a law in kJ/mol at the states that have a τ; arguments and results as `energies`."""
    known = np.where(np.isfinite(times), 1.0, NAN)
    drawn = np.array([d.apparent_energy(temperatures_kelvin) for d in draws]).reshape(len(draws), len(times))
    return known * fit.apparent_energy(temperatures_kelvin), known * drawn


def covariance(drawn: Array, about: Array | None = None) -> Array:
    """Covariance of the columns of draws (draws, states), shape (states, states); NaN below two draws.

    About their mean, or about given values (states,), whose distance from the mean then counts as an error.
    """
    if len(drawn) < 2:
        return np.full((drawn.shape[1], drawn.shape[1]), NAN)
    mean = drawn.mean(axis=0)
    away = drawn - mean
    found = away.T @ away / (len(drawn) - 1)
    return np.asarray(found if about is None else found + np.outer(mean - about, mean - about))


def _states(temperatures_kelvin: Array, times: Array, errors: Array) -> tuple[Array, Array, Array, bool]:
    """T, ln τ and its error of the states that have τ, and whether every error is known (else they are 1)."""
    if not temperatures_kelvin.shape == times.shape == errors.shape or times.ndim != 1:
        raise DataError(
            f"shapes {temperatures_kelvin.shape}, {times.shape}, {errors.shape}; expected one shape (states,)"
        )
    if not np.all(temperatures_kelvin > 0):
        raise DataError(f"temperatures {temperatures_kelvin} K; expected positive ones")
    used = np.isfinite(times) & (times > 0)
    sigma = errors[used] / times[used]
    weighted = bool(np.all(np.isfinite(sigma) & (sigma > 0)))
    return temperatures_kelvin[used], np.log(times[used]), sigma if weighted else np.ones(len(sigma)), weighted


def _linear(shape: Array, logarithm: Array, sigma: Array) -> tuple[Array, Array, Array]:
    """A, B and χ² of ln τ = A + B f by weighted least squares, for f of shape (..., states)."""
    weight = 1 / sigma**2
    total = weight.sum()
    mean_f = (weight * shape).sum(axis=-1, keepdims=True) / total
    mean_y = (weight * logarithm).sum() / total
    f, y = shape - mean_f, logarithm - mean_y
    strength = (weight * f * y).sum(axis=-1) / (weight * f * f).sum(axis=-1)
    chi2 = (weight * (y - strength[..., None] * f) ** 2).sum(axis=-1)
    return mean_y - strength * mean_f[..., 0], strength, chi2


def _search(law: Law, T: Array, logarithm: Array, sigma: Array) -> tuple[float, str]:
    """The c of least χ²: the best of a grid, refined between its neighbours."""
    from scipy.optimize import minimize_scalar

    assert law.bounds is not None
    low, high = law.bounds(T)

    def chi2(c: Array) -> Array:
        return _linear(law.shape(T, np.asarray(c)[..., None]), logarithm, sigma)[2]

    grid = np.linspace(low, high, GRID)
    best = int(np.argmin(chi2(grid)))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)])
    found = float(minimize_scalar(lambda c: float(chi2(np.array(c))), bounds=around, method="bounded").x)
    margin = 1e-3 * (high - low)
    return found, AT_BOUND if min(found - low, high - found) < margin else OK


def _aicc(chi2: float, count: int, parameters: int, weighted: bool) -> float:
    k = parameters if weighted else parameters + 1
    if count - k - 1 <= 0:
        return NAN
    misfit = chi2 if weighted else count * np.log(max(chi2, 1e-300) / count)
    return float(misfit + 2 * k + 2 * k * (k + 1) / (count - k - 1))
