"""Molecules in time: centre and axes of each, where they are kept, and the lags their frames offer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpwf.errors import DataError

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Frames32 = NDArray[np.float32]

AXIS_TOLERANCE = 0.02  # how far a stored axis may be from length 1 (single precision, far from the origin)
TICK_TOLERANCE = 0.02  # of a tick: how far a time may be from a multiple of it
FINEST_TICK = 64  # parts of the shortest interval that are tried as a unit of time
MEGABYTE = 2**20
CACHE_LINE = 64  # bytes
MIN_PAIRS = 2  # of frames, for a lag to be worth a row
CONVERTED = 64  # frames brought into their layout at once: few enough for the cache
SAMPLED_ORIGINS = 64  # frames whose distances to later ones tell which lags exist
CONSIDERED = 250  # frames before and after each wanted lag


def on_cache_lines(shape: tuple[int, ...]) -> Frames32:
    """An empty array that begins on a cache line, so that no load of a vector register straddles two."""
    size = 4 * int(np.prod(shape))
    raw = np.empty(size + CACHE_LINE, dtype=np.uint8)
    skip = -raw.ctypes.data % CACHE_LINE
    return raw[skip : skip + size].view(np.float32).reshape(shape)


class FrameFile:
    """Frames of float32 (rows, molecules) in an unnamed temporary file, read back in any piece.

    The file is gone when the object is. Source of a trajectory larger than memory.
    """

    def __init__(self, rows: int, molecules: int, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the frames
        self._frame = (rows, molecules)
        self._bytes = 4 * rows * molecules
        self._count = 0

    def append(self, frame: NDArray[np.floating]) -> None:
        """Add one frame of shape (rows, molecules)."""
        if frame.shape != self._frame:
            raise DataError(f"a frame has shape {frame.shape}; expected {self._frame}")
        self._file.write(np.ascontiguousarray(frame, dtype=np.float32).data)
        self._count += 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, molecules."""
        return (self._count, *self._frame)

    def __getitem__(self, part: slice) -> Frames32:
        """Frames of a slice of step 1, shape (frames, rows, molecules), as a new array."""
        start, stop, step = part.indices(self._count)
        if step != 1:
            raise IndexError(f"a step of {step}; expected 1")
        self._file.flush()
        found = on_cache_lines((max(stop - start, 0), *self._frame))
        view = memoryview(found.reshape(-1).view(np.uint8).data)
        done = 0
        while done < len(view):
            got = os.preadv(self._file.fileno(), [view[done:]], start * self._bytes + done)
            if got == 0:
                raise DataError(f"frames {start} to {stop} of the scratch file ended early; is its disk full?")
            done += got
        return found


@dataclass(frozen=True)
class MolecularTrajectory:
    """Places and orientations of N molecules at F times, made by `from_arrays` or the functions of `reading`.

    Attributes
    ----------
    ticks
        Integer times, increasing, shape (F,).
    tick_ps
        Their unit in ps.
    frames
        Displacement of each centre from `start` in Å, then the unit axes: float32, shape
        (F, 3 + 3 axes, N); an array, or a `FrameFile` for what does not fit in memory.
        Displacements keep their digits wherever the box stands.
    start
        Unwrapped centres of the first frame in Å, shape (N, 3).
    cell
        Lattice vectors as rows in Å, shape (3, 3), the mean one if it varies; zeros without a box.
    masses
        Masses of the molecules in amu, shape (N,).
    species
        Name of each molecule's species, shape (N,); molecules of a species are contiguous.
    constant_box
        Whether all frames share `cell`.
    """

    ticks: Index
    tick_ps: float
    frames: Frames32 | FrameFile
    start: Array
    cell: Array
    masses: Array
    species: tuple[str, ...]
    constant_box: bool = True

    def __post_init__(self) -> None:
        count, _, molecules = self.frames.shape
        shapes = {
            "ticks": (self.ticks.shape, (count,)),
            "start": (self.start.shape, (molecules, 3)),
            "cell": (self.cell.shape, (3, 3)),
            "masses": (self.masses.shape, (molecules,)),
            "species": ((len(self.species),), (molecules,)),
            "frames": (self.frames.shape, (count, 3 + 3 * self.axes, molecules)),
        }
        for name, (found, expected) in shapes.items():
            if found != expected:
                raise DataError(f"{name} has shape {found}; expected {expected}")
        if count < 2 or molecules < 1:
            raise DataError(f"{count} frames of {molecules} molecules; at least 2 frames of 1 molecule are needed")
        if np.any(np.diff(self.ticks) <= 0):
            raise DataError("times do not increase; sort the frames and drop repeated ones")
        if len(set(self.species)) != len(self.bounds) - 1:
            raise DataError("molecules of one species are not contiguous; sort them by species")

    @classmethod
    def from_arrays(
        cls,
        times_ps: Array,
        centres: Array,
        axes: Array | None = None,
        cell: Array | None = None,
        masses: Array | None = None,
        species: Sequence[str] | None = None,
    ) -> MolecularTrajectory:
        """A trajectory in memory.

        Parameters
        ----------
        times_ps
            Times in ps, increasing, multiples of one unit, shape (F,).
        centres
            Unwrapped centres in Å, shape (F, N, 3).
        axes
            Unit vectors, shape (F, N, A, 3); none by default.
        cell
            Edges (3,) or lattice vectors (3, 3) in Å; no box by default.
        masses, species
            Mass in amu (1 by default) and species (one by default) of each molecule, shape (N,).

        Raises
        ------
        DataError
            For shapes that do not match, NaN, times that do not increase, or axes not of length 1.
        """
        from mlpwf.dynamics.kernels import lay_out

        if centres.ndim != 3 or centres.shape[2] != 3:
            raise DataError(f"centres has shape {centres.shape}; expected (frames, molecules, 3)")
        count, molecules = centres.shape[:2]
        if count < 2 or molecules < 1:
            raise DataError(f"{count} frames of {molecules} molecules; at least 2 frames of 1 molecule are needed")
        axes = np.empty((count, molecules, 0, 3)) if axes is None else axes
        if axes.ndim != 4 or axes.shape[:2] != (count, molecules) or axes.shape[3] != 3:
            raise DataError(f"axes has shape {axes.shape}; expected ({count}, {molecules}, axes, 3)")
        if times_ps.shape != (count,):
            raise DataError(f"times_ps has shape {times_ps.shape}; expected ({count},)")
        _check_finite("times_ps", times_ps)
        _check_finite("axes", axes)
        if axes.size and np.abs(np.linalg.norm(axes, axis=-1) - 1).max() > AXIS_TOLERANCE:
            raise DataError("axes are not unit vectors; expected length 1")
        ticks, tick_ps = ticks_of(times_ps)
        kinds = np.asarray(["molecule"] * molecules if species is None else list(species))
        order = np.argsort(kinds, kind="stable")
        frames = on_cache_lines((count, 3 + 3 * axes.shape[2], molecules))
        start = np.asarray(centres[0], dtype=np.float64)
        origin = np.zeros((molecules, 3 * axes.shape[2]))
        for low in range(0, count, CONVERTED):
            part = slice(low, low + CONVERTED)
            lay_out(_plain(centres[part]), start, order, frames[part, :3])
            _check_finite("centres", frames[part, :3])  # while they are in the cache
            turned = _plain(axes[part]).reshape(len(axes[part]), *origin.shape)
            lay_out(turned, origin, order, frames[part, 3:])
        edges = np.zeros((3, 3)) if cell is None else cell
        return cls(
            ticks=ticks,
            tick_ps=tick_ps,
            frames=frames,
            start=start[order],
            cell=np.diag(edges) if edges.ndim == 1 else edges,
            masses=(np.ones(molecules) if masses is None else np.asarray(masses, dtype=np.float64))[order],
            species=tuple(str(kind) for kind in kinds[order]),
        )

    @property
    def molecules(self) -> int:
        """Number of molecules N."""
        return int(self.frames.shape[2])

    @property
    def axes(self) -> int:
        """Number of axes a molecule."""
        return int(self.frames.shape[1] - 3) // 3

    @property
    def times_ps(self) -> Array:
        """Times of the frames in ps, shape (F,)."""
        return np.asarray(self.ticks * self.tick_ps)

    @property
    def run_ps(self) -> float:
        """Time from the first to the last frame, in ps."""
        return float((self.ticks[-1] - self.ticks[0]) * self.tick_ps)

    @cached_property
    def bounds(self) -> Index:
        """First molecule of each species, and N; shape (S + 1,)."""
        names = np.asarray(self.species)
        change = np.flatnonzero(names[1:] != names[:-1]) + 1
        return np.concatenate([[0], change, [len(names)]]).astype(np.int64)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The species, in the order of the molecules."""
        return tuple(self.species[first] for first in self.bounds[:-1])

    def centres(self, start: int = 0, stop: int | None = None) -> Array:
        """Unwrapped centres in Å of frames start to stop, shape (frames, N, 3)."""
        moved = self.frames[start : len(self.ticks) if stop is None else stop]
        return np.asarray(self.start + np.swapaxes(moved[:, :3], 1, 2))

    def unit_axes(self, start: int = 0, stop: int | None = None) -> Array:
        """Axes of frames start to stop, shape (frames, N, A, 3)."""
        kept = self.frames[start : len(self.ticks) if stop is None else stop][:, 3:]
        return np.asarray(kept.reshape(len(kept), self.axes, 3, -1).transpose(0, 3, 1, 2), dtype=np.float64)

    def blocks(self, size: int) -> Iterator[tuple[int, Frames32]]:
        """Consecutive frames, `size` at a time, with the number of the first."""
        for start in range(0, len(self.ticks), size):
            yield start, self.frames[start : start + size]

    @property
    def has_constant_box(self) -> bool:
        """Whether there is a box, the same in all frames."""
        return self.constant_box and bool(np.linalg.det(self.cell) > 0)

    def nearest_lag(self, lags: Index, time_ps: float) -> int:
        """Of lags in ticks, the one nearest to a time in ps."""
        return int(lags[np.argmin(np.abs(lags * self.tick_ps - time_ps))])

    def only(self, kind: str) -> MolecularTrajectory:
        """The molecules of one species, in memory."""
        if kind not in self.kinds:
            raise DataError(f"no species {kind!r}; there are {', '.join(self.kinds)}")
        number = self.kinds.index(kind)
        part = slice(int(self.bounds[number]), int(self.bounds[number + 1]))
        return replace(
            self,
            frames=np.ascontiguousarray(self.frames[0 : len(self.ticks)][:, :, part]),
            start=self.start[part],
            masses=self.masses[part],
            species=self.species[part],
        )


def _plain(values: NDArray[np.floating]) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)


def _check_finite(name: str, values: NDArray[np.floating]) -> None:
    if not np.isfinite(values).all():
        raise DataError(f"{name} holds NaN or infinity; the run has failed: simulate this state again")


def ticks_of(times_ps: Array) -> tuple[Index, float]:
    """Integer times and their unit in ps: the coarsest even part of the shortest interval that fits all.

    Raises
    ------
    DataError
        If the times do not increase or are not multiples of one unit.
    """
    since = np.asarray(times_ps, dtype=np.float64) - times_ps[0]
    steps = np.diff(since)
    if len(steps) == 0:
        raise DataError("1 frame; at least 2 are needed: run longer or write frames more often")
    if steps.min() <= 0:
        at = int(np.argmin(steps))
        raise DataError(
            f"times do not increase ({times_ps[at]:g} ps is followed by {times_ps[at + 1]:g} ps); "
            "sort the frames and drop repeated ones"
        )
    single = np.array_equal(times_ps, np.asarray(times_ps).astype(np.float32))
    rounding = 4 * float(np.spacing(np.float32(np.abs(times_ps).max()))) if single else 0.0
    for parts in range(1, FINEST_TICK + 1):
        unit = float(steps.min()) / parts
        for cut in (*(2**k for k in range(len(since).bit_length() - 1)), -1):  # sharper with each doubling
            unit = float(since[cut] / max(np.rint(since[cut] / unit), 1.0))
        multiples = since / unit
        if np.abs(multiples - np.rint(multiples)).max() < TICK_TOLERANCE + min(rounding / unit, 0.2):
            first = round(float(times_ps[0]) / unit)
            return np.rint(multiples).astype(np.int64) + first, unit
    raise DataError(
        f"the {len(times_ps)} frame times are not multiples of one interval (shortest {steps.min():g} ps); "
        "expected frames at whole numbers of time steps"
    )


def choose_lags(ticks: Index, longest: float = 0.5, maximum: int = 60) -> Index:
    """Integer lags, spaced evenly in their logarithm, for which the frames hold many pairs.

    The range of lags is cut in `maximum` parts; of each, the lag nearest to its middle is
    taken among those with nearly the most pairs, as seen from a sample of the frames. So
    log-spaced blocks yield their own offsets, and evenly spaced frames all that is asked for.

    Parameters
    ----------
    ticks
        Integer times of the frames, increasing, shape (F,).
    longest
        Longest lag as a part of the run, at most 1.
    maximum
        Maximum number of lags.

    Returns
    -------
    NDArray
        Shape (lags,), increasing.

    Raises
    ------
    DataError
        If the run holds no lag with at least two pairs.
    """
    if not 0 < longest <= 1:
        raise DataError(f"longest lag {longest} of the run; expected more than 0 and at most 1")
    limit = longest * float(ticks[-1] - ticks[0]) * (1 + 1e-9)
    begin = int(np.searchsorted(ticks, ticks[-1] - limit, side="right"))
    if len(np.unique(np.diff(ticks))) == 1:
        origins = np.arange(MIN_PAIRS)  # every frame sees the same lags
    else:
        origins = np.unique(np.linspace(0, max(begin - 1, 0), SAMPLED_ORIGINS).astype(int))
        # the neighbours too: in blocks of log-spaced frames an even sample may miss the linear ones
        origins = np.unique(np.concatenate([origins, origins + 1, np.arange(SAMPLED_ORIGINS)]))
    origins = origins[origins < len(ticks) - 1]
    targets = np.geomspace(float(np.diff(ticks).min()), limit, maximum + 1)
    distances = np.concatenate([_near(ticks, int(origin), targets, limit) for origin in origins])
    lags, counts = np.unique(distances, return_counts=True)
    lags, counts = lags[counts >= MIN_PAIRS], counts[counts >= MIN_PAIRS]
    if len(lags) == 0:
        raise DataError(f"{len(ticks)} frames hold no lag twice; run longer or write frames at even intervals")
    edges = np.geomspace(lags[0] * (1 - 1e-9), lags[-1] * (1 + 1e-9), maximum + 1)
    chosen = []
    for low, high in pairwise(edges):
        inside = slice(np.searchsorted(lags, low), np.searchsorted(lags, high, side="right"))
        if inside.start < inside.stop:
            many = counts[inside] >= 0.8 * counts[inside].max()
            target = np.sqrt(low * high) if high < edges[-1] else lags[-1]
            candidates = lags[inside][many]
            chosen.append(candidates[np.argmin(np.abs(np.log(candidates / target)))])
    return np.unique(np.asarray(chosen, dtype=np.int64))


def _near(ticks: Index, origin: int, targets: Array, limit: float) -> Index:
    """Distances from one frame to those about the targets after it, so few that a long run costs no more."""
    at = np.searchsorted(ticks, ticks[origin] + targets)[:, None] + np.arange(-CONSIDERED, CONSIDERED + 1)
    found = ticks[np.unique(at[(at > origin) & (at < len(ticks))])] - ticks[origin]
    return np.asarray(found[found <= limit])


def linear_interval(ticks: Index) -> int:
    """The period of the frame times: every frame but the last ones has another a period later.

    Raises
    ------
    DataError
        If no period fits at least twice into the run, as when a segment is missing.
    """
    since = ticks - ticks[0]
    for frames in range(1, len(since)):
        period = int(since[frames])
        if 2 * period > since[-1]:
            break
        shifts = since[frames:] - since[:-frames]
        if all(np.all(part == period) for part in (shifts[:50], shifts)):
            return period
    raise DataError(
        f"no linear frames found among {len(ticks)} times from {ticks[0]} to {ticks[-1]} steps; "
        "expected frames that repeat with one interval: a segment may be missing"
    )
