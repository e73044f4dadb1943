"""Files: whole or absent, named when a disk is full, and models that are what they were."""

import errno

import pytest

from mlpwf.errors import DataError
from mlpwf.files import naming, no_room, replacing, sha256, write_json
from mlpwf.potentials.record import sound_model


def test_a_full_disk_is_told_with_the_file_that_was_written(tmp_path):
    target = tmp_path / "table.csv"
    with pytest.raises(OSError, match="No space") as caught, replacing(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(target)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space") as caught, naming("outer"), naming("inner"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == "inner"


def test_what_is_said_of_a_full_disk(tmp_path):
    said = no_room(tmp_path / "not" / "yet" / "there")
    assert said.startswith(f"{tmp_path}/not/yet/there: cannot be written whole, its disk or quota is full (")
    assert "MB free); expected room for it: free some, then run the same command again" in said


@pytest.mark.parametrize("record", ["check.json", "final.json"])
def test_a_model_is_held_against_the_hash_beside_it(tmp_path, record):
    model = tmp_path / "model.pb"
    model.write_bytes(b"weights")
    assert sound_model(model) == sha256(model), "a model without a record is taken as it is"
    known = sha256(model) if record == "final.json" else {"model.pb": sha256(model), "compressed.pb": "0"}
    write_json(tmp_path / record, {"sha256": known})
    assert sound_model(model) == sha256(model)
    for damaged in (b"weight", b"weightS"):
        model.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"model\.pb: damaged .*{record}\): delete it and run again"):
            sound_model(model)
