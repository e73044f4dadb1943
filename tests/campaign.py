"""What every finished campaign must hold, and what is planned; shared by the campaign tests."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SNAKEMAKE = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(PROJECT / "Snakefile")]


def read(path):
    """A JSON file."""
    return json.loads(path.read_text())


def label_keys(campaign):
    """Keys of all labels by set."""
    keys = {}
    for record in sorted(campaign.rglob("label/batch/*.json")):
        if record.name.endswith("progress.json"):
            continue
        labels = read(record)["labels"]
        keys.setdefault(str(record.parents[2].relative_to(campaign)), []).extend(
            entry["key"] for entry in labels if entry["accepted"]
        )
    return {name: sorted(found) for name, found in keys.items()}


def check_complete(campaign):
    """What every finished campaign holds."""
    final = read(campaign / "train" / "final" / "final.json")
    assert final["verdict"] in ("converged", "limit", "exhausted")
    cycles = sorted((campaign / "cycle").iterdir())
    assert len(cycles) == final["cycle"] + 1
    keys = label_keys(campaign)
    trained = [key for name, found in keys.items() if name != "test" for key in found]
    assert len(set(trained)) == len(trained), "a label was bought twice"
    assert not set(trained) & set(keys["test"]), "a held-out frame was trained on"
    page = (campaign / "report" / "report.html").read_text()
    assert "</html>" in page
    assert not re.search(r"""(src|href)=["']https?://""", page)
    terminal = (campaign.parents[1] / "terminal.log").read_text()
    assert f"open results/{campaign.name}/report/report.html" in terminal
    return final


def changed(values, changes):
    """A system file's settings, replaced section by section."""
    return values | {section: values[section] | settings for section, settings in changes.items()}


def plan(folder, system, *config, options=("--cores", "2")):
    """A dry run of a system file in a folder."""
    site = PROJECT / "config" / "sites" / "local.yaml"
    return subprocess.run(
        [
            *SNAKEMAKE,
            "-n",
            *options,
            "--directory",
            str(folder),
            "--config",
            f"system={system}",
            f"site={site}",
            *config,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=False,
    )


def planned_files(lines):
    """All files that the jobs of a dry run's report would write: outputs and logs."""
    written = [line.split(": ", 1) for line in lines if line.strip().startswith(("output: ", "log: "))]
    return {re.sub(r" \((checkpoint|update)\)$", "", name) for _, names in written for name in names.split(", ")}
