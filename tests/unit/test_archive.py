"""Archives of the store: what leaves it comes back as it was, and what was changed does not."""

import gzip
import json

import pytest

from mlpwf.calculators.espresso import pw
from mlpwf.errors import ConfigError
from mlpwf.label import import_export
from mlpwf.label.archive import read_archive, write_archive
from mlpwf.label.foreign import Refusal, Refused
from mlpwf.label.sources import find_sources
from mlpwf.label.store import Store
from real_outputs import HASHES, PHYSICS, SETTINGS, copy_outputs, store_of_outputs


@pytest.fixture
def store(tmp_path):
    copy_outputs(tmp_path)
    return store_of_outputs(tmp_path)


@pytest.fixture
def archive(store, tmp_path):
    assert write_archive(tmp_path / "labels.jsonl.gz", store, None) == 2
    return tmp_path / "labels.jsonl.gz"


def rewritten(archive, change):
    lines = gzip.decompress(archive.read_bytes()).decode().splitlines()
    archive.write_bytes(gzip.compress("\n".join([change(lines[0]), *lines[1:]]).encode()))


def test_a_store_comes_back_byte_for_byte(store, archive, tmp_path):
    other = Store(tmp_path / "other")
    for found in read_archive(archive, PHYSICS):
        assert import_export.keep(other, PHYSICS, found)
        assert not import_export.keep(other, PHYSICS, found), "known by then"
    assert other.all_keys() == store.all_keys()
    for key in store.all_keys():
        assert other.path("labels", key).read_bytes() == store.path("labels", key).read_bytes()
        assert other.check("labels", key)
    first = archive.read_bytes()
    write_archive(archive, other, PHYSICS)
    assert archive.read_bytes() == first


def test_an_archive_is_found_by_its_name(archive):
    assert find_sources([archive]).archives == [archive]


def test_labels_of_other_physics_are_refused(archive, store, tmp_path):
    other = pw.physics(SETTINGS.model_copy(update={"cutoff_ry": 40.0}), HASHES)
    refused = list(read_archive(archive, other))
    assert [one.reason for one in refused] == [Refusal.OTHER_PHYSICS] * 2
    assert "cutoff_ry is 30.0, 40.0 expected" in str(refused[0])
    with pytest.raises(ConfigError, match="no label of this physics"):
        write_archive(tmp_path / "none.jsonl.gz", store, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.replace('"symbols": ["', '"symbols": ["C", "'), "checksum"),
        (lambda line: line[:-20], "JSONDecodeError"),
        (lambda line: json.dumps({"energy_ev": 1.0}), "no record with a checksum, sha256"),
        (lambda line: "[1]", "no record with a checksum, sha256"),
    ],
)
def test_a_changed_record_is_refused_and_the_others_taken(archive, change, message):
    rewritten(archive, change)
    bad, good = read_archive(archive, PHYSICS)
    assert isinstance(bad, Refused)
    with pytest.raises(Refused, match=message):
        raise bad
    assert bad.reason is Refusal.UNREADABLE
    assert good.record is not None


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_file_that_is_no_whole_archive_is_one_line(archive, content):
    archive.write_bytes(archive.read_bytes()[:-9] if content is None else content)
    (found,) = read_archive(archive, PHYSICS)
    assert found.reason is Refusal.UNREADABLE
    assert "no whole archive" in found.detail
