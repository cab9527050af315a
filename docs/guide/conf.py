"""The guide as a site, in one of its two languages: `make docs` builds it twice.

The source folder is `docs`, since pages link to the decisions and the log. A page is `page.md` in English and
`page.zh.md` in Chinese. `GUIDE_LANGUAGE` says which are read; nothing is
loaded from elsewhere (formulas: KaTeX, style and fonts in `_static/katex`, script in `sphinxcontrib-katex`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

CHINESE = os.environ.get("GUIDE_LANGUAGE", "en") == "zh"
if CHINESE:
    import jieba  # finds words for the search index

    jieba.setLogLevel("WARNING")

project = "bothways"
author = "the bothways authors"
project_copyright = "the bothways authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinxcontrib.katex", "verbs", "languages"]
language = "zh_CN" if CHINESE else "en"
root_doc = "guide/index.zh" if CHINESE else "guide/index"
include_patterns = [*(["guide/**.zh.md"] if CHINESE else ["guide/**.md"]), "decisions.md", "log.md"]
exclude_patterns = [] if CHINESE else ["**.zh.md"]

myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_block"]
myst_heading_anchors = 3
myst_fence_as_directive = []
suppress_warnings: list[str] = []
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
katex_css_path = "katex/katex.min.css"
smartquotes = False

html_theme = "furo"
html_title = "bothways"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
templates_path = ["_templates"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"sidebar_hide_name": False}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
