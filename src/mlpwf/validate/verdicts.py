"""What the samples of the validation runs say of a model: drift, structure, density, and samples of its liquid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import asdict, replace
from numpy.typing import NDArray

from mlpwf.campaign.records import LiquidSamples, Npt, Nve, Nvt, RunEnd
from mlpwf.units import AMU_PER_A3_PER_G_CM3
from mlpwf.validate.observables import (
    BLOCKS,
    SHORTEST,
    block_mean,
    block_means,
    diffusion,
    drift,
    radial_distribution,
)

Array = NDArray[np.float64]

BLOCK_PS = 1.0  # shorter ones are not independent: twice the time of the barostat
DISCARDED = 1 / 3  # of the constant-pressure run, while the volume settles
CONSTANT = {"nvt": "constant volume", "npt": "constant pressure"}
LIQUID_UNITS = {"density": "g/cm³", "r": "Å", "diffusion": "Å²/ps", "diffusion_lags": "ps"}


@dataclass(frozen=True)
class Samples:
    """What was sampled of a run, as far as it came; all arrays have one entry a sample.

    Attributes
    ----------
    thermo
        Shape (n_samples, 6): time in ps, temperature in K, potential and total energy in eV, pressure in bar, volume
        in Å³.
    centres
        Unwrapped centres of mass of the molecules in Å, shape (n_samples, n_molecules, 3).
    cells
        Cell vectors as rows in Å, shape (n_samples, 3, 3).
    mass
        Of the box, in amu.
    """

    thermo: Array
    centres: Array
    cells: Array
    mass: float

    @classmethod
    def read(cls, file: Path) -> Samples:
        """The samples that a run left in its file; none where there is no file."""
        if not file.exists():
            return cls(np.zeros((0, 6)), np.zeros((0, 0, 3)), np.zeros((0, 3, 3)), 0.0)
        with np.load(file, allow_pickle=False) as kept:
            return cls(kept["thermo"], kept["centres"], kept["cells"], float(kept["mass"]))

    @property
    def times(self) -> Array:
        """In ps, shape (n_samples,)."""
        return self.thermo[:, 0]

    @property
    def temperatures(self) -> Array:
        """In K, shape (n_samples,)."""
        return self.thermo[:, 1]

    @property
    def energies(self) -> Array:
        """Total energy in eV, shape (n_samples,)."""
        return self.thermo[:, 3]

    @property
    def pressures(self) -> Array:
        """In bar, shape (n_samples,)."""
        return self.thermo[:, 4]

    @property
    def densities(self) -> Array:
        """In g/cm³, the first third of the run left out; shape (n_samples - n_samples // 3,)."""
        volumes = self.thermo[:, 5]
        return self.mass / volumes[int(DISCARDED * len(volumes)) :] / AMU_PER_A3_PER_G_CM3


def nve_verdict(end: RunEnd, samples: Samples, atoms: int) -> Nve:
    """The drift of the total energy in meV per atom and ps, with its error, and how far the energy fluctuates.

    Parameters
    ----------
    end
        How the run ended; of an unstable one nothing is measured.
    samples
        Of the run; three or more give a drift.
    atoms
        Number of atoms of the box.
    """
    if not end.stable or len(samples.times) < 3:
        return Nve(**asdict(end))
    energies = 1e3 * samples.energies / atoms
    slope, error = drift(samples.times, energies)
    return Nve(
        **asdict(end),
        drift_mev_atom_ps=slope,
        drift_error_mev_atom_ps=error,
        fluctuation_mev_atom=float(np.std(energies)),
        mean_temperature=float(samples.temperatures.mean()),
    )


def nvt_verdict(end: RunEnd, samples: Samples) -> Nvt:
    """Mean temperature and pressure of the run at constant volume, where it has a structure."""
    if not has_structure(end, samples):
        return Nvt(**asdict(end))
    pressures = samples.pressures
    return Nvt(
        **asdict(end),
        mean_temperature=float(samples.temperatures.mean()),
        mean_pressure_bar=float(pressures.mean()),
        pressure_error_bar=block_mean(pressures)[1] if len(pressures) >= BLOCKS else None,
    )


def npt_verdict(end: RunEnd, samples: Samples, expected_g_cm3: float) -> Npt:
    """Mean density of the run at constant pressure with its block error, the first third left out, in g/cm³."""
    densities = samples.densities
    if not end.stable or len(densities) < BLOCKS:
        return Npt(**asdict(end), density_expected_g_cm3=expected_g_cm3)
    density, error = block_mean(densities)
    return Npt(**asdict(end), density_expected_g_cm3=expected_g_cm3, density_g_cm3=density, density_error_g_cm3=error)


def has_structure(end: RunEnd, samples: Samples) -> bool:
    """Whether g(r) can be taken: the run was stable, and the box holds two molecules or more."""
    return end.stable and samples.centres.shape[1] > 1


def structure(end: RunEnd, samples: Samples) -> tuple[Array, Array]:
    """Distances r in Å and g(r) of the molecules' centres of mass; empty where there is no structure."""
    if not has_structure(end, samples):
        return np.zeros(0), np.zeros(0)
    return radial_distribution(samples.centres, samples.cells)


# ---------------------------------------------------------------- samples of the liquid


def fault_of(ends: Mapping[str, RunEnd]) -> str:
    """Why the runs at constant volume and pressure, by their ensembles, are no liquid's; empty: they are."""
    faults = []
    for name, what in CONSTANT.items():
        if not ends[name].stable:
            faults.append(f"the run at {what} blew up")
        elif not ends[name].intact:
            faults.append(f"the run at {what} broke molecules")
    return ", ".join(faults)


def liquid_samples(
    ends: Mapping[str, RunEnd],
    nvt: Samples,
    npt: Samples,
    *,
    seed: int,
    model_sha256: str,
    cycle: int | None,
    conditions: str,
) -> LiquidSamples:
    """Samples of density, g(r) and diffusion, by which the models of two cycles are compared.

    A quantity that a run is too short for (blocks of less than `BLOCK_PS`), or its box too small, has none. There are
    none at all, and the reason is told, where a run failed or broke molecules.

    Parameters
    ----------
    ends
        How the runs ended, by ensemble.
    nvt, npt
        Samples of the runs at constant volume and constant pressure.
    seed, model_sha256, cycle, conditions
        Of the model and its runs, as `LiquidSamples` has them.
    """
    nothing = LiquidSamples(
        seed=seed, model_sha256=model_sha256, cycle=cycle, conditions=conditions, units=LIQUID_UNITS,
        fault=fault_of(ends), density=[], r=[], g=[], diffusion=[], diffusion_lags=None,
    )  # fmt: skip
    return nothing if nothing.fault else _measured(nothing, nvt, npt)


def _measured(nothing: LiquidSamples, nvt: Samples, npt: Samples) -> LiquidSamples:
    """What the samples of two sound runs give."""
    interval = float(nvt.times[1] - nvt.times[0])
    r, g = _structures(nvt, interval)
    coefficients, lags = _diffusion(nvt, interval)
    return replace(
        nothing,
        density=_densities(npt.densities, interval).tolist(),
        r=r.tolist(),
        g=g.tolist(),
        diffusion=coefficients.tolist(),
        diffusion_lags=lags,
    )


def _enough(samples: int, interval_ps: float) -> bool:
    """Whether so many samples make `BLOCKS` independent blocks."""
    return samples >= BLOCKS and samples * interval_ps >= BLOCKS * BLOCK_PS


def _densities(densities: Array, interval_ps: float) -> Array:
    return block_means(densities) if _enough(len(densities), interval_ps) else np.zeros(0)


def _structures(nvt: Samples, interval_ps: float) -> tuple[Array, Array]:
    """Distances in Å and g(r) of each block."""
    frames, molecules = nvt.centres.shape[:2]
    if molecules < 2 or not _enough(frames, interval_ps):
        return np.zeros(0), np.zeros((0, 0))
    parts = np.array_split(np.arange(frames), BLOCKS)
    curves = [radial_distribution(nvt.centres[part], nvt.cells[part]) for part in parts]
    return curves[0][0], np.array([g for _, g in curves])


def _diffusion(nvt: Samples, interval_ps: float) -> tuple[Array, tuple[float, float] | None]:
    """Coefficient of each molecule in Å²/ps, and the lags in ps it is taken between."""
    if len(nvt.centres) < SHORTEST:
        return np.zeros(0), None
    return diffusion(nvt.centres, interval_ps)
