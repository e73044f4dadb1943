"""The input of `dp train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlpwf.config.train import Train
from mlpwf.potentials.loss import weights

PRECISION = "float64"  # float32 takes 14 ms instead of 20 ms a step, but its energy drifts in NVE
LEARNING_RATE_DECAY = 0.5  # share of the steps in which the rate of a plateau falls; before, it stays as it begins
LEARNING_RATE_STAGES = 100
CURVE_POINTS = 50
POINTS_PER_CHECKPOINT = 3  # dp saves only where it also writes a point of the curve


def seeds(seed: int, index: int) -> dict[str, int]:
    """Seeds of committee member `index`; the same in every cycle."""
    state = np.random.SeedSequence([seed, index]).generate_state(3) >> 1
    return dict(zip(("descriptor", "fitting", "training"), (int(value) for value in state), strict=True))


SCHEDULES: dict[str, Callable[[int], dict[str, Any]]] = {
    "plateau": lambda steps: {"type": "wsd", "decay_phase_ratio": LEARNING_RATE_DECAY, "decay_type": "cosine"},
    "exponential": lambda steps: {"type": "exp", "decay_steps": max(1, steps // LEARNING_RATE_STAGES)},
}


def training_input(
    section: Train,
    *,
    elements: Sequence[str],
    slots: Sequence[int],
    systems: Sequence[str],
    seed: dict[str, int],
    continued: bool,
    coordinates: int = 0,
) -> dict[str, Any]:
    """The input of `dp train`: se_e2_a, energy, force and virial loss, and that of molecules as rigid bodies.

    The last is DeePMD-kit's loss of generalised forces, with the `coordinates` that `write_data` wrote.

    A learning rate with a plateau is high for the first half of the steps and falls on half a cosine then. Weights of
    the loss follow it. Falling exponentially from the start it does far less in as many steps (docs/training.md).
    """
    steps = section.steps_continued if continued else section.steps
    between = max(1, steps // CURVE_POINTS)
    parts = dict(zip(("e", "f", "v", "gf"), weights(section), strict=True))
    if not coordinates:
        del parts["gf"]
    return {
        "model": {
            "type_map": list(elements),
            "descriptor": {
                "type": "se_e2_a",
                "rcut": section.cutoff_angstrom,
                "rcut_smth": section.cutoff_smooth_angstrom,
                "sel": list(slots),
                "neuron": section.embedding_neurons,
                "axis_neuron": section.axis_neurons,
                "resnet_dt": False,
                "type_one_side": True,
                "precision": PRECISION,
                "seed": seed["descriptor"],
            },
            "fitting_net": {
                "neuron": section.fitting_neurons,
                "resnet_dt": True,
                "precision": PRECISION,
                "seed": seed["fitting"],
            },
        },
        "learning_rate": {
            **SCHEDULES[section.learning_rate_schedule](steps),
            "start_lr": section.learning_rate_continued if continued else section.learning_rate,
            "stop_lr": section.learning_rate_final,
        },
        "loss": {
            "type": "ener",
            **{f"start_pref_{part}": weight.first for part, weight in parts.items()},
            **{f"limit_pref_{part}": weight.last for part, weight in parts.items()},
            **({"numb_generalized_coord": coordinates} if coordinates else {}),
        },
        "training": {
            "training_data": {"systems": list(systems), "batch_size": 1},
            "numb_steps": steps,
            "seed": seed["training"],
            "disp_file": "lcurve.out",
            "disp_freq": between,
            "save_freq": POINTS_PER_CHECKPOINT * between,
            "save_ckpt": "model.ckpt",
            "max_ckpt_keep": 2,
        },
    }
