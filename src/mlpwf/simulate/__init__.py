"""The simulate stage: production runs."""
