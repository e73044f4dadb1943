"""From files to molecules: segments of a campaign, any reader of MDAnalysis, unwrapping, drift, bad input."""

import shutil

import numpy as np
import pytest
from MDAnalysis import Universe, Writer
from MDAnalysis.lib.formats.libmdaxdr import TRRFile

from mlpwf.dynamics.reading import Bodies, Snapshot, assemble, read_trajectory
from mlpwf.dynamics.trajectory import FrameFile
from mlpwf.dynamics.universe import snapshots
from mlpwf.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # MDAnalysis' writers fill in what is not there

TIMESTEP_FS = 2.0
INTERVAL = 20  # steps
OFFSETS = np.array([0, 1, 2, 4, 8, 16])
MOLECULES = 5
BOX = np.array([20.0, 21.0, 22.0])


def block_steps(start, stop, end=False):
    steps = (np.arange(start, stop, INTERVAL)[:, None] + OFFSETS).ravel()
    return np.append(steps, stop) if end else steps


def bodies(frames, seed=1):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(frames, MOLECULES, 3)) * 5
    axes = rng.normal(size=(frames, MOLECULES, 2, 3))
    return centres, axes / np.linalg.norm(axes, axis=-1, keepdims=True)


def without_drift(centres, masses=None):
    mean = np.average(centres, axis=1, weights=masses)[:, None]
    return centres - mean + mean[:1]


def write_trr(path, steps, centres, axes, box=np.diag(BOX)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with TRRFile(str(path), "w") as file:
        for step, centre, axis in zip(steps, centres, axes, strict=True):
            beads = np.concatenate([centre[:, None], centre[:, None] + axis], axis=1).reshape(-1, 3)
            time = step * TIMESTEP_FS / 1000
            file.write((beads / 10).astype(np.float32), None, None, box / 10, int(step), time, 0.0, len(beads))
    return path


def write_topology(path, beads=3 * MOLECULES):
    line = "ATOM  {:5d}  C   MOL A{:4d}       0.000   0.000   0.000  1.00  0.00           C\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line.format(n + 1, n // 3 + 1) for n in range(beads)) + "END\n")
    return path


@pytest.fixture
def state(tmp_path):
    """Topology, two segments that share their boundary frame, and what they hold."""
    steps = block_steps(0, 10 * INTERVAL, end=True)
    centres, axes = bodies(len(steps))
    half = int(np.flatnonzero(steps == 5 * INTERVAL)[0])
    files = [
        write_trr(tmp_path / "000.trr", steps[: half + 1], centres[: half + 1], axes[: half + 1]),
        write_trr(tmp_path / "001.trr", steps[half:], centres[half:], axes[half:]),
    ]
    return write_topology(tmp_path / "topology.pdb"), files, (steps, centres, axes)


def test_segments_are_joined_and_a_shared_frame_is_kept_once(state):
    topology, files, (steps, centres, axes) = state
    read = read_trajectory(topology, files, TIMESTEP_FS, remove_drift=False)
    np.testing.assert_allclose(read.times_ps, steps * TIMESTEP_FS / 1000, rtol=1e-12)
    np.testing.assert_allclose(read.centres(), centres, atol=1e-5)
    np.testing.assert_allclose(read.unit_axes(), axes, atol=1e-5)
    np.testing.assert_allclose(read.cell, np.diag(BOX), rtol=1e-6)
    assert (read.molecules, read.run_ps) == (MOLECULES, pytest.approx(0.4))


def test_segments_may_come_in_any_order(state):
    topology, files, _ = state
    forth, back = read_trajectory(topology, files, TIMESTEP_FS), read_trajectory(topology, files[::-1], TIMESTEP_FS)
    np.testing.assert_array_equal(forth.frames, back.frames)


def test_steps_give_times_that_single_precision_cannot(tmp_path):
    steps = 10**9 + block_steps(0, 4 * INTERVAL, end=True)
    file = write_trr(tmp_path / "late.trr", steps, *bodies(len(steps)))
    read = read_trajectory(write_topology(tmp_path / "topology.pdb"), [file], TIMESTEP_FS)
    np.testing.assert_array_equal(read.ticks - read.ticks[0], steps - steps[0])
    assert read.tick_ps == pytest.approx(TIMESTEP_FS / 1000)


def test_reading_leaves_no_files_behind(state):
    topology, files, _ = state
    before = sorted(topology.parent.iterdir())
    read_trajectory(topology, files, TIMESTEP_FS, scratch=topology.parent)
    assert sorted(topology.parent.iterdir()) == before


def test_drift_is_removed_with_masses_and_nothing_else(state):
    topology, files, (steps, centres, axes) = state
    drift = 0.01 * steps[:, None, None] * np.array([1.0, -2.0, 0.5])
    write_trr(files[0], steps, centres + drift, axes)
    read = read_trajectory(topology, files[:1], TIMESTEP_FS)
    np.testing.assert_allclose(read.centres(), without_drift(centres), atol=1e-4)
    masses = np.array([18.0, 92.0, 18.0, 92.0, 18.0])
    weighed = read_trajectory(topology, files[:1], TIMESTEP_FS, masses=masses, species=list("abaab"))
    np.testing.assert_allclose(weighed.centres(), without_drift(centres, masses)[:, [0, 2, 3, 1, 4]], atol=1e-4)
    np.testing.assert_array_equal(weighed.masses, masses[[0, 2, 3, 1, 4]])


def damage_missing(topology, files):
    files[1].unlink()


def damage_empty(topology, files):
    files[1].write_bytes(b"")


def damage_truncated(topology, files):
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[: len(whole) - 57])


def damage_garbage(topology, files):
    files[1].write_bytes(b"not a trajectory at all" * 10)


def damage_nan(topology, files):
    centres, axes = bodies(2)
    centres[1, 2, 0] = np.nan
    write_trr(files[1], [300, 301], centres, axes)


def damage_axes(topology, files):
    centres, axes = bodies(2)
    write_trr(files[1], [300, 301], centres, 1.3 * axes)


def damage_box(topology, files):
    write_trr(files[1], [300, 301], *bodies(2), box=np.diag(BOX * 1.01))


def damage_tilt(topology, files):
    write_trr(files[1], [300, 301], *bodies(2), box=np.diag(BOX) + np.eye(3, k=-1))


def damage_beads(topology, files):
    write_topology(topology, beads=3 * MOLECULES + 3)


def damage_third_bead(topology, files):
    write_topology(topology, beads=3 * MOLECULES - 1)


def damage_topology(topology, files):
    topology.unlink()


def damage_gap(topology, files):
    shutil.copy(files[0], files[1])
    write_trr(files[1], block_steps(200, 240), *bodies(12))


def damage_time(topology, files):
    write_trr(files[1], [150, 40], *bodies(2))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing, "no such file"),
        (damage_empty, "empty"),
        (damage_truncated, "truncated"),
        (damage_garbage, "not TRR"),
        (damage_nan, "NaN"),
        (damage_axes, "axis is 1.3"),
        (damage_box, "the box varies"),
        (damage_tilt, "the box varies"),
        (damage_beads, "topology.pdb has 18"),
        (damage_third_bead, "expected 3 beads"),
        (damage_topology, "no topology"),
        (damage_gap, "a segment may be missing"),
        (damage_time, "times do not increase"),
    ],
)
def test_damaged_files_are_named(state, damage, message):
    topology, files, _ = state
    damage(topology, files)
    with pytest.raises(DataError, match=message):
        read_trajectory(topology, files, TIMESTEP_FS)


def test_a_single_frame_is_too_few(tmp_path):
    file = write_trr(tmp_path / "one.trr", [0], *bodies(1))
    with pytest.raises(DataError, match="at least 2"):
        read_trajectory(write_topology(tmp_path / "topology.pdb"), [file], TIMESTEP_FS)


# Any trajectory: three-atom molecules in a box, whose atoms wrap one by one


def molecules_in_box(frames=40, count=8, seed=4, edges=BOX, step=0.3):
    """Unwrapped positions (frames, 3 count, 3) of bent molecules that diffuse and turn, and the bodies."""
    rng = np.random.default_rng(seed)
    shape = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [-0.3, 0.9, 0.0]])
    centres = rng.uniform(0, edges, (count, 3)) + np.cumsum(rng.normal(scale=step, size=(frames, count, 3)), axis=0)
    frame, _ = np.linalg.qr(rng.normal(size=(frames, count, 3, 3)))
    atoms = centres[:, :, None] + np.einsum("fmij,aj->fmai", frame, shape)
    first = 3 * np.arange(count)
    found = Bodies(
        molecule=np.repeat(np.arange(count), 3),
        masses=np.tile([16.0, 1.0, 1.0], count),
        species=("water",) * count,
        axes=np.stack([np.stack([first, first + 1], axis=1)]),
    )
    return atoms.reshape(frames, -1, 3), found


def shots(positions, cells, interval=0.5):
    return [Snapshot(interval * n, p, c) for n, (p, c) in enumerate(zip(positions, cells, strict=True))]


def wrapped(positions, cells):
    parts = np.einsum("fai,fij->faj", positions, np.linalg.inv(cells))
    return np.einsum("fai,fij->faj", parts - np.floor(parts), cells)


@pytest.mark.parametrize("cell", [np.diag(BOX), np.diag(BOX) + np.array([[0, 0, 0], [4.0, 0, 0], [3.0, -5.0, 0]])])
def test_wrapping_by_atoms_changes_nothing(cell):
    positions, found = molecules_in_box()
    cells = np.broadcast_to(cell, (len(positions), 3, 3))
    plain = assemble(shots(positions, cells), found, unwrap=False)
    again = assemble(shots(wrapped(positions, cells), cells), found)
    np.testing.assert_allclose(again.frames, plain.frames, atol=2e-5)


def test_every_reader_gives_the_same(tmp_path):
    positions, found = molecules_in_box()
    cells = np.broadcast_to(np.diag(BOX), (len(positions), 3, 3))
    residues = found.molecule
    universe = Universe.empty(24, n_residues=8, atom_resindex=residues, trajectory=True)
    universe.dimensions = [*BOX, 90, 90, 90]
    reference = assemble(shots(positions, cells), found)
    told = {"dcd": 0.5}  # whose writer is not known
    for suffix in ("xtc", "dcd", "trr", "h5md"):
        path = tmp_path / f"run.{suffix}"
        options = {"dcd": {"dt": 0.5}, "h5md": {"convert_units": False}}.get(suffix, {})
        with Writer(str(path), n_atoms=24, **options) as writer:
            for number, frame in enumerate(wrapped(positions, cells)):
                universe.atoms.positions = frame
                universe.trajectory.ts.time = 0.5 * number
                writer.write(universe.atoms)
        extra = {"convert_units": False} if suffix == "h5md" else {}
        empty = Universe.empty(24, n_residues=8, atom_resindex=residues)
        read = assemble(snapshots(empty.load_new(str(path), **extra), suffix, interval_ps=told.get(suffix)), found)
        np.testing.assert_allclose(read.times_ps - read.times_ps[0], reference.times_ps, atol=1e-3, err_msg=suffix)
        np.testing.assert_allclose(read.frames[:, :3], reference.frames[:, :3], atol=0.02, err_msg=suffix)


def test_a_varying_box_must_be_told_and_is_unwrapped_without_growth():
    """Particles at rest in relative coordinates on average; image flags times the edge would seem to diffuse."""
    rng = np.random.default_rng(8)
    frames, count = 3000, 20
    edges = 20 * (1 + 0.02 * rng.normal(size=frames))
    cells = edges[:, None, None] * np.eye(3)
    way = np.cumsum(rng.normal(scale=0.4, size=(frames, count, 3)), axis=0) + rng.uniform(0, 20, (count, 3))
    parts = way / 20  # diffusion in a box that breathes
    positions = (parts - np.floor(parts)) * edges[:, None, None]
    flags = np.floor(parts)
    found = Bodies(np.arange(count), np.ones(count), ("a",) * count, np.empty((0, count, 2), dtype=int))
    with pytest.raises(DataError, match="told that it varies"):
        assemble(shots(positions, cells), found)
    read = assemble(shots(positions, cells), found, constant_box=False, remove_drift=False)
    assert not read.constant_box
    naive = positions + flags * edges[:, None, None]

    def spread(places, lag):
        return float(np.mean(np.sum((places[lag:] - places[:-lag]) ** 2, axis=-1)))

    expected = 3 * 0.4**2
    breathing = 2 * np.mean((0.02 * positions) ** 2) * 3  # a place in the box moves with the box
    centres = read.centres()
    assert spread(centres, 1) == pytest.approx(expected + breathing, rel=0.1)
    # far from home the flags count many boxes, and each breathes
    assert spread(naive[2000:], 1) > 1.5 * spread(centres[2000:], 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p, c: (np.where(np.arange(24)[:, None] == 5, np.nan, p), c), "NaN"),
        (lambda p, c: (p[:, :-3], c), "the topology has 24"),
        (lambda p, c: (p, c * 0), "no box"),
        (lambda p, c: (p, -c), "right-handed"),
        (lambda p, c: (p + np.arange(40)[:, None, None] % 2 * np.where(np.arange(24) == 4, 9.0, 0)[:, None], c), "0.4"),
        (lambda p, c: (p + np.arange(40)[:, None, None] * 9.0, c), "moved 0.4"),
        (lambda p, c: (p[:1], c[:1]), "at least 2"),
    ],
)
def test_bad_snapshots_are_named(spoil, message):
    positions, found = molecules_in_box()
    cells = np.broadcast_to(np.diag(BOX), (len(positions), 3, 3))
    with pytest.raises(DataError, match=message):
        assemble(shots(*spoil(positions, cells)), found)


def test_bonds_make_long_molecules_whole():
    """A chain longer than half of the box, wrapped by atoms."""
    chain = np.array([[0.5 + 1.5 * k, 3.0, 3.0] for k in range(8)])
    cells = np.broadcast_to(np.eye(3) * 16.0, (3, 3, 3))
    positions = chain + np.array([0.0, 1.0, 2.0])[:, None, None]
    axes = np.array([[[0, 7]]])
    bonded = Bodies(np.zeros(8, int), np.ones(8), ("a",), axes, parents=np.array([0, 0, 1, 2, 3, 4, 5, 6]))
    read = assemble(shots(wrapped(positions, cells), cells), bonded, remove_drift=False)
    np.testing.assert_allclose(read.frames[:, :3, 0], np.array([0.0, 1.0, 2.0])[:, None] * np.ones(3), atol=1e-5)
    np.testing.assert_allclose(read.unit_axes()[:, 0, 0], [[1, 0, 0]] * 3, atol=1e-6)
    with pytest.raises(DataError, match="its bonds must be given"):
        assemble(shots(positions, cells), Bodies(np.zeros(8, int), np.ones(8), ("a",), axes))


def test_what_does_not_fit_in_memory_stays_in_a_file(tmp_path):
    positions, found = molecules_in_box(frames=200)
    cells = np.broadcast_to(np.diag(BOX), (len(positions), 3, 3))
    small = assemble(shots(positions, cells), found, memory_mb=0.01, scratch=tmp_path)
    assert isinstance(small.frames, FrameFile)
    np.testing.assert_array_equal(small.frames[0:200], assemble(shots(positions, cells), found).frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masses": np.ones(5)}, "masses has shape"),
        ({"molecule": np.repeat([0, 2], 3)}, "not numbered"),
        ({"axes": np.zeros((1, 3, 2), int)}, "axes has shape"),
        ({"masses": np.zeros(6)}, "no mass"),
    ],
)
def test_impossible_bodies_are_refused(change, message):
    good = {
        "molecule": np.repeat([0, 1], 3),
        "masses": np.ones(6),
        "species": ("a", "a"),
        "axes": np.zeros((0, 2, 2), int),
    }
    with pytest.raises(DataError, match=message):
        Bodies(**{**good, **change})
