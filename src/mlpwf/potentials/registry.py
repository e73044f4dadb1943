"""The potential engines there are, by name: those of this package, and those that other packages bring.

Another package names its engine as an entry point of the group `mlpwf.potentials` (docs/add-a-potential.md).
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from mlpwf.errors import ConfigError
from mlpwf.potentials.base import Engine

GROUP = "mlpwf.potentials"
ENGINES = {
    "deepmd": "mlpwf.potentials.deepmd:DeePMD",
    "force_field": "mlpwf.potentials.force_field:ClassicalForceField",
    "mace": "mlpwf.potentials.mace:Mace",
    "molecular": "mlpwf.potentials.molecular:Molecular",
    "molecular_deepmd": "mlpwf.potentials.molecular_network:MolecularDeePMD",
    "molecular_mace": "mlpwf.potentials.molecular_network:MolecularMace",
}


def names() -> list[str]:
    """Names of all engines."""
    return sorted([*ENGINES, *_others()])


@cache
def engine(name: str) -> Engine:
    """The engine of this name.

    Raises
    ------
    ConfigError
        If there is none, or it cannot be loaded.
    """
    place = EntryPoint(name, ENGINES[name], GROUP) if name in ENGINES else _others().get(name)
    if place is None:
        raise ConfigError(f"no potential engine '{name}'; expected one of {', '.join(names())}, or install it")
    try:
        made = place.load()()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the potential engine '{name}' cannot be loaded ({error}); install it anew") from None
    if not isinstance(made, Engine):
        raise ConfigError(f"the potential engine '{name}' is no mlpwf.potentials.base.Engine; expected one")
    return made


def _others() -> dict[str, EntryPoint]:
    """Where the engines of other packages are."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in ENGINES}
