"""Workflow-managed active learning of first-principles neural-network potentials."""

__version__ = "0.2.0"
