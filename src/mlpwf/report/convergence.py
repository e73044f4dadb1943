"""The report on the end: which criteria are met, whether cycles agree on the liquid, what more labels would bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from mlpwf.campaign.agreement import from_document, mean_with_error
from mlpwf.campaign.stopping import ahead, outlook, root_with_error
from mlpwf.figures import Curve, Panel, lines, rows, thermal_colours
from mlpwf.report.gather import Record, number, trained_on
from mlpwf.report.parts import Drawing, Part, Table

MET = {True: "yes", False: "no", None: "not known yet"}
Documents = Sequence[Mapping[str, Any]]


def convergence(record: Record) -> Part:
    """Criteria, the liquids of the cycles, learning curves of the arms, and the outlook."""
    return Part(
        "convergence",
        "Convergence",
        drawings=[*_liquids(record), *_arms(record)],
        tables=[*_criteria(record), *_lead(record)],
        notes=_outlook(record),
    )


def _criteria(record: Record) -> list[Table]:
    last = next((c for c in reversed(record.cycles) if c.status and c.status.get("criteria")), None)
    if last is None or last.status is None:
        return []
    table = [(str(one["name"]), MET.get(one["met"], "–"), str(one["said"])) for one in last.status["criteria"]]
    caption = f"Criteria of convergence after cycle {last.number}, all of which have to be met."
    return [Table(caption, ("criterion", "met", "how it stands"), table)]


# ---------------------------------------------------------------- liquids


def _liquids(record: Record) -> list[Drawing]:
    """Density and diffusion by cycle, with errors, and g(r) of the last cycles."""
    found = [one for c in record.cycles if c.liquid and not (one := from_document(c.liquid)).fault]
    if len(found) < 2:
        return []
    panels = []
    samples = {
        ("Density", "density, g/cm³"): [(one.cycle, one.density_g_cm3) for one in found],
        ("Diffusion", "apparent D, Å²/ps"): [(one.cycle, one.diffusion_angstrom2_per_ps) for one in found],
    }
    for (title, axis), cycles in samples.items():
        known = [(cycle, *mean_with_error(values)) for cycle, values in cycles if len(values) > 1]
        if known:
            x, y, error = np.array(known, float).T
            panels.append(Panel(title, "cycle", axis, [Curve("by the model", x, y, error, "both")], integer_x=True))
    shown = [one for one in found[-3:] if len(one.g)]
    curves = [
        Curve(f"cycle {one.cycle}", one.r_angstrom, one.g.mean(axis=0), colour=colour)
        for one, colour in zip(shown, thermal_colours(len(shown)), strict=True)
    ]
    panels += [Panel("Structure: centres of mass", "r, Å", "g(r)", curves)] if curves else []
    caption = (
        "The same short runs by the models of successive cycles (section validate): mean and standard error of blocks "
        "of the run at constant pressure, of molecules at constant volume, and g(r) of the last cycles."
    )
    return [Drawing("liquids", caption, partial(lines, panels, columns=3), list(rows(panels)))]


# ---------------------------------------------------------------- arms


def _arms(record: Record) -> list[Drawing]:
    """Learning curves of the committee's selection and of the arms beside it."""
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
        "over the seeds of an arm; of a single run, that of the test frames, which all runs share."
    )
    return [Drawing("arms", caption, partial(lines, [panel]), list(rows([panel])))]


def _runs(record: Record) -> dict[str, list[Documents]]:
    """Errors cycle by cycle of the committee's line and of every seed of every arm, the shared first cycle included."""
    first = [cycle.errors for cycle in record.cycles[:1] if cycle.errors]
    runs: dict[str, list[Documents]] = {"committee": [[c.errors for c in record.cycles if c.errors]]}
    for name, seeds in record.arms.items():
        if any(seeds):
            runs[name] = [[*first, *errors] for errors in seeds if errors]
    return runs


def _point(documents: Documents) -> tuple[float, float, float] | None:
    """Training labels, mean test error and its standard error in eV/Å, of one cycle of all seeds."""
    labels = [count for one in documents if (count := _labels(one)) is not None]
    found = [root_with_error(values) for one in documents if (values := _frame_errors(one))]
    if not labels or not found:
        return None
    roots = np.array([root for root, _ in found])
    alone = len(roots) == 1 or np.ptp(roots) == 0  # the first cycle is one run, which all seeds share
    error = found[0][1] if alone else roots.std(ddof=1) / np.sqrt(len(roots))
    return float(np.mean(labels)), float(roots.mean()), float(error)


def _lead(record: Record) -> list[Table]:
    """How much better or worse each arm is than the committee, cycle by cycle."""
    runs = _runs(record)
    ours = runs.pop("committee")[0]
    table = []
    for k, document in enumerate(ours[1:], start=1):
        mine = _frame_errors(document)
        for name, seeds in runs.items():
            theirs = [values for seed in seeds if len(seed) > k and len(values := _frame_errors(seed[k])) == len(mine)]
            if len(mine) > 1 and theirs:
                gap, error = (1e3 * value for value in ahead(mine, theirs))
                own = 1e3 * root_with_error(mine)[0]
                cells = (f"{own:.1f}", name, str(len(theirs)), f"{own - gap:.1f}", f"{gap:+.1f} ± {error:.1f}")
                table.append((str(k), f"{_labels(document) or 0:.0f}", *cells))
    caption = (
        "Force error on the test set, in meV/Å, of the committee's selection and of the mean over an arm's seeds; "
        "below zero the committee is better. The error is that of the paired difference over test frames and of the "
        "scatter of the seeds, which the committee's one run is taken to share."
    )
    header = ("cycle", "training labels", "committee", "arm", "seeds", "arm's error", "committee − arm")
    return [Table(caption, header, table)] if table else []


def _labels(errors: Mapping[str, Any]) -> float | None:
    return number(errors, "train", "mean", "overall", "frames")


def _frame_errors(errors: Mapping[str, Any] | None) -> list[float]:
    """Mean square force error of each test frame in (eV/Å)²."""
    test = (errors or {}).get("test")
    return list(test.get("frame_force_mse_ev2_angstrom2") or []) if isinstance(test, dict) else []


# ---------------------------------------------------------------- outlook


def _outlook(record: Record) -> list[str]:
    """What the next 100 labels would likely bring, and how the same law did for the last cycle."""
    known = [(count, values) for c in record.cycles if (count := trained_on(c)) and (values := _frame_errors(c.errors))]
    labels, errors = [count for count, _ in known], [values for _, values in known]
    if len(known) < max(2, len([c for c in record.cycles if c.errors])):
        return []
    noise = _noise(record)
    found = outlook(labels, errors, noise=noise)
    first, last = (1e3 * root_with_error(errors[k])[0] for k in (0, -1))
    if found is None:
        fell = f"from {first:.0f} to {last:.0f} meV/Å through {len(known)} cycles"
        return [f"More labels have not lowered the error on the test set so far ({fell}): no law to look ahead by."]
    said = [
        f"The next 100 labels would likely bring the force error on the test set from {1e3 * found.now:.0f} to "
        f"{1e3 * found.then:.0f} ± {1e3 * found.error:.0f} meV/Å, if the power law through {len(known)} cycles goes on."
    ]
    before = outlook(labels[:-1], errors[:-1], labels[-1] - labels[-2], noise)
    if before is not None:
        said.append(
            f"For the last {labels[-1] - labels[-2]:.0f} labels the law through the {len(known) - 1} cycles before "
            f"gave {1e3 * before.then:.0f} ± {1e3 * before.error:.0f} meV/Å; it became {1e3 * found.now:.0f}."
        )
    return said


def _noise(record: Record) -> float:
    """Standard deviation of log(error) on the test set between the models of a committee, over all cycles."""
    variances = []
    for cycle in record.cycles:
        test = (cycle.errors or {}).get("test")
        models = test.get("models") if isinstance(test, dict) else None
        roots = [number(one, "overall", "force_rmse_ev_angstrom") for one in models or []]
        known = np.log([root for root in roots if root])
        if len(known) > 1:
            variances.append(known.var(ddof=1))
    return float(np.sqrt(np.mean(variances))) if variances else 0.0
