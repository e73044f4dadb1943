"""Records of the store as types: sealed as they stand on disk, read whatever version wrote them."""

import gzip
import json
from pathlib import Path

import pytest

from mlpwf.campaign.records import Attempt
from mlpwf.errors import DataError
from mlpwf.label.record import (
    LabelRecord,
    RejectionRecord,
    checksum,
    opened,
    raw_of,
    read,
    read_raw,
    sealed,
    structure_of,
    typed,
    write_raw,
)
from mlpwf.label.store import Store, canonical, label_key
from store_records import accepted, rejected

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KEY = "ab" * 32
ATTEMPT = Attempt(attempt="as asked", reason=None, detail=None, cpu_s=2.0)


def earlier(record):
    """A record as versions before 0.3 wrote it."""
    raw = raw_of(record)
    for attempt in raw["attempts"]:
        attempt["rung"] = attempt.pop("attempt")
    return raw


@pytest.mark.parametrize("record", [accepted(attempts=[ATTEMPT]), rejected(attempts=[ATTEMPT])], ids=["label", "other"])
def test_a_record_comes_back_as_it_was_written(record, tmp_path):
    write_raw(tmp_path / "record.json", raw_of(record))
    assert read(tmp_path / "record.json", type(record)) == record


def test_what_does_not_apply_is_not_written():
    raw = raw_of(accepted())
    assert not {"source", "asserted", "reason"} & set(raw)
    assert raw["attempts"] == []
    assert raw_of(accepted(asserted=True, source="here"))["asserted"] is True


def test_a_record_of_an_earlier_version_is_read_and_its_checksum_is_of_what_stands_on_disk(tmp_path):
    store = Store(tmp_path)
    raw = earlier(accepted(attempts=[ATTEMPT]))
    store.put_raw(KEY, raw)
    on_disk = json.loads(store.path("labels", KEY).read_text())
    assert on_disk == {**raw, "sha256": checksum(raw)}
    assert on_disk["attempts"][0]["rung"] == "as asked"
    assert store.get(KEY) == accepted(attempts=[ATTEMPT], finished=raw["finished"])
    assert list(store.raw_records()) == [raw]


def test_labels_of_version_0_1_are_read_whole_and_say_the_same_when_written():
    lines = gzip.decompress((BENCHMARKS / "toluene" / "labels.jsonl.gz").read_bytes()).decode().splitlines()
    for line in lines[::10]:
        raw, seal = opened(json.loads(line))
        assert seal == checksum(raw)
        record = typed(raw, LabelRecord)
        assert [one.attempt for one in record.attempts] == ["as asked"]
        assert raw_of(record) | {"attempts": raw["attempts"]} == raw
        assert len(label_key(canonical(structure_of(record)), record.physics)) == 64


def test_the_first_records_had_neither_attempts_nor_a_checksum(tmp_path):
    raw = {name: value for name, value in raw_of(rejected()).items() if name != "attempts"}
    (tmp_path / "record.json").write_text(json.dumps(raw))
    assert read(tmp_path / "record.json", RejectionRecord).attempts == []
    assert read_raw(tmp_path / "record.json") == (raw, False)


def test_names_in_the_physics_are_never_taken_for_those_of_earlier_versions():
    physics = {"engine": "toy", "rung": 1, "said": {"aside": 2}}
    raw = raw_of(accepted()) | {"physics": physics}
    assert typed(raw, LabelRecord).physics == physics


def test_names_of_later_versions_are_left_on_disk(tmp_path):
    store = Store(tmp_path)
    raw = raw_of(accepted()) | {"colour": "red"}
    store.put_raw(KEY, raw)
    assert store.get(KEY).energy_ev == -1.5
    assert next(store.raw_records())["colour"] == "red"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy_ev": "low"}, r"no LabelRecord \(Expected `float`, got `str` - at `\$\.energy_ev`\); delete it"),
        ({"attempts": [{"rung": 1}]}, r"at `\$\.attempts\[0\]\.attempt`"),
        ({"symbols": None}, r"at `\$\.symbols`"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(changes, message, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(sealed(raw_of(accepted()) | changes)))
    with pytest.raises(DataError, match=message) as caught:
        read(path, LabelRecord)
    assert str(caught.value).startswith(str(path))


def test_the_checksum_is_checked_before_anything_is_read(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(sealed(raw_of(accepted())) | {"energy_ev": "low"}))
    with pytest.raises(DataError, match="its checksum is not that of its content"):
        read(path, LabelRecord)
