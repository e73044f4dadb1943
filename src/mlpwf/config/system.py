"""Section `system`: what is simulated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from mlpwf.config.base import Density, Section

# as chemists write them, with no sign that means something to a shell or to extended XYZ
MOLECULE_NAME = re.compile(r"([^\W_]|[(\[])(\w|[ ,.'()\[\]+-]){0,63}")


def one_word(smiles: str) -> str:
    """The SMILES, if it is one word: what follows a blank is no part of it to its readers (ValueError)."""
    if not smiles.strip():
        raise ValueError("an empty SMILES; expected for example 'Cc1ccccc1' (toluene)")
    if smiles.split() != [smiles]:
        raise ValueError(f"'{smiles}' has a blank; expected one molecule (list each as a species)")
    return smiles


class Molecule(Section):
    """One species: a SMILES or a structure file, and how many of it a box holds.

    Neutral closed-shell molecules of natural isotopes are computed; charges, radicals and isotopes that a source states
    are refused. Hydrogens that a SMILES or a mol block implies are added by valence; .xyz, .pdb, .cif and POSCAR hold
    all of them, and name the element of every atom.
    """

    smiles: str | None = Field(None, description="SMILES of the molecule, hydrogens implied")
    structure: Path | None = Field(
        None, description="structure file of one molecule: .xyz, .pdb, .mol, .sdf, .cif, POSCAR or the like"
    )
    count: int = Field(1, ge=1, le=100_000, description="molecules of this species in a labelled box")

    @field_validator("smiles")
    @classmethod
    def _a_word(cls, smiles: str | None) -> str | None:
        return None if smiles is None else one_word(smiles)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.smiles is None) == (self.structure is None):
            raise ValueError("exactly one of 'smiles' and 'structure' is expected")
        return self


class System(Section):
    """Molecules and the density of the liquid they form."""

    molecules: dict[str, Molecule] = Field(min_length=1, description="species by name")
    density_g_cm3: Density = Field(description="mass density of the liquid in g/cm³")

    @field_validator("molecules")
    @classmethod
    def _names(cls, molecules: dict[str, Molecule]) -> dict[str, Molecule]:
        for name in molecules:
            if not MOLECULE_NAME.fullmatch(name):
                raise ValueError(
                    f"a molecule is named {name!r}; expected at most 64 letters, digits, blanks and "
                    ", . ' ( ) [ ] + - _, of which the first is a letter, a digit or a bracket"
                )
        return molecules
