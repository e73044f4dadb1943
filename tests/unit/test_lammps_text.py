"""Numbers and data files of LAMMPS: what it reads is taken, all else is named."""

import pytest

from mlpwf.errors import ConfigError, DataError
from mlpwf.structures.lammps_text import check_number, read_data

HEAD = "title, units = metal\n\n2 atoms\n1 atom types\n\n0 5 xlo xhi\n\nAtoms # atomic\n\n"


@pytest.mark.parametrize("word", ["1", "-0.5", ".5", "1e-3", "+2E+05", "lj/cut", "1*4", "*", "2*", "12/6", "nancy"])
def test_words_that_lammps_reads_pass(word):
    check_number(word, "here")


@pytest.mark.parametrize("word", ["nan", "NaN", "-inf", "Infinity", "1e999", "1.6D+01", "1d5", "1.2.3", "4.1e", "5x"])
def test_words_that_are_no_finite_numbers_are_named(word):
    with pytest.raises(ConfigError, match=r"^here: .*; expected a (finite )?number"):
        check_number(word, "here", ConfigError)


def test_a_data_file_says_its_units_style_and_counts(tmp_path):
    (tmp_path / "box").write_text(HEAD + "1 1 0 0 0\n2 1 1 1 1 0 0 -1\n")
    found = read_data(tmp_path / "box")
    assert (found.units, found.style, found.counts) == ("metal", "atomic", {"atoms": 2, "atom types": 1})
    assert found.rows("Atoms") == [(10, ["1", "1", "0", "0", "0"]), (11, ["2", "1", "1", "1", "1", "0", "0", "-1"])]


@pytest.mark.parametrize("content", [b"\x1f\x8b cut", b"\xff\xfe\x00", b""], ids=["gzip", "no text", "nothing"])
def test_what_is_no_text_is_refused(content, tmp_path):
    (tmp_path / "box").write_bytes(content)
    if content:
        with pytest.raises(DataError, match="cannot be read"):
            read_data(tmp_path / "box")
    else:
        with pytest.raises(DataError, match="no Atoms"):
            _ = read_data(tmp_path / "box").style
