"""`mlpwf simulate`: the production run of one state, segment by segment."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.campaign.segments import Checkpoint
    from mlpwf.config import Simulate, Site, System
    from mlpwf.md.lammps import SegmentJob

log = logging.getLogger(__name__)
app = typer.Typer(help="Production molecular dynamics.", no_args_is_help=True)

FILES = ("trajectory.trr", "thermo.csv", "stress.npz", "restart.bin")
TWIN = "kept.json"
"""The summary once more: Snakemake removes the summary of a segment whose job it ends the moment after."""
REMEDY = "explore this state longer, label and train again, then simulate"
CLASSICAL_REMEDY = "look at the force field and take a shorter time step"


# ---------------------------------------------------------------- simulate segment


@app.command("segment")
def simulate_segment(
    config: Annotated[Path, typer.Option(help="Resolved section: C/config/simulate.json.")],
    site: Annotated[Path, typer.Option(help="Resolved site: C/config/site.json.")],
    system: Annotated[Path, typer.Option(help="Resolved section: C/config/system.json.")],
    molecules: Annotated[Path, typer.Option(help="One frame for each species: C/build/molecules.extxyz.")],
    state: Annotated[str, typer.Option(help="Name of the state, for example 300K.")],
    segment: Annotated[int, typer.Option(min=0, help="Segment, from 0.")],
    out: Annotated[Path, typer.Option(help="Folder of the state.")],
    model: Annotated[Path | None, typer.Option(help="Final model; none where simulate.force_field is set.")] = None,
    previous: Annotated[Path | None, typer.Option(help="Summary of the segment before.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Wall time of this job, in minutes.")] = None,
) -> None:
    """Run a state at constant volume and temperature until it is as long as asked, or the wall time is near.

    A segment that was killed goes on from its last checkpoint. Whether a run
    blew up is part of the summary and no error.
    """
    import time

    from mlpwf.campaign.accounting import accounted
    from mlpwf.campaign.states import simulate_states
    from mlpwf.campaign.walltime import seconds_left
    from mlpwf.config import Simulate, Site, System, load_section
    from mlpwf.errors import ConfigError
    from mlpwf.files import sole_writer

    began = time.time()
    left = seconds_left(minutes)
    section, seed = load_section(Simulate, config)
    if state not in simulate_states(section):
        raise ConfigError(f"no state '{state}' in {config}; expected one of {', '.join(simulate_states(section))}")
    if section.force_field is not None and model is not None:
        raise ConfigError(f"--model is {model} and simulate.force_field is set; expected one of them")
    if section.force_field is None and (model is None or not model.is_file()):
        raise ConfigError(f"{model or '--model'}: no such model; expected the final model of mlpwf train")
    if (previous is None) != (segment == 0):
        found = "none" if previous is None else str(previous)
        raise ConfigError(f"--previous is {found}; expected none for segment 0, and the summary before for others")
    liquid, place = load_section(System, system)[0], load_section(Site, site)[0]
    with sole_writer(out), accounted(out, "simulate"):
        run = _Segment(section, liquid, place, seed, state, segment, out, model, molecules, previous)
        if run.kept():
            log.info("%s: finished before under the same settings, kept", run.label)
            return
        run.run(began + left if left < float("inf") else None)


class _Segment:
    """One segment: what it depends on, where it starts, and where its files are."""

    def __init__(
        self,
        section: Simulate,
        system: System,
        site: Site,
        seed: int,
        state: str,
        segment: int,
        out: Path,
        model: Path | None,
        molecules: Path,
        previous: Path | None,
    ) -> None:
        from mlpwf.campaign.states import production_settings, simulate_lengths, simulate_states
        from mlpwf.files import sha256

        self.section, self.system, self.site, self.seed = section, system, site, seed
        self.state, self.segment, self.out = state, segment, out
        self.model, self.molecules = model, molecules
        self.temperature = simulate_states(section)[state]
        self.length_ps = simulate_lengths(section)[state]
        self.label = f"simulate {state} segment {segment}"
        self.work, self.target = out / "work" / f"{segment:03d}", out / "segment" / f"{segment:03d}"
        self.steps_per_ps = 1e3 / section.timestep_fs
        self.equilibration = round(section.equilibration_ps * self.steps_per_ps)
        self.stop = round(self.length_ps * self.steps_per_ps)
        self.restart: Path | None = None
        self.start = -self.equilibration
        self.volumes = [0.0, 0.0]
        self.mended = False
        if previous is not None:
            self.restart, self.start, self.volumes = _restart_of(previous)
        self.depends_on = {
            "settings": production_settings(section, system, self.temperature),
            "seed": seed,
            **self._potential(),
            "molecules_sha256": sha256(molecules),
            "restart_sha256": None if self.restart is None else sha256(self.restart),
        }

    def _potential(self) -> dict[str, Any]:
        """Hashes of the model, or of the force field, whose files are read once to find what is wrong with them."""
        from mlpwf.files import sha256
        from mlpwf.potentials.base import Ability
        from mlpwf.potentials.record import engine_of, sound_model
        from mlpwf.potentials.registry import engine
        from mlpwf.structures.frames import read_frames

        given = self.section.force_field
        if given is None:
            assert self.model is not None
            self.engine, self.files = engine_of([self.model]), [self.model.resolve()]
            self.engine.require(Ability.LAMMPS)
            return {"model_sha256": sound_model(self.model)}
        self.engine, self.files = engine("force_field"), [given.commands.resolve(), given.molecules.resolve()]
        self.engine.open(self.files, read_frames(self.molecules))
        return {"force_field_sha256": [sha256(file) for file in self.files]}

    def kept(self) -> bool:
        """Whether this segment is done, from the same settings, model and restart file, and its files are whole."""
        import shutil

        from mlpwf.errors import DataError
        from mlpwf.files import read_json, sha256

        path, twin = self.target / "summary.json", self.target / TWIN
        if not path.is_file() and twin.is_file():
            shutil.copyfile(twin, path)
        if not path.is_file():
            return False
        try:
            summary = read_json(path)
            before, hashes = summary["depends_on"], summary["sha256"]
        except (DataError, KeyError, TypeError):
            log.warning("%s: not a summary of this version; the segment is run again", path)
            return False
        changed = [key for key, value in self.depends_on.items() if before.get(key) != value]
        if changed:
            log.info("%s: %s changed since; it is run again", self.label, ", ".join(changed))
            return False
        for name, found in hashes.items():
            if not (self.target / name).is_file() or sha256(self.target / name) != found:
                log.warning("%s: missing or damaged; the segment is run again, to its old end", self.target / name)
                self.stop, self.mended = int(summary["end_step"]), True
                return False
        return True

    def run(self, end_time: float | None) -> None:
        """Run in out/work/SSS, then put the files in out/segment/SSS, the summary last."""
        import shutil

        from mlpwf.errors import ConfigError, EngineError
        from mlpwf.files import read_json
        from mlpwf.md.lammps import describe_exit, last_words, run_worker

        if self.start >= self.stop:
            raise ConfigError(
                f"{self.label}: the run is {self.start / self.steps_per_ps:g} ps long already; "
                f"simulate.length_ps asks for {self.length_ps:g}: expected more"
            )
        if not self.mended:
            self._drop_later()
        checkpoint = self._resumed()
        job = self._job(checkpoint, end_time)
        status = run_worker(
            job, self.work, launcher=self.site.lammps_launcher, threads=self.site.md_threads, label=self.label
        )
        if status != 0:
            reason = f"{describe_exit(status)}: {last_words(self.work / 'output.txt')}"
            raise EngineError(
                f"{self.label} crashed at {self.temperature:g} K ({reason}); expected exit status 0: "
                f"run the same command to go on from the last checkpoint, or see {self.work}"
            )
        self._collect(job, read_json(self.work / "result.json"))
        shutil.rmtree(self.work)

    def _drop_later(self) -> None:
        """Remove segments that went on from an earlier form of this one."""
        import shutil

        for folder in sorted((self.out / "segment").glob("[0-9]*")):
            if int(folder.name) < self.segment:
                continue
            if (folder / "summary.json").is_file():
                log.info("simulate %s: segment %d belongs to an earlier run; removed", self.state, int(folder.name))
            shutil.rmtree(folder)

    def _resumed(self) -> Checkpoint | None:
        """The checkpoint to go on from; without one, a fresh work folder and, for segment 0, a packed box."""
        import shutil

        from mlpwf.campaign.segments import CHECKPOINTS, last_checkpoint
        from mlpwf.errors import DataError
        from mlpwf.files import read_json, write_json
        from mlpwf.structures.frames import quantised, write_frames

        try:
            same = read_json(self.work / "depends_on.json") == self.depends_on
        except DataError:
            same = False
        if same:
            checkpoint, complaints = last_checkpoint(self.work / CHECKPOINTS)
            for complaint in complaints:
                log.warning("%s: %s; going back to the checkpoint before", self.label, complaint)
            if checkpoint is not None:
                log.info("%s: goes on from %g ps", self.label, checkpoint.step / self.steps_per_ps)
                return checkpoint
        shutil.rmtree(self.work, ignore_errors=True)
        if self.segment == 0:
            (self.out / "topology.pdb").unlink(missing_ok=True)
            write_frames(self.out / "box.extxyz", [quantised(self._packed())])
        elif not (self.out / "box.extxyz").is_file():
            raise DataError(f"{self.out}/box.extxyz: no such file; delete {self.out} and simulate this state again")
        write_json(self.work / "depends_on.json", self.depends_on)
        return None

    def _packed(self) -> Atoms:
        """A packed box of the production size, its own for each state."""
        import zlib

        import numpy as np

        from mlpwf.structures.boxes import pack_box, scaled_counts
        from mlpwf.structures.frames import read_frames

        counts = scaled_counts([one.count for one in self.system.molecules.values()], self.section.molecules)
        rng = np.random.default_rng([self.seed, zlib.crc32(self.state.encode())])
        density = self.system.density_g_cm3
        log.info("simulate %s: packing %s molecules at %g g/cm³", self.state, "+".join(map(str, counts)), density)
        return pack_box(read_frames(self.molecules), counts, density, rng)

    def _job(self, checkpoint: Checkpoint | None, end_time: float | None) -> SegmentJob:
        import zlib

        from mlpwf.md.lammps import SegmentJob

        restart = self.restart if checkpoint is None else checkpoint.restart
        return SegmentJob(
            engine=self.engine.name,
            models=[[str(file) for file in self.files]],
            box=str((self.out / "box.extxyz").resolve()),
            references=str(self.molecules.resolve()),
            restart=None if restart is None else str(restart.resolve()),
            checkpoint=0 if checkpoint is None else checkpoint.number,
            seed=(self.seed + zlib.crc32(self.state.encode())) % 2**31,
            temperature_kelvin=self.temperature,
            timestep_fs=self.section.timestep_fs,
            thermostat_time_ps=self.section.thermostat_time_ps,
            pressure_bar=self.section.pressure_bar,
            volumes=self.volumes,
            equilibration_steps=self.equilibration,
            interval_steps=self.section.interval_steps,
            stress_steps=self.section.stress_steps,
            start_step=self.start if checkpoint is None else checkpoint.step,
            stop_step=self.stop,
            end_time=end_time,
            checkpoint_s=60 * self.section.checkpoint_min,
        )

    def _collect(self, job: SegmentJob, result: dict[str, Any]) -> None:
        """The segment's files from its parts, and the summary."""
        from mlpwf import __version__
        from mlpwf.campaign.segments import CHECKPOINTS, checkpoint_file
        from mlpwf.files import sha256, write_json
        from mlpwf.md.trajectory_files import write_segment
        from mlpwf.potentials.base import Ability
        from mlpwf.structures.frames import read_frames

        box = read_frames(Path(job.box))[0]
        if job.pressure_bar is not None and result["cell"] is not None:
            box.set_cell(result["cell"])
        parts = [checkpoint_file(self.work / CHECKPOINTS, k, "npz") for k in range(1, result["parts"] + 1)]
        self.target.mkdir(parents=True, exist_ok=True)
        found = write_segment(parts, job, box, read_frames(self.molecules), self.target, self.out / "topology.pdb")
        if result["stable"]:
            checkpoint_file(self.work / CHECKPOINTS, result["parts"], "bin").replace(self.target / "restart.bin")
        ps = 1 / self.steps_per_ps
        steps = result["step"] - self.start
        summary = {
            "mlpwf": __version__,
            "units": {"time": "ps", "energy": "eV", "pressure": "bar", "volume": "Å³", "temperature": "K"},
            "state": self.state,
            "segment": self.segment,
            "ensemble": "nvt",
            "temperature_kelvin": self.temperature,
            "timestep_fs": self.section.timestep_fs,
            "thermostat_time_ps": self.section.thermostat_time_ps,
            "linear_interval_ps": self.section.linear_interval_ps,
            "stress_interval_fs": self.section.stress_interval_fs,
            "volume_angstrom3": float(box.get_volume()),
            "molecules": int(box.arrays["molecule"].max()) + 1,
            "steps": steps,
            "start_ps": round(self.start * ps, 9),
            "end_ps": round(result["step"] * ps, 9),
            "end_step": result["step"],
            **({} if job.pressure_bar is None else {"volumes": result["volumes"]}),
            "stable": result["stable"],
            "reason": result["reason"],
            **found,
            "ns_per_day": 86400 * steps * ps * 1e-3 / found["seconds"] if found["seconds"] > 0 else None,
            "finished": True,
            "depends_on": self.depends_on,
            "sha256": {name: sha256(self.target / name) for name in FILES if (self.target / name).is_file()},
        }
        write_json(self.target / TWIN, summary)
        write_json(self.target / "summary.json", summary)
        remedy = REMEDY if self.engine.can(Ability.TRAIN) else CLASSICAL_REMEDY
        if not result["stable"]:
            log.warning(
                "%s: blew up at step %d, %g K: %s; %s",
                self.label, result["step"], self.temperature, result["reason"], remedy,
            )  # fmt: skip
            return
        if not found["intact"]:
            log.warning("%s: molecules broke; expected them whole: %s", self.label, remedy)
        log.info(
            "%s: from %g to %g of %g ps, %.3g ns/day", self.label,
            summary["start_ps"], summary["end_ps"], self.length_ps, summary["ns_per_day"] or 0.0,
        )  # fmt: skip


def _restart_of(previous: Path) -> tuple[Path, int, list[float]]:
    """Restart file, last step and volumes of the segment before; DataError where it is missing or damaged."""
    from mlpwf.errors import DataError
    from mlpwf.files import read_json, sound

    summary, restart = read_json(previous), previous.with_name("restart.bin")
    again = f"delete {previous.parent} and run again"
    try:
        step, expected = int(summary["end_step"]), summary["sha256"]["restart.bin"]
    except (KeyError, TypeError, ValueError):
        reason = "of a run that blew up" if summary.get("stable") is False else "without a restart file's hash"
        raise DataError(f"{previous}: a summary {reason}; expected one to go on from: {again}") from None
    if not restart.is_file():
        raise DataError(f"{restart}: no such file; expected the restart file of a finished segment: {again}")
    sound(restart, expected, previous, again)
    return restart, step, [float(value) for value in summary.get("volumes", [0.0, 0.0])]


# ---------------------------------------------------------------- simulate collect


@app.command("collect")
def simulate_collect(
    folder: Annotated[Path, typer.Option(help="Folder of the state.")],
    length_ps: Annotated[float, typer.Option(min=0, help="Length asked for, in ps.")],
    out: Annotated[Path, typer.Option(help="File of the verdict: STATE/run/LENGTHps.json.")],
) -> None:
    """Say how far the run of a state came, and whether it is to be trusted."""
    from mlpwf.campaign import records
    from mlpwf.campaign.paths import State
    from mlpwf.campaign.segments import segments
    from mlpwf.errors import DataError

    found = segments(State(folder))
    if not found:
        raise DataError(f"{folder}: no finished segment; run the stage simulate first")
    last = found[-1]
    run = records.RunSummary(
        state=last.state,
        temperature_kelvin=last.temperature_kelvin,
        asked_ps=length_ps,
        done_ps=last.end_ps,
        segments=len(found),
        stable=last.stable,
        step=last.end_step,
        reason=last.reason,
        intact=all(summary.intact for summary in found),
        ns_per_day=last.ns_per_day,
    )
    records.write(out, run)
    verdict = "stable" if run.stable else f"blew up at step {run.step}: {run.reason}"
    log.info("simulate %s: %g of %g ps, %s", run.state, run.done_ps, length_ps, verdict)
