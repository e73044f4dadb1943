"""The report on the end: which criteria are met, whether cycles agree on the liquid, what more labels would bring."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from mlpwf.campaign import records
from mlpwf.campaign.agreement import curves_of, mean_with_error
from mlpwf.campaign.stopping import ahead, extrapolation, root_with_error
from mlpwf.figures import Curve, Panel, lines, rows, thermal_colours
from mlpwf.report.gather import Record
from mlpwf.report.parts import Drawing, Part, Table

MET = {True: "yes", False: "no", None: "not known yet"}
Seed = Sequence[records.TrainErrors]
"""Errors of one run of a selection, cycle by cycle."""


def convergence(record: Record) -> Part:
    """Criteria, the liquids of the cycles, learning curves of the baselines, and the learning-curve extrapolation."""
    return Part(
        "convergence",
        "Convergence",
        drawings=[*_liquids(record), *_baselines(record)],
        tables=[*_criteria(record), *_lead(record)],
        notes=_extrapolation(record),
    )


def _criteria(record: Record) -> list[Table]:
    last = next((c.status for c in reversed(record.cycles) if c.status and c.status.criteria), None)
    if last is None:
        return []
    table = [(one.name, MET[one.met], one.message) for one in last.criteria]
    caption = f"Criteria of convergence after cycle {last.cycle}, all of which have to be met."
    return [Table(caption, ("criterion", "met", "how it stands"), table)]


# ---------------------------------------------------------------- liquids


def _liquids(record: Record) -> list[Drawing]:
    """Density and diffusion by cycle, with errors, and g(r) of the last cycles."""
    found = [(c.number, c.liquid) for c in record.cycles if c.liquid and not c.liquid.fault]
    if len(found) < 2:
        return []
    panels = []
    samples = {
        ("Density", "density, g/cm³"): [(cycle, one.density) for cycle, one in found],
        ("Diffusion", "apparent D, Å²/ps"): [(cycle, one.diffusion) for cycle, one in found],
    }
    for (title, axis), cycles in samples.items():
        known = [(cycle, *mean_with_error(values)) for cycle, values in cycles if len(values) > 1]
        if known:
            x, y, error = np.array(known, float).T
            panels.append(Panel(title, "cycle", axis, [Curve("by the model", x, y, error, "both")], integer_x=True))
    shown = [(cycle, *curves_of(one)) for cycle, one in found[-3:] if one.g]
    curves = [
        Curve(f"cycle {cycle}", r, g.mean(axis=0), colour=colour)
        for (cycle, r, g), colour in zip(shown, thermal_colours(len(shown)), strict=True)
    ]
    panels += [Panel("Structure: centres of mass", "r, Å", "g(r)", curves)] if curves else []
    caption = (
        "The same short runs by the models of successive cycles (section validate): mean and standard error of blocks "
        "of the run at constant pressure, of molecules at constant volume, and g(r) of the last cycles."
    )
    return [Drawing("liquids", caption, partial(lines, panels, columns=3), list(rows(panels)))]


# ---------------------------------------------------------------- baselines


def _baselines(record: Record) -> list[Drawing]:
    """Learning curves of the committee's selection and of the baselines beside it."""
    runs = _runs(record)
    if len(runs) == 1:
        return []
    curves = []
    for name, seeds in runs.items():
        points = [_point([seed[k] for seed in seeds if len(seed) > k]) for k in range(max(map(len, seeds)))]
        table = np.array([point for point in points if point is not None], float).reshape(-1, 3)
        title = name if len(seeds) == 1 else f"{name}, {len(seeds)} seeds"
        curves.append(Curve(title, table[:, 0], 1e3 * table[:, 1], 1e3 * table[:, 2], style="both"))
    panel = Panel(
        "Test set, by way of selecting", "training labels", "force RMSE, meV/Å", curves, x_log=True, y_log=True
    )
    caption = (
        "Force error on the test set of committees trained on frames that the committee's deviation, chance or "
        "diversity alone chose from the same explored frames, as many each. Error bars: the standard error of the mean "
        "over the seeds of a baseline; of a single run, that of the test frames, which all runs share."
    )
    return [Drawing("arms", caption, partial(lines, [panel]), list(rows([panel])))]


def _runs(record: Record) -> dict[str, list[Seed]]:
    """The committee's one run and every seed of every baseline, the first cycle included, which all share."""
    first = [cycle.errors for cycle in record.cycles[:1] if cycle.errors]
    runs: dict[str, list[Seed]] = {"committee": [[c.errors for c in record.cycles if c.errors]]}
    for name, seeds in record.baselines.items():
        if any(seeds):
            runs[name] = [[*first, *errors] for errors in seeds if errors]
    return runs


def _point(seeds: Sequence[records.TrainErrors]) -> tuple[float, float, float] | None:
    """Training labels, mean test error and its standard error in eV/Å, of one cycle of all seeds."""
    labels = [_labels(one) for one in seeds]
    found = [root_with_error(values) for one in seeds if (values := _frame_errors(one))]
    if not found:
        return None
    roots = np.array([root for root, _ in found])
    alone = len(roots) == 1 or np.ptp(roots) == 0  # the first cycle is one run, which all seeds share
    error = found[0][1] if alone else roots.std(ddof=1) / np.sqrt(len(roots))
    return float(np.mean(labels)), float(roots.mean()), float(error)


def _lead(record: Record) -> list[Table]:
    """How much better or worse each baseline is than the committee, cycle by cycle."""
    runs = _runs(record)
    ours = runs.pop("committee")[0]
    table = []
    for k, errors in enumerate(ours[1:], start=1):
        mine = _frame_errors(errors)
        for name, seeds in runs.items():
            theirs = [values for seed in seeds if len(seed) > k and len(values := _frame_errors(seed[k])) == len(mine)]
            if len(mine) > 1 and theirs:
                gap, error = (1e3 * value for value in ahead(mine, theirs))
                own = 1e3 * root_with_error(mine)[0]
                cells = (f"{own:.1f}", name, str(len(theirs)), f"{own - gap:.1f}", f"{gap:+.1f} ± {error:.1f}")
                table.append((str(k), f"{_labels(errors)}", *cells))
    caption = (
        "Force error on the test set, in meV/Å, of the committee's selection and of the mean over a baseline's seeds; "
        "below zero the committee is better. The error is that of the paired difference over test frames and of the "
        "scatter of the seeds, which the committee's one run is taken to share."
    )
    header = ("cycle", "training labels", "committee", "baseline", "seeds", "its error", "committee − baseline")
    return [Table(caption, header, table)] if table else []


def _labels(errors: records.TrainErrors) -> int:
    return errors.train.mean.overall.frames


def _frame_errors(errors: records.TrainErrors) -> list[float]:
    """Mean square force error of each test frame in (eV/Å)²."""
    return errors.test.frame_force_mse_ev2_angstrom2


# ---------------------------------------------------------------- learning-curve extrapolation


def _extrapolation(record: Record) -> list[str]:
    """What the next 100 labels would likely bring, and how the same law did for the last cycle."""
    known = [c.errors for c in record.cycles if c.errors]
    labels, errors = [_labels(one) for one in known], [_frame_errors(one) for one in known]
    if len(known) < 2 or not all(labels) or not all(errors):
        return []
    noise = _noise(known)
    found = extrapolation(labels, errors, noise=noise)
    first, last = (1e3 * root_with_error(errors[k])[0] for k in (0, -1))
    if found is None:
        fell = f"from {first:.0f} to {last:.0f} meV/Å through {len(known)} cycles"
        return [f"More labels have not lowered the error on the test set so far ({fell}): no law to extrapolate."]
    notes = [
        f"The next 100 labels would likely bring the force error on the test set from {1e3 * found.now:.0f} to "
        f"{1e3 * found.then:.0f} ± {1e3 * found.error:.0f} meV/Å, if the power law through {len(known)} cycles goes on."
    ]
    before = extrapolation(labels[:-1], errors[:-1], labels[-1] - labels[-2], noise)
    if before is not None:
        notes.append(
            f"For the last {labels[-1] - labels[-2]:.0f} labels the law through the {len(known) - 1} cycles before "
            f"gave {1e3 * before.then:.0f} ± {1e3 * before.error:.0f} meV/Å; it became {1e3 * found.now:.0f}."
        )
    return notes


def _noise(cycles: Sequence[records.TrainErrors]) -> float:
    """Standard deviation of log(error) on the test set between the models of a committee, over all cycles."""
    variances = []
    for errors in cycles:
        roots = [model.overall.force_rmse_ev_angstrom for model in errors.test.models]
        known = np.log([root for root in roots if root])
        if len(known) > 1:
            variances.append(known.var(ddof=1))
    return float(np.sqrt(np.mean(variances))) if variances else 0.0
