"""Quantum ESPRESSO as a calculator."""
