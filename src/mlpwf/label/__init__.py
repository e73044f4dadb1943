"""The label stage: energies, forces and stress of frames."""
