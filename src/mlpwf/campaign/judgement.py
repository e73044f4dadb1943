"""Whether a potential is fit for production: one verdict, and why it is not."""

from __future__ import annotations

from collections.abc import Iterator

from mlpwf.campaign.records import Npt, Nve, RunEnd, ValidateRuns, ValidateVerdict, Verdict

GOOD, NOT_YET, BROKEN = "good", "not yet", "broken"
DENSITY_TOLERANCE = 0.05
"""Of the stated density: a smaller difference may be the functional's."""
DRIFT_TOLERANCE_MEV_ATOM_PS = 0.05
"""A larger drift warms a liquid by some 200 K a nanosecond, if nothing took the heat."""
SURE = 3.0
"""A difference counts from so many of its standard errors on."""
NAMES = {"nve": "constant N, V, E", "nvt": "constant N, V, T", "npt": "constant N, p, T"}


def judge(last: Verdict, runs: ValidateRuns) -> ValidateVerdict:
    """The verdict on a campaign's final model.

    Parameters
    ----------
    last
        Of the cycles: whether they ended because the committee had converged.
    runs
        Of the final model.

    Returns
    -------
    ValidateVerdict
        `broken` if a run blew up or a molecule broke in it; else `not yet` if the cycles did not converge, energy
        drifts, or the density is not the stated one; else `good`.
    """
    broken, doubts = breaks(runs), [*_of_cycles(last), *doubts_of(runs)]
    verdict = BROKEN if broken else NOT_YET if doubts else GOOD
    return ValidateVerdict(
        seed=runs.seed, model_sha256=runs.model_sha256, verdict=verdict, reasons=[*broken, *doubts]
    )  # fmt: skip


def breaks(runs: ValidateRuns) -> list[str]:
    """A sentence for each run that blew up, or in which a molecule broke."""
    ends: dict[str, RunEnd] = {name: getattr(runs, name) for name in NAMES}
    return [reason for name, end in ends.items() for reason in _broken(name, end)]


def doubts_of(runs: ValidateRuns) -> list[str]:
    """A sentence for what else is wrong in the runs: a drift of the energy, another density."""
    return [*_drifts(runs.nve), *_other_density(runs.npt)]


def _broken(name: str, end: RunEnd) -> Iterator[str]:
    if not end.stable:
        yield f"the run at {NAMES[name]} blew up: {end.reason or 'no reason recorded'}"
    elif end.intact is False:
        yield f"molecules broke in the run at {NAMES[name]}{f': {end.broken}' if end.broken else ''}"


def _of_cycles(last: Verdict) -> Iterator[str]:
    if last.verdict != "converged":
        yield last.reason or f"the cycles ended with {last.verdict}"


def _drifts(run: Nve) -> Iterator[str]:
    """A sentence if the drift of the energy is not known, or there: beyond its error, and by enough to matter."""
    drift, error = run.drift_mev_atom_ps, run.drift_error_mev_atom_ps
    if run.stable and (drift is None or error is None):
        yield "the drift of the energy is not known: the run is too short; make validate.nve_ps longer"
    elif drift is not None and error is not None and abs(drift) > max(SURE * error, DRIFT_TOLERANCE_MEV_ATOM_PS):
        yield (
            f"the energy drifts by {drift:+.3f} ± {error:.3f} meV/atom/ps; expected at most "
            f"{DRIFT_TOLERANCE_MEV_ATOM_PS:g}: a shorter validate.timestep_fs, or more labels"
        )


def _other_density(run: Npt) -> Iterator[str]:
    """A sentence if the density is not known, or not the stated one: beyond its error, and by enough to matter."""
    density, error, stated = run.density_g_cm3, run.density_error_g_cm3, run.density_expected_g_cm3
    if density is None or error is None:
        if run.stable:
            yield "the density is not known: the run is too short; make validate.npt_ps longer"
        return
    if abs(density - stated) < max(SURE * error, DENSITY_TOLERANCE * stated):
        return
    word = "less" if density < stated else "more"
    yield (
        f"the density at constant pressure is {density:.3f} ± {error:.3f} g/cm³, {abs(density / stated - 1):.0%} "
        f"{word} than the {stated:g} of the system: too few labels, the functional, or a run that is too short"
    )
