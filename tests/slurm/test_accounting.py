"""A site with slurmdbd: limits that pass, an account that does not exist, and slurmdbd away."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.cluster import Cluster, wait_until
from slurm.workflow import UNTIL_TOLD, Small


@pytest.fixture
def small(accounted_cluster: Cluster, tmp_path: Path) -> Iterator[Small]:
    one = Small(tmp_path / "small", accounted_cluster, UNTIL_TOLD)
    yield one
    one.close()
    accounted_cluster.cancel_all()


def test_a_limit_on_the_number_of_jobs_is_waited_for(small: Small, accounted_cluster: Cluster) -> None:
    change = ("sacctmgr", "-i", "modify", "user", getpass.getuser(), "set")
    accounted_cluster.slurm(*change, "MaxSubmitJobs=1")
    try:
        process = small.begin(jobs=3)
        small.await_words("Slurm takes no more jobs for now")
        (small.folder / "go").touch()
        assert small.finish(process) == 0, small.said
    finally:
        accounted_cluster.slurm(*change, "MaxSubmitJobs=-1")
    assert [len(small.starts(job)) for job in range(3)] == [1, 1, 1]


def test_a_limit_no_end_of_a_job_lifts_ends_with_slurms_words(small: Small, accounted_cluster: Cluster) -> None:
    """The same words of Slurm, but nothing of ours is queued that could make room."""
    change = ("sacctmgr", "-i", "modify", "user", getpass.getuser(), "set")
    accounted_cluster.slurm(*change, "MaxSubmitJobs=0")
    try:
        assert small.run("--retries", "0", jobs=1) != 0
    finally:
        accounted_cluster.slurm(*change, "MaxSubmitJobs=-1")
    assert "Slurm refuses this job" in small.said
    assert not small.starts(0)


def test_an_unknown_account_ends_with_slurms_words(small: Small) -> None:
    assert small.run(jobs=2, slurm_account="nobody") != 0
    assert "Invalid account" in small.said
    assert "config/sites" in small.said


def test_slurmdbd_away_is_not_noticed(small: Small, accounted_cluster: Cluster) -> None:
    process = small.begin("--jobs", "1", jobs=2, slurm_account="proj")
    wait_until(lambda: any(small.starts(job) for job in (0, 1)), "the first job to start")
    accounted_cluster.end("slurmdbd")
    try:
        (small.folder / "go").touch()
        assert small.finish(process) == 0, small.said
    finally:
        accounted_cluster.start("slurmdbd")
    assert [len(small.starts(job)) for job in range(2)] == [1, 1]


@pytest.mark.long
def test_two_minutes_without_slurmdbd(small: Small, accounted_cluster: Cluster) -> None:
    process = small.begin("--jobs", "1", jobs=2, slurm_account="proj")
    wait_until(lambda: any(small.starts(job) for job in (0, 1)), "the first job to start")
    accounted_cluster.end("slurmdbd")
    time.sleep(120)
    try:
        assert process.poll() is None, small.said
        (small.folder / "go").touch()
        assert small.finish(process) == 0, small.said
    finally:
        accounted_cluster.start("slurmdbd")
    assert [len(small.starts(job)) for job in range(2)] == [1, 1]
