"""Options of the command line become the settings of an analysis, or say what is wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mlpwf.analyse.options import Options, masses_of, trajectories_of
from mlpwf.errors import ConfigError

OPTIONS = Options(
    trajectory=[Path("a.trr"), Path("b.trr")], topology=Path("a.pdb"), ensemble="nvt", temperature_kelvin=300.0,
    molecules="residue", select="all", axis=["C1,C4"], masses=None, timestep_fs=None, interval_ps=None, skip_frames=2,
    lammps_units=None, wavevector=[1.3], overlap_angstrom=None,
)  # fmt: skip


def test_options_are_one_state_whose_files_are_one_run() -> None:
    settings = trajectories_of(OPTIONS)
    (state,) = settings.states
    assert state.trajectories == [[Path("a.trr"), Path("b.trr")]]
    assert (state.temperature_kelvin, state.ensemble) == (300.0, "nvt")
    assert settings.axes == [("C1", "C4")]
    assert settings.skip_frames == 2
    assert settings.analyse.wavevectors_per_angstrom == [1.3]
    assert settings.analyse.overlap_angstrom > 0, "an option that is not given leaves the default"


@pytest.mark.parametrize("name", ["topology", "ensemble", "temperature_kelvin"])
def test_a_missing_option_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} is missing"):
        trajectories_of(dataclasses.replace(OPTIONS, **{name: None}))


def test_masses_are_read_each_once() -> None:
    assert masses_of(None) is None
    assert masses_of("equal") == "equal"
    assert masses_of("1=12.011,2=1.008") == {"1": 12.011, "2": 1.008}
    for words in ("1=12,1=13", "1:12", "1=heavy", ""):
        with pytest.raises(ConfigError, match="expected 'equal', or masses such as"):
            masses_of(words)
