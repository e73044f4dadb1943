"""Links of the pages as they stand in the repository; those within the site are also checked by Sphinx."""

import re

import pytest

from doc_pages import PAGES

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
BUILT = "generated/"  # made by Sphinx, linked from the index alone


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_link_has_its_target(path):
    links = [link for link in LINK.findall(path.read_text()) if not re.match(r"[a-z]+:", link)]
    if path.name == "index.md":
        links = [link for link in links if not link.startswith(BUILT)]
    assert [link for link in links if not (path.parent / link).exists()] == []
