"""A run as one page: report.html, which needs no network, and its Markdown form."""

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from peft_sentiment.files import write_text
from peft_sentiment.reporting.charts import DASHES
from peft_sentiment.reporting.page import Page, build_page, cut_excerpt
from peft_sentiment.reporting.run_files import REPORT_FILE, load_run

if TYPE_CHECKING:
    from jinja2 import Environment

_MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]|#])")

TEMPLATES = resources.files("peft_sentiment") / "reporting" / "templates"


def write_report(folder: Path) -> Path:
    """Make report.html from what a run has left in its folder, and return its place.

    Raises:
        OutputError: the folder holds no finished run, or can't be written to.
    """
    path = folder / REPORT_FILE
    write_text(path, render_html(build_page(load_run(folder))))
    return path


def render_html(page: Page) -> str:
    """Return the page as HTML: styles and pictures within, no script, text escaped."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return (
        build_environment()
        .get_template("report.html")
        .render(page=page, style=style, dashes=DASHES)
    )


def render_markdown(page: Page) -> str:
    """Return the page's figures as Markdown for a pull request: no pictures, no reviews."""
    return build_environment().get_template("report.md").render(page=page)


def describe_run(folder: Path) -> str:
    """Return the Markdown form of a stored run.

    Raises:
        OutputError: the folder holds no finished run.
    """
    return render_markdown(build_page(load_run(folder)))


def build_environment() -> "Environment":
    """Return what fills our templates; all that is put in is escaped."""
    # Imported here: a run that fails before its report should not wait for it.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(lambda name: (TEMPLATES / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["excerpt"] = cut_excerpt
    environment.filters["cell"] = _escape_cell
    environment.filters["before_bracket"] = lambda cell: cell.partition(" (")[0]
    environment.filters["bracket"] = lambda cell: cell.partition(" (")[2].removesuffix(")")
    return environment


def _escape_cell(text: str) -> Markup:
    """Return text that Markdown shows as it is, on one line."""
    line = str(escape(" ".join(text.split())))
    return Markup(_MARKDOWN_SIGNS.sub(r"\\\1", line))  # noqa: S704 - escaped above
