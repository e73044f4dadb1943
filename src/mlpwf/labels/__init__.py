"""Labels: what is accepted, and where it is kept."""
