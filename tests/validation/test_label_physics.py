"""A stored label is the derivative of the energy, D3 included, and equals pw.x run by hand."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlpwf.calculators.espresso import pw
from mlpwf.calculators.espresso.acceptance import accept
from mlpwf.config import Label, Site
from mlpwf.label.store import canonical
from mlpwf.structures.frames import quantised

pytestmark = [
    pytest.mark.engine,
    pytest.mark.physical_validation,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]
RYDBERG_EV, BOHR_A = 13.605693123, 0.529177210903


def in_box(name, cell, seed=5, rattle=0.05):
    atoms = molecule(name)
    atoms.set_cell(cell)
    atoms.pbc = True
    atoms.rattle(rattle, seed=seed)
    return quantised(atoms)


@pytest.fixture
def compute(tmp_path):
    """Label a frame as the labelling job does; numbers in the frame's own order."""

    def run(atoms, settings):
        structure = canonical(atoms)
        status, text = pw.run(structure.atoms(), settings, Site(), tmp_path)
        folder = Path(Site().pseudopotential_folder)
        hashes = pw.pseudopotential_hashes(sorted(set(atoms.symbols)), settings, folder)
        result = accept(status, text, structure.atoms(), settings, hashes).properties
        forces = np.empty((len(atoms), 3))
        forces[structure.order] = result.forces
        return result.energy, forces, result.stress

    return run


def test_forces_are_minus_the_derivative_of_the_energy(compute):
    settings = Label(cutoff_ry=40, density_cutoff_ry=320, convergence_ry=1e-9, kpoints="gamma")
    atoms = in_box("H2O", [5.0, 5.2, 5.4])
    _, forces, _ = compute(atoms, settings)
    step = 0.01
    for atom, axis in ((0, 1), (1, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(compute(quantised(moved), settings)[0])
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=0.01)


def test_stress_is_the_derivative_under_strain(compute):
    """Sign and unit: σ_xx V = dE/dε_xx; a stretched molecule, so that the virial is of some eV."""
    settings = Label(cutoff_ry=60, density_cutoff_ry=480, convergence_ry=1e-9, kpoints="gamma")
    atoms = in_box("H2O", [5.0, 5.2, 5.4], rattle=0)
    atoms.positions *= 1.10
    atoms = quantised(atoms)
    _, _, stress = compute(atoms, settings)
    step, energies = 0.004, []
    for sign in (1, -1):
        strained = atoms.copy()
        scale = np.array([1.0, 1 + sign * step, 1.0])
        strained.set_cell(atoms.cell.array * scale, scale_atoms=True)
        energies.append(compute(quantised(strained), settings)[0])
    derivative = (energies[0] - energies[1]) / (2 * step)
    assert abs(derivative) > 1.0
    assert stress[1, 1] * atoms.get_volume() == pytest.approx(derivative, rel=0.03, abs=0.05)


def test_dispersion_equals_simple_dftd3(compute):
    from dftd3.interface import DispersionModel, RationalDampingParam

    atoms = Atoms("OH2OH2", np.vstack([molecule("H2O").positions, molecule("H2O").positions + [3.1, 0.2, 0.4]]))
    atoms.set_cell([8.0, 6.5, 6.6])
    atoms.pbc = True
    atoms = quantised(atoms)
    with_d3 = compute(atoms, Label(cutoff_ry=25, density_cutoff_ry=150, dispersion="d3bj", kpoints="gamma"))
    without = compute(atoms, Label(cutoff_ry=25, density_cutoff_ry=150, dispersion="none", kpoints="gamma"))
    model = DispersionModel(atoms.numbers, atoms.positions / BOHR_A, atoms.cell.array / BOHR_A, np.array([True] * 3))
    model.set_realspace_cutoff(disp2=np.sqrt(9000.0), disp3=40.0, cn=40.0)
    result = model.get_dispersion(RationalDampingParam(method="rpbe", atm=False), grad=True)
    assert with_d3[0] - without[0] == pytest.approx(result["energy"] * 2 * RYDBERG_EV, abs=2e-6)
    expected = -result["gradient"] * 2 * RYDBERG_EV / BOHR_A
    assert np.allclose(with_d3[1] - without[1], expected, atol=2e-4)


BY_HAND = """\
&control
  calculation='scf', tprnfor=.true., tstress=.true., disk_io='none', outdir='./hand', pseudo_dir='{folder}'
/
&system
  ibrav=0, nat={nat}, ntyp={ntyp}, ecutwfc={cutoff}, ecutrho={density}, input_dft='rpbe',
  vdw_corr='dft-d3', dftd3_version=4, dftd3_threebody=.false.
/
&electrons
  conv_thr=1.0d-9
/
ATOMIC_SPECIES
{species}
CELL_PARAMETERS angstrom
{cell}
ATOMIC_POSITIONS angstrom
{positions}
K_POINTS gamma

"""


@pytest.mark.parametrize(
    ("name", "cell", "cutoffs"), [("H2O", [6.0, 6.2, 6.4], (30, 180)), ("C6H5CH3", [9.0, 8.0, 5.5], (25, 125))]
)
def test_label_equals_pw_run_by_hand(name, cell, cutoffs, compute, tmp_path):
    if name == "C6H5CH3":
        from rdkit import Chem
        from rdkit.Chem import AllChem

        toluene = Chem.AddHs(Chem.MolFromSmiles("Cc1ccccc1"))
        AllChem.EmbedMolecule(toluene, randomSeed=7)
        atoms = Atoms([a.GetSymbol() for a in toluene.GetAtoms()], toluene.GetConformer().GetPositions())
        atoms.set_cell(cell)
        atoms.pbc = True
        atoms = quantised(atoms)
    else:
        atoms = in_box(name, cell)
    settings = Label(cutoff_ry=cutoffs[0], density_cutoff_ry=cutoffs[1], convergence_ry=1e-8, kpoints="gamma")
    energy, forces, stress = compute(atoms, settings)

    files = {"C": "12.011 C.pbe-rrkjus.UPF", "H": "1.008 HUSPBE.RRKJ3", "O": "15.999 O.pbe-rrkjus.UPF"}
    elements = sorted(set(atoms.symbols))
    hand = tmp_path / "hand.in"
    hand.write_text(
        BY_HAND.format(
            folder=Site().pseudopotential_folder,
            nat=len(atoms),
            ntyp=len(elements),
            cutoff=cutoffs[0],
            density=cutoffs[1],
            species="\n".join(f"{e} {files[e]}" for e in elements),
            cell="\n".join(" ".join(f"{x:.8f}" for x in row) for row in atoms.cell.array),
            positions="\n".join(
                f"{s} " + " ".join(f"{x:.8f}" for x in p) for s, p in zip(atoms.symbols, atoms.positions, strict=True)
            ),
        )
    )
    text = subprocess.run(["pw.x", "-in", hand], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    direct = float(re.search(r"^! +total energy += +(\S+) Ry", text, re.M)[1]) * RYDBERG_EV
    rows = re.findall(r"atom +\d+ type +\d+ +force = +(\S+) +(\S+) +(\S+)", text)
    pressure = float(re.search(r"P= +(\S+)", text)[1])
    assert energy == pytest.approx(direct, rel=2e-7)
    assert np.allclose(forces, np.array(rows, float) * RYDBERG_EV / BOHR_A, atol=2e-3)
    assert -np.trace(stress) / 3 * 1602.1766 == pytest.approx(pressure, abs=0.05)
