"""The ladder of retries: other numerics for the same physics, until the SCF gets there.

No rung changes what a label depends on: cut-offs, threshold, functional, k-points,
smearing, pseudopotentials and dispersion are those asked for on every rung.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlpwf.calculators.espresso.acceptance import Aside, Reason
from mlpwf.config.label import Label


@dataclass(frozen=True)
class Rung:
    """A named change of numerics; `more_steps` multiplies the SCF steps allowed."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    more_steps: int = 1

    def applied(self, label: Label) -> Label:
        """The settings of this rung."""
        steps = min(1000, label.maximum_scf_steps * self.more_steps)
        return label.model_copy(update={**self.changes, "maximum_scf_steps": steps})


ASKED = Rung("as asked")
LOCAL_TF = Rung("local-TF mixing", {"mixing_mode": "local-TF", "mixing_beta": 0.3}, 2)
SMALL_STEPS = Rung("small mixing", {"mixing_mode": "plain", "mixing_beta": 0.1}, 4)
BAND_BY_BAND = Rung("conjugate gradient", {"diagonalization": "cg", "mixing_beta": 0.3}, 2)
AGAIN = Rung("once more")

# What helps against what. Band by band needs less memory than the Davidson method, and does not
# diagonalise the overlap of nearly dependent vectors, on which that method crashes.
REMEDIES: Mapping[Reason, tuple[Rung, ...]] = {
    Reason.NOT_CONVERGED: (LOCAL_TF, SMALL_STEPS, BAND_BY_BAND),
    Reason.CRASHED: (BAND_BY_BAND, SMALL_STEPS),
    Reason.OUT_OF_MEMORY: (BAND_BY_BAND,),
    Reason.BAD_OUTPUT: (AGAIN,),
}


SOLVER_TROUBLE = re.compile(r"diag|bands|cholesky|eigen|exit status", re.IGNORECASE)


def next_rung(failure: Aside, tried: Sequence[str], retries: int) -> Rung | None:
    """The rung to try after a failure; None when a further try is of no use.

    Parameters
    ----------
    failure
        Why the last try failed. A clash, an exceeded time limit and an input that pw.x refuses
        have no remedy in the numerics.
    tried
        Names of the rungs tried so far, the first included.
    retries
        Largest number of tries after the first.
    """
    if len(tried) > retries:
        return None
    if failure.reason is Reason.CRASHED and not SOLVER_TROUBLE.search(failure.detail):
        return None
    return next((rung for rung in REMEDIES.get(failure.reason, ()) if rung.name not in tried), None)
