"""The map of the house in CONTRIBUTING.md: every file that it names is there, and holds the word to look for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SOURCE = PROJECT / "src" / "mlpwf"
MAP = (PROJECT / "CONTRIBUTING.md").read_text()
ROWS = re.findall(r"^\| ([^|`]+) \| `([a-z_/]+(?:\.py)?)` \| `(\w+)` \|$", MAP, re.M)


def test_the_table_is_read() -> None:
    assert len(ROWS) >= 13


@pytest.mark.parametrize(("what", "where", "word"), ROWS, ids=[row[0] for row in ROWS])
def test_a_place_is_found_by_its_word(what: str, where: str, word: str) -> None:
    path = SOURCE / where
    files = sorted(path.glob("[!_]*.py")) if path.is_dir() else [path]
    assert files, where
    assert any(re.search(rf"\b{word}\b", file.read_text()) for file in files), (what, where, word)


def test_rooms_of_the_map_are_those_of_the_source() -> None:
    layers = MAP.split("### Where would you change")[0]
    named = set(re.findall(r"`([a-z_]+)/`", layers)) | set(re.findall(r"`([a-z_]+)\.py`", layers))
    there = {path.stem for path in SOURCE.iterdir() if not path.name.startswith(("_", "py.typed"))}
    assert there <= named
