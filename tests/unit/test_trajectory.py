"""Reading beads from TRR, and the pairs of frames at each lag."""

import shutil

import numpy as np
import pytest
from MDAnalysis.lib.formats.libmdaxdr import TRRFile

from mlpwf.dynamics.trajectory import MolecularTrajectory, lags, linear_interval, read_trajectory, without_drift
from mlpwf.errors import DataError

TIMESTEP_FS = 2.0
INTERVAL = 20  # steps
OFFSETS = np.array([0, 1, 2, 4, 8, 16])
MOLECULES = 5
BOX = np.array([20.0, 21.0, 22.0])


def block_steps(start, stop, end=False):
    steps = (np.arange(start, stop, INTERVAL)[:, None] + OFFSETS).ravel()
    return np.append(steps, stop) if end else steps


def bodies(frames, seed=1, shift=0.0):
    rng = np.random.default_rng(seed)
    centres = shift + rng.normal(size=(frames, MOLECULES, 3)) * 5
    first = rng.normal(size=(frames, MOLECULES, 3))
    first /= np.linalg.norm(first, axis=-1, keepdims=True)
    second = np.cross(first, rng.normal(size=first.shape))
    second /= np.linalg.norm(second, axis=-1, keepdims=True)
    return centres, np.stack([first, second], axis=2)


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
    np.testing.assert_allclose(read.centres, centres, atol=1e-5)
    np.testing.assert_allclose(read.axes, axes, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(read.axes, axis=-1), 1, atol=1e-14)
    np.testing.assert_allclose(read.box, BOX, rtol=1e-6)
    assert read.linear_interval_ps == pytest.approx(INTERVAL * TIMESTEP_FS / 1000)
    assert (read.molecules, read.run_ps) == (MOLECULES, pytest.approx(0.4))


def test_segments_may_come_in_any_order(state):
    topology, files, _ = state
    forth, back = read_trajectory(topology, files, TIMESTEP_FS), read_trajectory(topology, files[::-1], TIMESTEP_FS)
    np.testing.assert_array_equal(forth.centres, back.centres)


def test_steps_give_times_that_single_precision_cannot(tmp_path):
    steps = 10**9 + block_steps(0, 4 * INTERVAL, end=True)
    centres, axes = bodies(len(steps))
    file = write_trr(tmp_path / "late.trr", steps, centres, axes)
    read = read_trajectory(write_topology(tmp_path / "topology.pdb"), [file], TIMESTEP_FS)
    np.testing.assert_allclose(read.times_ps - read.times_ps[0], (steps - steps[0]) * TIMESTEP_FS / 1000, atol=1e-8)


def test_reading_leaves_no_files_behind(state):
    topology, files, _ = state
    before = sorted(topology.parent.iterdir())
    read_trajectory(topology, files, TIMESTEP_FS)
    assert sorted(topology.parent.iterdir()) == before


def test_drift_is_removed_and_nothing_else(state):
    topology, files, (steps, centres, axes) = state
    drift = 0.01 * steps[:, None, None] * np.array([1.0, -2.0, 0.5])
    moved = without_drift(centres + drift)
    np.testing.assert_allclose(moved, without_drift(centres), atol=1e-10)
    np.testing.assert_allclose(moved.mean(axis=1), np.broadcast_to(centres[0].mean(axis=0), (len(steps), 3)))
    write_trr(files[0], steps, centres + drift, axes)
    read = read_trajectory(topology, files[:1], TIMESTEP_FS)
    np.testing.assert_allclose(read.centres, without_drift(centres), atol=1e-4)


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
    write_trr(files[1], [0, 1], centres, axes)


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


@pytest.mark.parametrize("field", ["times_ps", "centres", "axes", "box"])
def test_shapes_and_nan_are_refused(field):
    centres, axes = bodies(4)
    good = {"times_ps": np.arange(4.0), "centres": centres, "axes": axes, "box": BOX}
    with pytest.raises(DataError, match="shape"):
        MolecularTrajectory(**{**good, field: good[field][..., :-1]}, linear_interval_ps=1.0)
    spoilt = good[field].copy()
    spoilt.flat[0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        MolecularTrajectory(**{**good, field: spoilt}, linear_interval_ps=1.0)


def test_times_must_increase():
    centres, axes = bodies(3)
    with pytest.raises(DataError, match="increase"):
        MolecularTrajectory(np.array([0.0, 2.0, 1.0]), centres, axes, BOX, 1.0)


@pytest.mark.parametrize("interval", [1, 2, 10, 16, 37, 100])
def test_the_linear_interval_is_found(interval):
    offsets = [0, *(2**k for k in range(8) if 2**k < interval)]
    times = np.append((np.arange(0, 50 * interval, interval)[:, None] + offsets).ravel(), 50 * interval) * 0.0005
    expected = 1 if interval == 2 else interval  # 0, 1, 2, 3, … is linear in single steps
    assert linear_interval(times + 3.0) == pytest.approx(expected * 0.0005)


def test_irregular_times_have_no_linear_interval():
    with pytest.raises(DataError, match="no linear frames"):
        linear_interval(np.array([0.0, 1.0, 2.5, 4.5, 9.0, 10.0]))


def test_lags_have_all_their_pairs():
    times = block_steps(0, 40 * INTERVAL, end=True) * 0.002
    found = lags(times, INTERVAL * 0.002)
    np.testing.assert_allclose([lag.time_ps for lag in found[:5]], np.array([1, 2, 4, 8, 16]) * 0.002)
    assert found[-1].time_ps == pytest.approx(times[-1] / 2)
    for lag in found:
        np.testing.assert_allclose(times[lag.second] - times[lag.first], lag.time_ps, atol=1e-9)
        linear = times[lag.first] / (INTERVAL * 0.002)
        np.testing.assert_allclose(linear, np.rint(linear), atol=1e-9)
        multiple = lag.time_ps / (INTERVAL * 0.002)
        expected = 40 if multiple < 1 else 41 - round(multiple)
        assert len(lag.first) == expected


def test_lags_are_few_sorted_and_log_spaced():
    times = np.arange(20001) * 0.5
    found = np.array([lag.time_ps for lag in lags(times, 0.5, maximum=30)])
    assert len(found) <= 30
    assert np.all(np.diff(found) > 0)
    assert found[0] == 0.5
    assert found[-1] == 5000
    assert np.diff(np.log(found[10:])).std() < 0.05
