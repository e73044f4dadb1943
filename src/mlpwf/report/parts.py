"""What a page of the report is made of: parts with drawings, tables and warnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlpwf.figures import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """Rows of text below a heading; the first column names the row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Drawing:
    """A figure, made when it is asked for; a sentence on what it shows, and the numbers drawn."""

    name: str
    caption: str
    draw: Callable[[], Figure]
    numbers: Sequence[Sequence[str]]

    @property
    def svg(self) -> str:
        """The figure as an SVG element."""
        return to_svg(self.draw(), self.name)


@dataclass(frozen=True)
class Block:
    """A collapsed part of the page: a title and preformatted text."""

    title: str
    text: str


@dataclass(frozen=True)
class Part:
    """One section of the page."""

    key: str
    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    details: Sequence[Block] = ()
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    missing: Sequence[str] = ()
