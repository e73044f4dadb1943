"""Engines: write an input, run the program, parse what it wrote. No policy."""
