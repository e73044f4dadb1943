"""The report on trust: what deviations were worth, where the trust levels lay, which criteria are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlpwf.report.figures import Curve, Panel, lines, rows, thermal_colours
from mlpwf.report.gather import Cycle, Record, number
from mlpwf.report.page import Drawing, Part, Table, trained_on
from mlpwf.stopping import outlook, root_with_error

CHANNELS = {"inter": "Net force on molecules", "intra": "Forces inside molecules"}
MET = {True: "yes", False: "no", None: "not known yet"}


def calibration(record: Record) -> Part:
    """Reliability by cycle, the map of the last cycle, trust levels, and the criteria of convergence."""
    return Part(
        "calibration",
        "Calibration and criteria",
        drawings=[*_reliability(record), *_maps(record), *_arms(record)],
        tables=[*_criteria(record), *_checks(record), *_levels(record)],
        notes=_outlook(record),
        warnings=_warnings(record),
    )


def _calibrated(record: Record) -> list[tuple[Cycle, Mapping[str, Any]]]:
    return [(cycle, cycle.calibration) for cycle in record.cycles if cycle.calibration]


def _reliability(record: Record) -> list[Drawing]:
    """True against expected error of each cycle's new labels, by the map made before them."""
    cycles = [(c, d["reliability"]) for c, d in _calibrated(record) if d.get("reliability")]
    colours = thermal_colours(len(cycles))
    panels = []
    for channel, title in CHANNELS.items():
        curves = []
        for (cycle, points), colour in zip(cycles, colours, strict=True):
            table = np.array(points.get(channel) or np.zeros((0, 3)), float) * [1e3, 1e3, 1]
            table = table[(table[:, 0] > 0) & (table[:, 1] > 0)]
            if len(table):
                curves.append(Curve(f"cycle {cycle.number}", table[:, 0], table[:, 1], style="both", colour=colour))
        if curves:
            panels.append(
                Panel(
                    title, "expected error, meV/Å", "true error of new labels, meV/Å", curves,
                    x_log=True, y_log=True, diagonal=True,
                )
            )  # fmt: skip
    if not panels:
        return []
    caption = (
        "Root-mean-square error of a force component on each cycle's new labels, before they were trained on, "
        "against what the map of the cycle before expected; bins of equal size. On the line a deviation is worth "
        "what was said; above it the committee was too sure."
    )
    return [Drawing("reliability", caption, lines(panels, height=4.0), list(rows(panels)))]


def _maps(record: Record) -> list[Drawing]:
    """The map of the last cycle."""
    found = _calibrated(record)
    if not found:
        return []
    cycle, document = found[-1]
    panels = []
    for channel, title in CHANNELS.items():
        maps = document.get("maps", {}).get(channel, {})
        curves = [
            Curve(
                name, np.array(one["deviation_ev_angstrom"], float) * 1e3,
                np.array(one["error_ev_angstrom"], float) * 1e3, style="both",
            )
            for name, one in maps.items()
        ]  # fmt: skip
        if curves:
            panels.append(Panel(title, "deviation, meV/Å", "expected error, meV/Å", curves[:7], x_log=True, y_log=True))
    if not panels:
        return []
    caption = (
        f"The map of cycle {cycle.number}, from {number(document, 'frames') or 0:.0f} frames "
        f"({document.get('source', 'source not recorded')}); all: all pairs; other names where data allow."
    )
    return [Drawing("calibration", caption, lines(panels), list(rows(panels)))]


def _arms(record: Record) -> list[Drawing]:
    """Learning curves of the committee's selection and of the arms beside it."""
    first = [cycle.errors for cycle in record.cycles[:1] if cycle.errors]
    runs: dict[str, list[Mapping[str, Any]]] = {"committee": [c.errors for c in record.cycles if c.errors]}
    runs |= {name: [*first, *errors] for name, errors in record.arms.items() if errors}
    if len(runs) == 1:
        return []
    curves = []
    for name, documents in runs.items():
        points = [
            (number(one, "train", "mean", "overall", "frames"), *root_with_error(values))
            for one in documents if (values := _frame_errors(one))
        ]  # fmt: skip
        table = np.array([point for point in points if point[0] is not None], float).reshape(-1, 3)
        curves.append(Curve(name, table[:, 0], 1e3 * table[:, 1], 1e3 * table[:, 2], style="both"))
    panel = Panel(
        "Test set, by way of selecting", "training labels", "force RMSE, meV/Å", curves, x_log=True, y_log=True
    )
    caption = (
        "Force error on the test set of committees trained on frames that the committee's deviation, chance or "
        "diversity alone chose from the same explored frames, as many each; error bars from the test frames."
    )
    return [Drawing("arms", caption, lines([panel]), list(rows([panel])))]


def _frame_errors(errors: Mapping[str, Any]) -> list[float]:
    """Mean square force error of each test frame in (eV/Å)²."""
    test = errors.get("test")
    return list(test.get("frame_force_mse_ev2_angstrom2") or []) if isinstance(test, dict) else []


def _criteria(record: Record) -> list[Table]:
    last = next((c for c in reversed(record.cycles) if c.status and c.status.get("criteria")), None)
    if last is None or last.status is None:
        return []
    table = [(str(one["name"]), MET.get(one["met"], "–"), str(one["said"])) for one in last.status["criteria"]]
    caption = (
        f"Criteria of convergence after cycle {last.number}, all of which have to be met. Density, g(r) and diffusion "
        "of successive models are not among them yet."
    )
    return [Table(caption, ("criterion", "met", "how it stands"), table)]


def _checks(record: Record) -> list[Table]:
    table = [
        (str(cycle.number), CHANNELS.get(channel, channel), f"{check['frames']}", _percent(check.get("covered")),
         _percent(check.get("beyond")), f"{number(check, 'ratio') or 0:.2g}", "yes" if check.get("holds") else "no")
        for cycle, document in _calibrated(record) for channel, check in document.get("check", {}).items()
    ]  # fmt: skip
    header = (
        "cycle",
        "force",
        "new frames",
        "within the bound",
        "deviations beyond all pairs",
        "true / expected",
        "map holds",
    )
    caption = "The map of the cycle before, on each cycle's new labels: 90 % of errors should be within the bound."
    return [Table(caption, header, table)] if table else []


def _percent(value: Any) -> str:
    return f"{100 * value:.0f} %" if isinstance(value, int | float) else "–"


def _levels(record: Record) -> list[Table]:
    """Trust levels of each cycle, and whose they are."""
    table = []
    for cycle in record.cycles:
        trust = (cycle.status or {}).get("trust")
        if not isinstance(trust, dict):
            continue
        own = trust.get("force")
        if own:
            table.append((str(cycle.number), "largest deviation", "the user's", *_pair(own)))
            continue
        for channel, levels in trust.get("levels", {}).items():
            for name, pair in levels.items():
                table.append((str(cycle.number), f"{CHANNELS.get(channel, channel)}: {name}", "target", *_pair(pair)))
    header = ("cycle", "deviation of", "from", "lower, eV/Å", "upper, eV/Å")
    return [Table("Trust levels of the deviation.", header, table)] if table else []


def _pair(levels: Sequence[float]) -> tuple[str, str]:
    return f"{levels[0]:.3g}", f"{levels[1]:.3g}"


def _outlook(record: Record) -> list[str]:
    """What the next 100 labels would likely bring."""
    known = [(trained_on(c), values) for c in record.cycles if c.errors and (values := _frame_errors(c.errors))]
    labels = [count for count, _ in known if count is not None]
    found = outlook(labels, [errors for _, errors in known]) if len(labels) == len(known) else None
    if found is None:
        return []
    return [
        f"The next 100 labels would likely bring the force error on the test set from {1e3 * found.now:.0f} to "
        f"{1e3 * found.then:.0f} ± {1e3 * found.error:.0f} meV/Å, if the power law through {len(known)} cycles goes on."
    ]


def _warnings(record: Record) -> list[str]:
    """A sentence for each map that did not hold for the newest labels."""
    found = _calibrated(record)
    if not found:
        return []
    cycle, document = found[-1]
    return [
        f"The map ({CHANNELS.get(channel, channel).lower()}) did not hold for the labels of cycle {cycle.number}: "
        f"{check.get('said')}."
        for channel, check in document.get("check", {}).items() if not check.get("holds")
    ]  # fmt: skip
