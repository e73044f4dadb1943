"""What two atoms of different molecules do to one another, before any label has said so."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from mlpwf.units import KCAL_MOL_EV

Array = NDArray[np.float64]

STRAIGHT = 0.75
"""Below this share of the distance at rest the energy goes on as a straight line: 1/r¹² is far too steep there."""


def energies(distances: Array, one: str, other: str) -> Array:
    """Lennard-Jones energy of UFF in eV, D ((x/r)¹² − 2 (x/r)⁶) (Rappé et al., DOI 10.1021/ja00051a040).

    Parameters
    ----------
    distances
        In Å.
    one, other
        Elements.
    """
    rest, depth = _parameters(*sorted((one, other)))
    inverse = rest / np.maximum(distances, STRAIGHT * rest)
    slope = -12 * depth / (STRAIGHT * rest) * (STRAIGHT**-12 - STRAIGHT**-6)
    found: Array = depth * (inverse**12 - 2 * inverse**6) + slope * np.minimum(distances - STRAIGHT * rest, 0)
    return found


@cache
def _parameters(one: str, other: str) -> tuple[float, float]:
    """Distance at rest in Å and depth in eV."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdForceFieldHelpers

    pair = Chem.RWMol()
    for symbol in (one, other):
        atom = Chem.Atom(symbol)
        atom.SetNoImplicit(True)
        pair.AddAtom(atom)
    with rdBase.BlockLogs():  # it finds the charges of lone atoms strange, which these numbers do not depend on
        Chem.SanitizeMol(pair)
        rest, depth = rdForceFieldHelpers.GetUFFVdWParams(pair, 0, 1)
    return float(rest), float(depth) * KCAL_MOL_EV
