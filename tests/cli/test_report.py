from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlpwf.report.command import report
from mlpwf.report.dynamics import activation_energy
from mlpwf.report.gather import gather
from mlpwf.report.page import provenance
from mlpwf.report.parts import Drawing
from report_campaign import campaign, label_error, put

app = typer.Typer()
app.command()(report)

PARTS = (
    "label/error.json", "cycle/000/label/summary.json", "cycle/001/train/errors.json",
    "cycle/001/train/calibration.json", "cycle/001/select/decisions.csv",
    "cycle/001/select/status.json", "cycle/000/explore", "cycle", "test", "train/final/final.json",
    "cycle/000/train/model/0/check.json", "config/system.json", "config/select.json",
    "validate/errors.json", "validate/parity.csv", "validate/runs.json", "validate/nve.csv", "validate/rdf.csv",
    "simulate/240K", "simulate", "analyse/correlators.csv", "analyse/states.csv", "analyse/counts.csv", "analyse",
)  # fmt: skip


NO_LIQUID: dict[str, list[float]] = {"density": [], "r": [], "g": [], "diffusion": []}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the only figures that are drawn, for a test that looks at nothing else: drawing is slow."""
    names: set[str] = set()
    draw = Drawing.svg.fget
    monkeypatch.setattr(Drawing, "svg", property(lambda self: draw(self) if self.name in names else ""))
    return names


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished campaign and its page with all figures, to be looked at only."""
    root = campaign(tmp_path_factory.mktemp("finished"))
    return root, _make(root)


def _make(root: Path) -> str:
    command = ["--config", str(root / "config" / "report.json"), "--campaign", str(root), "--out", str(root / "report")]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return (root / "report" / "report.html").read_text()


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "srcset")
        ]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_the_page_stands_alone(finished: tuple[Path, str]) -> None:
    root, html = finished
    links = _Links()
    links.feed(html)
    assert not {"script", "link", "iframe", "object"} & set(links.tags)
    outside = [t for t in links.targets if not t.startswith(("#", "data:image/png;base64,", "figures/"))]
    assert outside == []
    assert re.findall(r"@import|url\((?!#)", html) == []
    assert len(set(links.ids)) == len(links.ids)
    assert {t[1:] for t in links.targets if t.startswith("#")} <= set(links.ids)
    tables = {t for t in links.targets if t.startswith("figures/")}
    assert tables == {f"figures/{path.name}" for path in (root / "report" / "figures").iterdir()}
    assert "Not there yet" not in html


def test_levels_of_the_user_are_drawn_with_the_cycles_that_went_by_them(tmp_path: Path, drawn: set[str]) -> None:
    drawn.add("deviations")
    root = campaign(tmp_path)
    statuses = sorted((root / "cycle").glob("*/select/status.json"))
    assert len(statuses) > 1

    def going_by(levels: list[list[float] | None]) -> str:
        for path, own in zip(statuses, levels, strict=True):
            status = json.loads(path.read_text())
            path.write_text(json.dumps(status | {"trust": status["trust"] | {"force": own}}))
        return _make(root)

    assert "upper trust level" not in going_by([None] * len(statuses))
    same = going_by([[0.1, 0.6]] * len(statuses))
    assert "upper trust level<" in same
    other = going_by([[0.1, 0.6], *[[0.2, 0.7]] * (len(statuses) - 1)])
    assert "upper trust level, cycle 0<" in other
    assert "upper trust level<" not in other


def test_the_page_says_what_ran_and_how_it_ended(finished: tuple[Path, str]) -> None:
    _, html = finished
    for words in (
        "Converged.", "1.2 % of explored frames", "Quantum ESPRESSO (pw.x) 6.7", "RPBE with D3(BJ)", "12.0 ± 0.4",
        "0.0216", "run shorter than 3 tau", "not diffusive", "χ₄/(⟨w²⟩ − ⟨w⟩²)", "0.851", "117 ± 2", "43 ± 4",
        "Angell plot", "4 ± 0.3 (marginal)", "F(q ≈ 1.3 Å⁻¹, t)", "χ₄ in sub-boxes", "4πr² Gₛ(r,t)", "Waiting time",
    ):  # fmt: skip
        assert words in html, words
    assert not re.search(r"N\*", html)


def test_the_hashes_of_the_final_model_are_told(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=1)
    facts = provenance(gather(root)).facts
    assert [facts[f"SHA-256 of {name}"] for name in ("model.pb", "compressed.pb")] == ["ab" * 32, "ef" * 32]
    path = root / "train" / "final" / "final.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "01" * 32}))
    facts = provenance(gather(root)).facts
    assert facts["SHA-256 of model.pb"] == "01" * 32, "of a campaign that ended when it held no other"
    assert "SHA-256 of compressed.pb" not in facts


def test_titles_and_labels_stay_text(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    root = campaign(tmp_path, title=attack)
    for name in (
        "cycle/000/label/summary.json",
        "cycle/000/select/decisions.csv",
        "analyse/states.csv",
        "train/final/final.json",
    ):
        text = (
            (root / name)
            .read_text()
            .replace("not converged", attack)
            .replace("candidate", attack)
            .replace("not diffusive", attack)
        )
        (root / name).write_text(text)
    html = _make(root)
    assert attack not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named_and_the_page_is_made(tmp_path: Path, part: str) -> None:
    root = campaign(tmp_path, cycles=2)
    path = root / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    html = _make(root)
    said = " ".join(re.findall(r'<p class="missing">(.*?)</p>', html, flags=re.DOTALL))
    assert part.removesuffix("/") in said.replace("cycle/000", "cycle cycle/000") or f"{part}/" in said


@pytest.mark.usefixtures("drawn")
def test_labels_that_are_not_dft_are_said_in_plain_sight(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=2)
    for path in root.rglob("label/summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"engine": "gfn2"}))
    head = _make(root).split("<section", maxsplit=1)[0]
    assert "GFN2-xTB (semi-empirical, not DFT)" in head


@pytest.mark.usefixtures("drawn")
def test_broken_molecules_are_said_on_the_page(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=1)
    assert '<p class="warning">' not in _make(root)
    runs = root / "validate" / "runs.json"
    runs.write_text(json.dumps(json.loads(runs.read_text()) | {"nvt": {"stable": True, "reason": "", "intact": False}}))
    summary = next((root / "simulate").glob("300K/segment/001/summary.json"))
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"intact": False}))
    said = " ".join(re.findall(r'<p class="warning">(.*?)</p>', _make(root), flags=re.DOTALL))
    assert "Molecules broke in the run at constant N, V, T" in said
    assert "Molecules broke at 300K:" in said


def test_calibration_criteria_and_learning_curve_extrapolation_are_on_the_page(finished: tuple[Path, str]) -> None:
    root, html = finished
    for words in ("Criteria of convergence after cycle 3", "not known yet", "1.2 % of explored frames", "The next 100"):
        assert words in html, words
    said = re.search(r"test set from (\d+) to (\d+) ± (\d+) meV/Å", html)
    assert said is not None
    now, then, error = (int(value) for value in said.groups())
    assert then < now < 80
    assert 0 < error < now
    assert re.search(r"last 60 labels the law through the 3 cycles before gave \d+ ± \d+ meV/Å; it became \d+", html)
    with (root / "report" / "figures" / "reliability.csv").open() as handle:
        drawn = [row for row in csv.DictReader(handle) if row["curve"] == "cycle 1"]
    assert len(drawn) == 16
    assert float(drawn[0]["x"]) == pytest.approx(30 * 0.65)


def test_baselines_are_drawn_beside_the_committee(tmp_path: Path, drawn: set[str]) -> None:
    drawn.add("arms")
    root = campaign(tmp_path, cycles=3)
    section = root / "config" / "select.json"
    section.write_text(json.dumps(json.loads(section.read_text()) | {"baselines": ["random"]}))
    for cycle in ("001", "002"):
        target = root / "arm" / "random" / "1" / cycle / "train"
        target.mkdir(parents=True)
        shutil.copy(root / "cycle" / cycle / "train" / "errors.json", target)
    html = _make(root)
    assert html.count("+0.0 ± 0") == 2, "the committee is ahead of its copies by nothing"
    with (root / "report" / "figures" / "arms.csv").open() as handle:
        drawn = list(csv.DictReader(handle))
    curves = {name: [(row["x"], row["y"]) for row in drawn if row["curve"] == name] for name in ("committee", "random")}
    assert len(curves["random"]) == 3
    assert curves["random"] == curves["committee"], "the first cycle is shared, the others are copies"
    assert all(float(row["y_error"]) > 0 for row in drawn)


@pytest.mark.usefixtures("drawn")
def test_the_settings_that_done_cycles_ran_with_are_shown(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=4)
    for cycle, steps in enumerate((111, 111, 222, 333)):
        for section in ("train", "explore", "select", "validate"):
            values = {"seed": 1} | ({"steps": steps} if section == "train" else {})
            target = root / "config" / "cycle" / f"{cycle:03d}" / f"{section}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(values))
            (root / "config" / f"{section}.json").write_text(json.dumps(values))
    html = _make(root)
    assert "config: train of cycles 0 to 1" in html
    assert "config: train of cycle 2" in html
    assert "train of cycle 3" not in html, "the last one goes by the present config"
    assert "explore of" not in html
    assert html.index("&#34;steps&#34;: 333") < html.index("&#34;steps&#34;: 111") < html.index("&#34;steps&#34;: 222")


def test_seeds_of_a_baseline_give_it_error_bars(tmp_path: Path, drawn: set[str]) -> None:
    drawn.add("arms")
    root = campaign(tmp_path, cycles=2)
    section = root / "config" / "select.json"
    section.write_text(json.dumps(json.loads(section.read_text()) | {"baselines": ["random"], "baseline_seeds": 3}))
    document = json.loads((root / "cycle" / "001" / "train" / "errors.json").read_text())
    frames = np.array(document["test"]["frame_force_mse_ev2_angstrom2"])
    for seed, factor in ((1, 1.1), (2, 1.2), (3, 1.3)):
        target = root / "arm" / "random" / str(seed) / "001" / "train"
        target.mkdir(parents=True)
        document["test"]["frame_force_mse_ev2_angstrom2"] = (factor**2 * frames).tolist()
        (target / "errors.json").write_text(json.dumps(document))
    html = _make(root)
    with (root / "report" / "figures" / "arms.csv").open() as handle:
        (_, last) = [row for row in csv.DictReader(handle) if row["curve"] == "random, 3 seeds"]
    own = 1e3 * np.sqrt(frames.mean())
    assert float(last["y"]) == pytest.approx(1.2 * own)
    assert float(last["y_error"]) == pytest.approx(own * 0.1 / np.sqrt(3))
    assert f"<td>{-0.2 * own:+.1f} ± " in html


def test_the_liquids_of_the_cycles_are_drawn(tmp_path: Path, drawn: set[str]) -> None:
    drawn.add("liquids")
    root = campaign(tmp_path, cycles=4)
    path = root / "cycle" / "001" / "validate" / "liquid.json"
    blown = json.loads(path.read_text()) | {"fault": "the run at constant volume blew up"}
    path.write_text(json.dumps(blown | NO_LIQUID))
    _make(root)
    with (root / "report" / "figures" / "liquids.csv").open() as handle:
        drawn = list(csv.DictReader(handle))
    assert [row["x"] for row in drawn if row["panel"] == "Density"] == ["0", "2", "3"]
    assert {row["curve"] for row in drawn if row["x_axis"] == "r, Å"} == {"cycle 0", "cycle 2", "cycle 3"}


@pytest.mark.usefixtures("drawn")
def test_a_map_that_no_longer_holds_is_said_on_the_page(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=2)
    path = root / "cycle" / "001" / "train" / "calibration.json"
    document = json.loads(path.read_text())
    document["check"]["inter"] |= {"holds": False, "said": "60% of errors within their bound"}
    path.write_text(json.dumps(document))
    said = " ".join(re.findall(r'<p class="warning">(.*?)</p>', _make(root), flags=re.DOTALL))
    assert "The map (net force on molecules) did not hold for the labels of cycle 1: 60%" in said


@pytest.mark.usefixtures("drawn")
def test_a_run_that_blew_up_is_said_on_the_page(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=1)
    summary = next((root / "simulate").glob("300K/segment/001/summary.json"))
    blown = {"stable": False, "end_step": 777, "end_ps": 60.0, "reason": "temperature 4000 K"}
    summary.write_text(json.dumps(json.loads(summary.read_text()) | blown))
    html = _make(root)
    said = " ".join(re.findall(r'<p class="warning">(.*?)</p>', html, flags=re.DOTALL))
    assert "The run at 300K blew up at step 777: temperature 4000 K." in said
    assert "60 of 100" in html


@pytest.mark.usefixtures("drawn")
def test_another_density_than_is_stated_is_said_on_the_page(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=1)
    path = root / "validate" / "runs.json"
    runs = json.loads(path.read_text())
    for density, error, said in ((0.851, 0.004, False), (0.773, 0.005, True), (0.773, 0.05, False), (0.93, 0.01, True)):
        runs["npt"] |= {"density_g_cm3": density, "density_error_g_cm3": error}
        path.write_text(json.dumps(runs))
        warnings = " ".join(re.findall(r'<p class="warning">(.*?)</p>', _make(root), flags=re.DOTALL))
        assert (f"is {density:.3f} ± {error:.3f} g/cm³" in warnings) is said
    assert "7% more than the 0.867 of the system" in warnings


@pytest.mark.parametrize(
    ("value", "error", "shown"), [(28.4, 1.9, "28.4 ± 1.9"), (0.404, 1.8, "–"), (12.0, float("nan"), "–")]
)
def test_an_activation_energy_within_its_error_is_no_number(value: float, error: float, shown: str) -> None:
    row = {
        "quantity": "tau_overlap",
        "definition": "E_app(T) = R d ln τ/d(1/T)",
        "law": "Arrhenius",
        "molecules": "all",
    }
    numbers = {"temperature_kelvin": 300.0, "energy_kj_mol": value, "energy_error_kj_mol": error}
    table = {name: np.array([one]) for name, one in (row | numbers).items()}
    found, about = activation_energy({"energies": table})
    assert found == shown
    assert ("too short to tell" in about) is (shown == "–")


@pytest.mark.usefixtures("drawn")
def test_the_verdict_on_the_potential_is_the_first_line(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=1)
    verdict = {"mlpwf": "1", "seed": 1, "model_sha256": "ab", "verdict": "broken", "reasons": ["it blew up", "too few"]}
    (root / "validate" / "verdict.json").write_text(json.dumps(verdict))
    head = _make(root).split("<section", maxsplit=1)[0]
    assert "<b>Verdict on the potential: broken.</b> It blew up. Too few. There is no production;" in head
    verdict |= {"verdict": "good", "reasons": []}
    (root / "validate" / "verdict.json").write_text(json.dumps(verdict))
    assert "<b>Verdict on the potential: good.</b>" in _make(root)


def test_a_campaign_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=1)
    for path in root.iterdir():
        if path.name != "config":
            shutil.rmtree(path)
    html = _make(root)
    assert "No verdict yet" in html
    assert "<svg" not in html


def test_the_csv_matches_the_source(finished: tuple[Path, str]) -> None:
    root, _ = finished
    with (root / "report" / "figures" / "learning.csv").open() as handle:
        drawn = [
            row for row in csv.DictReader(handle) if row["panel"] == "Test set" and row["curve"] == "between molecules"
        ]
    assert [float(row["x"]) for row in drawn] == [60, 120, 180, 240]
    assert [float(row["y"]) for row in drawn] == pytest.approx([0.08 * 0.65**k for k in range(4)])
    with (root / "report" / "figures" / "verdicts.csv").open() as handle:
        counts = [float(row["value"]) for row in csv.DictReader(handle) if row["bar"] == "cycle 0"]
    assert sum(counts) == 800


@pytest.mark.usefixtures("drawn")
def test_figures_of_an_earlier_page_do_not_stay(tmp_path: Path) -> None:
    root = campaign(tmp_path, cycles=2)
    _make(root)
    shutil.rmtree(root / "validate")
    _make(root)
    assert not (root / "report" / "figures" / "validation.csv").exists()


def _core_hours(root: Path) -> dict[str, float]:
    with (root / "report" / "figures" / "whole.csv").open(newline="") as handle:
        return {row["part"].rsplit(" ", 2)[0]: float(row["value"]) for row in csv.DictReader(handle)}


def test_what_became_of_the_cores_time(finished: tuple[Path, str]) -> None:
    """Engines, mlpwf itself, Snakemake and idle are together wall time × cores of the workflow."""
    root, html = finished
    assert "0.65 % of CPU time, 0.53 % of wall time × cores" in html
    parts = {name: 3600 * hours for name, hours in _core_hours(root).items()}
    assert parts == pytest.approx({"engines": 14702, "mlpwf itself": 56, "Snakemake": 40, "idle": 3202}, rel=1e-6)
    assert sum(parts.values()) == pytest.approx(2 * 9000)


@pytest.mark.usefixtures("drawn")
def test_a_campaign_whose_snakemake_was_not_booked_has_no_such_figure(tmp_path: Path) -> None:
    root = campaign(tmp_path)
    shutil.rmtree(root / "snakemake")
    assert "Orchestration" not in _make(root)
    assert not (root / "report" / "figures" / "whole.csv").exists()


@pytest.mark.usefixtures("drawn")
def test_the_error_bar_of_a_label_is_told_and_a_poor_one_stands_at_the_top(tmp_path: Path) -> None:
    """By box and lever; above half of the target error it is said in plain sight."""
    root = campaign(tmp_path / "toluene")
    page = _make(root)
    assert "Error of the labels" in page
    text = re.sub(r"<[^>]+>", " ", page)
    assert re.search(r"120\s+11\.20\s+4\s+k-points\s+2\.4\s+1\.8\s+0\.31\s+2\s+-0\.25", text)
    assert re.search(r"Error of a label\s+0\.004", text)
    assert "A frame was left out: C7H8 was rejected: out of time" in page
    assert "periodic images at least 10.5 Å apart" in page
    put(root / "config" / "select.json", {"target_error_mev_angstrom": 80, "seed": 5})
    assert "own forces err" not in _make(root)
    put(root / "label" / "error.json", label_error(0.041, 0.012))
    page = _make(root)
    assert "own forces err by 41 meV/Å, more than half of the target error of 80 meV/Å" in page
    assert "own net forces err" not in page
