"""Glass-dynamics observables from molecular trajectories."""
