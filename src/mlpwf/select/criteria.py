"""What has to be met for the cycles to end converged, from the records of training, validation and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mlpwf.campaign.records import Criterion, LabelError, LiquidSamples, TrainErrors
from mlpwf.campaign.stopping import few_candidates, flat_test_error, same_liquid, small_error
from mlpwf.config import Select


def label_errors(found: LabelError) -> dict[str, float]:
    """Errors of the labels themselves in eV/Å, by channel of the force; empty where nothing was measured."""
    total = found.total
    if total is None:
        return {}
    return {"inter": total.force_inter_rmse_ev_angstrom, "intra": total.force_intra_rmse_ev_angstrom}


def new_label_error(errors: TrainErrors) -> float | None:
    """Force error in eV/Å, on the new labels, of the model that drove the dynamics; None: no label is new."""
    return None if errors.new is None else errors.new.first.overall.force_rmse_ev_angstrom


def criteria(
    errors: TrainErrors,
    before: TrainErrors | None,
    liquids: Sequence[LiquidSamples],
    counts: Counter[str],
    settings: Select,
) -> list[Criterion]:
    """All that has to be met for the cycles to end converged.

    Parameters
    ----------
    errors, before
        Of this cycle's training, and of the cycle before; None in the first cycle.
    liquids
        By the models of the last cycles, oldest first.
    counts
        Explored frames by verdict.
    settings
        Targets, and the number of cycles whose liquids are compared (`liquid_cycles`; 0: none).
    """
    own, targets = settings.converged_force_error_ev_angstrom, settings.targets
    inter = None if errors.new is None else errors.new.first.overall.force_inter_rmse_ev_angstrom
    earlier = None if before is None else before.test.frame_force_mse_ev2_angstrom2
    return [
        few_candidates(counts, settings.converged_candidate_fraction),
        small_error("new labels", "force error", new_label_error(errors), targets["intra"] if own is None else own),
        small_error("new labels, between molecules", "force error between molecules", inter, targets["inter"]),
        flat_test_error(earlier, errors.test.frame_force_mse_ev2_angstrom2),
        *(same_liquid(liquids, settings.liquid_cycles) if settings.liquid_cycles else []),
    ]
