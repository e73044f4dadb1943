"""Planning: every shipped config, and a campaign of ten cycles of five hundred labels."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from campaign import PROJECT, SNAKEMAKE, plan, planned_files
from mlpwf.config import Campaign


@pytest.mark.parametrize("system", sorted((PROJECT / "config" / "systems").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_system_plans(system, tmp_path):
    done = plan(tmp_path, system)
    assert done.returncode == 0, done.stderr
    force_field = "force_field" in yaml.safe_load(system.read_text()).get("simulate", {})
    assert ("build_molecules" if force_field else "build_frames") in done.stdout + done.stderr


def test_a_force_field_needs_no_labels_and_no_training(tmp_path):
    done = plan(tmp_path, PROJECT / "config" / "systems" / "toluene_opls.yaml", "plan=1")
    assert done.returncode == 0, done.stderr
    planned = {line.split()[0] for line in done.stdout.splitlines() if re.fullmatch(r"[a-z_]+ +\d+", line.strip())}
    assert planned == {
        "all", "analyse_dynamics", "build_molecules", "report_page", "simulate_collect", "simulate_segment", "total",
    }  # fmt: skip


def test_arms_share_the_first_cycle_and_train_committees_of_their_own(tmp_path):
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    values["select"] |= {"baselines": ["random", "diversity"], "baseline_seeds": 2}
    system = tmp_path / "arms.yaml"
    system.write_text(yaml.safe_dump(values))
    done = plan(tmp_path, system, "plan=2")
    assert done.returncode == 0, done.stderr
    files = planned_files(done.stdout.splitlines())
    for arm in ("random/1", "random/2", "diversity/1", "diversity/2"):
        assert {name for name in files if f"/arm/{arm}/" in name and name.endswith("model.pb")} == {
            f"results/tiny_water/arm/{arm}/001/train/model/{index}/model.pb" for index in range(2)
        }
        assert f"results/tiny_water/arm/{arm}/001/label/labels.extxyz" in files
        assert f"results/tiny_water/cycle/000/select/arm/{arm}.extxyz" in files


def test_a_final_training_starts_from_the_last_committee(tmp_path):
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    values["train"] |= {"steps_final": 1000}
    system = tmp_path / "final.yaml"
    system.write_text(yaml.safe_dump(values))
    done = plan(tmp_path, system, "plan=2")
    assert done.returncode == 0, done.stderr
    files = planned_files(done.stdout.splitlines())
    assert "results/tiny_water/train/longer/compressed.pb" in files
    assert "results/tiny_water/cycle/001/train/model/0/check.json" in files


@pytest.mark.parametrize(("wanted", "cycles"), [(0, []), (2, ["000", "001", "002"]), (3, ["000", "001", "002"])])
def test_the_cycles_compared_have_their_liquids(wanted, cycles, tmp_path):
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    values["select"] |= {"maximum_cycles": 3, "liquid_cycles": wanted}
    system = tmp_path / "compared.yaml"
    system.write_text(yaml.safe_dump(values))
    done = plan(tmp_path, system, "plan=3")
    assert done.returncode == 0, done.stderr
    files = planned_files(done.stdout.splitlines())
    assert sorted(name.split("/")[3] for name in files if "cycle/" in name and name.endswith("liquid.json")) == cycles


def test_the_literal_slurm_command_plans(tmp_path):
    """`snakemake --profile slurm -n` from the root, nothing else."""
    for name in ("Snakefile", "workflow", "config", "profiles", "slurm"):
        source = PROJECT / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, tmp_path / name)
        else:
            shutil.copy2(source, tmp_path / name, follow_symlinks=False)
    done = subprocess.run(
        [SNAKEMAKE[0], "--profile", "slurm", "-n"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "train_model" in done.stdout + done.stderr


# A child's peak memory starts at its parent's, so a small process measures for the large one that tests.
MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=sys.stderr)
sys.exit(done.returncode)
"""


def test_ten_cycles_of_500_labels_plan_within_bounds(tmp_path):
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_toluene.yaml").read_text())
    values["select"] |= {"budget": 500, "maximum_cycles": 10}
    values["label"] |= {"batch_frames": 25}
    states = [150, 200, 250, 300, 350, 400, 450, 500]
    values["explore"] |= {"temperatures_kelvin": states}
    values["simulate"] |= {"temperatures_kelvin": states, "length_ps": 1000}
    system = tmp_path / "large.yaml"
    system.write_text(yaml.safe_dump(values))
    site = PROJECT / "config" / "sites" / "local.yaml"
    command = [*SNAKEMAKE, "-n", "--cores", "2", "--directory", str(tmp_path)]
    with (tmp_path / "plan.txt").open("w") as sink:
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *command, "--config", f"system={system}", f"site={site}", "plan=10"],
            stdout=sink,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    cpu, memory = (float(value) for value in done.stderr.splitlines()[-1].split())
    lines = (tmp_path / "plan.txt").read_text().splitlines()
    assert done.returncode == 0, done.stderr
    start = Campaign.model_validate(values).build.start_frames(1)
    batches = -(-start // 25) + 1 + 9 * 20
    assert any(line.split() == ["label_batch", str(batches)] for line in lines), lines
    files = planned_files(lines)
    fullest, entries = Counter(str(Path(name).parent) for name in files).most_common(1)[0]
    print(f"10 x 500 labels x 8 states: {cpu:.1f} CPU-s, {memory:.0f} MB, {len(files)} files, {entries} in {fullest}")
    assert cpu < 10
    assert memory < 400
    assert any(name.startswith("logs/") for name in files)
    assert len(files) < 4000, "Snakemake keeps a record of each in one folder, .snakemake/metadata"
    assert entries < 200


def test_more_cycles_after_the_end_are_planned(tmp_path):
    """A campaign that ended at its limit, its files all of one age: a higher limit asks its last selection again."""
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    system = tmp_path / "mine.yaml"
    system.write_text(yaml.safe_dump(values))
    rules = ("--cores", "2", "--rerun-triggers", "mtime", "input")
    for name in planned_files(plan(tmp_path, system, "plan=2").stdout.splitlines()):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    campaign = tmp_path / "results" / "tiny_water"
    for cycle, verdict in enumerate(("continue", "limit")):
        write_verdict(campaign, cycle, verdict)
    for summary in campaign.glob("simulate/*/segment/000/summary.json"):
        summary.write_text(json.dumps({"stable": True, "end_ps": 2.0}))
    for path in campaign.rglob("*"):
        os.utime(path, (1.7e9, 1.7e9))

    def next_files():
        done = plan(tmp_path, system, options=rules)
        assert done.returncode == 0, done.stderr
        return planned_files(done.stdout.splitlines())

    assert not next_files()
    values["select"]["maximum_cycles"] = 3
    system.write_text(yaml.safe_dump(values))
    files = next_files()
    assert "results/tiny_water/cycle/001/select/status.json" in files
    assert not any("/cycle/000/" in name for name in files)
    write_verdict(campaign, 1, "continue")
    touch(campaign / "cycle/001/select")
    assert "results/tiny_water/cycle/002/label/labels.extxyz" in next_files()


def test_a_campaign_that_ended_with_one_final_model_goes_on_as_it_is(tmp_path):
    """Its model.pb is the compressed one and there is no other: nothing of it is planned again."""
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    system = tmp_path / "mine.yaml"
    system.write_text(yaml.safe_dump(values))
    for name in planned_files(plan(tmp_path, system, "plan=2").stdout.splitlines()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    campaign = tmp_path / "results" / "tiny_water"
    final, last = campaign / "train" / "final", campaign / "cycle" / "001" / "select" / "status.json"
    (final / "compressed.pb").unlink()
    document = {"cycle": 1, "verdict": "limit", "reason": "limit", "sha256": "ab" * 32}
    (final / "final.json").write_text(json.dumps(document))
    for cycle, verdict in enumerate(("continue", "limit")):
        write_verdict(campaign, cycle, verdict)
    for summary in campaign.glob("simulate/*/segment/000/summary.json"):
        summary.write_text(json.dumps({"stable": True, "end_ps": 2.0}))
    (campaign / "validate" / "verdict.json").write_text(json.dumps({"verdict": "not yet", "reasons": ["limit"]}))
    site = PROJECT / "config" / "sites" / "local.yaml"
    command = [*SNAKEMAKE, "--cores", "1", "--directory", str(tmp_path), "--touch"]
    subprocess.run([*command, "--config", f"system={system}", f"site={site}"], capture_output=True, check=True)
    records = [
        path for path in (tmp_path / ".snakemake" / "metadata").iterdir() if "final/compressed.pb" in path.read_text()
    ]
    assert len(records) > 5, "of what was made from the final model"
    for path in records:
        path.write_text(path.read_text().replace("final/compressed.pb", "final/model.pb"))
    (final / "compressed.pb").unlink(missing_ok=True)

    def planned():
        done = plan(tmp_path, system, options=("--cores", "2", "--rerun-triggers", "mtime", "input"))
        assert done.returncode == 0, done.stderr
        return {name.removeprefix("results/tiny_water/") for name in planned_files(done.stdout.splitlines())}

    def as_old_as(document):
        times = (final / "final.json").stat().st_mtime_ns
        (final / "final.json").write_text(json.dumps(document))
        os.utime(final / "final.json", ns=(times, times))

    assert not planned()
    models = {path: path.stat() for path in campaign.glob("cycle/*/train/model/*/*.pb")}
    for path in models:
        path.unlink()
    assert not planned(), "its cycles' models gone"
    for path, found in models.items():
        path.write_text("")
        os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))
    as_old_as(document | {"sha256": {"model.pb": "0", "compressed.pb": "1"}})
    files = planned()
    assert "train/final/compressed.pb" in files, "a campaign of today that has lost it"
    assert not any("/train/model/" in name for name in files)
    as_old_as(document)
    os.utime(last)
    files = planned()
    assert {"train/final/compressed.pb", "validate/runs.json"} <= files, "it ends anew, as campaigns of today do"
    assert not any("/train/model/" in name for name in files)


def write_verdict(campaign, cycle, verdict):
    document = {"cycle": cycle, "verdict": verdict, "reason": "of a test"}
    (campaign / f"cycle/{cycle:03d}/select/status.json").write_text(json.dumps(document))


def touch(*folders):
    """Make files new, in an order that no rule minds."""
    now = time.time() + 1
    for folder in folders:
        for path in folder.rglob("*"):
            os.utime(path, (now, now))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": {"cutof_ry": 30}}, "label.cutof_ry: unknown key; did you mean 'cutoff_ry'?"),
        ({"simulate": {"temperatures_kelvin": [-300]}}, "simulate.temperatures_kelvin.0: is -300"),
        ({"system": {"molecules": {"x": {"smiles": " "}}, "density_g_cm3": 1}}, "an empty SMILES"),
        ({"label": {"cutoff_ry": "30 Ry"}}, "label.cutoff_ry: is '30 Ry'"),
        ({"name": "../up"}, "name: is '../up'"),
    ],
)
def test_bad_configs_are_one_line(change, message, tmp_path):
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    system = tmp_path / "bad.yaml"
    system.write_text(yaml.safe_dump(values | change))
    done = plan(tmp_path, system)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("mlpwf:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("plan=x", "--config: plan: is 'x'; input should be a valid integer"),
        ("plan=-1", "--config: plan: is -1; input should be greater than or equal to 0"),
        ("plan=99999999", "--config: plan: is 99999999; input should be less than or equal to 1000"),
        ("sytem=mine.yaml", "--config: sytem: unknown key; did you mean 'system'?"),
        ("results=5", "--config: results: is 5; a number to Snakemake; expected a path, such as ./5"),
    ],
)
def test_bad_words_of_config_are_one_line(word, message, tmp_path):
    done = plan(tmp_path, PROJECT / "config" / "systems" / "tiny_water.yaml", word)
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if "mlpwf:" in line)
    assert line.startswith(f"mlpwf: {message}")
    assert "Traceback" not in done.stderr


def test_a_folder_named_by_a_number_is_given_as_the_message_says(tmp_path):
    done = plan(tmp_path, PROJECT / "config" / "systems" / "tiny_water.yaml", "results=./5", "plan=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "5" / "tiny_water" / "config" / "train.json").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("system: {system}\nsystem: other.yaml\n", "system: given twice (lines 1 and 2)"),
        ("results: NO\n", "results (line 1): NO is true or false to YAML"),
    ],
)
def test_what_snakemake_reads_is_checked_too(text, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    command = [*SNAKEMAKE, "-n", "--cores", "1", "--directory", str(tmp_path), "--configfile", "mine.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"mine.yaml: {message}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plan_is_never_run_for_real(tmp_path):
    system = PROJECT / "config" / "systems" / "tiny_water.yaml"
    done = subprocess.run(
        [
            *SNAKEMAKE,
            "--cores",
            "1",
            "--directory",
            str(tmp_path),
            "--config",
            f"system={system}",
            f"site={PROJECT}/config/sites/local.yaml",
            "plan=2",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "plan= is for a dry run" in done.stdout + done.stderr
    assert not (tmp_path / "results" / "tiny_water" / "build").exists()
