"""Every registered potential engine does what the protocol says, on a frame of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contract import CHECKS, Case
from mlpwf.config import Site, Train
from mlpwf.errors import ConfigError
from mlpwf.potentials import registry
from mlpwf.potentials.base import Ability, TrainingJob
from mlpwf.structures.boxes import isolated, label_molecules, pack_box
from mlpwf.structures.species import molecule_from_smiles
from toy_water import WATER, labelled_boxes, needs_mace, relaxed_box, train_mace, train_on_force_field

FORCE_FIELD = Path(__file__).parents[2] / "config" / "force_fields"
EXACT = {
    "kspace_style pppm 1.0e-4": "kspace_style ewald 1.0e-9",
    "mix geometric tail yes": "mix geometric shift yes table 0",
}


def deepmd(request: pytest.FixtureRequest, folder: Path) -> Case:
    """A model of the toy water."""
    frame = relaxed_box(8, np.random.default_rng(4))
    return Case("deepmd", [request.getfixturevalue("water_models")[0]], [WATER], frame)


def force_field(request: pytest.FixtureRequest, folder: Path) -> Case:
    """Two toluenes of OPLS-AA, its energy made smooth: exact sums, no tables, no step at the cut-off."""
    toluene = molecule_from_smiles("toluene", "Cc1ccccc1", 1)
    label_molecules([toluene], [0])
    molecule = isolated(toluene, 3.0)
    molecule.info = {"species": "toluene"}
    text = (FORCE_FIELD / "toluene_opls.lammps").read_text()
    for old, new in EXACT.items():
        assert old in text
        text = text.replace(old, new)
    commands = folder / "toluene.lammps"
    commands.write_text(text)
    frame = pack_box([molecule], [2], 0.3, np.random.default_rng(1))
    frame.info = {}
    frame.rattle(0.02, seed=2)
    return Case("force_field", [commands, FORCE_FIELD / "toluene_opls.data"], [molecule], frame, 1e-6, 5e-5)


def molecular(request: pytest.FixtureRequest, folder: Path) -> Case:
    """A force field fitted to the toy water."""
    rng = np.random.default_rng(5)
    job = TrainingJob(
        folder, labelled_boxes(6, 3, 400, rng), Train(engine="molecular", pair_cutoff_angstrom=4), Site(), 1, 0,
        molecules=[WATER],
    )  # fmt: skip
    registry.engine("molecular").train(job, lambda *_: None)
    return Case("molecular", [folder / "force_field.json"], [WATER], relaxed_box(8, rng), 1e-6, 5e-5)


def molecular_deepmd(request: pytest.FixtureRequest, folder: Path) -> Case:
    """A force field fitted to the toy water, and a network of a few steps on what it leaves."""
    rng = np.random.default_rng(4)
    return Case("molecular_deepmd", [train_on_force_field(folder)], [WATER], relaxed_box(8, rng), 1e-6, 5e-5)


def mace(request: pytest.FixtureRequest, folder: Path) -> Case:
    """A MACE model of a few steps for the toy water."""
    needs_mace()
    return Case("mace", [train_mace(folder)], [WATER], relaxed_box(8, np.random.default_rng(4)), 1e-8, 5e-5)


def molecular_mace(request: pytest.FixtureRequest, folder: Path) -> Case:
    """A force field fitted to the toy water, and a MACE model of a few steps on what it leaves."""
    needs_mace()
    frame = relaxed_box(8, np.random.default_rng(4))
    return Case("molecular_mace", [train_mace(folder, "molecular")], [WATER], frame, 1e-6, 5e-5)


CASES: dict[str, Callable[[pytest.FixtureRequest, Path], Case]] = {
    "deepmd": deepmd,
    "force_field": force_field,
    "mace": mace,
    "molecular": molecular,
    "molecular_deepmd": molecular_deepmd,
    "molecular_mace": molecular_mace,
}


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The case of an engine, made once."""
    made: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in made:
            made[name] = CASES[name](request, tmp_path_factory.mktemp(name))
        return made[name]

    return case


@pytest.mark.engine
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", sorted(registry.ENGINES))
def test_the_contract(name: str, check: Callable[[Case, Path], None], cases: Callable[[str], Case], tmp_path: Path):
    check(cases(name), tmp_path)


def test_an_engine_is_asked_beforehand():
    assert registry.engine("deepmd").can(Ability.TRAIN)
    assert not registry.engine("force_field").can(Ability.TRAIN)
    assert registry.engine("deepmd") is registry.engine("deepmd")


def test_an_unknown_engine_is_named():
    with pytest.raises(
        ConfigError,
        match="no potential engine 'nequip'; expected one of deepmd, force_field, mace, molecular, molecular_deepmd, ",
    ):
        registry.engine("nequip")


PROJECT = Path(__file__).parents[2]
OUTSIDE = [
    path
    for path in [*(PROJECT / "src").rglob("*.py"), *(PROJECT / "workflow").rglob("*.smk")]
    if PROJECT / "src/mlpwf/potentials/deepmd" not in path.parents
    and path != PROJECT / "src/mlpwf/report/page.py"  # names the files of records that name none themselves
]


def test_nothing_outside_an_engine_names_its_files_or_settings():
    said = re.compile(r"\.pb\b|[\"']sel[\"']|\bout_file\b")
    assert len(OUTSIDE) > 150
    found = [f"{path}:{number}" for path in OUTSIDE
             for number, line in enumerate(path.read_text().splitlines(), 1) if said.search(line)]  # fmt: skip
    assert not found
