"""What every potential must do, as checks of a case: engine, files, and a frame of at least two like molecules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlpwf.errors import DataError, EngineError
from mlpwf.md.lammps import WalkerJob, environment
from mlpwf.potentials.base import Ability, Potential, Role
from mlpwf.potentials.registry import engine
from mlpwf.structures.frames import element_order, quantised, write_frames

STEP = 1e-4  # of finite differences, in Å and as a strain
NVE = """
import json, sys
import numpy as np
from mlpwf.md.lammps import WalkerJob
from mlpwf.md.running_box import RunningBox

box = RunningBox(WalkerJob(**json.loads(open("job.json").read())), 5)
box.open()
box.command("velocity all create 300 7 mom yes rot no dist gaussian", "fix motion all nve")
box.run(0, setup=True)
totals = [box.thermo("etotal")]
for _ in range(int(sys.argv[1])):
    box.run(10)
    totals.append(box.thermo("etotal"))
pressure = box.thermo("press")
box.run(0, setup=True)
frame = box.frame()
forces = np.ctypeslib.as_array(box.lammps.gather_atoms("f", 1, 3)).reshape(-1, 3)
forces = forces / box.potential.units.ev @ box.rotation.T
np.savez("last.npz", positions=frame.positions, cell=frame.cell.array, forces=forces, energy=box.thermo("pe"),
         totals=totals, pressures=[pressure, box.thermo("press")])
"""


@dataclass(frozen=True)
class Case:
    """A potential to be checked, with how far its numbers may be from exact."""

    engine: str
    files: list[Path]
    molecules: list[Atoms]
    frame: Atoms
    energy_ev: float = 1e-8
    slope_ev: float = 2e-5

    @property
    def potential(self) -> Potential:
        """Opened."""
        return engine(self.engine).open(self.files, self.molecules)


def _turned(atoms: Atoms) -> tuple[Atoms, np.ndarray]:
    """The frame, turned and shifted, and the rotation that turns its row vectors."""
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    rotation = np.linalg.solve(atoms.cell.array, turned.cell.array)
    turned.translate([0.3, -1.2, 7.0])
    return turned, rotation


def _exchanged(atoms: Atoms) -> tuple[Atoms, np.ndarray]:
    """The frame with its first two molecules exchanged, and where each of its atoms was."""
    molecule = atoms.arrays["molecule"]
    first, second = (np.flatnonzero(molecule == number) for number in (0, 1))
    assert atoms.numbers[first].tolist() == atoms.numbers[second].tolist(), "a case needs two like molecules"
    order = np.concatenate([second, first, np.flatnonzero(molecule > 1)])
    exchanged = atoms[order]
    exchanged.arrays["molecule"] = molecule.copy()
    return exchanged, order


def check_invariance(case: Case, folder: Path) -> None:
    """Neither translation, rotation, wrapping nor the order of like molecules changes the energy; forces follow."""
    wrapped = case.frame.copy()
    wrapped.positions[0] += 2 * wrapped.cell.array[1]
    wrapped.wrap()
    turned, rotation = _turned(case.frame)
    exchanged, order = _exchanged(case.frame)
    here, *others = case.potential.predict([case.frame, wrapped, turned, exchanged])
    assert [one.energy for one in others] == pytest.approx([here.energy] * 3, abs=case.energy_ev)
    forces = [here.forces, here.forces @ rotation, here.forces[order]]
    virials = [here.virial, rotation.T @ here.virial @ rotation, here.virial]
    for one, force, virial in zip(others, forces, virials, strict=True):
        np.testing.assert_allclose(one.forces, force, rtol=0, atol=10 * case.energy_ev)
        np.testing.assert_allclose(one.virial, virial, rtol=0, atol=100 * case.energy_ev)


def check_derivatives(case: Case, folder: Path) -> None:
    """Forces are minus the gradient of the energy, the virial is minus its strain derivative."""
    atoms, moved, strained = case.frame, [], []
    coordinates = [(0, 0), (1, 1), (len(atoms) - 1, 2)]
    strains = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    for sign in (1, -1):
        for atom, axis in coordinates:
            moved.append(atoms.copy())
            moved[-1].positions[atom % len(atoms), axis] += sign * STEP
        for axis, other in strains:
            strain = np.eye(3)
            strain[axis, other] += sign * STEP
            strained.append(atoms.copy())
            strained[-1].set_cell(atoms.cell.array @ strain, scale_atoms=True)
    here, *others = case.potential.predict([atoms, *moved, *strained])
    energies = np.array([one.energy for one in others])
    along, under = (-np.subtract(*part.reshape(2, -1)) / (2 * STEP) for part in np.split(energies, [len(moved)]))
    forces = [here.forces[atom % len(atoms), axis] for atom, axis in coordinates]
    assert np.abs(here.forces).max() > 1e-3, "a case needs forces"
    assert here.volume == pytest.approx(atoms.get_volume())
    assert along == pytest.approx(forces, abs=case.slope_ev)
    virial = (here.virial + here.virial.T) / 2
    assert under == pytest.approx([virial[pair] for pair in strains], abs=len(atoms) * case.slope_ev)


def check_batch(case: Case, folder: Path) -> None:
    """Frames of several compositions at once are the same frames one by one, in their order."""
    single = case.frame[case.frame.arrays["molecule"] == 0]
    frames = [case.frame, single, _turned(case.frame)[0], single]
    potential = case.potential
    assert potential.predict([]) == []
    for atoms, together in zip(frames, potential.predict(frames), strict=True):
        (alone,) = potential.predict([atoms])
        assert together.energy == pytest.approx(alone.energy, abs=case.energy_ev)
        assert together.forces.shape == alone.forces.shape == (len(atoms), 3)
        np.testing.assert_allclose(together.forces, alone.forces, rtol=0, atol=case.energy_ev)
        np.testing.assert_allclose(together.virial, alone.virial, rtol=0, atol=10 * case.energy_ev)


def check_supercell(case: Case, folder: Path) -> None:
    """Boxes side by side are the same liquid: no atom takes an image for another, however small the box."""
    count, copies = len(case.frame), 4
    whole = case.frame.repeat((2, 2, 1))
    molecules = int(case.frame.arrays["molecule"].max()) + 1
    whole.arrays["molecule"] = np.concatenate(
        [case.frame.arrays["molecule"] + molecules * copy for copy in range(copies)]
    )
    whole.info = {}
    (one,), (many,) = case.potential.predict([case.frame]), case.potential.predict([whole])
    assert many.energy == pytest.approx(copies * one.energy, abs=10 * copies * case.energy_ev)
    np.testing.assert_allclose(
        many.forces.reshape(copies, count, 3), np.tile(one.forces, (copies, 1, 1)), rtol=0, atol=100 * case.energy_ev
    )
    np.testing.assert_allclose(many.virial, copies * one.virial, rtol=0, atol=1000 * case.energy_ev)


def check_frames_are_left_alone(case: Case, folder: Path) -> None:
    """Predicting changes nothing of a frame."""
    before = case.frame.copy()
    case.potential.predict([case.frame])
    assert case.frame == before
    assert case.frame.calc is None


def check_elements(case: Case, folder: Path) -> None:
    """It knows the elements of its molecules, and refuses others in one line."""
    potential = case.potential
    assert set(element_order(case.molecules)) <= set(potential.elements)
    strange = case.frame.copy()
    strange.symbols[0] = "Og"
    with pytest.raises(DataError, match="holds Og as well") as caught:
        potential.predict([strange])
    assert "\n" not in str(caught.value)


def check_calculator(case: Case, folder: Path) -> None:
    """The ASE calculator gives what is predicted."""
    atoms = case.frame.copy()
    atoms.calc = case.potential.calculator()
    (expected,) = case.potential.predict([case.frame])
    assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=case.energy_ev)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, rtol=0, atol=case.energy_ev)
    symmetric = (expected.stress + expected.stress.T) / 2 * expected.volume
    stress = atoms.get_stress(voigt=False) * expected.volume
    np.testing.assert_allclose(stress, symmetric, rtol=0, atol=10 * case.energy_ev)


def check_abilities(case: Case, folder: Path) -> None:
    """What it says it can it does; what it says it cannot raises one line."""
    by, potential = engine(case.engine), case.potential
    uses: dict[Ability, Callable[[], object]] = {
        Ability.TRAIN: lambda: by.deploy(folder, None),
        Ability.DESCRIPTORS: lambda: potential.descriptors([case.frame], potential.elements),
        Ability.LAMMPS: potential.lammps,
    }
    for ability, use in uses.items():
        if by.can(ability):
            by.require(ability)
            continue
        for ask in (use, lambda ability=ability: by.require(ability)):
            with pytest.raises(EngineError, match=f"{case.engine} cannot {ability}, they can ") as caught:
                ask()
            assert "\n" not in str(caught.value)
    if by.can(Ability.TRAIN):
        assert set(by.files) >= {Role.ORIGINAL, Role.DEPLOYED}
        assert by.packages


def check_descriptors(case: Case, folder: Path) -> None:
    """Descriptors tell frames apart, and nothing else."""
    potential = case.potential
    if not potential.engine.can(Ability.DESCRIPTORS):
        return
    other = case.frame.copy()
    other.rattle(0.1, seed=1)
    frames = [case.frame, _turned(case.frame)[0], _exchanged(case.frame)[0], other]
    vectors = potential.descriptors(frames, potential.elements)
    assert vectors.ndim == 2
    np.testing.assert_allclose(vectors[1:3], vectors[[0, 0]], rtol=0, atol=1e-8)
    assert np.abs(vectors[3] - vectors[0]).max() > 1e-4


def check_lammps(case: Case, folder: Path) -> None:
    """After some steps of NVE in LAMMPS its energy and forces are those that are predicted."""
    by = engine(case.engine)
    if not by.can(Ability.LAMMPS):
        return
    last = nve(case, folder)
    frame = case.frame.copy()
    frame.set_cell(last["cell"])
    frame.positions = last["positions"]
    (expected,) = case.potential.predict([frame])
    assert np.abs(frame.positions - case.frame.positions).max() > 1e-3
    assert float(last["energy"]) == pytest.approx(expected.energy, abs=max(1e-6, 10 * case.energy_ev))
    np.testing.assert_allclose(last["forces"], expected.forces, rtol=0, atol=max(1e-6, 10 * case.energy_ev))


def check_fast_forces(case: Case, folder: Path) -> None:
    """Shorter steps of its fast forces alone keep the energy as well as short steps of all; the pressure is whole."""
    if not engine(case.engine).can(Ability.LAMMPS) or (fast := case.potential.lammps().fast) is None:
        return
    assert [fast.steps(times * fast.longest_fs) for times in (0.5, 1, 1.2, 4)] == [1, 1, 2, 4]
    spread = {}
    for times in (1, 4):
        (folder / str(times)).mkdir()
        last = nve(case, folder / str(times), times * fast.longest_fs, 80 // times)
        spread[times] = float(np.std(last["totals"][8:]))
        assert last["pressures"][0] == pytest.approx(last["pressures"][1], rel=1e-6)
    assert 0 < spread[4] < 3 * spread[1]


def nve(case: Case, folder: Path, timestep_fs: float = 0.5, pieces: int = 1) -> dict[str, np.ndarray]:
    """The last state of a run in a child process, and the total energy (eV) after each piece of ten steps.

    Positions and cell are in Å, forces in eV/Å, the energy in eV; the pressure, as the run ended with it and as
    it is set up anew, is in bar.
    """
    start = _turned(quantised(case.frame))[0]  # a cell that LAMMPS has to turn
    start.info = {}
    write_frames(folder / "box.extxyz", [quantised(start)])
    write_frames(folder / "molecules.extxyz", case.molecules)
    job = WalkerJob(
        engine=case.engine, models=[[str(file) for file in case.files]], box=str(folder / "box.extxyz"),
        references=str(folder / "molecules.extxyz"), seed=1, temperature_kelvin=300.0, pressure_bar=None,
        timestep_fs=timestep_fs, steps=10 * pieces, steps_between_frames=5, blow_up_ev_angstrom=1e6, state="300K",
        walker=0,
    )  # fmt: skip
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    done = subprocess.run(
        [sys.executable, "-c", NVE, str(pieces)], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | environment(engine(case.engine)),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(folder / "last.npz", allow_pickle=False) as kept:
        return dict(kept)


CHECKS: Sequence[Callable[[Case, Path], None]] = [
    check_invariance, check_derivatives, check_supercell, check_batch, check_frames_are_left_alone, check_elements,
    check_calculator, check_abilities, check_descriptors, check_lammps, check_fast_forces,
]  # fmt: skip
