"""Trajectories of rigid bodies (centre of mass and two axes a molecule) and the lags they offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpwf.errors import DataError

Array = NDArray[np.float64]
Index = NDArray[np.int64]

BEADS = 3  # centre of mass, centre + first axis, centre + second axis
AXIS_TOLERANCE = 0.02  # Å: how far a stored axis may be from length 1 (single precision, far from the origin)
BOX_TOLERANCE = 1e-4  # relative: single precision of one and the same box
ANGSTROM_PER_NM = 10.0


@dataclass(frozen=True)
class MolecularTrajectory:
    """Positions and orientations of N molecules at F times.

    Attributes
    ----------
    times_ps
        Times in ps, increasing, shape (F,).
    centres
        Unwrapped centres of mass in Å, shape (F, N, 3).
    axes
        Unit vectors of two body axes, shape (F, N, 2, 3).
    box
        Edges of the orthorhombic box in Å, shape (3,).
    linear_interval_ps
        Time between the linear frames; every multiple of it, from the first frame on, is a frame.
    """

    times_ps: Array
    centres: Array
    axes: Array
    box: Array
    linear_interval_ps: float

    def __post_init__(self) -> None:
        frames, molecules = self.centres.shape[0], self.centres.shape[1] if self.centres.ndim > 1 else 0
        shapes = {
            "times_ps": (self.times_ps.shape, (frames,)),
            "centres": (self.centres.shape, (frames, molecules, 3)),
            "axes": (self.axes.shape, (frames, molecules, 2, 3)),
            "box": (self.box.shape, (3,)),
        }
        for name, (found, expected) in shapes.items():
            if found != expected:
                raise DataError(f"{name} has shape {found}; expected {expected}")
        if frames < 2 or molecules < 1:
            raise DataError(f"{frames} frames of {molecules} molecules; at least 2 frames of 1 molecule are needed")
        for name in ("times_ps", "centres", "axes", "box"):
            if not np.isfinite(getattr(self, name)).all():
                raise DataError(f"{name} holds NaN or infinity; the run has failed: simulate this state again")
        if np.any(np.diff(self.times_ps) <= 0):
            raise DataError("times do not increase; sort the frames and drop repeated ones")

    @property
    def molecules(self) -> int:
        """Number of molecules N."""
        return int(self.centres.shape[1])

    @property
    def run_ps(self) -> float:
        """Time from the first to the last frame, in ps."""
        return float(self.times_ps[-1] - self.times_ps[0])


@dataclass(frozen=True)
class Lag:
    """All pairs of frames a time apart: frame numbers `first` and `second`, shape (origins,)."""

    time_ps: float
    first: Index
    second: Index


def without_drift(centres: Array) -> Array:
    """Centres (F, N, 3) less the displacement of their mean since the first frame.

    All molecules weigh the same here, so for a mixture this is the mean of the
    centres and not the centre of mass of the box.
    """
    mean = centres.mean(axis=1, keepdims=True)
    return np.asarray(centres - (mean - mean[:1]))


def linear_interval(times_ps: Array) -> float:
    """The period of the frame times in ps: every frame but the last ones has another a period later.

    Raises
    ------
    DataError
        If no period fits at least twice into the run, as when a segment is missing.
    """
    since = times_ps - times_ps[0]
    tolerance = 0.1 * float(np.diff(since).min())
    for frames in range(1, len(since)):
        period = float(since[frames])
        if 2 * period > since[-1] + tolerance:
            break
        shifts = since[frames:] - since[:-frames]
        if all(np.all(np.abs(part - period) < tolerance) for part in (shifts[:50], shifts)):
            return period
    raise DataError(
        f"no linear frames found among {len(times_ps)} times from {times_ps[0]:g} to {times_ps[-1]:g} ps; "
        "expected frames that repeat with one interval: a segment may be missing"
    )


def lags(times_ps: Array, linear_interval_ps: float, maximum: int = 60) -> list[Lag]:
    """Lags at log-spaced times from dt up to half the run, each with all its linear origins.

    Below the linear interval P, the lags are the offsets of the log-spaced frames
    within an interval; from P on, multiples of P. Origins are the linear frames.

    Parameters
    ----------
    times_ps
        Frame times in ps, increasing, shape (F,).
    linear_interval_ps
        P in ps.
    maximum
        Most lags to return.

    Returns
    -------
    list of Lag
        Sorted by time, each with at least 2 origins.
    """
    since = times_ps - times_ps[0]
    tolerance = 0.1 * float(np.diff(since).min())
    intervals = np.floor((since + tolerance) / linear_interval_ps)
    offset = since - intervals * linear_interval_ps
    origins = np.flatnonzero(np.abs(offset) < tolerance)
    inside = np.sort(offset[offset > tolerance])
    short = inside[np.diff(inside, prepend=-np.inf) > tolerance]
    longest = int(since[-1] / 2 / linear_interval_ps + 1e-9)
    long = np.unique(np.rint(np.geomspace(1, max(longest, 1), max(maximum - len(short), maximum // 2))))
    wanted = np.concatenate([short, long[long <= longest] * linear_interval_ps])
    if len(wanted) > maximum:
        wanted = wanted[np.unique(np.rint(np.linspace(0, len(wanted) - 1, maximum)).astype(int))]
    found = []
    for lag in wanted[wanted <= since[-1] / 2 + tolerance]:
        target = since[origins] + lag
        second = _nearest(since, target)
        there = np.abs(since[second] - target) < tolerance
        if np.count_nonzero(there) >= 2:
            found.append(Lag(float(lag), origins[there], second[there]))
    return found


def _nearest(sorted_values: Array, targets: Array) -> Index:
    """Index of the value nearest to each target."""
    right = np.clip(np.searchsorted(sorted_values, targets), 1, len(sorted_values) - 1)
    left_is_nearer = targets - sorted_values[right - 1] < sorted_values[right] - targets
    return np.asarray(right - left_is_nearer, dtype=np.int64)


def read_trajectory(
    topology: Path, trajectories: Sequence[Path], timestep_fs: float, remove_drift: bool = True
) -> MolecularTrajectory:
    """Read the segments of one state into a trajectory with sorted, unique times.

    Frames are read in order by MDAnalysis' TRR library; its Universe would
    leave an index file beside every segment. TRR stores times in single
    precision, so they are taken from the step number where the two agree.

    Parameters
    ----------
    topology
        PDB file with three beads a molecule: the centre of mass and the tips
        of two orthonormal axes of 1 Å.
    trajectories
        TRR files; a time found twice is kept once.
    timestep_fs
        Time step of the run in fs.
    remove_drift
        Subtract the displacement of the mean of all centres.

    Raises
    ------
    DataError
        For missing or truncated files, NaN, too few frames, axes that are not
        unit vectors, or a box that is not orthorhombic and constant.
    """
    beads = _count_beads(topology)
    ticks: list[int] = []
    positions: list[NDArray[np.float32]] = []
    boxes: list[NDArray[np.float32]] = []
    for path in trajectories:
        _read_segment(path, beads, timestep_fs / 1000, ticks, positions, boxes)
    if len(ticks) < 2:
        raise DataError(f"{topology.parent}: {len(ticks)} frames; at least 2 are needed: run more segments")
    unique, order = np.unique(np.asarray(ticks, dtype=np.int64), return_index=True)
    box = _constant_box(np.asarray(boxes, dtype=np.float64) * ANGSTROM_PER_NM, topology.parent)
    centres = np.empty((len(order), beads // BEADS, 3))
    axes = np.empty((len(order), beads // BEADS, 2, 3))
    for frame, source in enumerate(order):
        bodies = positions[source].reshape(-1, BEADS, 3).astype(np.float64) * ANGSTROM_PER_NM
        centres[frame] = bodies[:, 0]
        axes[frame] = bodies[:, 1:] - bodies[:, :1]
    lengths = np.linalg.norm(axes, axis=-1, keepdims=True)
    if np.isfinite(lengths).all() and np.abs(lengths - 1).max() > AXIS_TOLERANCE:
        raise DataError(
            f"{topology.parent}: an axis is {lengths.flat[np.abs(lengths - 1).argmax()]:.3f} Å long; expected 1 Å: "
            "the beads of a molecule must be its centre of mass and the tips of two unit vectors"
        )
    times: Array = np.asarray(unique * (timestep_fs / 1000), dtype=np.float64)
    return MolecularTrajectory(
        times_ps=times,
        centres=without_drift(centres) if remove_drift else centres,
        axes=axes / lengths,
        box=box,
        linear_interval_ps=linear_interval(times),
    )


def _count_beads(topology: Path) -> int:
    try:
        with topology.open() as lines:
            beads = sum(line.startswith(("ATOM  ", "HETATM")) for line in lines)
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise DataError(f"{topology}: no topology can be read ({error}); simulate this state again") from None
    if beads == 0 or beads % BEADS:
        raise DataError(f"{topology}: {beads} atoms; expected {BEADS} beads for each molecule")
    return beads


def _read_segment(
    path: Path,
    beads: int,
    timestep_ps: float,
    ticks: list[int],
    positions: list[NDArray[np.float32]],
    boxes: list[NDArray[np.float32]],
) -> None:
    """Append the frames of one TRR file: time in steps, bead positions and box vectors in nm."""
    from MDAnalysis.lib.formats.libmdaxdr import TRRFile

    if not path.is_file():
        raise DataError(f"{path}: no such file; simulate this state again")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: empty; delete its segment and simulate it again")
    try:
        with TRRFile(str(path)) as frames:
            for frame in frames:
                if not frame.hasx or frame.x.shape != (beads, 3):
                    raise DataError(f"{path}: positions of {len(frame.x)} beads; topology.pdb has {beads}")
                if not np.isfinite(frame.x).all():
                    raise DataError(f"{path}: NaN positions at {frame.time:g} ps; simulate this state again")
                precision = max(timestep_ps / 2, 4 * float(np.spacing(np.float32(frame.time))))
                agrees = frame.step and abs(frame.step * timestep_ps - frame.time) <= precision
                ticks.append(frame.step if agrees else round(frame.time / timestep_ps))
                positions.append(frame.x.copy())
                boxes.append(frame.box.copy())
    except OSError as error:
        raise DataError(f"{path}: truncated or not TRR ({error}); delete its segment and simulate it again") from None


def _constant_box(boxes: Array, state: Path) -> Array:
    """The edges (3,) of boxes (F, 3, 3) that are all the same and orthorhombic."""
    edges: Array = np.array(boxes[0].diagonal())
    if not np.isfinite(boxes).all() or np.any(edges <= 0):
        raise DataError(f"{state}: box edges {edges} Å; expected three positive lengths")
    spread = np.abs(boxes - np.diag(edges)).max()
    if spread > BOX_TOLERANCE * edges.max():
        raise DataError(
            f"{state}: the box varies or is tilted by {spread:.3g} Å; expected a constant orthorhombic box (NVT)"
        )
    return edges
