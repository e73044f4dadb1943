"""Compiled loops over pairs of frames; everything a pair of frames is asked for is summed in one visit.

Frames are float32 of shape (frames, 3 + 3 axes, molecules): the displacement of each centre from
its place in the first frame in Å, then the unit axes, molecules contiguous so that a vector
register holds neighbours. Sums run in float32 over at most `CHUNK` molecules and in float64 beyond.

All weights are summed as 1 − w, which keeps its digits where w is near 1. Compiled code is kept
beside this file, or in the user's cache where that is read-only (`NUMBA_CACHE_DIR` moves it).
"""

from __future__ import annotations

import numpy as np
from numba import njit

CHUNK = 512  # molecules summed in single precision
ORIGINS = 48  # first frames worked on while they are in the core's own cache
MOMENTS = 2  # columns before those of the weights: r², r⁴
PER_WEIGHT = 3  # columns of a weight: 1 − C, (1 − C)², mean over molecules of (1 − w)²

# reassociation lets the sums use vector registers; NaN and infinity never reach these loops
FAST = {"reassoc", "contract", "nsz", "arcp", "afn", "nnan", "ninf"}

f32 = np.float32
ZERO, HALF, ONE, TWO, THREE_HALVES = f32(0), f32(0.5), f32(1), f32(2), f32(1.5)
TINY = f32(1e-20)
INVERSE_PI = f32(1 / np.pi)
PI_HIGH, PI_LOW = f32(3.140625), f32(np.pi - 3.140625)  # n PI_HIGH is exact: Cody and Waite's reduction
# sin(d)/d for |d| ≤ π/2 in powers of d², least squares at Chebyshev's nodes: error below 1e-8
S1, S2, S3, S4 = f32(-0.1666666), f32(0.008333084), f32(-0.00019810871), f32(2.608454e-06)
# 1 − sin(z)/z for z² < 1 in powers of z², Taylor: error below 2e-7 of its value
H0, H1, H2, H3 = f32(1 / 6), f32(-1 / 120), f32(1 / 5040), f32(-1 / 362880)


@njit(nogil=True, error_model="numpy", cache=True)
def lay_out(places, start, order, frames):  # type: ignore[no-untyped-def]
    """Rows of displacements from `start`, molecules in order: (F, N, C) in float64 to (F, C, N) in float32."""
    for frame in range(places.shape[0]):
        for column in range(places.shape[2]):
            for molecule in range(order.shape[0]):
                source = order[molecule]
                frames[frame, column, molecule] = places[frame, source, column] - start[source, column]


@njit(fastmath=FAST, inline="always", cache=True)
def _one_minus_sinc(x):  # type: ignore[no-untyped-def]
    """1 − sin(z)/z for z² = x, without a branch."""
    inverse = ONE / np.sqrt(max(x, TINY))
    z = x * inverse
    n = np.floor(z * INVERSE_PI + HALF)
    d = (z - n * PI_HIGH) - n * PI_LOW
    sign = ONE - TWO * (n - TWO * np.floor(n * HALF))
    e = d * d
    far = ONE - sign * d * (ONE + e * (S1 + e * (S2 + e * (S3 + e * S4)))) * inverse
    near = x * (H0 + x * (H1 + x * (H2 + x * H3)))
    return near if x < ONE else far


@njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _square_distances(first, i, second, j, row, start, stop, limit, squares):  # type: ignore[no-untyped-def]
    """|Δ|² of three rows from `row` on, frames i to j, into `squares`; Σ|Δ|², Σ|Δ|⁴ and how many reach `limit`."""
    sum2 = sum4 = far = ZERO
    begin = np.uintp(start)  # an unsigned index needs no test for a negative one, which would forbid vectors
    for k in range(np.uintp(stop - start)):
        x = second[j, row, begin + k] - first[i, row, begin + k]
        y = second[j, row + 1, begin + k] - first[i, row + 1, begin + k]
        z = second[j, row + 2, begin + k] - first[i, row + 2, begin + k]
        r = x * x + y * y + z * z
        squares[k] = r
        sum2 += r
        sum4 += r * r
        far += ZERO if r < limit else ONE
    return sum2, sum4, far


@njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _scattering(squares, count, q2):  # type: ignore[no-untyped-def]
    """Sums of 1 − sin(qr)/(qr) and of its square."""
    first = second = ZERO
    for k in range(count):
        h = _one_minus_sinc(squares[k] * q2)
        first += h
        second += h * h
    return first, second


@njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _rank_one(squares, count):  # type: ignore[no-untyped-def]
    """Sums of 1 − P_1 = |u' − u|²/2 and of its square."""
    first = second = ZERO
    for k in range(count):
        h = HALF * squares[k]
        first += h
        second += h * h
    return first, second


@njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _rank_two(squares, count):  # type: ignore[no-untyped-def]
    """Sums of 1 − P_2 = (3/2)(1 − x)(1 + x) and of its square."""
    first = second = ZERO
    for k in range(count):
        h = HALF * squares[k]
        g = THREE_HALVES * h * (TWO - h)
        first += g
        second += g * g
    return first, second


@njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _rank_any(squares, count, order):  # type: ignore[no-untyped-def]
    """Sums of 1 − P_l and of its square, by Bonnet's recursion."""
    first = second = 0.0
    for k in range(count):
        x = 1.0 - 0.5 * squares[k]
        before, now = 1.0, x
        for rank in range(2, order + 1):
            before, now = now, ((2 * rank - 1) * x * now - (rank - 1) * before) / rank
        first += 1.0 - now
        second += (1.0 - now) ** 2
    return first, second


@njit(nogil=True, error_model="numpy", cache=True)
def _turned(squares, count, order):  # type: ignore[no-untyped-def]
    """Sums of 1 − P_l and of its square."""
    if order == 1:
        one, two = _rank_one(squares, count)
        return np.float64(one), np.float64(two)
    if order == 2:
        one, two = _rank_two(squares, count)
        return np.float64(one), np.float64(two)
    return _rank_any(squares, count, order)


@njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _add_pairs(  # type: ignore[no-untyped-def]
    first, second, here, there, pairs, low, high, q2, overlap2, orders, squares, sums
):
    """Add molecules `low` to `high` to the sums of pairs of frames, (pairs, 2 + 2 weights): r², r⁴, 1 − w, (1 − w)²."""
    # the distances are here and not in a helper: calling one for each pair takes a fourth of the time
    axes = (first.shape[1] - 3) // 3
    count = high - low
    begin = np.uintp(low)
    for pair in range(pairs):
        i, j = here[pair], there[pair]
        sum2 = sum4 = far = ZERO
        for k in range(np.uintp(count)):
            x = second[j, 0, begin + k] - first[i, 0, begin + k]
            y = second[j, 1, begin + k] - first[i, 1, begin + k]
            z = second[j, 2, begin + k] - first[i, 2, begin + k]
            r = x * x + y * y + z * z
            squares[k] = r
            sum2 += r
            sum4 += r * r
            far += ZERO if r < overlap2 else ONE
        sums[pair, 0] += sum2
        sums[pair, 1] += sum4
        sums[pair, 2] += far
        sums[pair, 3] += far
        column = 4
        for q in range(q2.shape[0]):
            one, two = _scattering(squares, count, q2[q])
            sums[pair, column] += one
            sums[pair, column + 1] += two
            column += 2
        for axis in range(axes):
            _square_distances(first, i, second, j, 3 + 3 * axis, low, high, ONE, squares)
            for rank in range(orders.shape[0]):
                one, two = _turned(squares, count, orders[rank])
                sums[pair, column] += one
                sums[pair, column + 1] += two
                column += 2


@njit(nogil=True, error_model="numpy", cache=True)
def add_moments(  # type: ignore[no-untyped-def]
    first, first_from, second, second_from, origins, ticks, lags, windows, species, q2, overlap2, orders, moments, pairs
):
    """Add every pair of frames with its first in `first` and its second in `second` to the moments.

    Parameters
    ----------
    first, second
        Consecutive frames of the trajectory, shape (frames, 3 + 3 axes, molecules), float32.
    first_from, second_from
        Their first frame numbers.
    origins
        First and last-plus-one frame number that may come first; within `first`.
    ticks
        Integer times of all frames, increasing, shape (F,).
    lags
        Integer lags, shape (L,).
    windows
        Window of each frame, shape (F,).
    species
        Bounds of each species among the molecules, shape (S + 1,).
    q2, overlap2
        Squares of wavevectors (Q,) and of the overlap length, float32.
    orders
        Ranks l of the Legendre polynomials, shape (R,).
    moments
        Sums to add to, shape (W, L, S or S + 1, 2 + 3 weights); with several species, all of them come first.
    pairs
        Numbers of pairs to add to, shape (W, L).
    """
    kinds = species.shape[0] - 1
    extra = moments.shape[2] - kinds
    weights = (moments.shape[3] - MOMENTS) // PER_WEIGHT
    here, there = np.empty(ORIGINS, np.intp), np.empty(ORIGINS, np.intp)
    squares = np.empty(CHUNK, np.float32)
    sums = np.empty((kinds + 1, ORIGINS, MOMENTS + 2 * weights))  # the last row is that of all species
    second_stop = second_from + second.shape[0]
    for origin in range(origins[0], origins[1], ORIGINS):
        end = min(origin + ORIGINS, origins[1])
        for lag in range(lags.shape[0]):
            j = max(np.searchsorted(ticks, ticks[origin] + lags[lag]), second_from)
            count = 0
            for i in range(origin, end):
                target = ticks[i] + lags[lag]
                while j < second_stop and ticks[j] < target:
                    j += 1
                if j >= second_stop:
                    break
                if ticks[j] == target:
                    here[count], there[count] = i - first_from, j - second_from
                    count += 1
            sums[:, :count] = 0.0
            for kind in range(kinds):
                for low in range(species[kind], species[kind + 1], CHUNK):
                    high = min(low + CHUNK, species[kind + 1])
                    _add_pairs(first, second, here, there, count, low, high, q2, overlap2, orders, squares, sums[kind])
            if extra:
                for kind in range(kinds):
                    sums[kinds, :count] += sums[kind, :count]
            for group in range(moments.shape[2]):
                row = (group - 1 if group else kinds) if extra else 0
                part = 1.0 / (species[row + 1] - species[row] if row < kinds else species[kinds])
                for pair in range(count):
                    window = windows[here[pair] + first_from]
                    moments[window, lag, group, 0] += sums[row, pair, 0] * part
                    moments[window, lag, group, 1] += sums[row, pair, 1] * part
                    for weight in range(weights):
                        decay = sums[row, pair, 2 + 2 * weight] * part
                        column = MOMENTS + PER_WEIGHT * weight
                        moments[window, lag, group, column] += decay
                        moments[window, lag, group, column + 1] += decay * decay
                        moments[window, lag, group, column + 2] += sums[row, pair, 3 + 2 * weight] * part
            for pair in range(count):
                pairs[windows[here[pair] + first_from], lag] += 1


@njit(nogil=True, error_model="numpy", cache=True)
def add_histogram(  # type: ignore[no-untyped-def]
    first, first_from, second, second_from, origins, ticks, lags, windows, species, width, counts
):
    """Add distances to the histogram (W, L, S, bins) of bins of `width`; the last bin takes all beyond."""
    second_stop = second_from + second.shape[0]
    squares = np.empty(CHUNK, np.float32)
    inverse = np.float32(1 / width)
    last = counts.shape[3] - 1
    for lag in range(lags.shape[0]):
        j = max(np.searchsorted(ticks, ticks[origins[0]] + lags[lag]), second_from)
        for i in range(origins[0], origins[1]):
            target = ticks[i] + lags[lag]
            while j < second_stop and ticks[j] < target:
                j += 1
            if j >= second_stop:
                break
            if ticks[j] != target:
                continue
            for kind in range(species.shape[0] - 1):
                for low in range(species[kind], species[kind + 1], CHUNK):
                    high = min(low + CHUNK, species[kind + 1])
                    _square_distances(first, i - first_from, second, j - second_from, 0, low, high, ONE, squares)
                    for k in range(high - low):
                        counts[windows[i], lag, kind, min(int(np.sqrt(squares[k]) * inverse), last)] += 1
