"""The executor: one loop that finds, submits, watches and ends the jobs of a workflow."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shlex
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.utils import format_cli_arg

from snakemake_executor_plugin_mlpwf_slurm import slurm
from snakemake_executor_plugin_mlpwf_slurm.ledger import Entry, Place, fingerprint_of, forget_ended, key_of
from snakemake_executor_plugin_mlpwf_slurm.placement import asked_of, minutes_asked, name_of, options_of, placement_of

ROUND_SECONDS = 1.0  # between two looks at what the jobs say of themselves
JOBS_A_ROUND_SECOND = 50  # so many status files are read a second at most
BLAMELESS_ENDS = 20  # so often a job is submitted again after nodes failed under it
UNKNOWN_REFUSALS = 5


class Phase(Enum):
    """Where a job of the workflow stands."""

    NEW = auto()  # not yet looked for among the jobs Slurm has
    WAITING = auto()  # to be submitted
    UNSURE = auto()  # submitted, and the answer was lost
    REPLACING = auto()  # an older job of other inputs was cancelled and must end first
    SUBMITTED = auto()
    ENDED = auto()


@dataclass
class Watched:
    """A job of the workflow and what is known of it."""

    job: JobExecutorInterface
    place: Place
    entry: Entry
    phase: Phase = Phase.NEW
    replaced: str = ""  # the number of the job that must end first
    since: float = 0.0  # of time.monotonic: when the phase began
    gone_since: float | None = None
    blameless_ends: int = 0
    refusals: int = 0
    refused_at: float | None = None
    told: set[str] = field(default_factory=set)


class Executor(RemoteExecutor):
    """Jobs on Slurm that outlive the Snakemake that submitted them."""

    ready = False  # the loop begins, in a thread of its own, before __post_init__ is through

    def __post_init__(self) -> None:
        settings = self.workflow.executor_settings
        self.poll_seconds = max(1, settings.poll_seconds)
        self.logdir = Path(settings.logdir).absolute()
        self.folder_mark = hashlib.sha256(os.getcwd().encode()).hexdigest()[:12]
        self.listing: slurm.Listing | None = None
        self.asked = -float("inf")
        self.silent_since: float | None = None
        self.hold_until = -float("inf")
        self.hold_words = ""
        self.longest: dict[str, float] = {}  # run time each partition allows (min)
        self.cut: set[str] = set()  # told: rules that ask for more
        self.mine: list[SubmittedJobInfo] = []  # all jobs not yet ended; Snakemake's own list is empty during a round
        self.refused = ""  # Slurm's words, once it refused what would be asked for every job
        self.seen: set[str] = set()  # jobs whose earlier submissions, by another Snakemake, were looked for
        self.ready = True

    # what Snakemake asks of an executor

    def run_job(self, job: JobExecutorInterface) -> None:
        """Take a job over to the loop, which finds or submits it."""
        place = Place(key_of(job))
        entry = Entry.new(fingerprint_of(job), placement_of(job))
        info = SubmittedJobInfo(job, aux={"watched": Watched(job, place, entry)})
        with self.lock:
            self.mine = [one for one in self.mine if one.aux["watched"].phase is not Phase.ENDED] + [info]
        self.report_job_submission(info)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """One round: ask Slurm if it is time, then take each job a step further."""
        if not self.ready:
            return
        self._ask_slurm([info.aux["watched"] for info in active_jobs])
        for info in active_jobs:
            if not self.wait or not self._step(info):
                yield info
        self._end_refused([info.aux["watched"] for info in active_jobs])

    def cancel(self) -> None:
        """End the loop, so that nothing is submitted any more, then cancel what was (Ctrl-C)."""
        self.shutdown()
        self.cancel_jobs(self.mine)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel what was submitted; a job whose answer was lost ends by itself once it starts."""
        watched = [info.aux["watched"] for info in active_jobs]
        numbers = [one.entry.number for one in watched if one.phase is Phase.SUBMITTED and one.entry.number]
        for one in watched:
            one.place.forget()
        try:
            slurm.cancel(numbers)
        except (slurm.SilentError, slurm.RefusedError) as error:
            self.logger.error(f"Slurm could not be told to cancel {' '.join(numbers)}: {error}")

    def shutdown(self) -> None:
        """End the loop; what is on the books of jobs that ended well while nobody watched goes with it."""
        super().shutdown()
        forget_ended()

    async def sleep(self) -> None:
        """Wait for the next round; the end of the workflow is not kept waiting."""
        with self.lock:
            number = len(self.active_jobs)
        end = time.monotonic() + max(ROUND_SECONDS, number / JOBS_A_ROUND_SECOND)
        while self.wait and time.monotonic() < end:
            await asyncio.sleep(0.1)

    def get_python_executable(self) -> str:
        """The Python of this process, whatever its path holds."""
        return shlex.quote(sys.executable)

    def get_job_args(self, job: JobExecutorInterface, **kwargs: Any) -> str:
        """Arguments of the Snakemake in the job: its cores, and the files it must see first."""
        files = Place(key_of(job)).wait_for([str(path) for path in job.get_wait_for_files()])
        arguments = RealExecutor.get_job_args(self, job, cores=max(1, job.threads))
        return f"{arguments} {format_cli_arg('--wait-for-files-file', str(files))}"

    # the loop

    def _ask_slurm(self, jobs: list[Watched]) -> None:
        now = time.monotonic()
        hurry = any(one.phase in (Phase.UNSURE, Phase.REPLACING) for one in jobs)
        fresh = self.listing is not None and not hurry
        period = self.poll_seconds if fresh or self.silent_since is not None else min(self.poll_seconds, 3)
        if not jobs or now - self.asked < period:
            return
        self.asked = now
        try:
            self.listing = slurm.listing(now)
        except slurm.SilentError as error:
            self._silence(str(error))
        except slurm.RefusedError as error:
            if error.kind == "site":
                raise WorkflowError(f"Slurm: {error}") from None
            self._silence(str(error))
        else:
            self._answer()

    def _silence(self, words: str) -> None:
        if self.silent_since is None:
            self.silent_since = time.monotonic()
            self.logger.warning(f"Slurm does not answer ({words}); jobs go on, and mlpwf-slurm waits for it.")

    def _answer(self) -> None:
        if self.silent_since is not None:
            seconds = time.monotonic() - self.silent_since
            self.logger.warning(f"Slurm answers again, after {seconds:.0f} s.")
            self.silent_since = None

    def _step(self, info: SubmittedJobInfo) -> bool:
        """Take a job a step further; True once its end was reported."""
        one: Watched = info.aux["watched"]
        try:
            if one.phase is Phase.NEW:
                self._find(one)
            if one.phase is Phase.REPLACING:
                self._await_replaced(one)
            if one.phase is Phase.UNSURE:
                self._await_answer(one)
            if one.phase is Phase.WAITING:
                self._submit(info, one)
            if one.phase is Phase.SUBMITTED:
                info.external_jobid = one.entry.number
                return self._watch(info, one)
        except OSError as error:  # a full disk or a file server that is away
            self._tell(one, f"cannot keep its books ({error}); trying again")
        except _EndError as end:
            one.place.forget()
            one.phase = Phase.ENDED
            self.report_job_error(info, msg=f"{end} ")
            return True
        return False

    def _find(self, one: Watched) -> None:
        """Look for a job an earlier Snakemake submitted: in the ledger, and by its comment at Slurm."""
        if one.place.key in self.seen:  # an attempt of this run has ended; a listing may still show it alive
            one.phase = Phase.WAITING
            return
        if self.listing is None:
            return
        self.seen.add(one.place.key)
        known = one.place.read()
        listed = self.listing.by_comment(self._comment(one.place.key))
        if known is None and listed is not None and listed.active:  # the ledger was lost
            words = listed.comment.split()
            if len(words) == 6:
                known = Entry(words[5], words[3], words[4], listed.number)
        if known is None:
            one.phase = Phase.WAITING
            return
        mine = self.listing.by_comment(self._comment(one.place.key, known))
        status = one.place.status(known.submission)
        number = (mine.number if mine else "") or (status.number if status else "") or known.number
        active = mine is not None and mine.active
        ended_well = status is not None and status.exit == 0 and self._outputs_there(one)
        waits_elsewhere = mine is not None and mine.state == "PENDING" and known.placement != one.entry.placement
        if number and known.fingerprint == one.entry.fingerprint and not waits_elsewhere and (active or ended_well):
            one.entry = known.numbered(number)
            one.place.write(one.entry)
            self._become(one, Phase.SUBMITTED)
            self.logger.info(f"Job {one.job.jobid} ({one.job.name}): taken over, Slurm's job {number}.")
        elif active:
            why = "its partition or account changed" if waits_elsewhere else "its inputs changed"
            self.logger.info(f"Job {one.job.jobid} ({one.job.name}): {why}; Slurm's job {number} is cancelled first.")
            one.replaced = number
            self._become(one, Phase.REPLACING)
            with contextlib.suppress(slurm.SilentError, slurm.RefusedError):
                slurm.cancel([number])
        else:
            one.phase = Phase.WAITING

    @staticmethod
    def _outputs_there(one: Watched) -> bool:
        return all(os.path.exists(path) for path in one.job.output)

    def _await_replaced(self, one: Watched) -> None:
        if self.listing is None or self.listing.asked <= one.since:
            return
        old = self.listing.jobs.get(one.replaced)
        if old is None or not old.active:
            self._become(one, Phase.WAITING)
        elif old.state != "COMPLETING":
            with contextlib.suppress(slurm.SilentError, slurm.RefusedError):
                slurm.cancel([one.replaced])

    def _await_answer(self, one: Watched) -> None:
        """Find a submission whose answer was lost; not found in a later answer, it is made again under a new name."""
        status = one.place.status(one.entry.submission)
        listed = self.listing.by_comment(self._comment(one.place.key, one.entry)) if self.listing else None
        number = status.number if status else listed.number if listed else ""
        if number:
            one.entry = one.entry.numbered(number)
            one.place.write(one.entry)
            self._become(one, Phase.SUBMITTED)
            self.logger.info(f"Job {one.job.jobid} ({one.job.name}): found again, Slurm's job {number}.")
        elif self.listing is not None and self.listing.asked > one.since:
            self._become(one, Phase.WAITING)

    def _submit(self, info: SubmittedJobInfo, one: Watched) -> None:
        now = time.monotonic()
        if self.refused or self.silent_since is not None or now < self.hold_until:
            return
        one.entry = Entry.new(one.entry.fingerprint, one.entry.placement)
        one.place.write(one.entry)
        command = self.format_job_exec(one.job)
        if re.search(r'["\\\n]', command):
            raise _EndError(
                f"{one.job.name}: a name in its command holds a quote, a backslash or a line break; "
                "expected none of them in folders, files and options of a workflow on Slurm; rename it"
            )
        name = name_of(one.job)
        try:
            minutes = self._minutes(one)
            options = options_of(one.job, minutes, name, self._comment(one.place.key, one.entry), self._log(one, "%j"))
            number = slurm.submit(options, one.place.script(one.entry.submission, name, 60 * minutes, command))
        except slurm.SilentError as error:
            self._silence(str(error))
            self._become(one, Phase.UNSURE)
        except slurm.RefusedError as error:
            self._refused(one, error)
        else:
            one.entry = one.entry.numbered(number)
            one.place.write(one.entry)
            one.refusals, one.refused_at = 0, None
            self.hold_words = ""
            self._become(one, Phase.SUBMITTED)
            self.logger.info(f"Job {one.job.jobid} ({one.job.name}): Slurm's job {number}.")

    def _minutes(self, one: Watched) -> int:
        """The run time to ask for: what the rule says, or all the partition allows; more would wait for ever."""
        partition = str(one.job.resources.get("slurm_partition") or "")
        asked = minutes_asked(one.job)
        if partition not in self.longest:
            self.longest[partition] = slurm.max_minutes(partition)
        longest = self.longest[partition]
        if not 1 <= longest < asked:
            return asked
        words = f"{one.job.name} asks for {asked} min, {partition or 'the default partition'} allows {longest:.0f}"
        if words not in self.cut:
            self.cut.add(words)
            self.logger.warning(f"{words}: its jobs get that.")
        return int(longest)

    def _refused(self, one: Watched, error: slurm.RefusedError) -> None:
        """Wait where the refusal may pass, end with Slurm's words where it cannot."""
        kind = error.kind
        one.refusals += 1
        if kind == "policy":  # a limit of ours passes as long as something of ours is queued
            seen = self.listing is not None and one.refused_at is not None and self.listing.asked > one.refused_at
            kind = "job" if seen and self.listing is not None and not self.listing.any_active else "passing"
        one.refused_at = time.monotonic()
        if kind == "unknown" and one.refusals < UNKNOWN_REFUSALS:
            kind = "passing"
        if kind == "site":
            one.place.forget()
            self.refused = f"Slurm refuses jobs like {one.job.name}: {error}"
            self.logger.error(
                f"{self.refused}. Mend partition, account, constraint and the like in the site file (config/sites), "
                "then start again. Nothing more is submitted; this workflow ends when its running jobs have."
            )
            return
        if kind != "passing":
            asked = " ".join(asked_of(one.job, self._minutes(one)))
            raise _EndError(f"Slurm refuses this job: {error}. It asks for {asked}: mend the site file (config/sites).")
        self.hold_until = time.monotonic() + self.poll_seconds
        if self.hold_words != str(error):
            self.hold_words = str(error)
            self.logger.warning(f"Slurm takes no more jobs for now ({error}); tried again every {self.poll_seconds} s.")

    def _end_refused(self, jobs: list[Watched]) -> None:
        """After a refusal that holds for every job: end the workflow once none of its jobs is with Slurm."""
        if self.refused and all(one.phase in (Phase.NEW, Phase.WAITING, Phase.ENDED) for one in jobs):
            raise WorkflowError("nothing more can be submitted: see Slurm's refusal above")

    def _watch(self, info: SubmittedJobInfo, one: Watched) -> bool:
        status = one.place.status(one.entry.submission)
        if status is not None and status.exit == 0:
            return self._succeeded(info, one)
        if status is not None and status.exit is not None:
            raise _EndError(f"{self._words(one, 'FAILED')} with exit code {status.exit}{self._slurm_words(one)}.")
        if self.listing is None or self.listing.asked <= one.since:
            return False
        listed = self.listing.jobs.get(one.entry.number)
        if listed is None:
            return self._vanished(one)
        one.gone_since = None
        if listed.state == "COMPLETED":
            return self._succeeded(info, one)
        if listed.active:
            if listed.state == "PENDING" and slurm.STUCK.search(listed.reason):
                remedy = "; set slurm.max_minutes in the site file" if "Wall" in listed.reason else ""
                self._tell(one, f"waits, says Slurm: {listed.reason}{remedy}")
            return False
        if listed.state in slurm.BLAMELESS and one.blameless_ends < BLAMELESS_ENDS:
            one.blameless_ends += 1
            self.logger.warning(f"{self._words(one, listed.state)}; no fault of the job: submitted again.")
            self._become(one, Phase.WAITING)
            return False
        raise _EndError(f"{self._words(one, listed.state)}{self._slurm_words(one)}.")

    def _succeeded(self, info: SubmittedJobInfo, one: Watched) -> bool:
        with contextlib.suppress(OSError):
            self._log(one, one.entry.number).unlink()
        one.place.forget(ended=True)
        one.phase = Phase.ENDED
        self.report_job_success(info)
        return True

    def _vanished(self, one: Watched) -> bool:
        """Slurm forgot the job, and the job said no end: give the file system time to show it."""
        now = time.monotonic()
        if one.gone_since is None:
            one.gone_since = now
        if now - one.gone_since < self.workflow.execution_settings.latency_wait:
            return False
        raise _EndError(f"{self._words(one, 'GONE')}: Slurm no longer knows it, and it wrote no end.")

    # words

    def _become(self, one: Watched, phase: Phase) -> None:
        one.phase, one.since, one.gone_since = phase, time.monotonic(), None

    def _comment(self, key: str, entry: Entry | None = None) -> str:
        words = [slurm.MARK, self.folder_mark, key]
        return " ".join([*words, entry.fingerprint, entry.placement, entry.submission] if entry else words)

    def _log(self, one: Watched, number: str) -> Path:
        path: Path = self.logdir / one.job.name / f"{name_of(one.job)}-{number}.log"
        return path

    def _words(self, one: Watched, state: str) -> str:
        return f"Slurm's job {one.entry.number} ({name_of(one.job)}) ended {state}"

    def _slurm_words(self, one: Watched) -> str:
        """The last thing Slurm itself wrote into the job's log."""
        try:
            text = self._log(one, one.entry.number).read_text(errors="replace")[-20000:]
        except OSError:
            return ""
        found = re.findall(r"(?:slurmstepd|slurmd|srun)[^\s:]*: error: (.*)", text)
        telling = [line for line in found if re.search("limit|exceed|memory|oom", line, re.IGNORECASE)] or found
        return f", Slurm says: {telling[-1].strip(' *')}" if telling else ""

    def _tell(self, one: Watched, words: str) -> None:
        if words not in one.told:
            one.told.add(words)
            self.logger.warning(f"Job {one.job.jobid} ({one.job.name}): {words}")


class _EndError(Exception):
    """A job has ended badly; the words say how."""
