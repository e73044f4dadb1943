"""Whether the models of successive cycles make the same liquid: density, g(r) and diffusion, each within its error.

A quantity comes as samples: blocks of a run one after another, or the molecules of its box. Models are
compared by permuting samples among them, which needs neither a normal distribution nor independent bins of g(r).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpwf.errors import DataError

Array = NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True)
class Liquid:
    """What the short runs of one cycle's model gave; a quantity that was not measured has no samples."""

    cycle: int
    density_g_cm3: Array
    """Means over blocks, shape (n_blocks,)."""
    r_angstrom: Array
    g: Array
    """g(r) of each block, shape (n_blocks, n_shells)."""
    diffusion_angstrom2_per_ps: Array
    """Apparent coefficient of each molecule, shape (n_molecules,)."""
    fault: str = ""
    """Why the model gave no liquid; empty: it did."""
    conditions: str = ""
    """Molecules, temperature and pressure, in words."""


def from_document(document: Mapping[str, Any]) -> Liquid:
    """A liquid from what `mlpwf validate` wrote of it.

    Raises
    ------
    DataError
        If a key is missing or not what it should be.
    """
    try:
        density, r, g, diffusion = (np.array(document[name], float) for name in ("density", "r", "g", "diffusion"))
        curves = g.reshape(len(g), len(r))
        said = str(document["fault"]), str(document["conditions"])
        return Liquid(int(document["cycle"]), density, r, curves, diffusion, *said)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the liquid of a cycle lacks {error}; run mlpwf validate for this cycle again") from None


@dataclass(frozen=True)
class Comparison:
    """How far the means of several groups of samples are apart."""

    ratio: float
    """Norm of their difference over its expected value if there were none."""
    p_value: float
    """Probability of a difference as large if there were none."""


def compare(groups: Sequence[Array]) -> Comparison:
    """Test whether groups of samples have the same mean, by permuting samples among groups.

    With means m_k of n_k samples and the mean m of all n: Q = Σ n_k |m_k − m|², expected to be
    (K − 1) W if no group differs, W = Σ_k Σ_i |x_ki − m_k|² / (n − K). The ratio is
    sqrt(Q / (K − 1) / W): for two groups of numbers, as many each, it is their difference over
    its standard error. The p-value is the share of random permutations with a ratio as large.
    Source: Anderson, Austral Ecol. 26, 32 (2001), DOI 10.1111/j.1442-9993.2001.01070.pp.x.

    Parameters
    ----------
    groups
        Samples, shape (n_k,) or (n_k, n_features) each; two groups at least, two samples each.
    """
    tables = [np.reshape(group, (len(group), -1)).astype(float) for group in groups]
    if len(tables) < 2 or min(map(len, tables)) < 2 or len({table.shape[1] for table in tables}) != 1:
        shapes = [np.shape(group) for group in groups]
        raise DataError(f"groups of samples {shapes}; expected two or more of one kind, two samples or more in each")
    samples = np.concatenate(tables)
    samples = samples - samples.mean(axis=0)
    member = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    drawn = np.random.default_rng(0).permuted(np.tile(member, (DRAWS, 1)), axis=1)
    found, *chance = _between(samples, np.concatenate([member[None], drawn]))
    expected = (len(tables) - 1) * (float((samples**2).sum()) - found) / (len(samples) - len(tables))
    ratio = np.sqrt(found / expected) if expected > 0 else np.inf if found > 0 else 0.0
    as_large = np.count_nonzero(np.array(chance) >= found * (1 - 1e-9))  # permutations of equal groups give equal sums
    return Comparison(float(ratio), (1 + as_large) / (1 + DRAWS))


def _between(samples: Array, member: NDArray[np.intp]) -> Array:
    """Σ n_k |m_k|² of samples about their common mean, for each row of `member`, the group of each sample."""
    total = np.zeros(len(member))
    for group in range(member.max() + 1):
        inside = (member == group).astype(float)
        total += ((inside @ samples) ** 2).sum(axis=1) / inside.sum(axis=1)
    return total


def mean_with_error(samples: Array) -> tuple[float, float]:
    """Norms of the mean of samples, shape (n,) or (n, n_features), and of its standard error; for numbers, their own.

    NaN where fewer than two samples give no error.
    """
    if len(samples) < 2:
        return float("nan"), float("nan")
    table = np.reshape(samples, (len(samples), -1))
    mean, error = table.mean(axis=0), table.std(axis=0, ddof=1) / np.sqrt(len(table))
    return float(mean[0] if len(mean) == 1 else np.linalg.norm(mean)), float(np.linalg.norm(error))


def structure(liquid: Liquid) -> Array:
    """Samples of r (g(r) − 1): all shells alike noisy, and the norm that of the structure; (n_blocks, n_shells)."""
    found: Array = liquid.r_angstrom * (liquid.g - 1)
    return found
