"""A trained potential in a user's hands: what it is, and how ASE and LAMMPS use it."""
