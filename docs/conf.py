"""How the site is built: ``sphinx-build -E -W --keep-going -n docs docs/_build/html``. Nothing is fetched or cached."""

import os
import sys
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "ext"))
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: small matrices are slower on several threads

import tinygrad_rnn  # noqa: E402

project = "tinygrad_rnn"
version = release = tinygrad_rnn.__version__
copyright = f"{time.strftime('%Y')}, the tinygrad-rnn contributors"
language = "en-GB"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_design",
    "run_python",
    "live",
    "gallery",
    "reference",
]
exclude_patterns = ["_build", "ext"]
templates_path = []
nitpicky = True
# Types from NumPy and the standard library: their pages lie outside, and the build fetches nothing.
nitpick_ignore_regex = [(r"py:.*", r"(?!tinygrad_rnn).*")]
suppress_warnings = ["config.cache"]

# A python block is run (ext/run_python.py); formulas are Unicode, so that nothing is loaded from elsewhere.
myst_fence_as_directive = ["python"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_mock_imports = ["torch"]  # the page of what needs PyTorch is built without it
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "tinygrad_rnn"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("live.js", {"defer": "defer"})]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
# Addresses stand in one place; there are none yet.
urls = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
if "Repository" in urls:
    html_theme_options |= {
        "source_repository": urls["Repository"],
        "source_branch": "main",
        "source_directory": "docs/",
    }
if "Documentation" in urls:
    html_baseurl = urls["Documentation"]
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
