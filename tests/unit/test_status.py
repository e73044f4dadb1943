from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlpwf.errors import ConfigError
from mlpwf.status.reading import find_campaigns, read_status
from report_campaign import campaign, put


def test_a_finished_campaign(tmp_path: Path) -> None:
    root = campaign(tmp_path)
    now = read_status(root)
    assert (now.stage, now.cycle, now.verdict) == ("report", 3, "converged")
    assert [(run.state, run.done_ps, run.asked_ps) for run in now.production] == [
        ("380K", 100, 100), ("300K", 100, 100), ("240K", 100, 100),
    ]  # fmt: skip
    assert all(run.finished and not run.running and run.ns_per_day == 0.5 for run in now.production)
    assert [error.cycle for error in now.errors] == [0, 1, 2, 3]
    assert now.errors[0].force_inter_ev_angstrom == pytest.approx(0.08)
    assert now.walkers == {"finished": 8}
    assert now.cpu_hours["label"] == pytest.approx(9030 / 3600)
    assert now.report is None
    (root / "report").mkdir()
    (root / "report" / "report.html").write_text("")
    assert read_status(root).stage == "done"


@pytest.mark.parametrize(
    ("gone", "stage"),
    [
        (("analyse",), "analyse"),
        (("analyse", "simulate/300K"), "simulate"),
        (("analyse", "simulate", "validate"), "validate and simulate"),
        (("train",), "train"),
        (("train", "cycle/003/select"), "explore and select"),
        (("train", "cycle/003/select", "cycle/003/train"), "train"),
        (("train", "cycle/003"), "label"),
        (("train", "cycle"), "label"),
        (("train", "cycle", "build"), "build"),
    ],
)
def test_the_stage_is_the_first_that_is_not_there(tmp_path: Path, gone: tuple[str, ...], stage: str) -> None:
    root = campaign(tmp_path)
    for name in gone:
        shutil.rmtree(root / name)
    assert read_status(root).stage == stage


def test_labels_in_flight_are_counted_by_batch(tmp_path: Path) -> None:
    root = campaign(tmp_path)
    shutil.rmtree(root / "cycle" / "003")
    batch = root / "cycle" / "003" / "label" / "batch"
    outcome = {"key": "0f", "reused": False, "reason": None, "detail": None, "cpu_s": 1.0, "attempts": []}
    put(batch / "000.json", {"mlpwf": "0.1.0", "labels": [outcome | {"accepted": well} for well in (True, False)]})
    put(batch / "000.progress.json", {"done": 2, "total": 2})
    put(batch / "001.progress.json", {"done": 3, "total": 20})
    (batch / "002.progress.json").write_text('{"do')
    last = next(s for s in read_status(root).labels if s.name == "cycle 3")
    assert (last.done, last.rejected, last.asked, last.batches_done, last.finished) == (5, 1, 60, 1, False)


def test_the_run_in_flight_is_told_with_its_speed_and_its_end(tmp_path: Path) -> None:
    root = campaign(tmp_path)
    shutil.rmtree(root / "analyse")
    shutil.rmtree(root / "simulate" / "300K" / "segment" / "001")
    progress = root / "simulate" / "300K" / "work" / "001" / "progress.json"
    put(progress, {"fraction": 0.4, "ps": 70.0, "ns_per_day": 0.06, "time": time.time()})
    now = read_status(root)
    run = now.production[1]
    assert (now.stage, run.state, run.done_ps, run.running, run.finished) == ("simulate", "300K", 70, True, False)
    assert run.ends == pytest.approx(time.time() + 43_200, abs=60)
    put(progress, {"fraction": 0.4, "ps": 70.0, "ns_per_day": 0.06, "time": time.time() - 3600})
    run = read_status(root).production[1]
    assert (run.running, run.ends, run.done_ps) == (False, None, 70)


def test_a_run_that_blew_up_is_an_end(tmp_path: Path) -> None:
    root = campaign(tmp_path)
    shutil.rmtree(root / "analyse")
    path = root / "simulate" / "300K" / "segment" / "001" / "summary.json"
    put(path, json.loads(path.read_text()) | {"stable": False, "end_ps": 60.0, "end_step": 120_000, "reason": "hot"})
    now = read_status(root)
    assert now.production[1].blew_up == "step 120000: hot"
    assert now.stage == "analyse"


def test_one_length_for_each_temperature(tmp_path: Path) -> None:
    root = campaign(tmp_path)
    path = root / "config" / "simulate.json"
    put(path, json.loads(path.read_text()) | {"length_ps": [100, 200, 100]})
    assert [run.finished for run in read_status(root).production] == [True, False, True]


def test_any_file_may_be_half_written(tmp_path: Path) -> None:
    whole = campaign(tmp_path, cycles=2)
    for path in sorted(whole.rglob("*.json*")):
        text = path.read_text()
        for cut in ("", text[: len(text) // 2], "[1]", '"x"', "null"):
            path.write_text(cut)
            read_status(whole)
        path.write_text(text)


def test_where_there_is_no_campaign_it_says_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(ConfigError, match=r"found notes, no campaign; expected"):
        find_campaigns(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        find_campaigns(tmp_path / "nowhere")


def test_every_campaign_of_a_folder_is_found(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=1)
    shutil.copytree(root, tmp_path / "other")
    assert find_campaigns(tmp_path) == [tmp_path / "other", root]
    assert find_campaigns(root) == [root]


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, json, mlpwf.status.reading; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    )
    assert not {"numpy", "pandas", "matplotlib", "ase", "pydantic"} & set(modules)
