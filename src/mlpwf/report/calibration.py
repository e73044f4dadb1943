"""The report on trust: what deviations were worth, and where the trust levels lay."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from mlpwf.campaign import records
from mlpwf.figures import PALETTE, Curve, Panel, lines, rows, thermal_colours
from mlpwf.potentials.calibration import POOLED, from_record
from mlpwf.report.gather import Cycle, Record
from mlpwf.report.parts import Drawing, Part, Table

CHANNELS = {"inter": "Net force on molecules", "intra": "Forces inside molecules"}


def calibration(record: Record) -> Part:
    """Reliability by cycle, the map of the last cycle, and trust levels."""
    return Part(
        "calibration",
        "Calibration",
        drawings=[*_reliability(record), *_maps(record)],
        tables=[*_checks(record), *_levels(record)],
        warnings=_warnings(record),
    )


def _calibrated(record: Record) -> list[tuple[Cycle, records.Calibration]]:
    return [(cycle, cycle.calibration) for cycle in record.cycles if cycle.calibration]


def _reliability(record: Record) -> list[Drawing]:
    """True against expected error of each cycle's new labels, by the map made before them."""
    cycles = [(cycle, found.reliability) for cycle, found in _calibrated(record) if found.reliability]
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
    which = f"cycle {cycles[0][0].number}'s" if len(cycles) == 1 else "each cycle's"
    caption = (
        f"Root-mean-square error of a force component on {which} new labels, before they were trained on, "
        "against what the map of the cycle before expected; bins of equal size. On the line a deviation is worth "
        "what the map expected; above it the committee was too sure."
    )
    return [Drawing("reliability", caption, partial(lines, panels, height=4.0), list(rows(panels)))]


def _maps(record: Record) -> list[Drawing]:
    """The maps of the last cycle, as far as they were made from pairs, and the bound of the one of all pairs."""
    found = _calibrated(record)
    if not found:
        return []
    cycle, last = found[-1]
    panels = []
    for channel, title in CHANNELS.items():
        if channel not in last.maps:
            continue
        maps = from_record(last.maps[channel])
        x = np.geomspace(
            0.5 * min(one.deviation[0] for one in maps.values()), max(m.largest for m in maps.values()), 80
        )
        curves = [Curve(name, 1e3 * x, 1e3 * one.expected(x)) for name, one in list(maps.items())[:6]]
        bound = 1e3 * maps[POOLED].bound(x)
        if np.isfinite(bound).all():
            curves.append(Curve(f"{POOLED}, bound", 1e3 * x, bound, style="dashed", colour=PALETTE[0]))
        curves.append(Curve("error = deviation", 1e3 * x, 1e3 * x, style="dashed", colour=PALETTE[-1]))
        panels.append(Panel(title, "deviation, meV/Å", "expected error, meV/Å", curves, x_log=True, y_log=True))
    if not panels:
        return []
    caption = (
        f"The map of cycle {cycle.number}, from {last.frames} frames ({last.source}), up to the largest deviation it "
        "was made from; all: all pairs; other names where data allow; the bound is what 90 % of errors should stay "
        "below."
    )
    return [Drawing("calibration", caption, partial(lines, panels, height=3.4), list(rows(panels)))]


def _checks(record: Record) -> list[Table]:
    table = [
        (str(cycle.number), CHANNELS.get(channel, channel), f"{check.frames}", _percent(check.covered),
         _percent(check.beyond), f"{check.ratio:.2g}", "yes" if check.holds else "no")
        for cycle, found in _calibrated(record) for channel, check in found.check.items()
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


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _levels(record: Record) -> list[Table]:
    """Trust levels of each cycle, and whose they are."""
    table = []
    for cycle in record.cycles:
        if cycle.status is None:
            continue
        trust = cycle.status.trust
        if trust.force:
            table.append((str(cycle.number), "largest deviation", "the user's", *_pair(trust.force)))
            continue
        for channel, levels in trust.levels.items():
            for name, pair in levels.items():
                table.append((str(cycle.number), f"{CHANNELS.get(channel, channel)}: {name}", "target", *_pair(pair)))
    header = ("cycle", "deviation of", "from", "lower, eV/Å", "upper, eV/Å")
    return [Table("Trust levels of the deviation.", header, table)] if table else []


def _pair(levels: Sequence[float]) -> tuple[str, str]:
    return f"{levels[0]:.3g}", f"{levels[1]:.3g}"


def _warnings(record: Record) -> list[str]:
    """A sentence for each map that did not hold for the newest labels."""
    found = _calibrated(record)
    if not found:
        return []
    cycle, last = found[-1]
    return [
        f"The map ({CHANNELS.get(channel, channel).lower()}) did not hold for the labels of cycle {cycle.number}: "
        f"{check.message}."
        for channel, check in last.check.items()
        if not check.holds
    ]
