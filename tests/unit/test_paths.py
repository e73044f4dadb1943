"""Paths of a campaign: said once, numbers or wildcards alike, and complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlpwf.campaign.paths import Campaign, Line, named, numbered

PROJECT = Path(__file__).parents[2]
CAMPAIGN = Campaign(Path("results/water"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (CAMPAIGN.cycle(7).train.model(1).check, "cycle/007/train/model/1/check.json"),
        (CAMPAIGN.cycle("{cycle}").explore("{state}").frames, "cycle/{cycle}/explore/{state}/frames.extxyz"),
        (CAMPAIGN.line("{line}").cycle("{cycle}").train.errors, "{line}/{cycle}/train/errors.json"),
        (CAMPAIGN.line("arm/random/1").cycle(2).label.labels, "arm/random/1/002/label/labels.extxyz"),
        (CAMPAIGN.set("{set}").batch("{batch}"), "{set}/label/batch/{batch}.json"),
        (CAMPAIGN.cycle(0).select.selected("arm/random/1"), "cycle/000/select/arm/random/1.extxyz"),
        (CAMPAIGN.simulate("300K").segment(12).summary, "simulate/300K/segment/012/summary.json"),
        (CAMPAIGN.cycle_config(3, "train"), "config/cycle/003/train.json"),
    ],
)
def test_numbers_have_three_digits_and_wildcards_stay(path: Path, expected: str) -> None:
    assert path == Path("results/water") / expected


def test_what_has_begun_is_listed_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("cycle/000", "cycle/001", "cycle/010", "cycle/.tmp", "arm/random/2/001", "simulate/300K/segment"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "cycle" / "002").write_text("")
    campaign = Campaign(tmp_path)
    assert [number for number, _ in campaign.cycles] == [0, 1, 10]
    assert campaign.arms("random") == [Line(tmp_path / "arm" / "random" / "2")]
    assert campaign.states == ["300K"]
    assert numbered(tmp_path / "absent") == named(tmp_path / "absent") == []


def test_rules_ask_for_their_paths() -> None:
    """No rule puts a path below the campaign's folder together by itself."""
    for rules in sorted((PROJECT / "workflow" / "rules").glob("*.smk")):
        code = re.sub(r'^""".*?"""', "", rules.read_text(), flags=re.S)
        assert "{C}/" not in code, rules.name
