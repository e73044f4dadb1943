"""Rating of explored frames: the committee's deviations, and the errors that the calibration expects of them."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.campaign.records import Calibration, Trust
from mlpwf.config import Select
from mlpwf.errors import DataError
from mlpwf.potentials.calibration import (
    INTER,
    INTRA,
    MOLECULE,
    committee_deviations,
    expected,
    from_record,
    within_reach,
)
from mlpwf.select.explored import MISSING, Explored

log = logging.getLogger(__name__)
Forces = Callable[[Sequence[Atoms]], Sequence[NDArray[np.float64]]]


class Rating:
    """What a committee's deviations at explored frames are worth.

    Parameters
    ----------
    forces
        Forces of every member at frames, each of shape (n_members, n_atoms, 3) in eV/Å; None: no committee.
    calibration
        By `mlpwf train test`; None: there is none.
    settings
        Targets, and trust levels of the user's own.

    Raises
    ------
    DataError
        If trust levels are to follow the target error, and there is no committee with a calibration.
    """

    def __init__(self, forces: Forces | None, calibration: Calibration | None, settings: Select) -> None:
        self.forces, self.calibration, self.settings = forces, calibration, settings
        described, checks = (calibration.maps, calibration.check) if calibration else ({}, {})
        self.maps = {channel: from_record(maps) for channel, maps in described.items()}
        if settings.force_trust is None and not (forces and self.maps):
            raise DataError(
                "trust levels follow select.target_error_mev_angstrom, but there is no committee with a calibration; "
                "expected --model and --calibration, or force_trust_lower_ and _upper_ev_angstrom of your own"
            )
        self.failing = [check.message for check in checks.values() if not check.holds]
        if self.failing and settings.force_trust is None:
            log.warning("select: the calibration did not hold for the newest labels: %s", "; ".join(self.failing))

    def rated(self, frames: Sequence[Explored]) -> list[Explored]:
        """Frames with their deviations and expected errors, but for those with a fault or without a deviation."""
        sound = [index for index, one in enumerate(frames) if not one.fault and math.isfinite(one.force_deviation)]
        found = list(frames)
        if self.forces is None or not sound:
            return found
        for index, values in zip(sound, self.forces([frames[index].atoms for index in sound]), strict=True):
            found[index] = self._rated(frames[index], values)
        return found

    def _rated(self, frame: Explored, forces: NDArray[np.float64]) -> Explored:
        molecule = frame.atoms.arrays["molecule"]
        spreads = committee_deviations(forces, frame.atoms.get_masses(), molecule)
        kinds = {
            INTER: (spreads.inter, np.full(len(spreads.inter), MOLECULE)),
            INTRA: (spreads.intra, np.array(frame.atoms.get_chemical_symbols())),
        }
        largest = {channel: float(values.max()) for channel, (values, _) in kinds.items()}
        worst = dict(MISSING)
        for channel, maps in self.maps.items():
            values, names = kinds[channel]
            inside = np.bincount(molecule)[molecule] > 1 if channel == INTRA else np.ones(len(values), bool)
            place = names, np.full(len(values), frame.state), values
            foreseen = np.where(within_reach(maps, *place), expected(maps, *place), np.inf)[inside]
            worst[channel] = float(foreseen.max(initial=0.0))
        return dataclasses.replace(frame, deviations=largest, errors=worst)

    def trust(self, frames: Sequence[Explored]) -> Trust:
        """The levels used, whose they are, and whether the calibration holds."""
        own = self.settings.force_trust
        return Trust(
            source="target error" if own is None else "the user",
            units={"levels": "eV/Å, lower and upper", "target_error": "eV/Å"},
            force=own,
            target_error=self.settings.targets,
            levels={channel: self._levels(channel) for channel in self.maps},
            calibrated_on=self.calibration.source if self.calibration else None,
            frames=self.calibration.frames if self.calibration else None,
            beyond={channel: self._beyond(channel, frames) for channel in self.maps},
            holds=not self.failing,
            message="; ".join(self.failing),
        )

    def _levels(self, channel: str) -> dict[str, tuple[float, float]]:
        """Deviations at which the target error and the failing error are expected, by group."""
        target = self.settings.targets[channel]
        failing = target * self.settings.failed_error_factor
        return {name: (one.level(target), one.level(failing)) for name, one in self.maps[channel].items()}

    def _beyond(self, channel: str, frames: Sequence[Explored]) -> float | None:
        """Share of frames with a deviation beyond any the maps were made from."""
        values = [frame.deviations[channel] for frame in frames if math.isfinite(frame.deviations[channel])]
        largest = max(one.largest for one in self.maps[channel].values())
        return sum(value > largest for value in values) / len(values) if values else None
