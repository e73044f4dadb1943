"""The plan of a campaign: its work at the prices known, beside what it has cost so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlpwf.calculators.foresight import boxes
from mlpwf.calculators.registry import calculator
from mlpwf.campaign import paths
from mlpwf.campaign.accounting import read_costs
from mlpwf.campaign.pricing import Price, calibration, rate_price
from mlpwf.config import Campaign, Site
from mlpwf.label.store import Store
from mlpwf.plan.work import Sizes, Stages, Work, after_cycles, of_cycle, production, together
from mlpwf.tables import table

NOTHING = Price(0.0)
HEADER = ("stage", "next cycle: jobs", "CPU-h", "at most: jobs", "CPU-h", "spent, CPU-h")


class Plan:
    """The prices of one campaign.

    Parameters
    ----------
    campaign, site
        What is asked for, and where.
    folder
        The campaign's folder; it need not be there.
    """

    def __init__(self, campaign: Campaign, site: Site, folder: Path) -> None:
        self.campaign, self.paths = campaign, paths.Campaign(folder)
        self.done = sum(cycle.select.status.is_file() for _, cycle in self.paths.cycles)
        self._count_spent()
        self._price_labels(site)
        past = together(of_cycle(campaign, cycle, self.sizes) for cycle in range(0 if self.classical else self.done))
        useful = {stage: self.spent[stage] - self.wasted[stage] for stage in self.spent}
        self.rates = calibration({stage: work.cpu_s for stage, work in past.items()}, useful)

    @property
    def classical(self) -> bool:
        """Whether a given force field moves the molecules."""
        return self.campaign.simulate.force_field is not None

    def _count_spent(self) -> None:
        """CPU-s by stage: all, and those of jobs that were killed or failed."""
        self.spent: dict[str, float] = defaultdict(float)
        self.wasted: dict[str, float] = defaultdict(float)
        for cost in read_costs(self.paths.path):
            self.spent[cost.stage] += cost.cpu_s
            if cost.finished is False:
                self.wasted[cost.stage] += cost.cpu_s

    def _price_labels(self, site: Site) -> None:
        """Price of a label, and of one computed once more with everything converged; sizes of boxes."""
        c = self.campaign
        self.boxes = boxes(c)
        self.foreseen = calculator(c.label, site).foresee(self.boxes, Store(site.label_store).known())
        multiples = c.build.box_multiples
        self.label = sum((self.foreseen.label[one] for one in multiples), NOTHING) * (1 / len(multiples))
        self.converged = sum(self.foreseen.converged.values(), NOTHING)
        smallest = self.boxes[0].atoms // self.boxes[0].multiple
        molecules = sum(molecule.count for molecule in c.system.molecules.values())
        self.sizes = Sizes(smallest, round(sum(multiples) / len(multiples) * smallest), molecules)

    def _left(self) -> tuple[Stages, Stages]:
        """Work of the next cycle, and at most of all that is left."""
        c, sizes = self.campaign, self.sizes
        ended = self.classical or self.paths.final.record.is_file()
        cycles = range(0) if ended else range(self.done, c.select.maximum_cycles)
        every: list[Stages] = [of_cycle(c, cycle, sizes) for cycle in cycles]
        nearest = together(every[:1])
        if not self.paths.report.page.is_file():
            every.append(production(c, sizes) if self.classical else after_cycles(c, sizes))
        return _with_jobs(nearest), _with_jobs(together(every))

    def _price(self, stage: str, work: Work) -> Price:
        if stage == "label":
            return self.label * work.labels + self.converged * work.converged
        return rate_price(stage, work.cpu_s, self.rates)

    def lines(self) -> Iterator[str]:
        """The plan as text."""
        nearest, total = self._left()
        yield from self._heading()
        yield from self._table((nearest, total))
        wasted = sum(self.wasted.values()) / 3600
        if wasted:
            yield f"of what was spent, {wasted:.3g} CPU-h went into jobs that were killed or failed"
        budget = self.campaign.label.budget_core_hours
        if budget is not None and not self.classical:
            yield self._budget(budget, total.get("label", Work(0)))

    def _heading(self) -> Iterator[str]:
        name = self.campaign.name
        if self.classical:
            yield f"{name}: production by a force field; nothing to label or to train"
            return
        atoms = ", ".join(f"{box.atoms}" for box in self.boxes)
        volumes = ", ".join(f"{box.volume:.0f}" for box in self.boxes)
        known, last = self.foreseen.known, self.campaign.select.maximum_cycles
        source = f"{known} labels of the store" if known else "labels measured elsewhere"
        yield f"{name}: {self.done} of at most {last} cycles done; {atoms} atoms a label, {volumes} Å³"
        yield f"one label: {self.label.cpu_s:.3g} ± {self.label.error:.2g} CPU-s, from {source}"
        yield from self.foreseen.notes

    def _table(self, parts: Sequence[Stages]) -> list[str]:
        """Jobs and prices of each part, a row a stage, beside what was spent."""
        rows: list[tuple[str, ...]] = [HEADER]
        sums = [NOTHING for _ in parts]
        for stage in dict.fromkeys([*parts[-1], *self.spent]):
            cells = []
            for k, part in enumerate(parts):
                price = self._price(stage, part[stage]) if stage in part else NOTHING
                sums[k] = sums[k] + price
                cells += [str(part[stage].jobs) if stage in part else "–", _hours(price)]
            rows.append((stage, *cells, f"{self.spent[stage] / 3600:.3g}" if stage in self.spent else "–"))
        totals = [cell for price in sums for cell in ("", _hours(price))]
        rows.append(("all", *totals, f"{sum(self.spent.values()) / 3600:.3g}"))
        return table(rows, "<>>>>>")

    def _budget(self, budget: float, labels: Work) -> str:
        """Whether what is left of the budget of core-hours is enough for these labels."""
        room, asked = budget - self.spent["label"] / 3600, self._price("label", labels).cpu_s / 3600
        verdict = "enough" if asked <= room else "not enough: the campaign will end on its budget"
        return f"label.budget_core_hours: {room:.3g} of {budget:g} CPU-h left, {asked:.3g} asked for: {verdict}"


def _with_jobs(stages: Stages) -> dict[str, Work]:
    return {stage: work for stage, work in stages.items() if work.jobs}


def _hours(price: Price) -> str:
    return f"{price.cpu_s / 3600:.3g} ± {price.error / 3600:.2g}" if price.cpu_s else "–"
