"""The toluene campaign with real pw.x, dp and LAMMPS: a small one, and by hand the shipped one (`-m long`)."""

import csv
import shutil

import pytest

from campaign import check_complete, read

pytestmark = [
    pytest.mark.engine,
    pytest.mark.campaign,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]


def test_a_small_toluene_campaign_runs_to_its_end(small_toluene):
    check_complete(small_toluene)


def test_its_model_is_stable_and_accurate_for_its_few_labels(small_toluene):
    """1 ps of NVT at 300 K, every molecule intact; forces of held-out frames from fewer than twenty labels."""
    nvt = read(small_toluene / "validate" / "runs.json")["nvt"]
    assert nvt["stable"] is True, nvt
    assert nvt["intact"] is True, nvt
    errors = read(small_toluene / "validate" / "errors.json")["overall"]
    assert errors["force_rmse_ev_angstrom"] < 0.15, errors
    assert errors["force_inter_rmse_ev_angstrom"] < 0.3, errors


@pytest.mark.long
def test_tiny_toluene_runs_to_its_end(tiny_toluene):
    check_complete(tiny_toluene)


@pytest.mark.long
def test_the_final_toluene_model_is_stable(tiny_toluene):
    """5 ps of NVT at 300 K, every molecule intact."""
    runs = read(tiny_toluene / "validate" / "runs.json")
    nvt = runs["nvt"]
    assert nvt["stable"] is True, nvt
    assert nvt["intact"] is True, nvt
    config = read(tiny_toluene / "config" / "validate.json")
    assert (config["nvt_ps"], config["temperature_kelvin"]) == (5.0, 300.0)


@pytest.mark.long
def test_the_final_toluene_model_is_accurate(tiny_toluene):
    """Forces of the held-out frames, and the net forces on molecules, from fewer than forty labels."""
    errors = read(tiny_toluene / "validate" / "errors.json")["overall"]
    assert errors["force_rmse_ev_angstrom"] < 0.1, errors
    assert errors["force_inter_rmse_ev_angstrom"] < 0.12, errors


@pytest.mark.long
def test_orchestration_is_a_small_part_of_the_cores_time(tiny_toluene):
    """mlpwf itself and Snakemake beside the engines, as the report shows them: at most 5 % of wall × cores."""
    with (tiny_toluene / "report" / "figures" / "whole.csv").open(newline="") as handle:
        hours = {row["part"].rsplit(" ", 2)[0]: float(row["value"]) for row in csv.DictReader(handle)}
    assert set(hours) == {"engines", "mlpwf itself", "Snakemake", "idle"}
    assert hours["engines"] > 0
    assert hours["mlpwf itself"] + hours["Snakemake"] <= 0.05 * sum(hours.values()), hours
