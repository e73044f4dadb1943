"""Forces that LAMMPS asks for in each step move a box as those of its own styles do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlpwf.errors import DataError, EngineError, GoneError
from mlpwf.md.lammps import SETUP_FAILED, environment
from mlpwf.md.worker import _Watched
from mlpwf.potentials.base import Spread
from mlpwf.potentials.registry import engine
from mlpwf.structures.frames import write_frames

pytestmark = pytest.mark.engine

RUN = """
import json, sys
from pathlib import Path
import numpy as np
from ase import Atoms
from ase.calculators.lj import LennardJones
from mlpwf.errors import EngineError
from mlpwf.md.lammps import WalkerJob
from mlpwf.md.running_box import BlowUpError, RunningBox
from mlpwf.potentials.base import Ability, Engine, Potential
from mlpwf.potentials.lammps import METAL, LammpsExport
from mlpwf.potentials.outside import forces_from_outside
from mlpwf.structures.lammps_data import write_data
from mlpwf.structures.properties import of_frame

class Argon(Potential):
    elements = ["Ar"]
    calls = 0

    def compute(self, frames):
        Argon.calls += 1
        if sys.argv[1] == "fails" and Argon.calls > 5:
            raise EngineError("the process is gone")
        found = []
        for atoms in frames:
            copy = atoms.copy()
            copy.calc = LennardJones(epsilon=0.0104, sigma=3.4, rc=7.0)
            found.append(of_frame(copy))
            if sys.argv[1] == "nan" and Argon.calls > 5:
                found[-1].forces[:] = np.nan
        return found

native = LammpsExport(
    METAL, "atomic", 1.0, 2.5, lambda target, atoms: write_data(target, atoms, ["Ar"]),
    lambda folder: ["pair_style lj/cut 7.0", "pair_modify shift yes", "pair_coeff * * 0.0104 3.4"],
)
outside = forces_from_outside(Argon(None, ["argon"]), ["Ar"])
job = WalkerJob(**json.loads(Path("job.json").read_text()))
box = RunningBox(job, 5, native if sys.argv[1] == "native" else outside)
box.open()
box.command(f"velocity all create 90 7 mom yes rot no dist gaussian", f"fix motion all {box.npt(0.1, 500.0)}")
try:
    box.run(200, setup=True)
except (BlowUpError, EngineError) as error:
    print("asked", Argon.calls)
    print(type(error).__name__, error)
    raise SystemExit(3)
frame = box.frame()
np.savez(sys.argv[1], positions=frame.positions, cell=frame.cell.array, pe=box.thermo("pe"), press=box.thermo("press"))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tilted box of argon, and a job that names it."""
    place = tmp_path_factory.mktemp("argon")
    crystal = bulk("Ar", "fcc", a=5.4, cubic=True) * (3, 3, 3)
    crystal.set_cell(crystal.cell.array @ np.array([[1, 0, 0], [0.1, 1, 0], [0.05, -0.1, 1.1]]), scale_atoms=True)
    crystal.rotate(30, (1, 2, 3), rotate_cell=True)
    crystal.rattle(0.05, seed=1)
    crystal.arrays["molecule"] = np.arange(len(crystal))
    crystal.arrays["species"] = np.zeros(len(crystal), dtype=int)
    write_frames(place / "box.extxyz", [crystal])
    write_frames(place / "molecules.extxyz", [Atoms("Ar", cell=[9] * 3, pbc=True, info={"species": "argon"})])
    job = {
        "engine": "force_field", "models": [], "box": str(place / "box.extxyz"),
        "references": str(place / "molecules.extxyz"), "seed": 1, "temperature_kelvin": 90.0, "pressure_bar": None,
        "timestep_fs": 2.0, "steps": 200, "steps_between_frames": 5, "blow_up_ev_angstrom": 1e6, "state": "90K",
        "walker": 0,
    }  # fmt: skip
    (place / "job.json").write_text(json.dumps(job))
    return place


def _run(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, how], cwd=folder, env=environment(engine("force_field")), capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_a_box_at_constant_pressure_moves_as_by_the_style_of_lammps(folder: Path):
    for how in ("native", "outside"):
        done = _run(folder, how)
        assert done.returncode == 0, done.stderr[-2000:]
    native, outside = (np.load(folder / f"{how}.npz") for how in ("native", "outside"))
    start = np.loadtxt(folder / "box.extxyz", skiprows=2, usecols=(1, 2, 3))
    assert np.abs(native["positions"] - start).max() > 0.3
    np.testing.assert_allclose(outside["positions"], native["positions"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(outside["cell"], native["cell"], rtol=0, atol=1e-7)
    assert float(outside["pe"]) == pytest.approx(float(native["pe"]), abs=1e-6)
    assert float(outside["press"]) == pytest.approx(float(native["press"]), abs=1e-2)


@pytest.mark.parametrize(("how", "said"), [("fails", "EngineError the process is gone"), ("nan", "BlowUpError ")])
def test_what_goes_wrong_outside_ends_the_run_and_is_said(folder: Path, how: str, said: str):
    done = _run(folder, how)
    assert done.returncode == SETUP_FAILED, done.stderr[-2000:]
    *_, asked, last = done.stdout.splitlines()
    assert last.startswith(said)
    assert asked == "asked 6"  # whose positions are lost is not asked again


@pytest.mark.parametrize(("error", "known"), [(GoneError, False), (EngineError, True), (DataError, True)])
def test_a_process_that_is_gone_says_nothing_of_a_walker(error: type[Exception], known: bool):
    """A committee that has no number for a frame leaves its spread unknown; one that cannot answer ends the job."""

    class Asked:
        def spread(self, frames: list[Atoms]) -> list[Spread]:
            raise error("no answer")

    watched = _Watched.__new__(_Watched)
    watched.committee, watched.box = Asked(), SimpleNamespace(rotation=np.eye(3))
    atoms = Atoms("Ar", cell=[9] * 3, pbc=True)
    if known:
        assert np.isnan(watched._evaluated(atoms).max_force)
        return
    with pytest.raises(GoneError):
        watched._evaluated(atoms)
