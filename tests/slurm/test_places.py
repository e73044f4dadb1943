"""Where jobs go is said by the site file alone, and is what Slurm does with them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from mlpwf.config import Site
from slurm.cluster import Cluster
from slurm.workflow import Make

TELL = "scontrol show -d job $SLURM_JOB_ID >about.$1; echo $CUDA_VISIBLE_DEVICES >gpu.$1"


def named_by(site: str) -> dict[str, str | int]:
    """What jobs of the stage simulate ask for under this site file."""
    return Site.model_validate(yaml.safe_load(site)).resources("simulate")


def facts(path: Path) -> dict[str, str]:
    """What scontrol says of a job, word by word."""
    return dict(re.findall(r"(\S+?)=(\S*)", path.read_text()))


def test_jobs_go_to_the_node_with_the_gpu_and_the_feature_the_site_file_names(make: Make, cluster: Cluster) -> None:
    cluster.features("n2", "a100", "ib")
    cluster.features("n3", "ib")
    small = make(TELL)
    site = "slurm: {account: proj}\nslurm_stages: {simulate: {gpus: 1, constraint: a100&ib}}"
    assert small.run(jobs=2, **named_by(site)) == 0, small.said
    for job in (0, 1):
        found = facts(small.folder / f"about.{job}")
        assert (found["NodeList"], found["Features"]) == ("n2", "a100&ib")
        assert (found["JOB_GRES"], found["TresPerNode"]) == ("gpu:1", "gres:gpu:1")
        assert (small.folder / f"gpu.{job}").read_text() == "0\n", "Slurm gives the job its GPU"


def test_a_feature_no_node_has_ends_with_slurms_words(make: Make) -> None:
    small = make("true")
    assert small.run(jobs=2, **named_by("slurm: {constraint: h200}")) != 0
    told = [line for line in small.said.splitlines() if "Invalid feature specification" in line]
    assert len(told) == 1, small.said
    assert "constraint" in told[0]
    assert "config/sites" in told[0]
    assert not small.starts(0)


def test_a_feature_and_a_gpu_that_no_node_has_together_end_with_slurms_words(make: Make, cluster: Cluster) -> None:
    cluster.features("n2", "a100")
    small = make("true")
    assert small.run("--retries", "0", jobs=1, **named_by("slurm: {constraint: a100, gpus: 2}")) != 0
    (told,) = [line for line in small.said.splitlines() if "Slurm refuses this job" in line]
    assert "Requested node configuration is not available. It asks for --nodes=1 --ntasks=1" in told
    assert "--constraint=a100 --gres=gpu:2: mend the site file" in told
    assert not small.starts(0)


def test_a_feature_whose_nodes_are_all_away_is_told_once(make: Make, cluster: Cluster) -> None:
    cluster.features("n2", "a100")
    cluster.slurm("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
    small = make("true")
    process = small.begin(jobs=1, **named_by("slurm: {constraint: a100}"))
    small.await_words("waits, says Slurm: ")
    cluster.slurm("scontrol", "update", "NodeName=n2", "State=RESUME")
    assert small.finish(process) == 0, small.said
    assert small.said.count("waits, says Slurm") == 1
