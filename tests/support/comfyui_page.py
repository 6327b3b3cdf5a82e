"""Driver of ComfyUI's page in Chromium: open a template, click Run, read what the page shows."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wuerstchen_nodes.headless.workflow.examples import locate

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
PACK = "wuerstchen-nodes"
"""Folder of the pack in custom_nodes/; the template browser lists its workflows under this name."""
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic", "--no-first-run"]


@contextmanager
def opened(url: str, **options: Any) -> Iterator[Any]:
    """Open the page of a server for a `with` block, and wait until it is ready.

    Args:
        url: URL of the server.
        options: Options of Playwright's new_page.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield new_page(browser, url, **options)
        browser.close()


def new_page(browser: Any, url: str, **options: Any) -> Any:
    """Open the page of a server in a new window of a browser, as `opened` does."""
    page = browser.new_page(viewport={"width": 1800, "height": 900}, **options)
    page.set_default_timeout(120_000)
    page.goto(url)
    page.wait_for_function("window.app?.graph && app.extensionManager?.command && app.canvas")
    # The page loads its default graph last; it would replace a template that was opened before.
    page.wait_for_function("app.graph.nodes.length > 0")
    page.wait_for_timeout(3000)
    return page


def blank_workflow(page: Any) -> None:
    """Open a new workflow without nodes."""
    page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("app.graph.nodes.length === 0")


def open_template(page: Any, name: str) -> None:
    """Open an example in the template browser; a second copy of it is named "name (2)"."""
    from playwright.sync_api import TimeoutError

    name = locate(name).stem
    before = page.evaluate("app.extensionManager.workflow.activeWorkflow?.path")
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK, exact=True).first.click()
    card = page.get_by_test_id(f"template-workflow-{name}")
    for last in (False, False, True):  # the browser loses a click that comes while it lays out its cards
        card.click()
        try:
            page.wait_for_function(
                """([name, before]) => {
                    const active = app.extensionManager.workflow.activeWorkflow;
                    return active?.filename.startsWith(name) && active.path !== before;
                }""",
                arg=[name, before],
                timeout=20_000,
            )
            break
        except TimeoutError:
            if last or not card.is_visible():
                raise
    page.wait_for_timeout(500)


def run(page: Any) -> dict[str, Any]:
    """Click Run, wait for the end, and return {"progress": [event], "previews": count, "ended": event}."""
    page.evaluate(
        """() => {
            window.told = {progress: [], previews: 0, ended: null};
            const api = app.api;
            api.addEventListener("progress", event => told.progress.push(event.detail));
            api.addEventListener("b_preview", () => told.previews++);
            for (const name of ["execution_success", "execution_error", "execution_interrupted"])
                api.addEventListener(name, event => told.ended = {name, ...event.detail});
        }"""
    )
    page.get_by_test_id("queue-button").click()
    page.wait_for_function("told.ended !== null", timeout=240_000)
    told = page.evaluate("told")
    assert told["ended"]["name"] == "execution_success", told["ended"]
    return told


def drawn_images(page: Any) -> int:
    """Count the images that the output nodes of the graph show; previews of samplers do not count."""
    page.wait_for_function("app.graph.nodes.some(node => node.images?.length && node.imgs?.length)")
    return page.evaluate("app.graph.nodes.reduce((sum, node) => sum + (node.images?.length ?? 0), 0)")
