"""A small trajectory on disk: molecules of four atoms that slide and do not turn, with energies and stresses."""

import numpy as np
from MDAnalysis import Universe, Writer

MOLECULES, ATOMS, EDGE = 20, 4, 18.0
ARMS = 1.2 * np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]])


def write_topology(path):
    """A LAMMPS data file of style full with masses and bonds."""
    atoms = MOLECULES * ATOMS
    bonds = [(ATOMS * m + k, ATOMS * m + k + 1) for m in range(MOLECULES) for k in (1, 2, 3)]
    lines = ["toy", "", f"{atoms} atoms", f"{len(bonds)} bonds", "1 atom types", "1 bond types", ""]
    lines += [f"0 {EDGE} {c}lo {c}hi" for c in "xyz"] + ["", "Masses", "", "1 12.011", "", "Atoms # full", ""]
    for k, (x, y, z) in enumerate(walk(1)[0]):
        lines.append(f"{k + 1} {k // ATOMS + 1} 1 0.0 {x:.6f} {y:.6f} {z:.6f}")
    lines += ["", "Bonds", "", *(f"{n + 1} 1 {a} {b}" for n, (a, b) in enumerate(bonds))]
    path.write_text("\n".join(lines) + "\n")


def walk(frames, seed=1, diffusion=0.2, interval_ps=0.5):
    """Positions (frames, atoms, 3) in Å of Brownian molecules, D in Å²/ps."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, EDGE - 2, (MOLECULES, 3))
    steps = rng.normal(size=(frames, MOLECULES, 3)) * np.sqrt(2 * diffusion * interval_ps)
    steps[0] = 0
    return ((centres + np.cumsum(steps, axis=0))[:, :, None] + ARMS).reshape(frames, -1, 3)


def write_run(path, topology, frames=200, seed=1, interval_ps=0.5):
    """An XTC file of the walk, and beside it `STEM_energy.csv` and `STEM_stress.csv` of noise."""
    universe = Universe(str(topology), atom_style="id resid type charge x y z", format=None)
    with Writer(str(path), n_atoms=MOLECULES * ATOMS) as writer:
        for frame, positions in enumerate(walk(frames, seed, interval_ps=interval_ps)):
            universe.atoms.positions = positions
            universe.dimensions = [EDGE] * 3 + [90] * 3
            universe.trajectory.ts.time = frame * interval_ps
            universe.trajectory.ts.frame = frame
            writer.write(universe)
    rng = np.random.default_rng(seed)
    times = np.arange(frames) * interval_ps
    energy = np.column_stack([times, rng.normal(-100, 0.5, frames)])
    stress = np.column_stack([times, rng.normal(0, 500, (frames, 6))])
    for name, columns, values in (
        ("energy", "time_ps,total_ev", energy),
        ("stress", "time_ps,xx,yy,zz,xy,xz,yz", stress),
    ):
        np.savetxt(path.with_name(f"{path.stem}_{name}.csv"), values, delimiter=",", header=columns, comments="")
