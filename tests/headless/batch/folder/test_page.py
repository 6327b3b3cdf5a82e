"""The page of a batch, in Chromium and from a file: URL."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.batches import run
from support.browser import CHROMIUM, opened_file
from wuerstchen_nodes.headless.batch.folder import page
from wuerstchen_nodes.headless.batch.folder.journal import DONE, RowState
from wuerstchen_nodes.headless.batch.folder.results import BAD, Result
from wuerstchen_nodes.headless.batch.rows.plan import Row
from wuerstchen_nodes.headless.errors import UsageError

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\"> & ünï 'q'"


def result(row_id: str, prompt: str = "", name: str | None = None, error: str | None = None) -> Result:
    row = Row(row_id, name or f"{row_id}.png", {}, {}, 7, prompt, "", "", error)
    files = [] if error else [{"staged": "", "name": row.name, "sha256": ""}]
    return Result(row, RowState(status=DONE, seconds=1.5, files=files))


def written(*results: Result, folder: str = "out") -> Path:
    """Write images and the page, and return its path."""
    for each in results:
        for name in each.files:
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (200, 40, 40)).save(Path(folder, name))
    page.write_page(Path(folder), Path(folder, "scratch"), list(results))
    return Path(folder, page.NAME)


def data_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text.partition('type="application/json">')[2].partition("</script>")[0])


def test_the_page_lists_every_row_with_a_relative_link():
    rows = data_of(written(result("a", "a red heart", name="x/a #1%.png"), result("b", error="no seed")))
    assert rows[0] == {
        **{"id": "a", "prompt": "a red heart", "seed": "7", "status": DONE, "seconds": 1.5, "error": None},
        "files": ["x/a%20%231%25.png"],
    }
    assert (rows[1]["status"], rows[1]["error"], rows[1]["files"]) == (BAD, "no seed", [])


def test_a_text_cannot_end_the_script():
    path = written(result("a", HOSTILE))
    assert data_of(path)[0]["prompt"] == HOSTILE
    assert path.read_text(encoding="utf-8").count("</script>") == 2


def test_no_resource_comes_from_elsewhere():
    text = written(result("a")).read_text(encoding="utf-8")
    assert "http:" not in text and "https:" not in text and "//" not in text.replace("// ", "")


@pytest.mark.usefixtures("inline")
def test_a_page_of_somebody_else_is_not_replaced():
    Path("out").mkdir()
    Path("out/index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"index\.html"):
        run([{"id": "a"}])
    page.write_page(Path("out"), Path("out/scratch"), [])
    assert Path("out/index.html").read_text() == "mine"
    Path("out/index.html").unlink()
    run([{"id": "a"}])
    run([{"id": "a"}, {"id": "b"}])
    assert [each["id"] for each in data_of(Path("out/index.html"))] == ["a", "b"]


@pytest.fixture
def browser() -> Iterator[Any]:
    """Return a function that opens a page in Chromium."""
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; name one in CHROMIUM")
    with opened_file() as opened:
        yield opened


def shown(tab: Any) -> list[str]:
    return tab.eval_on_selector_all("article", "all => all.map(each => each.dataset.id)")


def until(tab: Any, condition: str) -> None:
    """Wait until a condition holds. The page's policy does not allow Playwright's own way to wait for one."""
    for _ in range(300):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(100)
    raise AssertionError(f"not true in 30 s: {condition}")


def test_a_browser_shows_and_filters_the_rows(browser):
    rows = [
        result("heart", "a red heart", name="x/a #1%.png"),
        result("ring", f"a Blue ring {HOSTILE}"),
        result("star", "a blue star", error="seed is 'x'"),
        Result(result("cross", "a cross").row, RowState()),
    ]
    tab = browser(written(*rows))
    assert shown(tab) == ["heart", "ring", "star", "cross"]
    assert tab.text_content("#count") == "4 of 4 rows"
    assert tab.text_content("article[data-id=ring] .prompt") == f"a Blue ring {HOSTILE}"
    assert tab.text_content("article[data-id=heart] .facts") == "done, seed 7, 1.5 s"
    assert tab.text_content("article[data-id=star] .error") == "seed is 'x'"
    until(tab, "[...document.images].every(each => each.complete && each.naturalWidth === 32)")
    assert tab.evaluate("document.images.length") == 2
    assert tab.title() == "out"
    tab.fill("#text", "BLUE")
    assert shown(tab) == ["ring", "star"]
    tab.select_option("#status", BAD)
    assert (shown(tab), tab.text_content("#count")) == (["star"], "1 of 4 rows")
    tab.fill("#text", "nothing")
    assert shown(tab) == []
    assert tab.problems == []


def test_a_browser_loads_only_the_images_that_are_seen(browser):
    first = result("0", "a red heart")
    written(first)
    many = [Result(replace(first.row, id=str(number)), first.state) for number in range(10_000)]
    for number, each in enumerate(many):
        many[number] = Result(
            each.row, replace(each.state, files=[{"staged": "", "name": f"{number}.png", "sha256": ""}])
        )
    page.write_page(Path("out"), Path("out/scratch"), many)
    tab = browser(Path("out/index.html"))
    assert tab.text_content("#count") == "10000 of 10000 rows"
    tab.wait_for_timeout(500)
    assert 0 < len(tab.asked) < 300
    before = len(shown(tab))
    assert before < 500
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    until(tab, f"document.querySelectorAll('article').length > {before}")
    tab.fill("#text", "9999")
    assert shown(tab) == ["9999"]
