"""One workflow a folder, and the config it was started with, which its jobs keep to its end.

A workflow holds the lock `.snakemake/mlpwf/lock` as long as it lives, however it ends; Snakemake's own lock, when
nobody holds this one, was left by a killed workflow and is taken away. What was resolved from the config files at
its start is kept beside the lock: its jobs, and a dry run beside it, read that and never the files, so that an edit
while it runs waits for the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mlpwf.config import Campaign, Site, load_campaign, load_site
from mlpwf.config.resolve import said_of_kept, write_sections
from mlpwf.errors import ConfigError
from mlpwf.files import write_json_if_changed, write_text

FOLDER = Path(".snakemake") / "mlpwf"
SNAPSHOT = "MLPWF_SNAPSHOT"  # environment of a workflow's jobs: the file with its config
_LOOKS = re.compile(
    r"-[npqFfRk]*n[npqFfRk]*|--dry-?run|-[DSl]|--(detailed-)?summary|--lint|--list.*|--(d3)?dag|--(rule|file)graph"
    r"|--unlock|--report.*|--archive|--print-compilation|--containerize|--help|-h|--version"
)
_held: list[IO[str]] = []  # locks of this process, open as long as it lives


@dataclass(frozen=True)
class Run:
    """What a workflow was started with."""

    campaign: Campaign
    site: Site
    results: str


def only_looks(arguments: Sequence[str]) -> bool:
    """Whether Snakemake's arguments ask for a plan or a listing, not for work."""
    return any(_LOOKS.fullmatch(word.split("=")[0]) for word in arguments)


def open_run(config: Mapping[str, Any], *, job: bool, look: bool) -> Run:
    """The run this Snakemake belongs to.

    Parameters
    ----------
    config
        Snakemake's config: `system`, `site`, perhaps `results` and `plan`.
    job
        This Snakemake runs a job of a workflow.
    look
        This Snakemake plans or lists, and runs nothing.

    Raises
    ------
    ConfigError
        If a file is wrong, or another workflow runs in this folder.
    """
    if job and SNAPSHOT in os.environ:
        return _read(Path(os.environ[SNAPSHOT]))
    if not job and not _alone(keep=not look):
        running = FOLDER / "running.json"
        if look and running.is_file():
            print("mlpwf: a workflow runs in this folder; this is by the config it was started with", file=sys.stderr)
            return _read(running)
        raise ConfigError(
            f"a workflow already runs in this folder ({_holder()}); wait for it, or stop it (Ctrl-C, or scancel its "
            "jobs), then start again"
        )
    results = str(config.get("results", "results"))
    run = Run(load_campaign(config["system"]), load_site(config["site"]), results)
    if not job and not look:
        _remove_stale_lock()
        os.environ[SNAPSHOT] = str(_write(run).absolute())
    folder = write_sections(run.campaign, run.site, results, int(config.get("plan", 0)))
    if not job and (said := said_of_kept(folder)):
        print(f"mlpwf: {said}", file=sys.stderr)
    return run


def _alone(*, keep: bool) -> bool:
    """Whether no other workflow runs here; `keep` makes this process the one that does."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    handle = (FOLDER / "lock").open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return False
    except OSError as error:
        print(f"mlpwf: this file system has no locks ({error.strerror}); start one workflow only", file=sys.stderr)
    if not keep:
        handle.close()
        return True
    _held.append(handle)
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}")
    handle.flush()
    return True


def _holder() -> str:
    with contextlib.suppress(OSError):
        return (FOLDER / "lock").read_text().strip() or "no name given"
    return "no name given"


def _remove_stale_lock() -> None:
    stale = list((FOLDER.parent / "locks").glob("*"))
    if stale:
        print("mlpwf: the last run was killed; going on from what it finished and what still runs", file=sys.stderr)
    for path in stale:
        path.unlink(missing_ok=True)


def _write(run: Run) -> Path:
    """Keep the config under a name made from its content: a job of an older start keeps its own."""
    document = {
        "campaign": run.campaign.model_dump(mode="json", by_alias=True),
        "site": run.site.model_dump(mode="json"),
        "results": run.results,
    }
    name = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
    path = FOLDER / f"config-{name}.json"
    write_json_if_changed(path, document)
    write_text(FOLDER / "running.json", path.read_text())
    return path


def _read(path: Path) -> Run:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the config this workflow was started with cannot be read ({error})") from None
    return Run(Campaign(**document["campaign"]), Site(**document["site"]), document["results"])
