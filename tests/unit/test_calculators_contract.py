"""Every calculator of the table is held to one contract, by real programs."""

import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from calculator_contract import CONTRACT, Case
from mlpwf.config import Label, Site
from mlpwf.config.label_engines import LABEL_ENGINES
from mlpwf.structures.frames import quantised

PROJECT = Path(__file__).parents[2]


def hydrogen():
    """A stretched molecule in a small box."""
    axis = np.array([0.6, 0.64, 0.48])
    positions = np.array([[1.3, 1.2, 1.4], [1.3, 1.2, 1.4] + 0.85 * axis])
    return quantised(Atoms("H2", positions, cell=[3.4, 3.6, 3.5], pbc=True))


def water():
    """A stretched molecule in a small box."""
    atoms = molecule("H2O")
    atoms.positions *= 1.08
    atoms.set_cell([4.1, 4.2, 4.3])
    atoms.pbc = True
    atoms.rattle(0.03, seed=2)
    return quantised(atoms)


def espresso():
    label = Label(
        engine="qe", cutoff_ry=40, density_cutoff_ry=320, convergence_ry=1e-9, kpoints="gamma", dispersion="none"
    )
    broken = Site(pw=["sh", "-c", "echo '     Program PWSCF v.6.7 starts on'; exit 1"])
    return Case(
        label, Site(), hydrogen(), (label, broken, hydrogen()),
        numerics={"mixing_beta": 0.3, "retries": 1, "timeout_seconds": 60.0, "diagonalization": "cg"},
        physics={"cutoff_ry": 41.0, "functional": "pbe", "dispersion": "d3bj", "kpoints": "auto", "smearing": "mv"},
        force_step=0.01, strain_step=0.004, force_tolerance=0.02, virial_tolerance=0.05,
    )  # fmt: skip


def xtb(method):
    label = Label(engine=method)
    francium = Atoms("FrH", [[0, 0, 0], [0, 0, 2.7]], cell=[6.0] * 3, pbc=True)
    return Case(
        label, Site(), water(), (label, Site(), francium),
        numerics={"mixing_beta": 0.3, "retries": 1, "cutoff_ry": 60.0},
        physics={"engine": "gfn1" if method == "gfn2" else "gfn2"},
    )  # fmt: skip


needs_pw = pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it")
CASES = {"qe": espresso, "gfn1": lambda: xtb("gfn1"), "gfn2": lambda: xtb("gfn2")}
MARKS = {"qe": [pytest.mark.engine, needs_pw]}


def test_every_calculator_of_the_table_is_held_to_it():
    assert set(CASES) == set(LABEL_ENGINES)


def test_no_stage_and_no_rule_names_an_engine():
    """What differs between engines is asked of the calculator, or of the table."""
    sources = [*(PROJECT / "src" / "mlpwf").rglob("*.py"), *(PROJECT / "workflow").rglob("*.smk")]
    naming = {path.relative_to(PROJECT) for path in sources if re.search(r"""["']qe["']""", path.read_text())}
    assert naming == {Path("src/mlpwf/config/label_engines.py")}
    outside = [path for path in sources if "calculators" not in path.parts and path.name != "label_engines.py"]
    importing = [path for path in outside if "calculators.espresso" in path.read_text()]
    assert not importing, "what is Quantum ESPRESSO's is reached through the protocol"


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in CASES])
@pytest.mark.parametrize("statement", CONTRACT, ids=lambda statement: statement.__name__)
def test_the_contract(name, statement, tmp_path):
    more = [tmp_path] if "folder" in inspect.signature(statement).parameters else []
    statement(CASES[name](), *more)
