"""What status and report need of resolved sections."""

import json

import pytest

from mlpwf.campaign.paths import Campaign
from mlpwf.campaign.sections import read_sections
from mlpwf.errors import DataError


@pytest.fixture
def campaign(tmp_path):
    (tmp_path / "config").mkdir()
    return Campaign(tmp_path)


def put(campaign, section, values):
    campaign.config(section).write_text(json.dumps(values))


def test_sections_that_are_not_there_have_defaults(campaign):
    found = read_sections(campaign)
    assert (found.report.title, found.select.all_baselines, found.simulate.asked_ps, found.classical) == (
        None,
        [],
        {},
        False,
    )


def test_keys_that_are_not_needed_are_no_matter(campaign):
    put(campaign, "simulate", {"temperatures_kelvin": [300, 350.5], "length_ps": 100, "a_key_of_0.1": 1, "seed": 5})
    put(campaign, "report", {"title": "Toluene", "seed": 5})
    found = read_sections(campaign)
    assert found.simulate.asked_ps == {"300K": 100.0, "350.5K": 100.0}
    assert found.report.title == "Toluene"


def test_one_length_for_each_state(campaign):
    put(campaign, "simulate", {"temperatures_kelvin": [300, 350], "length_ps": [100, 20], "force_field": {"a": "b"}})
    found = read_sections(campaign)
    assert found.simulate.asked_ps == {"300K": 100.0, "350K": 20.0}
    assert found.classical


@pytest.mark.parametrize("key", ["baselines", "arms"])
def test_baselines_are_read_under_their_earlier_name_too(campaign, key):
    put(campaign, "select", {key: ["random"]})
    assert read_sections(campaign).select.all_baselines == ["random"]


def test_the_target_of_net_forces_is_that_of_atoms_unless_given(campaign):
    put(campaign, "select", {"target_error_mev_angstrom": 80})
    assert read_sections(campaign).select.targets == {"inter": 0.08, "intra": 0.08}
    put(campaign, "select", {"target_error_mev_angstrom": 80, "target_inter_error_mev_angstrom": 50})
    assert read_sections(campaign).select.targets == {"inter": 0.05, "intra": 0.08}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"temperatures_kelvin": "cold"}'])
def test_a_section_that_cannot_be_read_is_an_error_or_has_defaults(campaign, text):
    campaign.config("simulate").write_text(text)
    with pytest.raises(DataError, match=r"simulate.json"):
        read_sections(campaign)
    assert read_sections(campaign, tolerant=True).simulate.states == []
