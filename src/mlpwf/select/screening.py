"""Screening of explored frames: what is wrong with a frame itself, and what the committee's spread makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from mlpwf.campaign.verdicts import ACCURATE, CANDIDATE
from mlpwf.config import Select
from mlpwf.select.explored import Explored, by_walker
from mlpwf.select.selection import classify
from mlpwf.structures.frames import minimum_distance
from mlpwf.structures.molecules import bonds_of_species, contacts, intact, molecule_bonds


def examined(
    frames: Sequence[Explored],
    templates: Sequence[Atoms],
    closest: float,
    known: Mapping[tuple[str, str], float],
    settings: Select,
) -> list[Explored]:
    """Frames with what is wrong with them: broken molecules, clashes, and all that a walker did after these.

    Where molecules come much closer than in any label, all models of a committee go on alike from what they know,
    and their deviation need not tell that they err. In a liquid they part again, and what follows is as sound as
    what was before; a walker that collapsed has no sound frame any more.

    Parameters
    ----------
    frames
        Frames of any walkers, in any order.
    templates
        One frame of each species, whose bonds every molecule must have.
    closest
        Smallest distance between two atoms that a label is worth, in Å.
    known
        Smallest distance of two elements of different molecules in any label, in Å.
    settings
        `contact_margin_angstrom` is used.
    """
    within = [molecule_bonds(template) for template in templates]
    found = []
    for frame in frames:
        whole = intact(frame.atoms, bonds_of_species(frame.atoms, templates, within))
        fault, closer, too_close = "" if whole else "a molecule is not intact", 0.0, False
        if whole and (distance := minimum_distance(frame.atoms)) < closest:
            fault = f"atoms {distance:.2f} Å apart, closer than {closest:g} Å"
        if not fault and settings.contact_margin_angstrom is not None:
            met = {pair: (known[pair] - r, r) for pair, r in contacts(frame.atoms).items() if pair in known}
            pair, (closer, distance) = max(met.items(), key=lambda one: one[1], default=(("", ""), (0.0, 0.0)))
            if too_close := closer > settings.contact_margin_angstrom:
                names = " and ".join(pair)
                fault = f"{names} of two molecules {distance:.2f} Å apart, {closer:.2f} Å closer than in any label"
        found.append(dataclasses.replace(frame, fault=fault, closer=closer, too_close=too_close))
    for members in by_walker(found):
        faults = (found[index] for index in members if found[index].fault)
        broken = next((frame.step for frame in faults if not frame.too_close), None)
        for index in members:
            if broken is not None and not found[index].fault and found[index].step > broken:
                found[index] = dataclasses.replace(found[index], fault=f"the walker had blown up at step {broken}")
    return found


def classified(frames: Sequence[Explored], settings: Select) -> list[Explored]:
    """Verdicts: by the user's levels of the deviation, or by the expected errors in units of their targets."""
    own, targets = settings.force_trust, settings.targets
    if own is None:
        measured = [
            np.nanmax([one.errors[c] / targets[c] for c in targets]) if np.isfinite(one.deviations["inter"]) else np.nan
            for one in frames
        ]
    else:
        measured = [one.force_deviation for one in frames]
    verdicts = classify(
        np.array(measured),
        np.array([frame.virial_deviation for frame in frames]),
        np.array([not frame.fault for frame in frames], dtype=bool),
        force_levels=own or (1.0, settings.failed_error_factor),
        virial_levels=(settings.virial_trust_lower_ev, settings.virial_trust_upper_ev),
    )
    doubtful = [frame.closer > 0 and verdict == ACCURATE for frame, verdict in zip(frames, verdicts, strict=True)]
    verdicts = [CANDIDATE if doubt else verdict for doubt, verdict in zip(doubtful, verdicts, strict=True)]
    return [dataclasses.replace(frame, verdict=verdict) for frame, verdict in zip(frames, verdicts, strict=True)]
