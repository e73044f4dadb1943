"""A small workflow with the shipped profile: jobs that sleep, note each start, and do as their config says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from slurm.cluster import PATIENCE, Cluster, wait_until

PROJECT = Path(__file__).parents[2]
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
UNTIL_TOLD = "while [ ! -e go ]; do sleep 0.2; done"  # a job runs until the test lets it end
SNAKEFILE = """\
rule all:
    localrule: True
    input: expand("out/{i}", i=range(int(config.get("jobs", 2))))


rule work:
    input: "source"
    output: "out/{i}"
    log: "log/{i}"
    threads: lambda wildcards, attempt: config.get("threads", 1) * attempt
    resources:
        mem_mb=lambda wildcards, attempt: config.get("mem_mb", 1000) * attempt,
        runtime=lambda wildcards, attempt: config.get("minutes", 5) * attempt,
        **{name: config[name] for name in config if name.startswith("slurm_")},
    params:
        attempt=lambda wildcards, resources: resources.get("_attempt", 0),
    shell:
        "echo $SLURM_JOB_ID >> starts/{wildcards.i}; bash work.sh {wildcards.i} > {log:q} 2>&1;"
        " cp {input:q} {output:q}"
"""


def _start(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, terminal: Path
) -> subprocess.Popen[bytes]:
    """Begin a command in a session of its own; what it says is added to the file `terminal`."""
    with terminal.open("ab") as sink:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run behind &
        )


class Small:
    """A folder with a small workflow, run by `snakemake --profile slurm` on a cluster.

    `work` is what each job does, a bash script whose first word is the job's number.
    """

    def __init__(self, folder: Path, cluster: Cluster, work: str = "sleep 2") -> None:
        self.folder, self.cluster = folder, cluster
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(PROJECT / "profiles" / "slurm", folder / "slurm")
        (folder / "config").mkdir()
        (folder / "config" / "slurm.yaml").write_text("{}\n")
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "starts").mkdir()
        (folder / "source").write_text("first\n")
        self.work(work)
        self.terminal = folder / "terminal.log"
        self.processes: list[subprocess.Popen[bytes]] = []

    def work(self, script: str) -> None:
        """Set what the jobs do."""
        (self.folder / "work.sh").write_text(f"set -e\n{script}\n")

    def begin(self, *options: str, **config: object) -> subprocess.Popen[bytes]:
        """Start the workflow; `config` are values of Snakemake's config."""
        command = [SNAKEMAKE, "--profile", "slurm", "--mlpwf-slurm-poll-seconds", "2", "--latency-wait", "5", *options]
        if config:
            command += ["--config", *(f"{name}={value}" for name, value in config.items())]
        environment = self.cluster.environment | {"PYTHONDONTWRITEBYTECODE": "1"}
        process = _start(command, environment, self.folder, self.terminal)
        self.processes.append(process)
        return process

    def run(self, *options: str, **config: object) -> int:
        """Run the workflow to its end: its exit status."""
        return self.finish(self.begin(*options, **config))

    def finish(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end of the workflow: its exit status."""
        try:
            return process.wait(4 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill(process)
            raise AssertionError(f"the workflow did not end\n{self.said}") from None

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, to Snakemake and all it runs on this side."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # Snakemake's own lock is left behind, as after any kill; the project's Snakefile takes it away
        for lock in (self.folder / ".snakemake" / "locks").glob("*"):
            lock.unlink()

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)

    @property
    def said(self) -> str:
        """Everything the user has seen."""
        return self.terminal.read_text()

    def await_words(self, *words: str) -> None:
        """Wait until the user has seen all of these words."""

        def seen() -> bool:
            said = self.said
            return all(word in said for word in words)

        try:
            wait_until(seen, f"the words {words}")
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.said}") from None

    def starts(self, job: int) -> list[str]:
        """Slurm's number for each time a job started."""
        path = self.folder / "starts" / str(job)
        return path.read_text().split() if path.is_file() else []

    def await_running(self, *jobs: int) -> None:
        """Wait until these jobs have started."""
        wait_until(lambda: all(self.starts(job) for job in jobs), f"jobs {jobs} to start; the user saw\n{self.said}")

    def ended_well(self, jobs: int) -> bool:
        """Whether all outputs are there."""
        return all((self.folder / "out" / str(job)).is_file() for job in range(jobs))


class Project:
    """A copy of the project in a folder of an odd name, as a user of a cluster has it.

    With `stages`, its Snakefile holds the rules of these alone: what comes before them is given.
    """

    def __init__(self, folder: Path, cluster: Cluster, *stages: str) -> None:
        self.folder, self.cluster = folder, cluster
        self.environment = dict(cluster.environment)
        folder.mkdir()
        for name in ("Snakefile", "workflow", "config", "profiles", "slurm"):
            source = PROJECT / name
            if source.is_symlink() or source.is_file():
                shutil.copy2(source, folder / name, follow_symlinks=False)
            else:
                shutil.copytree(source, folder / name)
        if stages:
            lines = [f'include: "workflow/rules/{stage}.smk"\n' for stage in ("common", *stages)]
            (folder / "Snakefile").write_text("".join(lines))
        self.terminal = folder / "terminal.log"

    def snakemake(self, *options: str) -> subprocess.Popen[bytes]:
        """The literal command a user types, polling more often than is polite elsewhere."""
        command = [SNAKEMAKE, "--profile", "slurm", "--mlpwf-slurm-poll-seconds", "3", *options]
        return _start(command, self.environment, self.folder, self.terminal)

    def run(self, *options: str) -> int:
        """The same to its end: its exit status."""
        process = self.snakemake(*options)
        try:
            return process.wait(4 * PATIENCE)
        finally:
            self.kill(process)

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, to Snakemake and all it runs on this side, if it is there."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def said(self) -> str:
        """Everything the user has seen."""
        return self.terminal.read_text()


Make = Callable[..., Small]
