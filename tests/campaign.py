"""What every finished campaign must hold; shared by the campaign tests."""

import json
import re


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
