"""Section `analyse`: glass dynamics of the production runs."""

from __future__ import annotations

from pydantic import Field

from mlpwf.config.base import Section


class Analyse(Section):
    """Correlators and the lengths they are taken at."""

    wavevectors_per_angstrom: list[float] = Field([1.3], min_length=1, description="moduli q of F_s(q,t) in 1/Å")
    overlap_angstrom: float = Field(1.0, gt=0, description="displacement a of the overlap function Q(t), in Å")
    blocks: int = Field(5, ge=2, description="independent blocks for error bars")
