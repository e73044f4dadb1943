"""F(q,t), S4(q,t) and sub-boxes against NumPy, ideal gases and blobs of known size; the fit of ξ4."""

import numpy as np
import pytest

from liquids import CELL, brownian, molecules_of
from mlpwf.dynamics import structure
from mlpwf.dynamics.trajectory import FrameFile, MolecularTrajectory
from mlpwf.errors import DataError

LAGS = np.array([1, 4, 20])


def gas(frames=200, molecules=60, diffusion=0.05, seed=4, **options):
    """Brownian molecules anywhere in a box that is no cube."""
    times, centres, _ = brownian(frames, molecules, diffusion, seed=seed)
    centres = centres + np.random.default_rng(seed).uniform(0, 30, (molecules, 3))
    return centres, molecules_of(times, centres, cell=CELL + np.arange(3.0), **options)


def vectors(qpoints, cell):
    return 2 * np.pi * qpoints.integers @ np.linalg.inv(cell).T


TILTED = np.array([[30.0, 0, 0], [7.0, 29.0, 0], [-5.0, 4.0, 28.0]])


@pytest.mark.parametrize("cell", [np.diag(CELL + np.arange(3)), TILTED])
def test_wavevectors_fit_the_box(cell):
    qpoints = structure.qpoints_below(cell, 0.9)
    phases = vectors(qpoints, cell) @ cell.T / (2 * np.pi)
    np.testing.assert_allclose(phases, np.rint(phases), atol=1e-9)
    lengths = np.linalg.norm(vectors(qpoints, cell), axis=1)
    assert lengths.max() <= 0.9
    np.testing.assert_allclose(lengths, qpoints.lengths[qpoints.shell], rtol=0.05)
    assert np.all(np.diff(qpoints.lengths) > 0)
    both = {tuple(n) for n in qpoints.integers} | {tuple(-n) for n in qpoints.integers}
    assert len(both) == 2 * len(qpoints.integers)
    assert len(structure.qpoints_near(cell, 1.3, 0.1, maximum=25).integers) == 25
    with pytest.raises(DataError, match="fits the box, whose smallest"):
        structure.qpoints_below(cell, 0.01)


@pytest.mark.parametrize("edges", [(e, e, e) for e in range(7, 41)] + [(12, 15, 23), (23, 12, 12), (31.7, 30.1, 29.3)])
def test_shells_hold_every_wavevector_of_their_length(edges):
    """Counted in whole numbers: in a cube, one of each pair ±n with |n|² = 1, 2, 3, 4, 5, 6, 8, … 25."""
    edges = np.array(edges, dtype=float)
    qpoints = structure.qpoints_below(np.diag(edges), 5 * 2 * np.pi / edges.max())
    n = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3), axis=-1).reshape(-1, 3)
    squares = (n**2 * np.rint(1e4 * (edges.max() / edges) ** 2).astype(int)).sum(axis=1)
    expected = {tuple(one) for one in n[(squares > 0) & (squares <= 25 * 10000)]}
    found = {tuple(one) for one in qpoints.integers} | {tuple(-one) for one in qpoints.integers}
    assert found == expected
    if np.ptp(edges) == 0:
        counts = np.unique(squares[(squares > 0) & (squares <= 250000)], return_counts=True)[1]
        np.testing.assert_array_equal(np.bincount(qpoints.shell), counts // 2)


def test_the_last_shell_is_whole_or_left_out():
    cell = np.eye(3) * 20.0
    qpoints = structure.qpoints_below(cell, 5 * 2 * np.pi / 20, maximum=20)
    whole = structure.qpoints_below(cell, 5 * 2 * np.pi / 20)
    shells = len(qpoints.lengths)
    assert 0 < len(qpoints.integers) <= 20
    np.testing.assert_array_equal(np.bincount(qpoints.shell), np.bincount(whole.shell)[:shells])


@pytest.mark.parametrize("edge", [12.0, 15.0, 23.0])
def test_s4_of_a_cube_is_the_mean_over_all_wavevectors_of_its_shells(edge):
    times, centres, _ = brownian(frames=60, molecules=30, diffusion=0.05)
    centres = centres + np.random.default_rng(1).uniform(0, edge, (30, 3))
    found = structure.four_point_structure(
        molecules_of(times, centres, cell=np.full(3, edge)), np.array([4]), overlap_angstrom=0.6
    )
    w = np.linalg.norm(centres[4:] - centres[:-4], axis=2) < 0.6
    outermost = [(5, 0, 0), (0, 5, 0), (0, 0, 5), (3, 4, 0), (4, 3, 0), (3, -4, 0), (4, -3, 0), (3, 0, 4), (4, 0, 3),
                 (3, 0, -4), (4, 0, -3), (0, 3, 4), (0, 4, 3), (0, 3, -4), (0, 4, -3)]  # fmt: skip
    qpoints = np.exp(2j * np.pi / edge * centres[:-4] @ np.array(outermost).T)
    expected = (np.abs((w[..., None] * qpoints).sum(axis=1)) ** 2).mean() / 30
    assert found.s4[0, -1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("cell", [None, TILTED])
def test_coherent_scattering_equals_numpy(cell):
    centres, trajectory = gas(species=["a"] * 20 + ["b"] * 40)
    if cell is not None:
        times = trajectory.times_ps
        trajectory = MolecularTrajectory.from_arrays(times, centres, cell=cell, species=trajectory.species)
    found = structure.coherent(trajectory, LAGS, 0.8)
    assert found.couples == ("all", "a-a", "a-b", "b-b")
    qpoints = structure.qpoints_near(trajectory.cell, 0.8, np.pi / np.linalg.norm(trajectory.cell, axis=1).max())
    waves_of = np.exp(1j * centres @ vectors(qpoints, trajectory.cell).T)
    rho = {"all": waves_of.sum(1), "a": waves_of[:, :20].sum(1), "b": waves_of[:, 20:].sum(1)}

    def correlation(one, two, lag):
        return (rho[one][lag:] * rho[two][: len(centres) - lag].conj()).real.mean()

    for row, lag in enumerate((0, *LAGS)):
        cross = (correlation("a", "b", lag) + correlation("b", "a", lag)) / 2 / np.sqrt(800)
        expected = [correlation("all", "all", lag) / 60, correlation("a", "a", lag) / 20, cross,
                    correlation("b", "b", lag) / 40]  # fmt: skip
        np.testing.assert_allclose(found.values[row], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.physical_validation
def test_coherent_scattering_of_independent_molecules_is_that_of_each():
    """For an ideal gas F(q,t) = exp(−q²Dt), and S(q) = 1."""
    _, trajectory = gas(frames=4000, molecules=40, diffusion=0.5)
    found = structure.coherent(trajectory, np.array([1, 2, 4]), 0.8, tau_ps=3.0)
    law = np.exp(-(found.wavevector**2) * 0.5 * found.lags_ps)
    np.testing.assert_allclose(found.values[:, 0], law, atol=0.05)
    assert np.abs((found.values - law[:, None]) / found.errors).max() < 5


def four_point(trajectory, **options):
    return structure.four_point_structure(trajectory, LAGS, **{"overlap_angstrom": 0.5, **options})


@pytest.mark.parametrize("kind", ["overlap", "scattering"])
def test_s4_and_sub_boxes_equal_numpy(kind):
    centres, trajectory = gas()
    options = {} if kind == "overlap" else {"overlap_angstrom": None, "scattering_wavevector": 1.3}
    found = four_point(trajectory, **options)
    qpoints = structure.qpoints_below(trajectory.cell, 5 * 2 * np.pi / 32.0)
    np.testing.assert_allclose(found.wavevectors, qpoints.lengths)
    for row, lag in enumerate(LAGS):
        r = np.linalg.norm(centres[lag:] - centres[:-lag], axis=-1)
        w = (r < 0.5) * 1.0 if kind == "overlap" else np.sinc(1.3 * r / np.pi)
        phases = np.exp(1j * centres[:-lag] @ vectors(qpoints, trajectory.cell).T)
        plain, about = np.einsum("fn,fnq->fq", w, phases), np.einsum("fn,fnq->fq", w - w.mean(), phases)
        for shell in range(len(qpoints.lengths)):
            some = qpoints.shell == shell
            assert found.s4[row, shell] == pytest.approx((np.abs(plain[:, some]) ** 2).mean() / 60, rel=1e-4)
            expected = (np.abs(about[:, some]) ** 2).mean() / 60
            assert found.s4_fluctuation[row, shell] == pytest.approx(expected, rel=1e-4, abs=1e-9)
        parts = centres[:-lag] / np.diag(trajectory.cell)
        for number, n in enumerate((1, 2, 3, 4, 5, 6)):
            place = ((parts - np.floor(parts)) * n).astype(int) @ [n * n, n, 1]
            sums = np.zeros((len(place), n**3))
            np.add.at(sums, (np.arange(len(place))[:, None], place), w - w.mean())
            expected = (sums**2).sum(axis=1).mean() / 60
            assert found.chi4[row, number] == pytest.approx(expected, rel=1e-4, abs=1e-9)
    np.testing.assert_allclose(found.edges, np.cbrt(30 * 31 * 32) / np.arange(1, 7))


def test_wrapping_translation_and_disk_change_nothing():
    centres, trajectory = gas()
    plain = four_point(trajectory)
    shifted = MolecularTrajectory.from_arrays(
        trajectory.times_ps, centres + np.array([60.0, -31.0, 64.0]), cell=trajectory.cell
    )
    kept = FrameFile(3, 60)
    for frame in trajectory.frames:
        kept.append(frame)
    names = ("ticks", "tick_ps", "start", "cell", "masses", "species")
    disk = MolecularTrajectory(frames=kept, **{name: getattr(trajectory, name) for name in names})
    for other in (four_point(shifted), four_point(disk, memory_mb=0.02, threads=2)):
        np.testing.assert_allclose(other.s4, plain.s4, rtol=1e-5)
        np.testing.assert_allclose(other.chi4, plain.chi4, rtol=1e-9)
    first = structure.coherent(trajectory, LAGS, 0.8)
    second = structure.coherent(disk, LAGS, 0.8, memory_mb=0.02)
    np.testing.assert_allclose(second.values, first.values, rtol=1e-9)


def test_one_species_alone_is_that_species():
    centres, trajectory = gas(species=["a"] * 20 + ["b"] * 40)
    alone = MolecularTrajectory.from_arrays(trajectory.times_ps, centres[:, 20:], cell=trajectory.cell)
    one, two = four_point(trajectory, group="b"), four_point(alone)
    np.testing.assert_allclose(one.s4, two.s4, rtol=1e-9)
    np.testing.assert_allclose(one.chi4, two.chi4, rtol=1e-9)


@pytest.mark.physical_validation
def test_independent_molecules_have_no_length():
    """S4 of w − ⟨w⟩ is the variance of w at every q, and so is that of every sub-box."""
    _, trajectory = gas(frames=3000, molecules=50, diffusion=0.05)
    found = four_point(trajectory, tau_ps=2.0)
    Q = found.chi4[1, -1]  # about Q(1 − Q) in all
    np.testing.assert_allclose(found.s4_fluctuation[1], Q, rtol=0.15)
    np.testing.assert_allclose(found.chi4[1], Q, rtol=0.15)


@pytest.mark.physical_validation
def test_moving_blobs_are_seen_in_the_length_and_the_sub_boxes():
    """Blobs whose form factor is Ornstein and Zernike's: normal places of variance 2ξ²g, g of Gamma(1/2)."""
    rng = np.random.default_rng(9)
    frames, blobs, size, xi = 1500, 30, 20, 2.5
    middles = rng.uniform(0, 30, (frames, blobs, 1, 3))
    spread = xi * np.sqrt(2 * rng.gamma(0.5, size=(frames, blobs, size, 1)))
    places = middles + spread * rng.normal(size=(frames, blobs, size, 3))
    moved = np.where(rng.random((frames, blobs, 1, 1)) < 0.5, 0.1, 2.0)
    # first and second frame of each pair, and pairs have nothing to do with each other
    pairs = np.stack([places, places + moved], axis=1).reshape(2 * frames, -1, 3)
    times = np.stack([10.0 * np.arange(frames), 10.0 * np.arange(frames) + 1], axis=1).ravel()
    trajectory = molecules_of(times, pairs)
    found = structure.four_point_structure(trajectory, np.array([1]), overlap_angstrom=1.0, longest=1.2)
    assert found.chi4[0, 0] == pytest.approx(size / 4, rel=0.15)
    law = found.chi4[0, 0] * (1 + (size - 1) / (1 + (found.wavevectors * xi) ** 2)) / size
    np.testing.assert_allclose(found.s4_fluctuation[0], law, rtol=0.12)
    assert np.all(np.diff(found.chi4[0]) < 0)
    assert found.chi4[0, -1] < 0.6 * found.chi4[0, 0]
    fit = structure.ornstein_zernike(found.wavevectors, found.s4_fluctuation[0], found.s4_fluctuation_error[0])
    assert fit.verdict == "ok"
    assert fit.xi == pytest.approx(xi, rel=0.2)
    assert fit.chi0 == pytest.approx(size / 4, rel=0.15)


def test_the_fit_finds_a_length_and_says_when_it_cannot():
    q = np.sqrt(np.arange(1, 30)) * 0.14
    errors = np.full(len(q), 0.05)
    for xi, verdict in ((3.0, "ok"), (5.0, "ok"), (7.5, structure.MARGINAL_FIT)):
        found = structure.ornstein_zernike(q, 17 / (1 + (q * xi) ** 2), errors)
        assert found.verdict == (verdict if np.count_nonzero(q * xi <= 1.5) >= 4 else "too few points")
        if np.isfinite(found.xi):
            assert (found.xi, found.chi0) == (pytest.approx(xi, rel=1e-4), pytest.approx(17, rel=1e-4))
            assert q[found.points - 1] * xi <= 1.5
    assert structure.ornstein_zernike(q, 17 / (1 + (q * 12) ** 2), errors).verdict == "too few points"
    assert structure.ornstein_zernike(q[:3], q[:3], errors[:3]).verdict == "too few points"
    assert structure.ornstein_zernike(q, 1 + q, errors).verdict == "no length: S4 does not rise towards small q"
    with pytest.raises(DataError, match="expected one shape"):
        structure.ornstein_zernike(q, q[:4], errors)


def test_the_fit_leaves_out_what_is_not_of_its_form():
    q = np.sqrt(np.arange(1, 40)) * 0.14
    s4 = 17 / (1 + (q * 4) ** 2) + np.where(q * 4 > 1.5, 3.0, 0.0)
    assert structure.ornstein_zernike(q, s4, np.full(len(q), 0.05)).xi == pytest.approx(4, rel=0.15)


def test_impossible_requests_are_refused():
    centres, trajectory = gas(frames=30)
    for options in ({"scattering_wavevector": 1.3}, {"overlap_angstrom": None}):
        with pytest.raises(DataError, match="one of the two"):
            four_point(trajectory, **options)
    with pytest.raises(DataError, match="no species 'x'"):
        four_point(trajectory, group="x")
    with pytest.raises(DataError, match="apart"):
        structure.four_point_structure(trajectory, np.array([50]), overlap_angstrom=0.5)
    nowhere = MolecularTrajectory.from_arrays(trajectory.times_ps, centres)
    with pytest.raises(DataError, match="no box"):
        four_point(nowhere)
    breathing = MolecularTrajectory(
        trajectory.ticks, 1.0, trajectory.frames, trajectory.start, trajectory.cell, trajectory.masses,
        trajectory.species, constant_box=False,
    )  # fmt: skip
    with pytest.raises(DataError, match="box varies"):
        structure.coherent(breathing, LAGS, 0.8)
