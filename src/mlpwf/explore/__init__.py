"""The explore stage: walkers of molecular dynamics."""
