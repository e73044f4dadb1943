"""Structures: frames, molecules, species and boxes."""
