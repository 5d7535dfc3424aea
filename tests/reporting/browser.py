"""A headless Chromium that opens a page and tells what happened."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class OpenedPage:
    """A page in the browser.

    Attributes:
        page: Playwright's own.
        messages: what it wrote to the console, and its errors.
        requests: every address it asked for.
    """

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - any value of the page's
        return self.page.evaluate(expression)


def find_browser() -> str:
    """Return the browser's place, or skip the test."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    pytest.skip(f"no browser here: none of {', '.join(NAMES)}; apt-get install chromium")


@contextmanager
def open_page(path: Path | str, width: int = 390, scheme: str = "light") -> Iterator[OpenedPage]:
    """Open a file or an address in a window of this width, in the light or dark scheme."""
    sync_api = pytest.importorskip("playwright.sync_api")
    place = find_browser()
    with sync_api.sync_playwright() as playwright:
        # Without the sandbox, because tests may run as root; the page is our own.
        browser = playwright.chromium.launch(executable_path=place, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        opened = OpenedPage(context.new_page())
        opened.page.on("console", lambda message: opened.messages.append(message.text))
        opened.page.on("pageerror", lambda error: opened.messages.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(path if isinstance(path, str) else path.as_uri())
        yield opened
        browser.close()
