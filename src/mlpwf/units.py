"""Unit conversions, used only at the edges: inside, Å, fs, eV, K and amu."""

from ase import units as _ase

BAR_PER_EV_A3 = 1.0 / _ase.bar  # multiply eV/Å³ to get bar
BOLTZMANN_EV_K = _ase.kB
GAS_CONSTANT_KJ_MOL_K = 8.31446261815324e-3
AMU_PER_A3_PER_G_CM3 = 1.0e-24 / _ase._amu / 1.0e3  # multiply g/cm³ to get amu/Å³
ACCEL_A_FS2_PER_EV_A_AMU = _ase.fs**2  # multiply (eV/Å)/amu to get Å/fs²
UNIT_OF_SUFFIX = {
    "_kelvin": "K", "_ps": "ps", "_angstrom2_per_ps": "Å²/ps", "_angstrom2": "Å²", "_angstrom": "Å",
    "_kj_mol": "kJ/mol", "_mev_atom_ps": "meV/atom/ps", "_mev_atom": "meV/atom", "_ev_atom": "eV/atom",
    "_ev_angstrom": "eV/Å", "_ev": "eV", "_g_cm3": "g/cm³", "_ry": "Ry", "_bar": "bar", "_fs": "fs", "_s": "s",
}  # fmt: skip


def words(name: str) -> str:
    """A key such as `density_g_cm3` as words with its unit: `density, g/cm³`."""
    for suffix in sorted(UNIT_OF_SUFFIX, key=len, reverse=True):
        if name.endswith(suffix) and name != suffix:
            return f"{name.removesuffix(suffix).replace('_', ' ')}, {UNIT_OF_SUFFIX[suffix]}"
    return name.replace("_", " ")
