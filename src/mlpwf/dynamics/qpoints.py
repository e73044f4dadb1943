"""Compiled loops over q-points, which are the wavevectors that fit the box: densities there and what moves with them.

Phases come from powers of exp(2πi s) of the fractional coordinates s, so that a wavevector costs two
complex products a molecule and no sine.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mlpwf.dynamics.kernels import FAST, _one_minus_sinc

TERMS = 10


def _series(values):  # type: ignore[no-untyped-def]
    """Coefficients in x² of an even function on |x| ≤ 1/2, by least squares at Chebyshev's nodes."""
    x = 0.5 * np.cos(np.pi * (np.arange(200) + 0.5) / 400)
    return np.linalg.lstsq(x[:, None] ** (2 * np.arange(TERMS)), values(x), rcond=None)[0]


# cos(2πx) and sin(2πx)/x to 1e-12: the compiler makes vectors of them, not of calls to the library
COSINE = _series(lambda x: np.cos(2 * np.pi * x))
SINE = _series(lambda x: np.sin(2 * np.pi * x) / x)


@njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _powers(fractions, real, imaginary):  # type: ignore[no-untyped-def]
    """exp(2πi n s) for n = 0, 1, … of fractions (3, N) into (3, n, N)."""
    for d in range(3):
        for k in range(fractions.shape[1]):
            x = fractions[d, k] - np.floor(fractions[d, k] + 0.5)
            e = x * x
            c, s = COSINE[-1], SINE[-1]
            for term in range(TERMS - 2, -1, -1):
                c = c * e + COSINE[term]
                s = s * e + SINE[term]
            real[d, 0, k] = 1.0
            imaginary[d, 0, k] = 0.0
            real[d, 1, k] = c
            imaginary[d, 1, k] = s * x
        for n in range(2, real.shape[1]):
            for k in range(fractions.shape[1]):
                a, b = real[d, n - 1, k], imaginary[d, n - 1, k]
                c, s = real[d, 1, k], imaginary[d, 1, k]
                real[d, n, k] = a * c - b * s
                imaginary[d, n, k] = a * s + b * c


@njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _phases(real, imaginary, integers, cosine, sine):  # type: ignore[no-untyped-def]
    """cos and sin of q·r for each vector of integers (Q, 3) into (Q, N)."""
    count = np.uintp(cosine.shape[1])
    for q in range(integers.shape[0]):
        nx, ny, nz = integers[q, 0], integers[q, 1], integers[q, 2]
        sx, sy, sz = np.sign(nx) * 1.0, np.sign(ny) * 1.0, np.sign(nz) * 1.0
        ax, bx = real[0, abs(nx)], imaginary[0, abs(nx)]
        ay, by = real[1, abs(ny)], imaginary[1, abs(ny)]
        az, bz = real[2, abs(nz)], imaginary[2, abs(nz)]
        c, s = cosine[q], sine[q]
        for k in range(count):
            xr, xi = ax[k], sx * bx[k]
            yr, yi = ay[k], sy * by[k]
            zr, zi = az[k], sz * bz[k]
            r, i = xr * yr - xi * yi, xr * yi + xi * yr
            c[k] = r * zr - i * zi
            s[k] = r * zi + i * zr


@njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _weighted(cosine, sine, weights, start, stop):  # type: ignore[no-untyped-def]
    """Σ w cos and Σ w sin over molecules start to stop."""
    begin = np.uintp(start)
    real = imaginary = 0.0
    for k in range(np.uintp(stop - start)):
        real += weights[begin + k] * cosine[begin + k]
        imaginary += weights[begin + k] * sine[begin + k]
    return real, imaginary


@njit(nogil=True, error_model="numpy", cache=True)
def densities(frames, start, inverse, integers, species, found):  # type: ignore[no-untyped-def]
    """ρ(q) = Σ exp(iq·r) of each frame and species.

    Parameters
    ----------
    frames
        Displacements from `start` in rows 0 to 2, shape (frames, rows, N), float32.
    start
        First places in Å, shape (3, N).
    inverse
        Inverse of the lattice vectors, shape (3, 3).
    integers
        Wavevectors in reciprocal lattice vectors, shape (Q, 3).
    species
        Bounds of each species, shape (S + 1,).
    found
        Real parts, then imaginary parts, shape (frames, 2 S, Q).
    """
    molecules = frames.shape[2]
    highest = 1 + np.abs(integers).max()
    real, imaginary = np.empty((3, highest, molecules)), np.empty((3, highest, molecules))
    cosine, sine = np.empty((integers.shape[0], molecules)), np.empty((integers.shape[0], molecules))
    fractions = np.empty((3, molecules))
    ones = np.ones(molecules)
    kinds = species.shape[0] - 1
    for f in range(frames.shape[0]):
        _fractions(frames[f], start, inverse, fractions)
        _powers(fractions, real, imaginary)
        _phases(real, imaginary, integers, cosine, sine)
        for kind in range(kinds):
            for q in range(integers.shape[0]):
                a, b = _weighted(cosine[q], sine[q], ones, species[kind], species[kind + 1])
                found[f, kind, q] = a
                found[f, kinds + kind, q] = b


@njit(nogil=True, error_model="numpy", cache=True)
def _fractions(frame, start, inverse, fractions):  # type: ignore[no-untyped-def]
    """Fractional coordinates in [0, 1) of a frame."""
    for k in range(frame.shape[1]):
        x, y, z = start[0, k] + frame[0, k], start[1, k] + frame[1, k], start[2, k] + frame[2, k]
        for d in range(3):
            s = x * inverse[0, d] + y * inverse[1, d] + z * inverse[2, d]
            fractions[d, k] = s - np.floor(s)


@njit(nogil=True, error_model="numpy", cache=True)
def add_coherent(  # type: ignore[no-untyped-def]
    first, first_from, second, second_from, origins, ticks, lags, windows, couples, sums, pairs
):
    """Add Re ρ_a(q, t) ρ_b*(q, 0), summed over q, of each couple of species (P, 2) to sums (W, L, P)."""
    kinds = first.shape[1] // 2
    second_stop = second_from + second.shape[0]
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
            before, after = first[i - first_from], second[j - second_from]
            for couple in range(couples.shape[0]):
                a, b = couples[couple, 0], couples[couple, 1]
                total = 0.0
                for q in range(first.shape[2]):
                    total += after[a, q] * before[b, q] + after[kinds + a, q] * before[kinds + b, q]
                sums[windows[i], lag, couple] += total
            pairs[windows[i], lag] += 1


@njit(nogil=True, error_model="numpy", cache=True)
def add_four_point(  # type: ignore[no-untyped-def]
    first, first_from, second, second_from, origins, ticks, lags, windows, start, inverse, species,
    overlap2, q2, integers, shells, divisions, qpoints, boxes, decays, pairs
):  # fmt: skip
    """Add what S4(q, t) and the fluctuations in sub-boxes are made of, for the decay h = 1 − w of each molecule.

    Parameters
    ----------
    species
        First and last-plus-one molecule that count, shape (2,).
    overlap2, q2
        w is the overlap with a² = `overlap2`, or sin(qr)/(qr) where q² = `q2` is positive.
    integers, shells
        Wavevectors (Q, 3) and the shell of each (Q,).
    divisions
        Numbers of sub-boxes along each edge, shape (D,).
    qpoints
        Sums of |H(q)|², Re H(q) ρ*(q) and |ρ(q)|², H = Σ h exp(iq·r(0)), shape (W, L, shells, 3).
    boxes
        Sums over sub-boxes of H², H n and n², H = Σ h over the n molecules in it, shape (W, L, D, 3).
    decays, pairs
        Sums of the mean of h, and numbers of pairs, shape (W, L).
    """
    molecules = first.shape[2]
    low, high = species[0], species[1]
    highest = 1 + np.abs(integers).max()
    real, imaginary = np.empty((3, highest, molecules)), np.empty((3, highest, molecules))
    cosine, sine = np.empty((integers.shape[0], molecules)), np.empty((integers.shape[0], molecules))
    fractions, decay, ones = np.empty((3, molecules)), np.empty(molecules), np.ones(molecules)
    largest = divisions.max()
    filled, moved = np.empty(largest**3), np.empty(largest**3)
    second_stop = second_from + second.shape[0]
    for i in range(origins[0], origins[1]):
        window = windows[i]
        known = False
        for lag in range(lags.shape[0]):
            j = np.searchsorted(ticks, ticks[i] + lags[lag])
            if j < second_from or j >= second_stop or ticks[j] != ticks[i] + lags[lag]:
                continue
            before, after = first[i - first_from], second[j - second_from]
            if not known:
                _fractions(before, start, inverse, fractions)
                _powers(fractions, real, imaginary)
                _phases(real, imaginary, integers, cosine, sine)
                known = True
            total = 0.0
            for k in range(low, high):
                x, y, z = after[0, k] - before[0, k], after[1, k] - before[1, k], after[2, k] - before[2, k]
                r = x * x + y * y + z * z
                decay[k] = _one_minus_sinc(r * q2) if q2 > 0 else 1.0 * (r >= overlap2)
                total += decay[k]
            decays[window, lag] += total / (high - low)
            pairs[window, lag] += 1
            for q in range(integers.shape[0]):
                hr, hi = _weighted(cosine[q], sine[q], decay, low, high)
                nr, ni = _weighted(cosine[q], sine[q], ones, low, high)
                sums = qpoints[window, lag, shells[q]]
                sums[0] += hr * hr + hi * hi
                sums[1] += hr * nr + hi * ni
                sums[2] += nr * nr + ni * ni
            for division in range(divisions.shape[0]):
                n = divisions[division]
                filled[:] = 0.0
                moved[:] = 0.0
                for k in range(low, high):
                    x, y, z = int(fractions[0, k] * n), int(fractions[1, k] * n), int(fractions[2, k] * n)
                    box = (min(x, n - 1) * n + min(y, n - 1)) * n + min(z, n - 1)
                    filled[box] += 1
                    moved[box] += decay[k]
                sums = boxes[window, lag, division]
                for box in range(n**3):
                    sums[0] += moved[box] * moved[box]
                    sums[1] += moved[box] * filled[box]
                    sums[2] += filled[box] * filled[box]
