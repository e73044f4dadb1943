"""`mlpwf model`: what is printed is true, and works as printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from typer.testing import CliRunner

from mlpwf.errors import ConfigError, DataError
from mlpwf.model.command import app
from mlpwf.structures.frames import write_frames
from mlpwf.structures.molecules import numbered
from toy_water import WATER, labelled, needs_mace, relaxed_box, train_mace, train_on_force_field


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network on a force field, with its record."""
    return train_on_force_field(tmp_path_factory.mktemp("model") / "final")


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.fixture
def box(tmp_path):
    """A box of a user's own: nothing but elements, positions and a cell."""
    atoms = relaxed_box(8, np.random.default_rng(3))
    del atoms.arrays["molecule"]
    ase.io.write(tmp_path / "box.cif", atoms)
    write_frames(tmp_path / "molecules.extxyz", [WATER])
    return tmp_path / "box.cif"


@pytest.mark.engine
def test_it_runs_in_ase_and_in_lammps_as_printed(model: Path, box: Path, tmp_path: Path):
    said = call("show", model)
    assert re.search(r"engine +molecular_deepmd", said)
    script = re.search(r"with ASE:\n\n(.*?)\n\n(?!\s)", said, re.DOTALL)
    lines = [line.removeprefix("    ") for line in script[1].splitlines()]
    lines = ["import ase.io", f"atoms = ase.io.read({str(box)!r})", *lines, "print('eV', atoms.get_potential_energy())"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    energy = float(re.search(r"eV (\S+)", done.stdout)[1])

    out = tmp_path / "it's LAMMPS"
    call("export", model, "--box", box, "--molecules", tmp_path / "molecules.extxyz", "--out", out)
    assert not [path for path in out.iterdir() if path.is_symlink()], "the folder stands alone"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", out / "run.sh"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    (rows,) = re.findall(r"^ *Step .*?\n(.*?)^Loop time", done.stdout, re.DOTALL | re.MULTILINE)
    table = np.array([line.split() for line in rows.splitlines()], float)
    assert table[0, 2] == pytest.approx(energy, abs=2e-3), "LAMMPS prints six digits"
    assert len(table) == 11
    assert np.ptp(table[:, 3]) < 0.02 * abs(table[:, 2]).max()
    with pytest.raises(ConfigError, match="is there already; expected a new folder"):
        call("export", model, "--box", box, "--molecules", tmp_path / "molecules.extxyz", "--out", out)


@pytest.mark.engine
def test_what_lammps_cannot_run_alone_says_so(box: Path, tmp_path: Path):
    needs_mace()
    mace = train_mace(tmp_path / "mace")
    with pytest.raises(ConfigError, match="LAMMPS has no style for the engine mace; expected use from Python"):
        call("export", mace, "--box", box, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_files_are_one_line(tmp_path: Path):
    with pytest.raises(DataError, match="no such model; expected a deployed one"):
        call("show", tmp_path / "none.pb")
    (tmp_path / "a.pb").touch()
    with pytest.raises(DataError, match=r"no check\.json or final\.json beside it"):
        call("show", tmp_path / "a.pb")
    mixed = labelled(relaxed_box(2, np.random.default_rng(1)))
    del mixed.arrays["molecule"]
    with pytest.raises(DataError, match="atoms of a molecule do not follow one another"):
        numbered(mixed[[0, 3, 1, 2, 4, 5]])
    assert numbered(mixed).arrays["molecule"].tolist() == [0, 0, 0, 1, 1, 1]
