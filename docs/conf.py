"""The site of the documentation: `make docs` builds it, with Sphinx, furo and MyST, below build/docs/html."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))

_PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "npipe"
author = "npipe's contributors"
copyright = author  # noqa: A001
version = release = _PROJECT["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "command",
    "matrix",
    "sphinx_copybutton",
    "pages",
    "words",
    "api",
]
needs_sphinx = "8.1"
exclude_patterns = ["_ext", "_static"]
nitpicky = True
highlight_language = "none"
smartquotes = False
pygments_style = "default"

# The reference is by docstrings; docs/_ext/words.py has their form, and api.py their signatures and links.
autodoc_member_order = "bysource"
autodoc_use_type_comments = False
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Pages are Markdown that reads as well on GitHub: its anchors, and little else.
myst_enable_extensions = ["attrs_inline", "strikethrough"]
myst_heading_anchors = 5
source_suffix = {".md": "markdown"}
npipe_repository = next(
    (url for key, url in _PROJECT.get("urls", {}).items() if key.lower() in ("source", "repository", "source code")), ""
)

copybutton_prompt_text = r">>> |\.\.\. |\$ |# "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"npipe {release}"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["npipe.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {"navigation_with_keys": True}
