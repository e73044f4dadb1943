"""`mlpwf validate`: errors on held-out labels, and what the model does when it runs free."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.config import Site, System, Validate

log = logging.getLogger(__name__)

SAMPLE_FS = 10.0
CHECKPOINT_S = 300.0
UNFINISHED = "unfinished.json"  # in the runs' folder: what they are of
RUNS = {"nvt": "constant volume", "npt": "constant pressure"}
ENSEMBLES = ("nve", "nvt", "npt")
RUN_FILES = ("nve.csv", "rdf.csv", "liquid.json")
BLOCK_PS = 1.0  # shorter ones are not independent: twice the time of the barostat
DISCARDED = 1 / 3  # of the constant-pressure run, while the volume settles


def validate(
    config: Annotated[Path, typer.Option(help="Resolved section: C/config/validate.json.")],
    site: Annotated[Path, typer.Option(help="Resolved site: C/config/site.json.")],
    system: Annotated[Path, typer.Option(help="Resolved section: C/config/system.json.")],
    model: Annotated[Path, typer.Option(help="Final model, as deployed, of C/train/final.")],
    molecules: Annotated[Path, typer.Option(help="One frame for each species: C/build/molecules.extxyz.")],
    test_labels: Annotated[Path, typer.Option(help="Held-out labels: C/test/label/labels.extxyz.")],
    out: Annotated[Path, typer.Option(help="Folder of the results: C/validate, or C/cycle/NNN/validate.")],
    cycle: Annotated[int | None, typer.Option(min=0, help="Cycle the model comes from.")] = None,
    known: Annotated[Path | None, typer.Option(help="Folder of a cycle's results; same model, same runs.")] = None,
) -> None:
    """Rate a model: parity, energy conservation, stability, structure, density, diffusion."""
    from mlpwf import __version__
    from mlpwf.campaign.accounting import accounted
    from mlpwf.config import Site, System, Validate, load_section
    from mlpwf.errors import ConfigError
    from mlpwf.files import sha256, sole_writer, write_json
    from mlpwf.potentials.base import Ability
    from mlpwf.potentials.record import engine_of, sound_model
    from mlpwf.structures.frames import read_frames

    section, seed = load_section(Validate, config)
    composition, place = load_section(System, system)[0], load_section(Site, site)[0]
    if not model.is_file():
        raise ConfigError(f"{model}: no such model; expected the final model of mlpwf train")
    engine_of([model]).require(Ability.LAMMPS)
    with sole_writer(out), accounted(out, "validate"):
        about = {"mlpwf": __version__, "seed": seed, "model_sha256": sound_model(model)}
        asked = {**about, "molecules_sha256": sha256(molecules), **section.model_dump(mode="json")}
        errors = _errors(model, read_frames(molecules), read_frames(test_labels), test_labels, out)
        write_json(out / "errors.json", {**about, "labels_sha256": sha256(test_labels), **errors})
        overall = errors["overall"]
        log.info(
            "validate: %d held-out frames, energy %.2f meV/atom, force %.3f eV/Å",
            overall["frames"],
            overall["energy_rmse_mev_atom"],
            overall["force_rmse_ev_angstrom"],
        )
        verdicts = None if known is None else _taken_over(known, asked, out)
        if verdicts is None:
            verdicts = _runs(asked, section, composition, place, seed, model, molecules, out)
            found = {"cycle": cycle, "conditions": _conditions(section), **_liquid(verdicts, out / "work")}
            write_json(out / "liquid.json", {**about, **found})
        write_json(out / "runs.json", {**asked, **verdicts})
        (out / "work" / UNFINISHED).unlink(missing_ok=True)


def _taken_over(known: Path, asked: dict[str, Any], out: Path) -> dict[str, Any] | None:
    """The runs in `known`, its files copied, if they are of this model and these settings; else None."""
    from mlpwf.files import read_json, write_text

    found = read_json(known / "runs.json")
    if {key: found.get(key) for key in asked} != asked:
        return None
    for name in RUN_FILES:
        write_text(out / name, (known / name).read_text())
    log.info("validate: runs taken over from %s, of the same model", known)
    return {name: found[name] for name in ENSEMBLES}


def _errors(model: Path, species: list[Atoms], frames: list[Atoms], source: Path, out: Path) -> dict[str, Any]:
    """Errors by state; the pairs behind them go to parity.csv."""
    import msgspec

    from mlpwf.errors import DataError
    from mlpwf.files import write_text
    from mlpwf.potentials.metrics import errors_by_state, parity_rows
    from mlpwf.potentials.record import open_model
    from mlpwf.structures.properties import of_frame

    if not frames:
        raise DataError(f"{source}: no held-out labels; expected at least one: label the test set first")
    states = [str(atoms.info.get("state", "test")) for atoms in frames]
    labels, predictions = [of_frame(atoms) for atoms in frames], open_model(model, species).predict(frames)
    rows = [f"{quantity},{state},{a:.8g},{b:.8g}" for quantity, state, a, b in parity_rows(labels, predictions, states)]
    write_text(out / "parity.csv", "\n".join(["quantity,state,label,model", *rows]) + "\n")
    found: dict[str, Any] = msgspec.to_builtins(errors_by_state(frames, labels, predictions, states))
    return found


def _runs(
    asked: dict[str, Any],
    section: Validate,
    system: System,
    site: Site,
    seed: int,
    model: Path,
    molecules: Path,
    out: Path,
) -> dict[str, Any]:
    """Run the three ensembles in one child, or go on with what a killed one left; a run that fails is a verdict."""
    import shutil

    import numpy as np

    from mlpwf.files import read_json, write_json
    from mlpwf.md.lammps import ValidationJob, describe_exit, last_words, run_worker
    from mlpwf.potentials.record import engine_of
    from mlpwf.structures.boxes import pack_box, scaled_counts
    from mlpwf.structures.frames import quantised, read_frames, write_frames

    references = read_frames(molecules)
    counts = scaled_counts([species.count for species in system.molecules.values()], section.molecules)
    work = out / "work"
    if (work / UNFINISHED).exists() and read_json(work / UNFINISHED) == asked:
        log.info("validate: goes on with the runs in %s", work)
    else:
        shutil.rmtree(work, ignore_errors=True)
        box = pack_box(references, counts, system.density_g_cm3, np.random.default_rng([seed, 1]))
        write_frames(work / "box.extxyz", [quantised(box)])
        write_json(work / UNFINISHED, asked)
    steps = {name: _steps(getattr(section, f"{name}_ps"), section.timestep_fs) for name in ENSEMBLES}
    sample = max(1, min(round(SAMPLE_FS / section.timestep_fs), min(steps.values()) // 10))
    job = ValidationJob(
        engine=engine_of([model]).name,
        models=[[str(model.resolve())]],
        box=str((work / "box.extxyz").resolve()),
        references=str(molecules.resolve()),
        seed=seed,
        temperature_kelvin=section.temperature_kelvin,
        pressure_bar=section.pressure_bar,
        timestep_fs=section.timestep_fs,
        equilibration_steps=max(steps["nvt"] // 2, 500),
        nve_steps=steps["nve"],
        nvt_steps=steps["nvt"],
        npt_steps=steps["npt"],
        sample_steps=sample,
        checkpoint_s=CHECKPOINT_S,
    )
    launcher, threads = site.lammps_launcher, site.md_threads
    status = run_worker(job, work, launcher=launcher, threads=threads, label="validate")
    verdicts: dict[str, Any] = {}
    for name in ("result.json", "phases.json"):
        if (work / name).exists():
            verdicts = read_json(work / name)
            break
    reason = f"crashed, {describe_exit(status)}: {last_words(work / 'output.txt')}"
    verdicts = {name: verdicts.get(name, {"stable": False, "reason": reason}) for name in ENSEMBLES}
    _energy(verdicts["nve"], work, sum(n * len(one) for n, one in zip(counts, references, strict=True)), out)
    _structure(verdicts["nvt"], work, out)
    _density(verdicts["npt"], work, system.density_g_cm3)
    for name, verdict in verdicts.items():
        log.info("validate: %s %s", name, "stable" if verdict["stable"] else f"unstable ({verdict['reason']})")
    return verdicts


def _steps(length_ps: float, timestep_fs: float) -> int:
    return max(10, round(length_ps * 1e3 / timestep_fs))


def _samples(work: Path, name: str) -> dict[str, Any]:
    """The samples of a run, as far as it came."""
    import numpy as np

    if not (work / f"{name}.npz").exists():
        return {"thermo": np.zeros((0, 6)), "centres": np.zeros((0, 0, 3)), "cells": np.zeros((0, 3, 3)), "mass": 0.0}
    with np.load(work / f"{name}.npz", allow_pickle=False) as kept:
        return dict(kept)


def _energy(verdict: dict[str, Any], work: Path, atoms: int, out: Path) -> None:
    """nve.csv and the drift of the total energy, in meV per atom and ps."""
    import numpy as np

    from mlpwf.files import write_text
    from mlpwf.validate.observables import drift

    table = _samples(work, "nve")["thermo"]
    rows = [",".join(f"{value:.10g}" for value in row[[0, 1, 2, 3]]) for row in table]
    write_text(out / "nve.csv", "\n".join(["time_ps,temperature,potential,total_energy", *rows]) + "\n")
    if verdict["stable"] and len(table) >= 3:
        slope, error = drift(table[:, 0], 1e3 * table[:, 3] / atoms)
        verdict |= {
            "drift_mev_atom_ps": slope,
            "drift_error_mev_atom_ps": error,
            "fluctuation_mev_atom": float(np.std(1e3 * table[:, 3] / atoms)),
            "mean_temperature": float(table[:, 1].mean()),
        }


def _structure(verdict: dict[str, Any], work: Path, out: Path) -> None:
    """rdf.csv: g(r) of the molecules' centres of mass; empty when there is nothing to average."""
    from mlpwf.files import write_text
    from mlpwf.validate.observables import radial_distribution

    samples = _samples(work, "nvt")
    rows = []
    if verdict["stable"] and samples["centres"].shape[1] > 1:
        r, g = radial_distribution(samples["centres"], samples["cells"])
        rows = [f"{a:.4f},{b:.6g}" for a, b in zip(r, g, strict=True)]
        verdict["mean_temperature"] = float(samples["thermo"][:, 1].mean())
        verdict["mean_pressure_bar"] = float(samples["thermo"][:, 4].mean())
    write_text(out / "rdf.csv", "\n".join(["r_angstrom,g", *rows]) + "\n")


def _density(verdict: dict[str, Any], work: Path, expected: float) -> None:
    """Mean density in g/cm³ with its block error, the first third left out."""
    from mlpwf.validate.observables import BLOCKS, block_mean

    verdict["density_expected_g_cm3"] = expected
    densities = _densities(work)
    if verdict["stable"] and len(densities) >= BLOCKS:
        density, error = block_mean(densities)
        verdict |= {"density_g_cm3": density, "density_error_g_cm3": error}


def _densities(work: Path) -> Any:
    """Density in g/cm³ of each sample at constant pressure, the first third left out."""
    from mlpwf.units import AMU_PER_A3_PER_G_CM3

    samples = _samples(work, "npt")
    volumes = samples["thermo"][:, 5]
    return samples["mass"] / volumes[int(DISCARDED * len(volumes)) :] / AMU_PER_A3_PER_G_CM3


def _conditions(section: Validate) -> str:
    return f"{section.molecules} molecules at {section.temperature_kelvin:g} K and {section.pressure_bar:g} bar"


def _liquid(verdicts: dict[str, Any], work: Path) -> dict[str, Any]:
    """Samples of density, g(r) and diffusion, by which the models of two cycles are compared.

    Empty where a run is too short for them (blocks of less than `BLOCK_PS`) or the box too small,
    and all of them where a run failed or broke molecules.
    """
    import numpy as np

    from mlpwf.validate.observables import BLOCKS, SHORTEST, block_means, diffusion, radial_distribution

    faults = [
        f"the run at {RUNS[name]} {'broke molecules' if verdicts[name]['stable'] else 'blew up'}"
        for name in RUNS if not (verdicts[name]["stable"] and verdicts[name].get("intact"))
    ]  # fmt: skip
    found: dict[str, Any] = {
        "units": {"density": "g/cm³", "r": "Å", "diffusion": "Å²/ps", "diffusion_lags": "ps"},
        "fault": ", ".join(faults), "density": [], "r": [], "g": [], "diffusion": [], "diffusion_lags": None,
    }  # fmt: skip
    if faults:
        return found
    densities, nvt = _densities(work), _samples(work, "nvt")
    frames, molecules = nvt["centres"].shape[:2]
    interval = float(nvt["thermo"][1, 0] - nvt["thermo"][0, 0])
    if len(densities) * interval >= BLOCKS * BLOCK_PS and len(densities) >= BLOCKS:
        found["density"] = block_means(densities).tolist()
    if molecules > 1 and frames * interval >= BLOCKS * BLOCK_PS and frames >= BLOCKS:
        parts = np.array_split(np.arange(frames), BLOCKS)
        curves = [radial_distribution(nvt["centres"][part], nvt["cells"][part]) for part in parts]
        found |= {"r": curves[0][0].tolist(), "g": [g.tolist() for _, g in curves]}
    if frames >= SHORTEST:
        coefficients, lags = diffusion(nvt["centres"], interval)
        found |= {"diffusion": coefficients.tolist(), "diffusion_lags": lags}
    return found
