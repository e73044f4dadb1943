"""The analyse stage: dynamics of trajectories."""
