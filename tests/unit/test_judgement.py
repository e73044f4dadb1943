"""One verdict on a potential: good, not yet or broken, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlpwf.campaign import records
from mlpwf.campaign.judgement import judge
from mlpwf.campaign.records import Npt, Nve, Nvt, ValidateRuns, Verdict
from mlpwf.files import read_json
from mlpwf.validate.command import app

CONVERGED = Verdict(cycle=3, verdict="converged", reason="all criteria are met")


def runs(**changes: object) -> ValidateRuns:
    """Runs with which nothing is wrong, but for the changes."""
    sound = {"stable": True, "reason": "", "intact": True, "steps": 1000}
    found = {
        "nve": Nve(**sound, drift_mev_atom_ps=0.001, drift_error_mev_atom_ps=0.002),
        "nvt": Nvt(**sound, mean_pressure_bar=20.0, pressure_error_bar=90.0),
        "npt": Npt(**sound, density_expected_g_cm3=0.867, density_g_cm3=0.86, density_error_g_cm3=0.004),
    }
    asked = {
        "seed": 1, "model_sha256": "ab", "molecules_sha256": "cd", "molecules": 32, "temperature_kelvin": 300.0,
        "timestep_fs": 0.5, "nve_ps": 1.0, "nvt_ps": 1.0, "npt_ps": 1.0, "pressure_bar": 1.0,
    }  # fmt: skip
    return ValidateRuns(**asked, **(found | changes))


def test_a_sound_potential_of_a_converged_campaign_is_good():
    found = judge(CONVERGED, runs())
    assert (found.verdict, found.reasons, found.model_sha256) == ("good", [], "ab")


@pytest.mark.parametrize(
    ("last", "changes", "verdict", "said"),
    [
        (Verdict(cycle=1, verdict="limit", reason="2 cycles, 12 % candidates"), {}, "not yet", "2 cycles, 12 %"),
        (
            CONVERGED,
            {"nve": Nve(stable=True, reason="", intact=True, drift_mev_atom_ps=-0.4, drift_error_mev_atom_ps=0.1)},
            "not yet", r"drifts by -0.400 ± 0.100 meV/atom/ps; expected at most 0.05",
        ),
        (
            CONVERGED,
            {"npt": Npt(stable=True, reason="", density_expected_g_cm3=0.867, density_g_cm3=0.7,
                        density_error_g_cm3=0.005)},
            "not yet", "0.700 ± 0.005 g/cm³, 19% less than the 0.867 of the system",
        ),
        (
            CONVERGED,
            {"nvt": Nvt(stable=False, reason="temperature 4000 K", intact=False)},
            "broken", "the run at constant N, V, T blew up: temperature 4000 K",
        ),
        (
            Verdict(cycle=1, verdict="limit", reason="too few"),
            {"npt": Npt(stable=True, reason="", intact=False, density_expected_g_cm3=1.0, density_g_cm3=1.0,
                        density_error_g_cm3=0.01,
                        broken="C1–H8 of molecule 3 is 1.61 Å long; expected less than 1.39, after 0.4 ps")},
            "broken", "molecules broke in the run at constant N, p, T: C1–H8 of molecule 3 is 1.61 Å long",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(last: Verdict, changes: dict, verdict: str, said: str):
    found = judge(last, runs(**changes))
    assert found.verdict == verdict
    assert said in found.reasons[0]
    assert len(found.reasons) == 1 + (verdict == "broken" and last.verdict != "converged")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nve": Nve(stable=True, reason="", intact=True)}, "the drift of the energy is not known"),
        ({"npt": Npt(stable=True, reason="", density_expected_g_cm3=1.0)}, "the density is not known: the run is too"),
    ],
)
def test_what_is_not_known_is_not_good(changes: dict, said: str):
    found = judge(CONVERGED, runs(**changes))
    assert found.verdict == "not yet"
    assert said in found.reasons[0]


def test_differences_within_their_errors_are_no_reason():
    drifting = Nve(stable=True, reason="", intact=True, drift_mev_atom_ps=0.4, drift_error_mev_atom_ps=0.2)
    light = Npt(stable=True, reason="", density_expected_g_cm3=0.867, density_g_cm3=0.7, density_error_g_cm3=0.06)
    assert judge(CONVERGED, runs(nve=drifting, npt=light)).verdict == "good"


def test_the_command_writes_it(tmp_path: Path):
    last = records.Final(cycle=1, verdict="exhausted", reason="no frame is left", model="m", sha256={})
    given = {"final": tmp_path / "final.json", "runs": tmp_path / "runs.json", "out": tmp_path / "verdict.json"}
    records.write(given["final"], last)
    records.write(given["runs"], runs())
    words = [word for name, path in given.items() for word in (f"--{name}", str(path))]
    CliRunner().invoke(app, ["verdict", *words], catch_exceptions=False)
    found = read_json(given["out"])
    assert (found["verdict"], found["reasons"]) == ("not yet", ["no frame is left"])
