"""`mlpwf label`: first-principles energies, forces and stresses, each computed once."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.accounting import accounted
from mlpwf.config import Label, Site, load_section
from mlpwf.errors import DataError
from mlpwf.files import read_json, sole_writer, write_json

log = logging.getLogger(__name__)
app = typer.Typer(help="First-principles labels: computed once, kept for ever.", no_args_is_help=True)


@app.command("batch")
def label_batch(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    frames: Annotated[Path, typer.Option(help="frames to label, extended XYZ")],
    batch: Annotated[int, typer.Option(help="number of this batch, from 0")],
    batches: Annotated[int, typer.Option(help="number of batches the frames are dealt to")],
    out: Annotated[Path, typer.Option(help="folder of the set's labels")],
) -> None:
    """Label every BATCHES-th frame, beginning with frame BATCH; reuse what the store has."""
    from mlpwf.frames import read_frames

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    folder = out / "batch" / f"{batch:03d}.work"
    with sole_writer(folder), accounted(folder, "label"):
        mine = list(enumerate(read_frames(frames)))[batch::batches]
        labeller = _Labeller(settings, place, folder, sorted({s for _, atoms in mine for s in atoms.symbols}))
        entries = []
        for done, (index, atoms) in enumerate(mine, start=1):
            entry = labeller.label(atoms) | {"frame": index, "state": str(atoms.info.get("state", ""))}
            entries.append(entry)
            write_json(out / "batch" / f"{batch:03d}.progress.json", {"done": done, "total": len(mine)})
            _say(out, batch, done, len(mine), entry)
        write_json(out / "batch" / f"{batch:03d}.json", {"mlpwf": __version__, "labels": entries})


def _say(out: Path, batch: int, done: int, total: int, entry: dict[str, Any]) -> None:
    what = "accepted" if entry["accepted"] else f"set aside: {entry['reason']} ({entry['detail']})"
    how = "reused from the store" if entry["reused"] else f"{entry['cpu_s']:.1f} CPU-s"
    log.info("label %s batch %d: %d/%d %s, %s", out.parent.name, batch, done, total, what, how)


class _Labeller:
    """Labels frames with one set of settings, through the store."""

    def __init__(self, settings: Label, site: Site, folder: Path, elements: list[str]) -> None:
        from mlpwf.engines import espresso
        from mlpwf.labels.store import Store

        self.settings, self.site, self.folder = settings, site, folder
        hashes = espresso.pseudopotential_hashes(elements, settings, Path(site.pseudopotential_folder))
        self.physics = espresso.physics(settings, hashes)
        self.numerics = espresso.numerics(settings)
        self.store = Store(site.label_store)

    def label(self, atoms: Any) -> dict[str, Any]:
        """Outcome of one frame: key, accepted, reused, reason, detail, cpu_s."""
        from mlpwf.labels.store import canonical, label_key

        structure = canonical(atoms)
        key = label_key(structure, self.physics)
        known = self._known(key)
        if known is None:
            with self.store.in_flight(key):
                known = self._known(key)
                if known is None:
                    return {"key": key, "reused": False, **self._compute(key, structure)}
        return {"key": key, "reused": True, **known}

    def _known(self, key: str) -> dict[str, Any] | None:
        record = self.store.get(key)
        if record is not None:
            return {"accepted": True, "reason": None, "detail": None, "cpu_s": record["cpu_s"]}
        aside = self.store.get_aside(key)
        if aside is not None and aside["numerics"] == self.numerics:
            return {"accepted": False, "reason": aside["reason"], "detail": aside["detail"], "cpu_s": aside["cpu_s"]}
        return None

    def _compute(self, key: str, structure: Any) -> dict[str, Any]:
        import resource
        import shutil
        import tempfile

        from mlpwf.engines import espresso
        from mlpwf.frames import minimum_distance
        from mlpwf.labels.acceptance import Aside, Reason, accept

        atoms = structure.atoms()
        started, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        scratch = Path(tempfile.mkdtemp(dir=self.folder))
        text = None
        try:
            closest = minimum_distance(atoms)
            if closest < self.settings.minimum_distance_angstrom:
                limit = self.settings.minimum_distance_angstrom
                raise Aside(Reason.CLASH, f"two atoms are {closest:.3f} Å apart; at least {limit:g} Å expected")
            status, text = espresso.run(atoms, self.settings, self.site, scratch)
            result = accept(status, text, atoms, self.settings)
        except Aside as aside:
            record = self._record(structure, text, started, before)
            record |= {"reason": str(aside.reason), "detail": aside.detail, "numerics": self.numerics}
            self.store.put_aside(key, record, text)
            return {"accepted": False, "reason": str(aside.reason), "detail": aside.detail, "cpu_s": record["cpu_s"]}
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        record = self._record(structure, text, started, before)
        record |= {
            "energy_ev": result.energy,
            "forces_ev_angstrom": result.forces.tolist(),
            "stress_ev_angstrom3": result.stress.tolist(),
        }
        self.store.put(key, record)
        return {"accepted": True, "reason": None, "detail": None, "cpu_s": record["cpu_s"]}

    def _record(self, structure: Any, text: str | None, started: float, before: Any) -> dict[str, Any]:
        import resource

        from mlpwf.engines import espresso

        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        atoms = structure.atoms()
        return {
            "mlpwf": __version__,
            "physics": self.physics,
            "engine_version": espresso.version(text or ""),
            "symbols": list(atoms.symbols),
            "cell_angstrom": atoms.cell.array.tolist(),
            "positions_angstrom": atoms.positions.tolist(),
            "cpu_s": round(now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime, 3),
            "wall_s": round(time.time() - started, 3),
            "finished": round(time.time(), 3),
        }


@app.command("collect")
def label_collect(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    frames: Annotated[Path, typer.Option(help="frames that were labelled, extended XYZ")],
    batch: Annotated[list[Path], typer.Option(help="record of a batch; repeat for each")],
    out: Annotated[Path, typer.Option(help="folder of the set's labels")],
) -> None:
    """Gather a set's batches into labels.extxyz and summary.json."""
    from mlpwf.frames import read_frames, write_frames
    from mlpwf.labels.store import Store, canonical, labelled

    place, _ = load_section(Site, site)
    settings, _ = load_section(Label, config)
    store = Store(place.label_store)
    with sole_writer(out / "collect.work"), accounted(out / "collect.work", "label"):
        asked = read_frames(frames)
        entries = sorted((e for path in batch for e in read_json(path)["labels"]), key=lambda e: e["frame"])
        if [e["frame"] for e in entries] != list(range(len(asked))):
            raise DataError(
                f"{out}: {len(entries)} outcomes for {len(asked)} frames; delete {out / 'batch'} and run again"
            )
        accepted, records = [], []
        for entry in entries:
            if not entry["accepted"]:
                continue
            record = store.get(entry["key"])
            if record is None:
                raise DataError(
                    f"label {entry['key'][:12]} is not in the store {store.root}; delete {out / 'batch'} and run again"
                )
            atoms = asked[entry["frame"]]
            frame = labelled(atoms, canonical(atoms), record)
            frame.info["label"] = entry["key"]
            accepted.append(frame)
            records.append(record)
        _refuse_nothing(entries, accepted)
        write_frames(out / "labels.extxyz", accepted)
        write_json(out / "summary.json", _summary(settings, entries, records))
        aside = [e for e in entries if not e["accepted"]]
        log.info("label %s: %d accepted, %d set aside", out.parent.name, len(accepted), len(aside))


def _refuse_nothing(entries: list[dict[str, Any]], accepted: list[Any]) -> None:
    if entries and not accepted:
        reason, count = Counter((e["reason"], e["detail"]) for e in entries).most_common(1)[0]
        raise DataError(
            f"none of {len(entries)} labels was accepted; {count} x {reason[0]} ({reason[1]}). "
            "Mend the label section or the site, then run again"
        )


def _summary(settings: Label, entries: list[dict[str, Any]], records: list[dict[str, Any]]) -> dict[str, Any]:
    aside = [e for e in entries if not e["accepted"]]
    versions = sorted({r["engine_version"] for r in records})
    physics = records[0]["physics"] if records else settings.model_dump(mode="json")
    return {
        "mlpwf": __version__,
        "engine": "qe",
        "engine_version": ", ".join(versions) or None,
        "physics": physics,
        "requested": len(entries),
        "accepted": len(records),
        "reused": sum(e["reused"] for e in entries),
        "aside": dict(Counter(e["reason"] for e in aside)),
        "aside_frames": [{k: e[k] for k in ("frame", "key", "reason", "detail", "state")} for e in aside],
        "cpu_s": round(sum(e["cpu_s"] for e in entries if not e["reused"]), 3),
        "label_cpu_s_mean": round(sum(r["cpu_s"] for r in records) / len(records), 3) if records else None,
    }
