"""Shear viscosity from the fluctuations of the stress, by Green and Kubo, with its error.

The integral of the autocorrelation is taken by STACIE (DOI 10.1021/acs.jcim.5c01475): the
low-frequency end of the power spectrum is fitted by a Lorentzian peak, by maximum likelihood,
averaged over cut-off frequencies; nobody chooses where the integral ends.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.trajectory import Array
from mlpwf.errors import DataError

log = logging.getLogger(__name__)

NAN = float("nan")
OK = "ok"
TOO_SHORT = "run too short for its relaxation time"
TOO_FEW_STEPS = "too few steps"
NO_PLATEAU = "no plateau in the spectrum"
POOR_FIT = "spectrum poorly fitted"

FEWEST_STEPS = 200
LARGEST_SCORE = 3.0  # standard deviations of the fit's cost from what a right model gives
RUN_IN_TAU = 20 * np.pi  # STACIE's advice for the length of a run
MPAS_PER_BAR2_A3_PS_K = 1e10 * 1e-30 * 1e-12 / 1.380649e-23 * 1e3
"""Multiply bar² Å³ ps / K by this over k_B to get mPa·s."""


@dataclass(frozen=True)
class Viscosity:
    """Shear viscosity η and its standard error, in the unit asked for, and the stress relaxation time.

    Attributes
    ----------
    value, error
        η and its error.
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
    from stacie import compute_spectrum, estimate_acint
    from stacie.model import LorentzModel

    runs = stress if stress.ndim == 3 else stress[None]
    components = np.concatenate([shear_components(run) for run in runs])
    if not timestep > 0 or not prefactor > 0:
        raise DataError(f"time step {timestep}, V/(k_B T) {prefactor}; expected positive numbers")
    if components.shape[1] < FEWEST_STEPS:
        return Viscosity(NAN, NAN, NAN, NAN, 0.0, TOO_FEW_STEPS)
    if np.any(np.ptp(components, axis=1) == 0):
        raise DataError("a component of the stress never varies; expected the stress tensor of a moving liquid")
    spectrum = compute_spectrum(components, prefactors=prefactor, timestep=timestep)
    try:
        found = estimate_acint(spectrum, LorentzModel())
    except (ValueError, np.linalg.LinAlgError) as error:
        log.debug("STACIE: %s", error)
        return Viscosity(NAN, NAN, NAN, NAN, 0.0, NO_PLATEAU)
    verdict = OK
    if found.props["cost_zscore"] > LARGEST_SCORE:
        verdict = POOR_FIT
    if components.shape[1] * timestep < RUN_IN_TAU * found.corrtime_exp:
        verdict = TOO_SHORT
    return Viscosity(
        float(found.acint), float(found.acint_std), float(found.corrtime_exp), float(found.corrtime_exp_std),
        float(found.neff), verdict,
    )  # fmt: skip


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
