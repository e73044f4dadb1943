"""What is known of each job on the file system: who submitted it last, and what it says of itself.

One line ``SUBMISSION FINGERPRINT PLACEMENT NUMBER`` a job in KEY.now, written before it is submitted. The job itself
writes KEY.status, and ends at once where KEY.now names another submission: so no two jobs run into the same files,
whatever became of an answer of Slurm.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FOLDER = Path(".snakemake") / "mlpwf-slurm"

SCRIPT = """\
#!/bin/bash
# {name}
cd {workdir} || exit 1
ledger={ledger}
say() {{
    local draft="$ledger.status.$SLURM_JOB_ID"
    printf '%s\\n' "{submission} $* $SLURM_JOB_ID" >"$draft" && mv -f "$draft" "$ledger.status"
}}
exec 8>>"$ledger.lock"
if ! flock -n 8; then
    echo "waiting for $(cat "$ledger.lock"), which still works on these files"
    flock 8
fi
echo "job $SLURM_JOB_ID on $SLURMD_NODENAME" >"$ledger.lock"
read -r now _ <"$ledger.now"
if [ "$now" != {submission} ]; then
    echo "another job has taken the place of this one; nothing to do"
    exit 0
fi
read -r who what code _ 2>/dev/null <"$ledger.status"
if [ "$who $what" = "{submission} ended" ]; then
    echo "done by this job itself, on a node that was given up"
    exit "$code"
fi
say running
export PATH={bin}:$PATH
export SLURM_JOB_END_TIME=${{SLURM_JOB_END_TIME:-$(($(date +%s) + {seconds}))}}
{command}
code=$?
say ended "$code"
exit "$code"
"""


def digest(*things: Any) -> str:
    """A short name for any nested value."""
    text = json.dumps(things, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def key_of(job: Any) -> str:
    """What a job is, whatever its inputs: its rule and the files it makes."""
    return digest(
        sorted(rule if isinstance(rule, str) else str(rule) for rule in job.rules), sorted(map(str, job.output))
    )


def fingerprint_of(job: Any) -> str:
    """What a job works on: its parameters, and size and time of its inputs (but of those whose time does not count)."""
    inputs = []
    for path in job.input:
        if "ancient" in getattr(path, "flags", {}):
            continue
        try:
            about = os.stat(path)
        except OSError:
            continue
        inputs.append((str(path), about.st_size, about.st_mtime_ns))
    return digest(sorted(inputs), json.loads(job.properties()).get("params"))


@dataclass(frozen=True)
class Entry:
    """The last submission of a job; `number` is empty as long as Slurm gave none."""

    submission: str
    fingerprint: str
    placement: str
    number: str = ""

    @classmethod
    def new(cls, fingerprint: str, placement: str) -> Entry:
        """A submission nobody has heard of."""
        return cls(uuid.uuid4().hex[:12], fingerprint, placement)

    def numbered(self, number: str) -> Entry:
        """The same with Slurm's number."""
        return replace(self, number=number)


@dataclass(frozen=True)
class Status:
    """What a job says of itself: `exit` is None while it runs."""

    number: str
    exit: int | None


class Place:
    """The files of one job in the ledger."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.stem = (FOLDER / key).absolute()

    def _file(self, kind: str) -> Path:
        return self.stem.with_name(f"{self.key}.{kind}")

    def read(self) -> Entry | None:
        """The last submission; None if there is none, or none that can be read."""
        try:
            words = self._file("now").read_text().split()
            return Entry(*words)
        except (OSError, TypeError):
            return None

    def write(self, entry: Entry) -> None:
        """Make this the last submission; one written before no longer counts."""
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        target = self._file("now")
        draft = target.with_suffix(".draft")
        draft.write_text(f"{entry.submission} {entry.fingerprint} {entry.placement} {entry.number}\n")
        os.replace(draft, target)

    def status(self, submission: str) -> Status | None:
        """What the job of this submission says; None as long as it says nothing."""
        try:
            words = self._file("status").read_text().split()
        except OSError:
            return None
        if len(words) == 3 and words[:2] == [submission, "running"]:
            return Status(words[2], None)
        if len(words) == 4 and words[:2] == [submission, "ended"]:
            return Status(words[3], int(words[2]))
        return None

    def wait_for(self, files: list[str]) -> Path:
        """A file that names what the job must see before it starts."""
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        path = self._file("files")
        path.write_text("".join(f"{file}\n" for file in files))
        return path

    def script(self, submission: str, name: str, seconds: int, command: str) -> str:
        """The batch script of a submission."""
        return SCRIPT.format(
            name=name,
            workdir=shlex.quote(os.getcwd()),
            ledger=shlex.quote(str(self.stem)),
            submission=submission,
            bin=shlex.quote(os.path.dirname(sys.executable)),
            seconds=seconds,
            command=command,
        )

    def forget(self, *, ended: bool = False) -> None:
        """Remove every file of this job; its lock only if it said that it ended, or nobody holds it.

        A job that Slurm has given up may live on, on a node that lost its network: its successor waits for it.
        """
        for kind in ("now", "status", "files"):
            with contextlib.suppress(OSError):
                self._file(kind).unlink()
        with contextlib.suppress(OSError), self._file("lock").open("a") as lock:
            if not ended:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file("lock").unlink()


def forget_ended() -> None:
    """Close the books of every job that says of itself that it ended well."""
    for path in FOLDER.glob("*.now"):
        place = Place(path.stem)
        entry = place.read()
        status = place.status(entry.submission) if entry else None
        if status is not None and status.exit == 0:
            place.forget(ended=True)
