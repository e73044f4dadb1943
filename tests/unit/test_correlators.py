"""Correlation functions against analytic laws, a naive NumPy version and their invariances."""

import math
import subprocess
import sys

import numpy as np
import pytest
from MDAnalysis.lib.formats.libdcd import DCDFile as LibDCD
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre

from liquids import brownian, cages, molecules_of
from mlpwf.dynamics.correlators import averages, join, pass_moments, weight_names
from mlpwf.dynamics.trajectory import FrameFile, MolecularTrajectory, choose_lags
from mlpwf.errors import DataError

WAVEVECTORS = (0.7, 1.3)
OVERLAP = 1.0
AKMA_PS = 0.04888821  # unit of time in DCD files
FIELDS = ("squared", "fourth", "decay", "decay_squared", "single")


def moments_of(trajectory, lags=None, maximum=20, **options):
    lags = choose_lags(trajectory.ticks, maximum=maximum) if lags is None else np.asarray(lags)
    return pass_moments(trajectory, lags, WAVEVECTORS, OVERLAP, **options)


@pytest.fixture(scope="module")
def analytic():
    return averages(moments_of(molecules_of(*brownian(diffusion=0.05, rotation=0.02)), orders=(1, 2, 4)))


def overlap_of_gaussian(variance):
    """Probability that a Gaussian vector of this variance per direction is shorter than 1 Å."""
    x = OVERLAP / np.sqrt(2 * variance)
    return np.array([math.erf(value) for value in x]) - 2 * x / np.sqrt(np.pi) * np.exp(-(x**2))


@pytest.mark.physical_validation
@pytest.mark.parametrize(
    ("column", "law"),
    [
        ("msd_angstrom2", lambda t: 6 * 0.05 * t),
        ("alpha2", lambda t: 0 * t),
        ("fs_q0.7", lambda t: np.exp(-(0.7**2) * 0.05 * t)),
        ("fs_q1.3", lambda t: np.exp(-(1.3**2) * 0.05 * t)),
        ("overlap", lambda t: overlap_of_gaussian(2 * 0.05 * t)),
        *((f"c{order}_axis{axis}", lambda t, order=order: np.exp(-order * (order + 1) * 0.02 * t))
          for order in (1, 2, 4) for axis in (1, 2)),
    ],
)  # fmt: skip
def test_brownian_rotors_follow_their_laws(analytic, column, law):
    error = analytic["msd_error" if column == "msd_angstrom2" else f"{column}_error"]
    known = (analytic["time_ps"] <= 150) & (error > 0)
    assert np.count_nonzero(known) >= 8
    score = (analytic[column] - law(analytic["time_ps"]))[known] / error[known]
    assert np.abs(score).max() < 6
    assert np.sqrt(np.mean(score**2)) < 2.5


@pytest.mark.physical_validation
def test_molecules_in_harmonic_cages_reach_a_plateau():
    found = averages(moments_of(molecules_of(*cages())))
    memory = np.exp(-0.1 * found["time_ps"])
    variance = 2 * 0.3**2 * (1 - memory)
    for column, law in {
        "msd_angstrom2": 3 * variance,
        "fs_q1.3": np.exp(-(1.3**2) * variance / 2),
        "overlap": overlap_of_gaussian(variance),
    }.items():
        np.testing.assert_allclose(found[column], law, rtol=0.05, err_msg=column)
    np.testing.assert_allclose(found["alpha2"], 0, atol=0.05)


def naive(trajectory, centres, axes, lag, orders=(1, 2)):
    """All moments of one lag summed over pairs of frames, in double precision."""
    ticks = trajectory.ticks
    first = np.flatnonzero(np.isin(ticks + lag, ticks))
    second = np.searchsorted(ticks, ticks[first] + lag)
    r = np.linalg.norm(centres[second] - centres[first], axis=-1)
    weights = [(r < OVERLAP).astype(float), *(np.sinc(q * r / np.pi) for q in WAVEVECTORS)]
    cosine = np.einsum("fnak,fnak->fna", axes[second], axes[first])
    weights += [eval_legendre(order, cosine[..., axis]) for axis in range(axes.shape[2]) for order in orders]
    C = np.array([w.mean(axis=1) for w in weights])
    return {
        "pairs": len(first),
        "squared": (r**2).mean(axis=1).sum(),
        "fourth": (r**4).mean(axis=1).sum(),
        "decay": (1 - C).sum(axis=1),
        "decay_squared": ((1 - C) ** 2).sum(axis=1),
        "single": np.array([((1 - w) ** 2).mean(axis=1).sum() for w in weights]),
    }


def compare(found, trajectory, centres, axes, lags, rtol=2e-6, group=0, orders=(1, 2)):
    for row, lag in enumerate(lags):
        expected = naive(trajectory, centres, axes, lag, orders)
        assert found.pairs[:, row].sum() == expected.pop("pairs")
        for field, value in expected.items():
            np.testing.assert_allclose(
                getattr(found, field)[:, row, group].sum(axis=0), value, rtol=rtol, err_msg=f"{field} {lag}"
            )


@pytest.mark.parametrize("molecules", [1, 5, 700])
def test_every_kernel_equals_numpy_in_double_precision(molecules):
    times, centres, axes = brownian(frames=30, molecules=molecules, diffusion=0.3, rotation=0.05)
    trajectory, lags = molecules_of(times, centres, axes), np.array([1, 2, 7, 15])
    compare(moments_of(trajectory, lags, orders=(1, 2, 3, 6)), trajectory, centres, axes, lags, orders=(1, 2, 3, 6))


def test_far_molecules_and_wavevectors_keep_their_digits():
    """qr up to 10⁴: the phase must not lose its digits."""
    times, centres, axes = brownian(frames=20, molecules=300, diffusion=400.0)
    trajectory = molecules_of(times, centres, axes)
    found = pass_moments(trajectory, np.array([3]), (60.0,), OVERLAP)
    r = np.linalg.norm(centres[3:] - centres[:-3], axis=-1)
    scattering = 1 - found.decay[:, 0, 0, 1].sum() / found.pairs.sum()
    assert scattering == pytest.approx(np.sinc(60.0 * r / np.pi).mean(), abs=2e-6)


def test_small_displacements_keep_their_digits():
    """1 − F_s and the spread of F_s at 10⁻³ Å, far below what single precision of F_s itself would give."""
    times, centres, axes = brownian(frames=40, molecules=50, diffusion=1e-7, rotation=1e-8)
    trajectory, lags = molecules_of(times, centres - centres[0], axes), np.array([1, 5])
    found = moments_of(trajectory, lags)
    r2 = np.sum((centres[1:] - centres[:-1]) ** 2, axis=-1)
    decay = found.decay[:, 0, 0, found.weight("fs_q1.3")].sum() / found.pairs[:, 0].sum()
    assert decay == pytest.approx((1.3**2 * r2 / 6).mean(), rel=1e-3)
    turned = 0.5 * np.sum((axes[1:] - axes[:-1]) ** 2, axis=-1)[..., 0]
    decay = found.decay[:, 0, 0, found.weight("c1_axis1")].sum() / found.pairs[:, 0].sum()
    assert decay == pytest.approx(turned.mean(), rel=1e-2)


def test_pairs_of_uneven_frames_are_all_found():
    times, centres, axes = brownian(frames=400, molecules=4, diffusion=0.2)
    kept = np.unique((np.arange(0, 400, 40)[:, None] + [0, 1, 2, 4, 8, 16, 32]).ravel())
    trajectory = molecules_of(times[kept], centres[kept], axes[kept])
    lags = np.array([1, 2, 3, 4, 14, 40, 120])
    compare(moments_of(trajectory, lags), trajectory, centres[kept], axes[kept], lags)


def test_frame_spacing_does_not_matter():
    times, centres, axes = brownian(frames=120, molecules=6)
    every, second = molecules_of(times, centres, axes), molecules_of(times[::2], centres[::2], axes[::2])
    offset = molecules_of(times[::2] + 1e4, centres[::2], axes[::2])
    lags = np.array([2, 10, 30])
    for other in (moments_of(second, lags // 2), moments_of(offset, lags // 2)):
        np.testing.assert_allclose(other.lags_ps, moments_of(every, lags).lags_ps)
    dense, sparse = averages(moments_of(every, lags)), averages(moments_of(second, lags // 2))
    np.testing.assert_allclose(sparse["msd_angstrom2"], dense["msd_angstrom2"], rtol=0.1)
    np.testing.assert_array_equal(
        moments_of(second, lags // 2).decay.sum(axis=0), moments_of(offset, lags // 2).decay.sum(axis=0)
    )


def changed(centres, axes, change):
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.8]).as_matrix()
    return {
        "permuted": lambda c, u: (c[:, ::-1], u[:, ::-1]),
        "moved by 500 Å": lambda c, u: (c + 500.0, u),
        "rotated": lambda c, u: (c @ rotation.T, u @ rotation.T),
        "reflected": lambda c, u: (c[..., ::-1], -u),
    }[change](centres, axes)


@pytest.mark.parametrize("change", ["permuted", "moved by 500 Å", "rotated", "reflected"])
def test_invariances(change):
    times, centres, axes = brownian(frames=60, molecules=80)
    before = moments_of(molecules_of(times, centres, axes))
    after = moments_of(molecules_of(times, *changed(centres, axes, change)))
    for field in FIELDS:
        tolerance = 1e-12 if change == "moved by 500 Å" else 0
        np.testing.assert_allclose(
            getattr(after, field), getattr(before, field), rtol=2e-5, atol=tolerance or 1e-9, err_msg=field
        )


def test_an_offset_of_500_angstrom_changes_no_digit_of_a_cage():
    """The trap that makes other packages err by percents on a plateau of 0.015 Å²."""
    times, centres = cages(frames=200, molecules=40, amplitude=0.05)
    near = averages(moments_of(molecules_of(times, centres)))["msd_angstrom2"]
    far = averages(moments_of(molecules_of(times, centres + 500.0)))["msd_angstrom2"]
    np.testing.assert_allclose(far, near, rtol=1e-6)


def test_species_add_up_to_all():
    times, centres, axes = brownian(frames=50, molecules=9, diffusion=0.2)
    names = list("abbabbbab")
    trajectory, lags = molecules_of(times, centres, axes, species=names), np.array([1, 6])
    found = moments_of(trajectory, lags)
    assert (found.groups, found.molecules.tolist()) == (("all", "a", "b"), [9, 3, 6])
    compare(found, trajectory, centres, axes, lags)
    for group, kind in enumerate("ab", 1):
        some = np.flatnonzero([name == kind for name in names])
        compare(found, trajectory, centres[:, some], axes[:, some], lags, group=group)
    assert set(averages(found, "b")) == set(averages(found))
    with pytest.raises(DataError, match="no group of molecules 'c'; there are all, a, b"):
        averages(found, "c")


@pytest.mark.parametrize("options", [{"threads": 3}, {"windows": 7}, {"threads": 2, "windows": 1}])
def test_threads_and_windows_change_no_sum(options):
    trajectory = molecules_of(*brownian(frames=90, molecules=11))
    plain, other = moments_of(trajectory), moments_of(trajectory, **options)
    for field in FIELDS:
        one, two = getattr(plain, field), getattr(other, field)
        if "windows" not in options:
            np.testing.assert_array_equal(two, one)
        np.testing.assert_allclose(two.sum(axis=0), one.sum(axis=0), rtol=1e-12)


def in_file(trajectory):
    kept = FrameFile(*trajectory.frames.shape[1:])
    for frame in trajectory.frames:
        kept.append(frame)
    return MolecularTrajectory(**{**vars_of(trajectory), "frames": kept})


def vars_of(trajectory):
    names = ("ticks", "tick_ps", "frames", "start", "cell", "masses", "species", "constant_box")
    return {name: getattr(trajectory, name) for name in names}


@pytest.mark.parametrize("memory_mb", [0.006, 0.02, 100.0])
def test_frames_on_disk_give_the_same_sums(memory_mb):
    times, centres, axes = brownian(frames=300, molecules=5)
    kept = np.unique(np.concatenate([np.arange(0, 300, 3), np.arange(100, 130)]))
    trajectory = molecules_of(times[kept], centres[kept], axes[kept])
    plain, disk = moments_of(trajectory), moments_of(in_file(trajectory), memory_mb=memory_mb, threads=2)
    np.testing.assert_array_equal(disk.pairs, plain.pairs)
    for field in FIELDS:
        np.testing.assert_allclose(getattr(disk, field), getattr(plain, field), rtol=1e-12)


LARGE = """
import resource, sys, warnings
from itertools import islice
import numpy as np
from MDAnalysis import Universe
from mlpwf.dynamics.correlators import averages, pass_moments
from mlpwf.dynamics.reading import Bodies, assemble
from mlpwf.dynamics.universe import snapshots

warnings.simplefilter("ignore")
molecules = 2000
bodies = Bodies(np.arange(molecules), np.ones(molecules), ("a",) * molecules, np.empty((0, molecules, 2), int))
universe = Universe.empty(molecules, trajectory=True).load_new(sys.argv[1])

def work(frames):
    trajectory = assemble(islice(snapshots(universe, "run.dcd", interval_ps=1.0), frames), bodies, memory_mb=8)
    moments = pass_moments(trajectory, np.array([1, frames // 8, frames // 2]), (1.3,), 1.0, memory_mb=8)
    return averages(moments)["msd_angstrom2"] / moments.lags_ps / 0.03

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

work(1000)  # compiled code and eight times what is allowed are no part of it
before = peak()
ratios = work(6000)
print(peak() - before, *ratios)
"""


def test_a_file_larger_than_the_memory_allowed_is_worked_through(tmp_path):
    """140 MB of DCD in 8 MiB: the peak memory hardly exceeds that of a sixth of the file."""
    rng, path = np.random.default_rng(1), tmp_path / "run.dcd"
    places = rng.uniform(0, 50, (2000, 3)).astype(np.float32)
    with LibDCD(str(path), "w") as file:
        file.write_header(remarks="", natoms=2000, istart=0, nsavc=1, delta=1 / AKMA_PS, is_periodic=1)
        for _ in range(6000):
            file.write(xyz=places, box=np.array([50, 90, 50, 90, 90, 50], dtype=float))
            places = places + np.float32(0.1) * rng.standard_normal((2000, 3), dtype=np.float32)
            places -= 50 * np.floor(places / 50)
    assert path.stat().st_size > 140e6
    run = subprocess.run([sys.executable, "-c", LARGE, str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    grown, *ratios = map(float, run.stdout.split())
    np.testing.assert_allclose(ratios, 1, atol=0.05)
    assert grown < 24, run.stdout


def test_errors_end_where_fewer_than_three_blocks_fit(analytic):
    times = analytic["time_ps"]
    known = np.isfinite(analytic["c2_axis1_error"])  # τ = 8 ps: the lag decides
    assert known[times < 300].all()
    assert not known[times > 1499 / 4].any()
    assert np.isfinite(analytic["c2_axis1"]).all()
    np.testing.assert_allclose(analytic["windows_c2_axis1"][0], 1498 / (2.5 / (6 * 0.02)), rtol=0.1)


def test_nothing_moves():
    times, centres, axes = brownian(frames=20, molecules=5, diffusion=0.0, rotation=0.0)
    found = averages(moments_of(molecules_of(times, centres, np.repeat(axes[:1], 20, axis=0))))
    assert np.all(found["msd_angstrom2"] == 0)
    assert np.isnan(found["alpha2"]).all()
    for name in weight_names(WAVEVECTORS):
        np.testing.assert_array_equal(found[name], 1)


def test_runs_are_joined_about_one_mean():
    runs = [moments_of(molecules_of(*brownian(frames=200, molecules=8, seed=seed)), [1, 5, 50]) for seed in (1, 2, 3)]
    joined = join(runs)
    np.testing.assert_allclose(joined.decay.sum(axis=0), sum(run.decay.sum(axis=0) for run in runs))
    np.testing.assert_array_equal(np.bincount(joined.run), [len(run.run) for run in runs])
    assert joined.runs_ps.tolist() == [199.0] * 3
    assert np.isfinite(averages(joined)["msd_error"]).all()  # each run is a block
    with pytest.raises(DataError, match="runs differ"):
        join([runs[0], moments_of(molecules_of(*brownian(frames=200, molecules=9)), [1, 5, 50])])
    with pytest.raises(DataError, match="no runs"):
        join([])


@pytest.mark.parametrize(
    ("lags", "options", "message"),
    [
        ([1, 300], {}, "a lag of 300 ps is longer than the run of 39 ps"),
        ([0, 1], {}, "increasing positive"),
        ([3, 2], {}, "increasing positive"),
        ([], {}, "increasing positive"),
        ([1], {"wavevectors": (1.3, 1.3)}, "distinct"),
        ([1], {"wavevectors": (-1.3,)}, "positive ones"),
        ([1], {"overlap_angstrom": 0.0}, "positive ones"),
        ([1], {"orders": (0,)}, "Legendre orders"),
        ([1], {"threads": 0}, "0 threads"),
    ],
)
def test_impossible_settings_are_refused(lags, options, message):
    trajectory = molecules_of(*brownian(frames=40, molecules=3))
    settings = {"wavevectors": WAVEVECTORS, "overlap_angstrom": OVERLAP, **options}
    with pytest.raises(DataError, match=message):
        pass_moments(trajectory, np.asarray(lags, dtype=int), **settings)


def test_a_lag_between_the_frames_and_too_little_memory_are_refused():
    times, centres, axes = brownian(frames=40, molecules=3)
    sparse = molecules_of(times[[0, 3, 10, 20, 39]], centres[[0, 3, 10, 20, 39]], axes[[0, 3, 10, 20, 39]])
    with pytest.raises(DataError, match="no two frames are 5 ps apart"):
        moments_of(sparse, [5])
    with pytest.raises(DataError, match="give more memory"):
        moments_of(in_file(sparse), [3], memory_mb=1e-5)


def test_kernels_are_not_imported_before_they_are_needed():
    code = "import sys, mlpwf.dynamics.structure, mlpwf.dynamics.observables.van_hove; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
