"""A study of convergence: cut-offs on the smallest box, k-points on each, for each set of pseudopotentials."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from ase import Atoms

from mlpwf.calculators.base import Bench, Report, StudyRequest
from mlpwf.calculators.espresso.box_convergence import Box, converge_box, foreseen
from mlpwf.calculators.espresso.convergence import Errors, Measurement, Row, Setting, Study, converge, rate
from mlpwf.calculators.espresso.cost import Size, label_price, size_of
from mlpwf.calculators.espresso.study_report import Result, report
from mlpwf.config.label import Label
from mlpwf.structures.properties import of_frame

log = logging.getLogger(__name__)


def study(request: StudyRequest, bench: Bench) -> Report:
    """The cheapest cut-offs, k-points and box whose forces and virials are within a target.

    Parameters
    ----------
    request
        Sets, frames and target.
    bench
        What labels frames, through the store.
    """
    target = Errors(request.force_ev_angstrom, request.virial_ev_atom)
    result = Result(request.sets, target, request.sizes, request.about, multiples=request.multiples)
    for name, settings in request.sets.items():
        measuring = _Measuring(name, settings, bench)
        beside = Setting.of(settings) if name == result.configured else None
        result.studies[name], result.boxes[name] = _of_set(measuring, request, target, beside)
    return report(result)


def _of_set(
    measuring: _Measuring, request: StudyRequest, target: Errors, beside: Setting | None
) -> tuple[Study, list[Box]]:
    """One set's study; `beside`: the configured setting, to be rated too."""
    sizes = request.sizes
    smallest = next(iter(sizes.values()))
    found = converge(measuring.of(smallest), smallest, target, request.highest_cutoff_ry, measuring.say)
    if found.chosen is None:
        if beside is None:
            return found, []
        row, _ = rate("configured", beside, measuring.of(smallest), smallest, None)
        measuring.say(row)
        return found, [Box(len(smallest[0]), [row], configured=row)]
    cheap, reference = found.chosen.setting, found.highest.setting
    boxes = []
    for atoms, members in sizes.items():
        to_come = {
            size: sum(
                measuring.price(larger, setting)
                for setting in foreseen([one.cell.array for one in larger], cheap, reference, target)
            )
            for size, larger in sizes.items()
            if size >= atoms
        }
        log.info(
            "%s: boxes of %d atoms: about %.0f CPU-s; with all larger ones about %.0f CPU-s",
            measuring.name, atoms, to_come[atoms], sum(to_come.values()),
        )  # fmt: skip
        boxes.append(converge_box(measuring.of(members), members, target, cheap, reference, beside, measuring.say))
    return found, boxes


class _Measuring:
    """Labels frames with settings of one set, and says beforehand what that may cost."""

    def __init__(self, name: str, settings: Label, bench: Bench) -> None:
        self.name, self.settings, self.bench = name, settings, bench
        self.known: list[tuple[Size, float]] = []

    def of(self, frames: Sequence[Atoms]) -> Callable[[Setting], Measurement]:
        """What labels `frames` with a setting."""
        return partial(self._measure, frames)

    def _measure(self, frames: Sequence[Atoms], setting: Setting) -> Measurement:
        varied = self._varied(setting)
        missing = self.bench.missing(varied, frames)
        if missing:
            log.info(
                "%s: %s, %d atoms: %d of %d labels to compute, about %.0f CPU-s",
                self.name, setting, len(frames[0]), len(missing), len(frames), self.price(missing, setting),
            )  # fmt: skip
        found = self.bench.label(varied, frames)
        self.known += [(self._size(atoms, setting), cpu_s) for atoms, (_, cpu_s) in zip(frames, found, strict=True)]
        return Measurement([of_frame(label) for label, _ in found], float(np.mean([cpu_s for _, cpu_s in found])))

    def price(self, frames: Sequence[Atoms], setting: Setting) -> float:
        """CPU-s of labels, from those of this study."""
        return sum(label_price(self._size(atoms, setting), self.known).cpu_s for atoms in frames)

    def _size(self, atoms: Atoms, setting: Setting) -> Size:
        return size_of(self._varied(setting), len(atoms), atoms.cell.array)

    def _varied(self, setting: Setting) -> Label:
        return self.settings.model_copy(update=setting.section())

    def say(self, row: Row) -> None:
        """A line for what was rated."""
        found = row.failure or f"{row.cpu_s:.1f} CPU-s"
        if row.errors is not None:
            found += f", force {row.errors.force:.4f} eV/Å, virial {row.errors.virial:.4f} eV/atom"
        log.info("%s: %d atoms, %s %s: %s", self.name, row.atoms, row.lever, row.setting, found)
