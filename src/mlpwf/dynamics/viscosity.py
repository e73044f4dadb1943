"""Shear viscosity from the fluctuations of the stress, by Green and Kubo, with its error.

The integral of the autocorrelation is taken by STACIE (DOI 10.1021/acs.jcim.5c01475): the
low-frequency end of the power spectrum is fitted by a Lorentzian peak, by maximum likelihood,
averaged over cut-off frequencies; nobody chooses where the integral ends.

STACIE weighs cut-offs by how well all of their spectrum is fitted. Where the stress relaxes in a fast and a
slow step, most of the spectrum is the fast one's: a fit of it alone is the best of all, and misses the peak of
the slow one at the lowest frequencies, which is what the integral is. So cut-offs whose fit contradicts the
spectrum near zero are left out, and what the integral would be at lower cut-offs is part of the error.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpwf.dynamics.trajectory import Array
from mlpwf.dynamics.verdicts import OK
from mlpwf.errors import DataError

if TYPE_CHECKING:
    from stacie.spectrum import Spectrum

log = logging.getLogger(__name__)

NAN = float("nan")
TOO_SHORT = "run too short for its relaxation time"
TOO_FEW_STEPS = "too few steps"
NO_PLATEAU = "no plateau in the spectrum"
POOR_FIT = "spectrum poorly fitted"
NOT_AT_ZERO = "spectrum near zero frequency not fitted at any cut-off"

MIN_STEPS = 200
LARGEST_SCORE = 3.0  # standard deviations of the fit's cost from what a right model gives
CONTRADICTED = 0.05  # probability of the lowest frequencies, were a fit right, below which it is left out
LOWER = (2, 4, 8)  # times the cut-off is lowered to see whether the integral stays
RUN_IN_TAU = 20 * np.pi  # STACIE's advice for the length of a run
MPAS_PER_BAR2_A3_PS_K = 1e10 * 1e-30 * 1e-12 / 1.380649e-23 * 1e3
"""Multiply bar² Å³ ps / K by this over k_B to get mPa·s."""


@dataclass(frozen=True)
class Viscosity:
    """Shear viscosity η and its standard error, in the unit asked for, and the stress relaxation time.

    Attributes
    ----------
    value, error
        η and its error: STACIE's, and the largest change of η at a half, a fourth and an eighth of the cut-off
        frequency, added in squares.
    relaxation, relaxation_error
        Exponential correlation time of the stress, in the unit of the time step.
    effective_points
        Points of the spectrum that carry the fit.
    verdict
        `ok`, or why the number is not to be used.
    """

    value: float
    error: float
    relaxation: float
    relaxation_error: float
    effective_points: float
    verdict: str


def shear_components(stress: Array) -> Array:
    """The five independent shear components of a stress tensor, each with the variance of σ_xy.

    σ_xy, σ_xz, σ_yz, (σ_xx − σ_yy)/2 and (2σ_zz − σ_xx − σ_yy)/√12. In an isotropic liquid all five
    have one spectrum and none is correlated with another. Source: Daivis and Evans, DOI 10.1063/1.466970.

    Parameters
    ----------
    stress
        Columns xx, yy, zz, xy, xz, yz, shape (steps, 6).

    Returns
    -------
    Array
        Shape (5, steps).
    """
    if stress.ndim != 2 or stress.shape[1] != 6:
        raise DataError(f"stress has shape {stress.shape}; expected (steps, 6): xx, yy, zz, xy, xz, yz")
    if not np.isfinite(stress).all():
        raise DataError("stress holds NaN or infinity; simulate this state again")
    xx, yy, zz, xy, xz, yz = stress.T
    return np.stack([xy, xz, yz, (xx - yy) / 2, (2 * zz - xx - yy) / np.sqrt(12)])


def green_kubo(stress: Array, timestep: float, prefactor: float) -> Viscosity:
    """η = F ∫⟨σ(0)σ(t)⟩ dt over the five shear components, F = V/(k_B T).

    Parameters
    ----------
    stress
        Columns xx, yy, zz, xy, xz, yz at evenly spaced times, shape (steps, 6); or a list of runs of
        one length, shape (runs, steps, 6).
    timestep
        Time between rows, in any unit; well below the shortest time on which the stress varies.
    prefactor
        V/(k_B T) in units such that prefactor · stress² · timestep is a viscosity.

    Raises
    ------
    DataError
        For a wrong shape, NaN, or a stress that never varies.
    """
    from stacie import compute_spectrum
    from stacie.estimate import marginalize_properties, scan_frequencies
    from stacie.model import LorentzModel

    runs = stress if stress.ndim == 3 else stress[None]
    components = np.concatenate([shear_components(run) for run in runs])
    if not timestep > 0 or not prefactor > 0:
        raise DataError(f"time step {timestep}, V/(k_B T) {prefactor}; expected positive numbers")
    if components.shape[1] < MIN_STEPS:
        return Viscosity(NAN, NAN, NAN, NAN, 0.0, TOO_FEW_STEPS)
    if np.any(np.ptp(components, axis=1) == 0):
        raise DataError("a component of the stress never varies; expected the stress tensor of a moving liquid")
    spectrum = compute_spectrum(components, prefactors=prefactor, timestep=timestep)
    model = LorentzModel()
    try:
        fits = scan_frequencies(spectrum, model)
        fits = [fit for fit in fits if _probability_near_zero(spectrum, model, fit) > CONTRADICTED]
        if not fits:
            return Viscosity(NAN, NAN, NAN, NAN, 0.0, NOT_AT_ZERO)
        found = marginalize_properties(spectrum, model, fits)
    except (ValueError, np.linalg.LinAlgError) as reason:
        log.debug("STACIE: %s", reason)
        return Viscosity(NAN, NAN, NAN, NAN, 0.0, NO_PLATEAU)
    verdict = OK
    if found.props["cost_zscore"] > LARGEST_SCORE:
        verdict = POOR_FIT
    if components.shape[1] * timestep < RUN_IN_TAU * found.corrtime_exp:
        verdict = TOO_SHORT
    error = np.hypot(found.acint_std, _change_below(fits, found.fcut, found.acint))
    return Viscosity(
        float(found.acint), float(error), float(found.corrtime_exp), float(found.corrtime_exp_std),
        float(found.neff), verdict,
    )  # fmt: skip


def _probability_near_zero(spectrum: Spectrum, model: Any, fit: dict[str, Any]) -> float:
    """Probability of the spectrum at the lowest frequencies of a fit, were the fit right."""
    points = int(fit["neff"])
    expected = model.compute(spectrum.freqs[:points], fit["pars"])[0]
    return probability_near_zero(spectrum.amplitudes[:points], expected, spectrum.ndofs[:points])


def probability_near_zero(amplitudes: Array, expected: Array, freedoms: Array) -> float:
    """Probability that the lowest 1, 2, 4, … frequencies, up to half of all, lie so far from what is expected.

    Σ ν I/S over frequencies, ν the degrees of freedom of each amplitude I of mean S, is distributed as χ²
    with Σ ν of them. The smallest two-sided probability is taken times the number of sums.

    Parameters
    ----------
    amplitudes, expected, freedoms
        Spectrum, its model and degrees of freedom from frequency zero on, shape (frequencies,).
    """
    from scipy.stats import chi2

    counts = 2 ** np.arange(int(np.log2(max(len(amplitudes) // 2, 1))) + 1)
    total = np.cumsum(freedoms * amplitudes / expected)[counts - 1]
    freedom = np.cumsum(freedoms)[counts - 1]
    sides = np.minimum(chi2.cdf(total, freedom), chi2.sf(total, freedom))
    return float(min(1.0, 2 * len(counts) * sides.min()))


def _change_below(fits: list[dict[str, Any]], cutoff: float, value: float) -> float:
    """Largest change of the integral where the cut-off is lowered."""
    cutoffs = np.log([fit["fcut"] for fit in fits])
    lower = [int(np.argmin(np.abs(cutoffs - np.log(cutoff / part)))) for part in LOWER]
    return max(abs(float(fits[k]["acint"]) - value) for k in lower)


def shear_viscosity(
    stress_bar: Array, interval_ps: float, volume_angstrom3: float, temperature_kelvin: float
) -> Viscosity:
    """`green_kubo` of a stress in bar: η in mPa·s, times in ps.

    Parameters
    ----------
    stress_bar
        Pressure or stress tensor (the sign does not matter), shape (steps, 6) or (runs, steps, 6).
    interval_ps
        Time between rows in ps.
    volume_angstrom3, temperature_kelvin
        Of the box.
    """
    return green_kubo(stress_bar, interval_ps, MPAS_PER_BAR2_A3_PS_K * volume_angstrom3 / temperature_kelvin)
