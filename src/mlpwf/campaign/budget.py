"""The core-hours a campaign may spend on labels, and what is left of them."""

from __future__ import annotations

from pathlib import Path

from mlpwf.campaign.accounting import read_costs
from mlpwf.files import read_json


def label_core_hours(campaign: Path | str) -> float:
    """CPU-hours of all label jobs below a campaign's folder, those running included."""
    return sum(cost.cpu_s for cost in read_costs(campaign) if cost.stage == "label") / 3600


def affordable_labels(campaign: Path | str, budget_core_hours: float) -> int:
    """Labels that what is left of the budget buys, at the mean cost of this campaign's labels so far."""
    bought, cpu_s = 0, 0.0
    for path in Path(campaign).rglob("label/summary.json"):
        summary = read_json(path)
        bought += summary["accepted"]
        cpu_s += summary["accepted"] * (summary["label_cpu_s_mean"] or 0.0)
    left = 3600 * (budget_core_hours - label_core_hours(campaign))
    if left <= 0:
        return 0
    return int(left / (cpu_s / bought)) if cpu_s > 0 else 10**9
