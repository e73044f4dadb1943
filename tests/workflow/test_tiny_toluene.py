"""The toluene campaign with real pw.x, dp and LAMMPS, as `./start run` runs it."""

import shutil

import pytest

from campaign import check_complete, read

pytestmark = [
    pytest.mark.engine,
    pytest.mark.campaign,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]


def test_tiny_toluene_runs_to_its_end(tiny_toluene):
    check_complete(tiny_toluene)


def test_the_final_toluene_model_is_stable(tiny_toluene):
    """5 ps of NVT at 300 K, every molecule intact."""
    runs = read(tiny_toluene / "validate" / "runs.json")
    nvt = runs["nvt"]
    assert nvt["stable"] is True, nvt
    assert nvt["intact"] is True, nvt
    config = read(tiny_toluene / "config" / "validate.json")
    assert (config["nvt_ps"], config["temperature_kelvin"]) == (5.0, 300.0)
