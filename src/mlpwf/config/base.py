"""The strict base of every section, and types shared by several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

T = TypeVar("T")


def _each_once(values: list[T]) -> list[T]:
    """ValueError if a value, as it is written in names of folders, is there twice."""
    seen: set[str] = set()
    for value in values:
        name = f"{value:g}" if isinstance(value, float) else f"{value}"
        if name in seen:
            raise ValueError(f"{name} is given twice; expected each once")
        seen.add(name)
    return values


Temperature = Annotated[float, Field(gt=0, le=5000)]
Density = Annotated[float, Field(gt=0, le=25)]
Pressure = Annotated[float, Field(ge=-1e5, le=1e7)]
TimeStep = Annotated[float, Field(ge=1e-3, le=2)]
Picoseconds = Annotated[float, Field(gt=0, le=1e9)]
Neurons = Annotated[int, Field(ge=1, le=4096)]
EachOnce = AfterValidator(_each_once)

MOST_STEPS = 10**10
MOST_FRAMES = 10**6
MOST_MOLECULES = 10**6
MOST_CORES = 4096


class Section(BaseModel):
    """A config section: unknown keys are refused, values are frozen, true and false are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    earlier: ClassVar[Mapping[str, str]] = {}
    """Names of keys in the version before, and their present names."""

    @model_validator(mode="before")
    @classmethod
    def _present_names(cls, values: Any, info: ValidationInfo) -> Any:
        """Read keys of the version before; each is noted in the context, for a warning."""
        old = [key for key in cls.earlier if isinstance(values, dict) and key in values]
        for key in old:
            if cls.earlier[key] in values:
                raise ValueError(f"{key} is called {cls.earlier[key]} now, and both are given; expected one of them")
            if info.context is not None:
                info.context.append(f"{key} is called {cls.earlier[key]} now")
        return {cls.earlier.get(key, key): value for key, value in values.items()} if old else values

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        wanted = cls.model_fields[info.field_name].annotation if info.field_name else None
        truth = wanted is bool or bool in get_args(wanted)
        if wanted is bool and not isinstance(value, bool):
            raise ValueError("expected true or false")
        if not truth and any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
            raise ValueError("expected a number or a word, not true or false; put it in quotes if it is a word")
        return value
