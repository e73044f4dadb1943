"""Diffusion in a box of infinite size, from that in a periodic cube."""

from __future__ import annotations

import numpy as np

from mlpwf.dynamics.trajectory import Array

XI = 2.837297  # of a cube: its lattice sum of Stokes' flow
BOLTZMANN_MPAS_A3_PS_K = 1.380649e-23 * 1e3 * 1e30 * 1e-12
"""k_B in mPa·s Å³ / (ps K)."""
CUBIC_TOLERANCE = 1e-4  # relative, of edges and angles


def cube_edge(cell: Array) -> float:
    """Edge in Å of a box, lattice vectors as rows (3, 3) in Å; NaN if it is no cube."""
    squares = cell @ cell.T
    edge2 = float(np.trace(squares)) / 3
    if not edge2 > 0 or np.abs(squares - edge2 * np.eye(3)).max() > CUBIC_TOLERANCE * edge2:
        return float("nan")
    return float(np.sqrt(edge2))


def infinite_box(
    coefficient: tuple[float, float],
    viscosity: tuple[float, float],
    edge_angstrom: float,
    temperature_kelvin: float,
    boltzmann: float = BOLTZMANN_MPAS_A3_PS_K,
) -> tuple[float, float]:
    """D∞ = D + k_B T ξ/(6πηL) of a cube of edge L with periodic walls, ξ = 2.837297, and its error.

    The errors of D and of η are taken as independent. Source: Yeh and Hummer, J. Phys. Chem. B 108, 15873
    (2004), DOI 10.1021/jp0477147.

    Parameters
    ----------
    coefficient
        D and its error in Å²/ps.
    viscosity
        η and its error in mPa·s.
    edge_angstrom, temperature_kelvin
        L in Å and T in K.
    boltzmann
        k_B in the unit of η Å³/(ps K), for units other than these.

    Returns
    -------
    value, error
        In Å²/ps.
    """
    added = boltzmann * temperature_kelvin * XI / (6 * np.pi * viscosity[0] * edge_angstrom)
    return coefficient[0] + float(added), float(np.hypot(coefficient[1], added * viscosity[1] / viscosity[0]))
