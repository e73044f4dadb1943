"""Records of a label store, made without an engine."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from ase.build import molecule

from mlpwf.label.record import LabelRecord, RejectionRecord
from mlpwf.label.store import canonical, record_of
from mlpwf.structures.properties import Properties

PHYSICS = {"engine": "gfn1"}


def accepted(**changes: Any) -> LabelRecord:
    """A label of water that passes the gate; changes by field."""
    atoms = molecule("H2O", cell=[6.0, 6.2, 6.4], pbc=True)
    computation = record_of(canonical(atoms), changes.pop("physics", PHYSICS), "1.0", 2.0, wall_s=3.0)
    record = computation.accepted(Properties(-1.5, np.zeros((3, 3)), np.zeros((3, 3)), atoms.get_volume()))
    return msgspec.structs.replace(record, **changes)


def rejected(**changes: Any) -> RejectionRecord:
    """A frame of water that was rejected; changes by field."""
    atoms = molecule("H2O", cell=[6.0, 6.2, 6.4], pbc=True)
    record = record_of(canonical(atoms), PHYSICS, "1.0", 2.0, wall_s=3.0).rejected("clash", "too close", {"retries": 1})
    return msgspec.structs.replace(record, **changes)
