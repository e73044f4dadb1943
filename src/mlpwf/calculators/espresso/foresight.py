"""What pw.x labels of a campaign will be like: k-points of its boxes, the error they leave, and the price."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlpwf.calculators.espresso.cost import known_labels, label_price, size_of
from mlpwf.calculators.espresso.kpoints import KPoints, expected_error
from mlpwf.calculators.espresso.label_error import converged
from mlpwf.calculators.espresso.pw import kpoints_of
from mlpwf.calculators.foresight import Box, Foresight, Known
from mlpwf.campaign.pricing import Price
from mlpwf.config.label import Label


@dataclass(frozen=True)
class Sampling:
    """k-points in a box, how far apart they keep images in Å, and the force error to be expected in eV/Å."""

    box: Box
    points: KPoints
    image_distance: float
    error: float

    def __str__(self) -> str:
        count = len(self.points.points)
        name = "Γ" if self.points.is_gamma else f"{count} k-point{'s' * (count > 1)}"
        return (
            f"{name} in {self.box.cell[0, 0]:.1f} Å: images {self.image_distance:.1f} Å apart, force error around "
            f"{1e3 * self.error:.1g} meV/Å"
        )


def samplings(label: Label, boxes: Sequence[Box]) -> list[Sampling]:
    """The k-points of each size of box.

    Raises
    ------
    ConfigError
        If a box needs too many.
    """
    found = []
    for box in boxes:
        points = kpoints_of(label, box.cell)
        distance = points.image_distance(box.cell)
        found.append(Sampling(box, points, distance, expected_error(distance)))
    return found


def foresee(label: Label, boxes: Sequence[Box], labels: Iterable[Known]) -> Foresight:
    """Prices of labels in these boxes, and of those once more, converged in each lever; k-points for the plan.

    Parameters
    ----------
    label
        The settings.
    boxes
        The boxes of a campaign.
    labels
        Those of the store, of any engine.
    """
    known = list(known_labels(label, labels))

    def price(settings: Label, box: Box) -> Price:
        return label_price(size_of(settings, box.atoms, box.cell), known)

    def dearer(box: Box) -> Price:
        return sum((price(one, box) for one in converged(label, box.cell).values()), Price(0.0))

    return Foresight(
        label={box.multiple: price(label, box) for box in boxes},
        converged={box.multiple: dearer(box) for box in boxes},
        known=len(known),
        notes=[f"k-points: {'; '.join(map(str, samplings(label, boxes)))}"],
    )
