"""A set of labels: its batches gathered, implausible labels computed a second time, all of it summed up."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from ase import Atoms

from mlpwf.calculators.base import Calculator, Reason
from mlpwf.campaign.records import Batch, Doubt, LabelSummary, Outcome, RejectedFrame
from mlpwf.errors import DataError
from mlpwf.label.labeller import Labeller
from mlpwf.label.outliers import disagreement, implausible
from mlpwf.label.record import LabelRecord
from mlpwf.label.store import Store, canonical, labelled, of_elements
from mlpwf.structures.properties import Properties, of_frame

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with its label, what became of it, and the store's record."""

    atoms: Atoms
    outcome: Outcome
    record: LabelRecord


def in_order(batches: Iterable[Batch], count: int, folder: Path) -> list[Outcome]:
    """The outcomes of all batches in the order of the set's frames.

    Parameters
    ----------
    batches
        What each batch wrote.
    count
        Number of frames of the set.
    folder
        Where the batches are; the error names it.

    Raises
    ------
    DataError
        If a frame has none, or two.
    """
    outcomes = sorted((one for batch in batches for one in batch.labels), key=lambda one: one.frame)
    if [one.frame for one in outcomes] != list(range(count)):
        raise DataError(f"{folder.parent}: {len(outcomes)} outcomes for {count} frames; delete {folder} and run again")
    return outcomes


def accepted_frames(
    frames: Sequence[Atoms], outcomes: Sequence[Outcome], store: Store, engine: str, folder: Path
) -> list[LabelledFrame]:
    """The frames of a set that have an accepted label, with `info['label']`, its key, and `info['engine']`.

    Parameters
    ----------
    frames
        All frames of the set.
    outcomes
        What became of each.
    store
        Where the labels are.
    engine
        Name of the label engine.
    folder
        Where the batches are; the error names it.

    Raises
    ------
    DataError
        If an accepted label is not in the store.
    """
    found = []
    for outcome in outcomes:
        if not outcome.accepted:
            continue
        record = store.get(outcome.key)
        if record is None:
            raise DataError(f"label {outcome.key[:12]} is not in the store {store.root}; delete {folder} and run again")
        atoms = frames[outcome.frame]
        frame = labelled(atoms, canonical(atoms), record)
        frame.info |= {"label": outcome.key, "engine": engine}
        found.append(LabelledFrame(frame, outcome, record))
    return found


def second_look(
    frames: Sequence[LabelledFrame], committee: Sequence[Sequence[Properties]], labeller: Labeller
) -> list[Doubt]:
    """Compute implausible labels again, on another path, and say by how much the two differ.

    Parameters
    ----------
    frames
        Labelled frames of one set.
    committee
        Predictions of each model for the same frames, shape (n_models, n_frames); empty: no committee.
    labeller
        Labels on another path (`Calculator.second_opinion`).
    """
    labels = [of_frame(one.atoms) for one in frames]
    compositions = [f"{one.atoms.info.get('kind')} {one.atoms.get_chemical_formula()}" for one in frames]
    doubts = []
    for one, label, why in zip(frames, labels, implausible(labels, compositions, committee), strict=True):
        if why:
            log.info("label: frame %d looks implausible (%s): computed again", one.outcome.frame, why)
            doubts.append(_doubt(one, label, why, labeller))
    return doubts


def _doubt(one: LabelledFrame, label: Properties, why: str, labeller: Labeller) -> Doubt:
    second = labeller.label(one.atoms)
    if second.accepted:
        found = disagreement(label, of_frame(labeller.labelled(one.atoms)[0]))
    else:
        found = f"the second calculation was rejected: {second.reason}"
    if found:
        log.warning("label: frame %d is rejected: %s", one.outcome.frame, found)
    return Doubt(frame=one.outcome.frame, why=why, second=second.key, disagreement=found)


def after_second_look(outcomes: Sequence[Outcome], doubts: Sequence[Doubt]) -> list[Outcome]:
    """The outcomes, those rejected whose second calculation disagrees."""
    refuted = {doubt.frame: doubt for doubt in doubts if doubt.disagreement}
    return [_implausible(one, refuted[one.frame]) if one.frame in refuted else one for one in outcomes]


def _implausible(outcome: Outcome, doubt: Doubt) -> Outcome:
    detail = f"{doubt.why}; {doubt.disagreement}"
    return msgspec.structs.replace(outcome, accepted=False, reason=str(Reason.IMPLAUSIBLE), detail=detail)


def check_any(outcomes: Sequence[Outcome]) -> None:
    """DataError if there are frames and no label of them was accepted; it names the most common reason."""
    if not outcomes or any(one.accepted for one in outcomes):
        return
    (reason, detail), count = Counter((one.reason, one.detail) for one in outcomes).most_common(1)[0]
    raise DataError(
        f"none of {len(outcomes)} labels was accepted; {count} x {reason} ({detail}). "
        "Mend the label section or the site, then run again"
    )


def summary(
    calculator: Calculator, outcomes: Sequence[Outcome], labels: Sequence[LabelRecord], doubts: Sequence[Doubt]
) -> LabelSummary:
    """A set of labels in numbers.

    Parameters
    ----------
    calculator
        What computed them.
    outcomes
        What became of each frame of the set.
    labels
        Records of the accepted ones.
    doubts
        Those computed a second time.
    """
    rejected = [one for one in outcomes if not one.accepted]
    costs = [label.cpu_s for label in labels]
    return LabelSummary(
        engine=calculator.engine.name,
        engine_version=", ".join(sorted({label.engine_version for label in labels if label.engine_version})) or None,
        # with the rules of the section, and not what they gave in the first cell
        physics=of_elements(calculator.physics, labels[0].symbols if labels else []),
        requested=len(outcomes),
        accepted=len(labels),
        reused=sum(one.reused for one in outcomes),
        retries=dict(Counter(one.retry for one in outcomes if one.retry)),
        rejected=dict(Counter(str(one.reason) for one in rejected)),
        rejected_frames=[_rejected(one) for one in rejected],
        cpu_s=round(sum(one.cpu_s for one in outcomes if not one.reused), 3),
        label_cpu_s_mean=round(sum(costs) / len(costs), 3) if costs else None,
        doubts=list(doubts),
    )


def _rejected(one: Outcome) -> RejectedFrame:
    return RejectedFrame(frame=one.frame, key=one.key, reason=one.reason, detail=one.detail, state=one.state)
