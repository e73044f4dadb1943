"""Calculators by name; a calculator's module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module

from mlpwf.calculators.base import Calculator
from mlpwf.config.label import Label
from mlpwf.config.label_engines import LABEL_ENGINES, Capability, LabelEngine, having
from mlpwf.config.site import Site


def calculator(label: Label, site: Site, elements: Sequence[str] = ()) -> Calculator:
    """The calculator of `label.engine`.

    Parameters
    ----------
    label
        Physics and numerics.
    site
        Where programs and files are.
    elements
        All elements of the frames to come.
    """
    return class_of(LABEL_ENGINES[label.engine])(label, site, elements)


def at_site(label: Label, site: Site) -> Calculator:
    """The calculator of `label.engine`, for all elements that the site has what it takes for."""
    return class_of(LABEL_ENGINES[label.engine]).at_site(label, site)


def class_of(engine: LabelEngine) -> type[Calculator]:
    """The class of an engine.

    Raises
    ------
    TypeError
        If its place in the table holds no calculator.
    """
    module, _, name = engine.calculator.partition(":")
    found = getattr(import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, Calculator)):
        raise TypeError(f"{engine.calculator} is {found!r}; expected a subclass of Calculator")
    return found


def class_named(name: str) -> type[Calculator]:
    """The class that made a record; `Calculator` itself, which adds nothing, for an engine that is not known here."""
    engine = LABEL_ENGINES.get(name)
    return Calculator if engine is None else class_of(engine)


def output_readers() -> Iterator[tuple[LabelEngine, type[Calculator]]]:
    """The engines whose outputs can be imported."""
    return ((engine, class_of(engine)) for engine in having(Capability.OUTPUTS))
