"""Unit conversions, used only at the edges: inside, Å, fs, eV, K and amu."""

from ase import units as _ase

BAR_PER_EV_A3 = 1.0 / _ase.bar  # multiply eV/Å³ to get bar
BOLTZMANN_EV_K = _ase.kB
GAS_CONSTANT_KJ_MOL_K = 8.31446261815324e-3
AMU_PER_A3_PER_G_CM3 = 1.0e-24 / _ase._amu / 1.0e3  # multiply g/cm³ to get amu/Å³
ACCEL_A_FS2_PER_EV_A_AMU = _ase.fs**2  # multiply (eV/Å)/amu to get Å/fs²
