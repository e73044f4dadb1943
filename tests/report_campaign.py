"""A small synthetic campaign folder, as its stages would have left it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from mlpwf.dynamics import registry

TEMPERATURES = (380.0, 300.0, 240.0)
LIQUID = {"mlpwf": "0.1.0", "seed": 5, "model_sha256": "ef" * 32, "units": {}}
SOUND = {"stable": True, "reason": "", "intact": True}


def put(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def table(path: Path, header: list[str], rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


def measures(scale: float, frames: int) -> dict[str, float | int]:
    return {
        "frames": frames, "atoms": 60 * frames, "energy_rmse_mev_atom": 4 * scale, "energy_bias_mev_atom": 0.1 * scale,
        "force_rmse_ev_angstrom": 0.2 * scale, "force_inter_rmse_ev_angstrom": 0.08 * scale,
        "force_intra_rmse_ev_angstrom": 0.18 * scale, "torque_rmse_ev_angstrom": 0.09 * scale,
        "virial_rmse_ev_atom": 0.01 * scale,
    }  # fmt: skip


def by_state(scale: float, frames: int) -> dict[str, Any]:
    states = {name: measures(scale * k, frames // 2) for name, k in (("300K_0.867", 0.9), ("400K_0.867", 1.1))}
    return {"overall": measures(scale, frames), "states": states}


def campaign(folder: Path, title: str = "Toluene, tiny", cycles: int = 4) -> Path:
    """A finished campaign below `folder`; returns its path."""
    root, rng = folder / "tiny", np.random.default_rng(5)
    _config(root, title)
    put(root / "build" / "summary.json", _built())
    for number in range(cycles):
        _cycle(root / "cycle" / f"{number:03d}", number, number == cycles - 1, rng)
    put(root / "test" / "label" / "summary.json", _labels(40, {}))
    put(
        root / "train" / "final" / "final.json",
        {
            "mlpwf": "0.1.0", "cycle": cycles - 1, "verdict": "converged",
            "sha256": {"model.pb": "ab" * 32, "compressed.pb": "ef" * 32}, "model": "cycle/003/train/model/0/model.pb",
            "reason": "1.2 % of explored frames are candidates (at most 2 %)",
        },
    )  # fmt: skip
    _validation(root / "validate", rng)
    _simulate(root / "simulate")
    _analysis(root / "analyse")
    for stage, engine, own in (("build", 2, 9), ("label", 9000, 30), ("train", 5000, 12), ("explore", 700, 5)):
        entry = {"stage": stage, "finished": True, "started": 0.0, "wall_s": engine + own}
        put(root / stage / "cost.jsonl", entry | {"own_cpu_s": own, "engine_cpu_s": engine, "peak_mb": 200.0})
    put(root / "label" / "error.json", label_error(0.004, 0.003))
    put(root / "snakemake" / "here-1-0.json", {"started": 0.0, "wall_s": 9000, "cpu_s": 40, "cores": 2})
    return root


def _built() -> dict[str, Any]:
    """What the build stage says of its frames."""
    counted = {"frames": 60, "kinds": {"bulk": 60}, "states": {"300K": 60}, "minimum_distance_angstrom": {"bulk": 1.0}}
    return {
        "mlpwf": "0.1.0", "seed": 5, "sampler": "gfn1", "density_g_cm3": 0.867, "molecules": {"toluene": 8},
        "boxes": counted, "start": counted, "test": counted, "versions": {}, "settings": {}, "cpu_s": 11.0,
    }  # fmt: skip


def _config(root: Path, title: str) -> None:
    toluene = {"smiles": "Cc1ccccc1", "structure": None, "count": 8}
    sections: dict[str, dict[str, Any]] = {
        "system": {"molecules": {"toluene": toluene}, "density_g_cm3": 0.867},
        "label": {"functional": "rpbe", "dispersion": "d3bj", "error_frames": 2},
        "select": {"force_trust_lower_ev_angstrom": 0.1, "force_trust_upper_ev_angstrom": 0.6},
        "simulate": {"temperatures_kelvin": list(TEMPERATURES), "length_ps": 100, "molecules": 64},
        "report": {"title": title},
    }
    for name in ("build", "train", "explore", "validate", "analyse", "site"):
        sections[name] = {}
    for name, values in sections.items():
        put(root / "config" / f"{name}.json", {**values, "seed": 5})


def label_error(force: float, net: float) -> dict[str, Any]:
    """What `mlpwf label error` writes, of errors in eV/Å."""

    def errors(share: float) -> dict[str, float]:
        return {
            "frames": 4, "atoms": 480, "energy_bias_mev_atom": 0.0, "torque_rmse_ev_angstrom": share * net,
            "force_rmse_ev_angstrom": share * force, "force_inter_rmse_ev_angstrom": share * net,
            "force_intra_rmse_ev_angstrom": share * force, "energy_rmse_mev_atom": 0.31, "virial_rmse_ev_atom": 0.002,
            "pressure_bias_kbar": -0.25,
        }  # fmt: skip

    levers = {"k-points": errors(0.6), "cut-offs": errors(0.8), "total": errors(1.0)}
    sizes = [(120, 4, 11.2), (None, 4, 11.2)]
    rows = [{"atoms": n, "frames": frames, "edge_angstrom": edge, "errors": levers} for n, frames, edge in sizes]
    failures = ["C7H8 was rejected: out of time (3600 s)"]
    return {"mlpwf": "0.1.0", "units": {}, "rows": rows, "failures": failures, "cpu_s": 9.0, "inputs": {}}


def _labels(asked: int, aside: dict[str, int]) -> dict[str, Any]:
    frames = [
        {"frame": 0, "key": "0f" * 32, "reason": reason, "detail": "after 80 SCF steps", "state": "400K"}
        for reason, count in aside.items() for _ in range(count)
    ]  # fmt: skip
    physics = {
        "functional": "rpbe",
        "dispersion": ["d3bj", False],
        "cutoff_ry": 40.0,
        "density_cutoff_ry": 240.0,
        "kpoints": {"image_distance_angstrom": 10.5},
    }
    return {
        "mlpwf": "0.1.0", "engine": "qe", "engine_version": "6.7", "physics": physics, "requested": asked,
        "accepted": asked - len(frames), "reused": 2, "retries": {}, "aside": aside, "aside_frames": frames,
        "cpu_s": 60.0 * asked, "label_cpu_s_mean": 61.5,
    }  # fmt: skip


def _cycle(root: Path, number: int, last: bool, rng: np.random.Generator) -> None:
    scale, trained = 0.65**number, 60 * (number + 1)
    put(root / "label" / "summary.json", _labels(60, {"not converged": 3 - min(number, 3), "clash": number}))
    new = {"inputs": {}, "first": by_state(1.9 * scale, 60), "mean": by_state(1.6 * scale, 60)}
    put(
        root / "train" / "errors.json",
        {
            "mlpwf": "0.1.0", "units": {}, "inputs": {},
            "test": {
                "models": [by_state(1.1 * scale, 40)] * 2, "mean": by_state(scale, 40),
                "frame_force_mse_ev2_angstrom2": ((0.2 * scale) ** 2 * rng.lognormal(0, 0.3, 40)).tolist(),
            },
            "train": {"mean": by_state(0.8 * scale, trained)}, "new": new if number else None,
        },
    )  # fmt: skip
    put(root / "train" / "calibration.json", _calibration(number, scale, rng))
    _parity(root / "train" / "parity.csv", scale, rng)
    for model in ("0", "1"):
        check = {
            "versions": {"deepmd-kit": "3.2.0"}, "frames": trained, "steps": 20000,
            "sha256": {"model.pb": "01" * 32, "compressed.pb": "cd" * 32},
            "conversion_difference": {"energy_ev_atom": 1e-6, "force_ev_angstrom": 3e-5, "virial_ev_atom": 1e-6},
        }  # fmt: skip
        put(root / "train" / "model" / model / "check.json", check)
        table(root / "train" / "model" / model / "lcurve.csv", ["step", "rmse_f_trn"], [(100, 0.4), (200, 0.2)])
    _liquid(root / "validate" / "liquid.json", number, rng)
    outcomes = ["finished", "finished", "finished", "finished" if number else "blew up"]
    for state in ("300K_0.867", "400K_0.867"):
        found = [walker(state, number, k, outcome, 2000) for k, outcome in enumerate(outcomes)]
        put(root / "explore" / state / "walkers.json", found)
    devi = np.exp(rng.normal(np.log(0.25 * scale), 0.6, size=800))
    words = np.where(devi < 0.1, "accurate", np.where(devi < 0.6, "candidate", "failed"))
    header = ["state", "walker", "step", "max_devi_f", "max_devi_v", "verdict", "selected", "why", "distance"]
    body = [
        ("300K_0.867", 0, 50 * k, f"{d:.6g}", "", w, 0, "", "")
        for k, (d, w) in enumerate(zip(devi, words, strict=True))
    ]
    table(root / "select" / "decisions.csv", header, body)
    counts = {word: int((words == word).sum()) for word in ("accurate", "candidate", "failed")}
    put(
        root / "select" / "status.json",
        {
            "mlpwf": "0.1.0", "seed": 5, "units": {"new_label_error": "eV/Å"}, "inputs": {}, "label_error": {},
            "cycle": number, "explored": 800, **counts, "broken": 0, "selected": 0 if last else 60,
            "fractions": {name: count / 800 for name, count in counts.items()} | {"broken": 0.0},
            "candidate_fraction": 1 - counts["accurate"] / 800, "new_label_error": None if number == 0 else 0.3 * scale,
            "criteria": [
                {"name": "few candidates", "met": last, "said": "1.2 % of explored frames"},
                {"name": "test set flat", "met": None, "said": "no earlier cycle"},
            ],
            "trust": {
                "source": "target error", "units": {}, "force": None, "target_error": {"inter": 0.08, "intra": 0.08},
                "levels": {"inter": {"all": [0.05, 0.5]}, "intra": {"H": [0.1, 1]}}, "calibrated_on": "new labels",
                "frames": 60, "beyond": {"inter": 0.0, "intra": None}, "holds": True, "said": "",
            },
            "verdict": "converged" if last else "continue", "reason": "enough" if last else "too many candidates",
        },
    )  # fmt: skip


def walker(state: str, cycle: int, number: int, outcome: str, steps: int) -> dict[str, Any]:
    """An entry of walkers.json."""
    return {
        "mlpwf": "0.1.0", "seed": 5, "state": state, "cycle": cycle, "walker": number, "outcome": outcome,
        "reason": "", "steps": steps, "wanted_steps": 2000, "frames": 40,
    }  # fmt: skip


def _liquid(path: Path, number: int, rng: np.random.Generator) -> None:
    r = np.arange(3.05, 9, 0.1)
    g = 1 + np.exp(-((r - 6) ** 2)) + rng.normal(0, 0.03, (5, r.size))
    samples = {"density": 0.85 + rng.normal(0, 0.01, 5), "r": r, "g": g, "diffusion": 0.2 + rng.normal(0, 0.1, 32)}
    about = {"cycle": number, "fault": "", "conditions": "64 molecules", "diffusion_lags": [0.5, 2.0]}
    put(path, LIQUID | about | {name: values.tolist() for name, values in samples.items()})


def _calibration(number: int, scale: float, rng: np.random.Generator) -> dict[str, Any]:
    at = np.geomspace(0.02, 0.6, 9) * scale
    maps = {
        name: {
            "deviation_ev_angstrom": at.tolist(), "error_ev_angstrom": (slope * at**0.9).tolist(), "quantile": 1.9,
            "largest_deviation_ev_angstrom": 0.8, "pairs": 1200, "frames": 60,
        }
        for name, slope in (("all", 1.6), ("C", 2.0), ("H", 1.1))
    }  # fmt: skip
    check = {
        "frames": 60,
        "covered": 0.87,
        "beyond": 0.04,
        "ratio": 1.1,
        "holds": True,
        "said": "87% of errors within their bound",
    }
    points = [[x, x * rng.lognormal(0.1, 0.15), 150] for x in np.geomspace(0.03, 0.7, 8) * scale]
    channels = ("inter", "intra")
    return {
        "mlpwf": "0.1.0", "units": {}, "coverage": 0.9,
        "source": "new labels, previous committee" if number else "test set, this committee", "frames": 60,
        "maps": dict.fromkeys(channels, maps), "check": dict.fromkeys(channels, check) if number else {},
        "reliability": dict.fromkeys(channels, points) if number else {},
    }  # fmt: skip


def _parity(path: Path, scale: float, rng: np.random.Generator, model: str = "model") -> None:
    rows = []
    for quantity, size, centre, width, noise in (
        ("energy", 40, -125.0, 0.03, 0.004), ("virial", 360, 0.0, 0.05, 0.01), ("force", 2000, 0.0, 1.2, 0.2),
    ):  # fmt: skip
        label = rng.normal(centre, width, size)
        rows += [
            (quantity, "300K", f"{a:.8g}", f"{a + e:.8g}")
            for a, e in zip(label, rng.normal(0, noise * scale, size), strict=True)
        ]
    table(path, ["quantity", "state", "label", model], rows)


def _validation(root: Path, rng: np.random.Generator) -> None:
    about = {"mlpwf": "0.1.0", "seed": 5, "model_sha256": "ef" * 32}
    put(root / "errors.json", {**about, "labels_sha256": "aa" * 32, **by_state(0.27, 40)})
    _parity(root / "parity.csv", 0.27, rng, "model")
    put(
        root / "runs.json",
        {
            **about, "molecules_sha256": "bb" * 32, "molecules": 64, "temperature_kelvin": 300.0, "timestep_fs": 0.5,
            "nve_ps": 5.0, "nvt_ps": 5.0, "npt_ps": 5.0, "pressure_bar": 1.0,
            "nve": {**SOUND, "drift_mev_atom_ps": 0.004, "drift_error_mev_atom_ps": 0.001},
            "npt": {
                **SOUND, "density_expected_g_cm3": 0.867, "density_g_cm3": 0.851, "density_error_g_cm3": 0.004,
            },
            "nvt": SOUND,
        },
    )  # fmt: skip
    time = np.arange(0, 5, 0.01)
    table(root / "nve.csv", ["time_ps", "total_energy"], zip(time, -9000 + rng.normal(0, 0.01, time.size), strict=True))
    r = np.arange(0.05, 12, 0.1)
    g = (1 + np.exp(-((r - 6) ** 2)) - 0.3 * np.exp(-((r - 8.5) ** 2))) / (1 + np.exp(-(r - 4.8) * 5))
    table(root / "rdf.csv", ["r_angstrom", "g"], zip(r, g, strict=True))


def _simulate(root: Path) -> None:
    for temperature in TEMPERATURES:
        for segment in range(2):
            summary = {
                "mlpwf": "0.1.0", "units": {}, "state": f"{temperature:g}K", "segment": segment,
                "temperature_kelvin": temperature, "ensemble": "NVT", "molecules": 64, "intact": True,
                "finished": True, "timestep_fs": 0.5, "mean_potential_ev": -1.0, "stable": True, "reason": "",
                "start_ps": 50.0 * segment, "end_ps": 50.0 * (segment + 1), "end_step": 100_000 * (segment + 1),
                "ns_per_day": 0.5, "thermostat_time_ps": 1.0, "linear_interval_ps": 1.0, "stress_interval_fs": 10.0,
                "volume_angstrom3": 11_300.0, "steps": 100_000, "frames": 50, "linear_frames": 50,
                "mean_temperature": temperature, "seconds": 8640.0, "depends_on": {}, "sha256": {},
            }  # fmt: skip
            put(root / f"{temperature:g}K" / "segment" / f"{segment:03d}" / "summary.json", summary)


def _analysis(root: Path) -> None:
    """Tables as `mlpwf analyse` writes them, of times that follow Arrhenius' law; the coldest state is not fitted."""
    t, names = np.geomspace(0.01, 100, 40), ("overlap", "fs_q1.3", "c1_axis1", "c2_axis1")
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in registry.tables()}
    for temperature in TEMPERATURES:
        good = temperature > 250
        key = {"state": f"{temperature:g}K", "temperature_kelvin": temperature, "ensemble": "nvt"}
        verdict = "equilibrated" if good else "run shorter than 3 tau"
        tau = 0.05 * np.exp(12 / 8.314462618e-3 / temperature)
        tables["states"].append(
            {
                **key, "equilibration": verdict, "diffusion_angstrom2_per_ps": 0.4 / tau,
                "diffusion_error_angstrom2_per_ps": 0.01 / tau, "diffusion_verdict": "ok" if good else "not diffusive",
                "viscosity_mpa_s": tau, "viscosity_error_mpa_s": 0.1 * tau, "viscosity_verdict": "ok",
            }
        )  # fmt: skip
        tables["motion"] += [
            {**key, "molecules": "all", "time_ps": x, "msd_angstrom2": 2.4 / tau * x, "alpha2": 0.1} for x in t
        ]
        for name, found in _in_space(tau).items():
            tables[name] += [{**key, **row} for row in found]
        for k, name in enumerate(names):
            mine = {**key, "equilibration": verdict, "molecules": "all", "correlator": name}
            c = np.exp(-((t / tau) ** 0.8))
            tables["correlators"] += [
                {
                    **mine, "time_ps": x, "value": y, "value_error": 0.01, "chi4": 1 + 3 * y * (1 - y),
                    "chi4_error": 0.1,
                    "chi4_normalised": 1 + 8 * y * (1 - y), "chi4_normalised_error": 0.3,
                    "response_per_kelvin": 0.01 * y * (1 - y), "response_error_per_kelvin": 1e-4,
                    "energy_term": 0.5 * (y * (1 - y)) ** 2, "energy_term_error": 0.01,
                }
                for x, y in zip(t, c, strict=True)
            ]  # fmt: skip
            tables["aging"] += [
                {**key, "molecules": "all", "correlator": name, "waiting_ps": w, "tau_ps": tau, "tau_error_ps": 0.1}
                for w in (10.0, 50.0, 90.0)
            ]
            tables["relaxation"].append(
                {
                    **mine, "tau_ps": tau * (1 + 0.5 * k), "tau_error_ps": 0.05 * tau,
                    "tau_verdict": "ok" if good else "run shorter than 3 tau", "kww_beta": 0.8, "kww_beta_error": 0.02,
                    "kww_verdict": "ok",
                }
            )  # fmt: skip
            tables["counts"] += [
                {**mine, "definition": d, "count": n * 300 / temperature, "count_error": 0.2, "verdict": "ok"}
                for d, n in (("peak of chi4", 2.0), ("peak of normalised chi4", 3.0))
            ]
            tables["energies"].append(
                {
                    "quantity": f"tau_{name}_ps", "molecules": "all", "definition": "E_app(T) = R dlntau/d(1/T)",
                    "law": "Arrhenius", "temperature_kelvin": temperature, "energy_kj_mol": 12.0,
                    "energy_error_kj_mol": 0.4, "verdict": "ok",
                }
            )  # fmt: skip
    for k, name in enumerate(names):
        tables["laws"].append(
            {
                "quantity": f"tau_{name}_ps", "molecules": "all", "law": "Arrhenius", "best": True, "states": 2,
                "ln_prefactor": np.log(0.05 * (1 + 0.5 * k)), "strength_kelvin": 12 / 8.314462618e-3,
                "constant_kelvin": np.nan, "aicc": 3.0, "akaike_weight": 1.0, "misfit_p_value": 0.4, "verdict": "ok",
                "glass_kelvin": 117.0, "glass_error_kelvin": 2.0, "glass_verdict": "ok", "fragility": 30.0,
                "fragility_error": 3.0,
            }
        )  # fmt: skip
        tables["cooperativity"].append(
            {
                "correlator": name, "molecules": "all", "count_definition": "peak of chi4",
                "against": "E_app(T) = R dlntau/d(1/T)", "intercept": 11.5, "intercept_error": 0.3, "slope": 0.2,
                "slope_error": 0.1, "misfit_p_value": 0.4, "proportional_p_value": 0.02, "verdict": "ok",
                "count_at_glass": 43.0, "count_at_glass_error": 4.0, "count_at_glass_verdict": "ok",
            }
        )  # fmt: skip
    for name, found in tables.items():
        if found:
            table(root / f"{name}.csv", list(found[0]), [list(row.values()) for row in found])
    summary = {
        "mlpwf": "0.1.0", "seed": 5, "settings": {}, "faults": {}, "ensembles": {}, "units": {}, "tables": {},
        "figures": {}, "inputs": {}, "definitions": {"overlap": "share of molecules within a"},
    }  # fmt: skip
    put(root / "summary.json", summary)


def _in_space(tau: float) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables in space of one state: molecules that diffuse and move together over 4 Å."""
    q, r = np.linspace(0.2, 1.0, 9), np.arange(0.025, 10, 0.05)
    times = [part * tau for part in (0.1, 1.0, 3.0)]
    return {
        "coherent": [
            {"species": "all", "wavevector_per_angstrom": 1.31, "time_ps": x, "value": 0.6 * np.exp(-x / tau)}
            for x in (0.0, *np.geomspace(0.01, 100, 20))
        ],
        "s4": [
            {
                "molecules": "all", "wavevector_per_angstrom": x, "s4": 5 / (1 + (4 * x) ** 2), "s4_error": 0.1,
                "s4_fluctuation": 4 / (1 + (4 * x) ** 2), "s4_fluctuation_error": 0.1,
            }
            for x in q
        ],
        "sub_boxes": [
            {"molecules": "all", "edge_angstrom": 24 / n, "chi4": 4 / n, "chi4_error": 0.1} for n in (1, 2, 3, 4)
        ],
        "lengths": [{"xi4_angstrom": 4.0, "xi4_error_angstrom": 0.3, "chi4_at_zero": 5.0, "verdict": "marginal"}],
        "van_hove": [
            {"molecules": "all", "time_ps": x, "distance_angstrom": y, "density_per_angstrom": d}
            for x in times
            for y, d in zip(r, r**2 * np.exp(-(r**2) * tau / x / 2) * (tau / x) ** 1.5, strict=True)
        ],
    }  # fmt: skip
