"""How long this job may still run."""

from __future__ import annotations

import logging
import os
import time

log = logging.getLogger(__name__)

RESERVE, LONGEST_RESERVE_S = 0.1, 600.0


def seconds_left(asked_min: float | None) -> float:
    """Wall time this job has for its work, in s; infinite where nothing limits it.

    The wall time asked for counts from now. Slurm's own end of the job
    (SLURM_JOB_END_TIME, Unix time) counts where it comes earlier, unless a clock
    is so far off that it lies in the past. A tenth, at most 10 minutes, is kept
    back for ending in order.

    Parameters
    ----------
    asked_min
        Wall time of the job in minutes, or None.
    """
    left = float("inf") if asked_min is None else 60 * asked_min
    try:
        slurm = float(os.environ["SLURM_JOB_END_TIME"]) - time.time()
    except (KeyError, ValueError):
        slurm = float("inf")
    if slurm > 0:
        left = min(left, slurm)
    else:
        log.warning("SLURM_JOB_END_TIME was %.0f s ago; expected a time to come: this node's clock is wrong", -slurm)
    return left - min(RESERVE * left, LONGEST_RESERVE_S) if left < float("inf") else left
