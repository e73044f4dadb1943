"""Slurm's commands, and what their answers mean: an answer, silence, a refusal that may pass, one that cannot."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PATIENCE_SECONDS = 60.0
MARK = "mlpwf-slurm"

# States in which a job can still do something, and those whose end is not the job's own fault.
ACTIVE = {
    "PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "COMPLETING", "STAGE_OUT", "SIGNALING",
    "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESIZING", "RESV_DEL_HOLD",
}  # fmt: skip
BLAMELESS = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL"}

# Reasons of waiting that no other job's end will cure.
STUCK = re.compile(
    r"Held|held|BadConstraints|PartitionTimeLimit|PartitionNodeLimit|PartitionDown|PartitionInactive|Dependency"
    r"|InvalidAccount|InvalidQOS|ReqNodeNotAvail|AccountNotAllowed|QOSNotAllowed|MaxWallDurationPerJob|PerJobLimit"
)

_SILENCE = re.compile(
    r"socket timed out|unable to contact|connection (refused|timed out|reset)|zero bytes|communication connection"
    r"|transport endpoint|timed out|slurm_receive_msg|backup controller|in standby|controller.*not respond"
    r"|unable to establish|unexpected message|munge|authentication|credential|incompatible version",
    re.IGNORECASE,
)
_PASSING = re.compile(
    r"temporarily unable|resource temporarily|try again|grp\w*submit|job submission .*(disabled|rate)|too many"
    r"|rate limit|slurmctld .*busy|database|in maintenance",
    re.IGNORECASE,
)
_POLICY = re.compile(r"violates accounting/qos policy|violates .*policy", re.IGNORECASE)
_SITE = re.compile(
    r"invalid (account|partition|qos|user|reservation|feature|cluster)|(account|partition|qos|group|user)\b.*"
    r"(not permitted|not allowed|denied|does not exist|not available)|access/permission denied|permission denied",
    re.IGNORECASE,
)
_JOB = re.compile(
    r"requested node configuration|requested time limit|memory specification|more processors|node count"
    r"|invalid (generic|gres|constraint|number|time|tres|job|cpu|argument)|unrecognized|invalid option"
    r"|impossible|exceeds|pathname|batch script",
    re.IGNORECASE,
)


class SilentError(Exception):
    """Slurm did not answer; whether it heard the question is unknown."""


class RefusedError(Exception):
    """Slurm said no.

    Attributes
    ----------
    kind
        ``passing`` (try again later), ``policy`` (a limit that may or may not pass), ``site`` (account, partition
        and the like: the same for every job), ``job`` (what this job asks for), ``unknown``.
    """

    def __init__(self, words: str, kind: str) -> None:
        super().__init__(words)
        self.kind = kind


@dataclass(frozen=True)
class Listed:
    """A job as squeue shows it."""

    number: str
    state: str
    reason: str
    comment: str

    @property
    def active(self) -> bool:
        """Whether the job waits or runs."""
        return self.state in ACTIVE


@dataclass(frozen=True)
class Listing:
    """All jobs of this user that Slurm remembers, asked for at one moment (of time.monotonic)."""

    asked: float
    jobs: Mapping[str, Listed] = field(default_factory=dict)

    def by_comment(self, comment: str) -> Listed | None:
        """The newest job whose comment begins with the given words; one that is active comes first."""
        found = [job for job in self.jobs.values() if job.comment == comment or job.comment.startswith(comment + " ")]
        found.sort(key=lambda job: (job.active, int(job.number) if job.number.isdigit() else 0))
        return found[-1] if found else None

    @property
    def any_active(self) -> bool:
        """Whether any job of this user waits or runs."""
        return any(job.active for job in self.jobs.values())


def classify(words: str) -> str:
    """What a refusal means, from Slurm's own words.

    A limit of a group passes when others' jobs end, one of this user when his own do; account, partition and QOS
    do not pass.
    """
    for kind, pattern in (("passing", _PASSING), ("policy", _POLICY), ("site", _SITE), ("job", _JOB)):
        if pattern.search(words):
            return kind
    return "unknown"


def clean_environment() -> dict[str, str]:
    """This environment without what Slurm set for a job that this process itself may run in."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "PMI", "OMPI_"))
    }


def ask(command: Sequence[str], text: str | None = None) -> str:
    """What a command of Slurm prints.

    Raises
    ------
    SilentError
        If Slurm does not answer in time, or the command says that it cannot reach it.
    RefusedError
        If Slurm answers no.
    """
    try:
        answer = subprocess.run(
            command,
            input=text or "",
            env=clean_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise SilentError(f"{command[0]} had no answer within {PATIENCE_SECONDS:.0f} s") from None
    except OSError as error:
        raise RefusedError(f"{command[0]} cannot be run: {error.strerror}", "site") from None
    if answer.returncode == 0:
        return answer.stdout
    words = " ".join((answer.stderr.strip() or answer.stdout.strip() or "no words").split())
    words = f"{words} (exit {answer.returncode})" if words == "no words" else words
    if answer.returncode < 0 or (_SILENCE.search(words) and classify(words) != "site"):
        raise SilentError(words)
    raise RefusedError(words, classify(words))


def minutes_of(limit: str) -> float:
    """A time limit of Slurm, such as 1-12:00:00, in minutes; infinity where there is none."""
    if limit in ("UNLIMITED", "INFINITE", "NONE", "infinite", "n/a"):
        return float("inf")
    days, _, rest = limit.rpartition("-")
    parts = [float(part) for part in rest.split(":")]
    if days:
        hours, minutes, seconds = (*parts, 0.0, 0.0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0.0, (*parts, 0.0)[:2]
    return 1440 * float(days or 0) + 60 * hours + minutes + seconds / 60


def max_minutes(partition: str) -> float:
    """The longest run time a partition allows (of several, the longest), the default one's for an empty name."""
    printed = ask(["sinfo", "-h", "-o", "%P|%l", *(["-p", partition] if partition else [])])
    found = [line.split("|") for line in printed.splitlines() if "|" in line]
    limits = [minutes_of(limit.strip()) for name, limit in found if partition or name.strip().endswith("*")]
    return max(limits, default=float("inf"))


def submit(options: Sequence[str], script: str) -> str:
    """Submit a batch script; the number Slurm gives it."""
    printed = ask(["sbatch", "--parsable", *options], script).strip().splitlines()
    number = printed[-1].split(";")[0].strip() if printed else ""
    if not number.isdigit():
        raise SilentError(f"sbatch printed {printed!r}, no job number")
    return number


def listing(asked: float) -> Listing:
    """All jobs of this user, those that ended a moment ago too: one question, however many jobs there are."""
    printed = ask(["squeue", "-u", getpass.getuser(), "-h", "-t", "all", "-o", "%A|%T|%r|%k"])
    jobs = {}
    for line in printed.splitlines():
        words = line.split("|", 3)
        if len(words) == 4:
            jobs[words[0].strip()] = Listed(words[0].strip(), words[1].strip(), words[2].strip(), words[3].strip())
    return Listing(asked, jobs)


def cancel(numbers: Sequence[str]) -> None:
    """Cancel jobs; those that have ended are no error."""
    for start in range(0, len(numbers), 100):
        try:
            ask(["scancel", "--quiet", *numbers[start : start + 100]])
        except RefusedError as error:
            if "nvalid job id" not in str(error):
                raise
