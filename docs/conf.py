"""How Sphinx makes the site: `python -m sphinx --fail-on-warning docs build/docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `pages` and `figures`

from segzoo import __version__

project = "segzoo"
author = "The segzoo authors"
project_copyright = "The segzoo authors, MIT licence"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "pages"]
exclude_patterns = ["_static"]

myst_enable_extensions = ["attrs_block"]  # lets `pages` mark commands that nobody ran
myst_heading_anchors = 3  # [text](page.md#a-heading)

default_role = "literal"  # docstrings put code into single backticks
napoleon_custom_sections = ["Shape", "Source"]
napoleon_use_rtype = False
autodoc_typehints = "description"  # signatures stay readable
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
add_module_names = False
python_use_unqualified_type_names = True

html_theme = "furo"  # needs no network: its fonts are the system's, its scripts are its own
html_title = "segzoo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
