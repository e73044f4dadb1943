"""The strict base of every section, and types shared by several."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Temperature = Annotated[float, Field(gt=0, le=5000)]
Density = Annotated[float, Field(gt=0, le=25)]


class Section(BaseModel):
    """A config section: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)
