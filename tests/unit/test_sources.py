"""What the source never does, so that nothing from a config, a structure or a label is executed."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SOURCES = sorted((PROJECT / "src").rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "commands", "pty"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
    "subprocess.getstatusoutput", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle",
}  # fmt: skip
# placeholders that can hold nothing but digits
NUMBERS = {
    "params.batch",
    "params.batches",
    "params.cycle",
    "params.segment",
    "resources.runtime",
    "threads",
    "wildcards.index",
}


def calls(path):
    """Dotted names of what a file calls, with the call."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT / "src")))
def test_a_file_executes_and_unpickles_nothing(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            own = (node.module or "").startswith("mlpwf.")  # its `commands` is ours, not the module of old Pythons
            names = [node.module or "", *([] if own else names)]
        assert not FORBIDDEN_MODULES & {name.split(".")[0] for name in names}, ast.unparse(node)
    for name, call in calls(path):
        words = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in FORBIDDEN_CALLS, ast.unparse(call)
        assert words.get("shell", "False") == "False", ast.unparse(call)
        assert words.get("allow_pickle", "False") == "False", ast.unparse(call)
        if name == "torch.load":
            assert words.get("weights_only") == "True", f"{ast.unparse(call)}: say weights_only=True"
        if name in ("np.load", "numpy.load"):
            assert words.get("allow_pickle") == "False", f"{ast.unparse(call)}: say allow_pickle=False"


def test_the_page_escapes_all_but_its_own_figures():
    page = (PROJECT / "src" / "mlpwf" / "report" / "page.html.j2").read_text()
    assert re.findall(r"\{\{[^}]*\bsafe\b[^}]*\}\}", page) == ["{{ svgs[drawing.name] | safe }}"]
    assert "autoescape false" not in page


@pytest.mark.parametrize("path", sorted((PROJECT / "workflow" / "rules").glob("*.smk")), ids=lambda path: path.stem)
def test_every_word_of_a_rule_is_quoted(path):
    """`:q` on each placeholder of a shell line; one without holds digits alone."""
    text = path.read_text()
    lines = re.findall(r'    shell:\n((?:        f?".*"\n)+)', text)
    assert len(lines) == text.count("    shell:")
    for line in lines:
        assert 'f"' not in line, "text put into a shell line by Python is not quoted"
        placeholders = re.findall(r"\{([^}]*)\}", line)
        assert {name for name in placeholders if not name.endswith(":q")} <= NUMBERS
    assert not re.search(r"^    (run|script|notebook|wrapper):", text, re.M)
