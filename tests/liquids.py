"""Model liquids whose dynamics is known, for the tests of the dynamics."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from mlpwf.dynamics.trajectory import MolecularTrajectory

CELL = np.full(3, 30.0)


def brownian(frames=1500, molecules=60, diffusion=0.02, rotation=0.004, seed=3):
    """Times in ps, centres and two axes of Brownian spheres that also turn: D in Å²/ps, D_r in 1/ps, a frame a ps."""
    rng = np.random.default_rng(seed)
    centres = np.cumsum(rng.normal(scale=np.sqrt(2 * diffusion), size=(frames, molecules, 3)), axis=0)
    turns = Rotation.from_rotvec(rng.normal(scale=np.sqrt(2 * rotation), size=(frames * molecules, 3)))
    matrices = turns.as_matrix().reshape(frames, molecules, 3, 3)
    matrices[0] = Rotation.random(molecules, rng=rng).as_matrix()
    for frame in range(1, frames):
        matrices[frame] = matrices[frame] @ matrices[frame - 1]
    return np.arange(float(frames)), centres, np.swapaxes(matrices, -1, -2)[:, :, :2]


def cages(frames=1500, molecules=60, amplitude=0.3, rate=0.1, seed=5):
    """Times and centres of molecules in harmonic cages: ⟨x²⟩ = amplitude² each way, memory exp(−rate t)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(frames, molecules, 3))
    kept = np.exp(-rate)
    offsets = noise.copy()
    for frame in range(1, frames):
        offsets[frame] = kept * offsets[frame - 1] + np.sqrt(1 - kept**2) * noise[frame]
    return np.arange(float(frames)), amplitude * offsets + rng.uniform(0, CELL, (molecules, 3))


def molecules_of(times, centres, axes=None, cell=CELL, **options):
    """A trajectory in memory."""
    return MolecularTrajectory.from_arrays(times, centres, axes, cell, **options)


def in_blobs(times, centres, axes, size):
    """The same with `size` molecules in place of each, moving together."""
    return times, np.repeat(centres, size, axis=1), np.repeat(axes, size, axis=1)
