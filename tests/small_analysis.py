"""An analysis of small made trajectories, in memory: all observables but the viscosity, within seconds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from liquids import brownian, molecules_of
from mlpwf.analyse.records import Source
from mlpwf.analyse.run import run
from mlpwf.config import Analyse
from mlpwf.dynamics.state import Energy

TEMPERATURES = (270.0, 300.0, 340.0)
FRAMES, MOLECULES = 250, 16
SETTINGS = Analyse(blocks=12, lags=12, bootstrap=10, wavevectors_per_angstrom=[1.0])


def trajectory(temperature: float, seed: int) -> Any:
    """Brownian rotors of two species; their rates follow Arrhenius' law with 12 kJ/mol."""
    factor = np.exp(-12 / 8.314462618e-3 * (1 / temperature - 1 / 300))
    times, centres, axes = brownian(FRAMES, MOLECULES, 0.08 * factor, 0.03 * factor, seed)
    names = ["A"] * (MOLECULES // 2) + ["B"] * (MOLECULES // 2)
    return molecules_of(times, centres, axes, np.full(3, 20.0), species=names)


def energy(temperature: float, seed: int) -> Energy:
    rng = np.random.default_rng(seed)
    return Energy(np.arange(FRAMES) * 1.0, MOLECULES * (2e-3 * temperature + 1e-4 * rng.normal(size=FRAMES)))


def sources() -> list[Source]:
    """Three states that were simulated well, and one that blew up."""
    found = [
        Source(
            name=f"{temperature:g}K",
            temperature_kelvin=temperature,
            ensemble="nvt",
            runs=tuple(partial(trajectory, temperature, 10 * number + run) for run in range(2)),
            inputs=(),
            energy=(partial(energy, temperature, number),),
        )
        for number, temperature in enumerate(TEMPERATURES)
    ]
    return [Source("200K", 200.0, "nvt", (), (), fault="blew up at step 7: temperature 4000 K"), *found]


def analyse_small(out: Path, states: list[Source], draw: bool = False) -> Path:
    """Run the analysis of some states into a folder; returns it."""
    out.mkdir(parents=True, exist_ok=True)
    run(states, SETTINGS, 1, 1, out, inputs=[], draw=draw)
    return out


def digest(folder: Path) -> dict[str, Any]:
    """What the tables below a folder hold, in short: columns in order, rows, words, and moments of the numbers."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.csv")):
        table = pd.read_csv(path)
        about: dict[str, Any] = {"rows": len(table), "columns": {}}
        for name, column in table.items():
            if column.dtype.kind in "if":
                known = column[np.isfinite(column)].to_numpy(dtype=float)
                weights = np.arange(1, len(known) + 1) / max(len(known), 1)  # so that order counts
                about["columns"][name] = [len(known), float(known.sum()), float((weights * known).sum())]
            else:
                about["columns"][name] = column.astype(str).value_counts(sort=False).to_dict()
        found[path.stem] = about
    return found
