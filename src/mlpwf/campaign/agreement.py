"""Whether the models of successive cycles make the same liquid: density, g(r) and diffusion, each within its error.

A quantity comes as samples: blocks of a run one after another, or the molecules of its box. Models are
compared by permuting samples among them, which needs neither a normal distribution nor independent bins of g(r).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpwf.campaign.records import LiquidSamples
from mlpwf.errors import DataError

Array = NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True)
class Comparison:
    """How far the means of several groups of samples are apart."""

    ratio: float
    """Norm of their difference over its expected value if there were none."""
    p_value: float
    """Probability of a difference as large if there were none."""


def compare(groups: Sequence[ArrayLike]) -> Comparison:
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
    arrays = [np.asarray(group, float) for group in groups]
    tables = [array.reshape(len(array), -1) for array in arrays]
    if len(tables) < 2 or min(map(len, tables)) < 2 or len({table.shape[1] for table in tables}) != 1:
        shapes = [array.shape for array in arrays]
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


def mean_with_error(samples: ArrayLike) -> tuple[float, float]:
    """Norms of the mean of samples, shape (n,) or (n, n_features), and of its standard error; for numbers, their own.

    NaN where fewer than two samples give no error.
    """
    values = np.asarray(samples, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    table = values.reshape(len(values), -1)
    mean, error = table.mean(axis=0), table.std(axis=0, ddof=1) / np.sqrt(len(table))
    return float(mean[0] if len(mean) == 1 else np.linalg.norm(mean)), float(np.linalg.norm(error))


def curves_of(samples: LiquidSamples) -> tuple[Array, Array]:
    """Middles of the shells in Å, shape (n_shells,), and g(r) of each block, shape (n_blocks, n_shells).

    Raises
    ------
    DataError
        If blocks and shells do not match.
    """
    try:
        r, g = np.array(samples.r, float), np.array(samples.g, float)
        return r, g.reshape(len(g), len(r))
    except ValueError:
        raise DataError(
            f"cycle {samples.cycle}: g(r) of {len(samples.g)} blocks does not match its {len(samples.r)} distances; "
            "run mlpwf validate for this cycle again"
        ) from None


def structure(samples: LiquidSamples) -> Array:
    """Samples of r (g(r) − 1): all shells alike noisy, and the norm that of the structure; (n_blocks, n_shells)."""
    r, g = curves_of(samples)
    found: Array = r * (g - 1)
    return found
