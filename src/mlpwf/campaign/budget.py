"""The core-hours a campaign may spend on labels, and what is left of them."""

from __future__ import annotations

from pathlib import Path

from mlpwf.campaign.accounting import read_costs
from mlpwf.campaign.records import LabelSummary, read

WITHOUT_LIMIT = 10**9
"""Labels that a budget buys while no label has cost anything."""


def label_core_hours(campaign: Path | str) -> float:
    """CPU-hours of all label jobs below a campaign's folder, those running included."""
    return sum(cost.cpu_s for cost in read_costs(campaign) if cost.stage == "label") / 3600


def affordable_labels(campaign: Path | str, budget_core_hours: float) -> int:
    """Labels that what is left of the budget buys, at the mean cost of this campaign's labels so far."""
    left_s = 3600 * (budget_core_hours - label_core_hours(campaign))
    if left_s <= 0:
        return 0
    summaries = [read(path, LabelSummary) for path in Path(campaign).rglob("label/summary.json")]
    bought = sum(summary.accepted for summary in summaries)
    cpu_s = sum(summary.accepted * (summary.label_cpu_s_mean or 0.0) for summary in summaries)
    return int(left_s / (cpu_s / bought)) if cpu_s > 0 else WITHOUT_LIMIT
