"""A model is kept where its folder holds what its recipe gives, and made again where anything is other."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from mlpwf.campaign import records
from mlpwf.config import Train
from mlpwf.errors import DataError
from mlpwf.files import read_json, sha256, write_json
from mlpwf.potentials.base import Role
from mlpwf.potentials.registry import engine
from mlpwf.train.recipe import RECIPE, Recipe, TrainedModel, begun, finished, model_to_continue, recipe_of

DEEPMD = engine("deepmd")
RECIPE_OF = Recipe(versions={}, seed=1, index=0, settings={"steps": 7}, inputs={"labels": "ab"})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the files of a model and its record."""
    for name in (*DEEPMD.files.values(), DEEPMD.curve):
        (tmp_path / name).write_text(name)
    check = TrainedModel(
        **{name: getattr(RECIPE_OF, name) for name in Recipe.__struct_fields__},
        sha256={name: sha256(tmp_path / name) for name in DEEPMD.files.values()},
        started_from=None, frames=3, atoms=9, conversion_frames=3, conversion_difference={"force_ev_angstrom": 1e-6},
    )  # fmt: skip
    write_json(tmp_path / "check.json", {"seeds": [1, 2], **records.as_dict(check)})
    return tmp_path


def test_a_finished_model_is_kept_and_marked_as_new(model: Path) -> None:
    for path in model.iterdir():
        os.utime(path, (1, 1))
    assert finished(model, RECIPE_OF, DEEPMD, list(DEEPMD.files))
    assert all(path.stat().st_mtime > 1 for path in model.iterdir())


@pytest.mark.parametrize("change", [{"seed": 2}, {"settings": {"steps": 8}}, {"inputs": {"labels": "cd"}}])
def test_another_recipe_is_another_model(model: Path, change: dict) -> None:
    assert not finished(model, msgspec.structs.replace(RECIPE_OF, **change), DEEPMD, list(DEEPMD.files))


def test_a_key_renamed_since_trains_nothing_anew(model: Path) -> None:
    check = read_json(model / "check.json")
    write_json(model / "check.json", check | {"settings": {"conversion_tolerance_ev_angstrom": 1e-3}})
    today = msgspec.structs.replace(RECIPE_OF, settings={"compression_tolerance_ev_angstrom": 1e-3})
    assert finished(model, today, DEEPMD, list(DEEPMD.files))


def test_a_damaged_file_counts_where_it_is_asked_for(model: Path) -> None:
    (model / DEEPMD.files[Role.DEPLOYED]).write_text("cut")
    assert not finished(model, RECIPE_OF, DEEPMD, list(DEEPMD.files))
    assert finished(model, RECIPE_OF, DEEPMD, [Role.ORIGINAL])
    (model / DEEPMD.curve).unlink()
    assert not finished(model, RECIPE_OF, DEEPMD, [Role.ORIGINAL])


def test_a_record_that_says_too_little_is_of_no_finished_model(model: Path) -> None:
    check = read_json(model / "check.json")
    del check["versions"]
    write_json(model / "check.json", check)
    assert not finished(model, RECIPE_OF, DEEPMD, list(DEEPMD.files))


def test_a_training_is_resumed_under_the_same_recipe_alone(tmp_path: Path) -> None:
    assert not begun(tmp_path, RECIPE_OF)
    records.write(tmp_path / RECIPE, RECIPE_OF)
    assert begun(tmp_path, RECIPE_OF)
    assert not begun(tmp_path, msgspec.structs.replace(RECIPE_OF, seed=2))


def test_a_recipe_holds_the_hashes_of_what_is_read(tmp_path: Path) -> None:
    labels, parent = tmp_path / "labels.extxyz", tmp_path / "model.pb"
    labels.write_text("labels")
    parent.write_bytes(b"a model")
    recipe = recipe_of(Train(), DEEPMD, 5, 2, [labels], parent)
    assert recipe.inputs == {str(labels): sha256(labels), str(parent): sha256(parent)}
    assert (recipe.seed, recipe.index, recipe.settings["models"]) == (5, 2, 4)
    with pytest.raises(DataError, match="no such file"):
        recipe_of(Train(), DEEPMD, 5, 2, [tmp_path / "none"], None)


def test_which_model_is_continued(tmp_path: Path) -> None:
    new = Train(continue_models=False)
    assert model_to_continue(Train(), DEEPMD, None, final=False) is None
    assert model_to_continue(new, DEEPMD, tmp_path, final=False) is None
    with pytest.raises(DataError, match=r"expected the one to continue, or train\.continue_models: false"):
        model_to_continue(Train(), DEEPMD, tmp_path, final=False)
    with pytest.raises(DataError, match=r"expected the one to continue$"):
        model_to_continue(new, DEEPMD, tmp_path, final=True)
    (tmp_path / "model.pb").write_bytes(b"a model")
    assert model_to_continue(new, DEEPMD, tmp_path, final=True) == tmp_path / "model.pb"
