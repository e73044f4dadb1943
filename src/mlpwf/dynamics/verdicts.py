"""Words of the verdicts that several observables share."""

from __future__ import annotations

OK = "ok"
EQUILIBRATED = "equilibrated"
TOO_SHORT_TO_TELL = "too short to tell"
NOT_KNOWN = "not known"

USABLE = (EQUILIBRATED, TOO_SHORT_TO_TELL)
"""Verdicts on equilibrium with which a state enters fits."""
