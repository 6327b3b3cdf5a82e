"""Chromium, driven by Playwright, for pages that are files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.comfyui_page import ARGUMENTS, CHROMIUM

__all__ = ["CHROMIUM", "opened_file"]


@contextmanager
def opened_file() -> Iterator[Callable[[Path], Any]]:
    """Yield a function that opens a file in a tab.

    The tab has `problems`, the errors of the page and of its console, and `asked`, the URLs of images that were asked
    for.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

        def opened(path: Path) -> Any:
            tab: Any = browser.new_page(viewport={"width": 1200, "height": 800})
            tab.problems, tab.asked = [], []
            tab.on("pageerror", lambda error: tab.problems.append(str(error)))
            tab.on("console", lambda message: message.type == "error" and tab.problems.append(message.text))
            tab.on("request", lambda request: request.resource_type == "image" and tab.asked.append(request.url))
            tab.goto(path.resolve().as_uri())
            return tab

        yield opened
        browser.close()
