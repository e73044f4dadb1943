"""The symbols of elements are those of ASE's table."""

from ase.data import chemical_symbols

from mlpwf.elements import SYMBOLS


def test_every_element_and_no_other():
    assert set(chemical_symbols[1:]) == SYMBOLS
