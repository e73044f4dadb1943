"""What happens to a running workflow, produced on a real Slurm: the rows of docs/cluster.md."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from slurm.cluster import Cluster, wait_until
from slurm.workflow import UNTIL_TOLD, Make, Small


def go(small: Small) -> None:
    (small.folder / "go").touch()


def test_jobs_of_a_killed_snakemake_are_taken_over(make: Make, cluster: Cluster) -> None:
    """One still runs, one ended well meanwhile, one waits in the queue; none runs twice."""
    small = make("case $1 in 0) while [ ! -e first ]; do sleep 0.2; done;; *) " + UNTIL_TOLD + ";; esac")
    process = small.begin("--jobs", "20", jobs=3)
    small.await_running(0, 1, 2)
    small.kill(process)
    (small.folder / "first").touch()
    wait_until(lambda: len(cluster.jobs()) == 2, "the first job to end")
    process = small.begin("--jobs", "20", jobs=3)
    small.await_words(*(f"taken over, Slurm's job {small.starts(job)[0]}" for job in (1, 2)))
    go(small)
    assert small.finish(process) == 0, small.said
    assert [len(small.starts(job)) for job in range(3)] == [1, 1, 1]
    assert not (small.folder / "pwned").exists()
    assert not list((small.folder / ".snakemake" / "mlpwf-slurm").iterdir()), "the books are not closed"


def test_a_job_of_changed_inputs_is_cancelled_first(make: Make, cluster: Cluster) -> None:
    small = make()
    process = small.begin(jobs=1)
    small.await_running(0)
    small.kill(process)
    (small.folder / "source").write_text("second\n")
    process = small.begin(jobs=1)
    (old,) = small.starts(0)
    small.await_words("its inputs changed", f"Slurm's job {old} is cancelled first")
    wait_until(lambda: len(small.starts(0)) == 2, "the new job to start")
    assert old not in cluster.jobs()
    go(small)
    assert small.finish(process) == 0, small.said
    assert (small.folder / "out" / "0").read_text() == "second\n"


def test_a_waiting_job_moves_where_the_site_says_now(make: Make, cluster: Cluster) -> None:
    """Partition and the like are no inputs; only a job that has not begun is submitted anew for them."""
    cluster.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        small = make("true")
        process = small.begin(jobs=1)
        small.await_words("waits, says Slurm: PartitionDown")
        small.kill(process)
        assert small.run(jobs=1, slurm_partition="urgent") == 0, small.said
    finally:
        cluster.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert "its partition or account changed" in small.said
    assert len(small.starts(0)) == 1


def test_a_folder_whose_books_were_lost_finds_its_jobs_by_name(make: Make) -> None:
    small = make()
    process = small.begin(jobs=1)
    small.await_running(0)
    small.kill(process)
    for path in (small.folder / ".snakemake" / "mlpwf-slurm").glob("*.now"):
        path.unlink()
    process = small.begin(jobs=1)
    small.await_words("taken over")
    go(small)
    assert small.finish(process) == 0, small.said
    assert len(small.starts(0)) == 1


def test_ctrl_c_cancels_the_jobs(make: Make, cluster: Cluster) -> None:
    small = make()
    process = small.begin(jobs=2)
    small.await_running(0, 1)
    process.send_signal(signal.SIGINT)
    assert small.finish(process) != 0
    wait_until(lambda: not cluster.jobs(), "the jobs to end")
    go(small)
    assert small.run(jobs=2) == 0, small.said


def test_a_cancelled_job_is_run_again(make: Make, cluster: Cluster) -> None:
    small = make()
    process = small.begin(jobs=1)
    small.await_running(0)
    cluster.slurm("scancel", small.starts(0)[0])
    wait_until(lambda: len(small.starts(0)) == 2, "the second attempt")
    go(small)
    assert small.finish(process) == 0, small.said
    assert "ended CANCELLED" in small.said


def test_a_node_set_down_hands_its_job_to_another(make: Make, cluster: Cluster) -> None:
    small = make()
    process = small.begin(jobs=1)
    small.await_running(0)
    (number,) = small.starts(0)
    node = cluster.slurm("squeue", "-h", "-j", number, "-o", "%N").strip()
    cluster.slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    cluster.slurm("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")  # and stay away
    wait_until(lambda: len(small.starts(0)) == 2, f"the job to start elsewhere\n{small.said}")
    assert small.starts(0) == [number, number], "Slurm gave it back under the same number"
    assert cluster.slurm("squeue", "-h", "-j", number, "-o", "%N").strip() != node
    go(small)
    assert small.finish(process) == 0, small.said


@pytest.mark.long
def test_a_node_that_loses_its_network_and_whose_jobs_live_on(tmp_path: Path) -> None:
    """Its slurmd is stopped, so that Slurm gives its jobs to another node; what they were still runs.

    Job 0 ends while its node is away: its successor does nothing. The node comes back with job 1 on it: Slurm
    ends that, and only then its successor begins. No two jobs work on the same files.
    """
    work = """
        lives() { [ -e pid.$1 ] && grep -q '^State:[[:space:]]*[RSD]' /proc/$(cat pid.$1)/status 2>/dev/null; }
        sleep 1  # a kill reaches the processes of a job one after the other
        if lives $1; then touch both; fi
        echo $$ > pid.$1
        while [ ! -e go.$1 ]; do sleep 0.2; done
    """
    with Cluster(extra="SlurmdTimeout=30") as cluster:
        small = Small(tmp_path / "work", cluster, work)
        try:
            process = small.begin(jobs=2)
            small.await_running(0, 1)
            numbers = [small.starts(job)[0] for job in (0, 1)]
            nodes = {cluster.slurm("squeue", "-h", "-j", number, "-o", "%N").strip() for number in numbers}
            for node in nodes:
                cluster.daemons[node].send_signal(signal.SIGSTOP)

            def moved() -> bool:
                lines = cluster.slurm("squeue", "-h", "-t", "RUNNING", "-o", "%N").split()
                return len(lines) == 2 and not nodes & set(lines)

            wait_until(moved, f"the jobs to run elsewhere\n{small.said}")
            logs = small.folder / "logs" / "slurm" / "work"

            def waits(job: int) -> bool:
                words = rf"waiting for job {numbers[job]} on n\d, which still works on these files"
                return re.search(words, (logs / f"work-{job}-{numbers[job]}.log").read_text()) is not None

            wait_until(
                lambda: waits(0) and waits(1),
                "the second jobs to wait for the first",
            )
            assert [small.starts(job) for job in (0, 1)] == [[number] for number in numbers]
            (small.folder / "go.0").touch()
            wait_until(lambda: (small.folder / "out" / "0").is_file(), "job 0 to end")
            wait_until(lambda: numbers[0] not in cluster.jobs(), "its successor to end")
            for node in nodes:
                cluster.daemons[node].send_signal(signal.SIGCONT)
            wait_until(lambda: len(small.starts(1)) == 2, f"job 1 to start again\n{small.said}")
            (small.folder / "go.1").touch()
            assert small.finish(process) == 0, small.said
        finally:
            small.close()
        assert small.starts(0) == [numbers[0]], "what was done was done again"
        assert small.starts(1) == [numbers[1]] * 2
        assert not (small.folder / "both").exists()


def test_a_preempted_job_starts_again(make: Make, cluster: Cluster) -> None:
    small = make()
    process = small.begin(jobs=1)
    small.await_running(0)
    cluster.slurm("sbatch", "-p", "urgent", "-N", "3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3")
    wait_until(lambda: len(small.starts(0)) == 2, f"the job to start again\n{small.said}")
    assert len(set(small.starts(0))) == 1
    go(small)
    assert small.finish(process) == 0, small.said


def test_a_silent_slurmctld_is_waited_for(make: Make, cluster: Cluster) -> None:
    """Away while one job runs and another is to be submitted."""
    small = make()
    process = small.begin("--jobs", "1", jobs=2)
    wait_until(lambda: any(small.starts(job) for job in (0, 1)), "the first job to start")
    cluster.end("slurmctld", signal.SIGTERM)
    go(small)
    small.await_words("Slurm does not answer")
    assert process.poll() is None
    cluster.start("slurmctld")
    assert small.finish(process) == 0, small.said
    assert "Slurm answers again" in small.said
    assert [len(small.starts(job)) for job in range(2)] == [1, 1]


@pytest.mark.long
def test_two_minutes_without_slurmctld(make: Make, cluster: Cluster) -> None:
    """As above, for two minutes: one job ends meanwhile, one runs on, one waits."""
    small = make("[ $1 = 0 ] && sleep 20 || " + UNTIL_TOLD)
    process = small.begin("--jobs", "2", jobs=3)
    wait_until(lambda: sum(bool(small.starts(job)) for job in range(3)) == 2, "two jobs to start")
    cluster.end("slurmctld", signal.SIGTERM)
    time.sleep(120)
    assert process.poll() is None, small.said
    go(small)
    cluster.start("slurmctld")
    assert small.finish(process) == 0, small.said
    assert "Slurm answers again" in small.said
    assert [len(small.starts(job)) for job in range(3)] == [1, 1, 1]


def test_a_lost_answer_is_found_again(make: Make, cluster: Cluster) -> None:
    """An sbatch that submits and then dies: the job is found by its comment, not submitted twice."""
    small = make("sleep 1")
    fake = small.folder / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\n/usr/bin/sbatch "$@" >/dev/null\necho "sbatch: error: Socket timed out" >&2\nexit 1\n')
    fake.chmod(0o755)
    path = cluster.environment["PATH"]
    cluster.environment["PATH"] = f"{fake.parent}{os.pathsep}{path}"
    try:
        assert small.run(jobs=2) == 0, small.said
    finally:
        cluster.environment["PATH"] = path
    assert small.said.count("found again") == 2
    assert [len(small.starts(job)) for job in range(2)] == [1, 1]


def test_what_grows_with_each_attempt_grows_after_a_failure(make: Make, cluster: Cluster) -> None:
    small = make(
        f"echo $SLURM_MEM_PER_NODE $SLURM_CPUS_ON_NODE >> asked; [ $(wc -l <asked) -gt 1 ] && {UNTIL_TOLD} || exit 3"
    )
    process = small.begin(jobs=1, threads=2)
    wait_until(lambda: len(small.starts(0)) == 2, f"the second attempt\n{small.said}")
    limit = cluster.slurm("squeue", "-h", "-j", small.starts(0)[1], "-o", "%l").strip()
    go(small)
    assert small.finish(process) == 0, small.said
    assert (small.folder / "asked").read_text().splitlines() == ["1000 2", "2000 4"]
    assert limit == "10:00"
    assert "ended FAILED with exit code" in small.said


def test_over_the_wall_time_the_next_attempt_has_more(make: Make, cluster: Cluster) -> None:
    """Slurm counts in minutes; the end of a running job can be moved to the second."""
    small = make()
    process = small.begin(jobs=1)
    small.await_running(0)
    cluster.slurm("scontrol", "update", f"JobId={small.starts(0)[0]}", "EndTime=now+1seconds")
    wait_until(lambda: len(small.starts(0)) == 2, f"the second attempt\n{small.said}")
    limit = cluster.slurm("squeue", "-h", "-j", small.starts(0)[1], "-o", "%l").strip()
    go(small)
    assert small.finish(process) == 0, small.said
    assert "DUE TO TIME LIMIT" in small.said
    assert limit == "10:00"


def test_more_time_than_the_partition_allows_is_cut_to_it(make: Make, cluster: Cluster) -> None:
    small = make()
    process = small.begin(jobs=2, minutes=121)
    small.await_running(0, 1)
    limits = set(cluster.slurm("squeue", "-h", "-o", "%l").split())
    go(small)
    assert small.finish(process) == 0, small.said
    assert limits == {"2:00:00"}
    assert small.said.count("work asks for 121 min, the default partition allows 120: its jobs get that") == 1


def test_memory_over_the_limit_is_said_and_grows(make: Make, cluster: Cluster) -> None:
    small = make(
        "[ $SLURM_MEM_PER_NODE -gt 600 ] || python3 -c 'import time; x = bytearray(700_000_000); time.sleep(600)'"
    )
    assert small.run(jobs=1, mem_mb=600) == 0, small.said
    assert re.search(r"Slurm says: .*[Ee]xceeded (job )?memory limit", small.said)
    assert len(small.starts(0)) == 2


def test_a_request_that_cannot_be_met_ends_with_slurms_words(make: Make) -> None:
    small = make("true")
    assert small.run("--retries", "0", jobs=1, mem_mb=10_000_000) != 0
    assert "Memory specification can not be satisfied" in small.said or "node configuration is not" in small.said
    assert not small.starts(0)


def test_a_wrong_partition_ends_the_workflow_once_its_running_jobs_have(make: Make, cluster: Cluster) -> None:
    small = make()
    process = small.begin(jobs=1)
    small.await_running(0)
    small.kill(process)
    process = small.begin(jobs=2, slurm_partition="nowhere")
    small.await_words("nvalid partition", "config/sites")
    assert list(cluster.jobs()) == small.starts(0)
    go(small)
    assert small.finish(process) != 0
    assert small.said.count("Slurm refuses") <= 2, "said, and once more at the end"
    assert small.run(jobs=2) == 0, small.said
    assert [len(small.starts(job)) for job in range(2)] == [1, 1]


def test_wrong_clocks_of_nodes_change_nothing(make: Make, cluster: Cluster) -> None:
    """Two nodes are 100 s and an hour off; Slurm's own messages tolerate that on one machine, our files must too."""
    for node, offset in (("n1", 100.0), ("n2", -100.0)):
        cluster.restart(node, clock_offset=offset)
    cluster.wait_for_nodes("n1", "n2", "n3")
    small = make('case $1 in 0) date +%s; python3 -c "import time; print(time.time())";; esac; sleep 1')
    assert small.run(jobs=6, slurm_options="--exclusive") == 0, small.said
    assert all(len(small.starts(job)) == 1 for job in range(6))
