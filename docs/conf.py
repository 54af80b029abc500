"""How Sphinx builds the documentation. Nothing is fetched: no fonts, no scripts, no inventories of other projects."""

import re
from typing import Any

import featcache

project = "featcache"
author = "the authors of featcache"
version = release = featcache.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns: list[str] = []
smartquotes = False  # a flag begins with two hyphens, not with a dash

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"featcache {version}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]

_LITERAL = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_MARKUP = re.compile(r"([*|]|(?<=\w)_(?!\w))")  # what reStructuredText would read as emphasis or as a reference


def setup(app: Any) -> None:
    """Connect what turns our docstrings into reStructuredText; before napoleon, which reads their sections."""
    app.connect("autodoc-process-docstring", _as_restructured_text, priority=400)


def _as_restructured_text(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Rewrite a docstring in place: text in backquotes is a literal, and a star or a bar is that character."""
    for number, line in enumerate(lines):
        parts = _LITERAL.split(line)  # plain text and literals, in turn
        parts[::2] = [_MARKUP.sub(r"\\\1", part) for part in parts[::2]]
        parts[1::2] = [f"``{part}``" for part in parts[1::2]]
        lines[number] = "".join(parts)
