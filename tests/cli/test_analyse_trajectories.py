"""`mlpwf analyse` on trajectories of any origin: Brownian molecules of three atoms in several formats."""

import json

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from MDAnalysis import Universe, Writer
from typer.testing import CliRunner

from mlpwf.analyse.command import analyse
from mlpwf.dynamics.universe import bodies_of
from mlpwf.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MOLECULES, FRAMES, INTERVAL_PS, EDGE = 30, 400, 0.5, 18.0
DIFFUSION = 0.2  # Å²/ps
MASSES = np.array([12.011, 1.008, 1.008])
REAL = ("--lammps-units", "real")
ARMS = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def walk(seed=1, frames=FRAMES, diffusion=DIFFUSION):
    """Positions (frames, 3N, 3) in Å, unwrapped; molecules slide and do not turn."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(frames, MOLECULES, 3)) * np.sqrt(2 * diffusion * INTERVAL_PS)
    centres = np.cumsum(steps, axis=0) + rng.uniform(0, EDGE, (MOLECULES, 3))
    return (centres[:, :, None] + ARMS).reshape(frames, -1, 3)


def universe_of(positions):
    universe = Universe.empty(
        3 * MOLECULES, n_residues=MOLECULES, atom_resindex=np.repeat(range(MOLECULES), 3), trajectory=True
    )
    universe.add_TopologyAttr("names", ["C", "H1", "H2"] * MOLECULES)
    universe.add_TopologyAttr("types", ["1", "2", "2"] * MOLECULES)
    universe.add_TopologyAttr("elements", ["C", "H", "H"] * MOLECULES)
    universe.add_TopologyAttr("resnames", ["TOY"] * MOLECULES)
    universe.add_TopologyAttr("resids", np.arange(1, MOLECULES + 1))
    universe.add_TopologyAttr("masses", np.tile(MASSES, MOLECULES))
    first = 3 * np.arange(MOLECULES)
    universe.add_TopologyAttr("bonds", [(a, a + k) for a in first for k in (1, 2)])
    universe.dimensions = [EDGE] * 3 + [90] * 3
    universe.atoms.positions = positions[0] % EDGE
    return universe


def write_dump(path, positions, steps):
    """A LAMMPS dump, wrapped atom by atom, so that molecules are split over the box."""
    with path.open("w") as file:
        for step, frame in zip(steps, positions, strict=True):
            file.write(f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(frame)}\nITEM: BOX BOUNDS pp pp pp\n")
            file.write(f"0 {EDGE}\n" * 3 + "ITEM: ATOMS id type x y z\n")
            for k, (x, y, z) in enumerate(frame % EDGE):
                file.write(f"{k + 1} {(1, 2, 2)[k % 3]} {x:.6f} {y:.6f} {z:.6f}\n")


def write_data(path, positions):
    """A LAMMPS data file of style full with masses and bonds."""
    lines = ["toy", "", f"{3 * MOLECULES} atoms", f"{2 * MOLECULES} bonds", "2 atom types", "1 bond types", ""]
    lines += [f"0 {EDGE} {c}lo {c}hi" for c in "xyz"] + ["", "Masses", "", "1 12.011", "2 1.008", ""]
    lines += ["Atoms # full", ""]
    for k, (x, y, z) in enumerate(positions[0] % EDGE):
        lines.append(f"{k + 1} {k // 3 + 1} {(1, 2, 2)[k % 3]} 0.0 {x:.6f} {y:.6f} {z:.6f}")
    bonds = [(3 * m + 1, 3 * m + 1 + k) for m in range(MOLECULES) for k in (1, 2)]
    lines += ["", "Bonds", "", *(f"{n + 1} 1 {a} {b}" for n, (a, b) in enumerate(bonds))]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    positions = walk()
    universe = universe_of(positions)
    universe.atoms.write(str(folder / "box.pdb"), bonds="all")
    write_data(folder / "box.data", positions)
    write_dump(folder / "run.lammpstrj", positions, 500 * np.arange(FRAMES))
    for name in ("run.xtc", "run.trr", "run.dcd", "run.h5md"):
        more = {"lengthunit": "Angstrom", "timeunit": "ps"} if name.endswith("h5md") else {}
        with Writer(str(folder / name), n_atoms=3 * MOLECULES, dt=INTERVAL_PS, **more) as writer:
            for frame, now in enumerate(positions):
                universe.atoms.positions = now % EDGE
                universe.trajectory.ts.time = frame * INTERVAL_PS
                universe.trajectory.ts.frame = frame
                writer.write(universe)
    return folder


def run(*options):
    app = typer.Typer()
    app.command()(analyse)
    return CliRunner().invoke(app, [str(option) for option in options])


STATE = ("--temperature-kelvin", 300, "--ensemble", "nvt", "--threads", 1, "--no-figures")


@pytest.mark.parametrize(
    ("trajectory", "topology", "more"),
    [
        ("run.xtc", "box.pdb", ("--molecules", "residue")),
        ("run.trr", "box.pdb", ("--molecules", "bonds")),
        ("run.dcd", "box.data", ("--molecules", "molecule", "--interval-ps", INTERVAL_PS)),
        ("run.h5md", "box.data", ("--molecules", "every 3")),
        ("run.lammpstrj", "box.data", ("--molecules", "bonds", "--timestep-fs", 1, *REAL)),
    ],
)
def test_every_format_gives_the_same_motion(files, tmp_path, trajectory, topology, more, reference):
    axis = ("--axis", "1,2", "--axis", "1,3")
    result = run(
        "--trajectory", files / trajectory, "--topology", files / topology, "--out", tmp_path, *STATE, *more, *axis
    )
    assert result.exit_code == 0, result.exception
    motion = pd.read_csv(tmp_path / "motion.csv")
    np.testing.assert_allclose(motion.time_ps, reference.time_ps, rtol=1e-5)
    np.testing.assert_allclose(motion.msd_angstrom2, reference.msd_angstrom2, rtol=2e-3)
    turned = pd.read_csv(tmp_path / "correlators.csv").query("correlator == 'c1_axis1'")
    np.testing.assert_allclose(turned.value, 1, atol=1e-2)  # molecules split by the box were made whole
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["inputs"]) == 2
    assert summary["settings"]["states"][0]["ensemble"] == "nvt"


@pytest.fixture(scope="module")
def reference():
    """The same by plain NumPy from the unwrapped walk, drift of the centre of mass removed."""
    positions = walk().reshape(FRAMES, MOLECULES, 3, 3)
    centres = np.einsum("a,fmax->fmx", MASSES / MASSES.sum(), positions)
    centres = centres - centres.mean(axis=1, keepdims=True)
    lags = np.arange(1, FRAMES // 2 + 1)
    msd = np.array([np.mean(np.sum((centres[k:] - centres[:-k]) ** 2, axis=2)) for k in lags])

    class Known:
        def __init__(self):
            from mlpwf.dynamics.trajectory import choose_lags

            chosen = choose_lags(np.arange(FRAMES))
            self.time_ps, self.msd_angstrom2 = chosen * INTERVAL_PS, msd[chosen - 1]

    return Known()


def test_states_of_a_file_give_laws_and_the_energy_term(tmp_path):
    """Three temperatures, two runs each, energies and stresses: everything that needs neighbours is there."""
    rng = np.random.default_rng(4)
    states = []
    universe_of(walk()).atoms.write(str(tmp_path / "box.pdb"))
    for temperature, diffusion in ((280, 0.1), (300, 0.2), (330, 0.4)):
        names = []
        for number in (1, 2):
            names.append(f"{temperature}_{number}.dcd")
            positions = walk(temperature + number, diffusion=diffusion)
            universe = universe_of(positions)
            with Writer(str(tmp_path / names[-1]), n_atoms=3 * MOLECULES, dt=INTERVAL_PS) as writer:
                for now in positions:
                    universe.atoms.positions = now % EDGE
                    writer.write(universe)
            times = INTERVAL_PS * np.arange(FRAMES)
            energy = MOLECULES * (1e-3 * temperature + 0.002 * rng.normal(size=FRAMES))
            pd.DataFrame({"time_ps": times, "total_ev": energy}).to_csv(tmp_path / f"{names[-1]}.csv", index=False)
        states.append(
            {
                "temperature_kelvin": temperature, "ensemble": "nvt", "topology": "box.pdb",
                "trajectories": [names[0], [names[1]]], "energy": [f"{name}.csv" for name in names],
            }
        )  # fmt: skip
    document = {"masses": {"C": 12.011, "H1": 1.008, "H2": 1.008}, "states": states, "interval_ps": INTERVAL_PS}
    document |= {"analyse": {"bootstrap": 20, "wavevectors_per_angstrom": [1.0]}}
    (tmp_path / "states.yaml").write_text(yaml.safe_dump(document))
    result = run("--states", tmp_path / "states.yaml", "--out", tmp_path / "out", "--threads", 1)
    assert result.exit_code == 0, result.exception
    table = pd.read_csv(tmp_path / "out" / "states.csv")
    assert (table.runs == 2).all()
    capacity = 1e-3 / 8.617333262e-5
    assert np.abs(table.heat_capacity_kb_per_molecule / capacity - 1).max() < 0.05
    assert set(table.heat_capacity_from) == {"difference of energies between temperatures"}
    counts = pd.read_csv(tmp_path / "out" / "counts.csv").query("correlator == 'fs_q1'")
    three = counts[counts.definition == "three-point N_corr,T"].set_index("temperature_kelvin")
    # C = exp(−q²Dt): max over t of (t ∂C/∂t dln D/dT)² is (dln D/dT/e)²; the three D make 1/28 at 300 K
    slope = np.log(2) / 2 * (1 / 20 + 1 / 30)
    assert three.loc[300, "count"] == pytest.approx(300**2 * (slope / np.e) ** 2 / capacity, rel=0.35)
    assert (three.verdict == "ok").all()
    assert "peak of chi4 of NVE = NVT - energy term" in set(counts.definition)
    laws = pd.read_csv(tmp_path / "out" / "laws.csv")
    assert laws[(laws.quantity == "tau_fs_q1_ps") & (laws.law == "Arrhenius")].verdict.item() == "ok"


def bad(files, tmp_path, *more, trajectory="run.xtc", topology="box.pdb", state=STATE):
    result = run("--trajectory", files / trajectory, "--topology", files / topology, "--out", tmp_path, *state, *more)
    assert isinstance(result.exception, (ConfigError, DataError)), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_bad_requests_are_one_line(files, tmp_path):
    assert "expected one of --simulate, --states, --trajectory" in str(run("--out", tmp_path).exception)
    assert "--ensemble is missing" in bad(files, tmp_path, state=("--temperature-kelvin", 300))
    assert "ensemble" in bad(files, tmp_path, state=("--temperature-kelvin", 300, "--ensemble", "npq"))
    assert "greater than 0" in bad(files, tmp_path, state=("--temperature-kelvin", -1, "--ensemble", "nvt"))
    assert "expected residue, molecule" in bad(files, tmp_path, "--molecules", "mole")
    assert "no multiple of 7" in bad(files, tmp_path, "--molecules", "every 7")
    assert "expected exactly one" in bad(files, tmp_path, "--axis", "C,N")
    assert "selection" in bad(files, tmp_path, "--select", "nonsense 3")
    assert "no atoms" in bad(files, tmp_path, "--select", "name ZZ")
    assert "no such file" in bad(files, tmp_path, trajectory="none.xtc")
    assert "such as 1=12.011" in bad(files, tmp_path, "--masses", "C:12")
    assert "no mass is given for atoms of type or name" in bad(files, tmp_path, "--masses", "C=12.011")
    assert "frame 4000" in bad(files, tmp_path, "--skip-frames", 4000)
    assert "no times; give the time step" in bad(
        files, tmp_path, *REAL, trajectory="run.lammpstrj", topology="box.data"
    )


def test_damaged_or_foolish_trajectories_are_one_line(files, tmp_path):
    whole = (files / "run.xtc").read_bytes()
    (tmp_path / "cut.xtc").write_bytes(whole[: len(whole) // 2 + 5])
    (tmp_path / "not.xtc").write_bytes(b"nothing of the kind" * 50)
    out = tmp_path / "out"
    for name in ("cut.xtc", "not.xtc"):
        said = bad(files, out, trajectory=tmp_path / name)
        assert name in said or "cut short" in said
    positions = walk(frames=60)
    for name, change, said in (
        ("nan", lambda p: p.__setitem__((30, 4, 1), np.nan), "NaN"),
        ("fast", lambda p: p.__imul__(40.0), "write frames more often|reaches over"),
    ):
        now = positions.copy()
        change(now)
        write_dump(tmp_path / f"{name}.lammpstrj", now, 500 * np.arange(60))
        with np.errstate(invalid="ignore"):
            found = bad(
                files, out, "--molecules", "molecule", "--timestep-fs", 1, *REAL, topology="box.data",
                trajectory=tmp_path / f"{name}.lammpstrj",
            )  # fmt: skip
        assert any(word in found for word in said.split("|")), found
    write_dump(tmp_path / "one.lammpstrj", positions[:1], [0])
    options = ("--molecules", "molecule", "--timestep-fs", 1, *REAL)
    assert "at least 2" in bad(files, out, *options, topology="box.data", trajectory=tmp_path / "one.lammpstrj")


def test_a_box_that_changes_must_be_told(files, tmp_path):
    path = tmp_path / "npt.lammpstrj"
    write_dump(path, walk(frames=40), 500 * np.arange(40))
    grown = path.read_text().replace(f"0 {EDGE}\n" * 3, "0 18.5\n" * 3, 20)
    path.write_text(grown)
    options = ("--molecules", "bonds", "--timestep-fs", 1, *REAL)
    assert "NPT" in bad(files, tmp_path / "a", *options, topology="box.data", trajectory=path)
    told = ("--temperature-kelvin", 300, "--ensemble", "npt", "--threads", 1)
    result = run("--trajectory", path, "--topology", files / "box.data", "--out", tmp_path / "b", *told, *options)
    assert result.exit_code == 0, result.exception


def test_a_run_shorter_than_tau_has_verdicts_and_no_laws(files, tmp_path):
    path = tmp_path / "short.lammpstrj"
    write_dump(path, walk(frames=30, diffusion=0.001), 500 * np.arange(30))
    options = ("--molecules", "bonds", "--timestep-fs", 1, *REAL)
    result = run("--trajectory", path, "--topology", files / "box.data", "--out", tmp_path / "a", *STATE, *options)
    assert result.exit_code == 0, result.exception
    table = pd.read_csv(tmp_path / "a" / "relaxation.csv")
    assert (table.tau_verdict == "not decayed").all()
    assert table.tau_ps.isna().all()
    assert not (table.equilibration == "equilibrated").any()


def test_missing_masses_and_joined_molecules_are_errors():
    bare = Universe.empty(6, n_residues=1, atom_resindex=[0] * 6, trajectory=True)
    with pytest.raises(DataError, match="does not tell molecules apart"):
        bodies_of(bare.atoms, "residue", masses="equal")
    with pytest.raises(DataError, match="neither masses nor elements"):
        bodies_of(bare.atoms, "every 3")
    with pytest.raises(DataError, match="no bonds"):
        bodies_of(bare.atoms, "bonds", masses="equal")
    bare.add_TopologyAttr("elements", ["C", "H", "Qq"] * 2)
    with pytest.raises(DataError, match="'Qq' is no element"):
        bodies_of(bare.atoms, "every 3")
    with pytest.raises(DataError, match="one atom twice"):
        bodies_of(bare.atoms, "every 3", axes=[("1", "1")], masses="equal")


def test_masses_of_elements_make_the_centre():
    universe = universe_of(walk(frames=2))
    universe.del_TopologyAttr("masses")
    found = bodies_of(universe.atoms, "residue", axes=[("C", "H1")])
    np.testing.assert_allclose(found.masses[:3], MASSES, rtol=1e-3)
    assert set(found.species) == {"TOY"}
    np.testing.assert_array_equal(found.axes[0][:2], [[0, 1], [3, 4]])
