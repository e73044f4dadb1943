"""One version everywhere, and metadata that a package index shows."""

import re
import tomllib
from pathlib import Path

import yaml

from mlpwf import __version__

PROJECT = Path(__file__).parents[2]
ABOUT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((PROJECT / "CITATION.cff").read_text())


def test_version_authors_and_licence_are_said_alike():
    assert ABOUT["version"] == CITATION["version"] == __version__
    assert [author["name"] for author in ABOUT["authors"]] == [author["name"] for author in CITATION["authors"]]
    assert ABOUT["license"] == CITATION["license"]


def test_the_changelog_has_the_release_below_what_is_unreleased():
    titles = re.findall(r"^## (.*)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert titles[:2] == ["Unreleased", f"{__version__} – {CITATION['date-released']}"]


def test_every_extra_is_in_the_lock():
    """The lock of CI holds what `./start test` needs."""
    locked = re.findall(r"^([\w.-]+)==", (PROJECT / "envs" / "cpu.lock").read_text(), re.MULTILINE)
    extras = ABOUT["optional-dependencies"]
    wanted = [
        *ABOUT["dependencies"],
        *(name for extra in ("campaign", "test", "dev", "docs") for name in extras[extra]),
    ]
    names = {re.match(r"[\w.-]+", name)[0].lower().replace("_", "-") for name in wanted}
    assert names <= set(locked)
