"""The retry policy: other numerics for the same physics, until the SCF gets there.

No attempt changes what a label depends on: cut-offs, threshold, functional, k-points,
smearing, pseudopotentials and dispersion are those asked for in every attempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlpwf.calculators.base import Attempt, Reason, Rejected
from mlpwf.config.label import Label

MAX_SCF_STEPS = 1000


@dataclass(frozen=True)
class Remedy:
    """A named change of numerics; `more_steps` multiplies the SCF steps allowed."""

    name: str
    changes: Mapping[str, object] = field(default_factory=dict)
    more_steps: int = 1

    def attempt(self, label: Label) -> Attempt:
        """The attempt with this change."""
        steps = min(MAX_SCF_STEPS, label.maximum_scf_steps * self.more_steps)
        return Attempt(self.name, label.model_copy(update={**self.changes, "maximum_scf_steps": steps}))


LOCAL_TF = Remedy("local-TF mixing", {"mixing_mode": "local-TF", "mixing_beta": 0.3}, 2)
SMALL_STEPS = Remedy("small mixing", {"mixing_mode": "plain", "mixing_beta": 0.1}, 4)
BAND_BY_BAND = Remedy("conjugate gradient", {"diagonalization": "cg", "mixing_beta": 0.3}, 2)
AGAIN = Remedy("once more")

# What helps against what. Band by band needs less memory than the Davidson method, and does not
# diagonalise the overlap of nearly dependent vectors, on which that method crashes.
REMEDIES: Mapping[Reason, tuple[Remedy, ...]] = {
    Reason.NOT_CONVERGED: (LOCAL_TF, SMALL_STEPS, BAND_BY_BAND),
    Reason.CRASHED: (BAND_BY_BAND, SMALL_STEPS),
    Reason.OUT_OF_MEMORY: (BAND_BY_BAND,),
    Reason.BAD_OUTPUT: (AGAIN,),
}
SOLVER_TROUBLE = re.compile(r"diag|bands|cholesky|eigen|exit status", re.IGNORECASE)


def next_attempt(label: Label, rejection: Rejected, tried: Sequence[str]) -> Attempt | None:
    """The attempt to make after a rejection; None when a further one is of no use.

    Parameters
    ----------
    label
        The section as asked for; of its `retries` attempts may follow the first.
    rejection
        Why the last attempt failed. A clash, an exceeded time limit and an input that pw.x refuses
        have no remedy in the numerics.
    tried
        Names of the attempts made, the first included.
    """
    if len(tried) > label.retries:
        return None
    if rejection.reason is Reason.CRASHED and not SOLVER_TROUBLE.search(rejection.detail):
        return None
    remedies = (remedy for remedy in REMEDIES.get(rejection.reason, ()) if remedy.name not in tried)
    remedy = next(remedies, None)
    return None if remedy is None else remedy.attempt(label)


def tighter(label: Label) -> Label:
    """The same physics to a hundredth of the SCF threshold, on another path to it."""
    return label.model_copy(
        update={
            "convergence_ry": max(label.convergence_ry / 100, 1e-10),
            "mixing_mode": "local-TF",
            "mixing_beta": 0.3,
            "maximum_scf_steps": min(MAX_SCF_STEPS, 3 * label.maximum_scf_steps),
        }
    )
