"""Numbers of a table on a page are those of the table they were taken from.

A table that stands between `<!-- numbers of benchmarks/NAME.csv -->` and `<!-- end -->` holds only numbers that are
in that file, rounded; `<!-- numbers of A.csv, B.csv; also 1 2 -->` names more files, and numbers of the text.
"""

import csv
import re
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal

import pytest

from doc_pages import PAGES, PROJECT

MARKED = re.compile(r"<!-- numbers of ([^;>]+?)(?:; also ([^>]+?))? -->\n(.*?)<!-- end -->", re.DOTALL)
NUMBER = re.compile(r"[-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
TABLES = [(path.name, *found) for path in PAGES for found in MARKED.findall(path.read_text())]
FACTORS = [Decimal(1), Decimal(10), Decimal(100), Decimal(1000)]  # of units: Å²/ps is 10 10⁻⁹ m²/s, eV 1000 meV


def numbers(text):
    """Numbers of a text as they are written."""
    return [word.replace(",", "").replace("−", "-") for word in NUMBER.findall(text)]


def held_by(file):
    """Every number of a CSV file."""
    with (PROJECT / file).open(newline="") as source:
        return {Decimal(word) for row in csv.reader(source) for value in row for word in numbers(value)}


def rounded_from(word, held):
    """Whether a number is one of these, rounded to the digits it has."""
    number = Decimal(word)
    exponent = Decimal(1).scaleb(number.as_tuple().exponent)
    return any(
        abs(value * factor - number) < exponent
        and number in {(value * factor).quantize(exponent, way) for way in (ROUND_HALF_DOWN, ROUND_HALF_UP)}
        for value in held
        for factor in FACTORS
    )


@pytest.mark.parametrize(("page", "files", "also", "table"), TABLES, ids=lambda value: value[:40])
def test_numbers_of_a_page_are_those_of_its_table(page, files, also, table):
    held = set().union(*(held_by(file.strip()) for file in files.split(",")))
    held |= {Decimal(word) for word in numbers(also)}
    rows = [line for line in table.splitlines() if line.startswith("|")]
    words = [word for row in rows[2:] for word in numbers(row)]
    assert words
    assert [word for word in words if not rounded_from(word, held)] == [], f"{page}: not in {files}"
