"""How Sphinx builds the site: extensions, theme, nothing executed or fetched, docstrings in its own markup."""

from __future__ import annotations

import re

ENTRY = re.compile(r"(?P<names>\*{0,2}[a-z_]\w*(?:, \*{0,2}\w+)*): (?P<text>.*)")
OPEN_NAME = re.compile(
    r"(?<![`\w])(\w+(?:\.\w+)*)_(?![\w`])"
)  # Tensor.add_ is a link in reStructuredText


def heading_name(title: str) -> str:
    """The name by which Jupyter links to a heading: its text with hyphens, ``"1-·-The-layer"``."""
    return title.replace(" ", "-")


def entries(lines: list[str]) -> list[str]:
    """A docstring whose lines ``name: what it is`` became a list, and whose names ending in _ are no links.

    >>> entries(["loss: the batch's", "    mean.", "rate: a number"])
    ["* **loss**: the batch's", '  mean.', '* **rate**: a number']
    """
    done: list[str] = []
    for paragraph in "\n".join(lines).split("\n\n"):
        rows = paragraph.split("\n")
        listed = ENTRY.fullmatch(rows[0]) and all(
            ENTRY.fullmatch(row) or row.startswith("    ") or not row for row in rows
        )
        for row in rows:
            found = ENTRY.fullmatch(row)
            if listed and found:
                names = found["names"].replace("*", "\\*")
                row = f"* **{names}**: {found['text']}"
            elif listed:
                row = f"  {row.strip()}"
            done.append(
                row if row.lstrip().startswith((">>>", "...")) else OPEN_NAME.sub(r"\1\\_", row)
            )
        done.append("")
    return done[:-1]


def setup(app) -> dict[str, bool]:
    """Called by Sphinx, of which this module is an extension."""

    def reread(app, what, name, thing, options, lines: list[str]) -> None:
        lines[:] = entries(lines)

    app.connect("autodoc-process-docstring", reread)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


SETTINGS = {
    "project": "cnncourse",
    "author": "",
    "language": "en",
    "extensions": [
        "myst_nb",
        "sphinx.ext.autodoc",
        "sphinx.ext.napoleon",
        "sphinx.ext.mathjax",
        "cnncourse.lab.site.settings",
    ],
    # pages from stored outputs
    "nb_execution_mode": "off",
    "nb_ipywidgets_js": {},  # they would come from another host
    "nb_merge_streams": True,
    "nb_output_stderr": "show",
    "myst_enable_extensions": ["amsmath", "attrs_block", "dollarmath"],
    "myst_heading_anchors": 4,
    "myst_heading_slug_func": "cnncourse.lab.site.settings.heading_name",
    "suppress_warnings": ["myst.header"],  # a text cell may begin with a small heading
    "mathjax_path": "tex-svg.js",
    # the package's pages
    "default_role": "py:obj",
    "add_module_names": False,
    "autodoc_member_order": "bysource",
    "autodoc_typehints": "signature",
    # look
    "templates_path": [],  # the theme adds to it
    "html_theme": "sphinx_book_theme",
    "html_title": "cnncourse",
    "html_context": {"default_mode": "auto"},
    "html_css_files": ["site.css"],
    "html_js_files": [("site.js", {"defer": "defer"})],
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_show_copyright": False,
    "html_show_sphinx": False,
    "html_show_search_summary": False,  # it would fetch pages, which a browser forbids to files
    "html_last_updated_fmt": None,
    "html_domain_indices": False,
    "html_use_index": False,
    "html_theme_options": {
        "max_navbar_depth": 1,
        "navbar_persistent": [],
        "navigation_with_keys": False,
        "pygments_light_style": "a11y-high-contrast-light",
        "pygments_dark_style": "a11y-high-contrast-dark",
        "show_toc_level": 2,
        "use_download_button": False,
        "use_source_button": False,
    },
}
