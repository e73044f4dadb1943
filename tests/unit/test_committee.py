"""A committee's spread is DeePMD's published definition; its members' failures are seen; records name the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlpwf.campaign import records
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import write_json
from mlpwf.potentials.base import Engine, Potential, Role
from mlpwf.potentials.committee import Committee, spread_of
from mlpwf.potentials.record import ModelRecord, engine_of, model_files
from mlpwf.potentials.registry import engine
from mlpwf.structures.properties import Properties

FRAME = Atoms("HO", [[0, 0, 0], [1, 0, 0]], cell=[5] * 3, pbc=True)


class Given(Potential):
    """Predicts what it is given."""

    def __init__(self, forces: np.ndarray) -> None:
        super().__init__(engine("deepmd"), [Path("given")])
        self.forces = forces

    elements = ("H", "O")  # type: ignore[assignment]

    def compute(self, frames):
        return [Properties(0.0, self.forces, np.eye(3), 125.0) for _ in frames]


def members(count: int = 4, atoms: int = 5) -> list[Properties]:
    rng = np.random.default_rng(1)
    return [Properties(0.0, rng.normal(size=(atoms, 3)), rng.normal(size=(3, 3)), 20.0) for _ in range(count)]


def test_the_spread_is_that_of_deepmd_kit():
    from deepmd.infer.model_devi import calc_model_devi_f, calc_model_devi_v

    found = members()
    expected = [values.item() for values in calc_model_devi_f(np.array([[one.forces] for one in found]))]
    virials = np.array([[one.virial.ravel() / 5] for one in found])
    spread = spread_of(found)
    assert (spread.max_force, spread.min_force, spread.mean_force) == pytest.approx(expected, rel=1e-12)
    assert spread.max_virial == pytest.approx(calc_model_devi_v(virials)[0].item(), rel=1e-12)
    assert list(spread.columns()) == ["max_devi_f", "min_devi_f", "avg_devi_f", "max_devi_v"]


def test_forces_do_not_depend_on_the_axes():
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turned = [replace(one, forces=one.forces @ turn, stress=turn.T @ one.stress @ turn) for one in members()]
    assert spread_of(turned).max_force == pytest.approx(spread_of(members()).max_force)


def test_a_member_without_numbers_is_seen():
    committee = Committee([Given(np.zeros((2, 3))), Given(np.full((2, 3), np.nan))])
    assert np.isnan(committee.spread([FRAME])[0].max_force)
    assert np.isnan(committee.forces([FRAME])[0][1]).all()
    with pytest.raises(ConfigError, match="a committee of no models"):
        Committee([])


# ---------------------------------------------------------------- records


def test_a_record_of_an_older_version_is_deepmds(tmp_path: Path):
    model = tmp_path / "model.pb"
    model.write_bytes(b"weights")
    assert ModelRecord.of(model) is None
    assert engine_of([model]).name == "deepmd"
    write_json(tmp_path / "check.json", {"elements": ["H", "O"], "sha256": {"model.pb": "0"}, "steps": 7})
    record = ModelRecord.of(model)
    assert record is not None
    assert (record.engine, record.elements, record.cutoff_angstrom) == ("deepmd", ["H", "O"], None)


def test_a_record_says_what_a_model_is(tmp_path: Path):
    written = ModelRecord(
        engine="deepmd", elements=["H"], cutoff_angstrom=6.0, units={"energy": "eV"}, files={"original": "model.pb"},
        sha256={"model.pb": "0"}, parents={"a": "1"},
    )  # fmt: skip
    write_json(tmp_path / "check.json", {"mlpwf": "1", **records.as_dict(written)})
    assert ModelRecord.of(tmp_path / "model.pb") == written
    write_json(tmp_path / "check.json", [])
    with pytest.raises(DataError, match="no record of a model"):
        ModelRecord.of(tmp_path / "model.pb")


def test_a_committee_is_of_one_engine(tmp_path: Path):
    for name in ("deepmd", "force_field"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "check.json", {"engine": name})
    with pytest.raises(ConfigError, match="of the engines deepmd and force_field; expected one for all"):
        engine_of([tmp_path / name / "model" for name in ("deepmd", "force_field")])


def test_files_go_by_their_role(tmp_path: Path):
    by: Engine = engine("deepmd")
    assert {role.value: path.name for role, path in model_files(by, tmp_path).items()} == {
        "original": by.files[Role.ORIGINAL],
        "deployed": by.files[Role.DEPLOYED],
    }
