"""The wall time a job has left, by what it asked for and by what Slurm says."""

import math
import time

import pytest

from mlpwf.campaign.walltime import seconds_left


def test_nothing_limits_a_job_that_asked_for_nothing(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert seconds_left(None) == math.inf


@pytest.mark.parametrize(("minutes", "seconds"), [(10, 540), (720, 42_600), (0, 0)])
def test_a_tenth_is_kept_back_and_at_most_ten_minutes(minutes, seconds, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert seconds_left(minutes) == pytest.approx(seconds)


def test_the_earlier_of_two_ends_counts(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(time.time() + 6000))
    assert seconds_left(720) == pytest.approx(5400, rel=0.1)
    assert seconds_left(10) == pytest.approx(540)
    assert seconds_left(None) == pytest.approx(5400, rel=0.1)


def test_an_end_in_the_past_is_a_wrong_clock(monkeypatch, caplog):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(time.time() - 3600))
    assert seconds_left(10) == pytest.approx(540)
    assert "clock is wrong" in caplog.text
