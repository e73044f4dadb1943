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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import msgspec
from pydantic import Field, field_validator

from mlpwf.campaign import records
from mlpwf.campaign.resolve import message_on_kept, write_sections
from mlpwf.config import Campaign, Section, Site, load_campaign, load_site, parse, read_yaml
from mlpwf.errors import ConfigError
from mlpwf.files import write_json_if_changed, write_text

FOLDER = Path(".snakemake") / "mlpwf"
SNAPSHOT = "MLPWF_SNAPSHOT"  # environment of a workflow's jobs: the file with its config
_LOOKS = re.compile(
    r"-[npqFfRk]*n[npqFfRk]*|--dry-?run|-[DSl]|--(detailed-)?summary|--lint|--list.*|--(d3)?dag|--(rule|file)graph"
    r"|--unlock|--report.*|--archive|--print-compilation|--containerize|--help|-h|--version"
)
_held: list[IO[str]] = []  # locks of this process, open as long as it lives


class Named(Section):
    """Snakemake's own config: what `config/config.yaml`, `--configfile` and `--config` may name."""

    system: str = Field(description="campaign file")
    site: str = Field(description="site file")
    results: str = Field("results", min_length=1, description="folder of all results")
    plan: int = Field(0, ge=0, le=1000, description="cycles to plan, of a dry run")

    @field_validator("system", "site", "results", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        if isinstance(value, int | float):
            raise ValueError(f"a number to Snakemake; expected a path, such as ./{value}")
        return os.path.normpath(value) if isinstance(value, str) and value else value


@dataclass(frozen=True)
class Run:
    """What a workflow was started with."""

    campaign: Campaign
    site: Site
    results: str
    plan: int = 0


def only_looks(arguments: Sequence[str]) -> bool:
    """Whether Snakemake's arguments ask for a plan or a listing, not for work."""
    return any(_LOOKS.fullmatch(word.split("=")[0]) for word in arguments)


class Snapshot(records.Record, frozen=True, kw_only=True):
    """What a workflow was started with, as it is kept in a file for its jobs."""

    campaign: records.Settings
    site: records.Settings
    results: str


def read_named(config: Mapping[str, object], files: Sequence[Path | str] = ()) -> Named:
    """What a run is asked for.

    Parameters
    ----------
    config
        Snakemake's config, files and command line joined.
    files
        The files it was read from: Snakemake's reader takes the last of a key that is given twice.

    Raises
    ------
    ConfigError
        If one of the files is not sound, or a key of the whole is not known or out of bounds.
    """
    for path in files:
        read_yaml(path)
    return parse(Named, dict(config), "--config")


def open_run(config: Mapping[str, object], *, job: bool, look: bool, files: Sequence[Path | str] = ()) -> Run:
    """The run this Snakemake belongs to.

    Parameters
    ----------
    config
        Snakemake's config, checked by `read_named`.
    job
        This Snakemake runs a job of a workflow.
    look
        This Snakemake plans or lists, and runs nothing.
    files
        The files `config` was read from.

    Raises
    ------
    ConfigError
        If a file is wrong, or another workflow runs in this folder.
    """
    if job and SNAPSHOT in os.environ:
        return _read(Path(os.environ[SNAPSHOT]))
    named = read_named(config, files)
    if not job and not _alone(keep=not look):
        running = FOLDER / "running.json"
        if look and running.is_file():
            print("mlpwf: a workflow runs in this folder; this is by the config it was started with", file=sys.stderr)
            return replace(_read(running), plan=named.plan)
        raise ConfigError(
            f"a workflow already runs in this folder ({_holder()}); wait for it, or stop it (Ctrl-C, or scancel its "
            "jobs), then start again"
        )
    run = Run(load_campaign(named.system), load_site(named.site), named.results, named.plan)
    if not job and not look:
        _remove_stale_lock()
        os.environ[SNAPSHOT] = str(_write(run).absolute())
    folder = write_sections(run.campaign, run.site, run.results, run.plan)
    if not job and (message := message_on_kept(folder)):
        print(f"mlpwf: {message}", file=sys.stderr)
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
    document = records.as_json(
        Snapshot(
            campaign=run.campaign.model_dump(mode="json", by_alias=True),
            site=run.site.model_dump(mode="json"),
            results=run.results,
        )
    )
    name = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
    path = FOLDER / f"config-{name}.json"
    write_json_if_changed(path, document)
    write_text(FOLDER / "running.json", path.read_text())
    return path


def _read(path: Path) -> Run:
    try:
        kept = msgspec.convert(json.loads(path.read_text()), Snapshot)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: the config this workflow was started with cannot be read ({error})") from None
    return Run(Campaign.model_validate(kept.campaign), Site.model_validate(kept.site), kept.results)
