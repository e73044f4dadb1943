"""Liquids from LAMMPS against published numbers, analysed by `mlpwf analyse` alone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlpwf.dynamics.correlators import curve, pass_moments
from mlpwf.dynamics.trajectory import MolecularTrajectory
from mlpwf.dynamics.viscosity import green_kubo

pytestmark = [pytest.mark.engine, pytest.mark.physical_validation]
PROJECT = Path(__file__).parents[2]
BENCHMARKS = PROJECT / "benchmarks"
KA3D = PROJECT.parent / "shared" / "data" / "ka3d"

LENNARD_JONES = """\
units lj
atom_style atomic
lattice fcc 0.8442
region box block 0 4 0 4 0 4
create_box 1 box
create_atoms 1 box
mass 1 1
pair_style lj/cut 2.5
pair_coeff 1 1 1 1
neighbor 0.3 bin
neigh_modify every 5 delay 0 check yes
velocity all create 1.444 7
timestep 0.004
fix move all nve
fix heat all langevin 0.722 0.722 0.5 7 zero yes
run 5000
unfix heat
velocity all zero linear
velocity all scale 0.722
compute p all pressure thermo_temp
fix keep all ave/time 1 10 10 c_p[1] c_p[2] c_p[3] c_p[4] c_p[5] c_p[6] file pressure.txt
fix heat all ave/time 10 100 1000 c_thermo_temp file temperature.txt
run 80000
"""


@pytest.fixture(scope="module")
def kob_andersen():
    spec = importlib.util.spec_from_file_location("kob_andersen", BENCHMARKS / "kob_andersen.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_viscosity_of_the_lennard_jones_liquid_near_its_triple_point(tmp_path, kob_andersen):
    """3.257 ± 0.030 at ρ = 0.8442 and T = 0.722, from LAMMPS: Toraman et al., DOI 10.1021/acs.jcim.5c01475.

    Others there: 3.24 ± 0.04 (Ferrario et al., Phys. Rev. A 44, 6936; DOI 10.1103/PhysRevA.44.6936),
    3.277 ± 0.098 (Meier, Laesecke and Kabelac, DOI 10.1063/1.1770695), 3.268 ± 0.055 (Viscardy,
    Servantie and Gaspard, arXiv cond-mat/0701253).
    """
    (tmp_path / "in.lammps").write_text(LENNARD_JONES)
    kob_andersen.run_lammps(tmp_path)
    stress = np.loadtxt(tmp_path / "pressure.txt")[:, 1:]
    temperature = float(np.loadtxt(tmp_path / "temperature.txt")[:, 1].mean())
    found = green_kubo(stress, 0.04, 256 / 0.8442 / temperature)
    assert found.verdict == "ok"
    assert found.error < 0.15 * found.value
    assert abs(found.value - 3.257) < 3 * np.hypot(found.error, 0.030)


def test_kob_andersen_mixture(tmp_path, kob_andersen):
    """T = 0.64: τ of F_s(7.25) about 8 to 10 and a peak of χ4 of 2.3 to 2.7; a short run, so errors are wide."""
    pieces = kob_andersen.simulate(tmp_path / "run", 0.64, kob_andersen.Run(18, 2, 30), 0.2, seed=640)
    states = kob_andersen.states_file(tmp_path, {0.64: pieces}, 0.2)
    command = [sys.executable, "-m", "mlpwf", "analyse", "--states", str(states), "--out", str(tmp_path / "out")]
    subprocess.run([*command, "--no-figures", "--threads", "1"], check=True)
    times = pd.read_csv(tmp_path / "out" / "relaxation.csv").set_index("correlator")
    counts = pd.read_csv(tmp_path / "out" / "counts.csv").set_index(["correlator", "definition"])
    known = pd.read_csv(BENCHMARKS / "kob_andersen.csv").query("temperature == 0.64").set_index("quantity")
    assert times.tau["fs_q7.25"] == pytest.approx(known.value["tau_fs_q7.25"], rel=0.5)
    assert times.tau["overlap"] == pytest.approx(known.value["tau_overlap"], rel=0.5)
    top = counts.loc[("overlap", "peak of chi4")]
    assert 0.8 < top["count"] < 5.0
    assert 2 < top.time < 25
    assert times.kww_beta["fs_q7.25"] == pytest.approx(known.value["beta_fs_q7.25"], abs=0.12)
    # a run of a few relaxation times says so
    assert (times.equilibration != "equilibrated").all()


@pytest.mark.skipif(not KA3D.is_dir(), reason=f"no folder {KA3D}: it holds isoconfigurational sets of the mixture")
def test_isoconfigurational_sets_at_low_temperature():
    """F_s(7.25) = 0.28 of A particles after time point tc07 at T = 0.44 (Shiba et al., J. Chem. Phys. 158, 084503)."""
    found = []
    for path in sorted(KA3D.glob("*.npz")):
        with np.load(path) as kept:
            chosen = kept["types"] == 0
            first, later = kept["initial_positions"][chosen].astype(float), kept["positions"][:, chosen].astype(float)
        edge = 15.0569
        for moved in later[:8] - first:
            way = moved - edge * np.rint(moved / edge)
            trajectory = MolecularTrajectory.from_arrays(np.array([0.0, 1.0]), np.stack([first, first + way]))
            moments = pass_moments(trajectory, np.array([1]), [7.25], 0.3)
            found.append(float(curve(moments, "fs_q7.25")[0]))
    assert np.mean(found) == pytest.approx(0.28, abs=0.02)
