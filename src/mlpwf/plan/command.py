"""`mlpwf plan`: what the next cycle and the whole campaign will cost, before anything is submitted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlpwf.config import Campaign, Site, load_campaign, load_site
from mlpwf.config.label_engines import Capability
from mlpwf.tables import table

if TYPE_CHECKING:
    from mlpwf.campaign.pricing import Price


@dataclass(frozen=True)
class Work:
    """What one stage has to do: jobs, and CPU-s by its rate; labels and converged ones by their number."""

    jobs: int
    cpu_s: float = 0.0
    labels: int = 0
    converged: int = 0


def plan(
    system: Annotated[Path, typer.Argument(help="campaign file, as in config/systems")],
    site: Annotated[Path, typer.Option(help="site file, as in config/sites")] = Path("config/sites/local.yaml"),
    results: Annotated[Path, typer.Option(help="folder of all results")] = Path("results"),
) -> None:
    """Price the next cycle and the whole campaign, from what it has cost so far or else from rates measured elsewhere.

    CPU-hours with their standard error; a campaign that converges early costs less.
    """
    campaign, place = load_campaign(system), load_site(site)
    for line in _Plan(campaign, place, results / campaign.name).lines():
        typer.echo(line)


class _Plan:
    """The prices of one campaign."""

    def __init__(self, campaign: Campaign, site: Site, folder: Path) -> None:
        from mlpwf.calculators.foresight import boxes
        from mlpwf.calculators.registry import calculator
        from mlpwf.campaign import paths
        from mlpwf.campaign.accounting import read_costs
        from mlpwf.campaign.pricing import Price, calibration
        from mlpwf.label.store import Store

        self.campaign, self.paths = campaign, paths.Campaign(folder)
        sizes = {box.multiple: box for box in boxes(campaign)}
        multiples = campaign.build.box_multiples
        smallest = sizes[min(multiples)]
        self.atoms, self.volume = smallest.atoms // smallest.multiple, smallest.volume / smallest.multiple
        self.share = sum(multiples) / len(multiples)  # of a labelled box in the smallest, on average
        self.molecules = sum(molecule.count for molecule in campaign.system.molecules.values())
        self.done = sum(cycle.select.status.is_file() for _, cycle in self.paths.cycles)
        self.ended = self.paths.final.record.is_file()
        self.spent: dict[str, float] = defaultdict(float)
        self.wasted: dict[str, float] = defaultdict(float)
        for cost in read_costs(folder):
            self.spent[cost.stage] += cost.cpu_s
            if cost.finished is False:
                self.wasted[cost.stage] += cost.cpu_s
        store = Store(site.label_store)
        self.foreseen = calculator(campaign.label, site).foresee(list(sizes.values()), store.records())
        prices = [self.foreseen.label[multiple] for multiple in multiples]
        self.label = sum(prices, Price(0.0)) * (1 / len(prices))
        self.converged = sum(self.foreseen.converged.values(), Price(0.0))
        past = self._stages(range(self.done), final=False)
        useful = {stage: self.spent[stage] - self.wasted[stage] for stage in self.spent}
        self.rates = calibration({stage: work.cpu_s for stage, work in past.items()}, useful)

    def _stages(self, cycles: Iterable[int], *, final: bool) -> dict[str, Work]:
        """Work by stage of these cycles, and of the stages after the last one."""
        from mlpwf.campaign.pricing import md_s, sampler_s, train_s

        c, atoms = self.campaign, round(self.share * self.atoms)
        if c.simulate.force_field is not None:
            return self._production() if final else {}
        work: dict[str, float] = defaultdict(float)
        jobs: Counter[str] = Counter()
        labels = converged = 0
        for cycle in cycles:
            start = c.build.start_frames(len(c.system.molecules)) if cycle == 0 else c.select.budget
            if cycle == 0:
                frames = start + c.build.test_frames
                labels += c.build.test_frames
                jobs["build"] += 1
                if c.label.error_frames and c.label.can(Capability.LABEL_ERROR):
                    jobs["label"] += 1
                    converged = c.label.error_frames
                work["build"] += sampler_s(frames * c.build.steps_between_frames, atoms)
            lines = 1 + len(c.select.arm_lines) if cycle else 1
            labels += lines * start
            jobs["label"] += lines * -(-start // c.label.batch_frames)
            steps = c.train.steps if cycle == 0 or not c.train.continue_models else c.train.steps_continued
            jobs["train"] += lines * c.train.models
            work["train"] += lines * c.train.models * train_s(steps, atoms)
            states = len(c.explore.temperatures_kelvin) * max(1, len(c.explore.densities_g_cm3))
            jobs["explore"] += states
            work["explore"] += states * c.explore.walkers * md_s(c.explore.steps, atoms, c.train.models)
            liquids = self._liquids(cycle)
            jobs["validate"] += liquids
            work["validate"] += liquids * self._validation_s()
            jobs["select"] += 1
            work["select"] += 10.0
        if final:
            if c.train.steps_final:
                jobs["train"] += 1
                work["train"] += train_s(c.train.steps_final, atoms)
            jobs["validate"] += 1
            if c.train.steps_final or not self._liquids(c.select.maximum_cycles - 1):
                work["validate"] += self._validation_s()
        stages = {
            stage: Work(count, work[stage], *((labels, converged) if stage == "label" else ()))
            for stage, count in jobs.items()
            if count
        }
        return stages | self._production() if final else stages

    def _production(self) -> dict[str, Work]:
        """Work of the stages that follow the last model, or that a force field needs no model for."""
        from mlpwf.campaign.pricing import classical_md_s, md_s

        s = self.campaign.simulate
        states, atoms = len(s.temperatures_kelvin), round(self.atoms / self.molecules * s.molecules)
        steps = round((sum(s.lengths_ps) + states * s.equilibration_ps) * 1e3 / s.timestep_fs)
        dynamics = classical_md_s(steps, atoms) if s.force_field else 8.0 * states + md_s(steps, atoms)
        return {"simulate": Work(states, dynamics), "analyse": Work(1, 15.0), "report": Work(1, 15.0)}

    def _liquids(self, cycle: int) -> int:
        """Runs that compare this cycle's liquid with those of cycles before, but for runs made before."""
        wanted = self.campaign.select.liquid_cycles
        return 0 if not wanted or cycle < wanted - 1 else wanted if cycle == wanted - 1 else 1

    def _validation_s(self) -> float:
        """CPU-s of the runs of one validation, equilibration included."""
        from mlpwf.campaign.pricing import md_s

        v = self.campaign.validate_
        steps = round((v.nve_ps + 1.5 * v.nvt_ps + v.npt_ps) * 1e3 / v.timestep_fs)
        return md_s(steps, round(self.atoms / self.molecules * v.molecules))

    def _price(self, stage: str, work: Work) -> Price:
        from mlpwf.campaign.pricing import rate_price

        if stage == "label":
            return self.label * work.labels + self.converged * work.converged
        return rate_price(stage, work.cpu_s, self.rates)

    def lines(self) -> Iterator[str]:
        """The plan as text."""
        from mlpwf.campaign.pricing import Price

        c, last = self.campaign, self.campaign.select.maximum_cycles
        classical = c.simulate.force_field is not None
        left = range(0) if self.ended or classical else range(self.done, last)
        total = self._stages(left, final=not self.paths.report.page.is_file())
        nearest = self._stages(left[:1], final=False)
        known = self.foreseen.known
        source = f"{known} labels of the store" if known else "labels measured elsewhere"
        if classical:
            yield f"{c.name}: production by a force field; nothing to label or to train"
        else:
            sizes = sorted(set(c.build.box_multiples))
            atoms = ", ".join(f"{self.atoms * multiple}" for multiple in sizes)
            volumes = ", ".join(f"{self.volume * multiple:.0f}" for multiple in sizes)
            yield f"{c.name}: {self.done} of at most {last} cycles done; {atoms} atoms a label, {volumes} Å³"
            yield f"one label: {_seconds(self.label)}, from {source}"
            yield from self.foreseen.notes
        rows: list[tuple[str, ...]] = [("stage", "next cycle: jobs", "CPU-h", "at most: jobs", "CPU-h", "spent, CPU-h")]
        sums = [Price(0.0), Price(0.0)]
        for stage in dict.fromkeys([*total, *self.spent]):
            cells = []
            for k, part in enumerate((nearest, total)):
                price = self._price(stage, part[stage]) if stage in part else Price(0.0)
                sums[k] = sums[k] + price
                cells += [str(part[stage].jobs) if stage in part else "–", _hours(price)]
            rows.append((stage, *cells, f"{self.spent[stage] / 3600:.3g}" if stage in self.spent else "–"))
        spent = sum(self.spent.values()) / 3600
        rows.append(("all", "", _hours(sums[0]), "", _hours(sums[1]), f"{spent:.3g}"))
        yield from table(rows, "<>>>>>")
        wasted = sum(self.wasted.values()) / 3600
        if wasted:
            yield f"of what was spent, {wasted:.3g} CPU-h went into jobs that were killed or failed"
        budget = c.label.budget_core_hours
        if budget is not None and not classical:
            room = budget - self.spent["label"] / 3600
            asked = self._price("label", total["label"]).cpu_s / 3600 if "label" in total else 0.0
            verdict = "enough" if asked <= room else "not enough: the campaign will end on its budget"
            yield f"label.budget_core_hours: {room:.3g} of {budget:g} CPU-h left, {asked:.3g} asked for: {verdict}"


def _hours(price: Price) -> str:
    return f"{price.cpu_s / 3600:.3g} ± {price.error / 3600:.2g}" if price.cpu_s else "–"


def _seconds(price: Price) -> str:
    return f"{price.cpu_s:.3g} ± {price.error:.2g} CPU-s"
